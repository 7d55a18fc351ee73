//! Just enough of HTTP/1.1 to know where a message ends, for both callers and backend: a head up to the
//! empty line, then a body by its length or in chunks. What it costs is not the proxy's to pay.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes. No head here is longer; bodies pass through piece by piece.
const BUFFER: usize = 64 * 1024;

/// What has been read of a connection and not been used yet.
pub(crate) struct Reader {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
    head_end: memmem::Finder<'static>,
}

/// How a body ends.
#[derive(Clone, Copy)]
enum Body {
    Length(usize),
    Chunked,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; 4096],
            from: 0,
            to: 0,
            head_end: memmem::Finder::new(b"\r\n\r\n"),
        }
    }

    /// Reads up to the end of a head. `look` sees it; then the body is read and thrown away. `None` when
    /// the other side has closed before a head began.
    pub(crate) async fn message<S: AsyncRead + Unpin, T>(
        &mut self,
        stream: &mut S,
        look: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<Option<T>> {
        let Some(end) = self.head(stream).await? else {
            return Ok(None);
        };
        let head = &self.bytes[self.from..end];
        let body = framing(head);
        let seen = look(head);
        self.from = end;
        match body {
            Body::Length(length) => self.skip(stream, length).await?,
            Body::Chunked => self.skip_chunks(stream).await?,
        }
        Ok(Some(seen))
    }

    async fn head<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<Option<usize>> {
        loop {
            if let Some(at) = self.head_end.find(&self.bytes[self.from..self.to]) {
                return Ok(Some(self.from + at + 4));
            }
            let empty = self.from == self.to;
            if self.fill(stream).await? == 0 {
                return if empty { Ok(None) } else { Err(early()) };
            }
        }
    }

    /// Bytes that came; none at the end.
    async fn fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.bytes.len() {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        if self.to == self.bytes.len() {
            if self.to >= BUFFER {
                return Err(io::Error::other("a head without end"));
            }
            self.bytes.resize(self.to * 2, 0);
        }
        let count = stream.read(&mut self.bytes[self.to..]).await?;
        self.to += count;
        Ok(count)
    }

    async fn skip<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        mut length: usize,
    ) -> io::Result<()> {
        loop {
            let taken = length.min(self.to - self.from);
            self.from += taken;
            length -= taken;
            if length == 0 {
                return Ok(());
            }
            if length > self.bytes.len() {
                self.bytes.resize(BUFFER, 0);
            }
            if self.fill(stream).await? == 0 {
                return Err(early());
            }
        }
    }

    async fn skip_chunks<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        loop {
            let size = self.line(stream).await?;
            if size == 0 {
                // Trailers, if any, and the empty line.
                while self.line_length(stream).await? > 2 {}
                return Ok(());
            }
            self.skip(stream, size + 2).await?;
        }
    }

    /// The size at the beginning of a chunk.
    async fn line<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        let length = self.line_length(stream).await?;
        let line = &self.bytes[self.from - length..self.from];
        let text = String::from_utf8_lossy(line);
        let size = text.split(';').next().unwrap_or_default().trim();
        usize::from_str_radix(size, 16).map_err(io::Error::other)
    }

    /// Takes a line and says how long it was, with its end.
    async fn line_length<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> io::Result<usize> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.bytes[self.from..self.to]) {
                self.from += at + 1;
                return Ok(at + 1);
            }
            if self.fill(stream).await? == 0 {
                return Err(early());
            }
        }
    }
}

fn early() -> io::Error {
    io::Error::other("the connection ended within a message")
}

fn framing(head: &[u8]) -> Body {
    for line in head.split(|byte| *byte == b'\n') {
        if let Some(value) = value(line, b"content-length:") {
            return Body::Length(number(value));
        }
        if value(line, b"transfer-encoding:").is_some() {
            return Body::Chunked;
        }
    }
    Body::Length(0)
}

fn value<'line>(line: &'line [u8], name: &[u8]) -> Option<&'line [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(rest)
}

fn number(text: &[u8]) -> usize {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}
