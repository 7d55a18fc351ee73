//! Why a request is let in or refused.

use std::fs;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{PORTCULLIS, Place, READ, command, rule};

/// A token as Entra would write it, with a signature that nobody has checked.
fn token(claims: &Value) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "k" });
    format!(
        "{}.{}.{}",
        encode(header.to_string()),
        encode(claims.to_string()),
        encode("planted-signature".to_owned())
    )
}

#[test]
fn explain_says_why_and_never_prints_a_signature() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], roles: [A, B], owner: ada }], deny: [{ from: [203.0.113.0/24] }]",
    ));
    let claims = json!({
        "aud": "api://gateway",
        "iss": "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0",
        "tid": "11111111-1111-1111-1111-111111111111",
        "ver": "2.0",
        "azp": "aaaaaaaa-0000-0000-0000-000000000001",
        "idtyp": "app",
        "roles": ["C"],
        "exp": 1_900_000_000,
    });
    let token = token(&claims);
    place.write("token.txt", &format!("Bearer {token}\n"));
    place.write("claims.json", &claims.to_string());
    let (said, code) = place.ask("explain POST https://localhost/other?sig=planted-sas --token token.txt --at 2027-01-15T12:00:00Z");
    assert_eq!(code, Some(1));
    let expected = "\
request   POST localhost/other from 127.0.0.1
          taken out: sig
route     other (policies/policy.yaml:7:3), /other
token     v2 appOnly of contoso (11111111-1111-1111-1111-111111111111) by portal (aaaaaaaa-0000-0000-0000-000000000001); the signature is not looked at here
          principal none, audience api://gateway
rule      deny[0] (policies/policy.yaml:7:172) does not hold
        - from: 203.0.113.0/24; got 127.0.0.1
rule      allow[0] (policies/policy.yaml:7:74) does not hold
          owner: ada
        + tenants: contoso (11111111-1111-1111-1111-111111111111); got contoso (11111111-1111-1111-1111-111111111111)
        + apps: portal (aaaaaaaa-0000-0000-0000-000000000001); got portal (aaaaaaaa-0000-0000-0000-000000000001)
        + tokenKinds: appOnly; got appOnly
        - roles: any of A, B; got C
decision  deny, 403: role-missing: A role is missing (expected one of the roles: A B, got none of them); closest allow[0]
";
    assert_eq!(said, expected);
    let (by_claims, _) = place
        .ask("explain POST /other?sig=planted-sas --claims claims.json --at 2027-01-15T12:00:00Z");
    assert_eq!(by_claims, expected);
    let (said, code) = place.ask("explain POST /other --token token.txt --at 2027-01-15T12:00:00Z --client 203.0.113.9 --format json");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (told["decision"]["reason"].as_str(), code),
        (Some("denied-by-rule"), Some(1))
    );
    assert_eq!(told["rules"][0]["holds"], true);
    let (said, _) = place.ask("explain POST /other --token token.txt");
    let signature = token.rsplit('.').next().expect("a signature");
    assert!(
        !said.contains(signature) && !said.contains("planted") && !said.contains("eyJ"),
        "{said}"
    );
    let (said, code) = place.ask("explain GET /guests/1");
    assert_eq!(code, Some(1));
    assert!(said.contains("deny, 401: token-missing"), "{said}");
    place.write("token.txt", "not-a-token");
    let (said, _) = place.ask("explain GET /guests/1 --token token.txt");
    assert!(said.contains("token     token-malformed"), "{said}");
    assert!(!said.contains("not-a-token"), "{said}");
}

#[test]
fn a_token_in_a_field_is_refused_and_not_dropped() {
    let place = Place::new(READ);
    for value in ["Bearer planted", "planted", "\u{1}planted"] {
        for name in ["Authorization", "authorization "] {
            let field = format!("{name}: {value}");
            let arguments = ["explain", "GET", "/guests/1", "--header", &field];
            let output = command(place.0.path(), PORTCULLIS, &arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{field}");
            assert!(
                said.contains("`--token`") && said.contains("`--claims`"),
                "{said}"
            );
            assert!(
                !said.contains("planted") && output.stdout.is_empty(),
                "{said}"
            );
        }
    }
    for value in ["Bearer planted", "planted", "[planted]", "'planted'"] {
        place.write(
            "policies/a.test.yaml",
            &format!("- {{ name: one, request: {{ method: GET, path: /guests/1, headers: {{ authorization: {value} }} }}, expect: deny }}\n"),
        );
        let (said, code) = place.ask("test policies");
        assert_eq!(code, Some(1));
        assert!(
            said.starts_with("error: a token is not written as a field\n"),
            "{said}"
        );
        assert!(said.contains("`token: { tenant: .., app: .. }`"), "{said}");
        assert!(!said.contains("planted"), "{said}");
    }
}

#[test]
fn explain_does_not_say_that_no_token_came_when_one_was_refused() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], roles: [A], when: \"'A' in token.roles || request.method == 'PUT'\" }]",
    ));
    let claims = |name: &str, value: Value| {
        let mut claims = json!({
            "aud": "api://gateway",
            "iss": "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0",
            "tid": "11111111-1111-1111-1111-111111111111",
            "ver": "2.0",
            "azp": "aaaaaaaa-0000-0000-0000-000000000001",
            "idtyp": "app",
            "roles": ["A"],
            "exp": 1_900_000_000,
        });
        claims[name] = value;
        place.write("claims.json", &claims.to_string());
    };
    let ask = |more: &str| {
        place
            .ask(&format!(
                "explain POST /other --at 2027-01-15T12:00:00Z {more}"
            ))
            .0
    };
    for (name, value, reason) in [
        ("exp", json!(1_700_000_000), "token-expired"),
        ("aud", json!("api://another"), "audience-mismatch"),
    ] {
        claims(name, value);
        let said = ask("--claims claims.json");
        assert!(
            said.contains(&format!("decision  deny, 401: {reason}")),
            "{said}"
        );
        assert!(!said.contains("no token"), "{said}");
        for expected in [
            "- tenants: contoso (11111111-1111-1111-1111-111111111111); got a token that was refused\n",
            "- roles: any of A; got a token that was refused\n",
            "; got a token that was refused, and so token.roles is absent, request.method is \"POST\"",
        ] {
            assert!(
                said.contains(expected),
                "{expected:?} is missing in:\n{said}"
            );
        }
    }
    let said = ask("--format human");
    assert!(said.contains("roles: any of A; got no token\n"), "{said}");
    assert!(!said.contains("that was refused"), "{said}");
}

