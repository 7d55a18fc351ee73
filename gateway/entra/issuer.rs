//! The keys of one issuer, kept fresh in the background. Requests read what is there; an unknown key
//! ID may ask for one refresh in a set time, which all who need it await together.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, watch};

use super::disk::KeyFolder;
use super::keys::KeySet;
use super::source::{FetchFailure, Fetched, KeySource};
use super::version::Version;
use crate::clock::{Clock, Now, within};
use crate::ids::{TenantId, jitter};

/// How often keys are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Between two fetches that succeed; a tenth more or less by chance.
    pub refresh_every: Duration,
    /// Between two fetches that unknown key IDs ask for.
    pub unknown_key_interval: Duration,
    /// The longest that a request waits for keys.
    pub key_wait: Duration,
}

/// What one fetch brought, ready for use.
pub(super) struct Loaded {
    pub(super) issuer: String,
    pub(super) keys: KeySet,
    fetched: Duration,
}

/// The keys of one issuer: one tenant in one version.
pub struct IssuerKeys {
    tenant: TenantId,
    version: Version,
    rhythm: ArcSwap<Rhythm>,
    loaded: ArcSwapOption<Loaded>,
    demand: Mutex<Demand>,
    wake: Notify,
    progress: watch::Sender<Progress>,
}

/// Fetches that have ended, and how the last of them did.
#[derive(Clone, Debug, Default)]
struct Progress {
    ended: u64,
    failed: u64,
    failure: Option<FetchFailure>,
}

#[derive(Debug, Default)]
struct Demand {
    /// A fetch is under way, or asked for.
    fetching: bool,
    last: Option<Now>,
}

/// How a request's wish for fresher keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refreshed {
    /// The keys are as fresh as they may be: what is not among them is unknown.
    Fresh,
    /// The endpoint did not answer, or not in time: what is not among the keys may yet be good.
    Failed,
}

/// For operators: how an issuer's keys stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// The tenant.
    pub tenant: TenantId,
    /// v1 or v2.
    pub version: Version,
    /// The key IDs in use.
    pub key_ids: Vec<String>,
    /// When the keys in use were fetched, since the Unix epoch.
    pub fetched: Option<Duration>,
    /// Why the last fetch failed, if it did.
    pub failure: Option<String>,
    /// Whether a fetch has ended, well or not.
    pub tried: bool,
    /// Fetches since the start whose keys were taken.
    pub taken: u64,
    /// Fetches since the start that failed.
    pub failed: u64,
}

impl IssuerKeys {
    /// Begins to keep the keys of one issuer. The loop ends when the last holder lets go.
    pub(super) fn start(
        tenant: TenantId,
        version: Version,
        rhythm: Rhythm,
        upkeep: Upkeep,
        control: &tokio::runtime::Handle,
    ) -> Arc<Self> {
        let keys = Arc::new(Self {
            tenant,
            version,
            rhythm: ArcSwap::from_pointee(rhythm),
            loaded: ArcSwapOption::empty(),
            demand: Mutex::new(Demand {
                fetching: true,
                last: None,
            }),
            wake: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
        });
        keys.restore(&upkeep);
        control.spawn(upkeep.run(Arc::downgrade(&keys)));
        keys
    }

    /// The keys in use, if any were ever had.
    pub(super) fn loaded(&self) -> Option<Arc<Loaded>> {
        self.loaded.load_full()
    }

    /// Goes on in another rhythm. The keys stay: cached tokens must be withdrawn with them still.
    pub(super) fn set_rhythm(&self, rhythm: Rhythm) {
        self.rhythm.store(Arc::new(rhythm));
    }

    /// Waits, bounded, for the first fetch, if it has not ended yet.
    pub async fn first(&self) {
        let mut progress = self.progress.subscribe();
        let ended = progress.wait_for(|progress| progress.ended > 0);
        // Whether it ended or the wait did, the caller looks at what is loaded.
        let _ = within(self.rhythm.load().key_wait, ended).await;
    }

    /// Asks for fresher keys on behalf of an unknown key ID, and awaits them, bounded. However many
    /// ask, one fetch is under way and no more than one begins in `unknown_key_interval`.
    pub(super) async fn refresh(&self, now: &Now) -> Refreshed {
        let mut progress = self.progress.subscribe();
        let before = progress.borrow_and_update().clone();
        if !self.ask(now) {
            return match before.failure {
                None => Refreshed::Fresh,
                Some(_) => Refreshed::Failed,
            };
        }
        let ended = progress.wait_for(|progress| progress.ended > before.ended);
        match within(self.rhythm.load().key_wait, ended).await {
            Some(Ok(progress)) if progress.failure.is_none() => Refreshed::Fresh,
            _ => Refreshed::Failed,
        }
    }

