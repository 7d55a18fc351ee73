//! Export to Azure Monitor, to a receiver that takes no envelope but those of the schema.

use std::convert::Infallible;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{metric, passing};
use crate::support::{RawBackend, Scene, Stage, Step};

const KEY: &str = "00000000-1111-2222-3333-444444444444";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[derive(Default)]
struct Taken {
    envelopes: Vec<Value>,
    /// What the next requests are answered with, each a status and a body.
    answers: Vec<(u16, Value)>,
}

#[derive(Clone)]
struct Receiver {
    taken: Arc<Mutex<Taken>>,
    address: SocketAddr,
}

impl Receiver {
    fn start(runtime: &Runtime) -> Self {
        let taken: Arc<Mutex<Taken>> = Arc::default();
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("bound");
        let address = listener.local_addr().expect("an address");
        let state = Arc::clone(&taken);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| track(Arc::clone(&state), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { taken, address }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("not poisoned")
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        let taken = self.taken();
        let envelopes = taken.envelopes.iter();
        envelopes
            .filter(|envelope| envelope["data"]["baseType"] == kind)
            .cloned()
            .collect()
    }
}

async fn track(
    state: Arc<Mutex<Taken>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let schema: Value = serde_json::from_str(include_str!("envelope.schema.json")).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("POST", "/v2.1/track")
    );
    assert_eq!(
        request.headers()["content-type"],
        "application/x-json-stream"
    );
    assert_eq!(request.headers()["content-encoding"], "gzip");
    let body = request
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let mut text = String::new();
    GzDecoder::new(&*body)
        .read_to_string(&mut text)
        .expect("gzip");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let envelopes: Vec<Value> = lines.collect();
    for envelope in &envelopes {
        let faults: Vec<String> = schema
            .iter_errors(envelope)
            .map(|fault| fault.to_string())
            .collect();
        assert!(faults.is_empty(), "{faults:?} in {envelope:#}");
        assert_eq!(envelope["iKey"], KEY);
    }
    let mut taken = state.lock().expect("not poisoned");
    let (status, body) = match taken.answers.is_empty() {
        true => {
            let count = envelopes.len();
            (
                200,
                json!({ "itemsReceived": count, "itemsAccepted": count, "errors": [] }),
            )
        }
        false => taken.answers.remove(0),
    };
    if status == 200 {
        taken.envelopes.extend(envelopes);
    }
    let answer = Response::builder()
        .status(status)
        .body(Full::from(body.to_string()));
    Ok(answer.expect("an answer"))
}

fn scene(more: &str) -> (Receiver, RawBackend, Scene) {
    let mut scene = Scene::new();
    let receiver = Receiver::start(&scene.runtime);
    let raw = RawBackend::start(
        &scene,
        vec![Step::text(
            "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
        )],
    );
    scene.more = format!(
        "telemetry: {{ metricsInterval: 1s, azureMonitor: {{ connectionString: {{ file: connection }} }} {more} }}\n"
    );
    let scene = scene
        .raw("raw", &raw)
        .backend("gone", "http: 'http://127.0.0.1:9', credential: none")
        .portal_route("gone", "GET", "/gone", "gone")
        .portal_route("guests", "GET, POST", "/guests/{id}", "raw");
    (receiver, raw, scene)
}

fn start(receiver: &Receiver, scene: Scene) -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let address = receiver.address;
    let text = format!(
        "InstrumentationKey={KEY};IngestionEndpoint=http://{address}/;LiveEndpoint=https://x.example/\n"
    );
    std::fs::write(folder.path().join("connection"), text).expect("written");
    let config = scene.write(folder.path());
    let mut stage = scene.start_at(&config);
    stage.folder = folder;
    stage
}

