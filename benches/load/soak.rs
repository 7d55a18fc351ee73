//! Mixed load for long: whether the gateway's memory and descriptors stay as they are. `cargo bench --bench soak`.
//!
//! For ten minutes, or SOAK_SECONDS, callers of every kind come in turns: known tokens and new ones, HTTP/1.1 and
//! HTTP/2, new connections for each request, bad signatures, refused claims, uploads, and callers who leave in the
//! middle of a head, of a body or of an answer. Between two turns, with all callers gone, memory and descriptors are
//! read. It fails if the last quarter of the time holds more than the second, by more than its own turns differ.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that fails says where, and prints what it measured"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]
#![allow(dead_code, reason = "shared with another benchmark")]

mod backend;
mod caller;
mod check;
mod contender;
mod install;
mod message;
mod peers;
mod process;
mod proxy;
mod siege;
mod stage;
mod tokens;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use portcullis::clock::{Clock as _, SystemClock, pause};
use portcullis::demo::mint::damaged;

use caller::http1::{self, Pace};
use caller::{Door, Supply, Work, handshake, http2};
use check::Proof;
use contender::{Contender, Job, Program};
use proxy::Proxy;
use siege::{Doors, Siege};
use stage::Stage;
use tokens::{BODY, Request};

/// How long callers of one kind call.
const TURN: Duration = Duration::from_millis(1500);
/// For what they leave behind to be closed.
const SETTLE: Duration = Duration::from_millis(300);
const CONNECTIONS: usize = 64;
const TOKENS: usize = 3000;
/// By so many hundredths memory may have grown from the second quarter of the time to the last.
const MOST_GROWTH: f64 = 5.0;

/// What the gateway holds when nobody calls.
#[derive(Clone, Copy)]
struct Reading {
    mib: f64,
    descriptors: usize,
}

struct Soak<'s> {
    proxy: Proxy,
    doors: Doors,
    stage: &'s Stage,
    /// Made once: tokens are remembered for as long as they last.
    many: Supply,
    /// Answers that were not as they should be.
    faults: Vec<String>,
    requests: usize,
    number: usize,
}

fn main() -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::var("SOAK_SECONDS").ok();
    let seconds = seconds.map_or(Ok(600), |text| text.parse());
    let Ok(seconds) = seconds else {
        eprintln!("soak: SOAK_SECONDS is a number of seconds");
        return ExitCode::from(2);
    };
    let (stage, load) = Stage::start();
    load.block_on(soak(&stage, Duration::from_secs(seconds)))
}

async fn soak(stage: &Stage, time: Duration) -> ExitCode {
    let mut soak = Soak::start(stage).await;
    let begun = now();
    let mut readings: Vec<Reading> = Vec::new();
    println!("seconds  requests     MiB  descriptors");
    while now().duration_since(begun) < time {
        soak.round().await;
        let reading = soak.read().await;
        let seconds = now().duration_since(begun).as_secs();
        let Reading { mib, descriptors } = reading;
        println!("{seconds:7} {:9} {mib:7.1} {descriptors:12}", soak.requests);
        readings.push(reading);
    }
    verdict(&readings, &soak)
}

