//! Frames of HTTP/2 as they pass (RFC 9113 section 4.1), counted by what they are good for. Those that ask for nothing
//! (pings, settings, priorities, windows, resets, empty ones, unknown ones) cost the gateway work and their sender
//! next to none. An honest caller sends few of them for each piece of a request or an answer; one who sends many more
//! is told to calm down (ENHANCE_YOUR_CALM) and let go. How many streams, headers and continuations there may be, h2
//! sees to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::MOST_LINGERED;
use super::stall::Movement;
use crate::telemetry::{Closed, Sink};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a caller sends first (RFC 9113 section 3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    /// The error code, of a frame that resets a stream.
    code: Option<u32>,
}

impl Head {
    const LENGTH: usize = 9;
    /// With the code.
    const LONGEST: usize = 13;

    fn read(bytes: [u8; Self::LONGEST]) -> Self {
        let [a, b, c, kind, flags, s, t, u, v, code @ ..] = bytes;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self {
            length,
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]) & 0x7FFF_FFFF,
            code: (kind == RST_STREAM && length == 4).then(|| u32::from_be_bytes(code)),
        }
    }

    /// How many of its bytes are read.
    fn needs(&self) -> usize {
        match self.code {
            None => Self::LENGTH,
            Some(_) => Self::LONGEST,
        }
    }
}

/// Finds the heads in what passes.
struct Walk {
    /// Bytes in front of the next head.
    skip: usize,
    head: [u8; Head::LONGEST],
    /// Bytes of it that have passed.
    have: usize,
}

impl Walk {
    fn behind(skip: usize) -> Self {
        Self {
            skip,
            head: [0; Head::LONGEST],
            have: 0,
        }
    }

    fn take(&mut self, mut bytes: &[u8], mut passes: impl FnMut(Head)) {
        loop {
            let (_, rest) = split(bytes, self.skip);
            self.skip -= bytes.len() - rest.len();
            if rest.is_empty() {
                return;
            }
            let needed = match self.have < Head::LENGTH {
                true => Head::LENGTH,
                false => Head::LONGEST,
            };
            let room = self.head.get_mut(self.have..needed).unwrap_or_default();
            let (begins, rest) = split(rest, room.len());
            for (into, byte) in room.iter_mut().zip(begins) {
                *into = *byte;
            }
            self.have += begins.len();
            bytes = rest;
            if self.have < needed {
                return;
            }
            let head = Head::read(self.head);
            if self.have < head.needs() {
                continue;
            }
            (self.skip, self.have) = (Head::LENGTH + head.length - self.have, 0);
            passes(head);
        }
    }

    /// Whether one frame has ended and no other has begun.
    fn is_between(&self) -> bool {
        self.skip == 0 && self.have == 0
    }
}

/// The first `length` bytes, or all that there are, and the rest.
fn split(bytes: &[u8], length: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(length).unwrap_or((bytes, &[]))
}

/// How many frames that ask for nothing a caller may still send, in parts of a frame.
#[derive(Clone, Copy, Debug)]
struct Allowance(usize);

impl Allowance {
    /// One frame that asks for nothing.
    const FRAME: usize = 256;

    /// So much may be saved, and is there from the first.
    const MOST: usize = 1000 * Self::FRAME;

    /// What is gained when the minder has looked once more, so that who pings now and then is never at an end: 13 frames
    /// a second with the usual `idleTimeout`.
    const LOOK: usize = Self::MOST / 4;

    fn gains(&mut self, parts: usize) {
        self.0 = self.0.saturating_add(parts).min(Self::MOST);
    }

    /// A frame has come. False when it was one too many.
    fn came(&mut self, head: Head) -> bool {
        match head.kind {
            HEADERS => true,
            DATA if head.length > 0 => {
                self.gains(head.length);
                true
            }
            DATA if head.flags & END_STREAM != 0 => true,
            _ => {
                let left = self.0.checked_sub(Self::FRAME);
                self.0 = left.unwrap_or(0);
                left.is_some()
            }
        }
    }

    /// A frame was sent. Some callers say for each that they have room for more.
    fn sent(&mut self, head: Head) {
        if matches!(head.kind, DATA | HEADERS) {
            self.gains(head.length + 4 * Self::FRAME);
        }
    }
}

