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

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
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
                let mut scratch = self.scratch.0.read.borrow_mut();
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

/// What a worker's connections read into and write from, so that none holds memory while it waits: what came is
/// copied into a buffer of its size, and what is written whole needs none of its own.
#[derive(Clone, Default)]
pub struct Scratch(Rc<Shared>);

struct Shared {
    read: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            read: RefCell::new(vec![0; Scratch::SIZE].into()),
            spare: RefCell::default(),
        }
    }
}

impl Scratch {
    const SIZE: usize = 64 * 1024;

    /// So many buffers are kept to be written from, and none that has grown larger.
    const MOST_SPARE: usize = 16;
    const LARGEST_SPARE: usize = 32 * 1024;

    /// Room for a message's head, and a little body behind it.
    const USUAL_MESSAGE: usize = 4 * 1024;

    /// An empty buffer to write from.
    pub fn take(&self) -> Vec<u8> {
        let spare = self.0.spare.borrow_mut().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(Self::USUAL_MESSAGE))
    }

    /// Takes a buffer back that was written from.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        let mut spare = self.0.spare.borrow_mut();
        let is_usual = (Self::USUAL_MESSAGE..=Self::LARGEST_SPARE).contains(&buffer.capacity());
        if is_usual && spare.len() < Self::MOST_SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }
}
