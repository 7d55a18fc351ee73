//! Telemetry: collectors, Azure Monitor and the logs' files, as the doctor finds them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use portcullis::demo::ca::Ca;
use portcullis::demo::serve::serve;
use portcullis::doctor::{Area, Finding, Outcome, Report};
use rustix::fs::{CWD, Mode, mkfifoat};

use super::{assert_complains, assert_only, command_in, complaints, examined_after, of, whole};
use crate::resilience::silent;
use crate::support::Scene;
use crate::telemetry::collector::Collector;

const KEY: &str = "00000000-1111-2222-3333-444444444444";

/// A whole scene with more of telemetry.
fn with(telemetry: &str) -> Scene {
    let mut scene = whole();
    let more = scene
        .more
        .replace("telemetry: { ", &format!("telemetry: {{ {telemetry}, "));
    assert_ne!(scene.more, more);
    scene.more = more;
    scene
}

/// The same, with a key in a file.
fn examined(scene: &Scene) -> Report {
    examined_after(scene, false, |folder| {
        fs::write(folder.join("api.key"), "planted-api-key\n").expect("written");
    })
}

/// What is found of telemetry, which is one line.
fn only(report: &Report) -> &Finding {
    let [found] = of(report, Area::Telemetry)[..] else {
        panic!("{:#?}", report.findings);
    };
    found
}

#[test]
fn a_collector_is_asked_to_take_nothing_of_each_signal_with_the_keys_that_it_wants() {
    for (protocol, compression) in [
        ("http/protobuf", "none"),
        ("http/protobuf", "gzip"),
        ("grpc", "none"),
        ("grpc", "gzip"),
    ] {
        let scene = whole();
        let collector = match protocol {
            "grpc" => Collector::grpc(&scene.runtime),
            _ => Collector::http(&scene.runtime),
        };
        let url = collector.url();
        let otlp = |more: &str| {
            format!(
                "otlp: {{ endpoint: '{url}', protocol: {protocol}, compression: {compression}, headers: {{ api-key: {{ file: api.key }} }} {more} }}"
            )
        };
        let report = examined(&with(&otlp("")));
        assert_eq!(complaints(&report), Vec::<&Finding>::new());
        let name = format!("telemetry.otlp {url} (traces, metrics, logs)");
        assert_eq!(only(&report).name, name);
        assert_eq!(only(&report).found, "takes what it is sent");
        let mut asked = collector.taken().asked.clone();
        asked.sort();
        let signals = match protocol {
            "grpc" => [
                "LogsServiceRequest",
                "MetricsServiceRequest",
                "TraceServiceRequest",
            ],
            _ => ["/v1/logs", "/v1/metrics", "/v1/traces"],
        };
        assert_eq!(asked.len(), 3, "{asked:?}");
        for (asked, signal) in asked.iter().zip(signals) {
            assert!(asked.ends_with(signal), "{asked} {signal}");
        }
        {
            let taken = collector.taken();
            assert_eq!(taken.headers["api-key"], "planted-api-key");
            let items = taken.spans.len() + taken.metrics.len() + taken.logs.len();
            assert_eq!((items, taken.resources.len()), (0, 0), "nothing is told");
            if protocol != "grpc" && compression == "none" {
                assert_eq!(taken.headers["content-length"], "0");
            }
        }

        let report = examined(&with(&otlp(", signals: [metrics]")));
        let name = format!("telemetry.otlp {url} (metrics)");
        assert_eq!(only(&report).name, name);
        assert_eq!(collector.taken().asked.len(), 4);
    }
}

