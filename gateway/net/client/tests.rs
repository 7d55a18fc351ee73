//! Against real sockets on loopback, each on a port of its own.

use futures_util::future::BoxFuture;
use http::{HeaderName, Method, StatusCode};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::super::address::{Found, SystemResolver};
use super::super::tls::{Roots, client_config, install_provider};
use super::*;

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(20),
    max_body: 1024,
};

/// Every name has these addresses.
struct Fixed(Vec<SocketAddr>);

impl Resolver for Fixed {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, io::Result<Found>> {
        let found = Found {
            addresses: self.0.clone(),
            holds: None,
        };
        Box::pin(async { Ok(found) })
    }
}

struct Identity {
    pem: String,
    acceptor: TlsAcceptor,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).expect("made");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    install_provider();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("server settings");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Identity {
        pem: made.cert.pem(),
        acceptor: TlsAcceptor::from(Arc::new(config)),
    }
}

fn trusting(pem: &str, resolver: impl Resolver) -> Client {
    let roots = Roots::Pem(pem.as_bytes().to_vec());
    let tls = client_config(&roots, &[b"h2"]).expect("settings");
    Client::new(&tls, Arc::new(resolver))
}

fn client(resolver: impl Resolver) -> Client {
    trusting(&identity().pem, resolver)
}

fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).expect("a request")
}

/// Reads one request's head and answers these bytes; gives back what it read.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) -> String {
    let mut read = Vec::new();
    while !read.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut some = [0; 1024];
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => break,
            Ok(n) => read.extend_from_slice(&some[..n]),
        }
    }
    // The client may have seen enough before the last byte.
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
    String::from_utf8(read).expect("ASCII")
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

async fn answering(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let (listener, address) = listening().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        serve(stream, answer.as_bytes()).await
    });
    (address, server)
}

/// An address at which nobody listens any more.
async fn deserted() -> SocketAddr {
    listening().await.1
}

