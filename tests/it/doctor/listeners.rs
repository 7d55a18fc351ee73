//! What keeps listeners from listening, callers' certificates from being judged, and certificates from being ordered.

use std::net::TcpListener;

use super::*;

/// The only complaint is of a listener, and says this.
fn assert_listener(report: &Report, outcome: Outcome, name: &str, says: &str) {
    let complaints = complaints(report);
    let listeners = complaints.iter().filter(|one| one.area == Area::Listeners);
    let [found] = listeners.collect::<Vec<_>>()[..] else {
        panic!("{complaints:#?}");
    };
    assert_eq!(found.outcome, outcome, "{found:?}");
    assert!(
        found.name.contains(name) && found.found.contains(says),
        "{found:?}"
    );
}

#[test]
fn what_the_gateway_would_not_start_with_is_found() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address");
    let tls = "tls: { certificates: [{ cert: gateway.crt, key: gateway.key }]";
    for (listener, outcome, name, says) in [
        (
            format!(
                "{{ address: '127.0.0.1:0', {tls} }}, clientCertificates: {{ mode: require, ca: none.pem }} }}"
            ),
            Outcome::Bad,
            "clientCertificates",
            "the diagnostics say why",
        ),
        (
            format!(
                "{{ address: '127.0.0.1:0', {tls} }}, clientCertificates: {{ mode: require, ca: ca.crt, crl: [none.crl] }} }}"
            ),
            Outcome::Bad,
            "clientCertificates",
            "the diagnostics say why",
        ),
        (
            format!(
                "{{ address: '127.0.0.1:0', {tls}, ticketKeys: [{{ file: gateway.yaml }}] }} }}"
            ),
            Outcome::Bad,
            "ticketKeys",
            "fewer than 32",
        ),
        (
            format!("{{ address: '{address}', {tls} }} }}"),
            Outcome::Warning,
            "listen.address",
            "somebody listens there",
        ),
        (
            format!("{{ address: '192.0.2.1:8443', {tls} }} }}"),
            Outcome::Bad,
            "listen.address",
            "this machine has",
        ),
    ] {
        let mut scene = whole();
        scene.listeners = vec![listener.clone()];
        let report = examined(&scene);
        assert_listener(&report, outcome, name, says);
    }
}

#[test]
fn a_ca_that_cannot_be_ordered_from_is_found() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    for (directory, folder, name, says) in [
        (
            format!("https://127.0.0.1:{port}/dir"),
            "acme",
            "acme.directory",
            "",
        ),
        (
            format!("https://127.0.0.1:{port}/dir"),
            "ca.crt/acme",
            "acme.folder",
            "cannot be written",
        ),
    ] {
        let mut scene = whole();
        scene.more += &format!(
            "acme: {{ directory: '{directory}', termsOfServiceAgreed: true, folder: {folder}, ca: ca.crt }}\n"
        );
        let report = examined(&scene);
        let found = of(&report, Area::Listeners);
        let found = found.iter().find(|found| found.name.contains(name));
        let found = found.expect("a finding");
        assert_eq!(found.outcome, Outcome::Bad, "{found:?}");
        assert!(found.found.contains(says), "{found:?}");
    }
}
