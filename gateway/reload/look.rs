//! What files look like from outside. It costs a `stat` each, and changes when any of them does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::files::{
    CertificateSource, Credential, GatewayDocument, Listen, PolicyDocument, SecretSource,
};

/// Every file that has a say, those named in the documents too, and what each looked like. A file that is
/// missing looks like nothing, until it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    seen: BTreeMap<PathBuf, Option<Seen>>,
    /// Those that have a say by their names.
    named: BTreeSet<PathBuf>,
    /// Whose files have a say, whichever they are.
    folders: BTreeSet<PathBuf>,
}

/// Size, time in seconds and nanoseconds, and place of a file.
type Seen = (u64, i64, i64, u64);

impl Look {
    /// Looks at a file, be it there or not.
    pub(super) fn at_file(&mut self, path: &Path) {
        self.named.insert(path.to_owned());
        self.see(path);
    }

    fn see(&mut self, path: &Path) {
        let metadata = fs::metadata(path).ok();
        let seen = metadata.map(|metadata| {
            (
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ino(),
            )
        });
        self.seen.insert(path.to_owned(), seen);
    }

    /// Looks at a folder and all that is in it; at a file, if it is one.
    fn at_folder(&mut self, path: &Path) {
        self.see(path);
        self.folders.insert(path.to_owned());
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            self.see(&entry.path());
        }
    }

    /// Looks at the files that gateway.yaml names.
    pub(super) fn at_gateway(&mut self, gateway: &GatewayDocument) {
        let candidate = gateway.candidate.as_ref();
        for policies in [Some(&gateway.policies), candidate].into_iter().flatten() {
            self.at_folder(&policies.value);
        }
        let admin = gateway.admin.as_ref();
        let admin_tls = admin.and_then(|admin| admin.tls.as_ref());
        let of_callers = || gateway.listen.iter().filter_map(Listen::tls);
        let certificates = of_callers().flat_map(|tls| &tls.certificates);
        let of_admin = admin_tls.into_iter().flat_map(|tls| &tls.certificates);
        let certificates = certificates.chain(of_admin);
        for file in certificates.flat_map(CertificateSource::files) {
            self.at_file(file);
        }
        let clients = gateway.listen.iter();
        let clients = clients.filter_map(|listen| listen.client_certificates.as_ref());
        for file in clients.flat_map(|clients| clients.crl.iter().chain([&clients.ca])) {
            self.at_file(&file.value);
        }
        if let Some(ca) = admin_tls.and_then(|tls| tls.client_ca.as_ref()) {
            self.at_file(&ca.value);
        }
        let own = gateway
            .seal
            .keys
            .iter()
            .chain(&gateway.telemetry.fingerprint_key)
            .chain(of_callers().flat_map(|tls| &tls.ticket_keys))
            .chain(admin.and_then(|admin| admin.bearer.as_ref()));
        for key in own {
            self.at_secret(&key.value);
        }
    }

    /// Looks at the files that policies name: CA certificates and secrets.
    pub(super) fn at_secrets(&mut self, policies: &PolicyDocument) {
        for backend in policies.backends.iter().map(|backend| &backend.value) {
            if let Some(ca) = &backend.ca {
                self.at_file(&ca.value);
            }
            if let Some(secret) = secret_of(&backend.credential.value) {
                self.at_secret(secret);
            }
        }
    }

    fn at_secret(&mut self, source: &SecretSource) {
        if let SecretSource::File(file) = source {
            self.at_file(file);
        }
    }

    /// Looks besides at those of another: of what was not come to, nobody knows whether it is still named.
    pub(super) fn and(mut self, other: &Self) -> Self {
        for folder in &other.folders {
            if !self.folders.contains(folder) {
                self.at_folder(folder);
            }
        }
        for file in &other.named {
            if !self.named.contains(file) {
                self.at_file(file);
            }
        }
        self
    }

    /// Looks at the same files and folders once more.
    pub(super) fn again(&self) -> Self {
        let mut look = Self::default();
        for folder in &self.folders {
            look.at_folder(folder);
        }
        for file in &self.named {
            look.at_file(file);
        }
        look
    }
}

/// The secret that a credential is read from when files are compiled. An app's is read with each fetch.
fn secret_of(credential: &Credential) -> Option<&SecretSource> {
    match credential {
        Credential::FunctionKey { value }
        | Credential::Header { value, .. }
        | Credential::Sas { value } => Some(value),
        Credential::None | Credential::Token { .. } => None,
    }
}