#[test]
fn requests_land_in_their_tables_and_join_with_what_the_backend_tells() {
    let (receiver, raw, scene) = scene("");
    let stage = start(&receiver, scene);
    let call = stage.call("GET", "/guests/7?sig=planted-sig").portal();
    let answer = call.header("traceparent", PARENT).send();
    assert_eq!(answer.verdict(), "404");
    passing(&stage, "a request", || {
        !receiver.of_kind("RequestData").is_empty()
    });
    passing(&stage, "metrics", || {
        !receiver.of_kind("MetricData").is_empty()
    });
    let [request] = &receiver.of_kind("RequestData")[..] else {
        panic!("one request");
    };
    assert_eq!(request["name"], "Microsoft.ApplicationInsights.Request");
    assert_eq!(request["tags"]["ai.operation.id"], TRACE);
    assert_eq!(request["tags"]["ai.operation.parentId"], "b7ad6b7169203331");
    assert_eq!(request["tags"]["ai.operation.name"], "GET /guests/{id}");
    assert_eq!(request["tags"]["ai.cloud.role"], "portcullis");
    let data = &request["data"]["baseData"];
    assert_eq!(data["name"], "GET /guests/{id}");
    assert_eq!(data["responseCode"], "404");
    assert_eq!(data["success"], false);
    assert_eq!(data["url"], "https://localhost/guests/7");
    assert_eq!(
        data["properties"]["portcullis.app.name"],
        "marketing-portal"
    );
    assert_eq!(data["properties"]["portcullis.sas.keys"], "sig");
    let [dependency] = &receiver.of_kind("RemoteDependencyData")[..] else {
        panic!("one dependency");
    };
    assert_eq!(dependency["tags"]["ai.operation.id"], TRACE);
    assert_eq!(dependency["tags"]["ai.operation.parentId"], data["id"]);
    let called = &dependency["data"]["baseData"];
    let url = raw.url();
    assert_eq!(called["target"], url.trim_start_matches("http://"));
    assert_eq!(called["data"], url);
    assert_eq!(called["type"], "HTTP");
    let span = called["id"].as_str().expect("an ID");
    let told = format!("traceparent: 00-{TRACE}-{span}-01\r\n");
    assert!(raw.only().contains(&told), "{}", raw.only());
    let metrics = receiver.of_kind("MetricData");
    let named = |name: &str| {
        let mut metrics = metrics.iter().map(|metric| &metric["data"]["baseData"]);
        metrics
            .find(|data| data["metrics"][0]["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    let decisions = named("portcullis.decisions");
    assert_eq!(
        decisions["properties"],
        json!({ "route": "guests", "decision": "allow", "reason": "rule" })
    );
    assert_eq!(decisions["metrics"][0]["value"], 1.0);
    let served = named("http.server.request.duration");
    assert_eq!(served["metrics"][0]["count"], 1);
    assert_eq!(served["properties"]["http.route"], "/guests/{id}");
}

#[test]
fn refusals_are_events_and_the_gateways_own_failures_exceptions() {
    let (receiver, _raw, scene) = scene(", traces: { ratio: 0 }");
    let stage = start(&receiver, scene);
    assert_eq!(
        stage.call("GET", "/guests/7").send().verdict(),
        "401 token-missing"
    );
    assert_eq!(stage.call("GET", "/gone").portal().send().status, 502);
    // Neither is this one taken, for it was let in.
    assert_eq!(
        stage.call("GET", "/guests/8").portal().send().verdict(),
        "404"
    );
    passing(&stage, "both", || {
        receiver.of_kind("RequestData").len() == 2
    });
    let reasons = |kind: &str, place: &str| -> Vec<Value> {
        let envelopes = receiver.of_kind(kind);
        envelopes
            .iter()
            .map(|envelope| envelope.pointer(place).expect(place).clone())
            .collect()
    };
    let reason = "/data/baseData/properties/portcullis.reason";
    let expected = [json!("token-missing"), json!("backend-connection-refused")];
    assert_eq!(reasons("RequestData", reason), expected);
    assert_eq!(
        reasons("RequestData", "/sampleRate"),
        [json!(100.0), json!(100.0)]
    );
    assert_eq!(reasons("EventData", reason), expected);
    assert_eq!(
        reasons("EventData", "/data/baseData/name"),
        [json!("portcullis.decision"), json!("portcullis.decision")]
    );
    let thrown = reasons("ExceptionData", "/data/baseData/exceptions/0/typeName");
    assert_eq!(thrown, [json!("backend-connection-refused")]);
}

#[test]
fn what_was_sampled_says_how_many_it_stands_for() {
    let (receiver, _raw, scene) = scene(", traces: { ratio: 0.5, parent: continue }");
    let stage = start(&receiver, scene);
    for last in ["0000000000000000", "ffffffffffffffff"] {
        let parent = format!("00-ffffffffffffffff{last}-b7ad6b7169203331-01");
        let call = stage
            .call("GET", "/guests/7")
            .portal()
            .header("traceparent", &parent);
        assert_eq!(call.send().verdict(), "404");
    }
    passing(&stage, "one of them", || {
        !receiver.of_kind("RequestData").is_empty()
    });
    let [request] = &receiver.of_kind("RequestData")[..] else {
        panic!("one of two");
    };
    assert_eq!(request["sampleRate"], 50.0);
    assert_eq!(
        request["tags"]["ai.operation.id"],
        "ffffffffffffffff0000000000000000"
    );
}

#[test]
fn the_gateways_events_are_traces() {
    let (receiver, _raw, scene) = scene("");
    let stage = start(&receiver, scene);
    let path = stage.folder.path().join("policy.yaml");
    std::fs::write(&path, "routes: {").expect("written");
    stage.gateway().reload();
    stage.until_refused(1);
    let refused = || {
        let messages = receiver.of_kind("MessageData").into_iter();
        messages
            .map(|message| message["data"]["baseData"].clone())
            .find(|data| data["properties"]["event.name"] == "reload-refused")
    };
    passing(&stage, "the event", || refused().is_some());
    assert_eq!(refused().expect("told")["severityLevel"], 3);
}

#[test]
fn what_the_service_did_not_take_is_sent_again_if_that_may_help() {
    let (receiver, _raw, scene) = scene("");
    let later = json!({ "itemsReceived": 2, "itemsAccepted": 1, "errors": [{ "index": 0, "statusCode": 503, "message": "busy" }] });
    receiver
        .taken()
        .answers
        .extend([(503, Value::Null), (429, Value::Null), (206, later)]);
    let stage = start(&receiver, scene);
    assert_eq!(
        stage.call("GET", "/guests/7").send().verdict(),
        "401 token-missing"
    );
    passing(&stage, "the rest", || {
        !receiver.taken().envelopes.is_empty()
    });
    let dropped = |reason: &str| {
        let name = format!(
            "portcullis_telemetry_dropped_total{{signal=\"azure-monitor\",reason=\"{reason}\"}}"
        );
        metric(&stage, &name)
    };
    assert_eq!(
        (dropped("failed"), dropped("refused")),
        (Some(0.0), Some(0.0))
    );
    receiver.taken().answers.push((400, Value::Null));
    assert_eq!(
        stage.call("GET", "/guests/7").send().verdict(),
        "401 token-missing"
    );
    passing(&stage, "the refusal", || dropped("refused") > Some(0.0));
}

#[test]
fn a_connection_string_that_is_none_is_refused_and_not_told() {
    let (_receiver, _raw, scene) = scene("");
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!("InstrumentationKey={KEY};planted-nonsense");
    std::fs::write(folder.path().join("connection"), text).expect("written");
    let config = scene.write(folder.path());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("a part of it is not `name=value`"), "{told}");
    assert!(told.contains("connectionString"), "{told}");
    assert!(!told.contains(KEY) && !told.contains("planted"), "{told}");
}
