//! `acme`: from which CA certificates are ordered, and where they are kept.

use std::path::PathBuf;

use http::Uri;

use super::decode::{Table, list, spanned};
use super::diagnostics::Diagnostics;
use super::node::Node;
use super::secret::{SecretSource, secret_source};
use super::source::Spanned;
use super::values::{boolean, choice, path, token, url};

/// `acme`.
#[derive(Clone, Debug, PartialEq)]
pub struct Acme {
    /// `directory`: the URL of the CA's directory.
    pub directory: Spanned<Uri>,
    /// `contact`: whom the CA writes to, as `mailto:` URLs.
    pub contact: Vec<String>,
    /// `folder`: where the account, certificates and keys are kept.
    pub folder: Spanned<PathBuf>,
    /// `challenge`: how names are proved. Default `tls-alpn-01`.
    pub challenge: AcmeChallenge,
    /// `ca`: a PEM file of roots to trust for the directory, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
    /// `externalAccount`: an account that the CA's operator knows already.
    pub external_account: Option<AcmeExternalAccount>,
}

/// `acme.challenge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// By a certificate on port 443.
    TlsAlpn01,
    /// By a text on port 80.
    Http01,
}

const CHALLENGES: [(&str, AcmeChallenge); 2] = [
    ("tls-alpn-01", AcmeChallenge::TlsAlpn01),
    ("http-01", AcmeChallenge::Http01),
];

/// `acme.externalAccount`.
#[derive(Clone, Debug, PartialEq)]
pub struct AcmeExternalAccount {
    /// The ID of its key.
    pub key_id: String,
    /// Where its key is read, in base64.
    pub hmac_key: Spanned<SecretSource>,
}

/// Takes `acme` apart.
pub(super) fn acme(node: &Node, d: &mut Diagnostics) -> Option<Acme> {
    let mut table = Table::of(
        node,
        "`{ directory: .., termsOfServiceAgreed: true, folder: .. }`",
        d,
    )?;
    let directory = table.required(
        "directory",
        "name the CA: `directory: https://acme-v02.api.letsencrypt.org/directory`",
        d,
        spanned(url),
    );
    let agreed = table.required("termsOfServiceAgreed", AGREE, d, agreed);
    let contact = table.optional("contact", d, |node, d| {
        list(
            node,
            "leave the key out if nobody is to be told",
            d,
            contact,
        )
    });
    let folder = table.required(
        "folder",
        "name a folder that the gateway alone may read, and that outlives it: `folder: /var/lib/portcullis/acme`",
        d,
        spanned(path),
    );
    let challenge = table.optional("challenge", d, |node, d| choice(node, &CHALLENGES, d));
    let ca = table.optional("ca", d, spanned(path));
    let external_account = table
        .entry("externalAccount")
        .map(|entry| external_account(&entry.value, d));
    table.finish(d);
    agreed?;
    Some(Acme {
        directory: directory?,
        contact: contact.unwrap_or_default(),
        folder: folder?,
        challenge: challenge.unwrap_or(AcmeChallenge::TlsAlpn01),
        ca,
        external_account: match external_account {
            // One that is at fault is not the same as none.
            Some(read) => Some(read?),
            None => None,
        },
    })
}

const AGREE: &str = "read the CA's terms of service, and write `termsOfServiceAgreed: true` if you agree: no CA issues certificates otherwise, and the gateway cannot agree for you";

fn agreed(node: &Node, d: &mut Diagnostics) -> Option<()> {
    if boolean(node, d)? {
        return Some(());
    }
    d.error(&node.span, "the CA's terms of service are not agreed to")
        .help(AGREE);
    None
}

/// What every CA has to take (RFC 8555 section 7.3): one address, without the fields of a letter.
fn contact(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let text = token(node, "an address such as `mailto:ops@contoso.com`", d)?;
    let address = text.strip_prefix("mailto:").unwrap_or_default();
    let is_one = address
        .split_once('@')
        .is_some_and(|(who, host)| !who.is_empty() && !host.is_empty() && !host.contains('@'));
    if !is_one || address.contains([',', '?']) {
        d.error(&node.span, "this is not one address of a mailbox")
            .help("write `mailto:` and one address: `mailto:ops@contoso.com`");
        return None;
    }
    Some(text)
}

