//! Callers by HTTP/1.1: a connection each, with one request in flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::clock::pause;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{JoinSet, yield_now};

use super::{Door, Round, Work, between, gather, now, said};
use crate::message::Reader;
use crate::tokens::Request;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// New connections in a row that may fail.
const TRIES: usize = 20;

/// One connection.
pub(crate) struct Caller {
    door: Door,
    /// How often it was closed after an answer, and opened again.
    anew: usize,
    stream: Box<dyn Stream>,
    reader: Reader,
}

/// How callers pace themselves.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// Each asks again as soon as it is answered.
    Closed,
    /// Each rests so long after every answer.
    #[allow(dead_code, reason = "not every benchmark has callers rest")]
    Resting(Duration),
    /// So many requests a second of all together, each at its time, however long the one before took.
    Fixed(f64),
}

impl Caller {
    pub(crate) async fn connect(door: &Door) -> Result<Self, String> {
        let stream: Box<dyn Stream> = match &door.tls {
            None => Box::new(door.tcp().await?),
            Some(config) => Box::new(door.tls(Arc::clone(config)).await?),
        };
        Ok(Self {
            door: door.clone(),
            anew: 0,
            stream,
            reader: Reader::new(),
        })
    }

    /// One request: the status of its answer.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<u16, String> {
        ask(&mut self.stream, &mut self.reader, request).await
    }

    /// The same, by a new connection where the proxy has closed this one. HAProxy 2.6.12 does that when
    /// it has refused a bad signature, to this caller or to another, and pays for the handshake.
    async fn ask_again(&mut self, request: &Request) -> Result<u16, String> {
        for _ in 0..TRIES {
            if let Ok(status) = self.ask(request).await {
                return Ok(status);
            }
            self.anew += 1;
            if let Ok(fresh) = Self::connect(&self.door.clone()).await {
                (self.stream, self.reader) = (fresh.stream, fresh.reader);
            }
        }
        self.ask(request).await
    }
}

/// Writes a request and reads the whole answer: its status.
pub(super) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    reader: &mut Reader,
    request: &Request,
) -> Result<u16, String> {
    stream.write_all(&request.http1).await.map_err(said)?;
    stream.flush().await.map_err(said)?;
    let answer = reader.message(stream, status).await.map_err(said)?;
    answer
        .flatten()
        .ok_or_else(|| "closed a connection instead of answering".to_owned())
}

/// `HTTP/1.1 200`.
fn status(head: &[u8]) -> Option<u16> {
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// So many callers.
pub(crate) async fn connect(door: &Door, connections: usize) -> Result<Vec<Caller>, String> {
    let mut callers = Vec::new();
    for _ in 0..connections {
        callers.push(Caller::connect(door).await?);
    }
    Ok(callers)
}

/// All callers for a while. They come back with their connections open.
pub(crate) async fn run(
    callers: Vec<Caller>,
    work: Work,
    pace: Pace,
) -> Result<(Vec<Caller>, Round), String> {
    let work = Arc::new(work);
    let count = callers.len();
    let mut running = JoinSet::new();
    for (at, caller) in callers.into_iter().enumerate() {
        let work = Arc::clone(&work);
        running.spawn(async move {
            match pace {
                Pace::Closed => closed(caller, &work, Duration::ZERO).await,
                Pace::Resting(rest) => closed(caller, &work, rest).await,
                Pace::Fixed(rate) => fixed(caller, &work, at, count, rate).await,
            }
        });
    }
    let done = gather(running).await?;
    let seconds = between(work.begun, now()) / 1e3;
    let (callers, latencies): (Vec<Caller>, Vec<_>) = done.into_iter().unzip();
    let round = Round {
        anew: callers.iter().map(|caller| caller.anew).sum(),
        ..Round::new(latencies.concat(), seconds)
    };
    Ok((callers, round))
}

async fn closed(
    mut caller: Caller,
    work: &Work,
    rest: Duration,
) -> Result<(Caller, Vec<f64>), String> {
    let mut latencies = Vec::new();
    let mut begun = now();
    while let Some(request) = work.next(begun) {
        let status = if work.refused() {
            caller.ask_again(request).await?
        } else {
            caller.ask(request).await?
        };
        work.check(status)?;
        let ended = now();
        latencies.push(between(begun, ended));
        begun = ended;
        if !rest.is_zero() {
            pause(rest).await;
            begun = now();
        }
    }
    Ok((caller, latencies))
}

/// Every `count`th request of all, beginning with the `at`th. Latency counts from the moment that a
/// request was meant for, so that one slow answer shows in all that had to wait for it.
async fn fixed(
    mut caller: Caller,
    work: &Work,
    at: usize,
    count: usize,
    rate: f64,
) -> Result<(Caller, Vec<f64>), String> {
    let mut latencies = Vec::new();
    for turn in 0_u32.. {
        let number = at as f64 + f64::from(turn) * count as f64;
        let due = work.begun + Duration::from_secs_f64(number / rate);
        let Some(request) = work.next(due) else {
            break;
        };
        until(due).await;
        work.check(caller.ask(request).await?)?;
        latencies.push(between(due, now()));
    }
    Ok((caller, latencies))
}

/// Not by the runtime's timer, which is a millisecond off: this core has nothing else to do.
async fn until(due: Instant) {
    while now() < due {
        yield_now().await;
    }
}
