//! The record rides on the body of the answer: it is written when the last byte has been taken, or
//! when the caller goes and the body is dropped.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};

use super::record::{Outcome, Record};
use super::sink::{Place, Sink};
use crate::body::Reply;
use crate::clock::Clock;
use crate::denial::Reason;
use crate::fingerprint::{Fingerprint, FingerprintKey};
use crate::seal::Issued;
use crate::upstream::{BodyError, ResponseBody};

/// What an answer's body is made of.
pub enum AnswerBody {
    /// The gateway's own words.
    Own(Reply),
    /// The backend's.
    Backend(ResponseBody),
}

/// An answer's body with the record of its request.
pub struct RecordedBody {
    body: AnswerBody,
    ride: Ride,
}

/// A record on its way. However the request ends, it is written once.
pub struct Ride {
    record: Option<Box<Record>>,
    /// Where its decision will be written, where requests wait for such places.
    place: Option<Place>,
    sink: Arc<Sink>,
    clock: Arc<dyn Clock>,
}

impl Ride {
    /// Takes a record along. If the request is given up before it is answered, the record says so.
    pub fn new(record: Box<Record>, sink: Arc<Sink>, clock: Arc<dyn Clock>) -> Self {
        sink.begins(&record.method);
        Self {
            record: Some(record),
            place: None,
            sink,
            clock,
        }
    }

    /// Holds the place of the request's decision.
    pub fn hold(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Notes what happens.
    pub fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = self.record.as_deref_mut() {
            note(record);
        }
    }

    /// Whether the record will be read, and not only counted.
    pub fn is_read(&self) -> bool {
        self.sink.is_read()
    }

    /// The fingerprint of a signature or key in the URL, by this key.
    pub fn fingerprint(&self, key: &Arc<FingerprintKey>, value: &str) -> Fingerprint {
        self.sink.fingerprint(key, value)
    }

    /// What the time is, where somebody will read it. A reading of the clock is not free.
    pub fn instant(&self) -> Option<Instant> {
        self.sink.is_timed().then(|| self.clock.instant())
    }

    /// As [`Record::issued`]. The record is there until it is on the answer.
    pub fn issued(&self) -> (Issued, String) {
        let record = self.record.as_deref();
        record.map(Record::issued).unwrap_or_default()
    }

    /// Puts the record on the answer.
    pub fn onto(mut self, response: Response<AnswerBody>) -> Response<RecordedBody> {
        self.note(|record| record.status = response.status());
        response.map(|body| RecordedBody { ride: self, body })
    }

    fn write(&mut self) {
        if let Some(mut record) = self.record.take() {
            if let Some(now) = self.instant() {
                record.duration = now.saturating_duration_since(record.arrived.instant);
            }
            self.sink.push(record, self.place.take());
        }
    }
}

impl Drop for Ride {
    fn drop(&mut self) {
        self.write();
    }
}

impl RecordedBody {
    fn passed(&mut self, bytes: u64, ended: bool) {
        self.ride.note(|record| {
            record.sent += bytes;
            record.complete |= ended;
        });
    }

    fn failed(&mut self, error: &BodyError) {
        let reason = match error {
            BodyError::Broken(_) => Reason::BackendBroken,
            BodyError::Idle | BodyError::Total => Reason::BackendTimeout,
        };
        self.ride
            .note(|record| record.outcome = Outcome::Denied(reason));
    }
}

impl RecordedBody {
    /// As [`ResponseBody::poll_cut`].
    pub fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.body {
            AnswerBody::Own(_) => Poll::Pending,
            AnswerBody::Backend(body) => body.poll_cut(cx),
        }
    }
}

impl Body for RecordedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.body {
            AnswerBody::Own(reply) => Pin::new(reply)
                .poll_frame(cx)
                .map_err(|never: Infallible| match never {}),
            AnswerBody::Backend(body) => Pin::new(body).poll_frame(cx),
        };
        if let Poll::Ready(frame) = &frame {
            match frame {
                None => self.passed(0, true),
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                    let ended = frame.is_trailers() || self.is_end_stream();
                    self.passed(bytes, ended);
                }
                Some(Err(error)) => self.failed(error),
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            AnswerBody::Own(reply) => reply.is_end_stream(),
            AnswerBody::Backend(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            AnswerBody::Own(reply) => reply.size_hint(),
            AnswerBody::Backend(body) => body.size_hint(),
        }
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        // A body with nothing in it is never asked for a frame: HEAD, 204, 304.
        if self.is_end_stream() {
            self.passed(0, true);
        }
        if let AnswerBody::Backend(body) = &self.body {
            let (caught, ended_by) = (body.caught(), body.ended_by());
            self.ride.note(|record| {
                record.caught += caught;
                if let Some(reason) = ended_by {
                    record.outcome = Outcome::Denied(reason);
                }
            });
        }
    }
}
