//! A message on its way out: its head, and its body as it comes. What is not yet written belongs to no
//! connection, so that a request of which nothing was sent can go by another.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::{Scratch, lists, write_field};

/// Pieces of a body up to this many bytes are copied behind the head, so that both are written at once.
const SMALL_PIECE: usize = 16 * 1024;

/// The longest plain text of a TLS record, in bytes (RFC 8446 section 5.1).
const ONE_RECORD: usize = 16 * 1024;

/// Fields that are no trailers, beside those that nobody may send there at all.
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

/// A message that is being sent.
pub struct Sending<B> {
    /// Head, framing and small pieces.
    out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// A large piece of the body, which goes behind `out`.
    piece: Bytes,
    body: B,
    coding: Coding,
    /// What the head announced as trailers; no other fields are sent behind the body.
    announced: Vec<HeaderValue>,
    begun: bool,
    flushed: bool,
    scratch: Scratch,
}

/// How the body is framed, and what of it is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// So many bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// It ends with the connection.
    UntilClose,
    /// Nothing more is to come.
    Done,
}

/// Why a message was not sent whole.
#[derive(Debug)]
pub enum Unsent {
    /// The connection took no more.
    Io(io::Error),
    /// Its body broke off, or was longer or shorter than its head said.
    Body,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `head`, which ends with its empty line and stands in a buffer of `scratch`, and `body` behind it.
    /// `announced` are the values of the `Trailer` fields, if trailers may be sent.
    pub fn new(
        head: Vec<u8>,
        body: B,
        coding: Coding,
        announced: Vec<HeaderValue>,
        scratch: Scratch,
    ) -> Self {
        Self {
            out: head,
            written: 0,
            piece: Bytes::new(),
            body,
            coding,
            announced,
            begun: false,
            flushed: false,
            scratch,
        }
    }

    /// It goes by this connection or not at all, so that nobody asks how much of it was written before
    /// writing failed.
    pub fn once(mut self) -> Self {
        self.begun = true;
        self
    }

    /// What was made of it, as long as nothing was written.
    pub fn unsent(&self) -> Option<&[u8]> {
        (!self.begun).then_some(&self.out)
    }

    /// Puts other bytes in the place of some of it, as long as nothing was written.
    pub fn replace(&mut self, part: std::ops::Range<usize>, with: &[u8]) {
        if !self.begun && part.start <= part.end && part.end <= self.out.len() {
            self.out.splice(part, with.iter().copied());
        }
    }

    /// What is sent behind the head.
    pub fn body(&mut self) -> &mut B {
        &mut self.body
    }

    /// Whether some of it was written, so that the other end may have acted on it.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether all of it was written.
    pub fn is_done(&self) -> bool {
        self.coding == Coding::Done && self.is_written() && self.flushed
    }

    fn is_written(&self) -> bool {
        self.written == self.out.len() && self.piece.is_empty()
    }

    /// Writes all that there is. Ready when the message is whole at the other end.
    ///
    /// # Errors
    /// When it cannot be whole there any more.
    pub fn poll<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        while !self.is_done() {
            self.gather(cx)?;
            if self.is_written() && self.flushed {
                return match self.coding {
                    Coding::Done => Poll::Ready(Ok(())),
                    Coding::Length(_) | Coding::Chunked | Coding::UntilClose => Poll::Pending,
                };
            }
            ready!(self.write(io, cx)).map_err(Unsent::Io)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes of the body what is there, as long as it is little.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Unsent> {
        while self.coding != Coding::Done && self.piece.is_empty() && self.out.len() < SMALL_PIECE {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Err(_))) => return Err(Unsent::Body),
                Poll::Ready(Some(Ok(frame))) => self.take(frame)?,
            }
            self.flushed = false;
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Unsent> {
        match frame.into_data() {
            Ok(data) => self.take_data(data)?,
            Err(frame) => return self.end(frame.into_trailers().ok().as_ref()),
        }
        match self.body.is_end_stream() {
            true if self.coding != Coding::Done => self.end(None),
            true | false => Ok(()),
        }
    }

    fn take_data(&mut self, data: Bytes) -> Result<(), Unsent> {
        match &mut self.coding {
            Coding::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or(Unsent::Body)?;
            }
            // An empty chunk would be the last.
            Coding::Chunked if data.is_empty() => return Ok(()),
            Coding::Chunked => {
                use std::io::Write as _;
                // Writing to memory cannot fail.
                let _ = write!(self.out, "{:x}\r\n", data.len());
            }
            Coding::UntilClose => {}
            Coding::Done => return Err(Unsent::Body),
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

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Unsent> {
        match self.coding {
            Coding::Done | Coding::Length(0) | Coding::UntilClose => {}
            Coding::Length(_) => return Err(Unsent::Body),
            // What ends the body goes behind the piece, so it waits until that is written.
            Coding::Chunked => {
                if !self.piece.is_empty() {
                    return Ok(());
                }
                self.out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.announces(name) {
                        write_field(name, value, &mut self.out);
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
        let mut announced = self.announced.iter();
        !NOT_BEHIND.contains(name)
            && announced.any(|value| lists(value.as_bytes(), name.as_str().as_bytes()))
    }

    /// Writes what is there.
    fn write<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let head = self.out.get(self.written..).unwrap_or_default();
            let io = Pin::new(&mut *io);
            let written = match (self.begun, self.piece.is_empty()) {
                // One record of TLS at most: of what is longer, some may be at the other end although
                // writing fails, and then it must not be sent again.
                (false, _) => {
                    let first = head.get(..ONE_RECORD).unwrap_or(head);
                    ready!(io.poll_write(cx, first))?
                }
                (true, true) => ready!(io.poll_write(cx, head))?,
                (true, false) => {
                    let pieces = [IoSlice::new(head), IoSlice::new(&self.piece)];
                    ready!(io.poll_write_vectored(cx, &pieces))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.advance(written);
        }
        ready!(Pin::new(io).poll_flush(cx))?;
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
        self.scratch.give_back(std::mem::take(&mut self.out));
        self.written = 0;
        if had_piece {
            self.close_chunk();
        }
    }
}
