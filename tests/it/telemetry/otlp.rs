//! Export over OTLP.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use portcullis::demo::names::{CONTOSO, MARKETING_PORTAL};

use super::collector::{Collector, attributes, hex};
use super::{metric, passing, scene};
use crate::edge::{Process, ask, gateway, shake};
use crate::support::{Answer, RawBackend, Scene, Stage, Step, patiently};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn over_http(more: &str) -> (Collector, RawBackend, Scene) {
    let (raw, mut scene) = scene("");
    let collector = Collector::http(&scene.runtime);
    let url = collector.url();
    scene.more =
        format!("telemetry: {{ metricsInterval: 1s, otlp: {{ endpoint: '{url}' {more} }} }}\n");
    (collector, raw, scene)
}

fn id(answer: &Answer) -> String {
    answer
        .header("x-request-id")
        .expect("a request ID")
        .to_owned()
}

/// The counted items of a signal.
fn counted(stage: &Stage, name: &str) -> f64 {
    metric(stage, name).expect("a counter")
}

#[test]
fn a_request_is_two_spans_that_join_the_callers_and_the_backends() {
    let (collector, raw, scene) = over_http(", decisions: all");
    let stage = scene.start();
    let answer = stage
        .call("GET", "/guests/7?sig=planted-sig")
        .portal()
        .header("traceparent", PARENT)
        .send();
    assert_eq!(answer.verdict(), "200");
    passing(&stage, "two spans and a record", || {
        let taken = collector.taken();
        taken.spans.len() == 2 && !taken.logs.is_empty()
    });
    let taken = collector.taken();
    let of_kind = |kind| {
        taken
            .spans
            .iter()
            .find(|span| span.kind == kind)
            .expect("a span")
    };
    let (served, sent) = (of_kind(SERVER), of_kind(CLIENT));
    assert_eq!(hex(&served.trace_id), TRACE);
    assert_eq!(hex(&sent.trace_id), TRACE);
    assert_eq!(hex(&served.parent_span_id), "b7ad6b7169203331");
    assert_eq!(sent.parent_span_id, served.span_id);
    // What the backend was told is the span of the request that was sent to it.
    let told = format!("traceparent: 00-{TRACE}-{}-01\r\n", hex(&sent.span_id));
    assert!(raw.only().contains(&told), "{}", raw.only());
    assert_eq!((&*served.name, &*sent.name), ("GET /guests/{id}", "GET"));
    assert!(served.start_time_unix_nano <= sent.start_time_unix_nano);
    assert!(sent.end_time_unix_nano <= served.end_time_unix_nano);
    let site = raw.url().replace("http://", "");
    let (host, port) = site.trim_end_matches('/').rsplit_once(':').expect("a port");
    let id = id(&answer);
    let expected = [
        ("http.request.method", "GET"),
        ("url.scheme", "https"),
        ("url.path", "/guests/7"),
        ("server.address", "localhost"),
        ("http.route", "/guests/{id}"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("client.address", "127.0.0.1"),
        ("portcullis.request.id", &id),
        ("portcullis.decision", "allow"),
        ("portcullis.reason", "rule"),
        ("portcullis.route", "guests"),
        ("security_rule.name", "allow[0]"),
        ("portcullis.backend", "raw"),
        ("portcullis.tenant.id", CONTOSO),
        ("portcullis.tenant.name", "contoso"),
        ("portcullis.app.id", MARKETING_PORTAL),
        ("portcullis.app.name", "marketing-portal"),
        (
            "portcullis.principal.id",
            "0b1ec7aa-0000-0000-0000-000000000001",
        ),
        ("portcullis.token.kind", "appOnly"),
        ("portcullis.token.version", "v2"),
        ("portcullis.keys", "sig"),
        ("portcullis.sas.keys", "sig"),
    ];
    let mut told = attributes(&served.attributes);
    told.remove("portcullis.sas.fingerprint")
        .expect("a fingerprint");
    told.remove("server.port");
    assert_eq!(told, map(&expected));
    let expected = [
        ("http.request.method", "GET"),
        ("server.address", host),
        ("server.port", port),
        ("url.scheme", "http"),
        ("portcullis.backend", "raw"),
        ("http.response.status_code", "200"),
    ];
    assert_eq!(attributes(&sent.attributes), map(&expected));
    let record = taken
        .logs
        .iter()
        .find(|log| log.event_name == "portcullis.decision");
    let record = record.expect("a decision");
    assert_eq!(record.trace_id, served.trace_id);
    assert_eq!(record.span_id, served.span_id);
    let record = attributes(&record.attributes);
    assert_eq!(record["portcullis.request.id"], id);
    assert_eq!(record["portcullis.app.name"], "marketing-portal");
    let resource = taken.resources.first().expect("a resource");
    let resource = attributes(&resource.attributes);
    assert_eq!(resource["service.name"], "portcullis");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(!resource["service.instance.id"].is_empty());
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn grpc_carries_all_three_signals_and_what_the_operator_adds() {
    let (raw, mut scene) = scene("");
    let collector = Collector::grpc(&scene.runtime);
    let url = collector.url();
    let key = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(key.path(), "planted-api-key\n").expect("written");
    scene.more = format!(
        "telemetry: {{ serviceName: edge, resource: {{ deployment.environment.name: test, service.instance.id: blue }}, metricsInterval: 1s, otlp: {{ endpoint: '{url}', protocol: grpc, compression: gzip, headers: {{ api-key: {{ file: '{}' }} }} }} }}\n",
        key.path().display()
    );
    let stage = scene.start();
    let refused = stage.call("GET", "/guests/7").send();
    assert_eq!(refused.verdict(), "401 token-missing");
    passing(&stage, "all three signals", || {
        let taken = collector.taken();
        let decided = taken
            .logs
            .iter()
            .any(|log| log.event_name == "portcullis.decision");
        !taken.spans.is_empty() && !taken.metrics.is_empty() && decided
    });
    let taken = collector.taken();
    assert_eq!(taken.headers["api-key"], "planted-api-key");
    let span = attributes(&taken.spans[0].attributes);
    assert_eq!(span["error.type"], "token-missing");
    // A refused caller is no error of the server's.
    assert_eq!(
        taken.spans[0]
            .status
            .as_ref()
            .map_or(0, |status| status.code),
        0
    );
    let resource = attributes(&taken.resources[0].attributes);
    assert_eq!(resource["service.name"], "edge");
    assert_eq!(resource["deployment.environment.name"], "test");
    assert_eq!(resource["service.instance.id"], "blue");
    drop((taken, raw));
}

#[test]
fn metrics_have_the_names_and_labels_of_the_conventions() {
    let (collector, _raw, scene) = over_http("");
    let stage = scene.start();
    for _ in 0..3 {
        assert_eq!(
            stage.call("GET", "/guests/7").portal().send().verdict(),
            "200"
        );
    }
    let is_told = |name: &str, count: u64| {
        let taken = collector.taken();
        let metric = taken
            .metrics
            .iter()
            .rev()
            .find(|metric| metric.name == name);
        let points = metric.map(|metric| match metric.data.as_ref().expect("data") {
            Data::Histogram(histogram) => {
                histogram.data_points.iter().map(|point| point.count).sum()
            }
            _ => 0,
        });
        points == Some(count)
    };
    passing(&stage, "three requests", || {
        is_told("http.server.request.duration", 3)
    });
    passing(&stage, "their spans", || collector.taken().spans.len() == 6);
    let taken = collector.taken();
    let latest = |name: &str| {
        let mut metrics = taken.metrics.iter().rev();
        metrics
            .find(|metric| metric.name == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    let served = latest("http.server.request.duration");
    assert_eq!(served.unit, "s");
    let Some(Data::Histogram(histogram)) = &served.data else {
        panic!("a histogram");
    };
    assert_eq!(histogram.aggregation_temporality, 2);
    let [point] = &histogram.data_points[..] else {
        panic!("one series: {histogram:?}");
    };
    assert_eq!(
        point.explicit_bounds,
        [
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0
        ]
    );
    assert_eq!(point.bucket_counts.len(), 15);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3);
    let expected = [
        ("http.request.method", "GET"),
        ("url.scheme", "https"),
        ("http.route", "/guests/{id}"),
        ("http.response.status_code", "200"),
        ("network.protocol.version", "1.1"),
        ("route", "guests"),
    ];
    assert_eq!(attributes(&point.attributes), map(&expected));
    // An exemplar leads to a span that was recorded.
    let exemplar = point.exemplars.first().expect("an exemplar");
    let mut spans = taken.spans.iter();
    let place = (&exemplar.trace_id, &exemplar.span_id);
    assert!(
        spans.any(|span| (&span.trace_id, &span.span_id) == place),
        "{exemplar:?}"
    );
    let Some(Data::Sum(sum)) = &latest("portcullis.decisions").data else {
        panic!("a sum");
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.data_points[0].value, Some(Value::AsInt(3)));
    let Some(Data::Sum(active)) = &latest("http.server.active_requests").data else {
        panic!("a sum");
    };
    assert!(!active.is_monotonic);
    assert!(matches!(
        latest("portcullis.check").data,
        Some(Data::Gauge(_))
    ));
}

#[test]
fn with_delta_each_request_is_told_once() {
    let (collector, _raw, scene) = over_http(", temporality: delta");
    let stage = scene.start();
    let told = || -> i64 {
        let taken = collector.taken();
        let decisions = taken
            .metrics
            .iter()
            .filter(|metric| metric.name == "portcullis.decisions");
        let points = decisions.flat_map(|metric| match &metric.data {
            Some(Data::Sum(sum)) => {
                assert_eq!(sum.aggregation_temporality, 1);
                sum.data_points.clone()
            }
            _ => panic!("a sum"),
        });
        points
            .map(|point| match point.value {
                Some(Value::AsInt(count)) => count,
                _ => panic!("whole"),
            })
            .sum()
    };
    for round in 1..=3 {
        assert_eq!(
            stage.call("GET", "/guests/7").portal().send().verdict(),
            "200"
        );
        passing(&stage, "the request", || told() >= round);
        let before = collector.taken().metrics.len();
        passing(&stage, "another interval", || {
            collector.taken().metrics.len() > before
        });
        assert_eq!(told(), round);
    }
}

#[test]
fn traces_are_sampled_by_ratio_and_refusals_always_told() {
    let (collector, _raw, mut scene) = over_http("");
    scene.more = scene.more.replace(
        "telemetry: {",
        "telemetry: { traces: { ratio: 0, parent: continue },",
    );
    let stage = scene.start();
    // The caller's wish counts for nothing here.
    let sampled = stage
        .call("GET", "/guests/7")
        .portal()
        .header("traceparent", PARENT);
    assert_eq!(sampled.send().verdict(), "200");
    let refused = stage.call("GET", "/guests/8").send();
    assert_eq!(refused.verdict(), "401 token-missing");
    // One that has no form that anybody can read is told, too, in the trace that it brought.
    let unreadable = stage
        .call("GET", "/guests/%2e%2e%2f")
        .header("traceparent", PARENT)
        .send();
    assert_eq!(unreadable.verdict(), "400 ambiguous-path");
    passing(&stage, "two spans", || collector.taken().spans.len() >= 2);
    let taken = collector.taken();
    let reasons: Vec<String> = taken
        .spans
        .iter()
        .map(|span| attributes(&span.attributes)["portcullis.reason"].clone())
        .collect();
    assert_eq!(reasons, ["token-missing", "ambiguous-path"]);
    let [refused, unreadable] = &taken.spans[..] else {
        panic!("two spans");
    };
    assert_ne!(hex(&refused.trace_id), TRACE);
    assert_eq!(hex(&unreadable.trace_id), TRACE);
    assert!(PARENT.contains(&hex(&unreadable.parent_span_id)));
    // Of a parent that there is not nobody says that it is remote.
    let flags = [refused, unreadable].map(|span| span.flags & 0x300);
    assert_eq!(flags, [0x100, 0x300]);
}

#[test]
fn the_gateways_own_failure_is_an_error_of_its_spans() {
    let (collector, _raw, scene) = over_http("");
    let stage = scene
        .backend("gone", "http: 'http://127.0.0.1:9', credential: none")
        .portal_route("gone", "GET", "/gone", "gone")
        .start();
    assert_eq!(stage.call("GET", "/gone").portal().send().status, 502);
    passing(&stage, "two spans", || collector.taken().spans.len() == 2);
    let taken = collector.taken();
    for span in &taken.spans {
        let status = span.status.as_ref().expect("a status");
        assert_eq!(status.code, ERROR, "{span:?}");
        let reason = &attributes(&span.attributes)["error.type"];
        assert_eq!(reason, "backend-connection-refused");
    }
}

#[test]
fn a_collector_that_refuses_or_is_late_costs_telemetry_and_no_request() {
    let (collector, _raw, scene) = over_http(", signals: [traces], timeout: 1s");
    collector.taken().refuses = Some(503);
    let stage = scene.start();
    let exported = "portcullis_telemetry_exported_total{signal=\"traces\"}";
    let dropped = |reason: &str| {
        format!("portcullis_telemetry_dropped_total{{signal=\"traces\",reason=\"{reason}\"}}")
    };
    let ask = || {
        assert_eq!(
            stage.call("GET", "/guests/7").portal().send().verdict(),
            "200"
        )
    };
    ask();
    // It is tried again, and taken when the collector is well.
    passing(&stage, "attempts", || collector.taken().refused >= 3);
    collector.taken().refuses = None;
    passing(&stage, "the spans", || collector.taken().spans.len() == 2);
    stage.until("the count", |stage| counted(stage, exported) == 2.0);
    assert_eq!(counted(&stage, &dropped("failed")), 0.0);
    // After a minute it is given up.
    collector.taken().refuses = Some(503);
    ask();
    passing(&stage, "the end", || collector.taken().refused > 6);
    stage.until("the loss", |stage| {
        stage.clock.advance(std::time::Duration::from_secs(1));
        counted(stage, &dropped("failed")) == 2.0
    });
    // What is refused for good is not tried again.
    collector.taken().refuses = Some(400);
    ask();
    stage.until("the refusal", |stage| {
        stage.clock.advance(std::time::Duration::from_millis(2));
        counted(stage, &dropped("refused")) == 2.0
    });
    // Of what was taken, a part may not have been wanted.
    collector.taken().refuses = None;
    collector.taken().rejects = 1;
    ask();
    stage.until("the rest", |stage| {
        stage.clock.advance(std::time::Duration::from_millis(2));
        counted(stage, exported) == 3.0 && counted(stage, &dropped("refused")) == 3.0
    });
    assert_eq!(
        collector.taken().connections,
        1,
        "one connection serves all"
    );
}

#[test]
fn what_is_left_is_sent_when_the_gateway_ends() {
    let (collector, _raw, scene) = over_http(", signals: [traces]");
    let mut stage = scene.start();
    assert_eq!(
        stage.call("GET", "/guests/7").portal().send().verdict(),
        "200"
    );
    stage.gateway.take().expect("running").drain(true);
    assert_eq!(collector.taken().spans.len(), 2);
}

#[test]
fn what_is_not_taken_in_time_when_the_gateway_ends_is_told() {
    let (_raw, mut scene) = scene("");
    let deaf = RawBackend::start(&scene, vec![Step::Wait]);
    let url = deaf.url();
    let url = url.trim_end_matches('/');
    scene.more = format!("telemetry: {{ otlp: {{ endpoint: '{url}', signals: [traces] }} }}\n");
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(gateway(&scene.write(folder.path())));
    scene.runtime.block_on(async {
        let connected = shake(&scene, process.address, b"http/1.1").await;
        let mut stream = connected.expect("let in");
        let refused = "GET /guests/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert!(ask(&mut stream, refused).await.starts_with("HTTP/1.1 401"));
        // One span is being sent, two wait for the next request.
        patiently(deaf.saw(|seen| seen.requests.len() == 1)).await;
        for _ in 0..2 {
            assert!(ask(&mut stream, refused).await.starts_with("HTTP/1.1 401"));
        }
    });
    process.ask_to_end();
    let lost = process.event("export-lost");
    let to = url.trim_start_matches("http://");
    assert_eq!(
        lost["detail"],
        format!("3 items of traces did not come to {to}: the gateway ends")
    );
    process.event("ended");
}

#[test]
fn plain_http_to_another_machine_is_refused_unless_it_is_written() {
    let (_collector, _raw, scene) = over_http("");
    let folder = tempfile::tempdir().expect("a folder");
    let path = scene.write(folder.path());
    let text = std::fs::read_to_string(&path).expect("a file");
    let elsewhere = |more: &str| {
        let otlp = format!(
            "telemetry: {{ otlp: {{ endpoint: 'http://collector.example:4318'{more} }} }}\n"
        );
        let kept = text.lines().filter(|line| !line.starts_with("telemetry"));
        kept.map(|line| format!("{line}\n")).collect::<String>() + &otlp
    };
    let faults = |document: &str| crate::documents::gateway_faults(document).render();
    let told = faults(&elsewhere(""));
    assert!(
        told.contains("plain `http` is for this machine alone"),
        "{told}"
    );
    assert_eq!(faults(&elsewhere(", insecure: true")), "");
    let whole = elsewhere("").replace(
        "http://collector.example:4318",
        "https://collector.example/v1/traces",
    );
    let told = faults(&whole);
    assert!(
        told.contains("not the base of a collector's URLs"),
        "{told}"
    );
    let framing = elsewhere(", insecure: true, headers: { content-length: { env: X } }");
    let told = faults(&framing);
    assert!(told.contains("the gateway's own to write"), "{told}");
    for (logs, says) in [
        (
            "requestLog: { path: a.log }, decisionLog: { path: ./a.log }",
            "two logs cannot go to one file",
        ),
        (
            "decisionLog: { path: stdout, rotate: { size: 1MiB } }",
            "nothing that can be put aside",
        ),
    ] {
        let kept = text.lines().filter(|line| !line.starts_with("telemetry"));
        let document = kept.map(|line| format!("{line}\n")).collect::<String>();
        let told = faults(&format!("{document}telemetry: {{ {logs} }}\n"));
        assert!(told.contains(says), "{logs}: {told}");
    }
}
