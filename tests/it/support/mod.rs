//! The stage of the tests: a real gateway with its real listener over TLS, in the demo's world, and
//! clients that refuse what must never be in an answer.

mod client;
pub mod handshake;
mod raw;
pub mod redis;
mod wire;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use portcullis::clock::{Clock, ManualClock, SystemClock};
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
use portcullis::demo::world::World;
use portcullis::entra::Version;
use portcullis::net::address::{Resolver, SystemResolver};
use portcullis::net::tls;
use portcullis::running::{Gateway, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

pub use client::{Answer, Call};
pub use raw::{RawBackend, Step};
pub use wire::{Piped, STILL, patiently};

/// A gateway on its stage. Things end in the order of the fields.
pub struct Stage {
    pub gateway: Option<Gateway>,
    pub address: SocketAddr,
    pub clock: ManualClock,
    pub world: World,
    pub folder: tempfile::TempDir,
    pub log: LogBuffer,
    pub runtime: Runtime,
}

/// What a test sets up before the gateway starts.
pub struct Scene {
    pub runtime: Runtime,
    pub world: World,
    pub clock: ManualClock,
    /// Lines of gateway.yaml in `listen:`, in `entra:`, and at its end.
    pub listen: String,
    pub entra: String,
    pub more: String,
    tls: Option<String>,
    /// Further lines of `tls:`.
    pub tls_more: String,
    /// Listeners beside the first, as items of a list.
    pub listeners: Vec<String>,
    workers: usize,
    drain: String,
    /// What `admin:` says.
    pub admin: String,
    pub routes: String,
    pub backends: String,
    /// The policy's audiences, as a list's items.
    pub audiences: String,
    /// Further sections of the policy: names, defaults.
    pub names: String,
    candidate: Option<String>,
    pub resolver: Arc<dyn Resolver>,
}

impl Scene {
    /// The demo's world, a clock that stands still at now, and a policy without routes.
    pub fn new() -> Self {
        tls::install_provider();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let clock = ManualClock::at(SystemClock.now());
        let world = runtime
            .block_on(World::start(Arc::new(clock.clone())))
            .expect("a world");
        Self {
            runtime,
            world,
            clock,
            listen: String::new(),
            entra: String::new(),
            more: String::new(),
            tls: Some("{ cert: gateway.crt, key: gateway.key }".to_owned()),
            tls_more: String::new(),
            listeners: Vec::new(),
            workers: 1,
            drain: "{ delay: 0s, timeout: 5s }".to_owned(),
            admin: "{ address: '127.0.0.1:0' }".to_owned(),
            routes: String::new(),
            backends: String::new(),
            audiences: AUDIENCE.to_owned(),
            names: String::new(),
            candidate: None,
            resolver: Arc::new(SystemResolver),
        }
    }

    /// Adds a line to `backends:`.
    pub fn backend(mut self, name: &str, rest: &str) -> Self {
        self.backends += &format!("  {name}: {{ {rest} }}\n");
        self
    }

    /// Adds a certificate to the gateway's own.
    pub fn certificate(mut self, pair: &str) -> Self {
        let own = self.tls.take().expect("not behind a platform");
        self.tls = Some(format!("{own}, {pair}"));
        self
    }

    /// Has the gateway one certificate alone, from elsewhere.
    pub fn only_certificate(mut self, source: &str) -> Self {
        self.tls = Some(source.to_owned());
        self
    }

    /// Puts the gateway behind a platform that ends TLS.
    pub fn platform(mut self) -> Self {
        self.tls = None;
        self
    }

    /// More workers than one.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Another `drain:` than none.
    pub fn drain(mut self, drain: &str) -> Self {
        self.drain = drain.to_owned();
        self
    }

    /// Adds a raw backend under `name`, called without a credential.
    pub fn raw(self, name: &str, raw: &RawBackend) -> Self {
        let url = raw.url();
        self.backend(name, &format!("http: '{url}', credential: none"))
    }

    /// Adds a line to `routes:`.
    pub fn route(mut self, name: &str, rest: &str) -> Self {
        self.routes += &format!("  {name}: {{ {rest} }}\n");
        self
    }

    /// Adds a route that lets the marketing portal of Contoso in.
    pub fn portal_route(self, name: &str, methods: &str, path: &str, backend: &str) -> Self {
        let rest = format!(
            "match: {{ methods: [{methods}], path: '{path}' }}, backend: {backend}, allow: [{{ tenants: [contoso], apps: [marketing-portal] }}]"
        );
        self.route(name, &rest)
    }

    /// Lets what `change` makes of the policy decide beside it.
    pub fn candidate(mut self, change: impl FnOnce(String) -> String) -> Self {
        self.candidate = Some(change(self.policy()));
        self.more += "candidate: candidate.yaml\n";
        self
    }

    /// The Function of the world, called with a managed identity.
    pub fn function(self, name: &str) -> Self {
        let url = self.world.function.url();
        let resource = portcullis::demo::names::FUNCTION_RESOURCE;
        self.backend(
            name,
            &format!("function: '{url}', credential: {{ managedIdentity: {{ resource: '{resource}' }} }}, ca: ca.crt"),
        )
    }

    /// The policy file as text.
    pub fn policy(&self) -> String {
        format!(
            "tenants: {{ contoso: {CONTOSO}, fabrikam: {} }}\napps: {{ marketing-portal: {MARKETING_PORTAL}, nightly-batch: {} }}\naudiences: [{}]\n{}\nbackends:\n{}routes:\n{}",
            portcullis::demo::names::FABRIKAM,
            portcullis::demo::names::NIGHTLY_BATCH,
            self.audiences,
            self.names,
            self.backends,
            self.routes
        )
    }

    /// Writes the files and returns the path of gateway.yaml.
    pub fn write(&self, folder: &std::path::Path) -> PathBuf {
        let write =
            |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
        let certificate = self
            .world
            .ca
            .certificate(&["localhost", "127.0.0.1"])
            .expect("a certificate");
        write("ca.crt", self.world.ca.pem());
        write("gateway.crt", &certificate.cert_pem);
        write("gateway.key", &certificate.key_pem);
        write("policy.yaml", &self.policy());
        if let Some(candidate) = &self.candidate {
            write("candidate.yaml", candidate);
        }
        let authority = self.world.entra.authority();
        let tls = match &self.tls {
            Some(pairs) => format!("{{ certificates: [{pairs}]{} }}", self.tls_more),
            None => "platform".to_owned(),
        };
        let Self {
            listen,
            entra,
            more,
            workers,
            drain,
            admin,
            ..
        } = self;
        let others = self.listeners.iter().map(|other| format!("  - {other}\n"));
        let others: String = others.collect();
        let first = format!("  address: 127.0.0.1:0\n  tls: {tls}\n{listen}");
        let listen = match others.is_empty() {
            true => first,
            false => format!("  -\n    {}\n{others}", first.trim().replace('\n', "\n  ")),
        };
        let gateway = format!(
            "listen:\n{listen}\nworkers: {workers}\nadmin: {admin}\npolicies: policy.yaml\nentra:\n  authority: '{authority}'\n  ca: ca.crt\n{entra}\ndrain: {drain}\n{more}\n"
        );
        write("gateway.yaml", &gateway);
        folder.join("gateway.yaml")
    }

    /// Starts the gateway in this process and waits until it is ready.
    pub fn start(self) -> Stage {
        let stage = self.start_unready();
        stage.until("keys and credentials", |stage| stage.ready());
        stage
    }

    /// Starts the gateway by a gateway.yaml that a test has written itself.
    pub fn start_at(self, config: &std::path::Path) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let stage = self.run(config, folder);
        stage.until("keys and credentials", |stage| stage.ready());
        stage
    }

    /// Starts the gateway in this process, whatever it still waits for.
    pub fn start_unready(self) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let config = self.write(folder.path());
        self.run(&config, folder)
    }

    /// The same, with something done to the files before.
    pub fn start_unready_after(self, before: impl FnOnce(&std::path::Path)) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let config = self.write(folder.path());
        before(folder.path());
        self.run(&config, folder)
    }

    fn run(self, config: &std::path::Path, folder: tempfile::TempDir) -> Stage {
        let log = LogBuffer::default();
        let options = options(&self.world, &self.clock, &log, self.resolver);
        let gateway = match Gateway::start(config, options) {
            Ok(gateway) => gateway,
            Err(error) => panic!("{error}"),
        };
        Stage {
            address: gateway.address(),
            gateway: Some(gateway),
            clock: self.clock,
            world: self.world,
            folder,
            log,
            runtime: self.runtime,
        }
    }
}

