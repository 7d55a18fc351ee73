//! What `portcullis doctor` finds out where the gateway runs: whether it could serve, and what to do where it
//! could not. It goes the ways that the gateway itself goes, with the same clients, and changes nothing.

mod admin;
mod authority;
mod backends;
mod certificates;
mod finding;
mod identities;
mod listeners;
mod own_keys;
mod probes;
mod store;
mod telemetry;
mod vault;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use self::identities::Held;
use crate::files::{self, Diagnostics, GatewayDocument, LimitStore, PolicyDocument};
use crate::net::address::Resolver;
use crate::net::tls;
use crate::policy;
use crate::running::{self, Options, StartError};
use crate::snapshot::Lasting;

pub use self::finding::{Area, Finding, Outcome};

/// The longest that one check waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that was found.
pub struct Report {
    /// What is wrong with gateway.yaml and the policies.
    pub diagnostics: Diagnostics,
    /// Each check, area by area.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many checks came out so.
    pub fn count(&self, outcome: Outcome) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.outcome == outcome)
            .count()
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let findings: Vec<_> = self.findings.iter().map(Finding::to_json).collect();
        json!({
            "findings": findings,
            "diagnostics": self.diagnostics.to_json(),
        })
    }
}

/// Examines the gateway of the gateway.yaml at `config`. With `probing`, backends are also called as a
/// stranger would call them, past the gateway.
pub fn examine(config: &Path, options: &Options, probing: bool) -> Report {
    tls::install_provider();
    let mut diagnostics = Diagnostics::new();
    let findings = match files::load_gateway(config, &mut diagnostics) {
        Some(gateway) => Examination::new(gateway, &mut diagnostics).run(
            config,
            options,
            probing,
            &mut diagnostics,
        ),
        None => vec![at_fault(config, &diagnostics)],
    };
    Report {
        diagnostics,
        findings,
    }
}

fn at_fault(file: &Path, diagnostics: &Diagnostics) -> Finding {
    let errors = match diagnostics.errors() {
        1 => "1 error".to_owned(),
        errors => format!("{errors} errors"),
    };
    Finding::bad(
        Area::Files,
        file.display().to_string(),
        format!("{errors}; the gateway would not start, or go on with what was in force before"),
        "mend what the diagnostics name",
    )
}

/// What is examined: the documents, as far as they could be understood.
struct Examination {
    gateway: GatewayDocument,
    policies: PolicyDocument,
    candidate: Option<(PolicyDocument, Diagnostics)>,
}

/// What every check that leaves the machine needs.
struct Surroundings<'e> {
    gateway: &'e GatewayDocument,
    policies: &'e PolicyDocument,
    candidate: Option<&'e PolicyDocument>,
    lasting: &'e Lasting,
    resolver: &'e Arc<dyn Resolver>,
}

impl Examination {
    fn new(gateway: GatewayDocument, diagnostics: &mut Diagnostics) -> Self {
        let policies = files::load_policies(&gateway.policies.value, diagnostics);
        let policies = policies.unwrap_or_default();
        policy::compile(&policies, diagnostics);
        gateway.review(diagnostics);
        let candidate = gateway.candidate.as_ref().map(|candidate| {
            let mut faults = Diagnostics::new();
            let read = files::load_policies(&candidate.value, &mut faults).unwrap_or_default();
            policy::compile(&read, &mut faults);
            (read, faults)
        });
        Self {
            gateway,
            policies,
            candidate,
        }
    }

    fn run(
        &self,
        config: &Path,
        options: &Options,
        probing: bool,
        diagnostics: &mut Diagnostics,
    ) -> Vec<Finding> {
        let admin = admin::client_ca(&self.gateway, diagnostics);
        let outside = self.outside(options, probing, diagnostics);
        let mut findings = self.files(config, diagnostics);
        match outside {
            Ok(outside) => findings.extend(outside),
            Err(why) => findings.push(why),
        }
        findings.extend(certificates::of_platform(&self.gateway));
        findings.extend(telemetry::logs(&self.gateway));
        findings.extend(admin);
        // Whatever was found out first, the report goes area by area.
        findings.sort_by_key(|finding| finding.area as u8);
        findings
    }

    fn files(&self, config: &Path, diagnostics: &Diagnostics) -> Vec<Finding> {
        let (routes, backends) = (self.policies.routes.len(), self.policies.backends.len());
        let of_documents = match (diagnostics.has_errors(), diagnostics.is_empty()) {
            (true, _) => at_fault(config, diagnostics),
            (false, true) => Finding::good(
                Area::Files,
                config.display().to_string(),
                format!("sound, with policies of {routes} routes and {backends} backends"),
            ),
            (false, false) => Finding::warning(
                Area::Files,
                config.display().to_string(),
                format!("sound, with {} warnings", diagnostics.warnings()),
                "look at what the diagnostics name",
            ),
        };
        let mut findings = vec![of_documents];
        findings.extend(self.faulty_candidate());
        findings.extend(self.state_folder());
        findings
    }

    fn faulty_candidate(&self) -> Option<Finding> {
        let (_, faults) = self.candidate.as_ref()?;
        let path = &self.gateway.candidate.as_ref()?.value;
        faults.has_errors().then(|| {
            Finding::warning(
                Area::Files,
                path.display().to_string(),
                "the candidate is at fault, so it would not watch",
                format!("`portcullis check {}` says what to mend", path.display()),
            )
        })
    }

