//! Policy documents become a compiled policy. Every fault is reported; a policy with one is not made.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::method::MethodSet;
use super::rewrite::{self, Rewrite};
use super::routes::{Access, BackendId, Hosts, Policy, Refused, Route, RouteId, Rule};
use crate::canonical::{self, KeptParameters};
use crate::files::{self, Diagnostics, Faulty, Named, PolicyDocument, Spanned, nearest};
use crate::ids::{AppId, PERSONAL_ACCOUNTS, TenantId};

/// Compiles a policy. `None` when the diagnostics hold an error.
pub fn compile(document: &PolicyDocument, diagnostics: &mut Diagnostics) -> Option<Policy> {
    let names = Names::read(document, diagnostics);
    let mut hosts = Hosts::default();
    let mut routes = Vec::with_capacity(document.routes.len());
    for (index, written) in document.routes.iter().enumerate() {
        insert(&mut hosts, document, index, written, diagnostics);
        routes.push(route(index, written, &names, diagnostics));
    }
    let asks_for_tokens = document.routes.iter().any(|route| !is_public(&route.value));
    if asks_for_tokens && document.audiences.is_empty() {
        let place = document.routes.first().map(|route| &route.name.span);
        if let Some(place) = place {
            diagnostics
                .error(place, "no audience is named for the tokens of its callers")
                .help(
                    "write `audiences: [api://…]` beside `routes`: what callers request tokens for",
                );
        }
    }
    // A faulty route has no place in `routes`, so the indexes hold only when there is no fault.
    let routes: Option<Vec<Route>> = routes.into_iter().collect();
    let routes = routes.filter(|_| !diagnostics.has_errors())?;
    Some(Policy {
        routes,
        hosts,
        tenants: names.tenants.values().copied().collect(),
        audiences: document
            .audiences
            .iter()
            .map(|audience| audience.value.as_str().into())
            .collect(),
        apps: names
            .apps
            .iter()
            .map(|(name, app)| (*app, Arc::from(*name)))
            .collect(),
        tenant_names: names
            .tenants
            .iter()
            .map(|(name, tenant)| (*tenant, Arc::from(*name)))
            .collect(),
    })
}

struct Names<'d> {
    tenants: HashMap<&'d str, TenantId>,
    apps: HashMap<&'d str, AppId>,
    backends: HashMap<&'d str, BackendId>,
    faulty: &'d Faulty,
}

impl<'d> Names<'d> {
    fn read(document: &'d PolicyDocument, diagnostics: &mut Diagnostics) -> Self {
        for tenant in &document.tenants {
            if TenantId::new(tenant.value) == PERSONAL_ACCOUNTS {
                diagnostics
                    .error(
                        &tenant.span,
                        "this is the tenant of personal Microsoft accounts",
                    )
                    .help("name the tenant of an organisation; personal accounts are never let in");
            }
        }
        let tenants = document.tenants.iter();
        let apps = document.apps.iter();
        let backends = document.backends.iter().enumerate();
        Self {
            tenants: tenants
                .map(|t| (t.name.value.as_str(), TenantId::new(t.value)))
                .collect(),
            apps: apps
                .map(|a| (a.name.value.as_str(), AppId::new(a.value)))
                .collect(),
            backends: backends
                .map(|(at, b)| (b.name.value.as_str(), BackendId(at)))
                .collect(),
            faulty: &document.faulty,
        }
    }
}

/// Looks a name up, or reports it with the nearest one that exists.
fn named<T: Copy>(
    kind: &str,
    names: &HashMap<&str, T>,
    faulty: &Faulty,
    name: &Spanned<String>,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    if let Some(found) = names.get(name.value.as_str()) {
        return Some(*found);
    }
    // What could not be read was reported where it stands.
    if !faulty.may_hold(&name.value) {
        let error = diagnostics.error(&name.span, format!("no {kind} is named `{}`", name.value));
        match nearest(&name.value, names.keys().copied()) {
            Some(near) => error.did_you_mean(Some(near)),
            None => error.help(format!("name it under `{kind}s:`")),
        };
    }
    None
}

fn is_public(route: &files::Route) -> bool {
    route.public.as_ref().is_some_and(|public| public.value)
}

