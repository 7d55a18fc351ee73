//! What a rule may ask of a request beside its token: the time, the connection, the canonical request.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Version};

use super::condition::{Fact, Facts, Failure, Field, Value};
use super::rule::comparable;
use crate::canonical::{self, KeyParameters};
use crate::client_certificate::ClientCertificate;
use crate::entra::{Groups, Principal};
use crate::upgrade::{Asked, Protocol};

/// The circumstances of a request. Borrowed, and made once a request.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'r> {
    /// The time, since the Unix epoch.
    pub now: Duration,
    /// The address that the connection comes from.
    pub client: IpAddr,
    /// The certificate that the caller has proved to hold.
    pub certificate: Option<&'r ClientCertificate>,
    /// The method.
    pub method: &'r Method,
    /// The canonical host.
    pub host: &'r str,
    /// The canonical path.
    pub path: &'r str,
    /// The fields that may be passed on.
    pub headers: &'r HeaderMap,
    /// The signatures and keys that the URL holds, by their names.
    pub keys: KeyParameters,
    /// What the caller wants to speak on the connection from here on.
    pub upgrade: Option<&'r Protocol>,
    /// The version of HTTP that the caller speaks.
    pub version: Version,
    /// The parameters of the route's path, once a route has matched.
    pub parameters: &'r [(Box<str>, Box<str>)],
    /// What is known, where not everything is: a record does not hold the whole request.
    pub known: Option<&'r Known>,
}

/// What a record holds of a request and its token.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The fields, by their names in lower case, that are known to be there or not.
    pub headers: BTreeSet<Box<str>>,
    /// The claims that are known to be there or not.
    pub claims: BTreeSet<Box<str>>,
    /// The signatures and keys that the URL held, but for those that its route kept then.
    pub keys: KeyParameters,
    /// What the caller wanted to speak in place of HTTP.
    pub upgrade: Option<Protocol>,
    /// Whether of the caller's address and the principal only hashes are known.
    pub hashed: bool,
    /// Whether a condition that asks for something else is taken as the caller would have it: true in an
    /// allow rule, false in a deny rule. Otherwise it is taken the other way. Deciding once with each shows
    /// whether it matters.
    pub hopeful: bool,
}

impl<'r> Circumstances<'r> {
    /// The circumstances of a request in canonical form, which arrived at `now`.
    pub fn of(request: &'r canonical::Request, now: Duration) -> Self {
        Self {
            now,
            client: request.client().ip(),
            certificate: request.certificate().map(Arc::as_ref),
            method: request.method(),
            host: request.host(),
            path: request.path(),
            headers: request.headers(),
            keys: request.key_parameters_seen(),
            upgrade: request.upgrade().map(Asked::protocol),
            version: request.version(),
            parameters: &[],
            known: None,
        }
    }

    pub(super) fn client(&self) -> IpAddr {
        comparable(self.client)
    }

    /// Whether it is not known who called from where.
    pub(super) fn is_hashed(&self) -> bool {
        self.known.is_some_and(|known| known.hashed)
    }

    pub(super) fn hopeful(&self) -> bool {
        self.known.is_some_and(|known| known.hopeful)
    }

    /// Everything that a condition may ask for.
    pub(super) fn facts<'f>(&'f self, principal: Option<&'f Principal>) -> RequestFacts<'f> {
        RequestFacts {
            circumstances: self,
            principal,
        }
    }
}

/// A request and its principal, as conditions see them.
pub(super) struct RequestFacts<'f> {
    circumstances: &'f Circumstances<'f>,
    principal: Option<&'f Principal>,
}

