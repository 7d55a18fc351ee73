//! Whole answers, sealed and opened again.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::canonical::{KeptParameters, KeyParameters, escape};
use crate::secret::Secret;

const GATE: &str = "https://api.contoso.com";
const HOST: &str = "prod-12.westeurope.logic.azure.com";
const SECRET: &str = "PLANTEDsignature";
const NOW: Duration = Duration::from_secs(1_000);

fn ring() -> Arc<Ring> {
    let secret = Secret::new("one key, at least thirty-two letters".to_owned());
    Arc::new(Ring::new(&[secret]).expect("a ring"))
}

fn issued() -> Issued {
    Issued {
        route: "orders".to_owned(),
        tenant: None,
        app: None,
        method: Method::PUT,
        host: "api.contoso.com".to_owned(),
        path: "/orders".to_owned(),
    }
}

fn sealer() -> Sealer {
    Sealer {
        ring: Some(ring()),
        gate: GATE.into(),
        backend: Arc::new([Place {
            host: HOST.to_owned(),
            port: 443,
        }]),
        issued: issued(),
        expires: NOW + Duration::from_secs(1),
        kept: KeptParameters::NONE,
        is_function: true,
        ways_on: Vec::new(),
    }
}

/// The links sealed in a text, and the text with `[target]` in their places.
fn opened(text: &str) -> (Vec<Link>, String) {
    let start = format!("{GATE}{SEALED_PATH}");
    let mut pieces = text.split(start.as_str());
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    let mut links = Vec::new();
    for piece in pieces {
        let is_blob = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let (blob, rest) = piece.split_at(piece.find(|c| !is_blob(c)).unwrap_or(piece.len()));
        let path = format!("{SEALED_PATH}{blob}");
        let blob = opaque(&path).expect("a sealed path");
        let link = ring().open(blob).expect("a link");
        shown.push_str(&format!("[{}]{rest}", link.target));
        links.push(link);
    }
    (links, shown)
}

fn sealed(sealer: Sealer, text: Text, chunks: &[&[u8]]) -> (Vec<u8>, Caught) {
    let mut body = sealer.body(text);
    let mut out = Vec::new();
    for chunk in chunks {
        body.push(chunk, &mut out);
    }
    body.finish(&mut out);
    (out, body.caught())
}

/// A body in one piece, with what was sealed opened again.
fn through(text: Text, body: &str) -> (String, Caught) {
    let (out, caught) = sealed(sealer(), text, &[body.as_bytes()]);
    let out = String::from_utf8(out).expect("text");
    (opened(&out).1, caught)
}

fn header(
    sealer: &Sealer,
    status: u16,
    name: &'static str,
    value: &str,
) -> (Option<String>, Caught) {
    let name = HeaderName::from_static(name);
    let mut headers = HeaderMap::new();
    headers.insert(&name, HeaderValue::from_str(value).expect("a value"));
    let status = StatusCode::from_u16(status).expect("a status");
    let caught = sealer.headers(&Method::PUT, status, &mut headers, &|_, _, _| None);
    let value = headers
        .get(&name)
        .map(|value| value.to_str().expect("text").to_owned());
    (value, caught)
}

const SAS: &str = "/workflows/w/runs/r/operations/o?api-version=2016-06-01&sp=%2Fruns&sv=1.0&sig=s";

