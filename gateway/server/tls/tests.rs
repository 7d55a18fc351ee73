//! Against rustls's client, through pipes of this process.

use std::future::Future;
use std::io::{Read as _, Write as _};
use std::pin::pin;
use std::task::Waker;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;

static TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
static TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// What a full record of TLS 1.3 adds to its plaintext: head, type and tag.
const ADDED: usize = 5 + 1 + 16;

/// Both sides' settings.
#[derive(Clone)]
struct Settings {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Settings {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).expect("made");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
            .expect("server settings");
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        server.ticketer = aws_lc_rs::Ticketer::new().expect("a ticketer");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a root");
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            server: Arc::new(server),
            client: Arc::new(client),
        }
    }

    fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
    ) -> impl Future<Output = io::Result<TlsStream<IO>>> + use<IO> {
        accept(Arc::clone(&self.server), TlsScratch::default(), io)
    }

    /// Both ends of a connection, through a pipe that holds so many bytes.
    async fn connected(&self, pipe: usize) -> (ClientStream<DuplexStream>, TlsStream<Counted>) {
        self.stepping(pipe, usize::MAX).await
    }

    /// The same, and the server reads and writes so many at once.
    async fn stepping(
        &self,
        pipe: usize,
        step: usize,
    ) -> (ClientStream<DuplexStream>, TlsStream<Counted>) {
        let (near, far) = duplex(pipe);
        let near = Counted::new(near, step);
        let connector = TlsConnector::from(Arc::clone(&self.client));
        // The client hears a word at once, for there may be no room for tickets in the pipe.
        let connecting = async {
            let mut client = connector.connect(name(), far).await.expect("a client");
            assert_eq!(hear(&mut client, 1, 1).await, b"!");
            client
        };
        let accepting = async {
            let mut server = self.accept(near).await.expect("a server");
            say(&mut server, b"!", 1).await;
            server
        };
        tokio::join!(connecting, accepting)
    }

    /// The same with a client that is led step by step.
    async fn led(&self) -> (Led, TlsStream<Counted>) {
        let (near, mut led) = Led::new(self);
        let greeting = async {
            led.greet().await;
            led.say(b"").await;
            while led.tls.is_handshaking() {
                led.hear().await;
            }
            led
        };
        let (mut led, server) = tokio::join!(greeting, self.accept(near));
        if led.tls.protocol_version() == Some(TLS13.version) {
            // Tickets.
            led.hear().await;
        }
        (led, server.expect("a server"))
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("gate.test").expect("a name")
}

/// A client that sends and hears only when it is told to.
struct Led {
    tls: ClientConnection,
    pipe: DuplexStream,
}

impl Led {
    fn new(settings: &Settings) -> (Counted, Self) {
        let (near, pipe) = duplex(1024 * 1024);
        let tls = ClientConnection::new(Arc::clone(&settings.client), name()).expect("a client");
        (Counted::new(near, usize::MAX), Self { tls, pipe })
    }

    /// What would be sent now.
    fn spoken(&mut self) -> Vec<u8> {
        let mut spoken = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut spoken).expect("memory");
        }
        spoken
    }

    fn sealed(&mut self, plain: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(plain).expect("taken");
        self.spoken()
    }

    async fn say(&mut self, plain: &[u8]) {
        let spoken = self.sealed(plain);
        self.pipe.write_all(&spoken).await.expect("sent");
    }

    /// Hears once. How many bytes came.
    async fn hear(&mut self) -> usize {
        let mut heard = vec![0; 128 * 1024];
        let length = self.pipe.read(&mut heard).await.expect("heard");
        let mut heard = &heard[..length];
        while !heard.is_empty() {
            self.tls.read_tls(&mut heard).expect("read");
            self.tls.process_new_packets().expect("understood");
        }
        length
    }

    /// Goes through the handshake (of TLS 1.3), except for what the client says last.
    async fn greet(&mut self) {
        while self.tls.is_handshaking() && !self.tls.wants_write()
            || self.tls.protocol_version().is_none()
        {
            self.say(b"").await;
            self.hear().await;
        }
    }

    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut read = vec![0; length];
        self.tls.reader().read_exact(&mut read).expect("plaintext");
        read
    }
}