fn route(
    index: usize,
    written: &Named<files::Route>,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Route> {
    let backend = named(
        "backend",
        &names.backends,
        names.faulty,
        &written.value.backend,
        diagnostics,
    );
    let access = access(written, names, diagnostics);
    let rewrite = rewritten(&written.value, diagnostics);
    let kept = kept(&written.value, diagnostics);
    Some(Route {
        id: RouteId(index),
        name: written.name.value.as_str().into(),
        backend: backend?,
        access: access?,
        rewrite: rewrite?,
        kept,
    })
}

fn access(
    written: &Named<files::Route>,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Access> {
    let route = &written.value;
    if is_public(route) {
        if let Some(public) = route.public.as_ref().filter(|_| !route.allow.is_empty()) {
            diagnostics
                .warning(
                    &public.span,
                    "`public: true` lets everybody in, so the allow rules say nothing",
                )
                .help("remove `public` or the rules");
        }
        return Some(Access::Public);
    }
    if route.allow.is_empty() {
        diagnostics
            .warning(&written.name.span, "nobody may call this route")
            .help("add an allow rule, or `public: true` if everybody may");
    }
    // Every rule is read before one that is faulty ends the route, so that all faults are told.
    let rules: Vec<Option<Rule>> = route
        .allow
        .iter()
        .map(|rule| rule_of(&rule.value, names, diagnostics))
        .collect();
    Some(Access::Rules(rules.into_iter().collect::<Option<_>>()?))
}

fn rule_of(
    written: &files::Rule,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Rule> {
    // Written out in full, so that a new condition cannot be forgotten here.
    let files::Rule {
        tenants,
        apps,
        roles,
        scopes,
    } = written;
    let tenants: Vec<_> = tenants
        .iter()
        .map(|name| named("tenant", &names.tenants, names.faulty, name, diagnostics))
        .collect();
    let apps: Vec<_> = apps
        .iter()
        .map(|name| named("app", &names.apps, names.faulty, name, diagnostics))
        .collect();
    for scope in scopes {
        // RFC 6749 section 3.3. Another character could not be in a token's `scp`, nor in a challenge.
        let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !scope.value.bytes().all(valid) || scope.value.is_empty() {
            diagnostics
                .error(&scope.span, "this is not a scope name")
                .help(
                    "a scope is one word of printable ASCII, without quotes; list several as items",
                );
        }
    }
    let texts =
        |list: &[Spanned<String>]| list.iter().map(|text| text.value.as_str().into()).collect();
    Some(Rule {
        tenants: tenants.into_iter().collect::<Option<_>>()?,
        apps: apps.into_iter().collect::<Option<_>>()?,
        roles: texts(roles),
        scopes: texts(scopes),
    })
}

/// `Some(None)` for a route without a rewrite.
fn rewritten(route: &files::Route, diagnostics: &mut Diagnostics) -> Option<Option<Rewrite>> {
    let Some(written) = &route.rewrite else {
        return Some(None);
    };
    let parameters = rewrite::parameters(&route.r#match.path.value);
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

fn kept(route: &files::Route, diagnostics: &mut Diagnostics) -> KeptParameters {
    let mut kept = KeptParameters::default();
    for name in &route.keep_parameters {
        match KeptParameters::named(&name.value) {
            Some(parameter) => kept = kept.with(parameter),
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
    let mut methods = MethodSet::default();
    let mut seen = HashSet::new();
    for method in wanted.methods.iter().flatten() {
        if !methods.insert(&method.value) {
            diagnostics
                .error(&method.span, format!("{} is never forwarded", method.value))
                .help("list some of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        }
        if !seen.insert(&method.value) {
            diagnostics
                .warning(&method.span, "this method is listed twice")
                .help("remove one");
        }
    }
    let host = wanted.host.as_ref();
    let host_name = host.map(|host| host.value.to_ascii_lowercase());
    if let (Some(host), Some(name)) = (host, &host_name)
        && !is_host_pattern(name)
    {
        diagnostics
            .error(&host.span, "this is not a host")
            .help("write a host name without a port, or `*.` and a suffix: `api.contoso.com`, `*.contoso.com`");
        return;
    }
    let pattern = &wanted.path;
    if !is_canonical(&literal(&pattern.value)) {
        diagnostics
            .error(&pattern.span, "this path is not in canonical form, so no request would match it")
            .help("begin with `/`; no empty or dot segments; percent codes in upper case and only where needed");
        return;
    }
    match hosts.insert(host_name.as_deref(), &pattern.value, methods, index) {
        Ok(()) => {}
        Err(Refused::Pattern(why)) => {
            diagnostics
                .error(&pattern.span, format!("this path pattern cannot be used: {why}"))
                .help("parameters are `{name}` for one segment and `{*rest}` at the end for all that follows");
        }
        Err(Refused::Taken(other)) => {
            let error = diagnostics.error(
                &pattern.span,
                format!(
                    "route `{}` takes requests of another route",
                    written.name.value
                ),
            );
            if let Some(other) = document.routes.get(other) {
                let text = format!("route `{}` takes them too", other.name.value);
                error.also(&other.value.r#match.path.span, text);
            }
            error.help("two routes may not share host, path and method: no order would say which rules apply");
        }
    }
}

/// The pattern with something plain in place of its parameters.
fn literal(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        text.push('x');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    text + rest
}

fn is_host_pattern(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.starts_with('[') && name.ends_with(']')) || name.split('.').all(label)
}
