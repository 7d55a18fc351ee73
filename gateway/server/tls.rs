//! TLS with callers, by rustls's connection without buffers. What comes is decrypted where all connections of a
//! worker read, and what goes is encrypted where all of them write, so that one that waits holds no memory for it.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest plaintext of a record, in bytes (RFC 8446 section 5.1).
const ONE_RECORD: usize = 16 * 1024;

/// The longest record that rustls takes, in bytes, with its head (RFC 5246 section 6.2.3).
const LONGEST_RECORD: usize = 5 + ONE_RECORD + 2048;

/// So many bytes are kept of a message of the handshake that spans records; rustls refuses longer ones.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// So many bytes are taken to be written at once.
const MOST_ACCEPTED: usize = 64 * 1024;

/// So many bytes are taken from a caller to whom we have said that nothing more is to come, and passed over.
const MOST_PASSED_OVER: usize = 1024 * 1024;

/// The most that is read at once, in bytes.
const MOST_READ: usize = 64 * 1024;

/// A worker's memory for what its connections have just read and are about to write. Borrowed while a connection
/// is polled, and never longer.
#[derive(Clone, Default)]
pub(super) struct TlsScratch(Rc<Shared>);

struct Shared {
    /// What came: behind what a connection has kept.
    came: RefCell<Box<[u8]>>,
    goes: RefCell<Outgoing>,
}

struct Outgoing {
    records: Box<[u8]>,
    /// Pieces that go into one record.
    gathered: Vec<u8>,
}

impl Default for Shared {
    fn default() -> Self {
        /// What encryption adds to four records and a little, and messages of TLS's own in front.
        const OVERHEAD: usize = 4 * 1024;
        Self {
            came: RefCell::new(vec![0; LONGEST_MESSAGE + MOST_READ].into()),
            goes: RefCell::new(Outgoing {
                records: vec![0; MOST_ACCEPTED + OVERHEAD].into(),
                gathered: Vec::with_capacity(ONE_RECORD),
            }),
        }
    }
}

/// A caller's end of a connection, whose handshake is done.
pub(super) struct TlsStream<IO> {
    io: IO,
    connection: UnbufferedServerConnection,
    scratch: TlsScratch,
    /// The beginning of a record, or of a message of TLS's own. INVARIANT: it is nothing that rustls can go on with,
    /// and what rustls has decrypted of it stays where it stands.
    incoming: BytesMut,
    /// Plaintext for which the reader had no room.
    plain: BytesMut,
    /// Ciphertext that the socket did not take.
    unsent: BytesMut,
    reading: Reading,
    /// Whether nothing more can be written.
    is_closing: bool,
    /// How many bytes came since.
    passed_over: usize,
}

/// What is to come from the caller.
enum Reading {
    More,
    /// Nothing: the caller has said so.
    Ended,
    /// Nothing that can be read.
    Failed(Box<rustls::Error>),
}

