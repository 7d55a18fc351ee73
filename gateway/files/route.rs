//! Routes as they are written: what they match, whom they let in, how often, and where to.

use std::time::Duration;

use http::Method;
use http::header::HeaderName;

use super::backend::{RouteTimeouts, route_timeouts};
use super::credential::unfit;
use super::decode::{Table, expected, list, scalar, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::limit::{Concurrency, Quota, RateLimit, concurrencies, quotas, rate_limits};
use super::nearest::nearest;
use super::node::{Entry, Node, Value};
use super::rule::{Mode, Rule, allow_rule, deny_rule, mode, owner, point_in_time};
use super::source::{Span, Spanned};
use super::values::{amount, boolean, choice, text, token};
use crate::upgrade::Protocol;

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `match`: which requests take it.
    pub r#match: RouteMatch,
    /// `backend`: the name of the backend.
    pub backend: Spanned<String>,
    /// `owner`: who answers for the route.
    pub owner: Option<Spanned<String>>,
    /// `reason`: why it is there.
    pub reason: Option<Spanned<String>>,
    /// `mode`: whether its refusals act.
    pub mode: Option<Spanned<Mode>>,
    /// `public`: whether callers without a token are let in.
    pub public: Option<Spanned<bool>>,
    /// `audiences`: whom tokens must be meant for here, in place of the policy's `audiences`.
    pub audiences: Vec<Spanned<String>>,
    /// `allow`: the rules, any of which lets a caller in. Empty where none are written.
    pub allow: Vec<Spanned<Rule>>,
    /// `deny`: the rules, any of which keeps a caller out, whatever the allow rules say.
    pub deny: Vec<Spanned<Rule>>,
    /// `rateLimit`: how often.
    pub rate_limits: Vec<Spanned<RateLimit>>,
    /// `quota`: how much in a day or month.
    pub quotas: Vec<Spanned<Quota>>,
    /// `concurrency`: how many at once.
    pub concurrency: Vec<Spanned<Concurrency>>,
    /// `rewrite`: the path at the backend, a pattern of the parameters of the matched path. It
    /// begins with `/`.
    pub rewrite: Option<Spanned<String>>,
    /// `keepParameters`: parameters of the query that look like keys but are this route's own:
    /// `code`, `sp`, `sv` or `se`.
    pub keep_parameters: Vec<Spanned<String>>,
    /// `forwardCallerToken`: whether the backend gets the caller's own token.
    pub forward_caller_token: Option<Spanned<bool>>,
    /// `claimHeaders`: claims that the backend gets as headers of their own.
    pub claim_headers: Vec<ClaimHeader>,
    /// `sas`: what becomes of a request that brings a SAS signature or a key in its URL. Default `strip`.
    pub sas: Option<Spanned<SasMode>>,
    /// `rejectFrom`: from when on `sas` is `reject`, since the Unix epoch.
    pub reject_from: Option<Spanned<Duration>>,
    /// `sealBody`: whether URLs with keys in the bodies of answers are sealed. In those of 202 of Functions
    /// and Logic Apps, where it is absent.
    pub seal_body: Option<Spanned<bool>>,
    /// `maxBody`: the longest body of a request, in bytes. 100 MiB in front of Functions and Logic Apps, and any
    /// length elsewhere, where it is absent.
    pub max_body: Option<Spanned<u64>>,
    /// `upgrades`: what else than HTTP may be spoken on a connection, if caller and backend agree. Nothing where it is
    /// absent.
    pub upgrades: Vec<Spanned<Protocol>>,
    /// `timeouts`: those of the backend that are otherwise here.
    pub timeouts: RouteTimeouts,
}

/// An entry of `claimHeaders`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimHeader {
    /// The header.
    pub name: Spanned<HeaderName>,
    /// The claim whose value it carries.
    pub claim: Spanned<String>,
}

/// `sas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SasMode {
    /// The keys are removed, and the request goes on.
    Strip,
    /// The request is refused.
    Reject,
}

/// `match`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteMatch {
    /// An exact host or `*.suffix`, in lower case, without a port. Every host where it is absent.
    pub host: Option<Spanned<String>>,
    /// The methods; never empty, and never `CONNECT` or `TRACE`. Absent only together with an error.
    pub methods: Option<Vec<Spanned<Method>>>,
    /// A pattern of a path, such as `/guests/{id}`. It begins with `/`.
    pub path: Spanned<String>,
}