    fn state_folder(&self) -> Option<Finding> {
        let state = self.gateway.state.as_ref()?;
        let folder = &state.folder.value;
        let name = format!("state.folder {}", folder.display());
        Some(match writable(folder) {
            Ok(()) => Finding::good(Area::Files, name, "can be written"),
            Err(error) => Finding::bad(
                Area::Files,
                name,
                format!("cannot be written: {error}"),
                "let the user that the gateway runs as write there, and nobody else",
            ),
        })
    }

    /// What leaves the machine, all at once.
    fn outside(
        &self,
        options: &Options,
        probing: bool,
        diagnostics: &mut Diagnostics,
    ) -> Result<Vec<Finding>, Finding> {
        let control = control().map_err(|why| could_not_begin(&why))?;
        // Keys are to be fetched now, and none are to be kept for the gateway; and who joins those that share limits
        // takes a part of them.
        let mut alone = GatewayDocument {
            state: None,
            ..self.gateway.clone()
        };
        alone.limits.store = LimitStore::Local;
        let lasting = running::lasting(&alone, options, &control);
        let lasting = lasting.map_err(|why| could_not_begin(&plain(&why)))?;
        let surroundings = Surroundings {
            gateway: &self.gateway,
            policies: &self.policies,
            candidate: self.candidate.as_ref().map(|(read, _)| read),
            lasting: &lasting,
            resolver: &options.resolver,
        };
        let acme = running::ordered_before(&self.gateway, options, &lasting, diagnostics);
        let acme = acme.map_err(|why| could_not_begin(&plain(&why)))?;
        let wanted = Wanted {
            held: identities::wanted(&surroundings, diagnostics),
            places: backends::places(&surroundings, diagnostics),
            export: running::export(
                &self.gateway,
                options,
                &lasting.credentials,
                &running::telling(&self.gateway),
                diagnostics,
            ),
            bearer: admin::read(&surroundings, diagnostics),
            certificates: certificates::read(&surroundings, acme.as_ref(), diagnostics),
            listeners: listeners::here(&surroundings, diagnostics),
        };
        let findings = control.block_on(surroundings.all(&wanted, probing));
        // What still waits for an answer has been told; nobody waits for it again.
        control.shutdown_background();
        Ok(findings)
    }
}

/// What the documents want from outside. It is being fetched.
struct Wanted<'e> {
    held: Vec<Held>,
    places: Vec<backends::Reached<'e>>,
    export: telemetry::Read,
    bearer: admin::Read,
    certificates: Vec<certificates::Shown<'e>>,
    listeners: Vec<Finding>,
}

impl Surroundings<'_> {
    async fn all(&self, wanted: &Wanted<'_>, probing: bool) -> Vec<Finding> {
        let Wanted {
            held,
            places,
            export,
            bearer,
            certificates,
            listeners,
        } = wanted;
        let probes = async {
            match probing {
                true => probes::probe(self).await,
                false => Vec::new(),
            }
        };
        // What signs in at the store, and what a collector is shown, is there once the tokens are.
        let signing_in = async {
            let tokens = identities::tokens(self, held).await;
            let (store, sent) = tokio::join!(store::limits(self), telemetry::sent(self, export));
            (tokens, store, sent)
        };
        let ((tokens, store, sent), keys, clock, ways, address, ordering, probes) = tokio::join!(
            signing_in,
            authority::signing_keys(self),
            authority::clock(self),
            backends::reach(self, places),
            admin::address(self),
            listeners::ordering(self),
            probes,
        );
        // What stands in Key Vault is there once the tokens are.
        [
            vec![identities::platform(held)],
            tokens,
            vault::secrets(self, held),
            keys,
            clock,
            listeners.clone(),
            ordering,
            certificates::shown(self, certificates),
            certificates::of_apps(self, held),
            ways,
            own_keys::sealing(self, held),
            own_keys::fingerprints(self, held),
            store.into_iter().collect(),
            sent,
            address.into_iter().collect(),
            admin::bearer(self, bearer).into_iter().collect(),
            probes,
        ]
        .concat()
    }
}

/// Whether a folder can be written, or made. Leaves nothing behind: what the doctor made might be in the way of
/// the gateway's own user.
fn writable(folder: &Path) -> io::Result<()> {
    let keys = folder.join("keys");
    let there = keys.ancestors().find(|folder| folder.exists());
    takes_files(there.unwrap_or(folder))
}

/// Whether a file can be made in a folder.
fn takes_files(folder: &Path) -> io::Result<()> {
    let probe = folder.join(".portcullis-doctor");
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

fn control() -> Result<Runtime, String> {
    let mut builder = runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(1).enable_all().build();
    built.map_err(|error| error.to_string())
}

fn plain(error: &StartError) -> String {
    match error {
        StartError::Files(_) => "the files are at fault".to_owned(),
        StartError::Machine { what, why } => format!("{what}: {why}"),
    }
}

fn could_not_begin(why: &str) -> Finding {
    Finding::bad(
        Area::Files,
        "what the gateway starts with",
        format!("{why}; nothing that leaves this machine was checked"),
        "mend this first, and run the doctor again",
    )
}

/// So long, as people say it.
fn spoken(time: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match time.as_secs() {
        seconds if seconds >= 2 * DAY => format!("{} days", seconds / DAY),
        seconds if seconds >= HOUR && seconds % HOUR < MINUTE => format!("{} h", seconds / HOUR),
        seconds if seconds >= HOUR => {
            format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE)
        }
        seconds if seconds >= MINUTE => format!("{} min", seconds / MINUTE),
        seconds => format!("{seconds} s"),
    }
}
