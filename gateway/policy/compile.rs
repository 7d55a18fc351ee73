//! Policy documents become a compiled policy. Every fault is reported; a policy with one is not made.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{self, HeaderName};

use super::back_door::Guard;
use super::method::MethodSet;
use super::names::Names;
use super::pattern::{self, some_path};
use super::rewrite::Rewrite;
use super::routes::{Hosts, Policy, Refused, Route, RouteId, SealsBody, Taken};
use super::rule::{Clause, Effect, Rule};
use super::rule_set::RuleSet;
use super::rules;
use crate::canonical::{self, KeptParameters};
use crate::files::{
    self, BackendKind, Credential, Diagnostics, Mode, Named, PolicyDocument, Protocol, SasMode,
    Spanned, nearest,
};

/// Compiles a policy. `None` when the diagnostics hold an error.
pub fn compile(document: &PolicyDocument, diagnostics: &mut Diagnostics) -> Option<Policy> {
    let names = Names::read(document, diagnostics);
    let mut hosts = Hosts::default();
    let mut routes = Vec::with_capacity(document.routes.len());
    for (index, written) in document.routes.iter().enumerate() {
        routes.push(route(index, document, written, &names, diagnostics));
    }
    for (index, written) in document.routes.iter().enumerate() {
        insert(&mut hosts, document, index, written, diagnostics);
    }
    let asks_for_tokens =
        |route: &Named<files::Route>| !is_public(&route.value) && route.value.audiences.is_empty();
    if document.audiences.is_empty()
        && let Some(route) = document.routes.iter().find(|route| asks_for_tokens(route))
    {
        diagnostics
            .error(
                &route.name.span,
                "no audience is named for the tokens of its callers",
            )
            .help("write `audiences: [api://…]` beside `routes`: what callers request tokens for");
    }
    // A faulty route has no place in `routes`, so the indexes hold only when there is no fault.
    let routes: Option<Vec<Route>> = routes.into_iter().collect();
    let routes = routes.filter(|_| !diagnostics.has_errors())?;
    let default_audiences = texts(&document.audiences);
    let mut audiences = default_audiences.clone();
    for own in routes
        .iter()
        .flat_map(|route| route.audiences.iter().flatten())
    {
        if !audiences.contains(own) {
            audiences.push(own.clone());
        }
    }
    Some(Policy {
        routes: own_audiences(routes, &default_audiences, &audiences),
        hosts,
        tenants: names.tenant_ids().collect(),
        audiences,
        default_audiences,
        names: names.shown(document),
    })
}

fn texts(list: &[Spanned<String>]) -> Vec<Box<str>> {
    list.iter().map(|text| text.value.as_str().into()).collect()
}

/// Where some route has audiences of its own, those that have none are held to the policy's: a token
/// for the one must not do for the other.
fn own_audiences(mut routes: Vec<Route>, default: &[Box<str>], all: &[Box<str>]) -> Vec<Route> {
    if default.len() != all.len() {
        for route in &mut routes {
            route.audiences.get_or_insert_with(|| default.into());
        }
    }
    routes
}

fn is_public(route: &files::Route) -> bool {
    route.public.as_ref().is_some_and(|public| public.value)
}

