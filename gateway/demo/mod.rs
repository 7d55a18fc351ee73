//! Azure on this machine: a small Entra, identity endpoint, Function and Logic App on loopback, and a
//! gateway in front of them. For `portcullis demo`, and the world of the tests.

pub mod backend;
pub mod ca;
pub mod durable;
pub mod entra;
mod files;
pub mod function;
pub mod gateway;
mod grant;
pub mod identity;
pub mod issued;
pub mod logic_app;
pub mod mint;
pub mod proof;
pub mod serve;
pub mod story;
pub mod table;
#[cfg(test)]
mod tests;
pub mod vault;
pub mod world;

pub use files::names;

use std::fmt::Display;
use std::fs::DirBuilder;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway::GatewayProcess;
use identity::IDENTITY_HEADER;
use mint::Token;
use names::{AUDIENCE, CONTOSO, MARKETING_PORTAL, NIGHTLY_BATCH};
use story::Story;
use tokio::signal::unix::{SignalKind, signal};
use world::{CLIENT_SECRET, World};

use crate::clock::SystemClock;
use crate::entra::Version;
use crate::ids::random_u64;
use crate::net::address::SystemResolver;
use crate::net::client::Client;
use crate::net::tls::{self, Roots};

/// The demo's own failures are the machine's: a port, a key, a file.
fn fault(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn talk(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn out(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// `demo --check`: tells the story and exits with 0 only if every row came out as expected, and the gateway ended in
/// order when it was asked to. `gateway` is started in its place, if it is given.
pub fn check(gateway: Option<&Path>) -> ExitCode {
    finish(block_on(async {
        let scene = Scene::set(gateway, 0, Stdio::null).await?;
        let client = client(&scene.world)?;
        let base = format!("https://localhost:{}", scene.gateway.address.port());
        let rows = Story::new(&scene.world, client, base).tell().await?;
        out(&table::render(&rows));
        let ended = scene.end()?;
        match ended.success() {
            true => Ok(rows.iter().all(|row| row.good)),
            false => Err(fault(format!("the gateway did not end in order: {ended}"))),
        }
    }))
}

/// `demo`: starts everything, says what listens where, and waits for Ctrl-C. `gateway` is started in its place, if it
/// is given.
pub fn run(gateway: Option<&Path>) -> ExitCode {
    finish(block_on(async {
        // The port that the README names, unless somebody has it.
        let scene = match Scene::set(gateway, 8443, Stdio::inherit).await {
            Ok(scene) => scene,
            Err(_) => Scene::set(gateway, 0, Stdio::inherit).await?,
        };
        out(&scene.invitation()?);
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = tokio::signal::ctrl_c() => ended?,
            _ = terminate.recv() => {}
        }
        // A terminal tells the gateway of Ctrl-C, too, and two signals may cut its end short: that is no fault.
        scene.end()?;
        Ok(true)
    }))
}

fn block_on<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tls::install_provider();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(future)
}

fn finish(outcome: io::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            talk(&format!("error: the demo failed: {error}\n"));
            ExitCode::from(1)
        }
    }
}

/// A client that trusts the demo's CA and no other.
///
/// # Errors
/// When the CA is not usable, which would be the demo's fault.
pub fn client(world: &World) -> io::Result<Client> {
    let roots = Roots::Pem(world.ca.pem().as_bytes().to_vec());
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(fault)?;
    Ok(Client::new(&config, Arc::new(SystemResolver)))
}

/// A folder of the demo's own, which nobody else on the machine can read.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let name = format!("portcullis-demo-{:016x}", random_u64());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The world and a gateway in front of it. The gateway ends first.
struct Scene {
    gateway: GatewayProcess,
    world: World,
    folder: Folder,
}

impl Scene {
    async fn set(program: Option<&Path>, port: u16, log: fn() -> Stdio) -> io::Result<Self> {
        let world = World::start(Arc::new(SystemClock)).await?;
        let folder = Folder::new()?;
        let config = world.write_files(folder.path(), port)?;
        let program = match program {
            Some(program) => program.to_owned(),
            None => std::env::current_exe()?,
        };
        match GatewayProcess::start(&program, &config, &world.identity, log()) {
            Ok(gateway) => Ok(Self {
                gateway,
                world,
                folder,
            }),
            Err(error) => {
                folder.remove();
                Err(error)
            }
        }
    }

    /// Ends the gateway as a platform does, and removes what was written for it.
    fn end(self) -> io::Result<ExitStatus> {
        let ended = self.gateway.end();
        self.folder.remove();
        ended
    }

    /// What listens where, and lines to paste.
    fn invitation(&self) -> io::Result<String> {
        let folder = self.folder.path();
        let entra = &self.world.entra;
        let now = entra.now();
        let portal = Token::app(Version::V2, CONTOSO, MARKETING_PORTAL, AUDIENCE, now)
            .roles(&["Guests.Invite"]);
        let batch = Token::app(Version::V1, CONTOSO, NIGHTLY_BATCH, AUDIENCE, now)
            .roles(&["Guests.Read.All"]);
        std::fs::write(folder.join("marketing-portal.token"), entra.sign(&portal)?)?;
        std::fs::write(folder.join("nightly-batch.token"), entra.sign(&batch)?)?;
        let base = format!("https://localhost:{}", self.gateway.address.port());
        let shown = folder.display();
        let curl = format!("curl --cacert {shown}/certs/ca.crt");
        let bearer = |app: &str| format!("-H \"Authorization: Bearer $(cat {shown}/{app}.token)\"");
        let (portal, batch) = (bearer("marketing-portal"), bearer("nightly-batch"));
        let (authority, function, logic_app) = (
            entra.authority(),
            self.world.function.url(),
            self.world.logic_app.url(),
        );
        let (partner, vault, identity) = (
            self.world.keyed_function.url(),
            self.world.vault.url(),
            self.world.identity.endpoint(),
        );
        let link = backend::sas_query();
        Ok(format!(
            "\
the gateway    {base}
Entra          {authority}
the Function   {function}
the Logic App  {logic_app}
the partner's  {partner}, a Function that takes a key
Key Vault      {vault}
identities     {identity}
configuration  {shown}/gateway.yaml, {shown}/policies/contoso.yaml

Let in:
  {curl} {portal} -d '{{}}' {base}/invitations
  {curl} {portal} -d '{{}}' '{base}/invitations?{link}'
  {curl} {batch} {base}/guests/42
  {curl} -i {portal} -d '{{}}' {base}/approvals          # then follow its Location with the same token
  {curl} {portal} {base}/partners/7

Refused:
  {curl} -i -d '{{}}' '{base}/invitations?{link}'
  {curl} -i {batch} -d '{{}}' {base}/invitations
  {curl} -i {portal} {base}/guests/42
  {curl} -i {portal} {base}/guests/..%2fadmin

A fresh token:
  {curl} {authority}/{CONTOSO}/oauth2/v2.0/token -d grant_type=client_credentials -d client_id={MARKETING_PORTAL} -d client_secret={CLIENT_SECRET} -d scope={AUDIENCE}/.default

A gateway of your own with the same configuration, and what it would lack:
  IDENTITY_ENDPOINT={identity} IDENTITY_HEADER={IDENTITY_HEADER} portcullis doctor --config {shown}/gateway.yaml

The gateway's log follows. Ctrl-C ends all of it, and removes {shown}.

"
        ))
    }
}
