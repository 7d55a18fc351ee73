//! The compiled policy: its routes, and the one that matches a request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::Method;
use matchit::Params;

use super::method::{self, MethodSet};
use super::path::{Clash, Found, Paths};
use super::rewrite::Rewrite;
use crate::canonical::{KeptParameters, canonical_path};
use crate::denial::{Denial, Reason, allow_field};
use crate::ids::{AppId, TenantId};

/// The place of a route in its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(pub usize);

/// The place of a backend in its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackendId(pub usize);

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    pub(super) id: RouteId,
    pub(super) name: Arc<str>,
    pub(super) backend: BackendId,
    pub(super) access: Access,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) kept: KeptParameters,
}

impl Route {
    /// Its place in the policy.
    pub fn id(&self) -> RouteId {
        self.id
    }

    /// Its name in the policy files.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where its requests go.
    pub fn backend(&self) -> BackendId {
        self.backend
    }

    /// The query parameters that it uses although they look like keys.
    pub fn kept_parameters(&self) -> KeptParameters {
        self.kept
    }
}

/// Who may call a route.
#[derive(Debug)]
pub enum Access {
    /// Everybody, written out as `public: true`.
    Public,
    /// Whom one of the rules admits; with no rule, nobody.
    Rules(Vec<Rule>),
}

/// An allow rule. All that it says must hold; an empty list says nothing, but for `tenants`, which is
/// never empty.
#[derive(Debug)]
pub struct Rule {
    pub(super) tenants: Vec<TenantId>,
    pub(super) apps: Vec<AppId>,
    pub(super) roles: Vec<Box<str>>,
    pub(super) scopes: Vec<Box<str>>,
}

/// The routes, by host, path and method.
#[derive(Debug, Default)]
pub struct Policy {
    pub(super) routes: Vec<Route>,
    pub(super) tenants: HashSet<TenantId>,
    pub(super) audiences: Vec<Box<str>>,
    pub(super) apps: HashMap<AppId, Arc<str>>,
    pub(super) tenant_names: HashMap<TenantId, Arc<str>>,
    pub(super) hosts: Hosts,
}

/// Path tables by host: exact names, then suffixes from the longest, then those for any host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Table>,
    /// Each begins with the dot.
    suffixes: Vec<(Box<str>, Table)>,
    any: Table,
}

#[derive(Debug, Default)]
struct Table {
    paths: Paths,
    entries: Vec<Entry>,
}

/// The routes that share one pattern.
#[derive(Debug, Default)]
struct Entry {
    by_method: [Option<usize>; method::COUNT],
    methods: MethodSet,
}

/// The route that matched, and the path that the backend will see in place of the caller's.
#[derive(Debug)]
pub struct Matched<'p> {
    pub(super) route: &'p Route,
    rewritten: Option<String>,
}

impl<'p> Matched<'p> {
    /// The route.
    pub fn route(&self) -> &'p Route {
        self.route
    }

    /// Whether everybody may call the route, with or without a token.
    pub fn is_public(&self) -> bool {
        matches!(self.route.access, Access::Public)
    }

    /// The path by the route's `rewrite`, if it has one.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_deref()
    }
}

/// No route matched. A stranger must not learn which reason it was, so it is told only to callers
/// whose token is valid.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmatched(Denial);

impl Unmatched {
    /// The refusal, for a caller who has proved a principal.
    pub fn denial(self) -> Denial {
        self.0
    }
}

