//! What is sealed: where the URL leads at the backend, and to which request it was the answer.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::Method;
use uuid::Uuid;

use super::placeholders;
use crate::canonical::{KeyParameters, canonical_path};
use crate::ids::{AppId, TenantId};

/// The request that a URL was given in answer to: who follows it is authorised as that request would
/// be now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// The route's name.
    pub route: String,
    /// The caller's tenant; `None` on a public route.
    pub tenant: Option<TenantId>,
    /// The caller's application; `None` on a public route, or where the token names none.
    pub app: Option<AppId>,
    /// The method.
    pub method: Method,
    /// The canonical host.
    pub host: String,
    /// The canonical path.
    pub path: String,
}

/// The methods that a URL may be followed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// GET and HEAD.
    Read,
    /// This one alone.
    Only(Method),
}

impl Methods {
    /// Whether it may be followed with this method.
    pub fn allow(&self, method: &Method) -> bool {
        match self {
            Self::Read => matches!(*method, Method::GET | Method::HEAD),
            Self::Only(only) => only == method,
        }
    }

    /// The method that it is mostly followed with.
    pub(super) fn first(&self) -> Method {
        match self {
            Self::Read => Method::GET,
            Self::Only(only) => only.clone(),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Read => None,
            Self::Only(method) => Some(method.as_str()),
        }
    }

    fn named(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None => Self::Read,
            Some(name) => Self::Only(name.parse().ok()?),
        })
    }
}

/// What a target brings along to be let in by: a Logic App refuses a signature beside a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// Nothing.
    None,
    /// A signature or key that is all that goes along.
    Alone,
    /// The system key (`code`) of Durable Functions at their own endpoint, beside which the gateway's token
    /// may go: App Service's built-in authentication in front of the host asks for one.
    Durable,
}

impl Signed {
    /// By the key parameters of a target that carries a key in whatever form, and its path. Who has a backend
    /// redirect to a URL of their own making must not have the gateway's token sent there, whatever `code`
    /// stands in it.
    ///
    /// Of a path with placeholders, what stands before the first is what the follower cannot choose.
    pub(super) fn by(keys: KeyParameters, path: &str) -> Self {
        const DURABLE: &str = "/runtime/webhooks/durabletask/";
        let fixed = path.split('{').next().unwrap_or_default();
        let plain = !path.contains(';') && is_below(&path.replace(['{', '}'], ""), DURABLE);
        if keys.keys() == KeyParameters::CODE && plain && is_below(fixed, DURABLE) {
            Self::Durable
        } else {
            Self::Alone
        }
    }

    fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Alone => 's',
            Self::Durable => 'c',
        }
    }

    fn of_letter(letter: char) -> Option<Self> {
        let all = [Self::None, Self::Alone, Self::Durable];
        all.into_iter().find(|signed| signed.letter() == letter)
    }
}

/// Whether a path lies below another, to every reader: one that is not canonical does not.
pub(super) fn is_below(path: &str, start: &str) -> bool {
    let is_canonical = canonical_path(path).is_ok_and(|canonical| canonical == path);
    let first = path.get(..start.len());
    is_canonical && first.is_some_and(|first| first.eq_ignore_ascii_case(start))
}

/// A sealed URL, opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// The request that it was given in answer to.
    pub issued: Issued,
    /// Path and query at the backend. A secret: it holds the key.
    pub target: String,
    /// What it may be followed with.
    pub methods: Methods,
    /// What the target is let in by.
    pub signed: Signed,
    /// When it ends, since the Unix epoch, in whole seconds.
    pub expires: Duration,
}

/// The sealed URL was followed with another query than it was given with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Altered;

/// Route, tenant, app, method, host, path, target, methods, signed, expires.
type Written<'l> = (
    Cow<'l, str>,
    Option<Uuid>,
    Option<Uuid>,
    Cow<'l, str>,
    Cow<'l, str>,
    Cow<'l, str>,
    Cow<'l, str>,
    Option<Cow<'l, str>>,
    char,
    u64,
);

impl Link {
    /// The target with the values in it that the follower's raw query has for its placeholders. The
    /// values stay as they were sent. A target without placeholders takes no query.
    ///
    /// # Errors
    /// If the query has more or fewer parameters than there are placeholders, or a value that could
    /// lead elsewhere: for a path, anything but one canonical segment; for a query, incomplete percent
    /// codes, any of `& ; # = + ?`, or what is not printable; or the placeholder itself.
    pub fn filled(&self, query: Option<&str>) -> Result<String, Altered> {
        placeholders::fill(&self.target, query.unwrap_or_default())
    }

