//! Who may ask what on the admin address.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use rustls::ServerConfig;

use super::answer::{Answer, error};
use super::bearer::Bearer;
use super::endpoints::Who;
use super::tls;
use crate::certificates::{Certificates, Origins};
use crate::clock::Now;
use crate::credentials::{Derived, Slot};
use crate::files::{self, Diagnostics, HOW_TO_PROTECT};

/// What protects the admin address. All of it but the address and whether TLS is spoken changes with the files.
pub struct Protection {
    is_loopback: bool,
    rules: ArcSwap<Rules>,
}

struct Rules {
    /// Whether more than health is told at all.
    tells: bool,
    bearer: Option<Arc<Derived<Bearer>>>,
    /// Whether a client certificate will do.
    takes_certificates: bool,
    tls: Option<(Arc<Certificates>, Arc<ServerConfig>)>,
    profile: bool,
}

impl Protection {
    /// As `admin` says. `None` when an error was added.
    pub fn read(
        written: &files::Admin,
        origins: Origins<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<Self>> {
        let rules = Rules::read(written, written.is_loopback(), origins, diagnostics)?;
        Some(Arc::new(Self {
            is_loopback: written.is_loopback(),
            rules: ArcSwap::from_pointee(rules),
        }))
    }

    /// Takes up what may change while the gateway runs. What cannot be read changes nothing.
    pub fn replace(
        &self,
        written: &files::Admin,
        origins: Origins<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        let speaks_tls = self.rules.load().tls.is_some();
        // Until the restart, the address goes on as it was begun.
        if written.tls.is_some() != speaks_tls {
            return;
        }
        let rules = Rules::read(written, self.is_loopback, origins, diagnostics);
        if let Some(rules) = rules {
            self.rules.store(Arc::new(rules));
        }
    }

    /// The settings of TLS, if it is spoken.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        let rules = self.rules.load();
        let (_, config) = rules.tls.as_ref()?;
        Some(Arc::clone(config))
    }

    /// The certificates of the address, if TLS is spoken.
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        let rules = self.rules.load();
        let (certificates, _) = rules.tls.as_ref()?;
        Some(Arc::clone(certificates))
    }

    /// Whether the process may be profiled.
    pub(super) fn lets_profile(&self) -> bool {
        self.rules.load().profile
    }

    /// The slot of the bearer, where it is read in a key vault.
    pub(super) fn slot(&self) -> Option<Arc<Slot>> {
        let rules = self.rules.load();
        let mut slots = rules.bearer.iter().flat_map(|bearer| bearer.slots());
        slots.next().cloned()
    }

    /// Lets a request in, or says why not. Who is known `by_certificate` has brought one that is good.
    pub(super) fn admit(
        &self,
        who: Who,
        request: &Parts,
        by_certificate: bool,
        now: &Now,
    ) -> Result<(), Refused> {
        let rules = self.rules.load();
        match who {
            Who::Anybody => return Ok(()),
            _ if !rules.tells => return Err(Refused::Unprotected),
            Who::Visitors => return Ok(()),
            Who::Readers | Who::Operators => {}
        }
        match &rules.bearer {
            _ if by_certificate && rules.takes_certificates => Ok(()),
            Some(bearer) => match bearer.current(now) {
                Some(bearer) if bearer.is_brought(&request.headers) => Ok(()),
                Some(_) => Err(Refused::NoBearer),
                None => Err(Refused::NotRead),
            },
            None if rules.takes_certificates => Err(Refused::NoCertificate),
            None if who == Who::Operators => Err(Refused::NothingToBring),
            // A page of somebody else's could be made to ask under its own name (DNS rebinding).
            None if !names_this_machine(request) => Err(Refused::Named),
            None => Ok(()),
        }
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The address may be reached by anybody.
    Unprotected,
    /// The bearer is wrong, or was not brought.
    NoBearer,
    /// A client certificate was not brought.
    NoCertificate,
    /// The bearer is in a key vault, and was not read yet.
    NotRead,
    /// It takes a credential, and none is configured.
    NothingToBring,
    /// The address was asked for by a name.
    Named,
}

impl Refused {
    /// What whoever asked is told.
    pub(super) fn answer(self) -> Answer {
        let (status, sentence) = match self {
            Self::Unprotected => (
                StatusCode::FORBIDDEN,
                format!(
                    "anybody may reach this address, so it tells no more than /livez and /readyz: {HOW_TO_PROTECT}"
                ),
            ),
            Self::NoBearer => (
                StatusCode::UNAUTHORIZED,
                "bring the secret of `admin.bearer` as `Authorization: Bearer`".to_owned(),
            ),
            Self::NoCertificate => (
                StatusCode::UNAUTHORIZED,
                "bring a client certificate by a CA of `admin.tls.clientCa`".to_owned(),
            ),
            Self::NotRead => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the secret of `admin.bearer` was not read yet".to_owned(),
            ),
            Self::NothingToBring => (
                StatusCode::FORBIDDEN,
                "this is for who brings a credential, and none is configured: write `admin.bearer`, or `admin.tls` with `clientCa`".to_owned(),
            ),
            Self::Named => (
                StatusCode::MISDIRECTED_REQUEST,
                "without a credential this address answers by an IP address or `localhost` alone: write that in the URL, or `admin.bearer` in gateway.yaml".to_owned(),
            ),
        };
        let mut answer = error(status, &sentence);
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"portcullis-admin\"");
            let fields = answer.headers_mut();
            fields.insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

impl Rules {
    fn read(
        written: &files::Admin,
        is_loopback: bool,
        origins: Origins<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let files::Admin {
            address: _,
            bearer,
            tls,
            profile,
        } = written;
        let bearer = match bearer {
            None => Some(None),
            Some(source) => Bearer::read(source, origins.presenting, diagnostics).map(Some),
        };
        let config = match tls {
            None => Some(None),
            Some(tls) => tls::read(tls, origins, diagnostics).map(Some),
        };
        let (bearer, tls_config) = (bearer?, config?);
        let is_protected = tls_config.is_some() && written.has_credential();
        Some(Self {
            tells: is_loopback || is_protected,
            bearer,
            takes_certificates: tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
            tls: tls_config,
            profile: *profile,
        })
    }
}

/// Whether the request was meant for an IP address or for `localhost`: a name of somebody's own could lead anywhere.
fn names_this_machine(request: &Parts) -> bool {
    let host = match request.uri.host() {
        Some(host) => Some(host),
        None => {
            let mut hosts = request.headers.get_all(header::HOST).iter();
            let host = hosts.next().and_then(|host| host.to_str().ok());
            host.filter(|_| hosts.next().is_none()).map(without_port)
        }
    };
    let host = host.unwrap_or_default();
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost") || inner.unwrap_or(host).parse::<IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn only_an_address_or_localhost_names_this_machine() {
        for (host, is_one) in [
            ("127.0.0.1:9901", true),
            ("127.0.0.1", true),
            ("10.1.2.3:9901", true),
            ("[::1]:9901", true),
            ("[::1]", true),
            ("localhost", true),
            ("LocalHost:9901", true),
            ("localhost.evil.example", false),
            ("evil.example:9901", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example:127.0.0.1", false),
            ("x", false),
            ("", false),
        ] {
            let request = Request::builder().uri("/keys").header("host", host);
            let (parts, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(names_this_machine(&parts), is_one, "{host}");
        }
        let request = Request::builder().uri("http://evil.example/keys");
        let request = request.header("host", "127.0.0.1");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        assert!(
            !names_this_machine(&parts),
            "the target comes first (RFC 9112 section 3.2.2)"
        );
    }
}
