//! What bounds a condition: its text, its depth, its steps.

use serde_json::json;

use super::{World, compiled, faults, outcome};
use crate::policy::condition::{Failure, Outcome};

#[test]
fn depth_length_and_size_are_bounded_before_anything_recurses() {
    let around = |open: &str, close: &str, times: usize| {
        format!("{}true{}", open.repeat(times), close.repeat(times))
    };
    for (name, text, message) in [
        (
            "parentheses",
            around("(", ")", 1000),
            "this is nested too deep for a condition",
        ),
        (
            "lists",
            around("[", "]", 64),
            "this is nested too deep for a condition",
        ),
        (
            "calls",
            around("size(", ")", 500),
            "this is nested too deep for a condition",
        ),
        (
            "choices",
            "a?b:".repeat(900) + "c",
            "this is nested too deep for a condition",
        ),
        (
            "sums",
            "1+".repeat(1900) + "1",
            "this is nested too deep for a condition",
        ),
        (
            "relations",
            "1==".repeat(1300) + "1",
            "this is nested too deep for a condition",
        ),
        (
            "members",
            "a".to_owned() + &".a".repeat(2000),
            "this is nested too deep for a condition",
        ),
        (
            "indexes",
            "a".to_owned() + &"[0]".repeat(1300),
            "this is nested too deep for a condition",
        ),
        (
            "chains",
            format!("{}a{}", "(".repeat(30), ").a.a".repeat(30)),
            "this is nested too deep for a condition",
        ),
        (
            "nots",
            around("!(", ")", 500),
            "this is nested too deep for a condition",
        ),
        (
            "bytes",
            " ".repeat(4097),
            "a condition has at most 4096 bytes",
        ),
        (
            "letters",
            "é".repeat(2049),
            "a condition has at most 4096 bytes",
        ),
        (
            "ands",
            "true&&".repeat(600) + "true",
            "a condition has at most 500 parts",
        ),
        (
            "elements",
            format!("1 in [{}]", "1,".repeat(1000) + "1"),
            "a condition has at most 500 parts",
        ),
    ] {
        let faults = faults(&text);
        assert_eq!(faults.len(), 1, "{name}");
        assert_eq!(faults[0].message, message, "{name}");
        assert!(text.get(faults[0].range.clone()).is_some(), "{name}");
    }
}

#[test]
fn what_is_within_the_bounds_compiles_and_is_evaluated() {
    for (name, text) in [
        ("nots in a row", "!".repeat(4000) + "true"),
        (
            "parentheses",
            format!("{}true{}", "(".repeat(60), ")".repeat(60)),
        ),
        ("sums", "1+".repeat(60) + "1 == 61"),
        ("ands", "true&&".repeat(249) + "true"),
        ("choices", "false?false:".repeat(60) + "true"),
        ("a long list", format!("7 in [{}]", "1,".repeat(400) + "7")),
    ] {
        assert_eq!(outcome(&text), Outcome::Is(true), "{name}");
    }
}

#[test]
fn a_condition_takes_so_many_steps_and_no_more() {
    let mut world = World::new();
    world.roles = vec!["a".into(); 200];
    for (text, expected) in [
        ("token.roles.all(r, r == 'a')", Outcome::Is(true)),
        (
            "token.roles.all(r, token.roles.all(s, s == r))",
            Outcome::Failed(Failure::Budget),
        ),
        (
            "true || token.roles.all(r, token.roles.all(s, s == r))",
            Outcome::Is(true),
        ),
        (
            "token.roles.all(r, token.roles.all(s, s == r)) || true",
            Outcome::Failed(Failure::Budget),
        ),
        (
            "!token.roles.all(r, token.roles.all(s, s == r))",
            Outcome::Failed(Failure::Budget),
        ),
    ] {
        assert_eq!(compiled(text).evaluate(&world), expected, "{text}");
    }
}

#[test]
fn long_texts_cost_steps_by_their_length() {
    let mut world = World::new();
    world.headers.insert("x-long", "a".repeat(200_000));
    for (text, expected) in [
        (
            "request.headers['x-long'].contains('b')",
            Outcome::Is(false),
        ),
        ("request.headers['x-long'] == ''", Outcome::Is(false)),
        (
            "request.headers['x-long'].matches('a$')",
            Outcome::Failed(Failure::Budget),
        ),
        (
            "[1, 2, 3, 4].all(n, request.headers['x-long'].contains('a'))",
            Outcome::Failed(Failure::Budget),
        ),
        (
            "size(request.headers['x-long'] + request.headers['x-long']) > 9",
            Outcome::Failed(Failure::Budget),
        ),
    ] {
        assert_eq!(compiled(text).evaluate(&world), expected, "{text}");
    }
}

#[test]
fn a_claim_nested_deeper_than_any_condition_is_not_compared_to_its_end() {
    let mut world = World::new();
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    world.claims.insert("deep", deep);
    let condition = compiled("token.claims['deep'] == token.claims['deep']");
    assert_eq!(condition.evaluate(&world), Outcome::Failed(Failure::Budget));
}
