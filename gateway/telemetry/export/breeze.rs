//! Azure Monitor's own way in: envelopes as lines of JSON, compressed.
//! <https://learn.microsoft.com/azure/azure-monitor/app/connection-strings>

use std::collections::BTreeSet;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header;
use http::{Request, Response, StatusCode, Uri};
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::Value;

use super::counts::Signal;
use super::deltas::Deltas;
use super::otlp::{Workers, later, retry_after, unsent};
use super::pipe::{Again, Delivered, Load, Pipe, Source, Way};
use super::{Gather, Sources};
use crate::clock::Clock;
use crate::credentials::Derived;
use crate::metric::Family;
use crate::net::address::Resolver;
use crate::net::channel::{Channel, Pieces, Protocol};
use crate::net::client::Bounds;
use crate::telemetry::azure_monitor::{ConnectionString, Form};
use crate::telemetry::batches::Batches;
use crate::telemetry::event::Events;
use crate::telemetry::handover::Bells;
use crate::telemetry::json::Times;
use crate::telemetry::kept::Outbound;

/// An Application Insights resource.
#[derive(Clone)]
pub struct AzureMonitorTo {
    /// Which one.
    pub connection_string: Arc<Derived<ConnectionString>>,
    /// Who sends.
    pub form: Form,
    /// Whom to believe.
    pub tls: Arc<ClientConfig>,
    /// Finds its addresses.
    pub resolver: Arc<dyn Resolver>,
}

/// The pipe of all that goes there.
pub(super) fn pipe(
    to: AzureMonitorTo,
    interval: Duration,
    sources: &Sources,
) -> Pipe<Envelopes, Breeze> {
    let (workers, bell) = Workers::of(&sources.sinks, Outbound::AzureMonitor);
    let source = Envelopes {
        workers,
        events: Events::listen(),
        form: to.form.clone(),
        times: Times::default(),
        gather: Arc::clone(&sources.gather),
        interval,
        told: sources.clock.now().unix,
        deltas: Deltas::default(),
        pending: None,
    };
    let way = Breeze {
        channel: Channel::new(&to.tls, Protocol::Http1, Arc::clone(&to.resolver), false),
        connection_string: to.connection_string,
        moved: None,
        clock: Arc::clone(&sources.clock),
    };
    Pipe::new(Signal::AzureMonitor, (source, bell), way, sources)
}

/// What is told: what waits with the workers, events, and metrics now and then.
pub(super) struct Envelopes {
    workers: Workers,
    events: Arc<Events>,
    form: Form,
    times: Times,
    gather: Gather,
    interval: Duration,
    told: Duration,
    deltas: Deltas,
    pending: Option<Vec<Family>>,
}

/// The most bytes of events and metrics at once.
const MOST_OWN: usize = 8 << 20;

impl Source for Envelopes {
    fn is_due(&mut self, now: Duration) -> bool {
        self.workers.are_due(now)
            || self.events.any()
            || now.saturating_sub(self.told) >= self.interval
    }

    fn take(&mut self, now: Duration) -> (Vec<Load>, u64) {
        let (mut loads, mut dropped) = self.workers.take();
        let mut own = Batches::new(MOST_OWN);
        let (form, times) = (&self.form, &mut self.times);
        for event in self.events.take() {
            let write = |out: &mut Vec<u8>| form.event(&event, times, out);
            own.add(1, write, &mut Bells::default());
        }
        if now.saturating_sub(self.told) >= self.interval {
            let families = (self.gather)();
            form.metrics(&self.deltas.since(&families), now, times, &mut own);
            self.told = now;
            self.pending = Some(families);
        }
        let (more, lost) = own.take();
        dropped += lost;
        loads.extend(more.into_iter().map(|batch| Load {
            pieces: vec![batch.bytes.into()],
            items: batch.items,
        }));
        (loads, dropped)
    }

    fn left(&mut self) -> u64 {
        self.workers.left()
    }

    fn dropped(&mut self) -> u64 {
        self.workers.dropped()
    }

    fn give_back(&mut self, memory: Vec<u8>) {
        self.workers.give_back(memory);
    }

