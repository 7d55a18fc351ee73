//! The whole gateway, which orders its own certificates and answers the CA on its own listeners.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::handshake::{Caller, shake};
use crate::support::{RawBackend, Scene, Stage, Stopping};

use super::pebble::{Pebble, Ports};

const NAME: &str = "api.contoso.example";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A port that was free just now: the CA has to be told of it before the gateway begins.
fn free_port() -> u16 {
    let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    probe.local_addr().expect("an address").port()
}

fn scene(pebble: &Pebble, challenge: &str, listeners: Vec<String>) -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.listeners = listeners;
    scene.more += &format!(
        "acme: {{ directory: '{}', termsOfServiceAgreed: true, folder: acme, challenge: {challenge}, ca: pebble.pem }}\n",
        pebble.directory()
    );
    let scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw");
    (raw, scene)
}

fn start(scene: Scene, pebble: &Pebble) -> Stage {
    scene.start_unready_after(|folder| {
        std::fs::write(folder.join("pebble.pem"), pebble.server_root()).expect("written");
    })
}

/// Moves the clock on until the gateway shows a certificate that is good for the name, and another than `before`.
fn issued(stage: &Stage, caller: &Caller, address: SocketAddr, before: Option<&[u8]>) -> Vec<u8> {
    let shown = || caller.shake(address).ok().map(|shaken| shaken.leaf());
    stage.until("a certificate", |stage| {
        stage.clock.advance(Duration::from_millis(250));
        stage.admin("/livez");
        shown().is_some_and(|leaf| Some(leaf.as_slice()) != before)
    });
    shown().expect("a handshake")
}

#[test]
fn a_gateway_gets_and_renews_its_certificate_over_tls_while_callers_are_served() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let port = free_port();
    let ports = Ports { tls: port, http: 1 };
    let pebble = runtime.block_on(Pebble::start(ports, None));
    let listener = format!(
        "{{ address: '127.0.0.1:{port}', tls: {{ certificates: [{{ acme: [{NAME}] }}] }} }}"
    );
    let (_raw, scene) = scene(&pebble, "tls-alpn-01", vec![listener]);
    let stage = start(scene, &pebble);
    let answer = stage.admin("/readyz?verbose");
    // Whoever is sent here by readiness must be able to let the CA through.
    assert!(answer.contains("[!] certificates degraded"), "{answer}");
    assert!(
        answer.contains(&format!(
            "certificate/{NAME} degraded: it was not issued yet"
        )),
        "{answer}"
    );
    let address = stage.gateway().addresses()[1];
    let caller = Caller::new(&stage, NAME).believing(&runtime.block_on(pebble.root()));
    let first = issued(&stage, &caller, address, None);
    // What is shown to the CA is shown to nobody else.
    let curious = caller.clone().offering("acme-tls/1").shake(address);
    assert!(curious.is_err(), "nothing is being asked");

    let (config, stop) = (caller.config(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut shaken = 0;
            while !stop.load(Ordering::Relaxed) {
                shake(&config, NAME, address).expect("no handshake fails");
                shaken += 1;
            }
            shaken
        });
        let stopping = Stopping(&stop);
        // Pebble issues for five years; nobody looks at other clocks than the machine's and the gateway's.
        stage.clock.advance(4 * 365 * DAY);
        let second = issued(&stage, &caller, address, Some(&first));
        assert_ne!(first, second);
        drop(stopping);
        assert!(load.join().expect("no handshake failed") > 1);
    });
    let metrics = stage.admin("/metrics");
    let metric = format!("portcullis_certificate_not_after_seconds{{certificate=\"{NAME}\"}}");
    assert!(metrics.contains(&metric), "{metrics}");
    assert!(stage.folder.path().join("acme").is_dir());
}

#[test]
fn a_gateway_gets_its_certificate_over_plain_http_from_the_listener_that_redirects() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let port = free_port();
    let ports = Ports { tls: 1, http: port };
    let pebble = runtime.block_on(Pebble::start(ports, None));
    let listeners = vec![
        format!("{{ address: '127.0.0.1:0', tls: {{ certificates: [{{ acme: [{NAME}] }}] }} }}"),
        format!("{{ address: '127.0.0.1:{port}', http: {{ redirect: true }} }}"),
    ];
    let (_raw, scene) = scene(&pebble, "http-01", listeners);
    let stage = start(scene, &pebble);
    let caller = Caller::new(&stage, NAME).believing(&runtime.block_on(pebble.root()));
    let address = stage.gateway().addresses()[1];
    let first = issued(&stage, &caller, address, None);

    // Names are written otherwise while the CA is away: callers are shown what there is.
    drop(pebble);
    let config = stage.folder.path().join("gateway.yaml");
    let text = std::fs::read_to_string(&config).expect("read");
    let more = text.replacen(
        &format!("acme: [{NAME}]"),
        &format!("acme: [{NAME}, www.contoso.example]"),
        1,
    );
    assert_ne!(more, text);
    std::fs::write(&config, more).expect("written");
    stage.gateway().reload();
    stage.until_taken(1);
    stage.admin("/livez");
    let shaken = caller.shake(address).expect("a handshake");
    assert_eq!(shaken.leaf(), first);
    let ready = stage.admin("/readyz?verbose");
    let check = format!("certificate/{NAME}, www.contoso.example degraded");
    assert!(ready.contains(&check), "{ready}");
}

#[test]
fn what_the_ca_would_find_unanswered_is_refused_before_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let acme = |challenge: &str| {
        format!(
            "acme: {{ directory: 'https://ca.example/dir', termsOfServiceAgreed: true, folder: acme, challenge: {challenge} }}\n"
        )
    };
    let tls = |names: &str| {
        format!("address: '127.0.0.1:1', tls: {{ certificates: [{{ acme: [{names}] }}] }}")
    };
    for (listen, acme, says) in [
        (
            format!("{{ {} }}", tls("a.example")),
            String::new(),
            "it is not said where",
        ),
        (
            format!("{{ {} }}", tls("a.example")),
            acme("http-01"),
            "nobody would answer the CA",
        ),
        (
            format!("{{ {} }}", tls("'*.a.example'")),
            acme("tls-alpn-01"),
            "write each name out",
        ),
        (
            format!("{{ {} }}", tls("localhost")),
            acme("tls-alpn-01"),
            "cannot be ordered",
        ),
        (
            format!("{{ {} }}", tls("10.0.0.1")),
            acme("tls-alpn-01"),
            "cannot be ordered",
        ),
        (
            format!(
                "{{ {}, clientCertificates: {{ mode: require, ca: ca.pem }} }}",
                tls("a.example")
            ),
            acme("tls-alpn-01"),
            "the CA brings no certificate",
        ),
    ] {
        let text = format!("listen: {listen}\npolicies: policy.yaml\n{acme}");
        let mut diagnostics = portcullis::files::Diagnostics::new();
        let path = folder.path().join("gateway.yaml");
        portcullis::files::parse_gateway(&path, &text, &mut diagnostics);
        let said = diagnostics.render();
        assert!(said.contains(says), "{text}: {said}");
    }
}
