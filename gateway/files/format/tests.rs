//! Texts in, canonical texts out.

use proptest::prelude::*;

use super::super::known::keys_at;
use super::*;

fn formatted(text: &str) -> String {
    let mut diagnostics = Diagnostics::new();
    let formatted = format(Path::new("a.yaml"), text, &mut diagnostics);
    formatted.unwrap_or_else(|| panic!("{}\n{text}", diagnostics.render()))
}

#[test]
fn a_file_gets_one_form_and_keeps_its_comments() {
    let text = "\
# head
routes:   # all of them
    read:

        # who
        allow:   [ {apps: [ b,a ], tenants: [c]} ] # end of line
        match: {path: '/a b', methods: [GET]}
        # deeper, at the end
        backend: b


    # the next
    other:
      backend: b
tenants:
  c: 1   # one
# foot
";
    let expected = "\
# head
tenants:
  c: 1  # one
routes:  # all of them
  read:
    match: { methods: [GET], path: \"/a b\" }
    # deeper, at the end
    backend: b

    # who
    allow: [{ tenants: [c], apps: [b, a] }]  # end of line

  # the next
  other:
    backend: b
# foot
";
    assert_eq!(formatted(text), expected);
    assert_eq!(formatted(expected), expected);
}

#[test]
fn long_collections_and_those_with_comments_are_written_on_several_lines() {
    let name = "a".repeat(60);
    let text = format!("apps: [{name}, {name}]\nnetworks: [a, # first\n  b]\n");
    let expected = format!("apps:\n  - {name}\n  - {name}\nnetworks:\n  - a  # first\n  - b\n");
    assert_eq!(formatted(&text), expected);
}

#[test]
fn a_comment_of_an_entry_that_becomes_the_first_of_its_item_stands_above_the_item() {
    let text =
        "routes:\n  r:\n    allow:\n      - apps: [a]\n        # whose\n        tenants: [t]\n";
    let expected =
        "routes:\n  r:\n    allow:\n      # whose\n      - tenants: [t]\n        apps: [a]\n";
    assert_eq!(formatted(text), expected);
    assert_eq!(formatted(expected), expected);
}

#[test]
fn a_comment_behind_a_dash_or_above_a_value_stands_above_what_it_is_about() {
    for (text, expected) in [
        (
            "allow:\n  - # shop\n    t: x\n  - # bot\n    t: y\nz: 1\n",
            "allow:\n  # shop\n  - t: x\n  # bot\n  - t: y\nz: 1\n",
        ),
        (
            "a: 1\nwhen:\n  # hours only\n  'x == 1'\nreason: r\n",
            "a: 1\n# hours only\nwhen: \"x == 1\"\nreason: r\n",
        ),
        ("when:\n  # hours only\n\n  x\n", "# hours only\nwhen: x\n"),
    ] {
        assert_eq!(formatted(text), expected, "{text:?}");
        assert_eq!(formatted(expected), expected);
    }
}

#[test]
fn a_list_in_a_list_keeps_each_comment_once() {
    let text = "a:\n  # one\n  - - b  # two\n    # three\n    - - c\n\n  # four\n  - - d\n";
    let expected = "a:\n  # one\n  -\n    - b  # two\n    # three\n    -\n      - c\n\n  # four\n  -\n    - d\n";
    assert_eq!(formatted(text), expected);
    assert_eq!(formatted(expected), expected);
}

#[test]
fn a_block_of_text_keeps_the_comment_at_its_mark_and_the_blank_line_behind_it() {
    for (text, expected) in [
        ("a: |   # why\n   one\n", "a: |  # why\n  one\n"),
        ("a: >-  # why\n   # text\n", "a: |-  # why\n  # text\n"),
        (
            "r:\n  a: |\n    one\n\n\n  # two\n  b: 1\n",
            "r:\n  a: |\n    one\n\n  # two\n  b: 1\n",
        ),
        (
            "- a\n\n# one\n- |  # mark\n  one\n\n- > # mark\n  two\n- # three\n  c: 1\n",
            "- a\n\n# one\n- |  # mark\n  one\n\n- |  # mark\n  two\n# three\n- c: 1\n",
        ),
        ("a: |  # why\n", "a: \"\"  # why\n"),
        ("a: |\n  'c3' in b\n  && c\n", "a: |\n  'c3' in b\n  && c\n"),
        ("a:\n  # | b |\n  # |\n  'c'\n", "# | b |\n# |\na: \"c\"\n"),
    ] {
        assert_eq!(formatted(text), expected, "{text:?}");
        assert_eq!(formatted(expected), expected);
    }
}

#[test]
fn scalars_keep_what_they_are() {
    for (text, expected) in [
        ("a: 'x'\n", "a: \"x\"\n"),
        ("a: \"tr\\tue\"\n", "a: \"tr\\tue\"\n"),
        ("a: true\n", "a: true\n"),
        ("a: 'true'\n", "a: \"true\"\n"),
        ("a: ~\n", "a: null\n"),
        ("a:\n", "a:\n"),
        ("a: |\n   one\n   two\n", "a: |\n  one\n  two\n"),
        ("a: >-\n   one\n   two\n", "a: |-\n  one two\n"),
        ("a: one\n  two\n", "a: one two\n"),
        ("'a b': 1\n", "\"a b\": 1\n"),
        ("- a\n-   b: 1\n    c: 2\n", "- a\n- b: 1\n  c: 2\n"),
        ("a: []\nb: {}\n", "a: []\nb: {}\n"),
        ("a: b#c\n", "a: b#c\n"),
        ("a: 'b # c' # d\r\n", "a: \"b # c\"  # d\n"),
    ] {
        assert_eq!(formatted(text), expected, "{text:?}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_reason() {
    const TOO_DEEP: &str = "lists and mappings lie too deep in one another";
    for (text, reason) in [
        ("a: [b\n", "`[` is opened and never closed"),
        ("a: 1\na: 2\n", "this key is written twice"),
        (
            "a: &x 1\n",
            "anchors (`&`) and aliases (`*`) are not supported",
        ),
        ("", "the file is empty"),
        ("\u{feff}", "the file is empty"),
        ("\u{feff}# a\r\n", "the file is empty"),
        (&"#".repeat(20_000), "the file is empty"),
        ("a:\n\tb: 1\n", "a tab stands where only spaces may indent"),
        (&"[".repeat(10_000), TOO_DEEP),
        (&"{a: ".repeat(10_000), TOO_DEEP),
        (&"- ".repeat(10_000), TOO_DEEP),
        (&"? ".repeat(10_000), TOO_DEEP),
        (&steps(200), TOO_DEEP),
    ] {
        let start: String = text.chars().take(20).collect();
        let mut diagnostics = Diagnostics::new();
        let formatted = format(Path::new("a.yaml"), text, &mut diagnostics);
        assert_eq!(formatted, None, "{start:?}");
        let sorted = diagnostics.sorted();
        let said: Vec<_> = sorted.iter().map(|found| found.message()).collect();
        assert_eq!(said, [reason], "{start:?}");
    }
}

/// Mappings in mappings, each on a line of its own.
fn steps(depth: usize) -> String {
    let step = |depth| format!("{}a:\n", "  ".repeat(depth));
    (0..depth).map(step).collect()
}

#[test]
fn what_lies_as_deep_as_may_be_read_is_formatted() {
    for text in [
        "[".repeat(64) + &"]".repeat(64),
        "{a: ".repeat(64) + &"}".repeat(64),
        "- ".repeat(64) + "a\n",
        steps(64),
    ] {
        let once = formatted(&text);
        assert_eq!(formatted(&once), once);
    }
}

#[test]
fn a_mark_at_the_front_and_tabs_between_are_left_out_and_comments_are_not() {
    let long = "#".repeat(20_000);
    for (text, expected) in [
        ("\u{feff}# a\nb:   1\n", "# a\nb: 1\n"),
        ("\u{feff}b:   1 # a\r\n", "b: 1  # a\n"),
        ("a:\t1\t# b\n\t# c\n", "a: 1  # b\n# c\n"),
        (&format!("a: 1 {long}"), &format!("a: 1  {long}\n")),
        (&format!("a: b{long}"), &format!("a: b{long}\n")),
    ] {
        assert!(formatted(text) == expected, "{:.40}", text);
    }
}

#[test]
fn a_key_that_the_decoder_knows_has_its_place_in_the_order() {
    let route = Kind::Policy.below("routes").below("r");
    for (kind, place) in [
        (Kind::Policy, "{}"),
        (route, "routes: { r: {} }"),
        (route.below("match"), "routes: { r: { match: {} } }"),
        (route.below("allow"), "routes: { r: { allow: [{}] } }"),
        (route.below("deny"), "routes: { r: { deny: [{}] } }"),
        (route.below("rateLimit"), "routes: { r: { rateLimit: {} } }"),
        (route.below("quota"), "routes: { r: { quota: {} } }"),
        (
            route.below("concurrency"),
            "routes: { r: { concurrency: {} } }",
        ),
        (Kind::Tests, "[{}]"),
    ] {
        let mut ordered = kind.order().to_vec();
        ordered.sort_unstable();
        assert_eq!(ordered, keys_at(place), "{place}");
    }
}

#[test]
fn the_files_of_this_repository_are_formatted() {
    for (name, text) in [
        (
            "contoso.yaml",
            include_str!("../../../policies/contoso.yaml"),
        ),
        (
            "contoso.test.yaml",
            include_str!("../../../policies/contoso.test.yaml"),
        ),
        ("gateway.yaml", include_str!("../../../deploy/gateway.yaml")),
    ] {
        assert_eq!(formatted(text), text, "{name}");
    }
}

/// Random YAML in random styles, with comments.
fn yaml() -> impl Strategy<Value = String> {
    let word = proptest::sample::select(vec![
        "a",
        "b1",
        "\"q # r\"",
        "'it''s'",
        "x y",
        "1.5",
        "true",
        "~",
        "http://h/p?q=1#f",
        "\"\\n\"",
    ]);
    let block = proptest::sample::select(vec![
        "| # mark\n        text # no comment\n",
        ">-\n        folded\n        text\n\n",
    ]);
    let comment = proptest::sample::select(vec!["", "", "", " # beside", "   #tight", "  # two  "]);
    let flow = proptest::collection::vec(word.clone(), 0..4)
        .prop_map(|words| format!("[ {} ]", words.join(" , ")));
    let mapping = proptest::collection::vec(word.clone(), 0..3).prop_map(|words| {
        let parts = words
            .iter()
            .enumerate()
            .map(|(at, word)| format!("k{at}: {word}"));
        format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
    });
    let single = prop_oneof![4 => word, 1 => block].prop_map(str::to_owned);
    let value = prop_oneof![single, flow, mapping];
    let above = proptest::sample::select(vec![
        "",
        "",
        "\n",
        "# above\n",
        "\n# above\n\n",
        "  # odd\n",
        "      # deep\n",
    ]);
    let line = (above, value, comment);
    let block = proptest::collection::vec(line, 1..5);
    proptest::collection::vec((block, 0..3_u8), 1..4).prop_map(|blocks| {
        let mut text = String::new();
        for (at, (lines, style)) in blocks.iter().enumerate() {
            text += &format!("key{at}:\n");
            for (number, (above, value, comment)) in lines.iter().enumerate() {
                let indent = if *style == 2 { "     " } else { "  " };
                text += above;
                match style {
                    0 => text += &format!("{indent}- {value}{comment}\n"),
                    1 => {
                        text +=
                            &format!("{indent}- n{number}: {value}{comment}\n{indent}  more: x\n")
                    }
                    _ => text += &format!("{indent}n{number}:   {value}{comment}\n"),
                }
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn formatting_keeps_meaning_and_comments_and_is_done_at_once(text in yaml()) {
        let mut diagnostics = Diagnostics::new();
        let source = Source::new(Path::new("a.yaml"), text.clone());
        prop_assume!(tree::parse(&source, &mut diagnostics).is_some() && !diagnostics.has_errors());
        // That it comes out at all says that meaning and comments are those that went in.
        let once = formatted(&text);
        prop_assert_eq!(formatted(&once), once.clone(), "{}", text);
        for end in ["\r\n", "\r"] {
            let elsewhere = format!("\u{feff}{}", text.replace('\n', end));
            prop_assert_eq!(formatted(&elsewhere), once.clone(), "{:?}", elsewhere);
        }
        prop_assert!(once.lines().all(|line| line.trim_end() == line), "{}", once);
    }
}