#[tokio::test]
async fn a_request_is_sent_in_origin_form_with_its_own_host_and_framing() {
    let (address, server) =
        answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\nhi").await;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/a/b?c=d"))
        .header(header::HOST, "elsewhere")
        .header(header::TRANSFER_ENCODING, "chunked")
        .header(HeaderName::from_static("metadata"), "true")
        .body(Bytes::from_static(b"body"))
        .expect("a request");
    let response = client(SystemResolver)
        .send(request, BOUNDS)
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-a"], "b");
    assert_eq!(response.body().as_ref(), b"hi");
    let sent = server.await.expect("served");
    assert!(sent.starts_with("POST /a/b?c=d HTTP/1.1\r\n"), "{sent}");
    for line in [
        format!("host: {address}"),
        "connection: close".to_owned(),
        "content-length: 4".to_owned(),
        "metadata: true".to_owned(),
    ] {
        assert!(
            sent.contains(&format!("\r\n{line}\r\n")),
            "{line} in {sent}"
        );
    }
    assert!(!sent.contains("transfer-encoding"), "{sent}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (address, _) = answering(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let response = client(SystemResolver)
        .send(get(&format!("http://{address}/")), BOUNDS)
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn a_body_is_taken_up_to_its_bound_and_no_further() {
    for (max_body, fits) in [(5, true), (4, false)] {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ] {
            let (address, _) = answering(answer).await;
            let bounds = Bounds { max_body, ..BOUNDS };
            let outcome = client(SystemResolver)
                .send(get(&format!("http://{address}/")), bounds)
                .await;
            match outcome {
                Ok(response) => assert!(fits && response.body().as_ref() == b"hello", "{answer}"),
                Err(FetchError::TooLarge(_, 4)) => assert!(!fits, "{answer}"),
                Err(other) => panic!("{answer}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let (_listener, address) = listening().await;
    let bounds = Bounds {
        timeout: Duration::from_millis(50),
        ..BOUNDS
    };
    let outcome = client(SystemResolver)
        .send(get(&format!("http://{address}/")), bounds)
        .await;
    assert!(
        matches!(outcome, Err(FetchError::Timeout(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_not_http_or_breaks_off_is_a_protocol_error() {
    for answer in [
        "",
        "220 mail.example ESMTP\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
    ] {
        let (address, _) = answering(answer).await;
        let outcome = client(SystemResolver)
            .send(get(&format!("http://{address}/")), BOUNDS)
            .await;
        assert!(
            matches!(outcome, Err(FetchError::Protocol(..))),
            "{answer:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn the_second_address_is_tried_when_the_first_refuses() {
    let (address, _) = answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let response = client(Fixed(vec![deserted().await, address]))
        .send(get("http://gate.test/"), BOUNDS)
        .await
        .expect("an answer");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_a_connect_error() {
    let outcome = client(Fixed(vec![deserted().await]))
        .send(get("http://gate.test/"), BOUNDS)
        .await;
    assert!(
        matches!(outcome, Err(FetchError::Connect(..))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn addresses_are_checked_after_the_name_is_resolved() {
    for (url, address, plain_allowed) in [
        ("http://gate.test/", "10.0.0.1:80", false),
        ("http://gate.test/", "169.254.169.254:80", false),
        ("http://gate.test/", "168.63.129.16:80", true),
        ("http://gate.test/", "10.0.0.1:80", true),
    ] {
        let mut client = client(Fixed(vec![address.parse().expect("an address")]));
        if plain_allowed {
            client = client.allow_plain_link_local();
        }
        let outcome = client.send(get(url), BOUNDS).await;
        assert!(
            matches!(outcome, Err(FetchError::PlainHttpRefused(_))),
            "{url} at {address}: {outcome:?}"
        );
    }
    for address in ["169.254.169.254:443", "168.63.129.16:443", "[fe80::1]:443"] {
        let client = client(Fixed(vec![address.parse().expect("an address")]));
        let outcome = client
            .allow_plain_link_local()
            .send(get("https://gate.test/"), BOUNDS)
            .await;
        assert!(
            matches!(outcome, Err(FetchError::AddressRefused(_))),
            "{address}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn plain_http_may_go_to_link_local_only_where_that_was_said() {
    let target = Target::of(&Uri::from_static("http://169.254.169.254/")).expect("a target");
    let imds = "169.254.169.254".parse().expect("an address");
    assert!(!client(SystemResolver).may_call(&target, imds));
    assert!(
        client(SystemResolver)
            .allow_plain_link_local()
            .may_call(&target, imds)
    );
}

async fn answering_tls(identity: &Identity) -> SocketAddr {
    let (listener, address) = listening().await;
    let acceptor = identity.acceptor.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        if let Ok(stream) = acceptor.accept(stream).await {
            let alpn = stream.get_ref().1.alpn_protocol();
            assert_eq!(alpn, Some(b"http/1.1".as_slice()));
            serve(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        }
    });
    address
}

#[tokio::test]
async fn https_is_spoken_with_whom_the_roots_vouch_for() {
    let identity = identity();
    let address = answering_tls(&identity).await;
    let response = trusting(&identity.pem, Fixed(vec![address]))
        .send(get("https://gate.test/"), BOUNDS)
        .await
        .expect("an answer");
    assert_eq!(response.body().as_ref(), b"hi");
}

#[tokio::test]
async fn https_with_a_stranger_or_under_another_name_is_a_tls_error() {
    let (own, other) = (identity(), identity());
    for (roots, url) in [
        (&other.pem, "https://gate.test/"),
        (&own.pem, "https://another.test/"),
        (&own.pem, "https://127.0.0.1/"),
    ] {
        let address = answering_tls(&own).await;
        let outcome = trusting(roots, Fixed(vec![address]))
            .send(get(url), BOUNDS)
            .await;
        assert!(
            matches!(outcome, Err(FetchError::Tls(..))),
            "{url}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn the_platforms_certificates_are_read_when_tls_is_spoken_and_strangers_refused() {
    let platform = Client::of_platform(Arc::new(SystemResolver));
    let has_read = || matches!(&platform.trust, Trust::Platform(slot) if slot.get().is_some());
    let (address, _) = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let plain = platform.send(get(&format!("http://{address}/")), BOUNDS);
    plain.await.expect("an answer");
    assert!(!has_read());

    let address = answering_tls(&identity()).await;
    let stranger = Client {
        resolver: Arc::new(Fixed(vec![address])),
        ..platform.clone()
    };
    let outcome = stranger.send(get("https://gate.test/"), BOUNDS).await;
    assert!(matches!(outcome, Err(FetchError::Tls(..))), "{outcome:?}");
    assert!(has_read());
}

#[tokio::test]
async fn urls_that_cannot_be_called_are_refused_before_anything_is_sent() {
    for url in [
        "/relative",
        "ftp://gate.test/",
        "http://user:secret@gate.test/",
    ] {
        let outcome = client(SystemResolver).send(get(url), BOUNDS).await;
        assert!(
            matches!(outcome, Err(FetchError::BadRequest(_))),
            "{url}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn no_error_shows_path_query_or_header() {
    let (garbage, _) = answering("garbage\r\n\r\n").await;
    let closed = deserted().await;
    for url in [
        format!("http://{garbage}/planted?sig=planted"),
        format!("http://{closed}/planted?sig=planted"),
        "http://10.0.0.1/planted?sig=planted".to_owned(),
        "http://planted:planted@127.0.0.1/".to_owned(),
    ] {
        let mut request = get(&url);
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, HeaderValue::from_static("planted"));
        let error = client(SystemResolver)
            .send(request, BOUNDS)
            .await
            .expect_err("an error");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("planted"), "{text}");
    }
}
