//! The account with a CA: made once, kept in the folder with its key, and found again there.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use super::failure::Fault;
use super::folder::Folder;
use super::way::Way;
use crate::clock::Now;
use crate::credentials::Held;
use crate::secret::Secret;

/// The file of the account.
const FILE: &str = "account.json";

/// An account that is there already with the CA's operator, to which the one of ACME is bound (RFC 8555 section 7.3.4).
#[derive(Clone)]
pub struct ExternalAccount {
    /// Its key's ID.
    pub key_id: String,
    /// Its key, in base64, as CAs show it.
    pub hmac_key: Held<String>,
}

impl fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExternalAccount")
    }
}

/// What an account is made of.
pub(super) struct Terms<'s> {
    pub(super) directory: String,
    pub(super) contact: &'s [String],
    pub(super) external_account: Option<&'s ExternalAccount>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The account that is kept. `None` where there is none yet.
pub(super) async fn kept(folder: &Folder, way: &Way) -> Result<Option<Account>, Fault> {
    match read(folder)? {
        Some(kept) => Ok(Some(restored(kept.credentials, way).await?)),
        None => Ok(None),
    }
}

/// The account: as it is kept, or a new one. The lock must be held.
pub(super) async fn open(
    folder: &Folder,
    way: &Way,
    terms: &Terms<'_>,
    now: &Now,
) -> Result<Account, Fault> {
    let Some(kept) = read(folder)? else {
        return create(folder, way, terms, now).await;
    };
    let told = kept.contact == terms.contact;
    let account = restored(kept.credentials, way).await?;
    if !told {
        tell_contact(folder, &account, terms.contact).await;
    }
    Ok(account)
}

/// Puts the account aside that the CA does not know any more.
pub(super) fn forget(folder: &Folder) -> Result<(), Fault> {
    Ok(folder.put_aside(FILE)?)
}

fn read(folder: &Folder) -> Result<Option<Kept>, Fault> {
    let Some(text) = folder.read(FILE)? else {
        return Ok(None);
    };
    // A new account in its place would lose what the CA knows of the old one.
    let kept = serde_json::from_slice(&text).map_err(|_| {
        Fault::Told(format!(
            "acme.folder: {FILE} is not an account; restore it, or remove it to make a new one"
        ))
    })?;
    Ok(Some(kept))
}

async fn restored(credentials: AccountCredentials, way: &Way) -> Result<Account, Fault> {
    let builder = Account::builder_with_http(Box::new(way.clone()));
    Ok(builder.from_credentials(credentials).await?)
}

async fn create(
    folder: &Folder,
    way: &Way,
    terms: &Terms<'_>,
    now: &Now,
) -> Result<Account, Fault> {
    let external = match terms.external_account {
        Some(external) => Some(external.key(now)?),
        None => None,
    };
    let contact: Vec<&str> = terms.contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        // gateway.yaml is not read without it.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(way.clone()));
    let created = builder.create(&new, terms.directory.clone(), external.as_ref());
    let (account, credentials) = created.await?;
    keep(folder, terms.contact, credentials)?;
    Ok(account)
}

/// A contact that the CA does not take must not keep a certificate from being renewed: it is told again with the next
/// order, and nothing else comes of it.
async fn tell_contact(folder: &Folder, account: &Account, contact: &[String]) {
    let written: Vec<&str> = contact.iter().map(String::as_str).collect();
    if account.update_contacts(&written).await.is_ok()
        && let Ok(Some(kept)) = read(folder)
    {
        let _ = keep(folder, contact, kept.credentials);
    }
}

fn keep(folder: &Folder, contact: &[String], credentials: AccountCredentials) -> Result<(), Fault> {
    let kept = Kept {
        contact: contact.to_vec(),
        credentials,
    };
    let text = serde_json::to_vec(&kept).map_err(std::io::Error::other)?;
    Ok(folder.replace(FILE, &text)?)
}

impl ExternalAccount {
    fn key(&self, now: &Now) -> Result<ExternalAccountKey, Fault> {
        let text = self.hmac_key.text(now).ok_or_else(|| {
            Fault::Told("acme.externalAccount.hmacKey has not been read from Key Vault".to_owned())
        })?;
        let bytes = decoded(&text)
            .ok_or_else(|| Fault::Told("acme.externalAccount.hmacKey is not base64".to_owned()))?;
        let id = self.key_id.clone();
        Ok(ExternalAccountKey::new(id, bytes.expose()))
    }
}

/// CAs write the key in the alphabet of URLs without padding; others on the way may have written it anew.
fn decoded(text: &Secret<String>) -> Option<Secret<Vec<u8>>> {
    let text = text.expose().trim();
    let forms = [URL_SAFE_NO_PAD, URL_SAFE, STANDARD_NO_PAD, STANDARD];
    let bytes = forms.iter().find_map(|form| form.decode(text).ok());
    bytes.filter(|bytes| !bytes.is_empty()).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_external_key_is_read_in_any_base64() {
        let bytes = [0xfb_u8, 0xef, 0xff, 0x01];
        for text in ["--__AQ", "--__AQ==", "++//AQ", "++//AQ==", " --__AQ\n"] {
            let read = decoded(&Secret::new(text.to_owned())).expect(text);
            assert_eq!(read.expose(), &bytes, "{text}");
        }
        for text in ["", "!", "not base64"] {
            assert!(decoded(&Secret::new(text.to_owned())).is_none(), "{text}");
        }
    }
}
