//! Reloads: the files are looked at every second; when they have changed and stand still again, they
//! are compiled whole, off the hot path, and swapped in. What is faulty changes nothing and is told
//! loudly. Looking is simple and misses nothing: editors that rename, ConfigMaps that swap a symbolic
//! link, and file systems without notifications all look alike to it.

mod look;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot, watch};

use self::look::Look;
use crate::files::{self, Diagnostics, GatewayDocument, PolicyDocument};
use crate::snapshot::{Candidate, Lasting, Origin, Snapshot};
use crate::telemetry::{Level, event};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many looks after a refusal the same files are tried again: what kept them from being read may have passed, and
/// shows in no file. Twice as many each time, up to the latter.
const FIRST_TRY: u32 = 5;
const LAST_TRY: u32 = 320;

/// The documents as they were read, and the files that they came from.
pub struct Documents {
    /// gateway.yaml.
    pub gateway: GatewayDocument,
    /// The policies.
    pub policies: Arc<PolicyDocument>,
    /// The candidate, if there is one, and what is wrong with it.
    pub candidate: Option<(Option<PolicyDocument>, Diagnostics)>,
    /// Whether gateway.yaml by itself is without fault, whatever the policies are.
    pub gateway_is_sound: bool,
    /// What the files looked like just before they were read.
    look: Look,
}

impl Documents {
    /// Reads gateway.yaml and the policies that it names. `None` when the diagnostics hold an error.
    pub fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Self> {
        Self::read_looking(path, &mut Look::default(), diagnostics)
    }

    /// The same. `look` is what the files looked like, those that are missing or at fault too.
    fn read_looking(path: &Path, look: &mut Look, diagnostics: &mut Diagnostics) -> Option<Self> {
        // Each file is looked at before it is read: what is written from then on looks otherwise.
        look.at_file(path);
        let gateway = files::load_gateway(path, diagnostics)?;
        look.at_gateway(&gateway);
        let gateway_is_sound = !diagnostics.has_errors();
        let policies = files::load_policies(&gateway.policies.value, diagnostics)?;
        look.at_secrets(&policies);
        let candidate = gateway.candidate.as_ref().map(|candidate| {
            let mut faults = Diagnostics::new();
            let read = files::load_policies(&candidate.value, &mut faults);
            (read, faults)
        });
        Some(Self {
            gateway,
            policies: Arc::new(policies),
            candidate,
            gateway_is_sound,
            look: look.clone(),
        })
    }

    /// Compiles them into a snapshot. `None` when the diagnostics hold an error. A candidate at fault is
    /// left out, and the snapshot says why: it only watches, and keeps nothing from taking effect.
    pub fn compile(&self, lasting: &Lasting, diagnostics: &mut Diagnostics) -> Option<Snapshot> {
        let snapshot = lasting.compile(&self.gateway, &self.policies, diagnostics)?;
        let Some((document, faults)) = &self.candidate else {
            return Some(snapshot);
        };
        let mut faults = faults.clone();
        let document = document.as_ref();
        let compiled = document.and_then(|document| {
            let rules = lasting.compile_candidate(&self.gateway, document, &mut faults)?;
            Some((rules, Origin::of(document)))
        });
        let compiled = compiled.filter(|_| !faults.has_errors());
        Some(snapshot.with_candidate(compiled.ok_or(faults)))
    }
}

/// How the last reload went.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    /// Reloads that took effect.
    pub taken: u64,
    /// Reloads that were refused.
    pub refused: u64,
    /// Why the last one was refused, as text for people; `None` when the last one took effect.
    pub fault: Option<String>,
    /// The last one that was refused, whatever came after it.
    pub last_refused: Option<Refused>,
}

/// A reload that was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When, since the Unix epoch.
    pub at: Duration,
    /// What is wrong with the files: [`Diagnostics::to_json`].
    pub diagnostics: serde_json::Value,
}

/// What a reload puts into force beside the snapshot, even if the policies are at fault: the
/// certificates.
pub type Apply = Box<dyn Fn(&Documents, &mut Diagnostics) + Send + Sync>;

/// Watches the files and swaps the snapshot.
pub struct Reloader {
    path: PathBuf,
    lasting: Arc<Lasting>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    apply: Apply,
    asked: Notify,
    reloads: watch::Sender<Reloads>,
}