#[test]
fn a_collector_behind_tls_proves_its_name() {
    let scene = whole();
    let serving = |ca: &Ca| {
        let tls = ca.server_config(&[b"http/1.1"]).expect("TLS");
        let answer = |_| async { Some(http::Response::new(Full::new(Bytes::new()))) };
        let served = scene.runtime.block_on(serve(Some(tls), answer));
        served.expect("served")
    };
    let (trusted, other) = (serving(&scene.world.ca), Ca::new().expect("a CA"));
    let other = serving(&other);
    let otlp = |port: u16, more: &str| {
        format!("otlp: {{ endpoint: 'https://localhost:{port}/base', {more} }}")
    };
    // The world's CA is another for each scene, so what it has signed is trusted by its certificate alone.
    let ca = scene.world.ca.pem();
    let report_of = |port, more: &str| {
        examined_after(&with(&otlp(port, more)), false, |folder| {
            fs::write(folder.join("collector.crt"), ca).expect("written");
        })
    };
    let report = report_of(trusted.address.port(), "ca: collector.crt");
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    let found = only(&report);
    assert!(
        found.found.ends_with("its certificate verifies"),
        "{found:?}"
    );
    // Paths may be secrets.
    assert!(!found.name.contains("base"), "{found:?}");

    let port = other.address.port();
    let says = [
        "no trusted TLS",
        "`telemetry.otlp.ca` is the CA that signed",
    ];
    let report = report_of(port, "ca: collector.crt");
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "(traces, metrics, logs)",
        &says,
    );
    assert_only(&report, &[Area::Telemetry]);
    let says = ["no trusted TLS", "name that in `telemetry.otlp.ca`"];
    let report = report_of(port, "compression: gzip");
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "(traces, metrics, logs)",
        &says,
    );

    let report = report_of(port, "ca: nowhere.crt");
    let says = [
        "reading telemetry.otlp.ca",
        "nothing that is sent was checked",
    ];
    assert_complains(&report, Area::Telemetry, Outcome::Bad, "export", &says);
}

#[test]
fn what_keeps_telemetry_from_a_collector_is_told_with_what_mends_it() {
    let world = Scene::new();
    let (_held, nobody) = silent();
    let nobody = format!("http://{nobody}");
    let refusing = |protocol: &str, status| {
        let collector = match protocol {
            "grpc" => Collector::grpc(&world.runtime),
            _ => Collector::http(&world.runtime),
        };
        collector.taken().refuses = status;
        collector.url()
    };
    let (http, grpc) = ("http/protobuf", "grpc");
    let rows: [(&str, String, &str, Outcome, [&str; 2]); 12] = [
        (
            "nobody there",
            nobody.clone(),
            http,
            Outcome::Bad,
            ["refused", "HTTP on 4318"],
        ),
        (
            "nobody there",
            nobody,
            grpc,
            Outcome::Bad,
            ["refused", "gRPC on 4317"],
        ),
        (
            "no name",
            "https://nowhere.invalid".to_owned(),
            http,
            Outcome::Bad,
            ["does not resolve", "spelt right"],
        ),
        (
            "no key",
            refusing(http, Some(401)),
            http,
            Outcome::Bad,
            ["it answers 401", "`telemetry.otlp.headers`"],
        ),
        (
            "no key",
            refusing(grpc, Some(16)),
            grpc,
            Outcome::Bad,
            [
                "it answers gRPC status 16 (UNAUTHENTICATED)",
                "`telemetry.otlp.headers`",
            ],
        ),
        (
            "no such path",
            refusing(http, Some(404)),
            http,
            Outcome::Bad,
            ["it answers 404", "mend the path"],
        ),
        (
            "no such service",
            refusing(grpc, Some(12)),
            grpc,
            Outcome::Bad,
            [
                "it answers gRPC status 12 (UNIMPLEMENTED)",
                "switch its receiver on",
            ],
        ),
        (
            "full",
            refusing(http, Some(503)),
            http,
            Outcome::Warning,
            ["it answers 503", "memory limit"],
        ),
        (
            "strict",
            refusing(http, Some(400)),
            http,
            Outcome::Warning,
            ["it answers 400", "no request without an item"],
        ),
        (
            "broken",
            refusing(http, Some(500)),
            http,
            Outcome::Bad,
            ["it answers 500", "own log"],
        ),
        (
            "the port of HTTP",
            refusing(http, None),
            grpc,
            Outcome::Bad,
            ["answers something else", "`protocol: http/protobuf`"],
        ),
        (
            "the port of gRPC",
            refusing(grpc, None),
            http,
            Outcome::Bad,
            ["answers something else", "`protocol: grpc`"],
        ),
    ];
    for (row, url, protocol, outcome, says) in rows {
        let otlp = format!("otlp: {{ endpoint: '{url}', protocol: {protocol} }}");
        let report = examined(&with(&otlp));
        assert!(
            only(&report)
                .name
                .starts_with(&format!("telemetry.otlp {url}")),
            "{row}"
        );
        assert_complains(
            &report,
            Area::Telemetry,
            outcome,
            "(traces, metrics, logs)",
            &says,
        );
        assert_only(&report, &[Area::Telemetry]);
    }
}