#[test]
fn a_field_with_a_key_is_sealed_or_goes() {
    let at = |rest: &str| format!("https://{HOST}{rest}");
    let sas = at(&format!(":443{SAS}"));
    let whole = format!("[{SAS}]");
    for (why, name, value, expected) in [
        ("Logic App", "location", sas.clone(), Some(whole.clone())),
        (
            "Durable",
            "location",
            format!("http://{HOST}/runtime/webhooks/durabletask/instances/7?taskHub=h&code=k"),
            Some("[/runtime/webhooks/durabletask/instances/7?taskHub=h&code=k]".to_owned()),
        ),
        ("relative", "location", SAS.to_owned(), Some(whole.clone())),
        ("relative to here", "location", "x?sig=s".to_owned(), None),
        ("of any scheme", "location", format!("//{HOST}{SAS}"), None),
        (
            "another scheme",
            "location",
            format!("ftp://{HOST}{SAS}"),
            None,
        ),
        (
            "another host",
            "location",
            format!("https://other.example{SAS}"),
            None,
        ),
        ("another port", "location", at(&format!(":8443{SAS}")), None),
        (
            "a user name",
            "location",
            at(&format!("@evil.example{SAS}")),
            None,
        ),
        (
            "a longer host",
            "location",
            at(&format!(".evil.example{SAS}")),
            None,
        ),
        (
            "a backslash",
            "location",
            at(&format!("\\@evil.example{SAS}")),
            None,
        ),
        (
            "upper case",
            "location",
            format!("HTTPS://{}.:443/x?SIG=s", HOST.to_uppercase()),
            Some("[/x?SIG=s]".to_owned()),
        ),
        (
            "encoded",
            "location",
            at("/x?%73ig=s"),
            Some("[/x?%73ig=s]".to_owned()),
        ),
        (
            "behind a comma",
            "location",
            at("/x?a=1,2&sig=s"),
            Some("[/x?a=1,2&sig=s]".to_owned()),
        ),
        (
            "no path",
            "location",
            at("?sig=s"),
            Some("[/?sig=s]".to_owned()),
        ),
        (
            "a fragment",
            "location",
            at("/x?sig=s#y"),
            Some("[/x?sig=s]".to_owned()),
        ),
        ("unreadable", "location", at("/x?a=%zz&sig=s"), None),
        ("a space", "location", at("/x?a=b c&sig=s"), None),
        (
            "within another",
            "location",
            "https://o/?u=https%3A%2F%2Fb%2F%3Fsig%3Ds".to_owned(),
            None,
        ),
        (
            "keyless",
            "location",
            at("/x?api-version=1"),
            Some(at("/x?api-version=1")),
        ),
        (
            "content",
            "content-location",
            sas.clone(),
            Some(whole.clone()),
        ),
        (
            "operation",
            "operation-location",
            sas.clone(),
            Some(whole.clone()),
        ),
        (
            "operation",
            "azure-asyncoperation",
            sas.clone(),
            Some(whole.clone()),
        ),
        (
            "two links",
            "link",
            format!("<{sas}>; rel=next, </x?code=k>; rel=\"prev\", <https://o/>"),
            Some(format!(
                "<{whole}>; rel=next, <[/x?code=k]>; rel=\"prev\", <https://o/>"
            )),
        ),
        (
            "one link leads elsewhere",
            "link",
            format!("<{sas}>; rel=next, <https://o/x?sig=s>; rel=prev"),
            None,
        ),
        (
            "a key beside the link",
            "link",
            format!("<{sas}>; anchor=\"x?sig=s\""),
            None,
        ),
        (
            "refresh",
            "refresh",
            format!("5; url={sas}"),
            Some(format!("5; url={whole}")),
        ),
        (
            "refresh",
            "refresh",
            format!("0;URL='{SAS}'"),
            Some(format!("0;URL='{whole}'")),
        ),
        (
            "another field",
            "x-status",
            format!("see {sas}."),
            Some(format!("see {whole}.")),
        ),
        (
            "not from the root",
            "x-status",
            format!("{SAS} https://o/"),
            None,
        ),
        ("a query alone", "x-status", "code=7?sig=8".to_owned(), None),
        (
            "from the root, in a field that holds no URL",
            "x-next",
            "/runtime/webhooks/x?code=PLANTEDsignature".to_owned(),
            None,
        ),
        (
            "within a cookie",
            "set-cookie",
            "r=https%3A%2F%2Fa.example%2F%3Fsig%3DPLANTEDsignature; Path=/".to_owned(),
            None,
        ),
        (
            "no URL",
            "set-cookie",
            "sid=a%20b; code=7; Path=/".to_owned(),
            Some("sid=a%20b; code=7; Path=/".to_owned()),
        ),
        (
            "no URL",
            "content-disposition",
            "attachment; filename=\"100% of it?.pdf\"".to_owned(),
            Some("attachment; filename=\"100% of it?.pdf\"".to_owned()),
        ),
    ] {
        let (value_now, caught) = header(&sealer(), 202, name, &value);
        let shown = value_now.as_deref().map(|value| opened(value).1);
        assert_eq!(shown, expected, "{why}: {value}");
        assert_eq!(caught.withheld == 0, expected.is_some(), "{why}");
        let count = expected.map_or(0, |text| text.matches('[').count());
        assert_eq!(caught.sealed as usize, count, "{why}");
        let keyless = Sealer {
            ring: None,
            ..sealer()
        };
        let (without, _) = header(&keyless, 202, name, &value);
        assert_eq!(
            without.is_some(),
            count == 0 && caught.withheld == 0,
            "{why}, no ring"
        );
    }
}

