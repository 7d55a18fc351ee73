//! The keys that the decoders know, for tests that hold other lists of them against those.

use std::path::Path;

use super::diagnostics::Diagnostics;
use super::load::{parse_policies, parse_tests};

const STRANGER: &str = "zzzzzz";

/// The keys that may stand in the mapping `{}` of a policy, or of a test in its list, in alphabetical
/// order: what a decoder says of one that may not.
pub(super) fn keys_at(place: &str) -> Vec<String> {
    let text = place.replace("{}", &format!("{{ {STRANGER}: 1 }}"));
    let mut diagnostics = Diagnostics::new();
    match text.starts_with('[') {
        true => drop(parse_tests(
            Path::new("a.test.yaml"),
            &text,
            &mut diagnostics,
        )),
        false => drop(parse_policies(
            &[(Path::new("a.yaml"), &text)],
            &mut diagnostics,
        )),
    }
    let stranger = text.find(STRANGER).expect(place);
    let sorted = diagnostics.sorted();
    let mut of_stranger = sorted.iter().filter(|found| {
        found.message().starts_with("unknown key") && found.primary().span.range().start == stranger
    });
    let helps = of_stranger.next().expect(place).helps().iter();
    let mut keys: Vec<String> = helps
        .flat_map(|help| help.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    keys.sort();
    keys
}
