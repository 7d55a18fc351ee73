//! Patterns as files write them: `/guests/{id}/{*rest}` for paths, `*.contoso.com` for hosts.

/// A part of a path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'p> {
    /// Text as it stands.
    Text(&'p str),
    /// `{name}`: some of a segment.
    Parameter(&'p str),
    /// `{*name}`: all that follows.
    Rest(&'p str),
}

/// The parts of a path pattern. A `{` without its `}` is text.
pub(super) fn parts(pattern: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = pattern;
    std::iter::from_fn(move || {
        let (part, after) = match rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some((name, after)) => match name.strip_prefix('*') {
                Some(name) => (Part::Rest(name), after),
                None => (Part::Parameter(name), after),
            },
            None => {
                let begun = usize::from(rest.starts_with('{'));
                let end = rest.get(begun..)?.find('{').map(|at| at + begun);
                let (text, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
                (Part::Text(text), after)
            }
        };
        let more = !rest.is_empty();
        rest = after;
        more.then_some(part)
    })
}

/// The names of a path pattern's parameters, in their order.
pub(super) fn parameters(pattern: &str) -> Vec<&str> {
    let names = parts(pattern).filter_map(|part| match part {
        Part::Text(_) => None,
        Part::Parameter(name) | Part::Rest(name) => Some(name),
    });
    names.collect()
}

/// A path that a pattern takes: with this word for each parameter.
pub fn some_path(pattern: &str, word: &str) -> String {
    let texts = parts(pattern).map(|part| match part {
        Part::Text(text) => text,
        Part::Parameter(_) | Part::Rest(_) => word,
    });
    texts.collect()
}

/// A host that a pattern takes: with this word for what `*` stands for.
pub fn some_host(pattern: &str, word: &str) -> String {
    match pattern.strip_prefix('*') {
        Some(suffix) => format!("{word}{suffix}"),
        None => pattern.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_text_and_parameters() {
        use Part::{Parameter, Rest, Text};
        for (pattern, expected) in [
            ("", vec![]),
            ("/", vec![Text("/")]),
            ("/a/b", vec![Text("/a/b")]),
            (
                "/f/{name}.pdf",
                vec![Text("/f/"), Parameter("name"), Text(".pdf")],
            ),
            (
                "/{a}/{*b}",
                vec![Text("/"), Parameter("a"), Text("/"), Rest("b")],
            ),
            ("/{a", vec![Text("/"), Text("{a")]),
            ("/a}", vec![Text("/a}")]),
        ] {
            assert_eq!(parts(pattern).collect::<Vec<_>>(), expected, "{pattern}");
        }
        assert_eq!(parameters("/{a}/{*b}"), ["a", "b"]);
        assert_eq!(some_path("/{a}/f-{b}/{*c}", "x"), "/x/f-x/x");
    }

    #[test]
    fn a_host_pattern_stands_for_hosts() {
        assert_eq!(some_host("*.a.example", "x"), "x.a.example");
        assert_eq!(some_host("a.example", "x"), "a.example");
    }
}