/// Takes a route apart.
pub(super) fn route(node: &Node, d: &mut Diagnostics) -> Option<Route> {
    let mut table = Table::of(
        node,
        "a route with the keys `match`, `backend` and `allow`",
        d,
    )?;
    let help = "say which requests: `match: { methods: [GET], path: /guests }`";
    let r#match = table.required("match", help, d, route_match);
    let backend = table.required("backend", "name one of the backends", d, |node, d| {
        name(node, "backend", d)
    });
    let owner = table.optional("owner", d, spanned(owner));
    let reason = table.optional("reason", d, spanned(|node, d| text(node, "a sentence", d)));
    let mode = table.optional("mode", d, spanned(mode));
    let public = table.optional("public", d, spanned(boolean));
    let audiences = table.optional("audiences", d, audiences);
    let allow = table.optional("allow", d, |node, d| {
        let help = "it would let nobody in; write a rule, or remove the route";
        list(node, help, d, spanned(allow_rule))
    });
    let deny = table.optional("deny", d, |node, d| {
        let help = "it refuses nobody; remove the key";
        list(node, help, d, spanned(deny_rule))
    });
    let rate_limits = table.optional("rateLimit", d, rate_limits);
    let quotas = table.optional("quota", d, quotas);
    let concurrency = table.optional("concurrency", d, concurrencies);
    let rewrite = table.optional("rewrite", d, spanned(path_pattern));
    let keep_parameters = table.optional("keepParameters", d, keep_parameters);
    let forward_caller_token = table.optional("forwardCallerToken", d, spanned(boolean));
    let claim_headers = table.optional("claimHeaders", d, claim_headers);
    let sas = table.optional("sas", d, spanned(sas_mode));
    let reject_from = table.optional("rejectFrom", d, spanned(day_or_instant));
    let seal_body = table.optional("sealBody", d, spanned(boolean));
    let max_body = table.optional("maxBody", d, spanned(|n, d| amount(n, 0..=1 << 40, d)));
    let upgrades = table.optional("upgrades", d, upgrades);
    let timeouts = route_timeouts(table.section("timeouts", d), d);
    table.finish(d);
    if let (Some(sas), Some(from)) = (&sas, &reject_from)
        && sas.value == SasMode::Reject
    {
        d.error(&from.span, "this route rejects keys already")
            .also(&sas.span, "whatever the time")
            .help("remove one of the two");
    }
    Some(Route {
        r#match: r#match?,
        backend: backend?,
        owner,
        reason,
        mode,
        public,
        audiences: audiences.unwrap_or_default(),
        allow: allow.unwrap_or_default(),
        deny: deny.unwrap_or_default(),
        rate_limits: rate_limits.unwrap_or_default(),
        quotas: quotas.unwrap_or_default(),
        concurrency: concurrency.unwrap_or_default(),
        rewrite,
        keep_parameters: keep_parameters.unwrap_or_default(),
        forward_caller_token,
        claim_headers: claim_headers.unwrap_or_default(),
        sas,
        reject_from,
        seal_body,
        max_body,
        upgrades: upgrades.unwrap_or_default(),
        timeouts,
    })
}

fn route_match(node: &Node, d: &mut Diagnostics) -> Option<RouteMatch> {
    let mut table = Table::of(node, "`{ methods: [..], path: .. }`", d)?;
    let host = table.optional("host", d, spanned(host));
    let help = "write every method out: `methods: [GET, POST]`";
    let methods = table.required("methods", help, d, |node, d| {
        let methods = list(node, help, d, spanned(method))?;
        warn_of_repeats(&methods, d);
        Some(methods)
    });
    let path = table.required(
        "path",
        "write a path: `path: /guests/{id}`",
        d,
        spanned(path_pattern),
    );
    table.finish(d);
    Some(RouteMatch {
        host,
        methods,
        path: path?,
    })
}

fn host(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let text = scalar(node, "a host", d)?;
    let name = text.strip_prefix("*.").unwrap_or(text);
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let sound = name
        .split('.')
        .all(|label| !label.is_empty() && label.chars().all(allowed));
    if !sound {
        d.error(&node.span, "this is not a host")
            .help("write `api.contoso.com` or `*.contoso.com`, without scheme, port or path");
        return None;
    }
    // Case is folded here, once, and by the canonical form of the request: nobody compares as typed.
    Some(text.to_ascii_lowercase())
}

fn method(node: &Node, d: &mut Diagnostics) -> Option<Method> {
    let text = scalar(node, "a method", d)?;
    method_of(text, &node.span, d)
}

/// The method that a text is.
pub(super) fn method_of(text: &str, span: &Span, d: &mut Diagnostics) -> Option<Method> {
    const METHODS: [Method; 7] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if matches!(text, "CONNECT" | "TRACE") {
        d.error(span, "this method is never passed on")
            .help("`CONNECT` would open a tunnel past the policy, and `TRACE` would echo credentials; remove it");
        return None;
    }
    let found = METHODS.into_iter().find(|method| method.as_str() == text);
    if found.is_none() {
        let meant = METHODS;
        d.error(span, "this is not a method that can be routed")
            .did_you_mean(nearest(text, meant.iter().map(Method::as_str)))
            .help("methods are `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE` and `OPTIONS`, in upper case");
    }
    found
}

fn path_pattern(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let path = token(node, "a path", d)?;
    if !path.starts_with('/') {
        d.error(&node.span, "a path begins with `/`");
        return None;
    }
    if path.contains(['?', '#']) {
        d.error(&node.span, "a path has no query (`?`) or fragment (`#`)")
            .help("routes are matched by path alone; remove the rest");
        return None;
    }
    Some(path)
}

