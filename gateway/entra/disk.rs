//! Keys on disk, so that a restart during an outage of the authority still serves. Public keys are no
//! secret, but they decide who is let in: the folder must be writable by the gateway alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::source::Fetched;
use super::version::Version;
use crate::clock::Now;
use crate::ids::TenantId;

/// The folder of the last good keys, one file an issuer.
pub struct KeyFolder {
    folder: PathBuf,
    /// Older keys are not used: a key may have been withdrawn while the gateway was away.
    max_age: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    /// Seconds since the Unix epoch.
    fetched_at: u64,
    issuer: String,
    keys: serde_json::Value,
}

impl KeyFolder {
    /// Opens the folder, and makes it if it is missing.
    ///
    /// # Errors
    /// When it cannot be made or written to.
    pub fn open(folder: &Path, max_age: Duration) -> io::Result<Self> {
        let folder = folder.join("keys");
        fs::create_dir_all(&folder)?;
        let probe = folder.join(".writable");
        fs::write(&probe, b"")?;
        fs::remove_file(probe)?;
        Ok(Self { folder, max_age })
    }

    fn path(&self, tenant: TenantId, version: Version) -> PathBuf {
        self.folder
            .join(format!("{tenant}.{}.json", version.name()))
    }

    /// What was kept, and when it was fetched, if it is not too old.
    pub(super) fn read(
        &self,
        tenant: TenantId,
        version: Version,
        now: &Now,
    ) -> Option<(Fetched, Duration)> {
        let text = fs::read(self.path(tenant, version)).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        let at = Duration::from_secs(kept.fetched_at);
        // Keys from the future mean that the clock went back: their age is not known.
        let age = now.unix.checked_sub(at)?;
        let fetched = Fetched {
            issuer: kept.issuer,
            keys: Bytes::from(kept.keys.to_string()),
        };
        (age <= self.max_age).then_some((fetched, at))
    }

    /// Keeps what was fetched. A full disk must not stop keys that are good: what cannot be written
    /// is not kept, and the next fetch tries again.
    pub(super) fn write(
        &self,
        tenant: TenantId,
        version: Version,
        fetched: &Fetched,
        at: Duration,
    ) {
        let Ok(keys) = serde_json::from_slice(&fetched.keys) else {
            return;
        };
        let kept = Kept {
            fetched_at: at.as_secs(),
            issuer: fetched.issuer.clone(),
            keys,
        };
        if let Ok(text) = serde_json::to_vec(&kept) {
            let _ = replace(&self.path(tenant, version), &text);
        }
    }
}

/// Writes beside and renames, so that a crash leaves the old file or the new one, never half of one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn kept_keys_are_read_back_until_they_are_too_old() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = KeyFolder::open(folder.path(), Duration::from_secs(60)).expect("opened");
        let tenant: TenantId = "11111111-1111-1111-1111-111111111111"
            .parse()
            .expect("a GUID");
        let fetched = Fetched {
            issuer: "https://sts.windows.net/x/".to_owned(),
            keys: Bytes::from_static(br#"{"keys":[]}"#),
        };
        let now = SystemClock.now();
        keys.write(tenant, Version::V1, &fetched, now.unix);

        let at = |now: &Now| {
            keys.read(tenant, Version::V1, now)
                .map(|(kept, _)| kept.issuer)
        };
        assert_eq!(
            at(&now.later(Duration::from_secs(59))),
            Some(fetched.issuer)
        );
        assert_eq!(at(&now.later(Duration::from_secs(62))), None);
        assert!(keys.read(tenant, Version::V2, &now).is_none());
    }
}
