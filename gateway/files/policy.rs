//! policies/*.yaml, the security team's files: names for GUIDs, backends and routes. Several files
//! make one document.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use aws_lc_rs::digest;
use ipnet::IpNet;
use uuid::Uuid;

use super::backend::{Backend, backend};
use super::decode::{Table, expected, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::limit::{RateLimit, check_names, rate_limits};
use super::node::{Entry, Node, Value};
use super::route::{Route, audiences, route};
use super::rule::{Mode, cidrs, mode, owner, token_kinds};
use super::source::{Source, Span, Spanned};
use super::values::guid;
use crate::token::TokenKind;

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
    /// `principals`: names for the object IDs of users and service principals.
    pub principals: Vec<Named<Uuid>>,
    /// `groups`: names for the object IDs of groups.
    pub groups: Vec<Named<Uuid>>,
    /// `networks`: names for where callers connect from.
    pub networks: Vec<Named<Vec<Spanned<IpNet>>>>,
    /// `audiences`: whom a token must be meant for.
    pub audiences: Vec<Spanned<String>>,
    /// `defaults`: what holds for routes that do not say otherwise. They have it filled in already.
    pub defaults: Option<Spanned<Defaults>>,
    /// `backends`.
    pub backends: Vec<Named<Backend>>,
    /// `routes`.
    pub routes: Vec<Named<Route>>,
    /// What was left out.
    pub faulty: Faulty,
    /// The files that it was read from, in the order of their names.
    pub files: Vec<PolicyFile>,
}

/// A file that was read, and the SHA-256 of its bytes in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its path, as it was given.
    pub name: String,
    /// The digest.
    pub digest: String,
}

impl PolicyFile {
    fn of(source: &Source) -> Self {
        Self {
            name: source.name().to_owned(),
            digest: hexadecimal(source.text().as_bytes()),
        }
    }
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// `defaults`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Defaults {
    /// The `mode` of routes.
    pub mode: Option<Spanned<Mode>>,
    /// The `owner` of routes.
    pub owner: Option<Spanned<String>>,
    /// The `tokenKinds` of allow rules.
    pub token_kinds: Vec<Spanned<TokenKind>>,
    /// The `rateLimit` of routes.
    pub rate_limits: Vec<Spanned<RateLimit>>,
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
    /// One digest for all files and their contents: two documents of one digest say the same.
    pub fn digest(&self) -> String {
        let file = |file: &PolicyFile| {
            let name = Path::new(&file.name).file_name().unwrap_or_default();
            format!("{} {}\n", file.digest, name.to_string_lossy())
        };
        hexadecimal(self.files.iter().map(file).collect::<String>().as_bytes())
    }

    /// Adds what one file says.
    pub(super) fn add(&mut self, root: &Node, d: &mut Diagnostics) {
        self.files.push(PolicyFile::of(root.span.source()));
        let Some(mut table) = Table::of(root, "the keys of a policy file", d) else {
            return self.faulty.add_file();
        };
        let faulty = &mut self.faulty;
        let kinds = (
            table.entry("tenants"),
            table.entry("apps"),
            table.entry("principals"),
            table.entry("groups"),
            table.entry("networks"),
            table.entry("backends"),
            table.entry("routes"),
        );
        named(kinds.0, "tenant", &mut self.tenants, faulty, d, guid);
        named(kinds.1, "app", &mut self.apps, faulty, d, guid);
        named(kinds.2, "principal", &mut self.principals, faulty, d, guid);
        named(kinds.3, "group", &mut self.groups, faulty, d, guid);
        named(kinds.4, "network", &mut self.networks, faulty, d, cidrs);
        let audiences = table.optional("audiences", d, audiences);
        self.audiences.extend(audiences.unwrap_or_default());
        let written = table.entry("defaults");
        named(kinds.5, "backend", &mut self.backends, faulty, d, backend);
        named(kinds.6, "route", &mut self.routes, faulty, d, route);
        table.finish(d);
        if let Some(written) = written {
            self.add_defaults(written, d);
        }
    }

    /// What can be said only when every file has been read.
    pub(super) fn finish(&mut self, d: &mut Diagnostics) {
        warn_of_second_names(&self.tenants, d);
        warn_of_second_names(&self.apps, d);
        warn_of_second_names(&self.principals, d);
        warn_of_second_names(&self.groups, d);
        warn_of_repeats(&self.audiences, d);
        self.apply_defaults();
        for route in &self.routes {
            let rates = route.value.rate_limits.iter();
            let rates = rates.map(|limit| (limit.value.name.as_ref(), &limit.span));
            let quotas = route.value.quotas.iter();
            let quotas = quotas.map(|quota| (quota.value.name.as_ref(), &quota.span));
            check_names(&rates.chain(quotas).collect::<Vec<_>>(), d);
        }
    }

    fn add_defaults(&mut self, entry: &Entry, d: &mut Diagnostics) {
        if let Some(first) = &self.defaults {
            d.error(&entry.span, "`defaults` stand in one file of a folder")
                .also(&first.span, "they stand here already")
                .help("put them together: where they differ, no order would say which hold");
            return;
        }
        let defaults = defaults(&entry.value, d);
        self.defaults = defaults.map(|defaults| Spanned::new(defaults, entry.span.clone()));
    }

    /// Fills in what routes and rules leave to `defaults`.
    fn apply_defaults(&mut self) {
        let Some(defaults) = self.defaults.as_ref().map(|spanned| &spanned.value) else {
            return;
        };
        for route in self.routes.iter_mut().map(|named| &mut named.value) {
            route.mode = route.mode.take().or_else(|| defaults.mode.clone());
            route.owner = route.owner.take().or_else(|| defaults.owner.clone());
            if route.rate_limits.is_empty() {
                route.rate_limits.clone_from(&defaults.rate_limits);
            }
            for rule in route.allow.iter_mut().map(|rule| &mut rule.value) {
                if rule.token_kinds.is_empty() {
                    rule.token_kinds.clone_from(&defaults.token_kinds);
                }
            }
        }
    }
}

fn defaults(node: &Node, d: &mut Diagnostics) -> Option<Defaults> {
    let mut table = Table::of(node, "the keys that routes may leave out", d)?;
    let defaults = Defaults {
        mode: table.optional("mode", d, spanned(mode)),
        owner: table.optional("owner", d, spanned(owner)),
        token_kinds: table
            .optional("tokenKinds", d, token_kinds)
            .unwrap_or_default(),
        rate_limits: table
            .optional("rateLimit", d, rate_limits)
            .unwrap_or_default(),
    };
    table.finish(d);
    Some(defaults)
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