fn external_account(node: &Node, d: &mut Diagnostics) -> Option<AcmeExternalAccount> {
    let mut table = Table::of(node, "`{ keyId: .., hmacKey: .. }`", d)?;
    let key_id = table.required(
        "keyId",
        "write the key's ID as the CA shows it",
        d,
        |n, d| token(n, "the ID of a key", d),
    );
    let hmac_key = table.required(
        "hmacKey",
        "say where it is read: `hmacKey: { keyVault: .. }`, `{ file: .. }` or `{ env: .. }`",
        d,
        spanned(secret_source),
    );
    table.finish(d);
    Some(AcmeExternalAccount {
        key_id: key_id?,
        hmac_key: hmac_key?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::{GatewayDocument, parse_gateway};

    const LEAST: &str =
        "directory: 'https://ca.example/directory', termsOfServiceAgreed: true, folder: acme";

    fn gateway(acme: &str) -> (Option<GatewayDocument>, Diagnostics) {
        let text = format!(
            "listen: {{ address: 1.2.3.4:1, tls: platform }}\npolicies: a\nacme: {{ {acme} }}\n"
        );
        let mut diagnostics = Diagnostics::new();
        let document = parse_gateway(Path::new("/etc/gateway.yaml"), &text, &mut diagnostics);
        (document, diagnostics)
    }

    fn sound(acme: &str) -> Acme {
        let (document, diagnostics) = gateway(acme);
        assert_eq!(diagnostics.render(), "", "{acme}");
        document.expect("a document").acme.expect("acme")
    }

    #[test]
    fn a_ca_and_a_folder_are_enough() {
        let Acme {
            directory,
            contact,
            folder,
            challenge,
            ca,
            external_account,
        } = sound(LEAST);
        assert_eq!(directory.value, "https://ca.example/directory");
        assert_eq!(folder.value, Path::new("/etc/acme"));
        assert_eq!(challenge, AcmeChallenge::TlsAlpn01);
        assert_eq!((contact.len(), ca, external_account), (0, None, None));
    }

    #[test]
    fn everything_can_be_said() {
        let acme = sound(&format!(
            "{LEAST}, contact: ['mailto:ops@contoso.com'], challenge: http-01, ca: ca.pem, externalAccount: {{ keyId: kid-1, hmacKey: {{ env: EAB }} }}"
        ));
        assert_eq!(acme.contact, ["mailto:ops@contoso.com"]);
        assert_eq!(acme.challenge, AcmeChallenge::Http01);
        assert_eq!(acme.ca.expect("a CA").value, Path::new("/etc/ca.pem"));
        let external = acme.external_account.expect("an account");
        assert_eq!(external.key_id, "kid-1");
        let env = SecretSource::Env("EAB".to_owned());
        assert_eq!(external.hmac_key.value, env);
        let here = LEAST.replace("https://ca.example", "http://localhost:14000");
        assert_eq!(sound(&here).directory.value.port_u16(), Some(14_000));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let without = |part: &str| LEAST.replace(part, "");
        let with = |more: &str| format!("{LEAST}, {more}");
        for (written, message) in [
            (
                without("termsOfServiceAgreed: true,"),
                "the key `termsOfServiceAgreed` is missing here",
            ),
            (
                LEAST.replace("Agreed: true", "Agreed: false"),
                "the CA's terms of service are not agreed to",
            ),
            (
                LEAST.replace("Agreed: true", "Agreed: yes"),
                "this is neither `true` nor `false`",
            ),
            (
                LEAST.replace("https:", "http:"),
                "plain `http` is for this machine alone",
            ),
            (
                without(", folder: acme"),
                "the key `folder` is missing here",
            ),
            (
                without("directory: 'https://ca.example/directory',"),
                "the key `directory` is missing here",
            ),
            (
                with("challenge: dns-01"),
                "this is not one of `tls-alpn-01`, `http-01`",
            ),
            (with("contact: []"), "this list is empty"),
            (
                with("contact: [ops@contoso.com]"),
                "this is not one address of a mailbox",
            ),
            (
                with("contact: ['mailto:a@b.example,c@d.example']"),
                "this is not one address of a mailbox",
            ),
            (
                with("externalAccount: { keyId: a }"),
                "the key `hmacKey` is missing here",
            ),
            (
                with("externalAccount: { keyId: a, hmacKey: Pl4nted }"),
                "a secret must not stand in this file",
            ),
            (with("folders: a"), "unknown key `folders`"),
        ] {
            let (document, diagnostics) = gateway(&written);
            let rendered = diagnostics.render();
            let first = rendered.lines().next().unwrap_or_default();
            assert_eq!(first, format!("error: {message}"), "{written}");
            assert_eq!(diagnostics.errors(), 1, "{rendered}");
            assert!(!rendered.contains("Pl4nted"), "{rendered}");
            // Whoever looks at errors does not read the document; what is at fault is not in it either way.
            let acme = document.and_then(|document| document.acme);
            let is_whole = message.starts_with("unknown")
                || written.contains("challenge: dns")
                || written.contains("contact");
            assert!(acme.is_none() || is_whole, "{written}");
        }
    }
}
