//! Key Vault: whether each secret can be read, by whom, and is what it is used as.

use super::identities::{Held, Purpose, is_ready};
use super::{Area, Finding, Surroundings, spoken};
use crate::clock::Now;
use crate::credentials::azure::app_certificate;
use crate::credentials::slot::Failure;
use crate::credentials::{SasQuery, Wanted, WantedSecret};
use crate::files::VaultSecret;

/// Tells of the secrets, once the fetches are over.
pub(super) fn secrets(surroundings: &Surroundings<'_>, held: &[Held]) -> Vec<Finding> {
    let now = surroundings.lasting.clock.now();
    let secrets = held.iter().filter_map(|held| match held.slot.wanted() {
        Wanted::Secret(secret) => Some(told(surroundings, held, secret, &now)),
        Wanted::Token(_) => None,
    });
    secrets.collect()
}

fn told(surroundings: &Surroundings<'_>, held: &Held, wanted: &WantedSecret, now: &Now) -> Finding {
    let name = format!("{} (for {})", wanted.secret, held.users());
    let reader = &wanted.reader;
    let status = held.slot.status();
    if let Some(why) = status.fault(now) {
        let advice = status.last_failure.as_ref();
        let advice = advice.map(|failure| readable(surroundings, wanted, failure));
        return Finding::bad(
            Area::KeyVault,
            name,
            format!("not read with {reader}: {why}"),
            advice.unwrap_or_else(|| {
                format!(
                    "{} did not answer in time: run the doctor again",
                    wanted.secret.vault
                )
            }),
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

/// What to change so that it can be read.
fn readable(surroundings: &Surroundings<'_>, wanted: &WantedSecret, failure: &Failure) -> String {
    let VaultSecret { vault, name, .. } = &wanted.secret;
    let reader = &wanted.reader;
    if !is_ready(surroundings, Wanted::Token(wanted.shown())) {
        return format!("{reader} has no token for Key Vault: see that line first");
    }
    // The code is Key Vault's own.
    if failure.text.contains("SecretDisabled") {
        return format!("enable {name} again in {vault}, or name another secret");
    }
    if failure.text.contains("SecretNotFound") {
        let version = wanted.secret.version.as_ref();
        let what = version.map_or_else(
            || "secret".to_owned(),
            |version| format!("version {version} of a secret"),
        );
        return format!(
            "there is no {what} {name} in {vault}: mend the name, or recover it if it was deleted (portal: Secrets, Manage deleted secrets)"
        );
    }
    match failure.is_final {
        true => format!(
            "give {reader} the role Key Vault Secrets User on {vault} (or `get` for secrets in its access policy), and let this network through the vault's firewall"
        ),
        false => format!(
            "see that this network may reach {vault} on port 443 (firewall; with a private endpoint, the zone `privatelink.vaultcore.azure.net`), and run the doctor again; `keyVault.ca` is for a CA of your own"
        ),
    }
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