/// Does the server's part of a handshake.
///
/// # Errors
/// The socket's; `InvalidData` when the caller does not do its part, which has been told it then; `UnexpectedEof`
/// when it leaves.
pub(super) async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ServerConfig>,
    scratch: TlsScratch,
    io: IO,
) -> io::Result<TlsStream<IO>> {
    let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = TlsStream {
        io,
        connection,
        scratch,
        incoming: BytesMut::new(),
        plain: BytesMut::new(),
        unsent: BytesMut::new(),
        reading: Reading::More,
        is_closing: false,
        passed_over: 0,
    };
    poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(stream)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> TlsStream<IO> {
    /// The protocol that was agreed on (RFC 7301), if one was.
    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The caller's certificate, if it has proved to hold one.
    pub(super) fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.connection.peer_certificates()?.first()
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.connection.is_handshaking() {
                return Pin::new(&mut self.io).poll_flush(cx);
            }
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
            if let (Reading::Failed(error), true) =
                (&self.reading, self.connection.is_handshaking())
            {
                return Poll::Ready(Err(invalid(error)));
            }
        }
    }

    /// Reads from the socket once, and decrypts what came: into `into` what has room there.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let scratch = self.scratch.clone();
        let mut came = scratch.0.came.borrow_mut();
        let kept = self.incoming.len();
        let (front, behind) = came.split_at_mut_checked(kept).unwrap_or_default();
        // What the reader has room for, and a record at least: no more than about one is ever kept.
        let most = into.remaining().clamp(LONGEST_RECORD, MOST_READ);
        let mut read = ReadBuf::new(behind.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        let length = read.filled().len();
        if length == 0 {
            let cut = "the caller left without close_notify";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut)));
        }
        front.copy_from_slice(&self.incoming);
        // While something is unsent, whoever writes waits to send it, and may be another task than this one.
        let nobody_writes = self.unsent.is_empty();
        self.receive(came.get_mut(..kept + length).unwrap_or_default(), into);
        if nobody_writes || matches!(self.reading, Reading::Failed(_)) {
            // An alert; a caller that takes no more cannot be told.
            let _ = self.poll_send(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads on behind our close_notify, for what comes on a closed connection is answered by a reset, which may
    /// overtake what was sent. Nobody wants it, so it is not decrypted.
    fn poll_pass_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let scratch = self.scratch.clone();
        let mut came = scratch.0.came.borrow_mut();
        while self.passed_over < MOST_PASSED_OVER {
            let mut read = ReadBuf::new(&mut came);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
            self.passed_over += read.filled().len();
        }
        Poll::Ready(Ok(()))
    }

    /// Decrypts all that is whole of what came, and keeps the rest.
    fn receive(&mut self, came: &mut [u8], into: &mut ReadBuf<'_>) {
        let mut taken = 0;
        let reading = loop {
            let rest = came.get_mut(taken..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.connection.process_tls_records(rest);
            taken += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        taken += record.discard;
                        hand_over(record.payload, into, &mut self.plain);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => queue(data, &mut self.unsent),
                // It goes as soon as it can, and in this order.
                Ok(ConnectionState::TransmitTlsData(queued)) => queued.done(),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    break Reading::More;
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => break Reading::Ended,
                // Early data is never accepted.
                Ok(_) => break failed(rustls::Error::General("an unknown state".to_owned())),
                Err(error) => break failed(error),
            }
        };
        self.reading = reading;
        match self.reading {
            Reading::More => self.keep(came.get(taken..).unwrap_or_default()),
            Reading::Ended => self.incoming = BytesMut::new(),
            Reading::Failed(_) => {
                self.incoming = BytesMut::new();
                self.queue_alert();
            }
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        let most = match self.connection.is_handshaking() {
            true => LONGEST_MESSAGE,
            false => LONGEST_RECORD,
        };
        match rest.len() {
            0 => self.incoming = BytesMut::new(),
            length if length <= most => {
                self.incoming.clear();
                self.incoming.extend_from_slice(rest);
            }
            _ => {
                self.incoming = BytesMut::new();
                self.reading = failed(rustls::Error::General("too long a message".to_owned()));
            }
        }
    }

    /// rustls has the alert ready for which what came has failed, and is not asked to go on behind it.
    fn queue_alert(&mut self) {
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => queue(data, &mut self.unsent),
                _ => break,
            }
        }
    }

    /// Sends what the socket did not take at first.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Encrypts so much of the pieces as is taken at once, and sends it. How many bytes of them that was.
    fn send_pieces(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let scratch = self.scratch.clone();
        let mut goes = scratch.0.goes.borrow_mut();
        let (accepted, length) = self.seal_pieces(pieces, &mut goes)?;
        let records = goes.records.get(..length).unwrap_or_default();
        let sent = match Pin::new(&mut self.io).poll_write(cx, records) {
            Poll::Ready(Ok(0)) if length > 0 => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        let rest = records.get(sent..).unwrap_or_default();
        self.unsent.extend_from_slice(rest);
        Ok(accepted)
    }

    /// Encrypts pieces into full records, as far as they go: a piece of its own fills what it can without being
    /// copied. How many bytes were taken, and how many came of them.
    fn seal_pieces(
        &mut self,
        pieces: &[IoSlice<'_>],
        goes: &mut Outgoing,
    ) -> io::Result<(usize, usize)> {
        let Outgoing { records, gathered } = goes;
        gathered.clear();
        let (mut accepted, mut sealed) = (0, 0);
        let mut seal = |plain: &[u8]| {
            if plain.is_empty() {
                return io::Result::Ok(());
            }
            let room = records.get_mut(sealed..).unwrap_or_default();
            sealed += self.seal(room, |traffic, room| traffic.encrypt(plain, room))?;
            Ok(())
        };
        for piece in pieces {
            let (piece, _) = split(piece, MOST_ACCEPTED - accepted);
            accepted += piece.len();
            let piece = match gathered.len() {
                0 => piece,
                length => {
                    let (begins, rest) = split(piece, ONE_RECORD - length);
                    gathered.extend_from_slice(begins);
                    rest
                }
            };
            if gathered.len() == ONE_RECORD {
                seal(gathered)?;
                gathered.clear();
            }
            let is_last = accepted == MOST_ACCEPTED || pieces.len() == 1;
            let whole = match is_last {
                true => piece.len(),
                false => piece.len() - piece.len() % ONE_RECORD,
            };
            let (whole, rest) = split(piece, whole);
            seal(whole)?;
            gathered.extend_from_slice(rest);
        }
        seal(gathered)?;
        Ok((accepted, sealed))
    }

    /// What `act` encrypts into `out`, behind what rustls itself still has to say.
    fn seal(
        &mut self,
        out: &mut [u8],
        act: impl FnOnce(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let room = out.get_mut(used..).unwrap_or_default();
            // rustls remembers places in what it has begun to read, so it has to see it again.
            let status = self.connection.process_tls_records(&mut self.incoming);
            match status.state.map_err(|error| invalid(&error))? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let sealed = act(&mut traffic, room).map_err(io::Error::other)?;
                    return Ok(used + sealed);
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    used += data.encode(room).map_err(io::Error::other)?;
                }
                ConnectionState::TransmitTlsData(queued) => queued.done(),
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// Says that nothing more is to come from us.
    fn close(&mut self) -> io::Result<()> {
        self.is_closing = true;
        if let Reading::Failed(_) = self.reading {
            return Ok(());
        }
        let scratch = self.scratch.clone();
        let goes = &mut scratch.0.goes.borrow_mut().records;
        let length = self.seal(goes, |traffic, out| traffic.queue_close_notify(out))?;
        let record = goes.get(..length).unwrap_or_default();
        self.unsent.extend_from_slice(record);
        Ok(())
    }

    /// How many bytes of memory it holds for what was read or is to be written.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.unsent.capacity()
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_closing {
            return this.poll_pass_over(cx);
        }
        let before = buf.remaining();
        let (now, _) = split(&this.plain, before);
        buf.put_slice(now);
        let taken = now.len();
        this.plain.advance(taken);
        if this.plain.is_empty() {
            this.plain = BytesMut::new();
        }
        while buf.remaining() == before && before > 0 {
            match &this.reading {
                Reading::More => ready!(this.poll_receive(cx, buf))?,
                Reading::Ended => break,
                Reading::Failed(error) => return Poll::Ready(Err(invalid(error))),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    /// Takes no more while the socket has not taken all that was written before.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        if this.is_closing || matches!(this.reading, Reading::Failed(_)) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let written = this.send_pieces(cx, pieces);
        // Records that are lost are missed by whoever reads those behind them.
        this.is_closing = written.is_err();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_closing {
            this.close()?;
        }
        ready!(this.poll_send(cx))?;
        match ready!(Pin::new(&mut this.io).poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            Ok(()) | Err(_) => Poll::Ready(Ok(())),
        }
    }
}

/// The first `length` bytes, or all that there are, and the rest.
fn split(bytes: &[u8], length: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(length).unwrap_or((bytes, &[]))
}

/// Plaintext goes where it has room, unless something is in front of it.
fn hand_over(payload: &[u8], into: &mut ReadBuf<'_>, plain: &mut BytesMut) {
    let room = match plain.is_empty() {
        true => into.remaining(),
        false => 0,
    };
    let (now, later) = split(payload, room);
    into.put_slice(now);
    plain.extend_from_slice(later);
}

/// What TLS itself has to say.
fn queue(mut data: EncodeTlsData<'_, ServerConnectionData>, unsent: &mut BytesMut) {
    // Given no room, it says how much it needs.
    if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut []) {
        let from = unsent.len();
        unsent.resize(from + needs.required_size, 0);
        let written = data.encode(unsent.get_mut(from..).unwrap_or_default());
        unsent.truncate(from + written.unwrap_or(0));
    }
}

fn failed(error: rustls::Error) -> Reading {
    Reading::Failed(Box::new(error))
}

fn invalid(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}
