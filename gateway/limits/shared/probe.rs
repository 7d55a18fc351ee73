//! Whether the store could be used from here, asked by somebody who is no replica and leaves nothing there.

use std::fmt;
use std::time::Duration;

use redis::{RedisError, Value};
use tokio::net::{TcpStream, lookup_host};

use super::link::{Link, LinkError};
use super::script::{By, Probe};
use super::settings::{Node, Settings};
use crate::clock::within;

/// The longest that one step waits.
const STEP: Duration = Duration::from_secs(5);

/// What was found where the gateway could use the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is what the settings say.
    Sound,
    /// It is a cluster, of which one server is spoken to.
    Cluster,
}

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its name does not resolve.
    Resolve,
    /// Nobody takes the connection.
    Connect,
    /// There is no password or token to sign in with.
    HaveSignIn,
    /// It does not let the gateway in.
    SignIn,
    /// It was to be a cluster, and is none.
    BeCluster,
    /// It is a cluster, and keys of the gateway's lie elsewhere in it.
    BeOne,
    /// The gateway may not run scripts, or not what they do, or not with its keys.
    Allow,
    /// It takes nothing that is written: it is full, or a copy.
    Write,
    /// It answers something else.
    Answer,
}

/// Why the store could not be used. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// At which step.
    pub step: Step,
    /// What was met.
    pub why: String,
}

impl Fault {
    fn new(step: Step, why: &dyn fmt::Display) -> Self {
        let why = why.to_string();
        Self { step, why }
    }

    /// By what the store said.
    fn of(error: &LinkError) -> Self {
        let step = match error {
            LinkError::NoSignIn => Step::HaveSignIn,
            LinkError::Redis(error) => step(error),
            LinkError::Late(_) | LinkError::Unreadable => Step::Answer,
        };
        Self::new(step, error)
    }
}

fn step(error: &RedisError) -> Step {
    // Before Redis 7 what a script meets is told as ERR, with the rest in its text. A cluster's client wraps it, too.
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    match error.code() {
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => Step::SignIn,
        _ if says(&["WRONGPASS", "NOAUTH", "uthentication"]) => Step::SignIn,
        _ if says(&["cluster support disabled"]) => Step::BeCluster,
        Some("MOVED" | "CROSSSLOT" | "CLUSTERDOWN") => Step::BeOne,
        _ if says(&["NOPERM", "no permissions", "can't run this command"]) => Step::Allow,
        _ if says(&["unknown command"]) => Step::Allow,
        _ if says(&["OOM", "READONLY", "read-only", "MISCONF", "NOREPLICAS"]) => Step::Write,
        _ => Step::Answer,
    }
}

/// Goes the way that the gateway goes: resolves, connects, signs in, and runs a script with what limits need.
///
/// # Errors
/// [`Fault`]: the step that failed.
pub async fn probe(settings: &Settings) -> Result<Found, Fault> {
    reach(&settings.node).await?;
    let sign_in = settings.sign_in().map_err(|error| Fault::of(&error))?;
    let link = Link::open(settings, sign_in.as_ref()).await;
    let mut link = link.map_err(|error| Fault::of(&error))?;
    let mut ask = async |command| link.ask(&command, STEP).await;
    ask(redis::cmd("PING"))
        .await
        .map_err(|error| Fault::of(&error))?;
    let script = Probe::new(&settings.prefix);
    // By its text first, for that teaches it to the server.
    for by in [By::Text, By::Hash] {
        let answer = ask(script.call(by))
            .await
            .map_err(|error| Fault::of(&error))?;
        if answer != Value::BulkString(b"ok".to_vec()) {
            return Err(Fault::of(&LinkError::Unreadable));
        }
    }
    if settings.cluster {
        return Ok(Found::Sound);
    }
    // Who may not ask that may use the store all the same.
    let mut about = redis::cmd("INFO");
    about.arg("cluster");
    let is_cluster = match ask(about).await {
        Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).contains("cluster_enabled:1"),
        _ => false,
    };
    Ok(if is_cluster {
        Found::Cluster
    } else {
        Found::Sound
    })
}

/// As far as a connection.
async fn reach(node: &Node) -> Result<(), Fault> {
    let Node { host, port, .. } = node;
    let late = || LinkError::Late(STEP);
    let found = within(STEP, lookup_host((host.as_str(), *port))).await;
    let found = found.ok_or_else(|| Fault::new(Step::Resolve, &late()))?;
    let addresses: Vec<_> = found
        .map_err(|error| Fault::new(Step::Resolve, &error))?
        .collect();
    let connected = within(STEP, TcpStream::connect(&*addresses)).await;
    let connected = connected.ok_or_else(|| Fault::new(Step::Connect, &late()))?;
    connected.map_err(|error| Fault::new(Step::Connect, &error))?;
    Ok(())
}