fn route(
    index: usize,
    document: &PolicyDocument,
    written: &Named<files::Route>,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Route> {
    let route = &written.value;
    let backend = names.backends.find(&route.backend, diagnostics);
    check_access(written, diagnostics);
    let allow = rules::compile(Effect::Allow, &route.allow, names, diagnostics);
    let deny = rules::compile(Effect::Deny, &route.deny, names, diagnostics);
    let rewrite = rewritten(route, diagnostics);
    let backend_as_written = written_backend(document, route);
    let is_azure = backend_as_written.is_some_and(|backend| backend.kind != BackendKind::Http);
    let kept = kept(route, backend_as_written, diagnostics);
    let claim_headers = claim_headers(route, names, diagnostics);
    check_credentials(route, backend_as_written, diagnostics);
    check_upgrades(route, backend_as_written, diagnostics);
    let (allow, deny) = (allow?, deny?);
    let public = is_public(route);
    if public {
        refuse_token_clauses(&deny, diagnostics);
    }
    let known = pattern::parameters(&route.r#match.path.value);
    for rule in allow.rules().iter().chain(deny.rules()) {
        check_parameters(rule, &known, diagnostics);
    }
    let reads_parameters = |rules: &RuleSet| rules.rules().iter().any(Rule::reads_parameters);
    let parameters = (reads_parameters(&allow) || reads_parameters(&deny))
        .then(|| known.iter().map(|name| (*name).into()).collect());
    let text =
        |text: &Option<Spanned<String>>| text.as_ref().map(|text| text.value.as_str().into());
    Some(Route {
        id: RouteId(index),
        name: written.name.value.as_str().into(),
        backend: backend?,
        taken: taken(&route.r#match),
        public,
        audiences: (!route.audiences.is_empty()).then(|| texts(&route.audiences).into()),
        allow,
        deny,
        mode: route.mode.as_ref().map_or(Mode::Enforce, |mode| mode.value),
        owner: text(&route.owner),
        base: backend_as_written.and_then(base),
        behind_a_host: is_azure,
        guard: backend_as_written.and_then(|backend| guard(backend, route, rewrite.as_ref())),
        rewrite: rewrite?,
        kept,
        rejects_keys_from: match (&route.sas, &route.reject_from) {
            (_, Some(from)) => Some(from.value),
            (Some(sas), None) if sas.value == SasMode::Reject => Some(Duration::ZERO),
            (_, None) => None,
        },
        forwards_caller_token: is_set(&route.forward_caller_token),
        seals_body: seals_body(route, is_azure),
        max_body: max_body(route, is_azure),
        upgrades: route.upgrades.iter().map(|one| one.value.clone()).collect(),
        timeouts: route.timeouts,
        claim_headers,
        parameters,
        span: written.name.span.clone(),
    })
}

fn is_set(flag: &Option<Spanned<bool>>) -> bool {
    flag.as_ref().is_some_and(|flag| flag.value)
}

/// What Azure takes, where nothing else is written: Functions and Logic Apps refuse longer bodies.
const AZURE_TAKES: u64 = 100 << 20;

fn max_body(route: &files::Route, is_azure: bool) -> u64 {
    match (&route.max_body, is_azure) {
        (Some(written), _) => written.value,
        (None, true) => AZURE_TAKES,
        (None, false) => u64::MAX,
    }
}

/// What callers may be handed links in, unless the route says otherwise.
fn seals_body(route: &files::Route, is_azure: bool) -> SealsBody {
    match (&route.seal_body, is_azure) {
        (Some(written), _) if written.value => SealsBody::Always,
        (Some(_), _) | (None, false) => SealsBody::Never,
        (None, true) => SealsBody::Accepted,
    }
}

fn written_backend<'d>(
    document: &'d PolicyDocument,
    route: &files::Route,
) -> Option<&'d files::Backend> {
    let mut backends = document.backends.iter();
    let backend = backends.find(|backend| backend.name == route.backend)?;
    Some(&backend.value)
}

/// The path of the backend's URL, without a slash at its end, unless it is called as it stands.
fn base(backend: &files::Backend) -> Option<Box<str>> {
    let path = backend.url.value.path().trim_end_matches('/');
    (backend.kind != BackendKind::LogicApp).then(|| path.into())
}

/// What of a Functions host's own paths a route may reach.
fn guard(
    backend: &files::Backend,
    route: &files::Route,
    rewrite: Option<&Option<Rewrite>>,
) -> Option<Guard> {
    if backend.kind != BackendKind::Function {
        return None;
    }
    let rewritten = rewrite.and_then(Option::as_ref).map(Rewrite::pattern);
    let pattern = rewritten.as_deref().unwrap_or(&route.r#match.path.value);
    Some(Guard::new(backend.url.value.path(), pattern))
}

/// Upgrades are HTTP/1.1's (RFC 9113 section 8.6), and that to WebSocket is a GET (RFC 6455 section 4.1).
fn check_upgrades(
    route: &files::Route,
    backend: Option<&files::Backend>,
    diagnostics: &mut Diagnostics,
) {
    let Some(first) = route.upgrades.first() else {
        return;
    };
    if backend.is_some_and(|backend| backend.kind == BackendKind::LogicApp) {
        diagnostics
            .error(
                &first.span,
                "a Logic App hands no connection over to another protocol",
            )
            .help("remove `upgrades`");
    }
    if is_set(&route.seal_body) {
        diagnostics
            .warning(
                &first.span,
                "what is said in another protocol is not looked at, whatever `sealBody` says",
            )
            .help("see that no links with keys are sent there, or give it a route of its own");
    }
    if backend.is_some_and(|backend| backend.protocol == Protocol::Http2) {
        diagnostics
            .error(
                &first.span,
                "over HTTP/2 no connection is handed over to another protocol",
            )
            .help("remove `protocol: http2` of the backend, or `upgrades`");
    }
    let mut upgrades = route.upgrades.iter();
    let Some(websocket) = upgrades.find(|one| one.value.is_websocket()) else {
        return;
    };
    let methods = route.r#match.methods.as_deref().unwrap_or_default();
    if methods.iter().all(|method| method.value != Method::GET) {
        diagnostics
            .error(&websocket.span, "a WebSocket begins with a GET")
            .help("add `GET` to the route's `methods`, or remove `websocket`");
    }
}

/// What goes to the backend in `Authorization` can be one thing only, and a Logic App refuses a token
/// beside a signature.
fn check_credentials(
    route: &files::Route,
    backend: Option<&files::Backend>,
    diagnostics: &mut Diagnostics,
) {
    let Some(forward) = route.forward_caller_token.as_ref().filter(|set| set.value) else {
        return;
    };
    if is_public(route) {
        diagnostics
            .error(
                &forward.span,
                "a public route does not look at tokens, so it forwards none",
            )
            .help("remove `forwardCallerToken`, or write allow rules in place of `public`");
    }
    let Some(backend) = backend else {
        return;
    };
    let why = match &backend.credential.value {
        Credential::Token { .. } => "the gateway's own token goes to this backend",
        Credential::Sas { .. } => {
            "a SAS signature goes to this backend, which refuses a token beside it"
        }
        Credential::Header { name, .. } if name.value == header::AUTHORIZATION => {
            "the credential of this backend is `Authorization` itself"
        }
        Credential::None | Credential::FunctionKey { .. } | Credential::Header { .. } => return,
    };
    diagnostics
        .error(
            &forward.span,
            "the caller's token cannot go to this backend",
        )
        .also(&backend.credential.span, why)
        .help("remove `forwardCallerToken`, or use a backend with another credential");
}

fn claim_headers(
    route: &files::Route,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Arc<[(HeaderName, Box<str>)]> {
    let mut read: Vec<(HeaderName, Box<str>)> = Vec::new();
    for written in &route.claim_headers {
        let name = &written.name;
        if canonical::gateway_writes(&name.value) {
            diagnostics
                .error(
                    &name.span,
                    "the gateway or the platform writes this header itself",
                )
                .help("give it a name of your own: `x-caller-department`");
        }
        if let Some(backend) = names.backend_that_is_given(name.value.as_str()) {
            diagnostics
                .error(
                    &name.span,
                    format!("backend `{backend}` is given its credential in this header"),
                )
                .help("give the claim another name");
        }
        if read
            .iter()
            .any(|(other, _)| canonical::folds_alike(other, &name.value))
        {
            diagnostics
                .error(
                    &name.span,
                    "some backends take this header and another here for one",
                )
                .help("give it a name that differs in letters or digits");
        }
        read.push((name.value.clone(), written.claim.value.as_str().into()));
    }
    if let (Some(first), true) = (route.claim_headers.first(), is_public(route)) {
        diagnostics
            .error(
                &first.name.span,
                "a public route does not look at tokens, so it knows no claims",
            )
            .help("remove `claimHeaders`, or write allow rules in place of `public`");
    }
    read.into()
}

fn taken(wanted: &files::RouteMatch) -> Taken {
    let mut methods = MethodSet::default();
    for method in wanted.methods.iter().flatten() {
        methods.insert(&method.value);
    }
    let host = wanted.host.as_ref();
    Taken {
        host: host.map(|host| host.value.to_ascii_lowercase().into()),
        methods,
        path: wanted.path.value.as_str().into(),
    }
}

fn check_access(written: &Named<files::Route>, diagnostics: &mut Diagnostics) {
    let route = &written.value;
    if let Some(public) = route.public.as_ref().filter(|public| public.value) {
        if !route.allow.is_empty() {
            diagnostics
                .warning(
                    &public.span,
                    "`public: true` lets everybody in, so the allow rules say nothing",
                )
                .help("remove `public` or the rules");
        }
    } else if route.allow.is_empty() {
        diagnostics
            .warning(&written.name.span, "nobody may call this route")
            .help("add an allow rule, or `public: true` if everybody may");
    }
}

/// A condition can only ask for parameters that the route's path has.
fn check_parameters(rule: &Rule, known: &[&str], diagnostics: &mut Diagnostics) {
    if let Some(condition) = rule.condition() {
        for name in condition.parameters().filter(|name| !known.contains(name)) {
            diagnostics
                .error(
                    rule.span(),
                    format!(
                        "`when` asks for the parameter `{name}`, which the route's path has not"
                    ),
                )
                .did_you_mean(nearest(name, known.iter().copied()));
        }
    }
}

/// A public route does not look at tokens, so a deny rule there cannot ask what one holds.
fn refuse_token_clauses(deny: &RuleSet, diagnostics: &mut Diagnostics) {
    for rule in deny.rules() {
        if rule.clauses().iter().any(Clause::asks_for_a_token) {
            diagnostics
                .error(
                    rule.span(),
                    "a public route does not look at tokens, and this rule asks what one holds",
                )
                .help("use `from`, or a `when` without `token`, or write allow rules in place of `public`");
        }
    }
}

/// `Some(None)` for a route without a rewrite.
fn rewritten(route: &files::Route, diagnostics: &mut Diagnostics) -> Option<Option<Rewrite>> {
    let Some(written) = &route.rewrite else {
        return Some(None);
    };
    let parameters = pattern::parameters(&route.r#match.path.value);
    let parsed = Rewrite::parse(&written.value, &parameters);
    let checked = parsed.and_then(|rewrite| match is_canonical(&rewrite.literal()) {
        true => Ok(rewrite),
        false => Err("the path is not in canonical form".to_owned()),
    });
    match checked {
        Ok(rewrite) => Some(Some(rewrite)),
        Err(why) => {
            diagnostics
                .error(
                    &written.span,
                    format!("this rewrite cannot be applied: {why}"),
                )
                .help("write a path, with parameters of the route's path in braces: `/api/{rest}`");
            None
        }
    }
}

fn is_canonical(path: &str) -> bool {
    canonical::canonical_path(path).is_ok_and(|canonical| canonical == path)
}

fn kept(
    route: &files::Route,
    backend: Option<&files::Backend>,
    diagnostics: &mut Diagnostics,
) -> KeptParameters {
    let mut kept = KeptParameters::default();
    let signs =
        backend.filter(|backend| matches!(backend.credential.value, Credential::Sas { .. }));
    for name in &route.keep_parameters {
        match KeptParameters::named(&name.value) {
            Some(parameter) => {
                if let (Some(backend), true) = (signs, parameter != KeptParameters::CODE) {
                    diagnostics
                        .error(
                            &name.span,
                            "the signature for this backend brings this parameter itself",
                        )
                        .also(&backend.credential.span, "in the `sas` that is given to it")
                        .help("remove it: which of two the backend would believe, nobody knows");
                }
                kept = kept.with(parameter);
            }
            None => {
                diagnostics
                    .error(&name.span, format!("`{}` is passed on anyway", name.value))
                    .help("list only parameters that are stripped by default: code, sp, sv, se");
            }
        }
    }
    kept
}

fn insert(
    hosts: &mut Hosts,
    document: &PolicyDocument,
    index: usize,
    written: &Named<files::Route>,
    diagnostics: &mut Diagnostics,
) {
    let wanted = &written.value.r#match;
    let taken = taken(wanted);
    let pattern = &wanted.path;
    if !is_canonical(&some_path(&pattern.value, "x")) {
        diagnostics
            .error(&pattern.span, "this path is not in canonical form, so no request would match it")
            .help("begin with `/`; no empty or dot segments; percent codes in upper case and only where needed");
        return;
    }
    match hosts.insert(taken.host.as_deref(), &pattern.value, taken.methods, index) {
        Ok(()) => {}
        Err(Refused::Pattern(why)) => {
            diagnostics
                .error(&pattern.span, format!("this path pattern cannot be used: {why}"))
                .help("parameters are `{name}` for one segment and `{*rest}` at the end for all that follows");
        }
        Err(Refused::Taken(other)) => {
            let (first, second) = earlier_first(document, index, other, written);
            let name = &second.name.value;
            diagnostics
                .error(
                    &second.value.r#match.path.span,
                    format!("route `{name}` takes requests of another route"),
                )
                .also(
                    &first.value.r#match.path.span,
                    format!("route `{}` takes them too", first.name.value),
                )
                .help("two routes may not share host, path and method: no order would say which rules apply");
        }
        Err(Refused::NoOrder(other)) => {
            let (first, second) = earlier_first(document, index, other, written);
            let name = &second.name.value;
            diagnostics
                .error(
                    &second.value.r#match.path.span,
                    format!("route `{name}` has a parameter where another route has one, and some paths fit both"),
                )
                .also(
                    &first.value.r#match.path.span,
                    format!("this is the path of route `{}`", first.name.value),
                )
                .help("nothing says whether `f-{x}` or `{x}.pdf` takes `f-1.pdf`: let one parameter stand within the texts of the other, as `f-{x}.pdf` does, or alone in its segment");
        }
    }
}

/// Two routes as they were written: the later one is at fault, in whatever order they were put in.
fn earlier_first<'d>(
    document: &'d PolicyDocument,
    one: usize,
    other: usize,
    written: &'d Named<files::Route>,
) -> (&'d Named<files::Route>, &'d Named<files::Route>) {
    let route = |index| document.routes.get(index).unwrap_or(written);
    (route(one.min(other)), route(one.max(other)))
}