impl Reloader {
    /// A reloader of the gateway.yaml at `path`.
    pub fn new(
        path: &Path,
        lasting: Arc<Lasting>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        apply: Apply,
    ) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            lasting,
            snapshot,
            apply,
            asked: Notify::new(),
            reloads: watch::Sender::default(),
        })
    }

    /// Asks for a reload now, whether the files look changed or not (SIGHUP).
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// How reloads have gone.
    pub fn reloads(&self) -> watch::Receiver<Reloads> {
        self.reloads.subscribe()
    }

    /// Watches for ever, from the state that `documents` were read in.
    pub async fn watch(self: Arc<Self>, documents: Documents) {
        // Nothing else of them is kept.
        let mut taken = { documents }.look;
        let mut before = taken.again();
        let mut refused: Option<Refusal> = None;
        loop {
            let asked = tokio::select! {
                () = self.lasting.clock.sleep(LOOK_EVERY) => false,
                () = self.asked.notified() => true,
            };
            let look = taken.again();
            // Files that still change are in somebody's hands: they are taken once, and whole.
            let settled = look == before;
            before = look;
            let is_changed = settled && before != taken;
            let is_due = refused.as_mut().is_some_and(Refusal::is_due);
            if asked || is_changed || is_due {
                let again = is_due && !asked && !is_changed;
                let (look, is_taken) = self.reload(again).await;
                taken = match look {
                    Some(look) if is_taken => look,
                    Some(look) => look.and(&taken),
                    None => before.clone(),
                };
                refused = match (is_taken, refused) {
                    (true, _) => None,
                    (false, Some(refused)) if again => Some(refused.later()),
                    (false, _) => Some(Refusal::default()),
                };
                // Files that were written while they were read look otherwise than what was taken, and
                // are taken at the next look that finds them still.
                before = taken.again();
            }
        }
    }

    /// Reads the files and takes them, or says why not; not once more, where it is tried again for the same reason.
    /// What they looked like either way, so that it is the files named now that are watched for a repair, if anybody
    /// knows; and whether they were taken.
    async fn reload(self: &Arc<Self>, again: bool) -> (Option<Look>, bool) {
        let reloader = Arc::clone(self);
        let compiled = giving_way("reload", move || {
            let mut look = Look::default();
            let compiled = reloader.compile(&mut look);
            (look, compiled)
        });
        let compiled = compiled.await;
        let now = self.lasting.clock.now().unix;
        match compiled {
            Some((look, Ok(snapshot))) => {
                let (level, detail) = match &snapshot.candidate {
                    Candidate::None | Candidate::Watching { .. } => {
                        (Level::Info, "the changed files are in force".to_owned())
                    }
                    Candidate::Faulty(fault) => (
                        Level::Error,
                        format!(
                            "the changed files are in force, and the candidate is at fault\n{}",
                            fault.render()
                        ),
                    ),
                };
                self.snapshot.store(Arc::new(snapshot));
                event(now, level, "reloaded", &detail);
                self.reloads.send_modify(|reloads| {
                    reloads.taken += 1;
                    reloads.fault = None;
                });
                (Some(look), true)
            }
            Some((look, Err(diagnostics))) => {
                self.refuse(now, again, diagnostics.render(), || diagnostics.to_json());
                (Some(look), false)
            }
            None => {
                let why = "the reload failed unexpectedly";
                let told = || serde_json::json!([{ "severity": "error", "message": why }]);
                self.refuse(now, again, why.to_owned(), told);
                (None, false)
            }
        }
    }

    fn refuse(
        &self,
        now: Duration,
        again: bool,
        fault: String,
        diagnostics: impl FnOnce() -> serde_json::Value,
    ) {
        if again && self.reloads.borrow().fault.as_ref() == Some(&fault) {
            return;
        }
        event(
            now,
            Level::Error,
            "reload-refused",
            &format!(
                "what was in force stays in force, but that certificates and lists which are sound are taken up\n{fault}"
            ),
        );
        self.reloads.send_modify(|reloads| {
            reloads.refused += 1;
            reloads.fault = Some(fault);
            reloads.last_refused = Some(Refused {
                at: now,
                diagnostics: diagnostics(),
            });
        });
    }

    fn compile(&self, look: &mut Look) -> Result<Snapshot, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let documents = Documents::read_looking(&self.path, look, &mut diagnostics);
        // A fault in a policy must not keep a certificate from being renewed before it expires.
        if let Some(documents) = documents.as_ref().filter(|read| read.gateway_is_sound) {
            (self.apply)(documents, &mut diagnostics);
        }
        let compiled =
            documents.and_then(|documents| documents.compile(&self.lasting, &mut diagnostics));
        let compiled = compiled.filter(|_| !diagnostics.has_errors());
        compiled.ok_or(diagnostics)
    }
}

/// When files that were refused are tried again, in looks.
struct Refusal {
    left: u32,
    wait: u32,
}

impl Default for Refusal {
    fn default() -> Self {
        Self {
            left: FIRST_TRY,
            wait: FIRST_TRY,
        }
    }
}

impl Refusal {
    /// Counts a look. Whether it is time.
    fn is_due(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// They were refused again.
    fn later(self) -> Self {
        let wait = LAST_TRY.min(2 * self.wait);
        Self { left: wait, wait }
    }
}

/// How much a reload gives way to requests: about a tenth of a core that is fully used is left to it.
const NICENESS: i32 = 10;

/// Runs something long on a thread of its own that gives way to requests. `None` if it panicked or the
/// thread could not be had.
pub(crate) async fn giving_way<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(move || {
        // On Linux niceness is a thread's own. Where it cannot be had, the work is merely less polite.
        let _ = rustix::process::nice(NICENESS);
        // Nobody waits any more when the gateway ends.
        let _ = done.send(work());
    });
    spawned.ok()?;
    result.await.ok()
}

#[cfg(test)]
mod tests;