    fn settle(&mut self, taken: bool) {
        if let (Some(families), true) = (self.pending.take(), taken) {
            self.deltas.told(families);
        }
    }
}

/// How it goes there.
pub(super) struct Breeze {
    channel: Channel,
    connection_string: Arc<Derived<ConnectionString>>,
    /// Where the service has said that this resource's telemetry belongs.
    moved: Option<Uri>,
    clock: Arc<dyn Clock>,
}

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(30),
    max_body: 1 << 20,
};

impl Way for Breeze {
    async fn send(&mut self, load: &Load) -> Delivered {
        let Some(to) = self.connection_string.current(&self.clock.now()) else {
            return later("the connection string is not read yet".to_owned(), None);
        };
        let url = self.moved.as_ref().unwrap_or_else(|| to.endpoint());
        let key = to.instrumentation_key().expose();
        let body = gzip(lines(load).flat_map(|line| with_key(line, key)));
        let request = Request::post(url.clone())
            .header(header::CONTENT_TYPE, "application/x-json-stream")
            .header(header::CONTENT_ENCODING, "gzip")
            .body(Pieces::new([body.into()]));
        let Ok(request) = request else {
            return Delivered::Refused("the request cannot be made".to_owned());
        };
        let answer = match self.channel.send(request, BOUNDS).await {
            Ok(answer) => answer,
            Err(why) => {
                // Where it was sent to may be gone; where it is configured to be is asked again.
                self.moved = None;
                return unsent(&why);
            }
        };
        let status = answer.status();
        if matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        ) && self.moved.is_none()
        {
            self.moved = location(&answer);
            let after = Some(Duration::ZERO).filter(|_| self.moved.is_some());
            return later("it sends us elsewhere".to_owned(), after);
        }
        outcome(&answer, load)
    }

    fn name(&self) -> String {
        let to = self.connection_string.current(&self.clock.now());
        let authority = to.and_then(|to| to.endpoint().authority().cloned());
        authority.map_or_else(
            || "Azure Monitor".to_owned(),
            |authority| authority.to_string(),
        )
    }
}

/// Where a redirection leads, over TLS alone.
fn location<B>(answer: &Response<B>) -> Option<Uri> {
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    let uri: Uri = location.parse().ok()?;
    let is_named = uri.authority().is_some_and(|to| !to.as_str().contains('@'));
    (uri.scheme_str() == Some("https") && is_named).then_some(uri)
}

/// What the service says of each item.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tracked {
    #[serde(default)]
    errors: Vec<ItemError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemError {
    /// Of what is no place among the items nothing is known.
    index: Value,
    status_code: u16,
}

/// Whether what was answered so may be taken later.
/// <https://learn.microsoft.com/azure/azure-monitor/app/opentelemetry-help-support-feedback>
fn may_pass(status: u16) -> bool {
    matches!(status, 401 | 403 | 408 | 429 | 439 | 500 | 502 | 503 | 504)
}

fn outcome(answer: &Response<Bytes>, load: &Load) -> Delivered {
    let status = answer.status().as_u16();
    match status {
        200 => Delivered::Taken { refused: 0 },
        206 => {
            let Ok(tracked) = serde_json::from_slice::<Tracked>(answer.body()) else {
                return Delivered::Refused("its answer is no JSON".to_owned());
            };
            let lines: Vec<&[u8]> = lines(load).collect();
            // Each once, whatever is said of it how often.
            let (mut again, mut refused) = (BTreeSet::new(), BTreeSet::new());
            for error in &tracked.errors {
                let index = error.index.as_u64().and_then(|at| usize::try_from(at).ok());
                let Some(index) = index.filter(|at| *at < lines.len()) else {
                    continue;
                };
                match may_pass(error.status_code) {
                    true => again.insert(index),
                    false => refused.insert(index),
                };
            }
            again.retain(|index| !refused.contains(index));
            let refused = refused.len() as u64;
            if again.is_empty() {
                return Delivered::Taken { refused };
            }
            let chosen = again.iter().filter_map(|index| lines.get(*index).copied());
            let chosen: Vec<&[u8]> = chosen.collect();
            Delivered::Later {
                why: "it did not take all items".to_owned(),
                after: retry_after(answer),
                again: Some(Again {
                    load: Load {
                        items: chosen.len() as u64,
                        pieces: vec![chosen.concat().into()],
                    },
                    refused,
                }),
            }
        }
        status if may_pass(status) => later(format!("it answers {status}"), retry_after(answer)),
        status => Delivered::Refused(format!("it answers {status}")),
    }
}