    pub(super) fn write(&self) -> Option<Vec<u8>> {
        let issued = &self.issued;
        let written: Written<'_> = (
            Cow::from(&issued.route),
            issued.tenant.map(TenantId::uuid),
            issued.app.map(AppId::uuid),
            Cow::from(issued.method.as_str()),
            Cow::from(&issued.host),
            Cow::from(&issued.path),
            Cow::from(&self.target),
            self.methods.name().map(Cow::from),
            self.signed.letter(),
            self.expires.as_secs(),
        );
        serde_json::to_vec(&written).ok()
    }

    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let (route, tenant, app, method, host, path, target, methods, signed, expires): Written<
            '_,
        > = serde_json::from_slice(text).ok()?;
        Some(Self {
            issued: Issued {
                route: route.into_owned(),
                tenant: tenant.map(TenantId::new),
                app: app.map(AppId::new),
                method: method.parse().ok()?,
                host: host.into_owned(),
                path: path.into_owned(),
            },
            target: target.into_owned(),
            methods: Methods::named(methods.as_deref())?,
            signed: Signed::of_letter(signed)?,
            expires: Duration::from_secs(expires),
        })
    }
}

/// Says nothing of the target.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("issued", &self.issued)
            .field("methods", &self.methods)
            .field("signed", &self.signed)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (methods, signed, id) in [
            (Methods::Read, Signed::None, None),
            (Methods::Only(Method::POST), Signed::Alone, Some(1)),
            (Methods::Only(Method::PUT), Signed::Durable, Some(u128::MAX)),
        ] {
            let link = Link {
                issued: Issued {
                    route: "r\"\\\u{e9}".to_owned(),
                    tenant: id.map(|id| TenantId::new(Uuid::from_u128(id))),
                    app: id.map(|id| AppId::new(Uuid::from_u128(id))),
                    method: Method::PATCH,
                    host: "[::1]".to_owned(),
                    path: "/a%20b".to_owned(),
                },
                target: "/x?sig=a%2Fb".to_owned(),
                methods,
                signed,
                expires: Duration::from_secs(u64::MAX),
            };
            let written = link.write().expect("written");
            assert_eq!(Link::read(&written), Some(link));
        }
    }

    #[test]
    fn reading_is_get_and_head_and_a_method_is_itself_alone() {
        for (methods, method, allowed) in [
            (Methods::Read, Method::GET, true),
            (Methods::Read, Method::HEAD, true),
            (Methods::Read, Method::POST, false),
            (Methods::Read, Method::OPTIONS, false),
            (Methods::Only(Method::POST), Method::POST, true),
            (Methods::Only(Method::POST), Method::GET, false),
        ] {
            assert_eq!(methods.allow(&method), allowed, "{methods:?} {method}");
        }
    }

    #[test]
    fn a_token_may_go_beside_the_key_of_durable_functions_and_no_other() {
        let (sig, code) = (KeyParameters::SIG, KeyParameters::CODE);
        let durable = "/runtime/webhooks/durabletask/instances/1";
        for (keys, path, signed) in [
            (KeyParameters::NONE, durable, Signed::Alone),
            (KeyParameters::SE, durable, Signed::Alone),
            (sig.with(KeyParameters::SP), durable, Signed::Alone),
            (code, durable, Signed::Durable),
            (code, "/api/orders", Signed::Alone),
            (
                code,
                "/runtime/webhooks/durabletask/instances/1/raiseEvent/{eventName}",
                Signed::Durable,
            ),
            (code, "/runtime/webhooks/durabletask/../../x", Signed::Alone),
            (
                code,
                "/runtime/webhooks/durabletask/{x}/../../../x",
                Signed::Alone,
            ),
            (code, "/{runtime}/{webhooks}/{durabletask}/x", Signed::Alone),
            (code, "/runtime/webhooks/{durabletask}/x", Signed::Alone),
            (code, "/run{time}/webhooks/durabletask/x", Signed::Alone),
            (
                code,
                "/runtime/webhooks/durabletask/x;code=1",
                Signed::Alone,
            ),
            (
                code,
                "/runtime/webhooks/durabletask/%2e%2e/x",
                Signed::Alone,
            ),
            (KeyParameters::X_FUNCTIONS_KEY, durable, Signed::Alone),
            (sig.with(code), durable, Signed::Alone),
        ] {
            assert_eq!(Signed::by(keys, path), signed, "{keys:?} {path}");
        }
    }
}