impl Policy {
    /// The route for a request in canonical form.
    ///
    /// # Errors
    /// When no route has the host and path, none of those that do has the method, or another letter
    /// case would have led elsewhere.
    pub fn find(&self, host: &str, method: &Method, path: &str) -> Result<Matched<'_>, Unmatched> {
        for table in self.hosts.tables(host) {
            match table.paths.find(path) {
                Found::Nothing => {}
                Found::Ambiguous => return Err(Unmatched(Reason::AmbiguousPath.into())),
                Found::Entry(entry, parameters) => {
                    return self.entry(table.entries.get(entry), method, &parameters);
                }
            }
        }
        Err(Unmatched(Reason::RouteNotFound.into()))
    }

    fn entry(
        &self,
        entry: Option<&Entry>,
        method: &Method,
        parameters: &Params<'_, '_>,
    ) -> Result<Matched<'_>, Unmatched> {
        let not_found = || Unmatched(Reason::RouteNotFound.into());
        let entry = entry.ok_or_else(not_found)?;
        let by_method = method::slot(method).and_then(|slot| entry.by_method.get(slot).copied()?);
        let Some(index) = by_method else {
            let methods: Vec<Method> = entry.methods.methods().collect();
            let (name, value) = allow_field(&methods);
            let denial = Denial::from(Reason::MethodNotAllowed).field(name, value);
            return Err(Unmatched(denial));
        };
        let route = self.routes.get(index).ok_or_else(not_found)?;
        let rewritten = route
            .rewrite
            .as_ref()
            .map(|rewrite| rewrite.apply(parameters));
        // A parameter beside text may hold what is no segment of its own: `/v{*rest}` matches `/v../x`.
        let is_canonical =
            |path: &String| canonical_path(path).is_ok_and(|canonical| canonical == *path);
        if !rewritten.iter().all(is_canonical) {
            return Err(Unmatched(Reason::AmbiguousPath.into()));
        }
        Ok(Matched { route, rewritten })
    }

    /// All routes, in the order of their IDs.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The tenants that the policy names.
    pub fn tenants(&self) -> &HashSet<TenantId> {
        &self.tenants
    }

    /// The audiences that tokens may be meant for.
    pub fn audiences(&self) -> &[Box<str>] {
        &self.audiences
    }

    /// The name that the policy gives an app.
    pub fn app_name(&self, app: AppId) -> Option<&Arc<str>> {
        self.apps.get(&app)
    }

    /// The name that the policy gives a tenant.
    pub fn tenant_name(&self, tenant: TenantId) -> Option<&Arc<str>> {
        self.tenant_names.get(&tenant)
    }
}

/// Why a route cannot be added.
pub(super) enum Refused {
    /// Another route, by its index, takes the same requests.
    Taken(usize),
    /// The pattern is not one.
    Pattern(String),
}

impl Hosts {
    /// The tables that may hold a route for `host`, most specific first.
    fn tables<'h>(&'h self, host: &'h str) -> impl Iterator<Item = &'h Table> {
        let exact = match self.exact.is_empty() {
            true => None,
            false => self.exact.get(host),
        };
        let suffixes = self
            .suffixes
            .iter()
            .filter(move |(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix));
        let suffixes = suffixes.map(|(_, table)| table);
        exact.into_iter().chain(suffixes).chain([&self.any])
    }

    fn table(&mut self, host: Option<&str>) -> &mut Table {
        match host {
            None => &mut self.any,
            Some(host) => match host.strip_prefix('*') {
                None => self.exact.entry(host.into()).or_default(),
                Some(suffix) => self.suffix(suffix),
            },
        }
    }

    fn suffix(&mut self, suffix: &str) -> &mut Table {
        let place = |(known, _): &(Box<str>, Table)| {
            // Longest first; among equals by the alphabet, so that a look-up is well defined.
            suffix
                .len()
                .cmp(&known.len())
                .then_with(|| (**known).cmp(suffix))
        };
        let at = self.suffixes.binary_search_by(place).unwrap_or_else(|at| {
            self.suffixes.insert(at, (suffix.into(), Table::default()));
            at
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "the place was found or made just above"
        )]
        &mut self.suffixes[at].1
    }

    /// Adds a route under each of its methods.
    pub(super) fn insert(
        &mut self,
        host: Option<&str>,
        pattern: &str,
        methods: MethodSet,
        route: usize,
    ) -> Result<(), Refused> {
        let table = self.table(host);
        let next = table.entries.len();
        let at = match table.paths.insert(pattern, next) {
            Ok(()) => {
                table.entries.push(Entry::default());
                next
            }
            Err(Clash::Same(entry)) => entry,
            Err(Clash::Overlaps(entry)) => {
                let other = table.entries.get(entry).and_then(Entry::any_route);
                return Err(Refused::Taken(other.unwrap_or(route)));
            }
            Err(Clash::Invalid(why)) => return Err(Refused::Pattern(why)),
        };
        let Some(entry) = table.entries.get_mut(at) else {
            return Err(Refused::Pattern(
                "the pattern overlaps with others".to_owned(),
            ));
        };
        entry.insert(methods, route)
    }
}

impl Entry {
    /// One of its routes.
    fn any_route(&self) -> Option<usize> {
        self.by_method.iter().flatten().next().copied()
    }

    fn insert(&mut self, methods: MethodSet, route: usize) -> Result<(), Refused> {
        for (slot, method) in methods
            .methods()
            .filter_map(|m| Some((method::slot(&m)?, m)))
        {
            let Some(place) = self.by_method.get_mut(slot) else {
                continue;
            };
            if let Some(other) = *place {
                return Err(Refused::Taken(other));
            }
            *place = Some(route);
            self.methods.insert(&method);
        }
        Ok(())
    }
}
