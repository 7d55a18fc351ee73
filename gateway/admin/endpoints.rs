//! What can be asked on the admin address: one table, by which requests are routed, refused and described.

use http::Method;

/// Something that can be asked.
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// The path. Its last segment may stand for any: `{id}`.
    pub(super) path: &'static str,
    pub(super) who: Who,
    pub(super) what: What,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Anybody who gets here: probes.
    Anybody,
    /// Anybody, if the address is protected: what holds nothing of this gateway.
    Visitors,
    /// Who brings a credential; where none is configured, anybody on this machine.
    Readers,
    /// Who brings a credential.
    Operators,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Live,
    Ready,
    Metrics,
    Policies,
    Certificates,
    Keys,
    Credentials,
    Backends,
    Limits,
    Access,
    Decisions,
    Decision,
    LogLevel,
    SetLogLevel,
    Profile,
    Page,
    PageStyle,
    PageScript,
    Description,
}

/// All of them.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/livez", Who::Anybody, What::Live),
    get("/readyz", Who::Anybody, What::Ready),
    get("/healthz", Who::Anybody, What::Ready),
    get("/metrics", Who::Readers, What::Metrics),
    get("/policies", Who::Readers, What::Policies),
    get("/certificates", Who::Readers, What::Certificates),
    get("/keys", Who::Readers, What::Keys),
    get("/credentials", Who::Readers, What::Credentials),
    get("/backends", Who::Readers, What::Backends),
    get("/limits", Who::Readers, What::Limits),
    get("/access", Who::Readers, What::Access),
    get("/decisions", Who::Readers, What::Decisions),
    get("/decisions/{id}", Who::Readers, What::Decision),
    get("/log-level", Who::Readers, What::LogLevel),
    Endpoint {
        method: Method::PUT,
        path: "/log-level",
        who: Who::Operators,
        what: What::SetLogLevel,
    },
    get("/profile", Who::Operators, What::Profile),
    get("/openapi.json", Who::Readers, What::Description),
    get("/", Who::Visitors, What::Page),
    get("/console.css", Who::Visitors, What::PageStyle),
    get("/console.js", Who::Visitors, What::PageScript),
];

const fn get(path: &'static str, who: Who, what: What) -> Endpoint {
    Endpoint {
        method: Method::GET,
        path,
        who,
        what,
    }
}

/// What a request asks for.
pub(super) enum Found {
    /// This.
    Endpoint(&'static Endpoint),
    /// What these methods alone can ask.
    OtherMethods(Vec<&'static Endpoint>),
    /// Nothing that there is.
    Nothing,
}

/// Looks up who answers. HEAD is answered as GET is.
pub(super) fn find(method: &Method, path: &str) -> Found {
    let at = ENDPOINTS.iter().filter(|each| fits(each.path, path));
    let at: Vec<&Endpoint> = at.collect();
    let asked = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    match at.iter().find(|each| each.method == *asked) {
        Some(found) => Found::Endpoint(found),
        None if at.is_empty() => Found::Nothing,
        None => Found::OtherMethods(at),
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    match pattern.split_once('{') {
        None => pattern == path,
        Some((before, _)) => path
            .strip_prefix(before)
            .is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
    }
}

/// What `Allow` says where these can be asked.
pub(super) fn allowed(at: &[&Endpoint]) -> String {
    let methods = at.iter().map(|each| match each.method {
        Method::GET => "GET, HEAD",
        ref method => method.as_str(),
    });
    methods.collect::<Vec<_>>().join(", ")
}

/// Every path once, as people read a list.
pub(super) fn paths() -> String {
    let mut paths: Vec<&str> = ENDPOINTS.iter().map(|each| each.path).collect();
    paths.dedup();
    match paths.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        _ => paths.concat(),
    }
}

/// Every method and path that is answered, HEAD left out.
pub fn endpoints() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENDPOINTS
        .iter()
        .map(|each| (each.method.as_str(), each.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_of_a_path_may_stand_for_any_one() {
        for (pattern, path, fit) in [
            ("/keys", "/keys", true),
            ("/keys", "/keys/", false),
            ("/keys", "/keys/a", false),
            ("/of/{id}", "/of/a", true),
            ("/of/{id}", "/of/", false),
            ("/of/{id}", "/of/a/b", false),
            ("/of/{id}", "/of", false),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }
}
