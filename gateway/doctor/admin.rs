//! The admin address: whether it can be listened on, and what protects it can be used.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};

use super::{Area, Finding, Surroundings};
use crate::admin::{self, Bearer, bind};
use crate::credentials::Derived;
use crate::files::{self, Diagnostics, GatewayDocument};
use crate::net::client::{Bounds, Client};
use crate::upstream::Presenting;

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(5),
    max_body: 1024,
};

/// `admin.tls.clientCa`. What is wrong with it is added to the diagnostics.
pub(super) fn client_ca(
    gateway: &GatewayDocument,
    diagnostics: &mut Diagnostics,
) -> Option<Finding> {
    let tls = gateway.admin.as_ref().and_then(|admin| admin.tls.as_ref());
    let ca = tls?.client_ca.as_ref()?;
    let name = format!("admin.tls.clientCa {}", ca.value.display());
    Some(match admin::client_ca(ca, diagnostics) {
        Some(_) => Finding::good(Area::Admin, name, "can be read, and holds certificates"),
        None => Finding::bad(
            Area::Admin,
            name,
            "it cannot be used: the diagnostics say why",
            "let the gateway's user read it: a PEM file with the certificates of those CAs that may let administrators in",
        ),
    })
}

/// The secret of `admin.bearer`, if one is written.
pub(super) enum Read {
    /// None is written.
    Unwritten,
    /// It cannot be read, or cannot protect: the diagnostics say why.
    Faulty,
    /// It was read, or is being read in Key Vault.
    Begun(Arc<Derived<Bearer>>),
}

/// Begins to read it. What is wrong with it is added to the diagnostics.
pub(super) fn read(surroundings: &Surroundings<'_>, diagnostics: &mut Diagnostics) -> Read {
    let Surroundings {
        gateway, lasting, ..
    } = surroundings;
    let admin = gateway.admin.as_ref();
    let Some(written) = admin.and_then(|admin| admin.bearer.as_ref()) else {
        return Read::Unwritten;
    };
    let presenting = Presenting {
        credentials: &lasting.credentials,
        key_vault: &gateway.key_vault,
    };
    Bearer::read(written, presenting, diagnostics).map_or(Read::Faulty, Read::Begun)
}

/// Tells of the secret, once the fetches are over.
pub(super) fn bearer(surroundings: &Surroundings<'_>, read: &Read) -> Option<Finding> {
    const NAME: &str = "admin.bearer";
    const ADVICE: &str = "put 32 random bytes there in base64: `openssl rand -base64 32`";
    let now = surroundings.lasting.clock.now();
    Some(match read {
        Read::Unwritten => return None,
        Read::Faulty => Finding::bad(
            Area::Admin,
            NAME,
            "it cannot be used: the diagnostics say why",
            format!("set the variable, or let the gateway's user read the file; {ADVICE}"),
        ),
        Read::Begun(bearer) => match (bearer.fault(&now), bearer.current(&now)) {
            (Some(why), _) => Finding::bad(Area::Admin, NAME, why, ADVICE),
            (None, Some(_)) => Finding::good(Area::Admin, NAME, "can be read, and is long enough"),
            (None, None) => Finding::bad(
                Area::Admin,
                NAME,
                "it was not read, so nobody is let in",
                "see the line of Key Vault first",
            ),
        },
    })
}

/// Whether the address is free, or the gateway's already.
pub(super) async fn address(surroundings: &Surroundings<'_>) -> Option<Finding> {
    let admin = surroundings.gateway.admin.as_ref()?;
    let address = admin.address.value;
    let name = format!("admin.address {address}");
    Some(match bind(address).await {
        Ok(_) => Finding::good(Area::Admin, name, "can be listened on"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            taken(surroundings, admin, name).await
        }
        Err(error) => Finding::bad(
            Area::Admin,
            name,
            format!("cannot be listened on: {error}"),
            "write an address that this machine has in `admin.address`, and a port that the gateway's user may take (from 1024 on, as a rule)",
        ),
    })
}

const ANOTHER: &str = "write another port in `admin.address`, or end who listens there";

/// Somebody listens there. The doctor often runs beside the gateway, so that is asked for.
async fn taken(surroundings: &Surroundings<'_>, admin: &files::Admin, name: String) -> Finding {
    if admin.tls.is_some() {
        return Finding::warning(
            Area::Admin,
            name,
            "somebody listens there, and over TLS is not asked whether that is a gateway",
            format!("all is well if it is this one; otherwise {ANOTHER}"),
        );
    }
    match is_alive(surroundings, admin.address.value).await {
        true => Finding::good(Area::Admin, name, "a gateway answers there already"),
        false => Finding::bad(
            Area::Admin,
            name,
            "somebody listens there who is no gateway",
            ANOTHER,
        ),
    }
}

/// Whether a gateway answers there.
async fn is_alive(surroundings: &Surroundings<'_>, mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let request = Request::get(format!("http://{address}/livez")).body(Bytes::new());
    let Ok(request) = request else {
        return false;
    };
    let client = Client::of_platform(Arc::clone(surroundings.resolver)).allow_plain();
    let answer = client.send(request, BOUNDS).await;
    answer
        .is_ok_and(|answer| answer.status() == StatusCode::OK && answer.body().as_ref() == b"ok\n")
}
