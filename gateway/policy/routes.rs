//! The compiled policy: its routes, and the one that matches a request.

use std::sync::Arc;
use std::time::Duration;

use foldhash::{HashMap, HashSet};

use super::back_door::{Guard, door, is_management};
use super::circumstances::Circumstances;
use super::condition::Condition;
use super::follow::Bound;
use super::method::{self, MethodSet};
use super::named::Named;
use super::path::{Clash, Found, Paths, Reading};
use super::rewrite::Rewrite;
use super::rule::{Effect, Rule, RuleId};
use super::rule_set::RuleSet;
use super::tree::{Tree, Values};
use crate::canonical::{KeptParameters, canonical_path};
use crate::denial::{Denial, Reason, allow_field};
use crate::entra::Principal;
use crate::files::{Mode, RouteTimeouts, Span, hexadecimal};
use crate::ids::TenantId;
use crate::upgrade::Protocol;
use http::Method;
use http::header::HeaderName;

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
    pub(super) taken: Taken,
    pub(super) public: bool,
    /// In place of the policy's, where the route has its own.
    pub(super) audiences: Option<Box<[Box<str>]>>,
    pub(super) allow: RuleSet,
    pub(super) deny: RuleSet,
    pub(super) mode: Mode,
    pub(super) owner: Option<Box<str>>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) kept: KeptParameters,
    /// In front of a Functions app: what of the host's own paths it may reach.
    pub(super) guard: Option<Guard>,
    /// The path of the backend's URL, where requests go behind it; a Logic App's is called as it stands.
    pub(super) base: Option<Box<str>>,
    /// Whether the backend is a Functions host, as that of a Standard Logic App is too.
    pub(super) behind_a_host: bool,
    /// From when on requests with keys in their URLs are refused; never where it is absent.
    pub(super) rejects_keys_from: Option<Duration>,
    pub(super) forwards_caller_token: bool,
    pub(super) seals_body: SealsBody,
    pub(super) max_body: u64,
    pub(super) upgrades: Box<[Protocol]>,
    pub(super) timeouts: RouteTimeouts,
    pub(super) claim_headers: Arc<[(HeaderName, Box<str>)]>,
    /// The names of the path's parameters in order, where a condition asks for them.
    pub(super) parameters: Option<Box<[Box<str>]>>,
    pub(super) span: Span,
}

/// In which answers' bodies URLs with keys are sealed. Of these, what cannot be read is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealsBody {
    /// In none.
    Never,
    /// In those of 202, with which Functions and Logic Apps hand out links to what goes on.
    Accepted,
    /// In all.
    Always,
}

