//! Key Vault: whether each secret can be read, by whom, and is what it is used as.

use super::identities::{Held, Purpose};
use super::{Area, Finding, Surroundings, spoken};
use crate::clock::Now;
use crate::credentials::azure::app_certificate;
use crate::credentials::{SasQuery, Wanted, WantedSecret};

/// Tells of the secrets, once the fetches are over.
pub(super) fn secrets(surroundings: &Surroundings<'_>, held: &[Held]) -> Vec<Finding> {
    let now = surroundings.lasting.clock.now();
    let secrets = held.iter().filter_map(|held| match held.slot.wanted() {
        Wanted::Secret(secret) => Some(told(held, secret, &now)),
        Wanted::Token(_) => None,
    });
    secrets.collect()
}

fn told(held: &Held, wanted: &WantedSecret, now: &Now) -> Finding {
    let name = format!("{} (for {})", wanted.secret, held.users());
    let reader = &wanted.reader;
    if let Some(why) = held.slot.status().fault(now) {
        return Finding::bad(
            Area::KeyVault,
            name,
            format!("not read with {reader}: {why}"),
            readable(wanted),
        );
    }
    if let Some((why, advice)) = unfit(held, now) {
        return Finding::bad(
            Area::KeyVault,
            name,
            format!("read with {reader}, but {why}"),
            advice,
        );
    }
    let found = format!("read with {reader}");
    match &wanted.secret.version {
        Some(_) => Finding::warning(
            Area::KeyVault,
            name,
            format!("{found}; the version is pinned, so that a rotated secret is not taken up"),
            "leave the version out of the secret's URL",
        ),
        None => Finding::good(
            Area::KeyVault,
            name,
            format!("{found}; read again every {}", spoken(wanted.refresh_every)),
        ),
    }
}

fn readable(wanted: &WantedSecret) -> String {
    format!(
        "give {} the role Key Vault Secrets User on {} (or `get` for secrets in its access policy), let this network through the vault's firewall or private endpoint, and see that the secret is there and enabled; if its token failed, see that line first",
        wanted.reader, wanted.secret.vault
    )
}

/// Why it cannot be what it is used as, and what to put there.
fn unfit(held: &Held, now: &Now) -> Option<(String, &'static str)> {
    held.purposes.iter().find_map(|purpose| match purpose {
        Purpose::Field if held.slot.current(now).is_none() => Some((
            "it cannot be the value of a header field".to_owned(),
            "put the bare key there: one line of ASCII, 8 KiB at most",
        )),
        Purpose::Sas => {
            let text = held.slot.text(now)?;
            let why = SasQuery::read(text.expose()).err()?;
            Some((
                why.to_owned(),
                "put the workflow's whole callback URL there, as the portal shows it",
            ))
        }
        Purpose::Certificate => {
            let text = held.slot.text(now)?;
            let why = app_certificate(&text).err()?;
            Some((
                format!("it is no certificate for an app: {why}"),
                "name the secret of a Key Vault certificate with an exportable RSA key: the secret has the certificate's name",
            ))
        }
        Purpose::Field | Purpose::ClientSecret | Purpose::OwnKey => None,
    })
}
