//! Keys of the gateway's own: what sealed URLs and fingerprints are made with.

use super::identities::Held;
use super::{Area, Finding, Surroundings};
use crate::credentials::Wanted;
use crate::credentials::fixed::SecretFrom;
use crate::files::{SecretSource, Spanned};
use crate::fingerprint::{FingerprintKey, LEAST_KEY_LENGTH};
use crate::seal::{Ring, RingFault};
use crate::secret::Secret;
use crate::upstream::wanted_secret;

const LONG_ENOUGH: &str = "put 32 random bytes there in base64: `openssl rand -base64 32`";

/// `seal.keys`.
pub(super) fn sealing(surroundings: &Surroundings<'_>, held: &[Held]) -> Vec<Finding> {
    const NAME: &str = "seal.keys";
    let sources = &surroundings.gateway.seal.keys;
    if sources.is_empty() {
        return vec![Finding::warning(
            Area::OwnKeys,
            NAME,
            "there are none: sealed URLs end with the process that made them, and another replica cannot open them",
            format!(
                "name a file or a secret of Key Vault in `seal.keys`, the same for all replicas; {LONG_ENOUGH}"
            ),
        )];
    }
    let texts: Result<Vec<_>, String> = sources
        .iter()
        .map(|source| text(surroundings, held, source))
        .collect();
    let texts = match texts {
        Ok(texts) => texts,
        Err(why) => return vec![unreadable(NAME, &why)],
    };
    vec![match Ring::of_texts(&texts) {
        Ok(ring) => Finding::good(
            Area::OwnKeys,
            NAME,
            format!("{} can be read; the first seals", counted(ring.len())),
        ),
        Err(fault) => Finding::bad(Area::OwnKeys, NAME, faulty(fault), LONG_ENOUGH),
    }]
}

fn counted(keys: usize) -> String {
    match keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}

fn faulty(fault: RingFault) -> String {
    match fault {
        RingFault::NoKey => "there is no key in it".to_owned(),
        RingFault::TooShort(number) => {
            format!("key {number} has fewer than {LEAST_KEY_LENGTH} characters")
        }
        RingFault::Unavailable => "no key could be derived".to_owned(),
    }
}

/// `telemetry.fingerprintKey`.
pub(super) fn fingerprints(surroundings: &Surroundings<'_>, held: &[Held]) -> Vec<Finding> {
    const NAME: &str = "telemetry.fingerprintKey";
    let Some(source) = &surroundings.gateway.telemetry.fingerprint_key else {
        return vec![Finding::warning(
            Area::OwnKeys,
            NAME,
            "there is none: fingerprints cannot be compared across restarts and replicas",
            format!(
                "name a file or a secret of Key Vault in `telemetry.fingerprintKey`; {LONG_ENOUGH}"
            ),
        )];
    };
    let text = match text(surroundings, held, source) {
        Ok(text) => text,
        Err(why) => return vec![unreadable(NAME, &why)],
    };
    vec![match FingerprintKey::new(&text) {
        Ok(_) => Finding::good(Area::OwnKeys, NAME, "can be read, and is long enough"),
        Err(why) => Finding::bad(Area::OwnKeys, NAME, why.to_string(), LONG_ENOUGH),
    }]
}

fn unreadable(name: &str, why: &str) -> Finding {
    Finding::bad(
        Area::OwnKeys,
        name,
        why,
        "set the variable, let the gateway's user read the file, or see the line of Key Vault",
    )
}

/// What a key of gateway.yaml names. The error says where, never what.
fn text(
    surroundings: &Surroundings<'_>,
    held: &[Held],
    source: &Spanned<SecretSource>,
) -> Result<Secret<String>, String> {
    let from = match &source.value {
        SecretSource::Env(name) => SecretFrom::Env(name.clone()),
        SecretSource::File(path) => SecretFrom::File(path.clone()),
        SecretSource::KeyVault(secret) => {
            let key_vault = &surroundings.gateway.key_vault;
            let wanted = Wanted::Secret(wanted_secret(secret, key_vault));
            let now = surroundings.lasting.clock.now();
            let mut known = held.iter();
            let held = known.find(|held| *held.slot.wanted() == wanted);
            let text = held.and_then(|held| held.slot.text(&now));
            return text.ok_or_else(|| format!("{secret} was not read"));
        }
    };
    from.text().map_err(|why| why.to_string())
}
