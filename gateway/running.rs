//! A running gateway: the rooms put together, started, watched and drained.

mod listening;
mod observing;
mod ordering;
mod process;
mod sharing;

pub(crate) use listening::explained;
pub(crate) use observing::{export, telling};
pub(crate) use ordering::kept as ordered_before;
pub(crate) use sharing::{settings as store_settings, signed_in_by as store_signed_in_by};

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

use self::listening::{Fronts, Listening};
use self::ordering::Ordering;
use crate::acme::Acme;
use crate::admin::{self, Admin, Observed, Protection, Readiness};
use crate::certificates::{Front, Origins};
use crate::clock::{Clock, SystemClock, pause, within};
use crate::credentials::azure::{self, AzureSource, Platform};
use crate::credentials::{Credentials, Identity, Wanted};
use crate::drain::{Drain, Phase};
use crate::entra::{Authority, Entra, KeyFolder};
use crate::files::{self, Diagnostics, GatewayDocument};
use crate::fingerprint::FingerprintKey;
use crate::limits::LimitStore;
use crate::net::address::Resolver;
use crate::net::client::Client;
use crate::net::dns::{Cached, NameServers};
use crate::net::tls::{self, Roots};
use crate::pipeline::Worker;
use crate::reload::{Apply, Documents, Reloader, Reloads};
use crate::seal::Ring;
use crate::server::{self, Answers, Given, Listener, Porter, Workers};
use crate::snapshot::{Candidate, Lasting, Snapshot};
use crate::telemetry::{
    Agents, Exported, Exporting, Gather, Health, Level, Log, LogLevel, Metrics, Sink, Sources,
    Telling, event,
};
use crate::upstream::{self, Endpoints, Pools, Presenting};

/// What tests and the demo replace.
pub struct Options {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where IMDS is, on loopback; `None` for its own address.
    pub imds: Option<SocketAddr>,
    /// Finds addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Where the request log goes.
    pub log: Box<dyn Write + Send>,
}

impl Options {
    /// The machine's clock, the platform's managed identity, its name servers, standard output.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            imds: None,
            resolver: Arc::new(NameServers::default()),
            log: Box::new(io::stdout()),
        }
    }
}