    /// Whether a fetch is under way now, on this wish or an earlier one.
    fn ask(&self, now: &Now) -> bool {
        let mut demand = self.demand();
        if demand.fetching {
            return true;
        }
        let interval = self.rhythm.load().unknown_key_interval;
        let too_soon = demand
            .last
            .is_some_and(|last| now.instant.saturating_duration_since(last.instant) < interval);
        if too_soon {
            return false;
        }
        demand.last = Some(*now);
        demand.fetching = true;
        drop(demand);
        self.wake.notify_one();
        true
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the keys stand, for readiness and the admin address.
    pub fn status(&self) -> KeyStatus {
        let loaded = self.loaded();
        let progress = self.progress.borrow();
        let ids = loaded.iter().flat_map(|loaded| loaded.keys.ids());
        KeyStatus {
            tenant: self.tenant,
            version: self.version,
            key_ids: ids.map(str::to_owned).collect(),
            fetched: loaded.as_ref().map(|loaded| loaded.fetched),
            failure: progress.failure.as_ref().map(ToString::to_string),
            tried: progress.ended > 0,
            taken: progress.ended.saturating_sub(progress.failed),
            failed: progress.failed,
        }
    }

    fn restore(&self, upkeep: &Upkeep) {
        let Some(folder) = &upkeep.folder else { return };
        let kept = folder.read(self.tenant, self.version, &upkeep.clock.now());
        if let Some((fetched, at)) = kept {
            // What was kept was checked when it was fetched, and is checked again: a file may rot.
            let _ = self.take(&fetched, at);
        }
    }

    /// Puts fetched keys into use. A document without a usable key changes nothing.
    fn take(&self, fetched: &Fetched, at: Duration) -> Result<(), FetchFailure> {
        let keys = KeySet::parse(&fetched.keys)
            .map_err(|_| FetchFailure("signing keys: no usable key in the document".to_owned()))?;
        let keys = match self.loaded() {
            Some(old) => keys.succeed(&old.keys),
            None => keys,
        };
        self.loaded.store(Some(Arc::new(Loaded {
            issuer: fetched.issuer.clone(),
            keys,
            fetched: at,
        })));
        Ok(())
    }

    fn ended(&self, outcome: Result<(), FetchFailure>) {
        self.demand().fetching = false;
        self.progress.send_modify(|progress| {
            progress.ended += 1;
            progress.failed += u64::from(outcome.is_err());
            progress.failure = outcome.err();
        });
    }
}

impl Drop for IssuerKeys {
    /// Nobody looks after these keys any more, so nothing that they signed may pass by memory alone.
    fn drop(&mut self) {
        if let Some(loaded) = self.loaded() {
            loaded.keys.withdraw();
        }
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKeys")
            .field("tenant", &self.tenant)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What the background needs to keep an issuer's keys.
#[derive(Clone)]
pub(super) struct Upkeep {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) source: Arc<dyn KeySource>,
    pub(super) folder: Option<Arc<KeyFolder>>,
}

impl Upkeep {
    /// Fetches at once, then for ever: after `refresh_every` when all is well, sooner while it is not,
    /// and when a request asks for it.
    async fn run(self, keys: Weak<IssuerKeys>) {
        let mut failures = 0;
        loop {
            let Some(issuer) = keys.upgrade() else { return };
            issuer.demand().fetching = true;
            let outcome = self.fetch(&issuer).await;
            failures = match &outcome {
                Ok(()) => 0,
                Err(_) => failures + 1,
            };
            issuer.ended(outcome);
            let pause = match failures {
                0 => issuer
                    .rhythm
                    .load()
                    .refresh_every
                    .mul_f64(0.9 + jitter() / 5.0),
                _ => back_off(failures).min(issuer.rhythm.load().refresh_every),
            };
            drop(issuer);
            if !self.pause(&keys, pause).await {
                return;
            }
        }
    }

    async fn fetch(&self, issuer: &IssuerKeys) -> Result<(), FetchFailure> {
        let fetched = self.source.fetch(issuer.tenant, issuer.version).await?;
        let at = self.clock.now().unix;
        issuer.take(&fetched, at)?;
        if let Some(folder) = &self.folder {
            folder.write(issuer.tenant, issuer.version, &fetched, at);
        }
        Ok(())
    }

    /// Waits for the time or for a wish. False when nobody holds the keys any more.
    async fn pause(&self, keys: &Weak<IssuerKeys>, pause: Duration) -> bool {
        // The loop must not keep the keys alive for long, so it looks now and then whether anybody does.
        const LOOK: Duration = Duration::from_secs(30);
        let until = self.clock.now().instant + pause;
        loop {
            let rest = until.saturating_duration_since(self.clock.now().instant);
            if rest.is_zero() {
                return true;
            }
            let Some(held) = keys.upgrade() else {
                return false;
            };
            tokio::select! {
                () = self.clock.sleep(rest.min(LOOK)) => {}
                () = held.wake.notified() => return true,
            }
        }
    }
}

/// 1 s, 2 s, 4 s … 60 s, each up to half longer by chance, so that replicas do not ask in step.
fn back_off(failures: u32) -> Duration {
    let exponent = failures.saturating_sub(1).min(6);
    let base = Duration::from_secs(1 << exponent).min(Duration::from_secs(60));
    base.mul_f64(1.0 + jitter() / 2.0)
}
