//! Names of policy files, looked up: a name that nothing bears is reported with the nearest that exists.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;
use uuid::Uuid;

use super::condition::Field;
use super::named::{Named, Register};
use super::routes::BackendId;
use crate::canonical::folds_alike;
use crate::files::{self, Diagnostics, Faulty, PolicyDocument, Spanned, nearest, without_tokens};
use crate::ids::{AppId, ObjectId, PERSONAL_ACCOUNTS, TenantId};

/// Everything that has a name.
pub(super) struct Names<'d> {
    pub(super) tenants: Kind<'d, TenantId>,
    pub(super) apps: Kind<'d, AppId>,
    pub(super) principals: Kind<'d, ObjectId>,
    pub(super) groups: Kind<'d, ObjectId>,
    pub(super) networks: Kind<'d, Vec<IpNet>>,
    pub(super) backends: Kind<'d, BackendId>,
    /// The headers of credentials, and the backends that get them.
    credential_headers: Vec<(&'d HeaderName, &'d str)>,
}

/// The names of one kind of thing.
pub(super) struct Kind<'d, T> {
    /// What one is called, and the key that they stand under.
    words: (&'static str, &'static str),
    known: BTreeMap<&'d str, T>,
    faulty: &'d Faulty,
}

impl<'d, T: Clone> Kind<'d, T> {
    fn read<V>(
        words: (&'static str, &'static str),
        written: &'d [files::Named<V>],
        document: &'d PolicyDocument,
        value: impl Fn(usize, &V) -> T,
    ) -> Self {
        let named = written.iter().enumerate();
        Self {
            words,
            known: named
                .map(|(at, named)| (named.name.value.as_str(), value(at, &named.value)))
                .collect(),
            faulty: &document.faulty,
        }
    }

    /// Looks a name up, or reports it.
    pub(super) fn find(&self, name: &Spanned<String>, diagnostics: &mut Diagnostics) -> Option<T> {
        if let Some(found) = self.known.get(name.value.as_str()) {
            return Some(found.clone());
        }
        // What could not be read was reported where it stands.
        let (one, key) = self.words;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.value == "*" {
            diagnostics
                .error(&name.span, format!("`*` is no name of a {one}"))
                .help("leave the key out where any will do");
        } else if !name.value.bytes().all(is_name) {
            // Which may be anything, a link with a key in it, say, so it is not repeated.
            diagnostics
                .error(&name.span, format!("this is no name of a {one}"))
                .help(format!("a name has letters, digits, `.`, `_` and `-`; what it stands for is under `{key}:`"));
        } else if !self.faulty.may_hold(&name.value) {
            let error = diagnostics.error(
                &name.span,
                format!("no {one} is named `{}`", without_tokens(&name.value)),
            );
            match nearest(&name.value, self.known.keys().copied()) {
                Some(near) => error.did_you_mean(Some(near)),
                None if Uuid::try_parse(&name.value).is_ok() => error.help(format!(
                    "rules say names, so that they read as prose: write the one that this ID has under `{key}:`"
                )),
                None => error.help(format!("name it under `{key}:`")),
            };
        }
        None
    }

    /// Looks all of them up, and reports each that there is not.
    pub(super) fn all(
        &self,
        names: &[Spanned<String>],
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<T>> {
        let found: Vec<_> = names
            .iter()
            .map(|name| self.find(name, diagnostics))
            .collect();
        found.into_iter().collect()
    }

    fn register(&self) -> Register<T>
    where
        T: Copy + Eq + Hash,
    {
        let known = self.known.iter();
        known.map(|(name, id)| (Arc::from(*name), *id)).collect()
    }
}

impl<'d> Names<'d> {
    pub(super) fn read(document: &'d PolicyDocument, diagnostics: &mut Diagnostics) -> Self {
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
        let d = document;
        Self {
            tenants: Kind::read(("tenant", "tenants"), &d.tenants, d, |_, id| {
                TenantId::new(*id)
            }),
            apps: Kind::read(("app", "apps"), &d.apps, d, |_, id| AppId::new(*id)),
            principals: Kind::read(("principal", "principals"), &d.principals, d, |_, id| {
                ObjectId::new(*id)
            }),
            groups: Kind::read(("group", "groups"), &d.groups, d, |_, id| {
                ObjectId::new(*id)
            }),
            networks: Kind::read(("network", "networks"), &d.networks, d, |_, networks| {
                networks.iter().map(|network| network.value).collect()
            }),
            backends: Kind::read(("backend", "backends"), &d.backends, d, |at, _| {
                BackendId(at)
            }),
            credential_headers: d
                .backends
                .iter()
                .filter_map(|backend| match &backend.value.credential.value {
                    files::Credential::Header { name, .. } => {
                        Some((&name.value, backend.name.value.as_str()))
                    }
                    files::Credential::None
                    | files::Credential::Token { .. }
                    | files::Credential::FunctionKey { .. }
                    | files::Credential::Sas { .. } => None,
                })
                .collect(),
        }
    }

    /// The backend that gets its credential in a header that reads as this one.
    pub(super) fn backend_that_is_given(&self, header: &str) -> Option<&'d str> {
        let header = HeaderName::from_bytes(header.as_bytes()).ok()?;
        let mut headers = self.credential_headers.iter();
        let found = headers.find(|(name, _)| folds_alike(name, &header));
        found.map(|(_, backend)| *backend)
    }

    /// The tenants, in no order.
    pub(super) fn tenant_ids(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.known.values().copied()
    }

    /// The GUID that a name stands for, where a condition compares a field with it.
    pub(super) fn guid(&self, field: &Field, name: &str) -> Option<Uuid> {
        match field {
            Field::Tenant => self.tenants.known.get(name).map(|id| id.uuid()),
            Field::App => self.apps.known.get(name).map(|id| id.uuid()),
            Field::Principal => self.principals.known.get(name).map(|id| id.uuid()),
            Field::Groups => self.groups.known.get(name).map(|id| id.uuid()),
            _ => None,
        }
    }

    /// What to call things by their IDs.
    pub(super) fn shown(&self, document: &PolicyDocument) -> Named {
        let mut networks: Vec<(Arc<str>, Vec<IpNet>)> = document
            .networks
            .iter()
            .map(|named| {
                let networks = named.value.iter().map(|network| network.value);
                (Arc::from(named.name.value.as_str()), networks.collect())
            })
            .collect();
        networks
            .sort_by_cached_key(|(name, networks)| (Reverse(extent(networks)), Arc::clone(name)));
        Named {
            tenants: self.tenants.register(),
            apps: self.apps.register(),
            principals: self.principals.register(),
            groups: self.groups.register(),
            networks,
            backends: document
                .backends
                .iter()
                .map(|backend| Arc::from(backend.name.value.as_str()))
                .collect(),
        }
    }
}

/// How large networks are, for comparing: an IPv4 network is smaller than any IPv6 one of its length.
fn extent(networks: &[IpNet]) -> u128 {
    let size = |network: &IpNet| {
        let free = network.max_prefix_len() - network.prefix_len();
        1_u128.checked_shl(free.into()).unwrap_or(u128::MAX)
    };
    networks.iter().map(size).fold(0, u128::saturating_add)
}
