//! Reloads: the files are looked at every second; when they have changed and stand still again, they
//! are compiled whole, off the hot path, and swapped in. What is faulty changes nothing and is told
//! loudly. Looking is simple and misses nothing: editors that rename, ConfigMaps that swap a symbolic
//! link, and file systems without notifications all look alike to it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::files::{
    self, Credential, Diagnostics, GatewayDocument, ListenTls, PolicyDocument, SecretSource,
};
use crate::snapshot::{Lasting, Snapshot};
use crate::telemetry::{Level, event};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The documents as they were read, and the files that they came from.
pub struct Documents {
    /// gateway.yaml.
    pub gateway: GatewayDocument,
    /// The policies.
    pub policies: PolicyDocument,
    /// Whether gateway.yaml by itself is without fault, whatever the policies are.
    pub gateway_is_sound: bool,
}

impl Documents {
    /// Reads gateway.yaml and the policies that it names. `None` when the diagnostics hold an error.
    pub fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Self> {
        let gateway = files::load_gateway(path, diagnostics)?;
        let gateway_is_sound = !diagnostics.has_errors();
        let policies = files::load_policies(&gateway.policies.value, diagnostics)?;
        Some(Self {
            gateway,
            policies,
            gateway_is_sound,
        })
    }

    /// Every file that has a say: those named in the documents too.
    fn paths(&self, path: &Path) -> Vec<PathBuf> {
        let mut paths = vec![path.to_owned(), self.gateway.policies.value.clone()];
        if let Ok(folder) = fs::read_dir(&self.gateway.policies.value) {
            paths.extend(folder.flatten().map(|entry| entry.path()));
        }
        if let ListenTls::Certificates(pairs) = &self.gateway.listen.tls {
            for pair in pairs {
                paths.extend([pair.cert.value.clone(), pair.key.value.clone()]);
            }
        }
        for backend in &self.policies.backends {
            paths.extend(backend.value.ca.as_ref().map(|ca| ca.value.clone()));
            let source = match &backend.value.credential.value {
                Credential::FunctionKey { value } | Credential::Header { value, .. } => value,
                Credential::None | Credential::ManagedIdentity { .. } => continue,
            };
            if let SecretSource::File(file) = source {
                paths.push(file.clone());
            }
        }
        paths.sort();
        paths
    }
}

/// What the files look like from outside; it changes when any of them does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look(Vec<(PathBuf, Option<Seen>)>);

/// Size, time in seconds and nanoseconds, and place of a file.
type Seen = (u64, i64, i64, u64);

impl Look {
    fn at(paths: Vec<PathBuf>) -> Self {
        let seen = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ino(),
            ))
        };
        Self(
            paths
                .into_iter()
                .map(|path| (seen(&path), path))
                .map(|(seen, path)| (path, seen))
                .collect(),
        )
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
    pub async fn watch(self: Arc<Self>, mut documents: Documents) {
        let mut taken = Look::at(documents.paths(&self.path));
        let mut before = taken.clone();
        loop {
            let asked = tokio::select! {
                () = self.lasting.clock.sleep(LOOK_EVERY) => false,
                () = self.asked.notified() => true,
            };
            let look = Look::at(documents.paths(&self.path));
            // Files that still change are in somebody's hands: they are taken once, and whole.
            let settled = look == before;
            before = look.clone();
            if asked || (settled && look != taken) {
                taken = look;
                if let Some(read) = self.reload().await {
                    documents = read;
                    // Other files may have a say now.
                    taken = Look::at(documents.paths(&self.path));
                    before = taken.clone();
                }
            }
        }
    }

    async fn reload(self: &Arc<Self>) -> Option<Documents> {
        let reloader = Arc::clone(self);
        let compiled = tokio::task::spawn_blocking(move || reloader.compile()).await;
        let compiled =
            compiled.unwrap_or_else(|_| Err("the reload failed unexpectedly".to_owned()));
        let now = self.lasting.clock.now().unix;
        match compiled {
            Ok((documents, snapshot)) => {
                self.snapshot.store(Arc::new(snapshot));
                event(
                    now,
                    Level::Info,
                    "reloaded",
                    "the changed files are in force",
                );
                self.reloads.send_modify(|reloads| {
                    reloads.taken += 1;
                    reloads.fault = None;
                });
                Some(documents)
            }
            Err(fault) => {
                event(
                    now,
                    Level::Error,
                    "reload-refused",
                    &format!("what was in force stays in force\n{fault}"),
                );
                self.reloads.send_modify(|reloads| {
                    reloads.refused += 1;
                    reloads.fault = Some(fault);
                });
                None
            }
        }
    }

    fn compile(&self) -> Result<(Documents, Snapshot), String> {
        let mut diagnostics = Diagnostics::new();
        let documents = Documents::read(&self.path, &mut diagnostics);
        // A fault in a policy must not keep a certificate from being renewed before it expires.
        if let Some(documents) = documents.as_ref().filter(|read| read.gateway_is_sound) {
            (self.apply)(documents, &mut diagnostics);
        }
        let compiled = documents.and_then(|documents| {
            let snapshot =
                self.lasting
                    .compile(&documents.gateway, &documents.policies, &mut diagnostics)?;
            Some((documents, snapshot))
        });
        let compiled = compiled.filter(|_| !diagnostics.has_errors());
        compiled.ok_or_else(|| diagnostics.render())
    }
}
