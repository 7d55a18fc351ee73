//! Where the gateway's own certificates come from, and where their keys do.

use std::fmt;
use std::path::PathBuf;

use super::decode::{Table, list, spanned};
use super::diagnostics::Diagnostics;
use super::node::Node;
use super::secret::{SecretSource, VaultSecret, secret_source, vault_certificate};
use super::source::Spanned;
use super::values::path;

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq)]
pub enum CertificateSource {
    /// `cert` and `key`: two PEM files.
    Pem {
        /// The chain.
        cert: Spanned<PathBuf>,
        /// The private key.
        key: Spanned<PathBuf>,
        /// What the key is encrypted with, if it is.
        passphrase: Option<Spanned<SecretSource>>,
    },
    /// `pfx`: chain and key in one file (PKCS #12).
    Pfx {
        /// The file.
        pfx: Spanned<PathBuf>,
        /// What it is encrypted with; the empty passphrase where it is absent.
        passphrase: Option<Spanned<SecretSource>>,
    },
    /// `keyVault`: a certificate in Key Vault, which is read with its key as the secret of the same name.
    KeyVault(Spanned<VaultSecret>),
}

impl CertificateSource {
    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files = match self {
            Self::Pem { cert, key, .. } => [Some(cert), Some(key)],
            Self::Pfx { pfx, .. } => [Some(pfx), None],
            Self::KeyVault(_) => [None, None],
        };
        let passphrase = self.passphrase().and_then(|source| match source {
            SecretSource::File(file) => Some(file),
            SecretSource::Env(_) | SecretSource::KeyVault(_) => None,
        });
        let files = files.into_iter().flatten().map(|file| &file.value);
        files.chain(passphrase)
    }

    /// What of it is read in Key Vault: all of it, or its passphrase.
    pub fn in_key_vault(&self) -> Option<&VaultSecret> {
        if let Self::KeyVault(secret) = self {
            return Some(&secret.value);
        }
        match self.passphrase()? {
            SecretSource::KeyVault(secret) => Some(secret),
            SecretSource::Env(_) | SecretSource::File(_) => None,
        }
    }

    fn passphrase(&self) -> Option<&SecretSource> {
        match self {
            Self::Pem { passphrase, .. } | Self::Pfx { passphrase, .. } => {
                passphrase.as_ref().map(|source| &source.value)
            }
            Self::KeyVault(_) => None,
        }
    }
}

/// What people know it by: the file of the chain, or its place in Key Vault.
impl fmt::Display for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem { cert: file, .. } | Self::Pfx { pfx: file, .. } => {
                write!(f, "{}", file.value.display())
            }
            Self::KeyVault(secret) => write!(f, "{}", secret.value),
        }
    }
}

const SHAPE: &str = "`{ cert: .., key: .. }`, `{ pfx: .. }` or `{ keyVault: .. }`";

/// The key `certificates`, which has to be there.
pub(super) fn certificates(
    table: &mut Table<'_>,
    d: &mut Diagnostics,
) -> Option<Vec<CertificateSource>> {
    let help = "name the files: `certificates: [{ cert: .., key: .. }]`";
    table.required("certificates", help, d, |node, d| {
        list(
            node,
            "without a certificate there is no TLS",
            d,
            certificate,
        )
    })
}

fn certificate(node: &Node, d: &mut Diagnostics) -> Option<CertificateSource> {
    let mut table = Table::of(node, SHAPE, d)?;
    let (pfx, vault) = (table.entry("pfx"), table.entry("keyVault"));
    let (cert, key) = (table.entry("cert"), table.entry("key"));
    let passphrase = table.entry("passphrase");
    let title = table.title().clone();
    table.finish(d);
    let kinds = [cert.or(key), pfx, vault];
    let mut kinds = kinds.into_iter().flatten();
    if let (Some(first), Some(other)) = (kinds.next(), kinds.next()) {
        d.error(&other.span, "a certificate comes from one place only")
            .also(&first.span, "and this names one already");
        return None;
    }
    let secret = |d: &mut Diagnostics| match passphrase {
        None => Some(None),
        Some(entry) => spanned(secret_source)(&entry.value, d).map(Some),
    };
    if let Some(pfx) = pfx {
        let (pfx, passphrase) = (spanned(path)(&pfx.value, d), secret(d));
        return Some(CertificateSource::Pfx {
            pfx: pfx?,
            passphrase: passphrase?,
        });
    }
    if let Some(vault) = vault {
        if let Some(passphrase) = passphrase {
            d.error(
                &passphrase.span,
                "Key Vault hands certificates out without a passphrase",
            )
            .help("remove the key");
            return None;
        }
        return spanned(vault_certificate)(&vault.value, d).map(CertificateSource::KeyVault);
    }
    let mut file = |entry: Option<&super::node::Entry>, name: &str, help: &str| {
        if entry.is_none() {
            d.error(&title, format!("the key `{name}` is missing here"))
                .help(help);
        }
        spanned(path)(&entry?.value, d)
    };
    let cert = file(
        cert,
        "cert",
        "name the PEM file of the chain, or write `pfx` or `keyVault`",
    );
    let key = file(key, "key", "name the PEM file of the private key");
    let passphrase = secret(d);
    Some(CertificateSource::Pem {
        cert: cert?,
        key: key?,
        passphrase: passphrase?,
    })
}