/// A connection on which HTTP/2 is spoken, whose frames are counted.
pub(super) struct Frames<IO> {
    io: IO,
    movement: Rc<Movement>,
    sink: Arc<Sink>,
    came: Walk,
    sent: Walk,
    allowance: Allowance,
    /// The last stream that a request came on.
    last_stream: u32,
    /// What was read of one who was told to calm down.
    lingered: Option<usize>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Frames<IO> {
    pub(super) fn new(io: IO, movement: Rc<Movement>, sink: Arc<Sink>) -> Self {
        Self {
            io,
            movement,
            sink,
            came: Walk::behind(PREFACE),
            sent: Walk::behind(0),
            allowance: Allowance(Allowance::MOST),
            last_stream: 0,
            lingered: None,
        }
    }

    /// Counts what has come. Whether that is too much.
    fn is_flooded_by(&mut self, bytes: &[u8]) -> bool {
        let Self {
            movement,
            came,
            allowance,
            last_stream,
            ..
        } = self;
        if movement.has_looked() {
            allowance.gains(Allowance::LOOK);
        }
        let mut is_calm = true;
        came.take(bytes, |head| {
            is_calm &= allowance.came(head);
            if head.kind == HEADERS {
                *last_stream = head.stream.max(*last_stream);
            }
        });
        !is_calm
    }

    /// Says GOAWAY, as far as that can be said now, and ends our side.
    fn calm_down(&mut self, cx: &mut Context<'_>) {
        self.lingered = Some(0);
        self.movement.end(Closed::Flood);
        if self.sent.is_between() {
            let mut goaway = [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0].to_vec();
            goaway.extend(self.last_stream.to_be_bytes());
            goaway.extend(ENHANCE_YOUR_CALM.to_be_bytes());
            // Who takes nothing is not told.
            let _ = Pin::new(&mut self.io).poll_write(cx, &goaway);
        }
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
    }

    /// Passes over what still comes.
    fn poll_linger(&mut self, cx: &mut Context<'_>, mut read: usize) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        while read < MOST_LINGERED {
            let mut buf = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            read += buf.filled().len();
            self.lingered = Some(read);
        }
        Poll::Ready(Err(io::Error::other(
            "too many frames that ask for nothing",
        )))
    }

    fn wrote(&mut self, bytes: &[u8]) {
        let Self {
            movement,
            sink,
            sent,
            allowance,
            ..
        } = self;
        sent.take(bytes, |head| {
            allowance.sent(head);
            if let Some(code) = head.code {
                sink.connections().reset(code);
            }
            if head.kind == DATA && head.length > 0 {
                movement.wrote_piece();
            }
        });
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(read) = this.lingered {
            return this.poll_linger(cx, read);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if !this.is_flooded_by(came) {
            return Poll::Ready(Ok(()));
        }
        buf.set_filled(before);
        this.calm_down(cx);
        this.poll_linger(cx, 0)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Frames<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.lingered.is_some() {
            // Nothing follows on GOAWAY.
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, pieces))?;
        let mut left = written;
        for piece in pieces {
            let (taken, _) = split(piece, left);
            left -= taken.len();
            this.wrote(taken);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.lingered {
            Some(_) => Poll::Ready(Ok(())),
            None => Pin::new(&mut self.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn head(kind: u8, length: usize) -> Head {
        Head {
            length,
            kind,
            flags: 0,
            stream: 1,
            code: None,
        }
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'x'; PREFACE];
        let mut expected = Vec::new();
        for (kind, length) in [(4u8, 0u8), (HEADERS, 30), (DATA, 200), (DATA, 0), (PING, 8)] {
            bytes.extend([0, 0, length, kind, 0, 0x80, 0, 0, 1]);
            bytes.resize(bytes.len() + usize::from(length), 0xFF);
            expected.push(head(kind, usize::from(length)));
        }
        for code in [1, 8] {
            bytes.extend([0, 0, 4, RST_STREAM, 0, 0, 0, 0, 1, 0, 0, 0, code]);
            expected.push(Head {
                code: Some(code.into()),
                ..head(RST_STREAM, 4)
            });
        }
        // One that is none, for it has no room for a code.
        bytes.extend([0, 0, 2, RST_STREAM, 0, 0, 0, 0, 1, 0, 8]);
        expected.push(head(RST_STREAM, 2));
        for piece in [1, 2, 7, 9, 10, 13, 64, bytes.len()] {
            let mut walk = Walk::behind(PREFACE);
            let mut found = Vec::new();
            for bytes in bytes.chunks(piece) {
                walk.take(bytes, |head| found.push(head));
            }
            assert_eq!(found, expected, "{piece}");
            assert!(walk.is_between());
        }
    }

    /// How many frames of a kind may come, one after the other.
    fn most(kind: u8, length: usize) -> usize {
        let mut allowance = Allowance(Allowance::MOST);
        let frames = (0..5000).take_while(|_| allowance.came(head(kind, length)));
        frames.count()
    }

    #[test]
    fn frames_that_ask_for_nothing_come_to_an_end_and_others_do_not() {
        for kind in 2..=9 {
            assert_eq!(most(kind, 8), 1000, "{kind}");
        }
        assert_eq!(most(0x42, 8), 1000, "unknown");
        assert_eq!(most(DATA, 0), 1000);
        assert_eq!(most(DATA, 1), 5000);
        assert_eq!(most(HEADERS, 40), 5000);
    }

    #[test]
    fn who_says_for_each_piece_of_an_answer_that_there_is_room_is_no_flood() {
        let mut allowance = Allowance(Allowance::MOST);
        for _ in 0..100_000 {
            allowance.sent(head(DATA, 1));
            for _ in 0..2 {
                assert!(allowance.came(head(WINDOW_UPDATE, 4)));
            }
        }
    }

    #[test]
    fn answers_to_pings_pay_for_no_pings() {
        let mut allowance = Allowance(Allowance::MOST);
        let pings = (0..5000).take_while(|_| {
            allowance.sent(head(PING, 8));
            allowance.came(head(PING, 8))
        });
        assert_eq!(pings.count(), 1000);
    }
}
