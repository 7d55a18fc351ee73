//! Where secrets are read: in Key Vault, a file or an environment variable. Never in the files that
//! people review.

use std::fmt;
use std::path::PathBuf;

use http::Uri;

use super::decode::{Table, expected, scalar};
use super::diagnostics::{Diagnostic, Diagnostics};
use super::node::{Entry, Node, Value};
use super::source::Span;
use super::values::{path, url};

/// Where a secret is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `env`: an environment variable.
    Env(String),
    /// `file`: a file.
    File(PathBuf),
    /// `keyVault`: a secret in Key Vault.
    KeyVault(VaultSecret),
}

/// A secret in Key Vault, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VaultSecret {
    /// The vault: scheme, host in lower case, and port where it is not 443.
    pub vault: String,
    /// Whom tokens for it are meant for.
    pub resource: String,
    /// The secret's name, in lower case.
    pub name: String,
    /// The version, in lower case; the newest where it is absent.
    pub version: Option<String>,
}

impl fmt::Display for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/secrets/{}", self.vault, self.name)?;
        match &self.version {
            Some(version) => write!(f, "/{version}"),
            None => Ok(()),
        }
    }
}

pub(super) fn is_literal(node: &Node) -> bool {
    matches!(node.value, Value::Plain(_) | Value::Quoted(_))
}

/// Where a secret is read: by reference, since a literal would be in the history of the files for ever.
pub(super) fn secret_source(node: &Node, d: &mut Diagnostics) -> Option<SecretSource> {
    const SHAPE: &str = "`{ keyVault: .. }`, `{ file: .. }` or `{ env: .. }`";
    if is_literal(node) {
        by_reference(&node.span, d);
        return None;
    }
    let mut table = Table::of(node, SHAPE, d)?;
    let title = table.title().clone();
    let written: Vec<&Entry> = ["env", "file", "keyVault"]
        .into_iter()
        .filter_map(|key| table.entry(key))
        .collect();
    let refused = matches!(&node.value, Value::Mapping(entries) if entries.len() > written.len());
    table.finish(d);
    match written.as_slice() {
        [] if refused => None,
        [] => {
            expected(node, SHAPE, d).map(|diagnostic| diagnostic.also(&title, "for this secret"));
            None
        }
        [one] if one.key == "env" => variable(&one.value, d).map(SecretSource::Env),
        [one] if one.key == "keyVault" => vault_secret(&one.value, d).map(SecretSource::KeyVault),
        [one] => path(&one.value, d).map(SecretSource::File),
        [first, others @ ..] => {
            for other in others {
                d.error(&other.span, "a secret is read in one place only")
                    .also(&first.span, "and this names one already");
            }
            None
        }
    }
}

/// The name of an environment variable. What cannot be one may be the secret itself.
fn variable(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let name = scalar(node, "the name of an environment variable", d)?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(allowed) {
        d.error(
            &node.span,
            "this cannot be the name of an environment variable",
        )
        .help("write the variable's name, not its value: letters, digits and `_`");
        return None;
    }
    Some(name.to_owned())
}

/// The URL of a secret in Key Vault, as the portal shows it.
fn vault_secret(node: &Node, d: &mut Diagnostics) -> Option<VaultSecret> {
    let url = url(node, d)?;
    let read = VaultSecret::read(&url, "secrets");
    if let Err(why) = &read {
        d.error(&node.span, *why)
            .help("write the secret's identifier: `https://contoso.vault.azure.net/secrets/guest-api-key`");
    }
    read.ok()
}

/// The URL of a certificate in Key Vault, or of the secret of the same name, which holds its key besides.
/// <https://learn.microsoft.com/azure/key-vault/certificates/about-certificates>
pub(super) fn vault_certificate(node: &Node, d: &mut Diagnostics) -> Option<VaultSecret> {
    let url = url(node, d)?;
    let read = VaultSecret::read(&url, "certificates");
    let read = read.or_else(|why| VaultSecret::read(&url, "secrets").map_err(|_| why));
    if let Err(why) = &read {
        d.error(&node.span, *why)
            .help("write the certificate's identifier: `https://contoso.vault.azure.net/certificates/gateway`");
    }
    read.ok()
}

/// The domains of Key Vault, and whom tokens for it are meant for there.
/// <https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates>
const VAULTS: [(&str, &str); 3] = [
    (".vault.azure.net", "https://vault.azure.net"),
    (
        ".vault.usgovcloudapi.net",
        "https://vault.usgovcloudapi.net",
    ),
    (".vault.azure.cn", "https://vault.azure.cn"),
];

