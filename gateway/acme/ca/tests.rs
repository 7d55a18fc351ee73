//! What a real CA for tests does not do: limits, suggestions of when to renew, and proxies on the way that answer in its
//! place.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::answers::Answers;
use super::*;
use crate::clock::{Clock, ManualClock, Now, SystemClock};
use crate::net::address::SystemResolver;
use crate::net::client::Client;
use crate::net::tls::{Roots, client_config};

const START: Duration = Duration::from_secs(1_800_000_000);

#[test]
fn patience_grows_and_ends() {
    let mut patience = Patience::default();
    let mut waits = Vec::new();
    while let Some(wait) = patience.next(None) {
        waits.push(wait.as_secs());
    }
    assert_eq!(waits[..6], [1, 2, 4, 8, 16, 30]);
    assert!(waits.iter().sum::<u64>() <= 300);
    let mut patience = Patience::default();
    let of = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(patience.next(of(0)), of(1));
    assert_eq!(patience.next(of(5)), of(5));
    assert_eq!(patience.next(of(4000)), of(30));
}

#[test]
fn a_certificate_is_called_by_its_issuers_key_and_its_serial_number_as_they_are_written() {
    // RFC 9773 section 4.1: these two, of the certificate in its appendix.
    let key = [
        0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0, 0xae,
        0x2c, 0xde, 0x01, 0xc8, 0xd4,
    ];
    let issued = issued(&key, &[0x87, 0x65, 0x43, 0x21]);
    let called = identifier(&issued).expect("a name").to_string();
    assert_eq!(called, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
}

/// A certificate with this serial number, by a CA whose key is called so.
fn issued(issuer: &[u8], serial: &[u8]) -> Issued {
    let mut of_ca = CertificateParams::new([]).expect("no names");
    of_ca.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(issuer.to_vec());
    of_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::Issuer::new(of_ca, KeyPair::generate().expect("a key"));
    let names = names();
    let mut params = CertificateParams::new(names.as_slice()).expect("names");
    params.serial_number = Some(serial.to_vec().into());
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &ca).expect("a certificate");
    let pem = format!("{}{}", key.serialize_pem(), certificate.pem());
    Issued::read(pem.as_bytes(), &names).expect("good")
}

fn names() -> Names {
    Names::of(&["a.example".to_owned()])
}

/// The part of an answer behind `HTTP/1.1`, by the line of the request.
type Answering = fn(&str, &str) -> Option<String>;

fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("{status}\r\ncontent-length: {length}\r\nreplay-nonce: n\r\n{fields}\r\n{body}")
}

/// A CA that makes accounts, and answers all else as it is told to.
async fn ca_that(answering: Answering) -> (Ca, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let root = tempfile::tempdir().expect("a folder");
    fs::set_permissions(root.path(), Permissions::from_mode(0o700)).expect("set");
    let directory: http::Uri = format!("{base}/dir").parse().expect("a URL");
    let folder = Folder::open(root.path(), &directory).expect("opened");
    tokio::spawn(serve(listener, base, answering));
    let tls = client_config(&Roots::Platform, &[]).expect("roots");
    let now = Now {
        unix: START,
        ..SystemClock.now()
    };
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now));
    let ca = Ca {
        settings: Settings {
            directory,
            contact: Vec::new(),
            external_account: None,
            challenge: Challenge::TlsAlpn01,
            folder: root.path().to_owned(),
            client: Client::new(&tls, Arc::new(SystemResolver)),
            clock,
        },
        answers: Answers::new(folder.clone(), Challenge::TlsAlpn01),
        folder,
    };
    (ca, root)
}

async fn serve(listener: TcpListener, base: String, answering: Answering) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                break;
            };
            head.push(byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let told = answering(&base, path).unwrap_or_else(|| usual(&base, path));
        let _ = stream
            .write_all(format!("HTTP/1.1 {told}").as_bytes())
            .await;
        // What is left of the request would reset the connection before its answer is read.
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

fn usual(base: &str, path: &str) -> String {
    match path {
        "/dir" => {
            let of = |name: &str| format!("\"{name}\":\"{base}/{name}\"");
            let names = ["newNonce", "newAccount", "newOrder", "renewalInfo"].map(of);
            answer("200 OK", "", &format!("{{{}}}", names.join(",")))
        }
        "/newAccount" => answer("201 Created", &format!("location: {base}/1\r\n"), "{}"),
        _ => answer("200 OK", "", ""),
    }
}

async fn failure(answering: Answering) -> Failure {
    let (ca, _root) = ca_that(answering).await;
    let obtained = ca.obtain(&names(), None).await;
    obtained.expect_err("a failure")
}

#[tokio::test]
async fn a_limit_is_told_with_the_time_that_the_ca_asks_for() {
    let failure = failure(|_, path| {
        let body = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"}"#;
        let is_order = path == "/newOrder";
        is_order.then(|| answer("429 Too Many Requests", "retry-after: 7200\r\n", body))
    })
    .await;
    assert_eq!(failure.sentence, "the CA refuses: too many (rateLimited)");
    assert_eq!(failure.asked, Some(START + Duration::from_secs(7200)));
}

#[tokio::test]
async fn what_answers_in_the_place_of_the_ca_is_told_apart_from_it() {
    for (answering, said) in [
        (
            (|_, path| (path == "/dir").then(|| answer("502 Bad Gateway", "", "<html>")))
                as Answering,
            "the CA cannot be asked: it answered 502 Bad Gateway, and no ACME",
        ),
        (
            |_, path| (path == "/dir").then(|| answer("404 Not Found", "", "{}")),
            "the CA cannot be asked: it answered 404 Not Found, and no ACME",
        ),
        (
            |_, path| (path == "/newOrder").then(|| answer("403 Forbidden", "", "no")),
            "the CA cannot be asked: it answered 403 Forbidden, and no ACME",
        ),
        (
            |_, path| (path == "/dir").then(|| answer("200 OK", "", "<html>")),
            "the CA's answer is not what ACME says",
        ),
    ] {
        let failure = failure(answering).await;
        assert_eq!(failure.sentence, said);
        assert_eq!(failure.asked, None);
    }
}

#[tokio::test]
async fn a_ca_that_says_when_to_renew_is_heard() {
    let (ca, _root) = ca_that(|_, path| {
        let path = path.strip_prefix("/renewalInfo/")?;
        assert_eq!(path, "AQI.Aw");
        let body =
            r#"{"suggestedWindow":{"start":"2027-02-01T00:00:00Z","end":"2027-02-02T00:00:00Z"}}"#;
        Some(answer("200 OK", "retry-after: 21600\r\n", body))
    })
    .await;
    let issued = issued(&[1, 2], &[3]);
    assert_eq!(
        ca.suggestion(&issued).await,
        None,
        "there is no account yet"
    );
    let failed = ca.obtain(&names(), None).await;
    assert!(failed.is_err(), "it makes an account, and knows no orders");
    let said = ca.suggestion(&issued).await.expect("a suggestion");
    let (start, end) = said.window;
    assert_eq!(
        (start.as_secs(), end.as_secs()),
        (1_801_440_000, 1_801_526_400)
    );
    let again = START + Duration::from_secs(21_600);
    assert_eq!(said.ask_again, Some(again));
}
