//! What is never printed, though it stands in a file: whatever somebody may have written where a
//! secret would stand. A line that is shown because of a fault shows `***` in its place.
//!
//! A false alarm costs a reader a look into the file; a miss puts a secret into a build log. So
//! this goes by the place of a value first and by its look second, and hides rather too much.

use std::ops::Range;

use http::HeaderName;
use uuid::Uuid;

use super::comments::Scalars;
use super::look::{holds_a_promise, is_secretive, is_variable, promises, telling};
use super::nearest::nearest;
use super::node::{Entry, Node, Value};
use super::secret::is_vault_secret;

/// The mappings at the top of a policy file whose keys are names that people choose.
const NAMED: [&str; 7] = [
    "tenants",
    "apps",
    "principals",
    "groups",
    "networks",
    "backends",
    "routes",
];

/// The keys of a test's `token`.
const TOKEN_KEYS: [&str; 14] = [
    "version",
    "tenant",
    "app",
    "principal",
    "kind",
    "authStrength",
    "audience",
    "roles",
    "scopes",
    "groups",
    "groupOverage",
    "notBefore",
    "expires",
    "claims",
];

/// What a value may be, by the keys that lead to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    /// The mapping's keys are names, not words of ours.
    Names,
    /// A test, in a list of tests.
    Test,
    /// Below the `token` of a test: claims in the words of a policy, no token.
    Token,
    /// Below `credential`.
    Credential,
    /// Below `header`, in a credential.
    Header,
    /// Below `app`, in a credential.
    App,
    /// Below `seal`, in gateway.yaml.
    Seal,
    /// Where a secret or a reference to one stands.
    Secret,
}

impl Place {
    /// The keys that belong here; another key may be a secret itself.
    const fn known(self) -> &'static [&'static str] {
        match self {
            Self::Open | Self::Names | Self::Test => &[],
            Self::Token => &TOKEN_KEYS,
            Self::Credential => &[
                "managedIdentity",
                "workloadIdentity",
                "app",
                "functionKey",
                "header",
                "sas",
            ],
            Self::Header => &["name", "value"],
            Self::App => &["resource", "tenantId", "clientId", "secret", "certificate"],
            Self::Seal => &["keys", "lifetime"],
            Self::Secret => &["env", "file", "keyVault"],
        }
    }
}

/// What to hide in a file that was understood.
pub(super) fn by_place(root: &Node) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    match &root.value {
        Value::Mapping(entries) => {
            for entry in entries {
                let named = NAMED.contains(&&*entry.key);
                let place = if named {
                    Place::Names
                } else {
                    below(Place::Open, &entry.key)
                };
                walk(&entry.value, place, &mut hidden);
            }
        }
        // A text by itself is no document of ours: it may be a key that a link leads to.
        Value::Plain(_) | Value::Quoted(_) | Value::Refused => hidden.push(root.span.range()),
        // A list is one of tests.
        Value::List(_) | Value::Null => walk(root, Place::Test, &mut hidden),
    }
    // No fault lies in a comment, and what was commented out may have been a secret.
    let comments = Scalars::of(root).comments();
    hidden.extend(comments.into_iter().map(|range| range.start + 1..range.end));
    hidden
}

fn walk(node: &Node, place: Place, hidden: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Plain(text) | Value::Quoted(text) => scalar(node, text, place, hidden),
        // A text that begins with `*` and lacks its quotes: how it looks is known already.
        Value::Refused => scalar(node, "", place, hidden),
        Value::List(items) => {
            for item in items {
                walk(item, place, hidden);
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                member(entry, place, hidden);
            }
        }
        Value::Null => {}
    }
}

fn member(entry: &Entry, place: Place, hidden: &mut Vec<Range<usize>>) {
    let value = &entry.value;
    let known = place.known();
    let strange = !known.is_empty() && nearest(&entry.key, known.iter().copied()).is_none();
    if strange || telling(&entry.key).next().is_some() {
        // `{ s3cr3t }` is a key without a value, and so is `{ password:s3cr3t }`.
        hidden.push(entry.span.range());
    }
    let inner = match (place, &value.value) {
        (Place::Secret, Value::Plain(text) | Value::Quoted(text))
            if entry.key == "env" && is_variable(text) =>
        {
            Place::Open
        }
        (Place::Secret, Value::Plain(text) | Value::Quoted(text))
            if entry.key == "keyVault" && is_vault_secret(text) =>
        {
            Place::Open
        }
        // A key that slipped out of its mapping: what has a name here is a GUID or a mapping.
        (Place::Names, Value::Plain(text) | Value::Quoted(text))
            if promises(&entry.key) && Uuid::try_parse(text).is_err() =>
        {
            Place::Secret
        }
        // A whole field where its name belongs, and a credential that is no mapping.
        (Place::Header, Value::Plain(text) | Value::Quoted(text))
            if entry.key == "name" && HeaderName::from_bytes(text.as_bytes()).is_err() =>
        {
            Place::Secret
        }
        (Place::Credential, Value::Plain(_) | Value::Quoted(_))
            if matches!(&*entry.key, "managedIdentity" | "workloadIdentity") =>
        {
            Place::Secret
        }
        (Place::Test, Value::Mapping(_)) if entry.key == "token" => Place::Token,
        _ if entry.key.is_empty() || holds_a_promise(&entry.key) => Place::Secret,
        _ => below(place, &entry.key),
    };
    let before = hidden.len();
    walk(value, inner, hidden);
    if inner == Place::Secret && hidden.len() > before {
        // What stands between the colon and the value may be its beginning, taken for a tag.
        hidden.push(after_colon(entry)..value.span.range().start);
    }
}

