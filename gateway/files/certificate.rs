//! Where the gateway's own certificates come from, and where their keys do.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::decode::{Table, list, spanned};
use super::diagnostics::Diagnostics;
use super::node::{Entry, Node, Value};
use super::secret::{SecretSource, VaultSecret, secret_source, vault_certificate};
use super::source::Spanned;
use super::values::{path, token};

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
    /// `acme`: one that is ordered for these names, in lower case.
    Acme(Spanned<Vec<String>>),
}

impl CertificateSource {
    /// The files that it is read from.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let files = match self {
            Self::Pem { cert, key, .. } => [Some(cert), Some(key)],
            Self::Pfx { pfx, .. } => [Some(pfx), None],
            Self::KeyVault(_) | Self::Acme(_) => [None, None],
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
            Self::KeyVault(_) | Self::Acme(_) => None,
        }
    }

    /// The names that one is ordered for.
    pub fn ordered(&self) -> Option<&Spanned<Vec<String>>> {
        match self {
            Self::Acme(names) => Some(names),
            Self::Pem { .. } | Self::Pfx { .. } | Self::KeyVault(_) => None,
        }
    }
}

/// What people know it by: the file of the chain, its place in Key Vault, or its names.
impl fmt::Display for CertificateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem { cert: file, .. } | Self::Pfx { pfx: file, .. } => {
                write!(f, "{}", file.value.display())
            }
            Self::KeyVault(secret) => write!(f, "{}", secret.value),
            Self::Acme(names) => f.write_str(&names.value.join(", ")),
        }
    }
}

const SHAPE: &str =
    "`{ cert: .., key: .. }`, `{ pfx: .. }`, `{ keyVault: .. }` or `{ acme: [..] }`";

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
    let (cert, key) = (table.entry("cert"), table.entry("key"));
    let kinds = [
        cert.or(key),
        table.entry("pfx"),
        table.entry("keyVault"),
        table.entry("acme"),
    ];
    let passphrase = table.entry("passphrase");
    let title = table.title().clone();
    table.finish(d);
    let mut written = kinds.into_iter().flatten();
    if let (Some(first), Some(other)) = (written.next(), written.next()) {
        d.error(&other.span, "a certificate comes from one place only")
            .also(&first.span, "and this names one already");
        return None;
    }
    let [_, pfx, vault, names] = kinds;
    if let (Some(passphrase), true) = (passphrase, vault.is_some() || names.is_some()) {
        d.error(
            &passphrase.span,
            "what comes from Key Vault or by ACME has no passphrase",
        )
        .help("remove the key");
        return None;
    }
    if let Some(vault) = vault {
        return spanned(vault_certificate)(&vault.value, d).map(CertificateSource::KeyVault);
    }
    if let Some(names) = names {
        return spanned(dns_names)(&names.value, d).map(CertificateSource::Acme);
    }
    let passphrase = match passphrase {
        None => Some(None),
        Some(entry) => spanned(secret_source)(&entry.value, d).map(Some),
    };
    if let Some(pfx) = pfx {
        return Some(CertificateSource::Pfx {
            pfx: spanned(path)(&pfx.value, d)?,
            passphrase: passphrase?,
        });
    }
    let mut file = |entry: Option<&Entry>, name: &str, help: &str| {
        if entry.is_none() {
            d.error(&title, format!("the key `{name}` is missing here"))
                .help(help);
        }
        spanned(path)(&entry?.value, d)
    };
    let cert = file(
        cert,
        "cert",
        "name the PEM file of the chain, or write `pfx`, `keyVault` or `acme`",
    );
    let key = file(key, "key", "name the PEM file of the private key");
    Some(CertificateSource::Pem {
        cert: cert?,
        key: key?,
        passphrase: passphrase?,
    })
}

/// Names that can be proved over a connection: whole ones, of more than one label.
fn dns_names(node: &Node, d: &mut Diagnostics) -> Option<Vec<String>> {
    let help = "name the hosts: `acme: [api.contoso.com]`";
    let names = list(node, help, d, dns_name)?;
    matches!(&node.value, Value::List(items) if items.len() == names.len()).then_some(names)
}

fn dns_name(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let text = token(node, "the name of a host", d)?.to_ascii_lowercase();
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
    };
    let mut labels = text.split('.');
    let is_name = text.len() <= 253 && text.contains('.') && labels.all(is_label);
    let is_address = text.parse::<IpAddr>().is_ok();
    if !is_name || is_address {
        let help = match text.starts_with("*.") {
            true => {
                "a CA issues a wildcard only to who changes its DNS, which the gateway cannot; write each name out"
            }
            false => "write the whole name, as DNS has it: `api.contoso.com`",
        };
        d.error(&node.span, "a certificate cannot be ordered for this name")
            .help(help);
        return None;
    }
    Some(text)
}
