//! What a policy calls people and things, and what each name stands for.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use ipnet::IpNet;

use super::routes::BackendId;
use crate::ids::{AppId, ObjectId, TenantId};

/// Everything that a policy has a name for.
#[derive(Debug, Default)]
pub struct Named {
    pub(super) tenants: Register<TenantId>,
    pub(super) apps: Register<AppId>,
    pub(super) principals: Register<ObjectId>,
    pub(super) groups: Register<ObjectId>,
    /// The largest first, then by name: of several that fit, the first is shown.
    pub(super) networks: Vec<(Arc<str>, Vec<IpNet>)>,
    pub(super) backends: Vec<Arc<str>>,
}

/// The names of one kind of thing.
#[derive(Debug)]
pub struct Register<T> {
    /// What each name stands for; several may stand for one thing.
    ids: BTreeMap<Arc<str>, T>,
    /// By which name a thing is shown: the first by the alphabet.
    shown: HashMap<T, Arc<str>>,
}

/// Names, and what each stands for, in the order of the alphabet.
pub type Meanings = Vec<(Arc<str>, String)>;

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self {
            ids: BTreeMap::new(),
            shown: HashMap::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> FromIterator<(Arc<str>, T)> for Register<T> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, T)>>(names: I) -> Self {
        let ids: BTreeMap<Arc<str>, T> = names.into_iter().collect();
        let mut shown = HashMap::with_capacity(ids.len());
        for (name, id) in &ids {
            shown.entry(*id).or_insert_with(|| Arc::clone(name));
        }
        Self { ids, shown }
    }
}

impl<T: Copy + Eq + Hash> Register<T> {
    /// The name by which a thing is shown.
    pub fn name(&self, id: T) -> Option<&Arc<str>> {
        self.shown.get(&id)
    }

    /// What a name stands for.
    pub fn id(&self, name: &str) -> Option<T> {
        self.ids.get(name).copied()
    }

    /// Every name with what it stands for, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, T)> {
        self.ids.iter().map(|(name, id)| (name, *id))
    }

    /// Every name, in the order of the alphabet.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.ids.keys().map(|name| &**name)
    }
}

impl Named {
    /// The tenants.
    pub fn tenants(&self) -> &Register<TenantId> {
        &self.tenants
    }

    /// The apps.
    pub fn apps(&self) -> &Register<AppId> {
        &self.apps
    }

    /// The users and service principals.
    pub fn principals(&self) -> &Register<ObjectId> {
        &self.principals
    }

    /// The groups.
    pub fn groups(&self) -> &Register<ObjectId> {
        &self.groups
    }

    /// The networks.
    pub fn networks(&self) -> impl Iterator<Item = (&Arc<str>, &[IpNet])> {
        let networks = self.networks.iter();
        networks.map(|(name, networks)| (name, networks.as_slice()))
    }

    /// The name of a backend.
    pub fn backend(&self, backend: BackendId) -> Option<&Arc<str>> {
        self.backends.get(backend.0)
    }

    /// Every kind of name, by the key that it stands under, with what each name stands for.
    pub fn meanings(&self) -> [(&'static str, Meanings); 5] {
        fn of<T: Copy + Eq + Hash + ToString>(register: &Register<T>) -> Meanings {
            let names = register.iter();
            names
                .map(|(name, id)| (Arc::clone(name), id.to_string()))
                .collect()
        }
        let networks = self.networks().map(|(name, networks)| {
            let mut networks: Vec<String> = networks.iter().map(IpNet::to_string).collect();
            networks.sort();
            (Arc::clone(name), networks.join(", "))
        });
        let mut networks: Vec<_> = networks.collect();
        networks.sort();
        [
            ("tenants", of(&self.tenants)),
            ("apps", of(&self.apps)),
            ("principals", of(&self.principals)),
            ("groups", of(&self.groups)),
            ("networks", networks),
        ]
    }
}