/// Where the value of an entry begins, with whatever precedes it.
fn after_colon(entry: &Entry) -> usize {
    let range = entry.span.range().end..entry.value.span.range().start;
    let gap = entry
        .span
        .source()
        .text()
        .get(range.clone())
        .unwrap_or_default();
    match gap.split_once(':') {
        Some((before, after)) => {
            let spaces = after.len() - after.trim_start().len();
            range.start + before.len() + 1 + spaces
        }
        None => range.end,
    }
}

fn below(place: Place, key: &str) -> Place {
    match (place, key) {
        (Place::Names, _) => Place::Open,
        (Place::Test, _) => below(Place::Open, key),
        (Place::Token, _) if nearest(key, TOKEN_KEYS).is_some() => Place::Open,
        (Place::Open, "credential") => Place::Credential,
        (Place::Open, _) if is_secretive(key) || key.eq_ignore_ascii_case("authorization") => {
            Place::Secret
        }
        (Place::Open, _) if nearest(key, ["credential"]).is_some() => Place::Credential,
        (Place::Open, _) if nearest(key, ["seal"]).is_some() => Place::Seal,
        (Place::Open, _)
        | (Place::Credential, "managedIdentity" | "workloadIdentity")
        | (Place::Header, "name")
        | (Place::App, "resource" | "tenantId" | "clientId")
        | (Place::Seal, "lifetime")
        | (Place::Secret, "file") => Place::Open,
        (Place::Credential, "header") => Place::Header,
        (Place::Credential, "app") => Place::App,
        (
            Place::Credential
            | Place::Header
            | Place::App
            | Place::Token
            | Place::Seal
            | Place::Secret,
            _,
        ) => Place::Secret,
    }
}

fn scalar(node: &Node, text: &str, place: Place, hidden: &mut Vec<Range<usize>>) {
    let written = node.span.range();
    match place {
        Place::Open | Place::Names | Place::Test | Place::Token => {}
        Place::Credential if text == "none" => return,
        Place::Credential | Place::Header | Place::App | Place::Seal | Place::Secret => {
            return hidden.push(written);
        }
    }
    let raw = node.span.source().text().get(written.clone());
    let Some(raw) = raw.filter(|_| telling(text).next().is_some()) else {
        return;
    };
    let raw = raw.trim_end_matches(['"', '\'']);
    let mut found = telling(raw).peekable();
    if found.peek().is_none() {
        // Written with escapes that hide what it says.
        return hidden.push(written);
    }
    hidden.extend(found.map(|part| written.start + part.start..written.start + part.end));
}

#[cfg(test)]
mod tests {
    use super::super::known::keys_at;
    use super::*;

    fn sorted(keys: &[&'static str]) -> Vec<&'static str> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn the_keys_that_need_not_be_hidden_are_those_of_the_decoder() {
        for (known, place) in [
            (Place::Token.known(), "[{ token: {} }]"),
            (
                Place::Credential.known(),
                "backends: { b: { credential: {} } }",
            ),
            (
                Place::Header.known(),
                "backends: { b: { credential: { header: {} } } }",
            ),
            (
                Place::App.known(),
                "backends: { b: { credential: { app: {} } } }",
            ),
            (
                Place::Secret.known(),
                "backends: { b: { credential: { functionKey: {} } } }",
            ),
        ] {
            assert_eq!(sorted(known), keys_at(place), "{place}");
        }
    }

    #[test]
    fn the_mappings_whose_keys_are_names_are_those_of_a_policy() {
        let mut keys = keys_at("{}");
        keys.retain(|key| !matches!(&**key, "audiences" | "defaults"));
        assert_eq!(sorted(&NAMED), keys);
    }
}