/// Why a gateway did not start, for operators.
#[derive(Debug)]
pub enum StartError {
    /// The files are at fault.
    Files(Diagnostics),
    /// The machine is: an address that is taken, a folder that cannot be written.
    Machine {
        /// What was tried.
        what: String,
        /// How it failed.
        why: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(diagnostics) => f.write_str(&diagnostics.render()),
            Self::Machine { what, why } => write!(f, "error: {what}: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

fn machine<E: fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> StartError {
    let what = what.into();
    move |error| StartError::Machine {
        what,
        why: error.to_string(),
    }
}

/// A gateway that runs.
pub struct Gateway {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    workers: Workers,
    porters: Vec<Porter>,
    /// Orders certificates until it is dropped.
    _ordering: Option<Ordering>,
    drain: Drain,
    reloader: Arc<Reloader>,
    readiness: Readiness,
    settings: files::Drain,
    clock: Arc<dyn Clock>,
    // Dropped after the workers, so that their last records are written.
    logs: Vec<Log>,
    exporting: Option<Exporting>,
    control: Runtime,
}

impl Gateway {
    /// Starts a gateway by the gateway.yaml at `path`.
    ///
    /// # Errors
    /// When the files are at fault, or the machine is. Nothing runs then.
    pub fn start(path: &Path, options: Options) -> Result<Self, StartError> {
        tls::install_provider();
        let mut diagnostics = Diagnostics::new();
        let started = Documents::read(path, &mut diagnostics);
        let Some(documents) = started else {
            return Err(StartError::Files(diagnostics));
        };
        Start {
            path: path.to_owned(),
            documents,
            options,
        }
        .run(diagnostics)
    }

    /// Where callers connect by the first listener.
    pub fn address(&self) -> SocketAddr {
        // INVARIANT: there is one.
        let first = self.addresses.first().copied();
        first.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// Where callers connect: each listener, in their order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where health is told, if anywhere.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Asks for a reload now.
    pub fn reload(&self) {
        self.reloader.ask();
    }

    /// How reloads have gone.
    pub fn reloads(&self) -> tokio::sync::watch::Receiver<Reloads> {
        self.reloader.reloads()
    }

    /// Whether requests that arrive now could be served.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Runs a future on the control plane.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.control.block_on(future)
    }

    /// Ends: not ready first, then nothing new, then all that is in flight is answered, within bounds.
    /// `quick` leaves out the time in which load balancers notice.
    pub fn drain(self, quick: bool) {
        let Self {
            mut workers,
            porters,
            drain,
            settings,
            clock,
            logs,
            control,
            readiness,
            exporting,
            ..
        } = self;
        let now = || clock.now().unix;
        event(
            now(),
            Level::Info,
            "draining",
            "not ready; requests in flight will be answered",
        );
        drain.enter(Phase::Leaving);
        let all_ended = control.block_on(async {
            if !quick {
                clock.sleep(settings.delay).await;
            }
            drain.enter(Phase::Draining);
            within(settings.timeout, workers.ended()).await.is_some()
        });
        if !all_ended {
            event(
                now(),
                Level::Warning,
                "drain-timeout",
                "requests still in flight are cut off",
            );
        }
        workers.abandon();
        drop(porters);
        if let Some(shared) = readiness.limits.shared() {
            control.block_on(shared.leave());
        }
        drop(logs);
        event(now(), Level::Info, "ended", "");
        if let Some(exporting) = exporting {
            control.block_on(exporting.finish());
        }
        control.shutdown_timeout(Duration::from_secs(1));
    }
}

struct Start {
    path: PathBuf,
    documents: Documents,
    options: Options,
}

impl Start {
    fn run(self, mut diagnostics: Diagnostics) -> Result<Gateway, StartError> {
        let Self {
            path,
            documents,
            mut options,
        } = self;
        let gateway = &documents.gateway;
        // Before there is another thread: it takes them out of the environment.
        let handed = server::handed_over().map_err(machine("taking sockets over"))?;
        let control = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(machine("starting the control plane"))?;
        options.resolver = Arc::new(Cached::new(
            Arc::clone(&options.resolver),
            Arc::clone(&options.clock),
            control.handle().clone(),
        ));
        let lasting = Arc::new(lasting(gateway, &options, &control)?);
        let acme = ordering::open(gateway, &options, &lasting, &mut diagnostics)?;
        let origins = origins(gateway, &lasting, acme.as_ref());
        let fronts = listening::fronts(gateway, origins, &options.clock, &mut diagnostics)?;
        let telling = Arc::new(observing::telling(gateway));
        let export = observing::export(
            gateway,
            &options,
            &lasting.credentials,
            &telling,
            &mut diagnostics,
        )?;
        let protection = gateway.admin.as_ref();
        let protection =
            protection.and_then(|admin| Protection::read(admin, origins, &mut diagnostics));
        let snapshot = documents.compile(&lasting, &mut diagnostics);
        let (Some(snapshot), Some(fronts), false) = (snapshot, fronts, diagnostics.has_errors())
        else {
            return Err(StartError::Files(diagnostics));
        };
        let fronts = Arc::new(fronts);
        if !diagnostics.is_empty() {
            event(
                options.clock.now().unix,
                Level::Warning,
                "policy-warnings",
                &diagnostics.render(),
            );
        }
        if let Candidate::Faulty(fault) = &snapshot.candidate {
            let now = options.clock.now().unix;
            event(now, Level::Error, "candidate-refused", &fault.render());
        }
        let mut told = BTreeSet::new();
        let now = options.clock.now().unix;
        tell_identity_sources(&lasting.credentials, &mut told, now);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        listening::raise_descriptors(gateway, &options);
        let drain = Drain::default();
        let agents = Agents::default();
        let count = gateway.workers.unwrap_or_else(cores);
        let mut listening = Listening::begin(handed, gateway, &fronts, count)?;
        let listeners = std::mem::take(&mut listening.listeners);
        let level = Arc::new(LogLevel::new(telling.request_log));
        let sinks = Sinks {
            telling: Arc::clone(&telling),
            agents: agents.clone(),
            level: Arc::clone(&level),
        };
        let (sinks, workers) = workers(
            count, listeners, &options, &lasting, &snapshot, &drain, &sinks,
        )?;
        let metrics = Arc::new(Metrics::new(sinks.clone(), agents));
        let clock = Arc::clone(&options.clock);
        let health: Arc<Health> = Arc::default();
        let logs = observing::logs(
            gateway,
            &telling,
            &sinks,
            &metrics,
            &clock,
            &health,
            options.log,
        )?;
        let readiness = || Readiness {
            snapshot: Arc::clone(&snapshot),
            drain: drain.clone(),
            limits: Arc::clone(&lasting.limits),
            protection: protection.clone(),
            fronts: Arc::clone(&fronts),
            clock: Arc::clone(&clock),
            telemetry: Arc::clone(&health),
        };
        let settings = gateway.drain;
        let apply = apply(
            gateway.clone(),
            Arc::clone(&fronts),
            protection.clone(),
            acme.clone(),
            Arc::clone(&lasting),
        );
        let reloader = Reloader::new(&path, Arc::clone(&lasting), Arc::clone(&snapshot), apply);
        let exported = Arc::new(Exported::default());
        let given = Arc::new(Given::default());
        let sources = Sources {
            gather: gather(
                Arc::clone(&metrics),
                readiness(),
                reloader.reloads(),
                Arc::clone(&exported),
                sinks.clone(),
                Arc::clone(&lasting.entra),
                Arc::clone(&given),
            ),
            sinks,
            exported,
            clock: Arc::clone(&clock),
            health: Arc::clone(&health),
        };
        let exporting = export.map(|export| Exporting::start(export, &sources, control.handle()));
        let admin = match (&gateway.admin, &protection) {
            (Some(written), Some(protection)) => {
                let reloads = reloader.reloads();
                let observed = Observed {
                    gather: sources.gather,
                    requests: metrics,
                    level,
                };
                let admin = Admin::new(readiness(), observed, reloads, Arc::clone(protection));
                Some(serve_admin(&control, admin, written.address.value)?)
            }
            _ => None,
        };
        let speaks_tls = gateway
            .admin
            .as_ref()
            .is_some_and(|admin| admin.tls.is_some());
        let scheme = if speaks_tls { "https" } else { "http" };
        let ready = readiness();
        let in_force = Arc::clone(&snapshot);
        let public_url = move || in_force.load().sealing.public_url().map(str::to_owned);
        let answers = Answers {
            base: Some(Arc::new(public_url)),
            ready: Some(Arc::new(move || ready.is_ready())),
            challenge: acme.clone().and_then(ordering::told_over_http),
            given,
            ..Answers::default()
        };
        let porters = listening.porters(&answers, &drain)?;
        control.spawn(Arc::clone(&reloader).watch(documents));
        control.spawn(tidy(Arc::clone(&lasting)));
        control.spawn(renew(readiness()));
        let ordering = acme.map(Ordering::start).transpose();
        let ordering = ordering.map_err(machine("starting to order certificates"))?;
        control.spawn(ask_backends(
            Arc::clone(&snapshot),
            Arc::clone(&options.resolver),
            Arc::clone(&clock),
        ));
        let credentials = Arc::clone(&lasting.credentials);
        control.spawn(tell(readiness(), credentials, told, Arc::clone(&clock)));
        let told: Vec<String> = listening
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        event(
            clock.now().unix,
            Level::Info,
            "started",
            &format!("listening on {}", told.join(", ")),
        );
        if let Some(admin) = admin {
            event(
                clock.now().unix,
                Level::Info,
                "admin-started",
                &format!(
                    "administrators are answered at {scheme}://{admin}/, where the console is"
                ),
            );
        }
        Ok(Gateway {
            addresses: listening.addresses,
            admin,
            workers,
            porters,
            _ordering: ordering,
            readiness: readiness(),
            drain,
            reloader,
            settings,
            clock,
            logs,
            exporting,
            control,
        })
    }
}

/// What outlives a snapshot, with all that it fetches on the runtime `control`.
pub(crate) fn lasting(
    gateway: &GatewayDocument,
    options: &Options,
    control: &Runtime,
) -> Result<Lasting, StartError> {
    let roots = roots(gateway.entra.ca.as_ref(), "entra.ca")?;
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(machine("reading entra.ca"))?;
    let client = Client::new(&config, Arc::clone(&options.resolver));
    let folder = match &gateway.state {
        None => None,
        Some(state) => Some(
            KeyFolder::open(&state.folder.value, state.max_key_age).map_err(machine(format!(
                "opening state.folder {}",
                state.folder.value.display()
            )))?,
        ),
    };
    let azure = Arc::new(azure_source(gateway, options, &client)?);
    let clock = &options.clock;
    let handle = control.handle();
    let credentials = Credentials::new(Arc::clone(clock), azure, handle.clone());
    let shared = sharing::start(gateway, &credentials, clock, handle)?;
    Ok(Lasting {
        clock: Arc::clone(clock),
        entra: Entra::new(
            Arc::clone(clock),
            Authority::new(&gateway.entra.authority.value, client),
            folder,
            handle.clone(),
            gateway.entra.cached_tokens,
        ),
        credentials,
        endpoints: Endpoints::default(),
        limits: LimitStore::new(Arc::clone(clock), shared),
        ring: Arc::new(Ring::random().map_err(machine("making a sealing key"))?),
        fingerprint_key: Arc::new(FingerprintKey::random()),
    })
}

fn azure_source(
    gateway: &GatewayDocument,
    options: &Options,
    authority: &Client,
) -> Result<AzureSource, StartError> {
    let platform = Client::of_platform(Arc::clone(&options.resolver));
    let vault = match roots(gateway.key_vault.ca.as_ref(), "keyVault.ca")? {
        Roots::Platform => platform.clone(),
        own => {
            let config = tls::client_config(&own, &[b"http/1.1"]);
            let config = config.map_err(machine("reading keyVault.ca"))?;
            Client::new(&config, Arc::clone(&options.resolver))
        }
    };
    let settings = azure::Settings {
        platform: &platform,
        authority,
        vault: &vault,
        authority_url: gateway.entra.authority.value.to_string(),
        clock: Arc::clone(&options.clock),
    };
    let source = AzureSource::new(&settings);
    match options.imds {
        None => Ok(source),
        Some(imds) => source
            .with_imds_at(&settings, imds)
            .ok_or_else(|| StartError::Machine {
                what: format!("asking for tokens at {imds}"),
                why: "it is not this machine".to_owned(),
            }),
    }
}

/// Says where tokens come from and how that is known, for each kind of identity in use that was not `told`
/// of before.
fn tell_identity_sources(credentials: &Credentials, told: &mut BTreeSet<String>, now: Duration) {
    for slot in credentials.in_use() {
        let Wanted::Token(token) = slot.wanted() else {
            continue;
        };
        let source = match &token.identity {
            Identity::Workload { .. } => "workload identities exchange the service account's token at AZURE_AUTHORITY_HOST, or else `entra.authority`, because a policy or `keyVault` names them".to_owned(),
            Identity::App { .. } => "apps prove themselves at `entra.authority`, because a policy names them".to_owned(),
            _ => Platform::detect().to_string(),
        };
        if told.insert(source.clone()) {
            event(now, Level::Info, "identity-source", &source);
        }
    }
}

/// Whom to believe by a `ca` key of gateway.yaml; `key` is what it is called there.
pub(crate) fn roots(ca: Option<&files::Spanned<PathBuf>>, key: &str) -> Result<Roots, StartError> {
    Ok(match ca {
        None => Roots::Platform,
        Some(ca) => Roots::Pem(
            files::read_ca(&ca.value)
                .map_err(machine(format!("reading {key} {}", ca.value.display())))?,
        ),
    })
}

/// How many workers there are when nobody says.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What workers' telemetry is made of.
struct Sinks {
    telling: Arc<Telling>,
    agents: Agents,
    level: Arc<LogLevel>,
}

impl Sinks {
    fn another(&self) -> Arc<Sink> {
        Arc::new(Sink::new(
            Arc::clone(&self.telling),
            self.agents.clone(),
            Arc::clone(&self.level),
        ))
    }
}

fn workers(
    count: usize,
    listeners: Vec<Listener>,
    options: &Options,
    lasting: &Arc<Lasting>,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    drain: &Drain,
    telemetry: &Sinks,
) -> Result<(Vec<Arc<Sink>>, Workers), StartError> {
    let sinks: Vec<Arc<Sink>> = (0..count).map(|_| telemetry.another()).collect();
    let (lasting, snapshot, resolver) = (
        Arc::clone(lasting),
        Arc::clone(snapshot),
        Arc::clone(&options.resolver),
    );
    let (each, drain) = (sinks.clone(), drain.clone());
    let make = move |index: usize| Worker {
        snapshot: Arc::clone(&snapshot),
        entra: Arc::clone(&lasting.entra),
        clock: Arc::clone(&lasting.clock),
        resolver: Arc::clone(&resolver),
        pools: Pools::new(Arc::clone(&lasting.clock)),
        drain: drain.clone(),
        sink: each
            .get(index)
            .cloned()
            .unwrap_or_else(|| Arc::new(Sink::counting())),
    };
    let workers = Workers::start(count, listeners, make);
    Ok((sinks, workers.map_err(machine("starting the workers"))?))
}

/// All metrics as they stand.
fn gather(
    metrics: Arc<Metrics>,
    readiness: Readiness,
    reloads: watch::Receiver<Reloads>,
    exported: Arc<Exported>,
    sinks: Vec<Arc<Sink>>,
    entra: Arc<Entra>,
    given: Arc<Given>,
) -> Gather {
    Arc::new(move || {
        let mut families = metrics.families();
        families.extend(admin::standing(&readiness, &reloads.borrow()));
        families.extend(exported.families(&sinks));
        families.push(given.family());
        families.push(process::tokens(entra.cached_tokens()));
        families.extend(process::families());
        families
    })
}

fn serve_admin(
    control: &Runtime,
    admin: Arc<Admin>,
    address: SocketAddr,
) -> Result<SocketAddr, StartError> {
    let listening = control.block_on(admin::bind(address));
    let listener = listening.map_err(machine(format!("listening on admin.address {address}")))?;
    let address = listener.local_addr().unwrap_or(address);
    control.spawn(admin.serve(listener));
    Ok(address)
}

/// How secrets of gateway.yaml are read.
fn presenting<'l>(gateway: &'l GatewayDocument, lasting: &'l Lasting) -> Presenting<'l> {
    Presenting {
        credentials: &lasting.credentials,
        key_vault: &gateway.key_vault,
    }
}

/// Where certificates come from.
fn origins<'o>(
    gateway: &'o GatewayDocument,
    lasting: &'o Lasting,
    acme: Option<&'o Arc<Acme>>,
) -> Origins<'o> {
    Origins {
        presenting: presenting(gateway, lasting),
        acme,
    }
}

/// What a reload puts into force beside the snapshot, and what it cannot.
fn apply(
    first: GatewayDocument,
    fronts: Arc<Fronts>,
    protection: Option<Arc<Protection>>,
    acme: Option<Arc<Acme>>,
    lasting: Arc<Lasting>,
) -> Apply {
    Box::new(move |documents, diagnostics| {
        let gateway = &documents.gateway;
        let origins = origins(gateway, &lasting, acme.as_ref());
        if let Some(acme) = &acme {
            acme.want_also(&ordering::wanted(gateway));
        }
        listening::replace(&fronts, &first, gateway, origins, diagnostics);
        if let (Some(protection), Some(admin)) = (&protection, &gateway.admin) {
            protection.replace(admin, origins, diagnostics);
        }
        // What a fault or a restart that is due keeps in use is still wanted.
        let in_use = fronts.iter().filter_map(Front::certificates);
        let of_admin = protection.as_ref().and_then(|one| one.certificates());
        let in_use = in_use.chain(of_admin.as_ref());
        let in_use: Vec<_> = in_use.flat_map(|one| one.ordered()).collect();
        if let Some(acme) = &acme {
            acme.want(&in_use);
        }
        let late = needs_restart(&first, gateway);
        if !late.is_empty() {
            let detail = format!(
                "changed, but in force only after a restart: {}",
                late.join(", ")
            );
            event(
                lasting.clock.now().unix,
                Level::Warning,
                "restart-needed",
                &detail,
            );
        }
    })
}

/// What of a changed configuration a running gateway cannot take up.
fn needs_restart(first: &GatewayDocument, now: &GatewayDocument) -> Vec<&'static str> {
    // Written out in full, so that a new setting must be given its place.
    let GatewayDocument {
        listen,
        workers,
        acme,
        admin,
        policies: _,
        candidate: _,
        entra,
        public_url: _,
        key_vault,
        seal: _,
        state,
        drain,
        telemetry,
        limits,
    } = first;
    let fetching = |entra: &files::Entra| {
        (
            entra.authority.clone(),
            entra.ca.clone(),
            entra.cached_tokens,
        )
    };
    // What else protects the address is taken up.
    let begun = |admin: &Option<files::Admin>| {
        let admin = admin.as_ref();
        admin.map(|admin| (admin.address.value, admin.tls.is_some()))
    };
    let changed = [
        (
            "listen, but for what stands in tls, and mode, ca and crl of clientCertificates",
            listening::settled(listen) != listening::settled(&now.listen),
        ),
        ("workers", *workers != now.workers),
        ("acme", *acme != now.acme),
        ("admin.address or tls", begun(admin) != begun(&now.admin)),
        (
            "entra.authority, ca or cachedTokens",
            fetching(entra) != fetching(&now.entra),
        ),
        ("keyVault.ca", key_vault.ca != now.key_vault.ca),
        ("state", *state != now.state),
        ("drain", *drain != now.drain),
        (
            "limits.store or onStoreFailure",
            limits.store != now.limits.store
                || limits.on_store_failure != now.limits.on_store_failure,
        ),
        (
            "telemetry, but for fingerprintKey",
            settled(telemetry) != settled(&now.telemetry),
        ),
    ];
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(name, _)| name).collect()
}

