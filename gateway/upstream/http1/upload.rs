//! A request on its way out: its head, and its body as the caller sends it. What is not yet written belongs to
//! no connection, so that a request of which nothing was sent can go by another.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{self, HeaderMap, HeaderName};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;

use super::{Fault, Wire, head};
use crate::upstream::body::RequestBody;
use crate::upstream::outgoing::Outgoing;

/// Pieces of a body up to this many bytes are copied behind the head, so that both are written at once.
const SMALL_PIECE: usize = 16 * 1024;

/// The longest plain text of a TLS record, in bytes (RFC 8446 section 5.1).
const ONE_RECORD: usize = 16 * 1024;

/// Room for a head with a gateway's token, in bytes.
const USUAL_HEAD: usize = 4 * 1024;

/// Fields that are no trailers, beside those that no caller may send at all.
const NOT_BEHIND: [HeaderName; 10] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TRAILER,
    header::VIA,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// A request that is being sent.
pub(in crate::upstream) struct Upload {
    /// Head, framing and small pieces.
    out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// A large piece of the body, which goes behind `out`.
    piece: Bytes,
    body: RequestBody,
    coding: Coding,
    /// Fields that the head announced as trailers; no others are sent behind the body.
    announced: Option<HeaderMap>,
    begun: bool,
    flushed: bool,
}

/// How the body is framed, and what of it is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Length(u64),
    Chunked,
    /// All of it is in `out` and `piece`.
    Done,
}

impl Upload {
    pub(in crate::upstream) fn new(head: Outgoing, body: RequestBody) -> Self {
        let coding = match head.callers(&header::CONTENT_LENGTH) {
            None if body.is_end_stream() => Coding::Done,
            None => Coding::Chunked,
            Some(length) => {
                let length = length.to_str().ok().and_then(|digits| digits.parse().ok());
                match length.unwrap_or_default() {
                    0 if body.is_end_stream() => Coding::Done,
                    length => Coding::Length(length),
                }
            }
        };
        let is_chunked = coding == Coding::Chunked;
        let mut out = Vec::with_capacity(USUAL_HEAD);
        head::write(&head, is_chunked, &mut out);
        let announces = is_chunked && head.callers(&header::TRAILER).is_some();
        Self {
            out,
            written: 0,
            piece: Bytes::new(),
            body,
            coding,
            announced: announces.then(|| head.into_callers()),
            begun: false,
            flushed: false,
        }
    }

    /// Whether some of it was written, so that the backend may have acted on it.
    pub(in crate::upstream) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all of it was written.
    pub(in crate::upstream) fn is_done(&self) -> bool {
        self.coding == Coding::Done && self.is_written() && self.flushed
    }

    fn is_written(&self) -> bool {
        self.written == self.out.len() && self.piece.is_empty()
    }

    /// Writes all that there is. Ready when the request is whole at the other end.
    pub(super) fn poll(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        while !self.is_done() {
            self.gather(cx)?;
            if self.is_written() && self.flushed {
                return match self.coding {
                    Coding::Done => Poll::Ready(Ok(())),
                    Coding::Length(_) | Coding::Chunked => Poll::Pending,
                };
            }
            ready!(self.write(wire, cx)).map_err(Fault::Io)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes from the caller what is there, as long as it is little.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while self.coding != Coding::Done && self.piece.is_empty() && self.out.len() < SMALL_PIECE {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Err(_))) => return Err(Fault::Caller),
                Poll::Ready(Some(Ok(frame))) => self.take(frame)?,
            }
            self.flushed = false;
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Fault> {
        match frame.into_data() {
            Ok(data) => self.take_data(data)?,
            Err(frame) => return self.end(frame.into_trailers().ok().as_ref()),
        }
        match self.body.is_end_stream() {
            true if self.coding != Coding::Done => self.end(None),
            true | false => Ok(()),
        }
    }

    fn take_data(&mut self, data: Bytes) -> Result<(), Fault> {
        match &mut self.coding {
            Coding::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or(Fault::Caller)?;
            }
            // An empty chunk would be the last.
            Coding::Chunked if data.is_empty() => return Ok(()),
            Coding::Chunked => {
                use std::io::Write as _;
                // Writing to memory cannot fail.
                let _ = write!(self.out, "{:x}\r\n", data.len());
            }
            Coding::Done => return Err(Fault::Caller),
        }
        match data.len() <= SMALL_PIECE {
            true => {
                self.out.extend_from_slice(&data);
                self.close_chunk();
            }
            false => self.piece = data,
        }
        Ok(())
    }

    fn close_chunk(&mut self) {
        if self.coding == Coding::Chunked {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Fault> {
        match self.coding {
            Coding::Done | Coding::Length(0) => {}
            Coding::Length(_) => return Err(Fault::Caller),
            // What ends the body goes behind the piece, so it waits until that is written.
            Coding::Chunked => {
                if !self.piece.is_empty() {
                    return Ok(());
                }
                self.out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.announces(name) {
                        head::field(name, value, &mut self.out);
                    }
                }
                self.out.extend_from_slice(b"\r\n");
            }
        }
        self.coding = Coding::Done;
        Ok(())
    }

    /// RFC 9110 section 6.6.2: `Trailer` says what comes behind the body; who merges it with the head must
    /// have been told. What says how a body is to be read comes too late there (section 6.5.1).
    fn announces(&self, name: &HeaderName) -> bool {
        if NOT_BEHIND.contains(name) {
            return false;
        }
        let headers = self.announced.iter();
        let mut values = headers.flat_map(|headers| headers.get_all(header::TRAILER));
        values.any(|value| head::lists(value, name.as_str().as_bytes()))
    }

    /// Writes what is there.
    fn write(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.is_written() {
            let head = self.out.get(self.written..).unwrap_or_default();
            let wire = Pin::new(&mut *wire);
            let written = match (self.begun, self.piece.is_empty()) {
                // One record of TLS at most: of what is longer, some may be at the other end although
                // writing fails, and then it must not be sent again.
                (false, _) => {
                    let first = head.get(..ONE_RECORD).unwrap_or(head);
                    ready!(wire.poll_write(cx, first))?
                }
                (true, true) => ready!(wire.poll_write(cx, head))?,
                (true, false) => {
                    let pieces = [IoSlice::new(head), IoSlice::new(&self.piece)];
                    ready!(wire.poll_write_vectored(cx, &pieces))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.advance(written);
        }
        ready!(Pin::new(wire).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let had_piece = !self.piece.is_empty();
        let of_head = written.min(self.out.len() - self.written);
        self.written += of_head;
        self.piece.advance(written - of_head);
        if !self.is_written() {
            return;
        }
        // What waits for an answer, or for more, holds no memory.
        self.out = Vec::new();
        self.written = 0;
        if had_piece {
            self.close_chunk();
        }
    }
}
