//! Answers: their head is written, and says how the body is framed (RFC 9112 sections 4 and 6.3).

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use http_body::Body;
use httpdate::HttpDate;

use super::head::{Head, Wishes};
use crate::http1::{Coding, Scratch, Sending, length, may_have_body, write_field};

/// What of a request an answer depends on. Of one whose head was refused, nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    is_head: bool,
    is_old: bool,
    wishes: Wishes,
}

impl Asked {
    pub(super) fn of(head: &Head) -> Self {
        Self {
            is_head: head.request.method() == Method::HEAD,
            is_old: head.request.version() == Version::HTTP_10,
            wishes: head.wishes,
        }
    }

    /// Whether the caller wants to go on with the connection.
    pub(super) fn keeps_alive(self) -> bool {
        self.wishes.keeps_alive
    }

    /// RFC 9110 section 8.6.
    fn may_say_length(self, status: StatusCode) -> bool {
        status == StatusCode::NOT_MODIFIED
            || (self.is_head && status != StatusCode::NO_CONTENT && !status.is_informational())
    }

    /// How the body of the answer is framed; `said` is the length that its head says.
    fn coding<B: Body>(self, status: StatusCode, said: Option<u64>, body: &B) -> Coding {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Coding::UntilClose;
        }
        if !may_have_body(self.is_head, status) {
            return Coding::Done;
        }
        match said.or_else(|| body.size_hint().exact()) {
            Some(0) => Coding::Done,
            Some(length) => Coding::Length(length),
            None if self.is_old => Coding::UntilClose,
            None => Coding::Chunked,
        }
    }
}

/// An answer that is to be sent.
pub(super) struct Answer<B> {
    pub(super) sending: Sending<B>,
    /// Whether another request may follow, which the head of the answer has said.
    pub(super) keeps_alive: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Answer<B> {
    pub(super) fn new(
        asked: Asked,
        response: Response<B>,
        keeps_alive: bool,
        date: impl FnOnce() -> HeaderValue,
        scratch: Scratch,
    ) -> Self {
        let (parts, body) = response.into_parts();
        let (status, headers) = (parts.status, parts.headers);
        let mut out = scratch.take();
        status_line(status, &mut out);
        let said = fields(&headers, date, &mut out);
        let coding = asked.coding(status, said, &body);
        let keeps_alive = keeps_alive && coding != Coding::UntilClose;
        match may_have_body(asked.is_head, status) {
            true => frame(coding, &mut out),
            false => tell_length(asked, status, said, &mut out),
        }
        match keeps_alive {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => {
                out.extend_from_slice(b"connection: upgrade\r\n");
            }
            false => out.extend_from_slice(b"connection: close\r\n"),
            true if asked.is_old => out.extend_from_slice(b"connection: keep-alive\r\n"),
            true => {}
        }
        out.extend_from_slice(b"\r\n");
        let announced = match coding == Coding::Chunked && asked.wishes.takes_trailers {
            true => headers.get_all(header::TRAILER).iter().cloned().collect(),
            false => Vec::new(),
        };
        Self {
            sending: Sending::new(out, body, coding, announced, scratch).once(),
            keeps_alive,
        }
    }
}

fn status_line(status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// All but those that say how the message is framed, which the connection says itself. The length that they say,
/// however often. The date is asked for where the answer has none.
fn fields(
    headers: &HeaderMap,
    date: impl FnOnce() -> HeaderValue,
    out: &mut Vec<u8>,
) -> Option<u64> {
    let mut is_dated = false;
    let mut said = None;
    for (name, value) in headers {
        is_dated |= *name == header::DATE;
        if *name == header::CONTENT_LENGTH {
            let length = length(value.as_bytes());
            let first = *said.get_or_insert(length);
            said = Some(first.filter(|_| length == first));
        } else if *name != header::CONNECTION && *name != header::TRANSFER_ENCODING {
            write_field(name, value, out);
        }
    }
    if !is_dated {
        write_field(&header::DATE, &date(), out);
    }
    said.flatten()
}

fn frame(coding: Coding, out: &mut Vec<u8>) {
    match coding {
        Coding::Length(length) => content_length(length, out),
        Coding::Done => content_length(0, out),
        Coding::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Coding::UntilClose => {}
    }
}

/// How long the body would be that does not come: of an answer to HEAD, and of 304 (RFC 9110 section 8.6).
fn tell_length(asked: Asked, status: StatusCode, said: Option<u64>, out: &mut Vec<u8>) {
    let may_say = asked.may_say_length(status);
    if let Some(length) = said.filter(|_| may_say) {
        content_length(length, out);
    }
}

fn content_length(length: u64, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "content-length: {length}\r\n");
}

/// The `Date` field (RFC 9110 section 6.6.1), made once a second.
#[derive(Default)]
pub(in crate::server) struct Dates(RefCell<Option<(u64, HeaderValue)>>);

impl Dates {
    /// The date at `now`, counted from the Unix epoch.
    pub(in crate::server) fn at(&self, now: Duration) -> HeaderValue {
        let mut made = self.0.borrow_mut();
        if let Some((second, date)) = made.as_ref()
            && *second == now.as_secs()
        {
            return date.clone();
        }
        let text = HttpDate::from(UNIX_EPOCH + now).to_string();
        let date = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        *made = Some((now.as_secs(), date.clone()));
        date
    }
}