/// `audiences`, of a policy or of a route.
pub(super) fn audiences(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<String>>> {
    let why = "no token would be meant for the gateway";
    let decode = |node: &Node, d: &mut Diagnostics| token(node, "an audience", d);
    list(node, why, d, spanned(decode))
}

/// A name, which the room that compiles the document looks up.
fn name(node: &Node, kind: &str, d: &mut Diagnostics) -> Option<Spanned<String>> {
    let decode = |node: &Node, d: &mut Diagnostics| text(node, &format!("the name of a {kind}"), d);
    spanned(decode)(node, d)
}

fn sas_mode(node: &Node, d: &mut Diagnostics) -> Option<SasMode> {
    const MODES: [(&str, SasMode); 2] = [("strip", SasMode::Strip), ("reject", SasMode::Reject)];
    choice(node, &MODES, d)
}

/// A day, which begins in UTC, or a point in time.
fn day_or_instant(node: &Node, d: &mut Diagnostics) -> Option<Duration> {
    let text = scalar(node, "a day or a point in time", d)?;
    let day = point_in_time(&format!("{text}T00:00:00Z"));
    let found = day.or_else(|| point_in_time(text));
    if found.is_none() {
        d.error(&node.span, "this is neither a day nor a point in time")
            .help("write `2027-03-01`, which begins in UTC, or `2027-03-01T08:00:00+01:00`");
    }
    found
}

fn claim_headers(node: &Node, d: &mut Diagnostics) -> Option<Vec<ClaimHeader>> {
    const SHAPE: &str =
        "a mapping of header names to claims: `{ x-caller-department: department }`";
    let Value::Mapping(entries) = &node.value else {
        expected(node, SHAPE, d);
        return None;
    };
    if entries.is_empty() {
        d.error(&node.span, "this mapping is empty")
            .help("leave the key out instead");
        return None;
    }
    let mut read: Vec<ClaimHeader> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.refused) {
        let claim =
            spanned(|node: &Node, d: &mut Diagnostics| token(node, "the name of a claim", d));
        let (name, claim) = (claim_header(entry, d), { claim }(&entry.value, d));
        if let (Some(name), Some(claim)) = (name, claim) {
            read.push(ClaimHeader { name, claim });
        }
    }
    Some(read)
}

/// A header that nobody else has a claim on.
fn claim_header(entry: &Entry, d: &mut Diagnostics) -> Option<Spanned<HeaderName>> {
    let name = HeaderName::from_bytes(entry.key.as_bytes()).ok();
    let name = name.filter(|name| name.as_str().starts_with("x-"));
    let Some(name) = name else {
        d.error(
            &entry.span,
            "this cannot be the name of a header of your own",
        )
        .help("begin it with `x-`: `x-caller-department`");
        return None;
    };
    if let Some(why) = unfit(&name) {
        d.error(
            &entry.span,
            format!("this header cannot carry a claim: {why}"),
        );
        return None;
    }
    Some(Spanned::new(name, entry.span.clone()))
}

fn upgrades(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<Protocol>>> {
    let protocols = list(node, "leave the key out instead", d, spanned(protocol))?;
    warn_of_repeats(&protocols, d);
    Some(protocols)
}

fn protocol(node: &Node, d: &mut Diagnostics) -> Option<Protocol> {
    let text = scalar(node, "the name of a protocol", d)?;
    let protocol = Protocol::read(text);
    if protocol.is_some() && is_meant_for_websocket(text) {
        d.warning(&node.span, "no client asks for a protocol of this name")
            .did_you_mean(Some("websocket"));
    }
    if protocol.is_none() {
        d.error(&node.span, "no connection is handed over to this protocol")
            .help("write `websocket`, or what else callers name in `Upgrade`; `h2c`, other versions of HTTP and TLS are never passed on");
    }
    protocol
}

fn is_meant_for_websocket(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_near = text.starts_with("websocket") || nearest(&text, ["websocket"]).is_some();
    text != "websocket" && (is_near || matches!(&*text, "ws" | "wss"))
}

fn keep_parameters(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<String>>> {
    let parameters = list(node, "leave the key out instead", d, spanned(parameter))?;
    warn_of_repeats(&parameters, d);
    Some(parameters)
}

fn parameter(node: &Node, d: &mut Diagnostics) -> Option<String> {
    const KEPT: [&str; 4] = ["code", "sp", "sv", "se"];
    let text = scalar(node, "the name of a parameter", d)?;
    let folded = text.to_ascii_lowercase();
    if folded == "sig" {
        d.error(&node.span, "`sig` is never kept")
            .help("it is the signature of a SAS URL: with it a caller would need no token at all");
        return None;
    }
    if !KEPT.contains(&&*folded) {
        d.error(&node.span, "this parameter need not be kept")
            .help("only `code`, `sp`, `sv` and `se` are taken from a query; remove it");
        return None;
    }
    Some(folded)
}
