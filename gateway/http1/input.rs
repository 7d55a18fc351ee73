//! Reading.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

/// Who reads so much at once is in the middle of a large body, and reads into a buffer of its own.
const STREAM: usize = 16 * 1024;

/// What was read from a connection and not yet taken.
pub struct Input {
    bytes: BytesMut,
    scratch: Scratch,
    streams: bool,
}

impl Input {
    /// Nothing yet.
    pub fn new(scratch: Scratch) -> Self {
        Self {
            bytes: BytesMut::new(),
            scratch,
            streams: false,
        }
    }

    /// What is there to be taken.
    pub fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Whether everything was taken.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Keeps no memory while nothing is on its way.
    pub fn rest(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        self.streams = false;
    }

    /// Reads once, and says how many bytes came. None is the end.
    ///
    /// # Errors
    /// The connection's.
    pub fn poll_read<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = match self.streams {
            true => {
                self.bytes.reserve(Scratch::SIZE);
                ready!(pin!(io.read_buf(&mut self.bytes)).poll(cx))?
            }
            false => {
                let mut scratch = self.scratch.0.borrow_mut();
                let mut buf = ReadBuf::new(&mut scratch);
                ready!(Pin::new(io).poll_read(cx, &mut buf))?;
                self.bytes.extend_from_slice(buf.filled());
                buf.filled().len()
            }
        };
        self.streams = read >= STREAM;
        Poll::Ready(Ok(read))
    }
}

/// Where a worker's connections read what they do not know the size of, so that none holds a buffer while it
/// waits: what came is copied into a buffer of its size.
#[derive(Clone)]
pub struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Scratch {
    const SIZE: usize = 64 * 1024;
}

impl Default for Scratch {
    fn default() -> Self {
        Self(Rc::new(RefCell::new(vec![0; Self::SIZE].into())))
    }
}