#[test]
fn what_is_sealed_says_what_it_is() {
    let code = format!("https://{HOST}/x?code=k");
    let sig = format!("https://{HOST}/x?sig=s");
    for (status, url, methods, signed) in [
        (202, &sig, Methods::Read, Signed::Alone),
        (302, &code, Methods::Read, Signed::Alone),
        (307, &sig, Methods::Only(Method::PUT), Signed::Alone),
        (308, &sig, Methods::Only(Method::PUT), Signed::Alone),
    ] {
        let (value, _) = header(&sealer(), status, "location", url);
        let (links, _) = opened(&value.expect("sealed"));
        let expected = Link {
            issued: issued(),
            target: url.split_once(HOST).expect("its host").1.to_owned(),
            methods,
            signed,
            expires: sealer().expires,
        };
        assert_eq!(links, [expected], "{status}");
    }
}

#[test]
fn a_kept_parameter_is_no_key() {
    let kept = Sealer {
        kept: KeyParameters::CODE,
        ..sealer()
    };
    let code = format!("https://{HOST}/x?code=k");
    let both = format!("{code}&sig=s");
    assert_eq!(header(&kept, 302, "location", &code).0, Some(code.clone()));
    let (value, _) = header(&kept, 302, "location", &both);
    assert_eq!(opened(&value.expect("sealed")).0[0].signed, Signed::Alone);
    let (body, caught) = sealed(kept, Text::Plain, &[code.as_bytes()]);
    assert_eq!(
        (body.as_slice(), caught),
        (code.as_bytes(), Caught::default())
    );
}

#[test]
fn a_url_past_the_gateway_is_sealed_where_that_is_asked_for() {
    let plain = Sealer {
        ways_on: vec![WayOn {
            below: "/x/".to_owned(),
            through: "",
        }],
        ..sealer()
    };
    let url = format!("http://{HOST}/x?y=1");
    let below = format!("https://{HOST}/x/status/7");
    let beside = format!("https://{HOST}/xy");
    let climbing = format!("https://{HOST}/x/../admin");
    for (name, value, is_sealed) in [
        ("location", url.as_str(), true),
        ("operation-location", url.as_str(), true),
        ("location", below.as_str(), true),
        ("location", beside.as_str(), false),
        ("location", climbing.as_str(), false),
        ("location", "/x?y=1", false),
        ("location", "https://other.example/x", false),
        ("x-note", url.as_str(), false),
        ("refresh", "0;url=/x", false),
    ] {
        let (now, caught) = header(&plain, 202, name, value);
        let (links, _) = opened(now.as_deref().expect("a value"));
        let signed: Vec<Signed> = links.iter().map(|link| link.signed).collect();
        let expected: &[Signed] = if is_sealed { &[Signed::None] } else { &[] };
        assert_eq!(signed, expected, "{name}: {value}");
        assert_eq!(
            caught,
            if is_sealed {
                Caught::SEALED
            } else {
                Caught::default()
            }
        );
        assert!(
            is_sealed || now.as_deref() == Some(value),
            "{name}: {value}"
        );
        let ringless = Sealer {
            ring: None,
            ..plain.clone()
        };
        let (left, _) = header(&ringless, 202, name, value);
        assert_eq!(left.as_deref(), Some(value), "no ring");
    }
}

#[test]
fn the_values_of_a_field_are_judged_one_by_one() {
    let mut headers = HeaderMap::new();
    for value in [
        "<https://o/a>",
        "<https://o/x?sig=s>",
        "</x?sig=s>",
        "<https://o/b>",
    ] {
        headers.append("link", HeaderValue::from_static(value));
    }
    headers.append(
        "location",
        HeaderValue::from_bytes(b"/\xFF").expect("a value"),
    );
    let caught = sealer().headers(&Method::PUT, StatusCode::OK, &mut headers, &|_, _, _| None);
    assert_eq!(
        caught,
        Caught {
            sealed: 1,
            withheld: 2
        }
    );
    let left = headers.get_all("link").iter();
    let left: Vec<String> = left
        .map(|value| opened(value.to_str().expect("text")).1)
        .collect();
    assert_eq!(left, ["<https://o/a>", "<[/x?sig=s]>", "<https://o/b>"]);
    assert!(!headers.contains_key("location"));
}