/// Which requests a route takes, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// An exact host or `*.suffix`; any host where it is absent.
    pub host: Option<Box<str>>,
    /// The methods.
    pub methods: MethodSet,
    /// The path pattern.
    pub path: Arc<str>,
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

    /// Which requests it takes.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Whether everybody may call it, with or without a token, save whom a deny rule keeps out.
    pub fn is_public(&self) -> bool {
        self.public
    }

    /// The allow rules.
    pub fn allow(&self) -> &RuleSet {
        &self.allow
    }

    /// The deny rules.
    pub fn deny(&self) -> &RuleSet {
        &self.deny
    }

    /// The rule of this name.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        let rules = match id.effect {
            Effect::Allow => &self.allow,
            Effect::Deny => &self.deny,
        };
        rules.rules().get(id.index)
    }

    /// Its rules: those that let in, then those that keep out.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.allow.rules().iter().chain(self.deny.rules())
    }

    /// Whether its refusals act.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Who answers for it.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Where it was written.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The query parameters that it uses although they look like keys.
    pub fn kept_parameters(&self) -> KeptParameters {
        self.kept
    }

    /// Whether the backend gets the caller's own token.
    pub fn forwards_caller_token(&self) -> bool {
        self.forwards_caller_token
    }

    /// In which answers' bodies URLs with keys are sealed, too.
    pub fn seals_body(&self) -> SealsBody {
        self.seals_body
    }

    /// The longest body of a request, in bytes.
    pub fn max_body(&self) -> u64 {
        self.max_body
    }

    /// Whether a connection may be handed over to a protocol.
    pub fn upgrades_to(&self, protocol: &Protocol) -> bool {
        self.upgrades.contains(protocol)
    }

    /// What of the backend's times is otherwise here.
    pub fn timeouts(&self) -> &RouteTimeouts {
        &self.timeouts
    }

    /// The headers that carry claims of the caller's, and those claims.
    pub fn claim_headers(&self) -> &Arc<[(HeaderName, Box<str>)]> {
        &self.claim_headers
    }

    /// What a caller would ask for to reach a path of the backend, where paths stay as they are.
    pub(super) fn at_gateway<'p>(&self, at_backend: &'p str) -> Option<&'p str> {
        at_backend.strip_prefix(&**self.base.as_ref()?)
    }

    /// Whether a sealed URL of this route's may lead to a path at the backend, which must be one that no
    /// reader could take for another. A host's extensions hand out URLs of their own; nothing hands out those
    /// by which the host, or a Standard app's workflows, are administered.
    pub(super) fn may_be_followed_to(&self, path: &str) -> bool {
        let Ok(path) = canonical_path(path) else {
            return false;
        };
        let may = |door: Option<&str>| match door {
            None => true,
            Some("/runtime/webhooks") => !is_management(&path),
            Some(_) => false,
        };
        !self.behind_a_host || may(door(&path))
    }

    /// Whether a request may bring the keys that are in its URL, at the time when it comes.
    pub(super) fn accepts_keys(&self, circumstances: &Circumstances<'_>) -> Result<(), Denial> {
        let keys = circumstances.keys.keys().without(self.kept);
        match self.rejects_keys_from {
            Some(from) if circumstances.now >= from && !keys.is_empty() => {
                let names: Vec<_> = keys.names().collect();
                Err(Denial::from(Reason::KeyInUrl)
                    .expected("a URL without signature or key", names.join(", ")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the token is meant for this route. That it is meant for one of the policy's audiences,
    /// verification has seen.
    pub(super) fn accepts_audience(&self, caller: &Principal) -> Result<(), Denial> {
        match &self.audiences {
            Some(own) if !own.iter().any(|own| **own == *caller.audience()) => {
                Err(Denial::from(Reason::AudienceMismatch)
                    .expected(own.join(", "), caller.audience()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The routes, by host, path and method.
#[derive(Debug, Default)]
pub struct Policy {
    pub(super) routes: Vec<Route>,
    pub(super) tenants: HashSet<TenantId>,
    pub(super) audiences: Vec<Box<str>>,
    pub(super) default_audiences: Vec<Box<str>>,
    pub(super) names: Named,
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
    /// Where a sealed URL is followed: whom it was given to.
    pub(super) bound: Option<Bound>,
    /// Names and values, where a condition asks for them.
    pub(super) parameters: Box<[(Box<str>, Box<str>)]>,
}

impl<'p> Matched<'p> {
    /// The route.
    pub fn route(&self) -> &'p Route {
        self.route
    }

    /// Whether everybody may call the route, with or without a token.
    pub fn is_public(&self) -> bool {
        self.route.public
    }

    /// The path by the route's `rewrite`, if it has one.
    pub fn rewritten(&self) -> Option<&str> {
        self.rewritten.as_deref()
    }
}

/// No route matched. A stranger must not learn which reason it was, so it is told only to callers
/// whose token is valid.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmatched {
    denial: Denial,
    /// Whether a stranger may learn it all the same: the route is public.
    is_public: bool,
}

impl Unmatched {
    /// The refusal, for a caller who has proved a principal.
    pub fn denial(self) -> Denial {
        self.denial
    }
}

/// A request that no route took, and who made it, if a token proved that.
#[derive(Debug)]
pub struct Unrouted {
    /// What the caller is told.
    pub denial: Denial,
    /// Who calls.
    pub principal: Option<Arc<Principal>>,
}

impl Unmatched {
    /// No route, for a reason that only callers with a valid token are told.
    pub fn by(denial: Denial) -> Self {
        Self {
            denial,
            is_public: false,
        }
    }

    /// The same, told to strangers too where the route is public.
    pub(super) fn within(self, route: &Route) -> Self {
        Self {
            is_public: route.public,
            ..self
        }
    }

    /// What comes of it, by the outcome of authentication: a stranger learns nothing of what is
    /// published, so the token's denial goes first.
    pub fn unrouted(self, caller: Result<Arc<Principal>, Denial>) -> Unrouted {
        match caller {
            Ok(principal) => Unrouted {
                denial: self.denial,
                principal: Some(principal),
            },
            Err(_) if self.is_public => Unrouted {
                denial: self.denial,
                principal: None,
            },
            Err(denial) => Unrouted {
                denial,
                principal: None,
            },
        }
    }
}

impl Policy {
    /// The route for a request in canonical form.
    ///
    /// # Errors
    /// When no route has the host and path, none of those that do has the method, or another letter
    /// case would have led elsewhere.
    pub fn find(&self, host: &str, method: &Method, path: &str) -> Result<Matched<'_>, Unmatched> {
        let (entry, parameters) = self.at(host, path).map_err(Unmatched::by)?;
        self.entry(entry, method, path, &parameters)
    }

    /// What takes a path, whatever the method.
    fn at<'p>(&'p self, host: &'p str, path: &'p str) -> Result<(&'p Entry, Values<'p>), Denial> {
        for table in self.hosts.tables(host) {
            match table.paths.find(path) {
                Found::Nothing => {}
                Found::Ambiguous => return Err(Reason::AmbiguousPath.into()),
                Found::Entry(entry, parameters) => {
                    let entry = table.entries.get(entry).ok_or(Reason::RouteNotFound)?;
                    return Ok((entry, parameters));
                }
            }
        }
        Err(Reason::RouteNotFound.into())
    }

    fn entry(
        &self,
        entry: &Entry,
        method: &Method,
        path: &str,
        parameters: &Values<'_>,
    ) -> Result<Matched<'_>, Unmatched> {
        let not_found = || Unmatched::by(Reason::RouteNotFound.into());
        let by_method = method::slot(method).and_then(|slot| entry.by_method.get(slot).copied()?);
        let Some(index) = by_method else {
            let methods: Vec<Method> = entry.methods.methods().collect();
            let (name, value) = allow_field(&methods);
            let denial = Denial::from(Reason::MethodNotAllowed).field(name, value);
            return Err(Unmatched::by(denial));
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
            return Err(Unmatched::by(Reason::AmbiguousPath.into()));
        }
        let at_backend = rewritten.as_deref().unwrap_or(path);
        let guard = route.guard.as_ref();
        if guard.is_some_and(|guard| !guard.lets_pass(at_backend)) {
            return Err(Unmatched::by(Reason::HostPathNotAllowed.into()));
        }
        let names = route.parameters.iter().flatten().enumerate();
        let values = names.filter_map(|(position, name)| {
            let value = parameters.get(position)?;
            Some((name.clone(), value.into()))
        });
        Ok(Matched {
            route,
            rewritten,
            bound: None,
            parameters: values.collect(),
        })
    }

    /// Whether another route to the same backend takes a path, with whatever method, or if it may be read so.
    pub(super) fn is_anothers(&self, route: &Route, host: &str, path: &str) -> bool {
        let other = |index: &usize| {
            let other = self.routes.get(*index);
            other.is_some_and(|other| other.id != route.id && other.backend == route.backend)
        };
        match self.at(host, path) {
            Ok((entry, _)) => entry.by_method.iter().flatten().any(other),
            Err(denial) => denial.reason() == Reason::AmbiguousPath,
        }
    }

    /// The patterns of paths that may take requests to a host, in both readings.
    pub(super) fn trees<'p>(&'p self, host: &'p str) -> impl Iterator<Item = (&'p Tree, Reading)> {
        let tables = self.hosts.tables(host);
        tables.flat_map(|table| table.paths.trees())
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

    /// One digest for whose tokens count and whom they must be meant for. While it stays, verification
    /// refuses the same tokens.
    pub fn trust(&self) -> String {
        let mut lines: Vec<String> = self.tenants.iter().map(ToString::to_string).collect();
        lines.sort();
        let mut audiences: Vec<&str> = self.audiences.iter().map(|text| &**text).collect();
        audiences.sort_unstable();
        hexadecimal(format!("{}\n\n{}", lines.join("\n"), audiences.join("\n")).as_bytes())
    }

    /// The audiences of routes that name none of their own.
    pub fn default_audiences(&self) -> &[Box<str>] {
        &self.default_audiences
    }

    /// The audiences that tokens for a route are meant for.
    pub fn audiences_of<'p>(&'p self, route: &'p Route) -> &'p [Box<str>] {
        route
            .audiences
            .as_deref()
            .unwrap_or(&self.default_audiences)
    }

    /// The fields that its conditions read, in order.
    pub fn fields_read(&self) -> Vec<Box<str>> {
        let mut fields: Vec<Box<str>> = self
            .conditions()
            .flat_map(Condition::headers)
            .map(Into::into)
            .collect();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// The claims that its conditions read beside those that every record holds, in order.
    pub fn claims_read(&self) -> Vec<Box<str>> {
        let mut claims: Vec<Box<str>> = self
            .conditions()
            .flat_map(Condition::claims)
            .map(Into::into)
            .collect();
        claims.sort_unstable();
        claims.dedup();
        claims
    }

    /// The claims that it asks for beside those that every record holds, in order: those that its conditions
    /// read, and those that backends are told.
    pub fn claims_kept(&self) -> Vec<Box<str>> {
        let told = self
            .routes
            .iter()
            .flat_map(|route| route.claim_headers().iter());
        let mut claims = self.claims_read();
        claims.extend(told.map(|(_, claim)| claim.clone()));
        claims.sort_unstable();
        claims.dedup();
        claims
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let rules = self.routes.iter().flat_map(Route::rules);
        rules.filter_map(Rule::condition)
    }

    /// What the policy calls people and things.
    pub fn names(&self) -> &Named {
        &self.names
    }
}

/// Why a route cannot be added.
pub(super) enum Refused {
    /// Another route, by its index, takes the same requests.
    Taken(usize),
    /// Another route, by its index, has a parameter in the same place, and some path fits both.
    NoOrder(usize),
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
            Err(Clash::Overlaps(entry)) => return Err(Refused::Taken(table.route(entry, route))),
            Err(Clash::NoOrder(entry)) => return Err(Refused::NoOrder(table.route(entry, route))),
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

impl Table {
    /// One of the routes of an entry.
    fn route(&self, entry: usize, otherwise: usize) -> usize {
        let entry = self.entries.get(entry);
        let mut routes = entry.into_iter().flat_map(|entry| &entry.by_method);
        routes.find_map(|route| *route).unwrap_or(otherwise)
    }
}

impl Entry {
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