/// What of telemetry stays as it was at the start.
fn settled(telemetry: &files::Telemetry) -> files::Telemetry {
    files::Telemetry {
        fingerprint_key: None,
        ..telemetry.clone()
    }
}

/// How often memory of quiet callers is freed.
const TIDY_EVERY: Duration = Duration::from_secs(60);

async fn tidy(lasting: Arc<Lasting>) {
    loop {
        pause(TIDY_EVERY).await;
        lasting.limits.tidy();
    }
}

/// How often it is looked at whether Key Vault has brought another certificate.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Puts certificates into use that have come while the gateway runs.
async fn renew(readiness: Readiness) {
    loop {
        pause(RENEW_EVERY).await;
        let now = readiness.clock.now();
        for certificates in readiness.all_certificates() {
            certificates.look(&now);
        }
    }
}

/// How often it is looked at whether a backend is to be asked how it is.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Asks backends whether they are well, where the policy in force says so.
async fn ask_backends(
    snapshot: Arc<ArcSwap<Snapshot>>,
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
) {
    loop {
        let now = clock.now();
        upstream::ask_whether_well(&snapshot.load().backends, &resolver, &now);
        clock.sleep(ASK_EVERY).await;
    }
}

/// How often operators are told what has changed in readiness.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Tells what begins to fail, and what is well again.
async fn tell(
    readiness: Readiness,
    credentials: Arc<Credentials>,
    mut told: BTreeSet<String>,
    clock: Arc<dyn Clock>,
) {
    let mut before = Vec::new();
    loop {
        pause(TELL_EVERY).await;
        tell_identity_sources(&credentials, &mut told, clock.now().unix);
        let mut failing = readiness.checks();
        // The drain is told where it is begun.
        failing.retain(|check| !check.passes && check.name != admin::SERVING);
        let now = clock.now().unix;
        let is_in = |list: &[admin::Check], name: &str| list.iter().any(|check| check.name == name);
        for check in failing.iter().filter(|check| !is_in(&before, &check.name)) {
            let level = match check.lasts {
                true => Level::Error,
                false => Level::Warning,
            };
            event(
                now,
                level,
                "failing",
                &format!("{}: {}", check.name, check.why),
            );
        }
        for check in before.iter().filter(|check| !is_in(&failing, &check.name)) {
            event(now, Level::Info, "recovered", &check.name);
        }
        before = failing;
    }
}