#[test]
fn explain_holds_tokens_to_what_the_gateways_configuration_says() {
    let place = Place::new(READ);
    place.write(
        "gateway.yaml",
        "listen: { address: 127.0.0.1:8080, tls: platform }\npolicies: policies\nentra: { tokenVersions: [v2], algorithms: [PS256] }\n",
    );
    let claims = json!({
        "iss": "https://sts.windows.net/11111111-1111-1111-1111-111111111111/",
        "tid": "11111111-1111-1111-1111-111111111111", "ver": "1.0", "aud": "api://gateway",
        "appid": "aaaaaaaa-0000-0000-0000-000000000001", "idtyp": "app", "exp": 4_000_000_000_u64,
    });
    place.write("claims.json", &claims.to_string());
    place.write("token.txt", &token(&claims));
    for (given, policies, expected) in [
        ("--claims claims.json", "policies", "decision  allow: "),
        (
            "--claims claims.json",
            "gateway.yaml",
            "decision  deny, 401: token-version-not-accepted",
        ),
        ("--token token.txt", "policies", "decision  allow: "),
        (
            "--token token.txt",
            "gateway.yaml",
            "decision  deny, 401: algorithm-not-allowed",
        ),
    ] {
        let (said, _) = place.ask(&format!(
            "explain GET /guests/1 {given} --policies {policies}"
        ));
        assert!(said.contains(expected), "{given} {policies}\n{said}");
    }
}

#[test]
fn explain_prints_no_secret_wherever_somebody_put_it() {
    let open = "match: { methods: [GET], path: '/open/{*rest}' }, backend: b, public: true, keepParameters: [code]";
    let place = Place::new(&format!("{READ}  open: {{ {open} }}\n"));
    let claims = json!({ "aud": "api://gateway" });
    let token = token(&claims);
    let signature = token.rsplit('.').next().expect("a signature");
    let url = format!(
        "https://localhost/open/{token}?code=planted&sig=planted&state=planted&token={token}"
    );
    let output = |arguments: &[&str]| {
        let output = command(place.0.path(), PORTCULLIS, arguments);
        let said = [output.stdout, output.stderr].concat();
        (
            String::from_utf8_lossy(&said).into_owned(),
            output.status.code(),
        )
    };
    for format in ["human", "json"] {
        let (said, code) = output(&["explain", "GET", &url, "--format", format]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            !said.contains("planted") && !said.contains(signature),
            "{said}"
        );
        assert!(said.contains("/open/(a token)"), "{said}");
        assert!(said.contains("code=***&state=***&token=***"), "{said}");
        // `code` reaches the backend here.
        assert!(
            !said.contains("\"code\"") && !said.contains("sig, code"),
            "{said}"
        );
    }
    for (arguments, expected) in [
        (
            vec!["explain", "GET", "/open/1", "--token", &token],
            "this is a token where the name of a file belongs",
        ),
        (
            vec!["explain", "GET", "https://ada:planted@localhost/open/1"],
            "the URL holds user information",
        ),
        (
            vec![
                "explain",
                "GET",
                "/open/1",
                "--host",
                "ada:planted@localhost",
            ],
            "the host holds user information",
        ),
        (
            vec![
                "who-can",
                "GET",
                "/nothing?sig=planted",
                "--policies",
                "policies",
            ],
            "no route takes GET /nothing on the host localhost",
        ),
    ] {
        let (said, code) = output(&arguments);
        assert!(said.contains(expected), "{said}");
        assert!(
            !said.contains("planted") && !said.contains(signature),
            "{said}"
        );
        assert_ne!(code, Some(0), "{said}");
    }
}

#[test]
fn explain_takes_no_claims_in_which_a_name_stands_twice() {
    let place = Place::new(READ);
    place.write("claims.json", "{ \"azp\": \"1\", \"azp\": \"2\" }");
    let output = place.run("explain GET /guests/1 --claims claims.json");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("each name stands once"), "{said}");
}

#[test]
fn what_steers_a_terminal_is_written_out() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], owner: \"ada\\e[31m\\u202e\" }]",
    ));
    for format in ["human", "json"] {
        let (said, _) = place.ask(&format!("explain POST /other --format {format}"));
        assert!(said.contains("ada\\u001b[31m\\u202e"), "{said}");
    }
}

#[test]
fn what_cannot_be_written_is_no_success() {
    let place = Place::new(READ);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("a full device");
    let output = Command::new(PORTCULLIS)
        .current_dir(place.0.path())
        .args(["who-can", "--all"])
        .stdout(full)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("standard output cannot be written"), "{said}");
}
