//! Several listeners, what TLS is spoken on them, and plain HTTP that forwards nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rustls::crypto::aws_lc_rs::kx_group;

use crate::support::handshake::{Caller, shake};
use crate::support::{Stage, simple};

const KEY: &str = "a key of at least thirty-two characters";

/// Says something in plain and reads to the end.
fn plain(address: SocketAddr, said: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(said.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Asks in plain for a path.
fn asked(address: SocketAddr, what: &str) -> String {
    plain(
        address,
        &format!("{what} HTTP/1.1\r\nHost: api.contoso.com:8080\r\n\r\n"),
    )
}

fn first_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

#[test]
fn several_listeners_serve_side_by_side_each_in_its_own_way() {
    let (raw, mut scene) = simple();
    scene.listeners = vec![
        "{ address: '127.0.0.1:0', tls: { certificates: [{ cert: gateway.crt, key: gateway.key }], policy: modern }, maxHeadBytes: 8KiB }".to_owned(),
        "{ address: '127.0.0.1:0', tls: platform }".to_owned(),
        "{ address: '127.0.0.1:0', http: { redirect: true, probes: true } }".to_owned(),
    ];
    let stage = scene.workers(2).start();
    let [first, modern, platform, porter] = *stage.gateway().addresses() else {
        panic!("{:?}", stage.gateway().addresses());
    };
    let token = format!("Authorization: Bearer {}\r\n", stage.portal_token());
    let caller = Caller::new(&stage, "localhost");
    for address in [first, modern] {
        let shaken = caller.shake(address).expect("a handshake");
        let answer = shaken.get("/a", &token).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let long = format!("{token}X-Long: {}\r\n", "a".repeat(9 * 1024));
    for (address, line) in [(first, "HTTP/1.1 200 OK"), (modern, "HTTP/1.1 431")] {
        let shaken = caller.shake(address).expect("a handshake");
        let answer = shaken.get("/a", &long).expect("an answer");
        assert!(answer.starts_with(line), "{answer}");
    }
    let old = caller.version(&rustls::version::TLS12);
    assert!(old.shake(first).is_ok());
    assert!(old.shake(modern).is_err(), "TLS 1.2");
    let said = format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{token}Connection: close\r\n\r\n");
    assert_eq!(first_line(&plain(platform, &said)), "HTTP/1.1 200 OK");
    assert_eq!(first_line(&plain(porter, &said)), "HTTP/1.1 403 Forbidden");
    let over = raw.seen().requests.len();
    assert_eq!(over, 4, "what came by plain HTTP is not forwarded");
}

#[test]
fn plain_http_sends_to_https_answers_probes_and_nothing_else() {
    let (raw, mut scene) = simple();
    scene.listeners = vec![
        "{ address: '127.0.0.1:0', http: { redirect: true } }".to_owned(),
        "{ address: '127.0.0.1:0', http: { probes: true } }".to_owned(),
    ];
    let stage = scene.start();
    let [_, redirect, probes] = *stage.gateway().addresses() else {
        panic!("{:?}", stage.gateway().addresses());
    };
    let answer = asked(redirect, "GET /a/b?x=%20y");
    assert_eq!(first_line(&answer), "HTTP/1.1 308 Permanent Redirect");
    assert!(
        answer.contains("location: https://api.contoso.com/a/b?x=%20y\r\n"),
        "{answer}"
    );
    let answer = asked(redirect, "HEAD /a");
    assert_eq!(first_line(&answer), "HTTP/1.1 308 Permanent Redirect");
    for what in [
        "POST /a",
        "GET /readyz",
        "GET /livez",
        "OPTIONS *",
        "GET /.well-known/acme-challenge/x",
    ] {
        let line = asked(redirect, what);
        let expected = match what {
            "POST /a" | "OPTIONS *" => "HTTP/1.1 403 Forbidden",
            "GET /.well-known/acme-challenge/x" => "HTTP/1.1 404 Not Found",
            _ => "HTTP/1.1 308 Permanent Redirect",
        };
        assert_eq!(first_line(&line), expected, "{what}");
    }
    let secret = "GET /a HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer planted\r\n\r\n";
    let answer = plain(redirect, secret);
    assert_eq!(first_line(&answer), "HTTP/1.1 403 Forbidden");
    assert!(
        answer.contains("https-required") && !answer.contains("planted"),
        "{answer}"
    );
    for host in [
        "Host: a.example\r\nHost: b.example\r\n",
        "Host: a b\r\n",
        "",
    ] {
        let answer = plain(redirect, &format!("GET /a HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(first_line(&answer), "HTTP/1.1 400 Bad Request", "{host}");
    }
    // Where a key might stand in a spelling that nobody reads here, it is not sent on.
    for target in [
        "/a%2fb?code=planted",
        "/a//b?code=planted",
        "//evil.example/a",
        "/a?x=%zz&code=planted",
        "/a%00?sig=planted",
    ] {
        let answer = asked(redirect, &format!("GET {target}"));
        assert_eq!(first_line(&answer), "HTTP/1.1 400 Bad Request", "{target}");
        assert!(!answer.contains("planted"), "{answer}");
    }
    let upgrading = "GET /a HTTP/1.1\r\nHost: a.example\r\nX-Functions-Key: planted\r\nUpgrade: foo, bar\r\nConnection: upgrade\r\n\r\n";
    let answer = plain(redirect, upgrading);
    assert_eq!(first_line(&answer), "HTTP/1.1 400 Bad Request");

    for (what, expected) in [
        ("GET /livez", "HTTP/1.1 200 OK"),
        ("GET /readyz", "HTTP/1.1 200 OK"),
        ("GET /metrics", "HTTP/1.1 404 Not Found"),
        ("GET /readyz?verbose", "HTTP/1.1 200 OK"),
        ("POST /readyz", "HTTP/1.1 404 Not Found"),
        ("GET /a", "HTTP/1.1 404 Not Found"),
    ] {
        let answer = asked(probes, what);
        assert_eq!(first_line(&answer), expected, "{what}");
        assert!(!answer.contains("[+]"), "no checks: {answer}");
    }
    let metrics = stage.admin("/metrics");
    for (answer, count) in [
        ("redirect", 4),
        ("secret-refused", 1),
        ("method-refused", 2),
        ("ambiguous-refused", 9),
        ("probe", 3),
        ("challenge", 0),
        ("not-found", 4),
    ] {
        let line = format!("portcullis_plain_http_answers_total{{answer=\"{answer}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert_eq!(raw.seen().requests.len(), 0);
}

#[test]
fn who_holds_connections_keeps_nobody_out() {
    let (_raw, mut scene) = simple();
    scene.listeners = vec!["{ address: '127.0.0.1:0', http: { probes: true } }".to_owned()];
    let stage = scene.start();
    let probes = stage.gateway().addresses()[1];
    let held: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(probes).expect("connected"))
        .collect();
    assert_eq!(first_line(&asked(probes, "GET /readyz")), "HTTP/1.1 200 OK");
    drop(held);
}

#[test]
fn callers_are_sent_to_the_public_url_where_one_is_written() {
    let (_raw, mut scene) = simple();
    scene.listeners = vec!["{ address: '127.0.0.1:0', http: { redirect: true } }".to_owned()];
    scene.more += "publicUrl: 'https://gate.contoso.com:8443'\n";
    let stage = scene.start();
    let answer = asked(stage.gateway().addresses()[1], "GET /a?b");
    assert!(
        answer.contains("location: https://gate.contoso.com:8443/a?b\r\n"),
        "{answer}"
    );
    let config = stage.folder.path().join("gateway.yaml");
    let text = fs::read_to_string(&config).expect("read");
    let moved = text.replace("gate.contoso.com:8443", "new.contoso.com");
    fs::write(&config, moved).expect("written");
    stage.gateway().reload();
    stage.until_taken(1);
    let answer = asked(stage.gateway().addresses()[1], "GET /a");
    assert!(
        answer.contains("location: https://new.contoso.com/a\r\n"),
        "{answer}"
    );
}

#[test]
fn what_is_agreed_on_is_the_best_that_both_sides_know() {
    let (_raw, scene) = simple();
    let stage = scene.start();
    let caller = Caller::new(&stage, "localhost");
    for (groups, agreed) in [
        (
            vec![kx_group::X25519MLKEM768, kx_group::X25519],
            "X25519MLKEM768",
        ),
        (vec![kx_group::X25519, kx_group::X25519MLKEM768], "X25519"),
        (vec![kx_group::X25519], "X25519"),
        (vec![kx_group::SECP256R1], "secp256r1"),
        (vec![kx_group::SECP384R1], "secp384r1"),
    ] {
        let shaken = caller.clone().agreeing_by(&groups).shake(stage.address);
        assert_eq!(shaken.expect("a handshake").group(), agreed);
    }
    for (protocol, agreed) in [("h2", Some("h2")), ("http/1.1", Some("http/1.1"))] {
        let shaken = caller.clone().offering(protocol).shake(stage.address);
        assert_eq!(shaken.expect("a handshake").protocol().as_deref(), agreed);
    }
    assert!(caller.offering("spdy/3").shake(stage.address).is_err());
}

/// How a second handshake goes after a first at other gateways.
fn second(stage: &mut Stage, between: impl FnOnce(&mut Stage)) -> String {
    let caller = Caller::new(stage, "localhost");
    let config = caller.config();
    let token = format!("Authorization: Bearer {}\r\n", stage.portal_token());
    let first = shake(&config, "localhost", stage.address).expect("a handshake");
    assert_eq!(first.kind(), "Full");
    // Tickets come behind the handshake.
    first.get("/a", &token).expect("an answer");
    between(stage);
    shake(&config, "localhost", stage.address)
        .expect("a handshake")
        .kind()
}

#[test]
fn sessions_are_taken_up_again_and_by_other_replicas_where_keys_are_shared() {
    let (_raw, scene) = simple();
    let mut stage = scene.start();
    assert_eq!(second(&mut stage, |_| ()), "Resumed", "by the same process");
    assert_eq!(
        second(&mut stage, Stage::restart),
        "Full",
        "with random keys"
    );

    let (_raw, mut scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("tickets");
    scene.tls_more = format!(", ticketKeys: [{{ file: '{}' }}]", keys.display());
    std::fs::write(&keys, KEY).expect("written");
    let mut stage = scene.start();
    assert_eq!(
        second(&mut stage, Stage::restart),
        "Resumed",
        "with shared keys"
    );
    // Another key goes in front, and by a reload alone.
    let both = format!("another one, which is long enough as well\n{KEY}\n");
    std::fs::write(&keys, both).expect("written");
    let kind = second(&mut stage, |stage| {
        stage.reload();
    });
    assert_eq!(kind, "Resumed");
    std::fs::write(&keys, "only another one, which is long enough").expect("written");
    let kind = second(&mut stage, |stage| {
        stage.reload();
    });
    assert_eq!(kind, "Full", "the key of old is gone");
}
