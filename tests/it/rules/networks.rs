//! `from`: where a caller connects from, by what the gateway saw, or the platform in front of it.

use std::net::Ipv4Addr;

use portcullis::entra::Version;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{stage, token};
use crate::support::{RawBackend, Scene, Stage};

#[test]
fn a_rule_holds_for_the_networks_that_it_names_or_writes_out() {
    let allow = |from: &str| format!("allow: [{{ tenants: [contoso], from: [{from}] }}]");
    let bodies = [
        allow("127.0.0.2"),
        allow("127.0.0.0/30"),
        allow("elsewhere, 127.0.0.8/29"),
        allow("here"),
        allow("'2001:db8::/32'"),
    ];
    let (raw, stage) = stage(&bodies.each_ref().map(String::as_str));
    let token = stage
        .world
        .entra
        .sign(&token(&stage, Version::V2))
        .expect("signed");
    let mut let_in = 0;
    for (last, row) in [
        (1, [false, true, false, true, false]),
        (2, [true, true, false, true, false]),
        (3, [false, true, false, true, false]),
        (4, [false, false, false, true, false]),
        (7, [false, false, false, true, false]),
        (8, [false, false, true, true, false]),
        (15, [false, false, true, true, false]),
        (16, [false, false, false, true, false]),
    ] {
        for (target, expected) in ["/0", "/1", "/2", "/3", "/4"].iter().zip(row) {
            let from = Ipv4Addr::new(127, 0, 0, last);
            let call = stage.call("GET", target).bearer(&token).from(from);
            // What a caller says of itself plays no part.
            let answer = call.header("x-forwarded-for", "127.0.0.2").send();
            let verdict = if expected {
                "200"
            } else {
                "403 network-not-allowed"
            };
            assert_eq!(answer.verdict(), verdict, "{target} from {from}");
            let record = stage.record_of(&answer);
            assert_eq!(record["rule"], "allow[0]", "{target} from {from}");
            assert_eq!(record["client"], from.to_string(), "{target}");
            if !expected {
                assert_eq!(record["got"], from.to_string(), "{target}");
            }
            let_in += usize::from(expected);
        }
    }
    assert_eq!(raw.seen().requests.len(), let_in);
    let answer = stage.call("GET", "/2").bearer(&token).send();
    let expected = &stage.record_of(&answer)["expected"];
    assert_eq!(expected, "one of: elsewhere, 127.0.0.8/29");
}

/// Asks as the platform does, which adds what it saw to what the caller wrote.
fn forwarded(stage: &Stage, target: &str, fields: &[&str]) -> (u16, Value) {
    let token = stage.portal_token();
    let fields: String = fields
        .iter()
        .map(|value| format!("X-Forwarded-For: {value}\r\n"))
        .collect();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Authorization: Bearer {token}\r\n\r\n"
    );
    let answer = stage.runtime.block_on(async {
        let mut stream = TcpStream::connect(stage.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    });
    let status = answer
        .get(9..12)
        .expect("a status")
        .parse()
        .expect("a number");
    let (_, rest) = answer.split_once("x-request-id: ").expect("a request ID");
    let (id, _) = rest.split_once("\r\n").expect("a line");
    let record = stage.record("the record", |record| record["id"] == id);
    (status, record)
}

fn platform() -> (RawBackend, Stage) {
    let mut scene = Scene::new();
    scene.names = "networks: { office: ['2001:db8:1::/48', 203.0.113.0/24] }\n".to_owned();
    let raw = RawBackend::ok(&scene, "fine");
    let route = |path: &str, rest: &str| {
        format!("match: {{ methods: [GET], path: {path} }}, backend: raw, {rest}")
    };
    let stage = scene
        .raw("raw", &raw)
        .route(
            "in",
            &route("/in", "allow: [{ tenants: [contoso], from: [office] }]"),
        )
        .route(
            "out",
            &route("/out", "public: true, deny: [{ from: [office] }]"),
        )
        .platform()
        .start();
    (raw, stage)
}

#[test]
fn behind_a_platform_the_network_is_that_of_the_address_which_the_platform_saw() {
    let (_raw, stage) = platform();
    for (fields, client, in_office) in [
        (&["2001:db8:1::7"][..], "2001:db8:1::7", true),
        (&["[2001:db8:1::7]:4711"], "2001:db8:1::7", true),
        (&["2001:DB8:1:0:0:0:0:7"], "2001:db8:1::7", true),
        (&["2001:db8:2::7"], "2001:db8:2::7", false),
        (&["203.0.113.7"], "203.0.113.7", true),
        (&["203.0.113.7:4711"], "203.0.113.7", true),
        // An IPv4 address in the clothes of IPv6 is the IPv4 address.
        (&["::ffff:203.0.113.7"], "203.0.113.7", true),
        (&["::ffff:198.51.100.7"], "198.51.100.7", false),
        // All before the last is the caller's own word.
        (&["2001:db8:1::7, 198.51.100.7"], "198.51.100.7", false),
        (&["203.0.113.7", "198.51.100.7"], "198.51.100.7", false),
        (&["198.51.100.7, 203.0.113.7"], "203.0.113.7", true),
        // Without a word of the platform's, it is the platform itself that calls.
        (&[], "127.0.0.1", false),
    ] {
        let (status, record) = forwarded(&stage, "/in", fields);
        assert_eq!(status, if in_office { 200 } else { 403 }, "{fields:?}");
        assert_eq!(record["client"], client, "{fields:?}");
        let reason = if in_office {
            "rule"
        } else {
            "network-not-allowed"
        };
        assert_eq!(record["reason"], reason, "{fields:?}");
        // The other way about, and without a token that anyone looks at.
        let (status, record) = forwarded(&stage, "/out", fields);
        assert_eq!(status, if in_office { 403 } else { 200 }, "{fields:?}");
        let reason = if in_office {
            "denied-by-rule"
        } else {
            "public"
        };
        assert_eq!(record["reason"], reason, "{fields:?}");
        let rule = if in_office {
            Value::from("deny[0]")
        } else {
            Value::Null
        };
        assert_eq!(record["rule"], rule, "{fields:?}");
    }
    // Of no address it is known whether it is in a network.
    for fields in [&["203.0.113.7, unknown"][..], &["203.0.113.7,"]] {
        for path in ["/in", "/out"] {
            let (status, record) = forwarded(&stage, path, fields);
            assert_eq!(status, 400, "{path} {fields:?}");
            assert_eq!(record["reason"], "forwarded-address-invalid");
        }
    }
}
