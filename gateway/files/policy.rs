//! policies/*.yaml, the security team's files: names for GUIDs, backends and routes. Several files
//! make one document.

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use super::backend::{Backend, backend};
use super::decode::{Table, expected, list, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::node::{Entry, Node, Value};
use super::route::{Route, route};
use super::source::{Span, Spanned};
use super::values::{guid, token};

/// Everything that the policy files say, each list in the order of the files.
///
/// INVARIANT: whatever stands in a list was understood whole. What was not is left out, and an
/// error has been added: a document must not be enforced when there are errors, since a route that
/// was left out may leave its path to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyDocument {
    /// `tenants`: names for tenant IDs.
    pub tenants: Vec<Named<Uuid>>,
    /// `apps`: names for the IDs of client applications.
    pub apps: Vec<Named<Uuid>>,
    /// `audiences`: whom a token must be meant for.
    pub audiences: Vec<Spanned<String>>,
    /// `backends`.
    pub backends: Vec<Named<Backend>>,
    /// `routes`.
    pub routes: Vec<Named<Route>>,
    /// What was left out.
    pub faulty: Faulty,
}

/// Something that has a name.
#[derive(Clone, Debug)]
pub struct Named<T> {
    /// The name: `[a-z0-9][a-z0-9._-]*`, whatever its case; no two differ in case alone.
    pub name: Spanned<String>,
    /// What bears it.
    pub value: T,
    /// Where that was written.
    pub span: Span,
}

/// By name and value alone, as [`Spanned`] is.
impl<T: PartialEq> PartialEq for Named<T> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value == other.value
    }
}

/// The names whose values were at fault: a reference to one of them is no fault of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faulty {
    names: BTreeSet<String>,
    whole_files: bool,
}

impl Faulty {
    /// Whether something of this name may have been left out.
    pub fn may_hold(&self, name: &str) -> bool {
        self.whole_files || self.names.contains(name)
    }

    /// A whole file was left out, and nobody knows which names with it.
    pub(super) fn add_file(&mut self) {
        self.whole_files = true;
    }
}

impl PolicyDocument {
    /// Adds what one file says.
    pub(super) fn add(&mut self, root: &Node, d: &mut Diagnostics) {
        let Some(mut table) = Table::of(root, "the keys of a policy file", d) else {
            return self.faulty.add_file();
        };
        let faulty = &mut self.faulty;
        let kinds = (
            table.entry("tenants"),
            table.entry("apps"),
            table.entry("backends"),
            table.entry("routes"),
        );
        named(kinds.0, "tenant", &mut self.tenants, faulty, d, guid);
        named(kinds.1, "app", &mut self.apps, faulty, d, guid);
        let audiences = table.optional("audiences", d, |node, d| {
            let decode = |node: &Node, d: &mut Diagnostics| token(node, "an audience", d);
            list(
                node,
                "no token would be meant for the gateway",
                d,
                spanned(decode),
            )
        });
        self.audiences.extend(audiences.unwrap_or_default());
        named(kinds.2, "backend", &mut self.backends, faulty, d, backend);
        named(kinds.3, "route", &mut self.routes, faulty, d, route);
        table.finish(d);
    }

    /// What can be said only when every file has been read.
    pub(super) fn finish(&self, d: &mut Diagnostics) {
        warn_of_second_names(&self.tenants, d);
        warn_of_second_names(&self.apps, d);
        warn_of_repeats(&self.audiences, d);
    }
}

/// Adds the entries of a mapping of names. An entry at fault leaves its name behind.
fn named<T>(
    mapping: Option<&Entry>,
    kind: &str,
    into: &mut Vec<Named<T>>,
    faulty: &mut Faulty,
    d: &mut Diagnostics,
    decode: impl Fn(&Node, &mut Diagnostics) -> Option<T>,
) {
    let Some(mapping) = mapping else {
        return;
    };
    let Value::Mapping(entries) = &mapping.value.value else {
        faulty.add_file();
        expected(&mapping.value, "a mapping of names", d);
        return;
    };
    let mut seen: HashMap<String, Span> = into
        .iter()
        .map(|named| (named.name.value.to_lowercase(), named.name.span.clone()))
        .collect();
    for entry in entries.iter().filter(|entry| !entry.refused) {
        let before = d.errors();
        check_name(entry, kind, &mut seen, d);
        let value = decode(&entry.value, d);
        match value.filter(|_| d.errors() == before) {
            Some(value) => into.push(Named {
                name: Spanned::new(entry.key.clone(), entry.span.clone()),
                value,
                span: entry.value.span.clone(),
            }),
            None => {
                faulty.names.insert(entry.key.clone());
            }
        }
    }
}

fn check_name(entry: &Entry, kind: &str, seen: &mut HashMap<String, Span>, d: &mut Diagnostics) {
    if !is_name(&entry.key) {
        d.error(&entry.span, format!("this cannot be the name of a {kind}"))
            .help("a name is made of letters a to z, digits, `.`, `_` and `-`, and begins with a letter or digit");
    }
    let folded = entry.key.to_lowercase();
    match seen.get(&folded) {
        Some(first) => {
            d.error(&entry.span, format!("there are two {kind}s of this name"))
                .label("and again here")
                .also(first, "first named here")
                .help(
                    "names that differ in case alone count as one; rename or remove one of the two",
                );
        }
        None => {
            seen.insert(folded, entry.span.clone());
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-'))
}

/// Two names for one GUID: a rule for the one lets the other in, and a review may miss it.
fn warn_of_second_names(named: &[Named<Uuid>], d: &mut Diagnostics) {
    let mut seen: HashMap<Uuid, &Named<Uuid>> = HashMap::new();
    for second in named {
        match seen.get(&second.value) {
            Some(first) => {
                let (first, span) = (&first.name.value, &first.span);
                d.warning(
                    &second.span,
                    format!("this GUID has the name `{first}` already"),
                )
                .also(span, "first named here")
                .help("keep one name, so that a review sees who is meant");
            }
            None => {
                seen.insert(second.value, second);
            }
        }
    }
}