/// Says that it is time to stop, at the end of a scope, however that comes: what runs beside a test that fails would
/// run on otherwise, and the test with it.
pub struct Stopping<'s>(pub &'s std::sync::atomic::AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A gateway with one backend, to which the marketing portal may send anything.
pub fn simple() -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw");
    (raw, scene)
}

/// What a gateway on the stage runs by.
fn options(
    world: &World,
    clock: &ManualClock,
    log: &LogBuffer,
    resolver: Arc<dyn Resolver>,
) -> Options {
    Options {
        clock: Arc::new(clock.clone()),
        imds: Some(world.identity.imds()),
        resolver,
        log: Box::new(log.clone()),
    }
}

impl Stage {
    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("not drained yet")
    }

    /// Whether every check passes, those of single tenants and backends too.
    pub fn ready(&self) -> bool {
        self.gateway()
            .readiness()
            .checks()
            .iter()
            .all(|check| check.passes)
    }

    /// Ends the gateway and starts another with the same files, whatever it still waits for.
    pub fn restart(&mut self) {
        self.restart_after(|_| ());
    }

    /// The same, with something done to the files while no gateway runs.
    pub fn restart_after(&mut self, meanwhile: impl FnOnce(&std::path::Path)) {
        self.gateway.take().expect("not drained yet").drain(true);
        meanwhile(self.folder.path());
        let resolver = Arc::new(SystemResolver);
        let options = options(&self.world, &self.clock, &self.log, resolver);
        let config = self.folder.path().join("gateway.yaml");
        let gateway = match Gateway::start(&config, options) {
            Ok(gateway) => gateway,
            Err(error) => panic!("{error}"),
        };
        self.address = gateway.address();
        self.gateway = Some(gateway);
    }

    /// A call of a method on a target.
    pub fn call(&self, method: &str, target: &str) -> Call<'_> {
        Call::new(self, method, target)
    }

    /// A token of the marketing portal of Contoso.
    pub fn portal(&self) -> Token {
        Token::app(
            Version::V2,
            CONTOSO,
            MARKETING_PORTAL,
            AUDIENCE,
            self.world.entra.now(),
        )
        .roles(&["Guests.Invite"])
    }

    /// The same, signed.
    pub fn portal_token(&self) -> String {
        self.world.entra.sign(&self.portal()).expect("signed")
    }

    /// Waits for a condition, and fails when it does not come true for very long.
    pub fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = SystemClock.now().instant;
        while !condition(self) {
            let waited = SystemClock.now().instant.duration_since(begun);
            assert!(waited.as_secs() < 20, "waited in vain for {what}");
            std::thread::yield_now();
        }
    }

    /// Waits until so many reloads have been taken up.
    pub fn until_taken(&self, reloads: u64) {
        self.until("the reload", |stage| {
            stage.gateway().reloads().borrow().taken == reloads
        });
    }

    /// Waits until so many reloads have been refused.
    pub fn until_refused(&self, reloads: u64) {
        self.until("the refusal", |stage| {
            stage.gateway().reloads().borrow().refused == reloads
        });
    }

    /// The records of the log so far.
    pub fn records(&self) -> Vec<serde_json::Value> {
        self.log
            .lines()
            .iter()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// Waits for a record that fits, and returns it.
    pub fn record(
        &self,
        what: &str,
        fits: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        self.until(what, |stage| stage.records().iter().any(&fits));
        self.records()
            .into_iter()
            .find(|record| fits(record))
            .expect("found above")
    }
}