/// What Durable Functions answer (HttpManagementPayload), with each URL's method and target.
fn durable() -> (Value, Vec<(&'static str, Methods, String)>) {
    let base = "/runtime/webhooks/durabletask/instances/abc";
    let tail = "taskHub=Hub&connection=Storage&code=topkey==";
    let (post, delete) = (Methods::Only(Method::POST), Methods::Only(Method::DELETE));
    let urls = vec![
        ("statusQueryGetUri", Methods::Read, format!("{base}?{tail}")),
        (
            "sendEventPostUri",
            post.clone(),
            format!("{base}/raiseEvent/{{eventName}}?{tail}"),
        ),
        (
            "terminatePostUri",
            post.clone(),
            format!("{base}/terminate?reason={{text}}&{tail}"),
        ),
        (
            "rewindPostUri",
            post.clone(),
            format!("{base}/rewind?reason={{text}}&{tail}"),
        ),
        ("purgeHistoryDeleteUri", delete, format!("{base}?{tail}")),
        (
            "restartPostUri",
            post.clone(),
            format!("{base}/restart?{tail}"),
        ),
        (
            "suspendPostUri",
            post.clone(),
            format!("{base}/suspend?{tail}&reason={{text}}"),
        ),
        (
            "resumePostUri",
            post,
            format!("{base}/resume?{tail}&reason={{text}}"),
        ),
    ];
    let mut body = json!({"id": "abc", "note": "a < b & c"});
    for (name, _, target) in &urls {
        body[*name] = json!(format!("http://{HOST}{target}"));
    }
    body["last"] = json!({"n": 1.50, "u": "https://docs.example/x?y=1"});
    (body, urls)
}

#[test]
fn the_answer_of_durable_functions_comes_out_sealed() {
    let (body, urls) = durable();
    let compact = body.to_string();
    let pretty = serde_json::to_string_pretty(&body).expect("JSON");
    let dotnet = compact.replace('&', "\\u0026").replace('<', "\\u003C");
    let php = compact.replace('/', "\\/");
    for sent in [compact, pretty, dotnet, php] {
        let (out, caught) = sealed(sealer(), Text::Json, &[sent.as_bytes()]);
        let out = String::from_utf8(out).expect("text");
        let read: Value = serde_json::from_str(&out).expect("still JSON");
        assert!(!out.contains("topkey") && !out.contains(HOST), "{out}");
        assert_eq!(
            caught,
            Caught {
                sealed: 8,
                withheld: 0
            }
        );
        for (name, methods, target) in &urls {
            let url = read[*name].as_str().expect("a URL");
            let (links, shown) = opened(url);
            let [link] = links.as_slice() else {
                panic!("{name}: {url}")
            };
            assert_eq!(
                (&link.methods, link.signed),
                (methods, Signed::Durable),
                "{name}"
            );
            let query = shown.strip_prefix(&format!("[{target}]")).expect(name);
            let follow = query
                .replace("{eventName}", "go")
                .replace("{text}", "too%20late");
            let filled = target
                .replace("{eventName}", "go")
                .replace("{text}", "too%20late");
            assert_eq!(link.filled(follow.strip_prefix('?')), Ok(filled), "{name}");
            assert_eq!(query.is_empty(), !target.contains('{'), "{name}");
        }
        assert_same_but_for_urls(&sent, &out);
    }
}

/// Cuts both texts at their URLs to the backend and to the gateway, which end at a quote.
fn assert_same_but_for_urls(sent: &str, out: &str) {
    let rest = |text: &str, start: &str| -> Vec<String> {
        let mut pieces = text.split(start);
        let first = pieces.next().map(str::to_owned);
        let behind = pieces.map(|piece| piece[piece.find('"').expect("a quote")..].to_owned());
        first.into_iter().chain(behind).collect()
    };
    let start = format!("http://{HOST}");
    let start = if sent.contains(&start) {
        start
    } else {
        start.replace('/', "\\/")
    };
    assert_eq!(rest(sent, &start), rest(out, GATE));
}

#[test]
fn what_stands_around_a_key_in_a_body_stays() {
    let at = format!("https://{HOST}");
    for (text, body, expected, sealed, withheld) in [
        (
            Text::Plain,
            format!("go to ({at}/x?sig=s), now."),
            "go to ([/x?sig=s]), now.",
            1,
            0,
        ),
        (
            Text::Plain,
            format!("<a href='{at}/x?a=1&amp;sig=s'>"),
            "<a href='[/x?a=1&sig=s]'>",
            1,
            0,
        ),
        (
            Text::Plain,
            format!("{at}/x?sig&#x3D;s b"),
            "[/x?sig=s] b",
            1,
            0,
        ),
        (
            Text::Plain,
            "a https://o/x?sig=s. b".to_owned(),
            "a . b",
            0,
            1,
        ),
        (Text::Plain, "a x?sig=s b".to_owned(), "a  b", 0, 1),
        (
            Text::Plain,
            "a /x?sig=s b".to_owned(),
            "a [/x?sig=s] b",
            1,
            0,
        ),
        (
            Text::Plain,
            "status=failed;code=7".to_owned(),
            "status=failed;code=7",
            0,
            0,
        ),
        (
            Text::Plain,
            format!("{at}/x?y=1"),
            &format!("{at}/x?y=1"),
            0,
            0,
        ),
        (
            Text::Json,
            r#"["https://o/x?sig=s"]"#.to_owned(),
            r#"[""]"#,
            0,
            1,
        ),
        (
            Text::Json,
            format!(r#"{{"a":"{at}/x?a=\u0022&sig=s"}}"#),
            &format!(r#"{{"a":"{at}/x?a=\u0022"}}"#),
            0,
            1,
        ),
        (
            Text::Json,
            format!(r#""{{\"u\":\"{at}/x?a=1\\u0026sig=s\"}}\n""#),
            r#""{\"u\":\"[/x?a=1&sig=s]\"}\n""#,
            1,
            0,
        ),
    ] {
        let caught = Caught { sealed, withheld };
        assert_eq!(
            through(text, &body),
            (expected.to_owned(), caught),
            "{body}"
        );
    }
}

#[test]
fn the_method_is_told_by_the_last_word() {
    let url = format!("https://{HOST}/x?sig=s");
    let body = format!(
        r#"{{"aPostUri":"{url}","b":{{"uri":"{url}"}},"cDeleteUri" : ["{url}","{url}"],"n":"{url}"}}"#
    );
    let (out, _) = sealed(sealer(), Text::Json, &[body.as_bytes()]);
    let (links, _) = opened(std::str::from_utf8(&out).expect("text"));
    let methods: Vec<Methods> = links.into_iter().map(|link| link.methods).collect();
    let (post, delete) = (Methods::Only(Method::POST), Methods::Only(Method::DELETE));
    assert_eq!(
        methods,
        [post, Methods::Read, delete.clone(), delete, Methods::Read]
    );
}

#[test]
fn without_keys_a_body_loses_what_carries_one() {
    let ringless = Sealer {
        ring: None,
        ..sealer()
    };
    let body = format!(r#"{{"a":"https://{HOST}/x?sig=s","b":"https://{HOST}/x"}}"#);
    let (out, caught) = sealed(ringless, Text::Json, &[body.as_bytes()]);
    let expected = format!(r#"{{"a":"","b":"https://{HOST}/x"}}"#);
    assert_eq!(
        (String::from_utf8(out), caught),
        (Ok(expected), Caught::WITHHELD)
    );
}

#[test]
fn a_token_too_long_for_a_url_passes_up_to_its_first_key() {
    for before in [
        0, 1, 100, 12_280, 12_288, 16_370, 16_384, 16_390, 20_000, 28_672, 40_000,
    ] {
        for key in [
            "?sig=",
            "&%2573%2569%2567=",
            r"\u0026sig\u003d",
            r"\\u0026sig=",
            "%3Fsig%3D",
        ] {
            for after in [17_000, 30_000] {
                let fill = "a".repeat(before);
                let body = format!(r#"["{fill}{key}{SECRET}{}","b"]"#, "c".repeat(after));
                let expected = format!(r#"["{fill}","b"]"#);
                let out = through(Text::Json, &body);
                assert_eq!(out, (expected, Caught::WITHHELD), "{before} {key} {after}");
            }
        }
        let clean = format!(
            r#"["{}\\{}"] end"#,
            "a".repeat(before),
            "\\u00e9".repeat(5_000)
        );
        assert_eq!(
            through(Text::Json, &clean),
            (clean.clone(), Caught::default())
        );
    }
}

#[test]
fn a_key_behind_a_semicolon_is_found_in_a_later_piece_of_a_long_url() {
    let start = format!("https://{HOST}/;{}", "a".repeat(40_000));
    let body = format!("{start};sig={SECRET}");
    assert_eq!(through(Text::Plain, &body), (start, Caught::WITHHELD));
}

#[test]
fn a_url_too_long_to_be_followed_is_withheld_and_a_longer_one_is_cut() {
    let start = format!("https://{HOST}/x?sig=");
    let long = "s".repeat(5_000);
    let (out, _) = through(Text::Plain, &format!("{start}{long}"));
    assert_eq!(out, format!("[/x?sig={long}]"));
    let (out, caught) = through(Text::Plain, &format!("{start}{long}{long} "));
    assert_eq!((out.as_str(), caught), (" ", Caught::WITHHELD));
    let longest = "s".repeat(16 * 1024 - start.len());
    let (out, caught) = through(Text::Plain, &format!("{start}{longest}s "));
    assert_eq!(
        (out, caught),
        (format!("https://{HOST}/x "), Caught::WITHHELD)
    );
}

#[test]
fn what_is_held_back_is_bounded_and_comes_at_the_end() {
    let mut body = sealer().body(Text::Plain);
    let (mut out, mut sent) = (Vec::new(), 0);
    for _ in 0..100 {
        body.push(&[b'a'; 1_000], &mut out);
        sent += 1_000;
        assert!(sent - out.len() <= 16 * 1024, "{sent} {}", out.len());
    }
    body.finish(&mut out);
    assert_eq!(out, vec![b'a'; sent]);
}

/// A string that carries the secret as a key.
fn planted() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["sig", "SIG", "%73ig", "s%69g", "code", "%2573ig"]);
    let base = prop::sample::select(vec![
        format!("https://{HOST}/a/b"),
        format!("http://{HOST}:443/a?x=1,2"),
        "https://other.example/".to_owned(),
        "/runs/{id}".to_owned(),
        "a/b".to_owned(),
        String::new(),
        format!("text before https://{HOST}/a?x='y' and (https://{HOST}/a"),
        "z".repeat(16_370),
        format!("https://{HOST}/{}", "y".repeat(12_260)),
    ]);
    let tail = prop::sample::select(vec![
        "", "&x=1", " text", ").", "\u{e9}", "\\", "\"", "&r={t}",
    ]);
    (base, name, tail, 0..4u8).prop_map(|(base, name, tail, form)| {
        let joint = if base.contains('?') { '&' } else { '?' };
        let url = format!("{base}{joint}{name}={SECRET}");
        match form {
            0 => format!("{}{tail}", percent_encoded(&url)),
            1 => format!("{{\"u\":{}}}", json!(format!("{url}{tail}"))),
            _ => format!("{url}{tail}"),
        }
    })
}

fn percent_encoded(text: &str) -> String {
    let encode = |c: char| match c {
        '%' | ':' | '/' | '?' | '&' | '=' => format!("%{:02X}", u32::from(c)),
        _ => c.to_string(),
    };
    text.chars().map(encode).collect()
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (mut rest, mut out) = (text.as_bytes(), Vec::new());
    while let Some((first, tail)) = rest.split_first() {
        let code = escape(rest);
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &rest[3..] } else { tail };
    }
    out
}

fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        3 => planted().prop_map(Value::from),
        1 => "[ -~\u{e9}\u{1F600}\n]{0,20}".prop_map(Value::from),
        1 => any::<i32>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        let names = prop_oneof!["[a-zA-Z]{0,8}(PostUri)?", planted()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(names, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The document with some characters of its strings written as `\u` escapes, by the bits of `seed`.
fn respelled(document: &Value, seed: u64) -> String {
    let text = document.to_string();
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for (at, c) in text.chars().enumerate() {
        let plain = inside && !escaped && c.is_ascii() && c != '\\' && c != '"';
        if c == '"' && !escaped {
            inside = !inside;
        }
        if plain && seed >> (at * 7 % 64) & 1 == 1 {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
        escaped = inside && c == '\\' && !escaped;
    }
    out
}

fn strings(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            found.push(name.clone());
            strings(value, found);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn chunks<'b>(body: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let (mut rest, mut chunks) = (body, Vec::new());
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, tail) = rest.split_at((*length).min(rest.len()));
        chunks.push(chunk);
        rest = tail;
    }
    chunks
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        prop::collection::vec(1usize..40, 1..20),
        prop::collection::vec(1usize..20_000, 1..5),
    ]
}

proptest! {
    #[test]
    fn no_planted_key_leaves_whatever_the_document_and_its_chunks(
        document in documents(),
        seed in prop_oneof![Just(0u64), any::<u64>()],
        lengths in lengths(),
    ) {
        let sent = respelled(&document, seed);
        prop_assert_eq!(&serde_json::from_str::<Value>(&sent).expect("JSON"), &document);
        let (whole, caught) = sealed(sealer(), Text::Json, &[sent.as_bytes()]);
        let whole = String::from_utf8(whole).expect("text");
        let read: Value = serde_json::from_str(&whole).expect("still JSON");
        let mut found = vec![whole.clone()];
        strings(&read, &mut found);
        for text in &found {
            prop_assert!(!text.contains(SECRET), "{}", text);
            let decoded = percent_decoded(text);
            prop_assert!(memchr::memmem::find(&decoded, SECRET.as_bytes()).is_none(), "{}", text);
        }
        let (pieces, again) = sealed(sealer(), Text::Json, &chunks(sent.as_bytes(), &lengths));
        let pieces = String::from_utf8(pieces).expect("text");
        prop_assert_eq!(opened(&pieces), opened(&whole));
        prop_assert_eq!(again, caught);
    }

    #[test]
    fn text_without_keys_passes_byte_for_byte(
        pieces in prop::collection::vec(prop_oneof![
            4 => prop::collection::vec(any::<u8>().prop_map(|byte| if byte == b'=' { b'-' } else { byte }), 0..40),
            2 => prop::sample::select(vec![
                "https://b/x?y=1&z=%zz", "?design=1", "&signature=2", "a=sig", "\\", "\\u", "\\u00",
                "\\\"", "\\\\", "&amp;", "50%", "api-version=1", "?api-version=1", "\u{e9}", "=sig", "{id}",
            ]).prop_map(|text| text.as_bytes().to_vec()),
            1 => (any::<u8>(), 0usize..40_000).prop_map(|(byte, length)| vec![byte; length]),
        ], 0..12),
        text in prop::sample::select(vec![Text::Json, Text::Plain]),
        lengths in lengths(),
    ) {
        let body = pieces.concat();
        let (out, caught) = sealed(sealer(), text, &chunks(&body, &lengths));
        prop_assert!(out == body);
        prop_assert_eq!(caught, Caught::default());
    }

    #[test]
    fn no_text_at_all_comes_out_with_a_key(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "sig", "=", "?", "&", ";", "%3D", "%3F", "\\u0026", "\\", "\\\\", "/", "https://", HOST, "\"",
            "'", " ", ".", "{x}", "|", "\u{e9}", "a", "url=", "&amp;", ":443", "@",
        ]), 0..24),
        text in prop::sample::select(vec![Text::Json, Text::Plain]),
    ) {
        let body = pieces.concat();
        let (out, _) = sealed(sealer(), text, &[body.as_bytes()]);
        let (again, caught) = sealed(sealer(), text, &[&out]);
        prop_assert!(again == out, "{}", body);
        prop_assert_eq!(caught, Caught::default(), "{}", body);
    }
}

#[test]
fn a_sealed_path_holds_one_segment() {
    for (path, blob) in [
        ("/.sealed/abc", Some("abc")),
        ("/.sealed/", None),
        ("/.sealed", None),
        ("/.sealed/a/b", None),
        ("/x/.sealed/abc", None),
    ] {
        assert_eq!(opaque(path), blob, "{path}");
    }
}
