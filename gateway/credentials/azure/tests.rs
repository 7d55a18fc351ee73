//! Against a small IMDS on loopback. The tests expect an environment without IDENTITY_ENDPOINT, as
//! the crate reads it.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use azure_core::http::Url;
use bytes::Bytes;
use http::{Request, Response};

use super::super::{Credentials, Unavailable};
use super::*;
use crate::clock::{Clock, ManualClock, Now, within};
use crate::net::address::SystemResolver;
use crate::net::client::FetchError;
use crate::net::tls::{Roots, client_config};

const GRANT: &str = r#"{"access_token":"ey.planted.sig","refresh_token":"","expires_in":"3599","expires_on":"1700003600","not_before":"1700000000","resource":"https://management.azure.com/","token_type":"Bearer"}"#;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    path: String,
    query: BTreeMap<String, String>,
    metadata: Option<String>,
}

/// What IMDS was asked and what it is to answer. The last answer is repeated.
struct Imds {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Azure as it is seen from here, with IMDS at this address.
fn source(imds: Option<SocketAddr>) -> Option<AzureSource> {
    let made = rcgen::generate_simple_self_signed(["unused.test".to_owned()]).expect("made");
    let roots = Roots::Pem(made.cert.pem().into_bytes());
    let tls = client_config(&roots, &[]).expect("settings");
    let client = Client::new(&tls, Arc::new(SystemResolver));
    let settings = Settings {
        platform: &client,
        authority: &client,
        vault: &client,
        authority_url: "https://localhost:9".to_owned(),
        clock: Arc::new(crate::clock::SystemClock),
    };
    let source = AzureSource::new(&settings);
    match imds {
        None => Some(source),
        Some(imds) => source.with_imds_at(&settings, imds),
    }
}

type Script = VecDeque<(u16, &'static str)>;

impl Imds {
    async fn answering(answers: &[(u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(answers.iter().copied().collect::<Script>()));
        tokio::spawn(serve(listener, seen.clone(), script));
        Self { address, seen }
    }

    fn source(&self) -> AzureSource {
        source(Some(self.address)).expect("loopback")
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }
}

async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, script: Arc<Mutex<Script>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (seen, script) = (seen.clone(), script.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            seen.lock().expect("not poisoned").push(record(&request));
            let mut script = script.lock().expect("not poisoned");
            let (status, body) = script[0];
            if script.len() > 1 {
                script.pop_front();
            }
            let answer = Response::builder()
                .status(status)
                .header("retry-after", "1")
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .expect("an answer");
            async { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

fn record(request: &Request<Incoming>) -> Seen {
    let url = Url::parse(&format!("http://imds{}", request.uri())).expect("a URL");
    let metadata = request.headers().get("metadata");
    Seen {
        path: url.path().to_owned(),
        query: url.query_pairs().into_owned().collect(),
        metadata: metadata.map(|value| value.to_str().expect("ASCII").to_owned()),
    }
}

fn wanted(identity: Identity) -> Wanted {
    Wanted::Token(WantedToken {
        resource: "https://management.azure.com/".to_owned(),
        identity,
    })
}

fn query(selector: Option<(&str, &str)>) -> BTreeMap<String, String> {
    let all = [
        ("api-version", "2019-08-01"),
        ("resource", "https://management.azure.com/"),
    ];
    all.into_iter()
        .chain(selector)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[tokio::test]
async fn each_kind_of_identity_is_asked_for_as_imds_wants_it() {
    let id = "aaaaaaaa-0000-0000-0000-000000000001";
    let arm_id = "/subscriptions/s/resourcegroups/g/providers/p/userAssignedIdentities/i";
    for (identity, selector) in [
        (Identity::System, None),
        (Identity::ClientId(id.to_owned()), Some(("client_id", id))),
        (Identity::ObjectId(id.to_owned()), Some(("object_id", id))),
        (
            Identity::ResourceId(arm_id.to_owned()),
            Some(("msi_res_id", arm_id)),
        ),
    ] {
        let imds = Imds::answering(&[(200, GRANT)]).await;
        let wanted = wanted(identity);
        let fetched = imds.source().fetch(&wanted, None).await.expect("a token");
        assert_eq!(fetched.secret.expose(), "ey.planted.sig");
        assert_eq!(fetched.expires, Some(Duration::from_secs(1_700_003_600)));
        let expected = Seen {
            path: "/metadata/identity/oauth2/token".to_owned(),
            query: query(selector),
            metadata: Some("true".to_owned()),
        };
        assert_eq!(imds.seen(), [expected], "{wanted}");
    }
}

#[tokio::test]
async fn every_fetch_asks_the_endpoint_though_the_last_token_is_still_good() {
    // The year 2100: good in the eyes of the crate, which reads the machine's clock.
    let good =
        r#"{"access_token":"a","expires_on":"4102444800","resource":"r","token_type":"Bearer"}"#;
    let imds = Imds::answering(&[(200, good)]).await;
    let source = imds.source();
    for _ in 0..3 {
        source
            .fetch(&wanted(Identity::System), None)
            .await
            .expect("a token");
    }
    assert_eq!(imds.seen().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_reported_with_its_code_and_asked_once() {
    for (status, body, code) in [
        (
            400,
            r#"{"error":"invalid_request","error_description":"planted"}"#,
            Some("invalid_request"),
        ),
        (404, "planted", None),
        (429, r#"{"error":"planted with spaces"}"#, None),
        (503, "", None),
        (302, "", None),
    ] {
        let imds = Imds::answering(&[(status, body)]).await;
        let failure = imds.source().fetch(&wanted(Identity::System), None).await;
        let failure = failure.expect_err("refused");
        let FetchFailure::Refused(refusal) = &failure else {
            panic!("{status}: {failure:?}");
        };
        assert_eq!(refusal.status.as_u16(), status);
        assert_eq!(refusal.code.as_deref(), code, "{status}");
        assert_eq!(failure.retry_after(), Some(Duration::from_secs(1)));
        assert!(
            !format!("{failure} {failure:?}").contains("planted"),
            "{failure}"
        );
        assert_eq!(imds.seen().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_token_response_is_a_failure_that_quotes_nothing() {
    for body in [
        "",
        "planted",
        r#"{"access_token":"planted"}"#,
        r#"{"access_token":"planted","expires_on":"planted","resource":"r","token_type":"Bearer"}"#,
        r#"{"access_token":["planted"],"expires_on":"1","resource":"r","token_type":"Bearer"}"#,
    ] {
        let imds = Imds::answering(&[(200, body)]).await;
        let failure = imds.source().fetch(&wanted(Identity::System), None).await;
        let failure = failure.expect_err("unreadable");
        assert!(
            matches!(failure, FetchFailure::Unreadable),
            "{body}: {failure:?}"
        );
        assert!(
            !format!("{failure} {failure:?}").contains("planted"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut imds = Imds::answering(&[(200, GRANT)]).await;
    imds.address = listener.local_addr().expect("an address");
    drop(listener);
    let failure = imds.source().fetch(&wanted(Identity::System), None).await;
    assert!(
        matches!(
            failure,
            Err(FetchFailure::Unreachable(FetchError::Connect(..)))
        ),
        "{failure:?}"
    );
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "a ManualClock starts at some instant"
)]
async fn an_endpoint_that_is_not_up_yet_is_asked_again_by_the_gateways_own_clock() {
    let imds = Imds::answering(&[(404, ""), (200, GRANT)]).await;
    let clock = ManualClock::at(Now {
        unix: Duration::from_secs(1_700_000_000),
        instant: Instant::now(),
    });
    let credentials = Credentials::new(
        Arc::new(clock.clone()),
        Arc::new(imds.source()),
        Handle::current(),
    );
    let slot = credentials.slot(wanted(Identity::System));
    let first = slot.ready(&clock.now(), Duration::from_secs(30)).await;
    let text = "the identity endpoint answered 404".to_owned();
    assert_eq!(first, Err(Unavailable::NoToken(text)));
    clock.advance(Duration::from_secs(2));
    let fetched = async {
        while slot.current(&clock.now()).is_none() {
            tokio::task::yield_now().await;
        }
    };
    within(Duration::from_secs(20), fetched)
        .await
        .expect("a token");
    assert_eq!(imds.seen().len(), 2);
}

#[test]
fn imds_may_be_replaced_by_a_loopback_address_alone() {
    for (imds, taken) in [
        ("127.0.0.1:80", true),
        ("[::1]:80", true),
        ("10.0.0.1:80", false),
    ] {
        let imds = imds.parse().expect("an address");
        assert_eq!(source(Some(imds)).is_some(), taken, "{imds}");
    }
}

#[test]
fn every_kind_of_identity_can_be_had_at_imds() {
    let source = source(None).expect("this machine");
    for identity in [
        Identity::System,
        Identity::ResourceId("/subscriptions/s".to_owned()),
    ] {
        source.check(&wanted(identity)).expect("supported");
    }
}