impl Stage {
    /// What the admin address answers.
    pub fn admin(&self, path: &str) -> String {
        let address = self.gateway().admin_address().expect("an admin address");
        self.runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("text");
            answer
        })
    }

    /// Puts another policy in force, without moving the clock.
    pub fn change_policy(&self, change: impl FnOnce(String) -> String) {
        let path = self.folder.path().join("policy.yaml");
        let policy = std::fs::read_to_string(&path).expect("a policy");
        let changed = change(policy.clone());
        assert_ne!(policy, changed, "the change changes nothing");
        std::fs::write(path, changed).expect("written");
        self.reload();
    }

    /// Reads the files again, and waits until that has been taken up.
    pub fn reload(&self) {
        let taken = self.gateway().reloads().borrow().taken;
        self.gateway().reload();
        self.until("the reload", |stage| {
            stage.gateway().reloads().borrow().taken > taken
        });
    }

    /// The record of the request with this answer.
    pub fn record_of(&self, answer: &Answer) -> serde_json::Value {
        let id = answer.header("x-request-id").expect("a request ID");
        self.until("the record", |stage| {
            stage.log.lines().iter().any(|line| line.contains(id))
        });
        let lines = self.log.lines();
        let mut found = lines.iter().filter(|line| line.contains(id));
        let line = found.next().expect("found above");
        assert_eq!(found.next(), None, "one line a request");
        serde_json::from_str(line).expect("a line of JSON")
    }
}

/// A log that tests read.
#[derive(Clone, Default)]
pub struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl LogBuffer {
    pub fn lines(&self) -> Vec<String> {
        let text = self.0.lock().expect("not poisoned").clone();
        String::from_utf8(text)
            .expect("UTF-8")
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