/// A pipe that counts how often it gave or took something.
struct Counted {
    pipe: DuplexStream,
    reads: usize,
    writes: usize,
    /// So many bytes at once, at most.
    step: usize,
}

impl Counted {
    fn new(pipe: DuplexStream, step: usize) -> Self {
        Self {
            pipe,
            reads: 0,
            writes: 0,
            step,
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut room = buf.take(self.step);
        let read = Pin::new(&mut self.pipe).poll_read(cx, &mut room);
        let length = room.filled().len();
        buf.advance(length);
        self.reads += usize::from(read.is_ready());
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let buf = &buf[..buf.len().min(self.step)];
        let written = Pin::new(&mut self.pipe).poll_write(cx, buf);
        self.writes += usize::from(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// Bytes that do not repeat where records or pieces do.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

/// Polls once.
fn once<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    poll(&mut Context::from_waker(Waker::noop()))
}

/// A read that finds nothing.
fn waits<IO: AsyncRead + AsyncWrite + Unpin>(server: &mut TlsStream<IO>) -> bool {
    let mut buf = [0; 64];
    once(|cx| Pin::new(&mut *server).poll_read(cx, &mut ReadBuf::new(&mut buf))).is_pending()
}

/// Says all of it, in pieces of so many bytes.
async fn say(to: &mut (impl AsyncWrite + Unpin), what: &[u8], piece: usize) {
    for piece in what.chunks(piece) {
        to.write_all(piece).await.expect("written");
    }
    to.flush().await.expect("flushed");
}

/// Hears so many bytes, in pieces of so many.
async fn hear(from: &mut (impl AsyncRead + Unpin), length: usize, piece: usize) -> Vec<u8> {
    let (mut heard, mut room) = (Vec::new(), vec![0; piece]);
    while heard.len() < length {
        let came = from.read(&mut room).await.expect("read");
        assert_ne!(came, 0, "it ended after {} bytes", heard.len());
        heard.extend_from_slice(&room[..came]);
    }
    heard
}

#[tokio::test]
async fn what_one_side_says_the_other_hears_in_pieces_of_whatever_size() {
    const MIB: usize = 1024 * 1024;
    for (why, pipe, step, total, said, heard) in [
        ("a byte at a time on the wire", 64, 1, 40_000, 20_011, MIB),
        ("a few bytes on the wire", 64, 7, 100_000, 40_000, 333),
        ("a byte at a time to be said", 4096, MIB, 3000, 1, MIB),
        ("a byte at a time to be heard", MIB, MIB, 50_000, 16_384, 1),
        ("odd sizes", 1000, 997, MIB, 10_007, 8191),
        ("all at once", 2 * MIB, MIB, MIB, MIB, 64 * 1024),
        ("more than is taken", 100_000, MIB, MIB, 70_000, 16_385),
        ("a record each", 17_000, MIB, MIB, 16_384, 16_384),
        ("a record and a byte", 17_000, MIB, MIB, 16_385, 100_000),
    ] {
        for version in VERSIONS {
            let settings = Settings::new(version);
            let (mut client, mut server) = settings.stepping(pipe, step).await;
            let noise = noise(total);
            let ((), up) = tokio::join!(
                say(&mut client, &noise, said),
                hear(&mut server, total, heard)
            );
            assert!(up == noise, "{why}, up");
            let ((), down) = tokio::join!(
                say(&mut server, &noise, said),
                hear(&mut client, total, heard)
            );
            assert!(down == noise, "{why}, down");
            assert!(waits(&mut server), "{why}");
            assert_eq!(server.held(), 0, "{why}");
        }
    }
}

#[tokio::test]
async fn both_may_talk_at_once() {
    for version in VERSIONS {
        let (client, server) = Settings::new(version).connected(5000).await;
        let noise = noise(700_001);
        let (mut from_client, mut to_client) = tokio::io::split(server);
        let (mut from_server, mut to_server) = tokio::io::split(client);
        let ((), (), up, down) = tokio::join!(
            say(&mut to_server, &noise, 9999),
            say(&mut to_client, &noise, 77_777),
            hear(&mut from_client, noise.len(), 3001),
            hear(&mut from_server, noise.len(), 3001),
        );
        assert!(up == noise && down == noise);
    }
}

#[tokio::test]
async fn the_protocol_that_was_agreed_on_is_told() {
    let (_client, server) = Settings::new(TLS13).connected(1000).await;
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn what_comes_with_the_end_of_the_handshake_is_read() {
    for length in [1, 5000, 40_000] {
        let settings = Settings::new(TLS13);
        let (near, mut led) = Led::new(&settings);
        let said = noise(length);
        let talk = async {
            led.greet().await;
            led.say(&said).await;
        };
        let ((), server) = tokio::join!(talk, settings.accept(near));
        let mut server = server.expect("a server");
        let reads = server.io.reads;
        assert!(hear(&mut server, length, 64 * 1024).await == said);
        assert_eq!(server.io.reads == reads, length < LONGEST_RECORD / 2);
        assert_eq!(server.held(), 0);
    }
}

#[tokio::test]
async fn one_who_says_goodbye_has_ended() {
    for version in VERSIONS {
        let (mut client, mut server) = Settings::new(version).connected(100_000).await;
        client.write_all(b"last words").await.expect("written");
        client.shutdown().await.expect("shut down");
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.expect("an end");
        assert_eq!(heard, b"last words");
        assert_eq!(server.read(&mut [0; 8]).await.expect("an end"), 0);
        // It still listens.
        say(&mut server, b"farewell", 8).await;
        assert_eq!(hear(&mut client, 8, 8).await, b"farewell");
    }
}

#[tokio::test]
async fn goodbye_in_one_piece_with_data_comes_behind_it() {
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    led.tls.writer().write_all(&noise(100)).expect("taken");
    led.tls.send_close_notify();
    led.say(b"").await;
    let reads = server.io.reads;
    assert_eq!(hear(&mut server, 100, 77).await, noise(100));
    assert_eq!(server.read(&mut [0; 8]).await.expect("an end"), 0);
    assert_eq!(server.io.reads, reads + 1);
}

#[tokio::test]
async fn one_who_is_cut_off_has_not_ended() {
    for (why, kept) in [("behind a record", 122), ("within a record", 50)] {
        let (mut led, mut server) = Settings::new(TLS13).led().await;
        let sealed = led.sealed(&noise(100));
        assert_eq!(sealed.len(), 100 + ADDED);
        led.pipe.write_all(&sealed[..kept]).await.expect("sent");
        drop(led);
        let mut heard = Vec::new();
        let error = server.read_to_end(&mut heard).await.expect_err(why);
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{why}");
        assert_eq!(heard.len(), if kept == 122 { 100 } else { 0 }, "{why}");
    }
}

#[tokio::test]
async fn one_who_leaves_within_the_handshake_is_cut_off() {
    let settings = Settings::new(TLS13);
    let (near, mut led) = Led::new(&settings);
    led.say(b"").await;
    drop(led);
    let error = settings.accept(near).await.err().expect("an error");
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_no_handshake_is_told_so() {
    const DECODE_ERROR: u8 = 50;
    const UNEXPECTED: u8 = 10;
    for (why, said, alert) in [
        ("HTTP", &b"GET / HTTP/1.1\r\n\r\n"[..], DECODE_ERROR),
        (
            "too long a record",
            &[22, 3, 1, 0xFF, 0xFF, 1],
            DECODE_ERROR,
        ),
        ("data", &[23, 3, 3, 0, 3, 1, 2, 3], UNEXPECTED),
    ] {
        let (near, mut far) = duplex(1000);
        far.write_all(said).await.expect("sent");
        let settings = Settings::new(TLS13);
        let error = settings.accept(near).await.err().expect(why);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{why}");
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.expect("heard");
        // A fatal alert, not encrypted (RFC 8446 section 6).
        let [21, 3, _, 0, 2, 2, said] = heard[..] else {
            panic!("{why}: {heard:?}");
        };
        assert_eq!(said, alert, "{why}");
    }
}

#[tokio::test]
async fn what_was_changed_on_its_way_is_told_so_behind_what_was_not() {
    for version in [TLS13, TLS12] {
        let settings = Settings::new(version);
        let (mut led, mut server) = settings.led().await;
        let mut sealed = led.sealed(b"good");
        let mut bad = led.sealed(b"bad");
        *bad.last_mut().expect("a byte") ^= 1;
        sealed.extend_from_slice(&bad);
        sealed.extend_from_slice(&led.sealed(b"good again"));
        led.pipe.write_all(&sealed).await.expect("sent");
        let mut heard = Vec::new();
        let error = server.read_to_end(&mut heard).await.expect_err("changed");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(heard, b"good");
        let again = server.read(&mut [0; 8]).await.expect_err("over");
        assert_eq!(again.kind(), io::ErrorKind::InvalidData);
        let write = server.write(b"more").await.expect_err("over");
        assert_eq!(write.kind(), io::ErrorKind::BrokenPipe);
        server.shutdown().await.expect("shut down");
        drop(server);
        let mut said = Vec::new();
        led.pipe.read_to_end(&mut said).await.expect("heard");
        led.tls.read_tls(&mut &said[..]).expect("read");
        let told = led.tls.process_new_packets().expect_err("an alert");
        assert_eq!(told, Error::AlertReceived(AlertDescription::BadRecordMac));
    }
}

#[tokio::test]
async fn one_who_comes_again_resumes() {
    for version in VERSIONS {
        let settings = Settings::new(version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let (mut client, mut server) = settings.connected(1000).await;
            let ((), heard) = tokio::join!(say(&mut server, b"hi", 2), hear(&mut client, 2, 2));
            assert_eq!(heard, b"hi");
            assert_eq!(client.get_ref().1.handshake_kind(), Some(kind));
            assert_eq!(server.connection.handshake_kind(), Some(kind));
        }
    }
}

#[tokio::test]
async fn new_keys_are_taken_and_answered() {
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    for round in 0..3 {
        led.say(b"before").await;
        led.tls.refresh_traffic_keys().expect("new keys");
        led.say(b"after").await;
        assert_eq!(hear(&mut server, 11, 64).await, b"beforeafter", "{round}");
        say(&mut server, b"here", 4).await;
        let heard = led.hear().await;
        assert_eq!(led.read(4), b"here", "{round}");
        // Its own new keys are in front of the answer.
        assert!(heard > 4 + 2 * ADDED, "{round}: {heard}");
        assert_eq!(server.held(), 0, "{round}");
    }
}

#[tokio::test]
async fn who_takes_nothing_is_written_no_more_than_a_little() {
    let (mut client, mut server) = Settings::new(TLS13).connected(10_000).await;
    let noise = noise(1024 * 1024);
    let mut written = 0;
    while let Poll::Ready(more) = once(|cx| Pin::new(&mut server).poll_write(cx, &noise[written..]))
    {
        written += more.expect("written");
        assert!(server.held() <= MOST_ACCEPTED + 4 * ADDED);
    }
    assert_eq!(written, MOST_ACCEPTED);
    assert!(once(|cx| Pin::new(&mut server).poll_flush(cx)).is_pending());
    let ((), heard) = tokio::join!(
        say(&mut server, &noise[written..], 50_000),
        hear(&mut client, noise.len(), 4096)
    );
    assert!(heard == noise);
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn who_writes_is_woken_when_there_is_room() {
    let (mut client, mut server) = Settings::new(TLS13).connected(1000).await;
    let noise = noise(3 * MOST_ACCEPTED);
    let mut saying = pin!(say(&mut server, &noise, noise.len()));
    assert!(once(|cx| saying.as_mut().poll(cx)).is_pending());
    let ((), heard) = tokio::join!(saying, hear(&mut client, noise.len(), 100));
    assert!(heard == noise);
}

#[tokio::test]
async fn one_who_waits_holds_no_memory() {
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    assert!(waits(&mut server));
    assert_eq!(server.held(), 0);
    for length in [1, 100, ONE_RECORD] {
        let sealed = led.sealed(&noise(length));
        for (at, byte) in [0, sealed.len() / 2, sealed.len() - 1, sealed.len()]
            .windows(2)
            .map(|ends| (ends[1], &sealed[ends[0]..ends[1]]))
        {
            assert_eq!(server.held() > 0, at != sealed.len() / 2, "{length}, {at}");
            led.pipe.write_all(byte).await.expect("sent");
            match at == sealed.len() {
                false => assert!(waits(&mut server), "{length}, {at}"),
                true => assert!(hear(&mut server, length, 64 * 1024).await == noise(length)),
            }
            assert!(server.held() <= 2 * (length + ADDED).max(64), "{length}");
        }
        assert!(waits(&mut server));
        assert_eq!(server.held(), 0);
    }
}

#[tokio::test]
async fn a_reader_with_little_room_leaves_no_more_than_a_record() {
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    let said = noise(60_000);
    led.say(&said).await;
    let mut heard = Vec::new();
    while heard.len() < said.len() {
        let mut room = [0; 10];
        let length = server.read(&mut room).await.expect("read");
        heard.extend_from_slice(&room[..length]);
        assert!(server.held() <= 3 * LONGEST_RECORD, "{}", server.held());
    }
    assert!(heard == said);
    assert!(waits(&mut server));
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn a_record_that_never_ends_is_not_kept_beyond_its_length() {
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    let mut longest = vec![23, 3, 3];
    longest.extend_from_slice(&(LONGEST_RECORD as u16 - 6).to_be_bytes());
    led.pipe.write_all(&longest).await.expect("sent");
    for _ in 0..LONGEST_RECORD - 7 {
        led.pipe.write_all(&[0]).await.expect("sent");
        assert!(waits(&mut server));
        assert!(server.held() <= 2 * LONGEST_RECORD);
    }
    led.pipe.write_all(&[0]).await.expect("sent");
    let error = server.read(&mut [0; 8]).await.expect_err("no record");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(server.held(), 0);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_not_kept_beyond_its_length() {
    let settings = Settings::new(TLS13);
    let (near, mut far) = duplex(1024);
    let talk = async {
        let mut sent = 0;
        // A client's hello, as long as rustls takes one, in records of ten bytes.
        let mut said = vec![22, 3, 1, 0, 10, 1, 0, 0xFF, 0xFF];
        said.resize(5 + 10, 0);
        while far.write_all(&said).await.is_ok() {
            sent += said.len();
            said.splice(5..9, [0; 4]);
        }
        sent
    };
    let (sent, server) = tokio::join!(talk, settings.accept(near));
    let error = server.err().expect("an error");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let most = LONGEST_MESSAGE - 4096..=LONGEST_MESSAGE + 4096;
    assert!(most.contains(&sent), "{sent}");
}

#[tokio::test]
async fn a_request_costs_one_read_and_an_answer_one_write() {
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    for round in 0..3 {
        let (reads, writes) = (server.io.reads, server.io.writes);
        led.say(&noise(700)).await;
        assert!(hear(&mut server, 700, 64 * 1024).await == noise(700));
        say(&mut server, &noise(900), 900).await;
        assert_eq!(led.hear().await, 900 + ADDED, "{round}");
        assert!(waits(&mut server));
        let more = (server.io.reads - reads, server.io.writes - writes);
        assert_eq!(more, (1, 1), "{round}");
    }
}

#[tokio::test]
async fn pieces_that_are_written_at_once_fill_records() {
    for (why, pieces, records) in [
        ("nothing", vec![], 0),
        ("nothing, twice", vec![0, 0], 0),
        ("two small ones", vec![300, 1000], 1),
        ("an empty one between", vec![300, 0, 1000], 1),
        ("an empty one behind", vec![300, 0], 1),
        ("just a record", vec![384, 16_000], 1),
        ("a large one behind", vec![300, 40_000], 3),
        ("a large one in front", vec![40_000, 300], 3),
        ("as much as is taken", vec![300, MOST_ACCEPTED - 300], 4),
        ("more than is taken", vec![300, 200_000, 5], 4),
        ("a large one", vec![MOST_ACCEPTED], 4),
        ("many", vec![1000; 60], 4),
    ] {
        let (mut led, mut server) = Settings::new(TLS13).led().await;
        let noise = noise(pieces.iter().sum());
        let mut rest = &noise[..];
        let slices: Vec<_> = pieces
            .iter()
            .map(|length| {
                let (piece, behind) = rest.split_at(*length);
                rest = behind;
                IoSlice::new(piece)
            })
            .collect();
        let writes = server.io.writes;
        let written = poll_fn(|cx| Pin::new(&mut server).poll_write_vectored(cx, &slices));
        let written = written.await.expect("written");
        assert_eq!(written, noise.len().min(MOST_ACCEPTED), "{why}");
        assert_eq!(server.io.writes - writes, records.min(1), "{why}");
        if records > 0 {
            let mut client = led;
            let mut raw = vec![0; 128 * 1024];
            let length = client.pipe.read(&mut raw).await.expect("heard");
            assert_eq!(length, written + records * ADDED, "{why}");
            let mut heard = Vec::new();
            let mut rest = &raw[..length];
            while !rest.is_empty() {
                client.tls.read_tls(&mut rest).expect("read");
                let state = client.tls.process_new_packets().expect("understood");
                heard.extend(client.read(state.plaintext_bytes_to_read()));
            }
            assert!(heard == noise[..written], "{why}");
            led = client;
        }
        drop(led);
    }
}

#[tokio::test]
async fn goodbye_is_said_once_and_behind_all_else() {
    for version in VERSIONS {
        let (mut client, mut server) = Settings::new(version).connected(100).await;
        let noise = noise(50_000);
        let talk = async {
            server.write_all(&noise).await.expect("written");
            server.shutdown().await.expect("shut down");
            server.shutdown().await.expect("shut down again");
            let writes = server.io.writes;
            let late = server.write(b"late").await.expect_err("too late");
            assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(server.io.writes, writes);
            assert_eq!(server.held(), 0);
        };
        let mut heard = Vec::new();
        let ((), end) = tokio::join!(talk, client.read_to_end(&mut heard));
        end.expect("a goodbye");
        assert!(heard == noise);
    }
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    server.shutdown().await.expect("shut down");
    server.shutdown().await.expect("shut down again");
    assert_eq!(led.hear().await, 2 + ADDED);
    drop(server);
    assert_eq!(led.hear().await, 0);
}

#[tokio::test]
async fn what_comes_behind_our_goodbye_is_passed_over_and_not_for_ever() {
    // A record that nobody can read.
    let mut record = vec![23, 3, 3, 0, 60];
    record.extend([7; 60]);
    let (mut led, mut server) = Settings::new(TLS13).led().await;
    server.shutdown().await.expect("shut down");
    led.pipe.write_all(&record).await.expect("sent");
    led.pipe.shutdown().await.expect("closed");
    assert_eq!(server.read(&mut [0; 64]).await.expect("an end"), 0);
    assert_eq!(server.held(), 0);

    let (mut led, mut server) = Settings::new(TLS13).led().await;
    server.shutdown().await.expect("shut down");
    let talking = async {
        loop {
            led.pipe.write_all(&record).await.expect("sent");
        }
    };
    let read = tokio::select! {
        read = async { server.read(&mut [0; 64]).await } => read.expect("an end"),
        () = talking => unreachable!("it goes on"),
    };
    assert_eq!(read, 0);
    assert!(server.passed_over >= MOST_PASSED_OVER);
}
