//! What becomes of a request that is let in: where it goes, with which credential, how often. `diff` tells
//! a change of it beside changes of access, for who may call is only half of what they reach.

use std::path::Path;

use crate::files::{
    Adaptive, Amount, Backend, BackendKind, Concurrency, Cost, Credential, Holder, Identity,
    LimitKey, Mode, PolicyDocument, Proof, Protocol, Quota, RateLimit, Route, RouteTimeouts,
    SasMode, SecretSource, Span, Spanned, Timeouts, Window,
};

/// One thing that is otherwise: what, as it was, as it would be.
pub(crate) type Changed = (&'static str, String, String);

/// What is otherwise for the requests of a route that another takes, or the same one changed. Routes are
/// given by their places in the documents.
pub(super) fn changes(
    (old, before): (&PolicyDocument, usize),
    (new, after): (&PolicyDocument, usize),
) -> Vec<Changed> {
    let (Some(before), Some(after)) = (described(old, before), described(new, after)) else {
        return Vec::new();
    };
    let both = before.into_iter().zip(after);
    both.filter(|((_, before), (_, after))| before != after)
        .map(|((what, before), (_, after))| (what, before, after))
        .collect()
}

type Described = [(&'static str, String); 18];

fn described(document: &PolicyDocument, route: usize) -> Option<Described> {
    let route = &document.routes.get(route)?.value;
    let mut backends = document.backends.iter();
    let backend = &backends
        .find(|backend| backend.name == route.backend)?
        .value;
    Some([
        ("goes to", place(backend)),
        ("rewrite", or_none(route.rewrite.as_ref())),
        ("credential", credential(&backend.credential)),
        ("trusts", trusted(backend)),
        ("protocol", protocol(backend.protocol).to_owned()),
        ("timeouts", timeouts(backend, &route.timeouts)),
        ("when it fails", on_bad_days(backend)),
        ("keepParameters", kept(route)),
        (
            "forwardCallerToken",
            flag(route.forward_caller_token.as_ref()),
        ),
        ("claimHeaders", claims(route)),
        ("sas", keys_in_urls(route)),
        ("sealBody", seal_body(route)),
        ("maxBody", max_body(route)),
        ("upgrades", upgrades(route)),
        ("rateLimit", all(&route.rate_limits, rate_limit)),
        ("quota", all(&route.quotas, quota_of)),
        ("concurrency", all(&route.concurrency, concurrency)),
        (
            "concurrency of the backend",
            all(&backend.concurrency, concurrency),
        ),
    ])
}

fn none() -> String {
    "none".to_owned()
}

fn or_none(text: Option<&Spanned<String>>) -> String {
    text.map_or_else(none, |text| text.value.clone())
}

fn flag(flag: Option<&Spanned<bool>>) -> String {
    flag.is_some_and(|flag| flag.value).to_string()
}

fn seal_body(route: &Route) -> String {
    let written = route.seal_body.as_ref();
    written.map_or_else(|| "in 202".to_owned(), |written| written.value.to_string())
}

fn max_body(route: &Route) -> String {
    let written = route.max_body.as_ref();
    written.map_or_else(
        || "default".to_owned(),
        |written| format!("{} bytes", written.value),
    )
}

fn upgrades(route: &Route) -> String {
    let names = route.upgrades.iter();
    sorted(names.map(|one| one.value.name().to_owned()))
}

fn claims(route: &Route) -> String {
    let claims = route.claim_headers.iter();
    sorted(claims.map(|header| format!("{} from {}", header.name.value, header.claim.value)))
}

/// What has no order, in one that does not change with how it was written.
fn sorted(texts: impl Iterator<Item = String>) -> String {
    let mut texts: Vec<String> = texts.collect();
    texts.sort_unstable();
    match texts.is_empty() {
        true => none(),
        false => texts.join(", "),
    }
}

fn keys_in_urls(route: &Route) -> String {
    match (&route.sas, &route.reject_from) {
        (_, Some(from)) => format!("strip, reject from {} s after 1970", from.value.as_secs()),
        (Some(sas), None) if sas.value == SasMode::Reject => "reject".to_owned(),
        (_, None) => "strip".to_owned(),
    }
}

fn place(backend: &Backend) -> String {
    let kind = kind(backend.kind);
    let urls: Vec<String> = backend.urls().map(|url| url.value.to_string()).collect();
    format!("{kind} {}", urls.join(", "))
}

/// A kind of backend, as policies write it.
pub(crate) const fn kind(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::Function => "function",
        BackendKind::LogicApp => "logicApp",
        BackendKind::Http => "http",
    }
}

/// A credential by what it is and where it comes from. Never what it says.
pub(crate) fn credential(credential: &Spanned<Credential>) -> String {
    let at = &credential.span;
    match &credential.value {
        Credential::None => none(),
        Credential::Token { resource, holder } => {
            format!(
                "token of {} for {}",
                holder_words(holder, at),
                resource.value
            )
        }
        Credential::Sas { value } => format!("SAS signature from {}", source(value, at)),
        Credential::FunctionKey { value } => format!("function key from {}", source(value, at)),
        Credential::Header { name, value } => format!("{} from {}", name.value, source(value, at)),
    }
}

fn identity_words(identity: &Identity, at: &Span) -> String {
    let or = |text: &Option<String>, variable: &str| {
        text.clone()
            .unwrap_or_else(|| format!("the variable {variable}"))
    };
    match identity {
        Identity::System => "the system-assigned identity".to_owned(),
        Identity::ClientId(id) => format!("the identity of client ID {id}"),
        Identity::ObjectId(id) => format!("the identity of object ID {id}"),
        Identity::ResourceId(id) => format!("the identity {id}"),
        Identity::Workload(workload) => format!(
            "the workload identity of client ID {} in tenant {}, by {}",
            or(&workload.client_id, "AZURE_CLIENT_ID"),
            or(&workload.tenant_id, "AZURE_TENANT_ID"),
            match &workload.token_file {
                Some(path) => format!("the file {}", as_written(path, at)),
                None => "AZURE_FEDERATED_TOKEN_FILE".to_owned(),
            }
        ),
    }
}

fn holder_words(holder: &Holder, at: &Span) -> String {
    match holder {
        Holder::Identity(identity) => identity_words(identity, at),
        Holder::App(app) => format!(
            "the app {} of tenant {}, by {}",
            app.client_id,
            app.tenant_id,
            match &app.proof {
                Proof::Secret(value) => format!("the secret from {}", source(value, at)),
                Proof::Certificate(value) => format!("the certificate from {}", source(value, at)),
            }
        ),
    }
}

fn source(source: &SecretSource, at: &Span) -> String {
    match source {
        SecretSource::Env(name) => format!("the variable {name}"),
        SecretSource::File(path) => format!("the file {}", as_written(path, at)),
        SecretSource::KeyVault(secret) => format!("Key Vault {secret}"),
    }
}

/// A path as its policy file names it: seen from there, so that two copies of a folder say the same.
fn as_written(path: &Path, at: &Span) -> String {
    let written = path.strip_prefix(at.source().folder());
    written.unwrap_or(path).display().to_string()
}

fn trusted(backend: &Backend) -> String {
    match &backend.ca {
        Some(path) => as_written(&path.value, &path.span),
        None => "the platform's roots".to_owned(),
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http1",
        Protocol::Http2 => "http2",
    }
}

/// Those in force: the route's, or else the backend's.
fn timeouts(backend: &Backend, route: &RouteTimeouts) -> String {
    let Timeouts {
        connect,
        tls,
        first_byte,
        idle,
        total,
    } = backend.timeouts;
    let total = route.total.or(total);
    format!(
        "connect {connect:?}, tls {tls:?}, firstByte {:?}, idle {:?}, total {}",
        route.first_byte.unwrap_or(first_byte),
        route.idle.unwrap_or(idle),
        total.map_or_else(none, |total| format!("{total:?}")),
    )
}

/// What becomes of requests when the backend fails.
fn on_bad_days(backend: &Backend) -> String {
    let mut said = Vec::new();
    if !backend.others.is_empty() {
        let ejection = backend.ejection;
        said.push(format!(
            "one of several is left out after {} failures, for {:?} to {:?}",
            ejection.consecutive, ejection.time, ejection.max_time
        ));
    }
    if let Some(breaker) = &backend.breaker {
        said.push(format!(
            "nothing is sent for {:?} after {} failures, {} % of failures or {} % later than {:?}, of {} or more in {:?}, then {} to try",
            breaker.open,
            breaker.failures,
            breaker.failure_rate,
            breaker.slow_rate,
            breaker.slow_after,
            breaker.minimum,
            breaker.window,
            breaker.probes
        ));
    }
    if !(backend.others.is_empty() && backend.breaker.is_none()) {
        said.push(format!("failures are {:?}", backend.failure_statuses));
    }
    if let Some(retry) = &backend.retry {
        let on: Vec<&str> = retry.on.iter().map(|on| on.word()).collect();
        said.push(format!(
            "{} attempts after {}, {:?} to {:?} apart, {} % of all",
            retry.attempts,
            on.join(" or "),
            retry.backoff,
            retry.max_backoff,
            retry.budget
        ));
    }
    if let Some(health) = &backend.health {
        said.push(format!(
            "{} is asked every {:?}, {:?} at most, for {:?}, {} bad and {} good in a row count{}",
            health.path,
            health.every,
            health.timeout,
            health.status,
            health.unhealthy,
            health.healthy,
            if health.credential {
                ", with the credential"
            } else {
                ""
            }
        ));
    }
    if let Some(limit) = backend.cold_start {
        said.push(format!("a start is waited for, {limit:?}"));
    }
    listed(&said)
}

fn kept(route: &Route) -> String {
    let names = route.keep_parameters.iter();
    sorted(names.map(|name| name.value.clone()))
}

/// Several, or none, in the order in which they are written.
fn all<'l, T: 'l>(
    limits: impl IntoIterator<Item = &'l Spanned<T>>,
    words: fn(&T) -> String,
) -> String {
    let texts = limits.into_iter().map(|limit| words(&limit.value));
    listed(&texts.collect::<Vec<_>>())
}

fn listed(texts: &[String]) -> String {
    match texts.is_empty() {
        true => none(),
        false => texts.join("; "),
    }
}

fn rate_limit(limit: &RateLimit) -> String {
    let RateLimit {
        name,
        requests,
        per,
        burst,
        by,
        cost,
        mode,
    } = limit;
    let burst = burst.map_or_else(String::new, |burst| format!(", {burst} at once"));
    format!(
        "{}{requests} per {per:?}{burst}, by {}{}{}",
        named(name.as_ref()),
        keys(by),
        costs(cost),
        on_trial(*mode)
    )
}

fn quota_of(quota: &Quota) -> String {
    let Quota {
        name,
        amount,
        per,
        by,
        cost,
        mode,
    } = quota;
    let amount = match amount {
        Amount::Requests(most) => most.to_string(),
        Amount::Bytes(most) => format!("{most} bytes"),
    };
    let per = match per {
        Window::Day => "day",
        Window::Month => "month",
    };
    format!(
        "{}{amount} per {per}, by {}{}{}",
        named(name.as_ref()),
        keys(by),
        costs(cost),
        on_trial(*mode)
    )
}

fn concurrency(limit: &Concurrency) -> String {
    let Concurrency {
        requests,
        by,
        wait,
        queue,
        adaptive,
    } = limit;
    let by = match by.is_empty() {
        true => String::new(),
        false => format!(", by {}", keys(by)),
    };
    let adaptive = match adaptive {
        None => String::new(),
        Some(Adaptive {
            least,
            latency: None,
        }) => format!(", adaptive from {least}"),
        Some(Adaptive {
            least,
            latency: Some(latency),
        }) => format!(", adaptive from {least} by {latency:?}"),
    };
    format!("{requests} at once{by}, {queue} waiting {wait:?}{adaptive}")
}

fn named(name: Option<&Spanned<String>>) -> String {
    name.map_or_else(String::new, |name| format!("{}: ", name.value))
}

fn keys(by: &[Spanned<LimitKey>]) -> String {
    let mut keys: Vec<String> = by.iter().map(|key| key.value.text()).collect();
    keys.sort_unstable();
    keys.join(" and ")
}

fn costs(costs: &[Cost]) -> String {
    let mut costs: Vec<String> = costs
        .iter()
        .map(|cost| format!(", {} counts {}", cost.method.value, cost.units))
        .collect();
    costs.sort_unstable();
    costs.concat()
}

fn on_trial(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "",
        Mode::ReportOnly => ", only reports",
    }
}
