//! Rewrites: `/api/guests/{rest}`, with the parameters of the route's pattern put in place. What is put
//! in comes from the canonical path, so nothing has to be parsed or escaped again.

use super::tree::Values;

/// A compiled rewrite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewrite(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// By its place among the pattern's parameters.
    Parameter(usize),
}

impl Rewrite {
    /// Reads a rewrite. The error says what is wrong with it.
    pub(super) fn parse(text: &str, parameters: &[&str]) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("a rewrite begins with `/`".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or("a `{` without its `}`".to_owned())?;
            let position = parameters.iter().position(|known| *known == name);
            let position =
                position.ok_or_else(|| format!("the route's path has no parameter `{name}`"))?;
            parts.push(Part::Text(before.into()));
            parts.push(Part::Parameter(position));
            rest = after;
        }
        if rest.contains('}') {
            return Err("a `}` without its `{`".to_owned());
        }
        parts.push(Part::Text(rest.into()));
        Ok(Self(parts))
    }

    /// The text, as it was written but for the names of parameters.
    pub(super) fn pattern(&self) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Parameter(_) => "{}",
        });
        parts.collect()
    }

    /// The literal parts, each of which must be canonical by itself.
    pub(super) fn literal(&self) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Parameter(_) => "x",
        });
        parts.collect()
    }

    pub(super) fn apply(&self, parameters: &Values<'_>) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            // INVARIANT: `parse` has seen that the pattern has the parameter.
            Part::Parameter(position) => parameters.get(*position).unwrap_or_default(),
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pattern::parameters;
    use crate::policy::tree::{Tree, segments};

    #[test]
    fn a_rewrite_puts_parameters_in_place() {
        let pattern = "/guests/{id}/{*rest}";
        let mut tree = Tree::default();
        let segments = segments(pattern).expect("a pattern");
        tree.insert(&segments, 0).expect("an order");
        let rewrite =
            Rewrite::parse("/api/{rest}/of/{id}", &parameters(pattern)).expect("a rewrite");
        let (_, values) = tree.find("/guests/7/a/b%20c").expect("found");
        assert_eq!(rewrite.apply(&values), "/api/a/b%20c/of/7");
    }

    #[test]
    fn a_rewrite_that_cannot_be_applied_is_refused() {
        for text in ["api", "/{other}", "/{id", "/id}"] {
            assert!(Rewrite::parse(text, &["id"]).is_err(), "{text}");
        }
    }
}
