//! The name that somebody probably meant.

/// The candidate nearest to `name`, if one is near enough to be worth naming: a third of the
/// letters of the longer may differ, while case, `-` and `_` count for nothing. Of several the first, so the
/// candidates must have an order.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let folded = fold(name);
    candidates
        .into_iter()
        .filter_map(|candidate| Some((near(&folded, &fold(candidate))?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn near(written: &str, candidate: &str) -> Option<usize> {
    let longer = written.chars().count().max(candidate.chars().count());
    let distance = strsim::damerau_levenshtein(written, candidate);
    (distance <= (longer / 3).max(1) && distance < candidate.len()).then_some(distance)
}

fn fold(name: &str) -> String {
    name.chars()
        .filter(|letter| !matches!(letter, '-' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_a_stranger_is_not() {
        let candidates = ["backend", "allow", "rateLimit", "clientAddress", "id"];
        for (written, meant) in [
            ("backened", Some("backend")),
            ("rate_limit", Some("rateLimit")),
            ("RATELIMIT", Some("rateLimit")),
            ("clientAdress", Some("clientAddress")),
            ("alow", Some("allow")),
            ("backens", Some("backend")),
            ("frontend", None),
            ("zz", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, candidates), meant, "{written}");
        }
    }
}