impl Facts for RequestFacts<'_> {
    fn look(&self, field: &Field) -> Fact<'_> {
        let request = self.circumstances;
        let text = |text: Cow<'static, str>| Fact::Is(Value::Text(text));
        match field {
            Field::Method => Fact::Is(Value::Text(request.method.as_str().into())),
            Field::Host => Fact::Is(Value::Text(request.host.into())),
            Field::Path => Fact::Is(Value::Text(request.path.into())),
            Field::Header(name) => self.header(name),
            Field::Parameter(name) => {
                let mut parameters = request.parameters.iter();
                match parameters.find(|(known, _)| known == name) {
                    Some((_, value)) => Fact::Is(Value::Text((&**value).into())),
                    None => Fact::Absent,
                }
            }
            Field::Time => Fact::Is(Value::Time(seconds(request.now))),
            Field::Address
            | Field::Principal
            | Field::CertificateThumbprint
            | Field::CertificateSubject
            | Field::CertificateIssuer
                if request.is_hashed() =>
            {
                Fact::Unknown
            }
            Field::CertificateThumbprint => self.certificate(|one| &one.thumbprint),
            Field::CertificateSubject => self.certificate(|one| &one.subject),
            Field::CertificateIssuer => self.certificate(|one| &one.issuer),
            Field::Address => text(request.client().to_string().into()),
            Field::Protocol => text(Cow::Borrowed(match request.version {
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            })),
            Field::Tenant
            | Field::App
            | Field::Principal
            | Field::Kind
            | Field::Version
            | Field::Roles
            | Field::Scopes
            | Field::Groups
            | Field::Claim(_) => match self.principal {
                Some(principal) => self.token(principal, field),
                None => Fact::Absent,
            },
        }
    }
}

impl RequestFacts<'_> {
    fn certificate(&self, of: impl Fn(&ClientCertificate) -> &str) -> Fact<'_> {
        match self.circumstances.certificate {
            Some(certificate) => Fact::Is(Value::Text(of(certificate).into())),
            None => Fact::Absent,
        }
    }

    fn header(&self, name: &str) -> Fact<'_> {
        let known = self.circumstances.known;
        if known.is_some_and(|known| !known.headers.contains(name)) {
            return Fact::Unknown;
        }
        let mut values = self.circumstances.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Fact::Absent,
            (Some(value), None) => match value.to_str() {
                Ok(value) => Fact::Is(Value::Text(value.into())),
                Err(_) => Fact::Failed(Failure::Type(format!("the field `{name}`"))),
            },
            // Which of them the backend will believe, nobody knows.
            (Some(_), Some(_)) => Fact::Failed(Failure::Type(format!("the field `{name}`"))),
        }
    }

    fn token<'f>(&'f self, principal: &'f Principal, field: &Field) -> Fact<'f> {
        let word = |word: &'static str| Fact::Is(Value::Text(Cow::Borrowed(word)));
        let id = |id: String| Fact::Is(Value::Text(id.into()));
        match field {
            Field::Tenant => id(principal.tenant().to_string()),
            Field::App => id(principal.app().to_string()),
            Field::Principal => match principal.object() {
                Some(object) => id(object.to_string()),
                None => Fact::Absent,
            },
            Field::Kind => word(principal.kind().as_str()),
            Field::Version => word(principal.version().claim()),
            Field::Roles => Fact::Is(Value::Texts(principal.roles())),
            Field::Scopes => Fact::Is(Value::Texts(principal.scopes())),
            Field::Groups => match principal.groups() {
                Groups::Listed(groups) => Fact::Is(Value::Texts(groups)),
                Groups::Overage => Fact::Failed(Failure::GroupOverage),
            },
            Field::Claim(name) => {
                let known = self.circumstances.known;
                let recorded = known.is_none_or(|known| known.claims.contains(name));
                if !recorded || !principal.knows_claim(name) {
                    return Fact::Unknown;
                }
                match principal.claim(name) {
                    Some(value) => Fact::Is(Value::Json(value)),
                    None => Fact::Absent,
                }
            }
            Field::Method
            | Field::Host
            | Field::Path
            | Field::Header(_)
            | Field::Parameter(_)
            | Field::Time
            | Field::Address
            | Field::CertificateThumbprint
            | Field::CertificateSubject
            | Field::CertificateIssuer
            | Field::Protocol => Fact::Absent,
        }
    }
}

fn seconds(now: Duration) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
