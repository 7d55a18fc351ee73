//! What has a count of its own: the part of a caller that a limit counts by.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use aws_lc_rs::digest;
use http::header::HeaderName;
use http::{HeaderMap, Method};

use crate::entra::Principal;
use crate::files::{LimitKey, Spanned};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::net::address::subscriber;
use crate::policy::Authorized;

/// Who asks to be let through, and with what.
pub struct Asker<'r> {
    /// The policy lets the request in.
    pub authorized: &'r Authorized<'r>,
    /// The address of the caller.
    pub client: IpAddr,
    /// The method.
    pub method: &'r Method,
    /// The fields that may be passed on.
    pub headers: &'r HeaderMap,
}

impl Asker<'_> {
    /// Who it is, as far as being fair goes.
    pub(super) fn who(&self) -> Who {
        match self.authorized.principal() {
            Some(principal) => Who::App(principal.tenant(), principal.app()),
            None => Who::Address(subscriber(self.client)),
        }
    }
}

/// One of those among whom what there is is shared out: an app of a tenant, or an address where no token was looked
/// at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Who {
    App(TenantId, AppId),
    Address(IpAddr),
}

/// What a limit counts by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct By {
    tenant: bool,
    app: bool,
    principal: bool,
    client_address: bool,
    others: Vec<Other>,
}

/// What is no word of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Other {
    Claim(Box<str>),
    Header(HeaderName),
}

impl By {
    pub(super) fn read(written: &[Spanned<LimitKey>]) -> Self {
        let mut by = Self::default();
        for key in written {
            match &key.value {
                LimitKey::Tenant => by.tenant = true,
                LimitKey::App => by.app = true,
                LimitKey::Principal => by.principal = true,
                LimitKey::ClientAddress => by.client_address = true,
                // Every limit stands by its own route already.
                LimitKey::Route => {}
                LimitKey::Claim(claim) => by.others.push(Other::Claim(claim.as_str().into())),
                LimitKey::Header(name) => by.others.push(Other::Header(name.clone())),
            }
        }
        by
    }

    /// What it names, as it is written but for its braces; empty where all share one count.
    pub(super) fn text(&self) -> String {
        let Self {
            tenant,
            app,
            principal,
            client_address,
            others,
        } = self;
        let words = [
            (*tenant, LimitKey::Tenant),
            (*app, LimitKey::App),
            (*principal, LimitKey::Principal),
            (*client_address, LimitKey::ClientAddress),
        ];
        let words = words.into_iter().filter(|(named, _)| *named);
        let words = words.map(|(_, word)| word.text());
        let others = others.iter().map(|other| match other {
            Other::Claim(claim) => LimitKey::Claim(claim.to_string()).text(),
            Other::Header(header) => LimitKey::Header(header.clone()).text(),
        });
        words.chain(others).collect::<Vec<_>>().join(", ")
    }

    /// Whom a request is counted for.
    pub(super) fn key(&self, asker: &Asker<'_>) -> Key {
        let Self {
            tenant,
            app,
            principal,
            client_address,
            others,
        } = self;
        let caller = asker.authorized.principal();
        Key {
            tenant: caller.filter(|_| *tenant).map(|caller| caller.tenant()),
            app: caller.filter(|_| *app).map(|caller| caller.app()),
            principal: caller
                .filter(|_| *principal)
                .and_then(|caller| caller.object()),
            client: client_address.then(|| subscriber(asker.client)),
            others: match others.is_empty() {
                true => 0,
                false => digest_of(others, caller.map(AsRef::as_ref), asker.headers),
            },
        }
    }
}

/// Whom a request is counted for. Small and copied: counting allocates only for who is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    tenant: Option<TenantId>,
    app: Option<AppId>,
    principal: Option<ObjectId>,
    client: Option<IpAddr>,
    /// A digest of claims and headers: callers choose them, and how long they are.
    others: u128,
}

impl Key {
    /// Whoever calls from an address.
    pub(super) fn of_address(client: IpAddr) -> Self {
        Self {
            client: Some(subscriber(client)),
            ..Self::ANYBODY
        }
    }

    /// A name that tells it from others and says nothing of who it is: the same in every gateway.
    pub(super) fn name(&self) -> String {
        let Self {
            tenant,
            app,
            principal,
            client,
            others,
        } = self;
        let ids = [
            tenant.map(TenantId::uuid),
            app.map(AppId::uuid),
            principal.map(ObjectId::uuid),
        ];
        let mut context = digest::Context::new(&digest::SHA256);
        for id in ids {
            context.update(&[u8::from(id.is_some())]);
            context.update(id.unwrap_or_default().as_bytes());
        }
        let client = client.map_or(0, |client| match client {
            IpAddr::V4(client) => client.to_ipv6_mapped().to_bits(),
            IpAddr::V6(client) => client.to_bits(),
        });
        context.update(&client.to_be_bytes());
        context.update(&others.to_be_bytes());
        format!("{:032x}", half(&context.finish()))
    }

    /// All callers together.
    pub(super) const ANYBODY: Self = Self {
        tenant: None,
        app: None,
        principal: None,
        client: None,
        others: 0,
    };
}

/// Only what a limit counts by: the keys of one limit name the same parts, so that which they are says nothing.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            tenant,
            app,
            principal,
            client,
            others,
        } = self;
        let tenant = tenant.map(TenantId::uuid);
        let app = app.map(AppId::uuid);
        let principal = principal.map(ObjectId::uuid);
        for id in [tenant, app, principal].into_iter().flatten() {
            state.write_u128(id.as_u128());
        }
        if let Some(client) = client {
            client.hash(state);
        }
        if *others != 0 {
            state.write_u128(*others);
        }
    }
}

/// The same for the same values in every gateway that shares a limit. What is absent is unlike what is empty.
fn digest_of(others: &[Other], caller: Option<&Principal>, headers: &HeaderMap) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut add = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    for other in others {
        match other {
            Other::Claim(claim) => match caller.and_then(|caller| caller.claim_text(claim)) {
                Some(text) => add(text.as_bytes()),
                None => add(b"\0none"),
            },
            Other::Header(name) => {
                let values = headers.get_all(name);
                add(&values.iter().count().to_be_bytes());
                values.iter().for_each(|value| add(value.as_bytes()));
            }
        }
    }
    half(&context.finish())
}

/// Half of a digest is enough to tell callers apart.
fn half(digest: &digest::Digest) -> u128 {
    let first = digest.as_ref().first_chunk();
    first.map_or(0, |bytes| u128::from_be_bytes(*bytes))
}
