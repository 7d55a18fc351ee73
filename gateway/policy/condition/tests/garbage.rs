//! No text and no expression makes the compiler or the evaluation panic.

use proptest::prelude::*;

use super::{World, compiled};
use crate::policy::condition::{Condition, Field, Outcome};

/// Conditions and parts of them, mostly of the right types.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "true",
        "false",
        "null",
        "1",
        "-5",
        "2.5",
        "'a'",
        "[]",
        "token.upn",
        "token.email",
        "token.roles",
        "token.groups",
        "token.exp",
        "token.acct",
        "token.claims['mixed']",
        "token.claims['level']",
        "request.time",
        "request.host",
        "request.headers['x-region']",
        "has(token.upn)",
        "'x' in token.claims",
        "timestamp('2026-01-31T12:00:00Z')",
        "x",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let sign = prop::sample::select(vec![
            "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in", "+", "-", "*", "/", "%",
        ]);
        let method = prop::sample::select(vec!["startsWith", "contains", "matches", "size"]);
        let each = prop::sample::select(vec!["all", "exists", "exists_one", "filter", "map"]);
        let function = prop::sample::select(vec!["size", "int", "string", "!", "-", "has"]);
        prop_oneof![
            (inner.clone(), sign, inner.clone()).prop_map(|(a, b, c)| format!("({a} {b} {c})")),
            (inner.clone(), method, inner.clone()).prop_map(|(a, b, c)| format!("{a}.{b}({c})")),
            (inner.clone(), each, inner.clone()).prop_map(|(a, b, c)| format!("{a}.{b}(x, {c})")),
            (function, inner.clone()).prop_map(|(a, b)| format!("{a}({b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), 0..3_usize).prop_map(|(a, b)| format!("{a}[{b}]")),
            prop::collection::vec(inner, 0..4).prop_map(|parts| format!("[{}]", parts.join(","))),
        ]
    })
}

/// Compiles and evaluates, and looks at what must hold of every text.
fn survives(text: &str) {
    match Condition::compile(text, &|_, _| None) {
        Ok(condition) => {
            let world = World {
                unknown: vec![Field::Host],
                ..World::new()
            };
            let outcome = condition.evaluate(&world);
            let again = compiled(condition.normal());
            assert_eq!(again.normal(), condition.normal(), "{text}");
            assert_eq!(again.evaluate(&world), outcome, "{text}");
            if let Some(truth) = condition.constant() {
                assert_eq!(outcome, Outcome::Is(truth), "{text}");
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "{text}");
            for fault in faults {
                assert!(text.get(fault.range.clone()).is_some(), "{text}: {fault:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}") {
        survives(&text);
    }

    #[test]
    fn no_row_of_tokens_makes_it_panic(tokens in prop::collection::vec(prop::sample::select(vec![
        "token", "request", ".upn", ".claims", ".headers", "(", ")", "[", "]", "{", "}", ",", "?",
        ":", "!", "-", "+", "*", "==", "<", "in", "&&", "||", "1", "1u", "1.5", "'s'", "b'x'", "r'\\'",
        "true", "null", "has(", ".exists(", "x", "é", "//x\n", " ", "0x", "'''a'''", "if", "\u{0}",
        "9999999999999999999999", "'\\ud800'", ".size()", "timestamp(", ".matches(",
    ]), 1..24)) {
        survives(&tokens.concat());
    }

    #[test]
    fn no_small_expression_makes_it_panic(text in expression()) {
        survives(&text);
    }

    #[test]
    fn small_truths_mean_the_same_in_their_normal_spelling(
        left in expression(), right in expression(), sign in "==|!=|&&|[|][|]"
    ) {
        survives(&format!("{left} {sign} {right}"));
    }
}