/// The envelopes, each with the end of its line.
fn lines(load: &Load) -> impl Iterator<Item = &[u8]> {
    let pieces = load.pieces.iter();
    pieces.flat_map(|piece| piece.split_inclusive(|byte| *byte == b'\n'))
}

/// An envelope with the instrumentation key, which nobody but the sender holds.
fn with_key<'l>(line: &'l [u8], key: &'l str) -> [&'l [u8]; 4] {
    let rest = line.get(1..).unwrap_or_default();
    [b"{\"iKey\":\"", key.as_bytes(), b"\",", rest]
}

/// Compressed, fast rather than small.
pub(super) fn gzip<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Many pieces are small, and each would be a call of the compressor.
    let mut gathered = BufWriter::with_capacity(16 << 10, encoder);
    for piece in pieces {
        // A vector takes all that is written to it.
        let _ = gathered.write_all(piece);
    }
    let encoder = gathered.into_inner().ok();
    let compressed = encoder.and_then(|encoder| encoder.finish().ok());
    compressed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lines: &[&str]) -> Load {
        Load {
            pieces: vec![lines.concat().into()],
            items: lines.len() as u64,
        }
    }

    fn answered(status: u16, body: &str) -> Response<Bytes> {
        let answer = Response::builder().status(status);
        answer
            .body(Bytes::from(body.to_owned()))
            .expect("an answer")
    }

    #[test]
    fn of_a_part_that_was_not_taken_what_may_pass_is_sent_again() {
        let load = load(&["{\"a\":0}\n", "{\"a\":1}\n", "{\"a\":2}\n"]);
        let body = r#"{"itemsReceived":3,"itemsAccepted":1,"errors":[{"index":0,"statusCode":400,"message":"m"},{"index":2,"statusCode":503,"message":"m"}]}"#;
        match outcome(&answered(206, body), &load) {
            Delivered::Later {
                again: Some(Again { load, refused }),
                ..
            } => {
                assert_eq!(
                    (load.items, &*load.pieces.concat(), refused),
                    (1, &b"{\"a\":2}\n"[..], 1)
                );
            }
            _ => panic!("a part is to be sent again"),
        }
        // Named twice, or none.
        let body = r#"{"errors":[{"index":2,"statusCode":503},{"index":2,"statusCode":503},{"index":-1,"statusCode":503},{"index":3,"statusCode":503}]}"#;
        match outcome(&answered(206, body), &load) {
            Delivered::Later {
                again: Some(Again { load, refused }),
                ..
            } => assert_eq!((load.items, refused), (1, 0)),
            _ => panic!("a part is to be sent again"),
        }
        let body = r#"{"errors":[{"index":7,"statusCode":503}]}"#;
        let taken = outcome(&answered(206, body), &load);
        assert!(matches!(taken, Delivered::Taken { refused: 0 }));
        let body = r#"{"errors":[{"index":0,"statusCode":400}]}"#;
        let taken = outcome(&answered(206, body), &load);
        assert!(matches!(taken, Delivered::Taken { refused: 1 }));
    }

    #[test]
    fn the_key_comes_first_in_each_envelope() {
        let load = load(&["{\"a\":0}\n", "{\"b\":1}\n"]);
        let keyed: Vec<&[u8]> = lines(&load).flat_map(|line| with_key(line, "k")).collect();
        assert_eq!(
            keyed.concat(),
            b"{\"iKey\":\"k\",\"a\":0}\n{\"iKey\":\"k\",\"b\":1}\n"
        );
    }
}