/// Whether a text is surely the identifier of a secret, and not a secret in its place.
pub(super) fn is_vault_secret(text: &str) -> bool {
    text.parse()
        .is_ok_and(|url| VaultSecret::read(&url, "secrets").is_ok())
}

impl VaultSecret {
    /// Reads the identifier of one of a kind: `secrets`, or `certificates`.
    fn read(url: &Uri, kind: &str) -> Result<Self, &'static str> {
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let local = ["localhost", "127.0.0.1", "[::1]"].contains(&&*host);
        let known = VAULTS.iter().find(|(domain, _)| {
            host.strip_suffix(domain)
                .is_some_and(|name| !name.is_empty() && !name.contains('.'))
        });
        // A vault on this machine is one of a test.
        let resource = match known {
            Some((_, resource)) => *resource,
            None if local => "https://vault.azure.net",
            None => return Err("this is not the host of a key vault"),
        };
        if url.scheme_str() != Some("https") {
            return Err("a key vault is read over `https` alone");
        }
        if url.query().is_some() {
            return Err("the identifier of a secret has no query");
        }
        let mut parts = url.path().trim_matches('/').split('/');
        let (Some(found), Some(name), version, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("this is not the identifier of a secret");
        };
        if found != kind {
            return Err("this is not the identifier of a secret");
        }
        let named = |text: &str| {
            (1..=127).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !named(name) || !version.is_none_or(named) {
            return Err("the name or version of this secret makes no sense");
        }
        let port = url.port_u16().filter(|port| *port != 443);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            vault: format!("https://{host}{port}"),
            resource: resource.to_owned(),
            // Key Vault compares names without regard to case.
            name: name.to_ascii_lowercase(),
            version: version.map(str::to_ascii_lowercase),
        })
    }
}

/// A secret stands in the file. Its value is never repeated, here or in the line that is shown.
pub(super) fn literal_secret<'d>(span: &Span, d: &'d mut Diagnostics) -> &'d mut Diagnostic {
    d.error(span, "a literal secret in this file")
        .label("whoever can read this file can use it: withdraw it")
}

fn by_reference(span: &Span, d: &mut Diagnostics) {
    d.error(span, "a secret must not stand in this file")
        .label("if this is a real one, withdraw it")
        .help(
            "put it into Key Vault, a file or an environment variable and write `{ keyVault: .. }`, `{ file: .. }` or `{ env: .. }`",
        );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_secret_of_a_key_vault_is_one() {
        for (url, read) in [
            (
                "https://Contoso.vault.azure.net/secrets/Guest-Key",
                Ok("https://contoso.vault.azure.net/secrets/guest-key"),
            ),
            (
                "https://contoso.vault.azure.cn:443/secrets/k/0123ABCD/",
                Ok("https://contoso.vault.azure.cn/secrets/k/0123abcd"),
            ),
            (
                "https://localhost:81/secrets/k",
                Ok("https://localhost:81/secrets/k"),
            ),
            (
                "https://vault.azure.net/secrets/k",
                Err("this is not the host of a key vault"),
            ),
            (
                "https://contoso.vault.azure.net.evil.example/secrets/k",
                Err("this is not the host of a key vault"),
            ),
            (
                "https://a.b.vault.azure.net/secrets/k",
                Err("this is not the host of a key vault"),
            ),
            (
                "http://localhost:81/secrets/k",
                Err("a key vault is read over `https` alone"),
            ),
            (
                "https://contoso.vault.azure.net/keys/k",
                Err("this is not the identifier of a secret"),
            ),
            (
                "https://contoso.vault.azure.net/secrets/",
                Err("this is not the identifier of a secret"),
            ),
            (
                "https://contoso.vault.azure.net/secrets/k/v/w",
                Err("this is not the identifier of a secret"),
            ),
            (
                "https://contoso.vault.azure.net/secrets/a_b",
                Err("the name or version of this secret makes no sense"),
            ),
            (
                "https://contoso.vault.azure.net/secrets/k?api-version=7.4",
                Err("the identifier of a secret has no query"),
            ),
        ] {
            let parsed = url.parse().expect(url);
            let got = VaultSecret::read(&parsed, "secrets").map(|secret| secret.to_string());
            assert_eq!(got.as_deref().map_err(|why| *why), read, "{url}");
        }
    }
}