#[test]
fn a_key_for_the_collector_that_cannot_be_had_is_told_by_where_it_stands() {
    let scene = Scene::new();
    let collector = Collector::http(&scene.runtime);
    let otlp = |source: &str| {
        format!(
            "otlp: {{ endpoint: '{}', headers: {{ api-key: {source} }} }}",
            collector.url()
        )
    };
    let report = examined(&with(&otlp("{ file: nowhere.key }")));
    let says = ["the diagnostics say why", "`telemetry.otlp.headers`"];
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.otlp",
        &says,
    );
    assert!(report.diagnostics.render().contains("nowhere.key"));

    // The vault is known when the scene is there.
    let mut vaulted = whole();
    let source = format!(
        "{{ keyVault: '{}/secrets/api' }}",
        vaulted.world.vault.url()
    );
    vaulted.more = vaulted.more.replace(
        "telemetry: { ",
        &format!("telemetry: {{ {}, ", otlp(&source)),
    );
    vaulted.world.vault.set("api", "planted-api-key");
    let report = examined(&vaulted);
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    assert_eq!(collector.taken().headers["api-key"], "planted-api-key");
    let asked = collector.taken().asked.len();
    let secrets = of(&report, Area::KeyVault);
    let user = |one: &&Finding| {
        one.name
            .ends_with("/secrets/api (for telemetry.otlp.headers)")
    };
    assert!(
        secrets.into_iter().any(|one| user(&one)),
        "{:#?}",
        report.findings
    );

    vaulted.world.vault.set("api", "planted\nlines");
    let says = ["no value of `api-key`", "one line of ASCII"];
    let report = examined(&vaulted);
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.otlp",
        &says,
    );
    vaulted.world.vault.delete("api");
    let says = ["it was not read", "Key Vault has a line of its own"];
    let report = examined(&vaulted);
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.otlp",
        &says,
    );
    assert_only(&report, &[Area::Telemetry, Area::KeyVault]);
    assert_eq!(
        collector.taken().asked.len(),
        asked,
        "without its key it is not asked"
    );
}

/// What is found of Azure Monitor with this connection string.
fn monitor(string: &str) -> Report {
    let scene = with("azureMonitor: { connectionString: { file: string } }");
    let report = examined_after(&scene, false, |folder| {
        fs::write(folder.join("string"), string).expect("written");
    });
    let told = report.to_json().to_string() + &report.diagnostics.render();
    assert!(!told.contains(KEY), "{told}");
    report
}

#[test]
fn azure_monitor_is_reached_and_told_nothing() {
    let scene = Scene::new();
    let collector = Collector::http(&scene.runtime);
    let url = collector.url();
    let report = monitor(&format!(
        "InstrumentationKey={KEY};IngestionEndpoint={url}/"
    ));
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    assert_eq!(only(&report).name, format!("telemetry.azureMonitor {url}"));
    assert!(only(&report).found.contains("nothing was sent"));
    let taken = collector.taken();
    assert_eq!((taken.connections, taken.asked.len()), (1, 0));
}