fn verdict(readings: &[Reading], soak: &Soak<'_>) -> ExitCode {
    let quarter = readings.len() / 4;
    if quarter == 0 {
        eprintln!("soak: too short for a verdict");
        return ExitCode::from(2);
    }
    let second = &readings[quarter..2 * quarter];
    let last = &readings[readings.len() - quarter..];
    let mib = |of: &[Reading]| median(of.iter().map(|reading| reading.mib).collect());
    let most = |of: &[Reading]| of.iter().map(|reading| reading.descriptors).max();
    let growth = (mib(last) / mib(second) - 1.0) * 100.0;
    let descriptors = (most(second), most(last));
    println!(
        "\nmemory, last quarter against the second: {:.1} MiB against {:.1}, {growth:+.1} %; most descriptors: {:?} against {:?}; {} requests, {} not answered as they should be",
        mib(last),
        mib(second),
        descriptors.1.unwrap_or_default(),
        descriptors.0.unwrap_or_default(),
        soak.requests,
        soak.faults.len(),
    );
    for fault in soak.faults.iter().take(10) {
        println!("- {fault}");
    }
    let is_flat = growth <= MOST_GROWTH && descriptors.1 <= descriptors.0;
    match is_flat && soak.faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl<'s> Soak<'s> {
    async fn start(stage: &'s Stage) -> Self {
        let contender = Contender {
            program: Program::Portcullis,
            job: Job::Full,
        };
        let proxy = Proxy::start(stage, contender, 16 * 1024, 8192);
        let proxy = proxy.await.expect("a gateway");
        let proof = Proof::new(stage);
        proof.of(stage, &proxy).await.expect("does its job");
        let door = |alpn| Door::new(proxy.address, &stage.ca, Some(alpn));
        Self {
            doors: Doors {
                http1: door(b"http/1.1"),
                http2: door(b"h2"),
            },
            proxy,
            many: supply(&tokens::different(&stage.entra, TOKENS), BODY),
            stage,
            faults: Vec::new(),
            requests: 0,
            number: 0,
        }
    }

    /// Callers of every kind, one kind after the other.
    async fn round(&mut self) {
        self.number += 1;
        let entra = &self.stage.entra;
        let good = tokens::good(entra);
        let known = supply(std::slice::from_ref(&good), BODY);
        let many = self.many.clone();
        let damaged = supply(&[damaged(&good)], b"");
        let claim = supply(&[tokens::without_role(entra)], b"");
        let large = supply(std::slice::from_ref(&good), &vec![b'x'; 256 * 1024]);
        for (what, supply, status) in [
            ("a known token", &known, 200),
            ("many tokens", &many, 200),
            ("a bad signature", &damaged, 401),
            ("a wrong claim", &claim, 403),
            ("uploads", &large, 200),
        ] {
            let outcome = self.http1(supply, status).await;
            self.note(what, outcome);
        }
        let outcome = self.http2(&known).await;
        self.note("HTTP/2", outcome);
        let outcome = self.handshakes(&known).await;
        self.note("handshakes", outcome);
        let request = Arc::new(Request::new(&good, &Bytes::from_static(BODY)));
        for siege in [
            Siege::Idle,
            Siege::HalfHead,
            Siege::HalfBody,
            Siege::Untaken,
            Siege::Http2,
        ] {
            let besieged = siege::besiege(&self.proxy, siege, &self.doors, 200, &request).await;
            self.note(&format!("{siege:?}"), besieged.map(|_| 201));
        }
    }

    async fn http1(&self, supply: &Supply, status: u16) -> Result<usize, String> {
        let callers = http1::connect(&self.doors.http1, CONNECTIONS).await?;
        let work = Work::new(supply, status, TURN);
        let (_, round) = http1::run(callers, work, Pace::Closed).await?;
        Ok(round.requests())
    }

    async fn http2(&self, supply: &Supply) -> Result<usize, String> {
        let callers = http2::connect(&self.doors.http2, 8).await?;
        let round = http2::run(&callers, 8, Work::new(supply, 200, TURN)).await?;
        Ok(round.requests())
    }

    async fn handshakes(&self, supply: &Supply) -> Result<usize, String> {
        let door = &self.doors.http1;
        let callers = handshake::connect(door, CONNECTIONS, false, supply.next()).await?;
        let round = handshake::run(&callers, Work::new(supply, 200, TURN)).await?;
        Ok(round.requests())
    }

    fn note(&mut self, what: &str, outcome: Result<usize, String>) {
        match outcome {
            Ok(requests) => self.requests += requests,
            Err(why) => self
                .faults
                .push(format!("round {}: {what}: {why}", self.number)),
        }
    }

    async fn read(&self) -> Reading {
        pause(SETTLE).await;
        Reading {
            mib: self.proxy.memory(),
            descriptors: self.proxy.descriptors(),
        }
    }
}

fn supply(tokens: &[String], body: &[u8]) -> Supply {
    let body = Bytes::copy_from_slice(body);
    let requests = tokens.iter().map(|token| Request::new(token, &body));
    Supply::new(Arc::new(requests.collect()), None)
}

fn now() -> Instant {
    SystemClock.now().instant
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
