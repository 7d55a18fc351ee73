//! What a condition tells of itself.

use super::{World, compiled};
use crate::policy::condition::Field;

#[test]
fn a_condition_that_hangs_on_nothing_has_a_constant_value() {
    for (text, value) in [
        ("true || token.upn == 'a'", Some(true)),
        ("token.upn == 'a' || true", Some(true)),
        ("1 == 2", Some(false)),
        ("token.upn == 'a' && 1 > 2", Some(false)),
        ("[1, 2].exists(n, n == 2)", Some(true)),
        ("token.upn == token.upn", None),
        ("has(token.upn)", None),
        ("1 / 0 == 1", None),
    ] {
        assert_eq!(compiled(text).constant(), value, "{text}");
    }
}

#[test]
fn one_meaning_has_one_spelling() {
    for (text, normal) in [
        ("  token.upn==\"a\" // so", "token.upn == 'a'"),
        ("((true)&&(false))||true", "true && false || true"),
        ("true && (false || true)", "true && (false || true)"),
        ("true && (true && true)", "true && true && true"),
        ("!(token.upn == 'a')", "!(token.upn == 'a')"),
        ("!(!true)", "!(!true)"),
        ("(1 + 2) * 3 - (4 - 5) == 0", "(1 + 2) * 3 - (4 - 5) == 0"),
        ("1 + (2 * 3) == (7)", "1 + 2 * 3 == 7"),
        ("-(-1) == 0x1", "-(-1) == 1"),
        ("(1 == 2) == false", "1 == 2 == false"),
        ("true == (1 == 2)", "true == (1 == 2)"),
        ("(true ? 1 : 2) == 1", "(true ? 1 : 2) == 1"),
        (
            "true ? false : (true ? true : false)",
            "true ? false : true ? true : false",
        ),
        (
            "'it\\'s \\\\ \\u0007\\n' == r\"it\"",
            "'it\\'s \\\\ \\u0007\\n' == 'it'",
        ),
        (
            "request.headers.Abc == request.headers['ABC']",
            "request.headers['abc'] == request.headers['abc']",
        ),
        (
            "token.claims.upn == token.upn",
            "token.claims['upn'] == token.upn",
        ),
        (
            "has(token.claims.x) && has(token.upn)",
            "'x' in token.claims && 'upn' in token.claims",
        ),
        (
            "has(token.claims.a.b) && has(token.groups)",
            "has(token.claims['a'].b) && has(token.groups)",
        ),
        (
            "token.roles.size()==size(token.roles)",
            "size(token.roles) == size(token.roles)",
        ),
        (
            "request.time<timestamp('2026-01-31T13:00:00+01:00')",
            "request.time < timestamp('2026-01-31T12:00:00Z')",
        ),
        (
            "token.roles.map(r,r>'a',r).exists(x,x.matches(\"a\"))",
            "token.roles.map(r, r > 'a', r).exists(x, x.matches('a'))",
        ),
        (
            "1e3 == 1000.0 && [1,2,]==[1, 2]",
            "1000.0 == 1000.0 && [1, 2] == [1, 2]",
        ),
    ] {
        let condition = compiled(text);
        assert_eq!(condition.normal(), normal, "{text}");
        assert_eq!(condition.text(), text);
        assert_eq!(compiled(normal).normal(), normal, "{text}");
    }
}

#[test]
fn a_condition_tells_what_it_reads() {
    let condition = compiled(
        "token.upn == 'a' && token.claims['x'] == 1 && 'X-A' in request.headers \
         && request.headers['x-a'] == 'b' && request.parameters['id'] == 'c' && 'g' in token.groups",
    );
    assert_eq!(condition.claims().collect::<Vec<_>>(), ["upn", "x"]);
    assert_eq!(condition.headers().collect::<Vec<_>>(), ["x-a"]);
    assert_eq!(condition.parameters().collect::<Vec<_>>(), ["id"]);
    assert!(condition.reads_token() && condition.reads_parameters());
    let other = compiled("request.method == 'GET'");
    assert!(!other.reads_token() && !other.reads_parameters());
}

#[test]
fn what_a_condition_reads_is_told_with_its_values() {
    let world = World {
        unknown: vec![Field::Host],
        overage: true,
        ..World::new()
    };
    let condition = compiled(
        "token.upn == 'a' || token.email == 'b' || request.host == 'c' || 'd' in token.groups \
         || 'e' in token.roles || token.claims['address'] == 1 || request.time == request.time",
    );
    let values = condition.values(&world);
    let values: Vec<_> = values
        .iter()
        .map(|(field, value)| (&**field, &**value))
        .collect();
    assert_eq!(
        values,
        [
            ("token.upn", "\"ann@example.com\""),
            ("token.email", "absent"),
            ("request.host", "unknown"),
            (
                "token.groups",
                "the token lists no groups, for the caller is in too many"
            ),
            ("token.roles", "[\"Reader\",\"Writer\"]"),
            (
                "token.claims['address']",
                "{\"city\":\"Bern\",\"zip\":3000}"
            ),
            ("request.time", "\"2026-01-31T12:30:15Z\""),
        ]
    );
}