#[test]
fn azure_monitor_proves_its_name_to_whom_the_machine_believes() {
    let asked: Arc<AtomicUsize> = Arc::default();
    let scene = with("azureMonitor: { connectionString: { file: string } }");
    let tls = scene.world.ca.server_config(&[b"http/1.1"]).expect("TLS");
    let count = Arc::clone(&asked);
    let answer = move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Some(http::Response::new(Full::new(Bytes::new()))) }
    };
    let served = scene
        .runtime
        .block_on(serve(Some(tls), answer))
        .expect("served");
    let port = served.address.port();
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write(
        "fingerprint.key",
        "planted-fingerprint-key-0123456789abcdef",
    );
    let endpoint = format!("https://localhost:{port}");
    write(
        "string",
        &format!("InstrumentationKey={KEY};IngestionEndpoint={endpoint}/"),
    );
    let output = command_in(&scene, &config)
        .env("SSL_CERT_FILE", folder.path().join("ca.crt"))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let line = format!(
        "\npassed   telemetry     telemetry.azureMonitor {endpoint}: answers, and its certificate verifies; nothing was sent"
    );
    assert!(text.contains(&line), "{text}");
    assert!(!text.contains(KEY), "{text}");
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn what_keeps_telemetry_from_azure_monitor_is_told_with_what_mends_it() {
    let scene = Scene::new();
    let (_held, nobody) = silent();
    let tls = scene.world.ca.server_config(&[b"http/1.1"]).expect("TLS");
    let answer = |_| async { Some(http::Response::new(Full::new(Bytes::new()))) };
    let untrusted = scene
        .runtime
        .block_on(serve(Some(tls), answer))
        .expect("served");
    let port = untrusted.address.port();
    for (rest, says) in [
        (
            format!("IngestionEndpoint=https://localhost:{port}/"),
            ["no trusted TLS", "a proxy breaks TLS"],
        ),
        (
            format!("IngestionEndpoint=http://{nobody}/"),
            ["refused", "that host and port"],
        ),
        (
            "IngestionEndpoint=https://nowhere.invalid/".to_owned(),
            ["does not resolve", "privatelink.monitor.azure.com"],
        ),
    ] {
        let report = monitor(&format!("InstrumentationKey={KEY};{rest}"));
        assert_complains(
            &report,
            Area::Telemetry,
            Outcome::Bad,
            "telemetry.azureMonitor http",
            &says,
        );
        assert_only(&report, &[Area::Telemetry]);
    }
    let says = [
        "the diagnostics say why",
        "overview of the Application Insights resource",
    ];
    let report = monitor("IngestionEndpoint=https://nowhere.invalid/");
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.azureMonitor",
        &says,
    );
    assert!(
        report
            .diagnostics
            .render()
            .contains("no `InstrumentationKey=`")
    );
    assert_only(&report, &[Area::Telemetry, Area::Files]);

    let scene = with("azureMonitor: { connectionString: { file: nowhere } }");
    let report = examined(&scene);
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.azureMonitor",
        &says,
    );

    let mut scene = whole();
    let source = format!("keyVault: '{}/secrets/string'", scene.world.vault.url());
    scene.more = scene.more.replace(
        "telemetry: { ",
        &format!("telemetry: {{ azureMonitor: {{ connectionString: {{ {source} }} }}, "),
    );
    scene.world.vault.set("string", "planted-nonsense");
    let report = examined(&scene);
    let says = [
        "this is no connection string",
        "Application Insights resource",
    ];
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.azureMonitor",
        &says,
    );
    assert_only(&report, &[Area::Telemetry]);
    scene.world.vault.delete("string");
    let report = examined(&scene);
    let says = ["was not read", "see the line of Key Vault first"];
    assert_complains(
        &report,
        Area::Telemetry,
        Outcome::Bad,
        "telemetry.azureMonitor",
        &says,
    );
    let about = "/secrets/string (for telemetry.azureMonitor)";
    assert_complains(
        &report,
        Area::KeyVault,
        Outcome::Bad,
        about,
        &["SecretNotFound"],
    );
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn logs_that_can_be_written_are_told_so_and_nothing_is_made_or_changed() {
    let logs = tempfile::tempdir().expect("a folder");
    let path = logs.path();
    fs::write(path.join("requests"), "one\n").expect("written");
    let written = |rotate: &str| {
        with(&format!(
            "requestLog: {{ path: '{at}/requests' {rotate} }}, decisionLog: {{ path: '{at}/decisions' }}",
            at = path.display()
        ))
    };
    for (rotate, says) in [
        ("", "can be appended to"),
        (
            ", rotate: { size: 1MiB }",
            "can be appended to, and put aside",
        ),
    ] {
        let report = examined(&written(rotate));
        assert_eq!(complaints(&report), Vec::<&Finding>::new());
        let found = of(&report, Area::Telemetry);
        let found: Vec<_> = found.iter().map(|one| (&*one.name, &*one.found)).collect();
        let (requests, decisions) = (
            format!("telemetry.requestLog {}/requests", path.display()),
            format!("telemetry.decisionLog {}/decisions", path.display()),
        );
        assert_eq!(found, [(&*requests, says), (&*decisions, "can be made")]);
        assert_eq!(names(path), ["requests"]);
        assert_eq!(fs::read(path.join("requests")).expect("a file"), b"one\n");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_told_with_what_mends_it() {
    let logs = tempfile::tempdir().expect("a folder");
    let path = logs.path();
    fs::write(path.join("file"), "").expect("written");
    fs::create_dir(path.join("folder")).expect("made");
    mkfifoat(CWD, path.join("pipe"), Mode::RUSR | Mode::WUSR).expect("a pipe");
    symlink(path.join("nowhere/log"), path.join("link")).expect("a link");
    let at = |name: &str| path.join(name).display().to_string();
    for (file, rotate, says) in [
        (
            at("nowhere/log"),
            "",
            ["cannot be written", "make the folder"],
        ),
        (at("file/log"), "", ["cannot be written", "make the folder"]),
        (at("folder"), "", ["cannot be written", "name a file"]),
        (at("link"), "", ["cannot be written", "make the folder"]),
        (
            at("pipe"),
            "",
            ["it is a pipe that nobody reads", "begin to read a pipe"],
        ),
        (
            "/dev/null".to_owned(),
            ", rotate: { size: 1MiB }",
            ["it is a pipe or a device", "for files alone"],
        ),
        // A file that whoever runs this may write, in a folder where nobody may make one.
        (
            "/proc/self/comm".to_owned(),
            ", rotate: { size: 1MiB }",
            ["but not put aside", "write in /proc/self"],
        ),
    ] {
        for log in ["requestLog", "decisionLog"] {
            let report = examined(&with(&format!("{log}: {{ path: '{file}' {rotate} }}")));
            let about = format!("telemetry.{log} {file}");
            assert_complains(&report, Area::Telemetry, Outcome::Bad, &about, &says);
            assert_only(&report, &[Area::Telemetry]);
        }
    }
    assert_eq!(names(path), ["file", "folder", "link", "pipe"]);
}

#[test]
fn a_pipe_that_is_read_can_be_appended_to() {
    let logs = tempfile::tempdir().expect("a folder");
    let pipe = logs.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    // Opened to write, too, it waits for nobody.
    let mut options = fs::OpenOptions::new();
    let _reader = options.read(true).write(true).open(&pipe).expect("open");
    let report = examined(&with(&format!(
        "decisionLog: {{ path: '{}' }}",
        pipe.display()
    )));
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    assert_eq!(only(&report).found, "can be appended to");
}
