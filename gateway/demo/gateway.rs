//! The gateway of the demo: the real command in a process of its own, configured as a real one would
//! be, for the identity endpoint is named by the environment.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::fault;
use super::identity::{IDENTITY_HEADER, IdentityEndpoint};

/// A gateway in a child process, ended when this is dropped.
pub struct GatewayProcess {
    child: Child,
    talk: Option<JoinHandle<()>>,
    /// Where it serves callers.
    pub address: SocketAddr,
}

impl GatewayProcess {
    /// Starts `portcullis run` and waits until it listens. `log` says where its request log goes.
    ///
    /// # Errors
    /// When it does not start; what it said is in the error.
    pub fn start(
        program: &Path,
        config: &Path,
        identity: &IdentityEndpoint,
        log: Stdio,
    ) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(config)
            .env("IDENTITY_ENDPOINT", identity.endpoint())
            .env("IDENTITY_HEADER", IDENTITY_HEADER)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(|| fault("no standard error"))?;
        let mut lines = BufReader::new(stderr);
        match listening(&mut lines) {
            Ok(address) => {
                let talk = std::thread::spawn(move || pass_on(lines));
                Ok(Self {
                    child,
                    talk: Some(talk),
                    address,
                })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a platform does (SIGTERM), and says how it ended.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn end(self) -> io::Result<ExitStatus> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        // It may have ended already.
        let _ = id.map(|id| kill_process(id, Signal::TERM));
        self.wait()
    }

    /// Waits until it ends by itself, and says how.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(talk) = self.talk.take() {
            let _ = talk.join();
        }
    }
}

/// Reads events until the one that says where the gateway listens.
fn listening(lines: &mut BufReader<ChildStderr>) -> io::Result<SocketAddr> {
    let mut said = String::new();
    loop {
        let before = said.len();
        if lines.read_line(&mut said)? == 0 {
            return Err(fault(format!("the gateway did not start:\n{said}")));
        }
        let line = said.get(before..).unwrap_or_default();
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        if text("event") == Some("started")
            && let Some(address) = text("detail").and_then(|detail| detail.rsplit(' ').next())
        {
            return address.parse().map_err(fault);
        }
    }
}

/// What the gateway says of itself goes on to our own standard error.
fn pass_on(lines: BufReader<ChildStderr>) {
    for line in lines.lines().map_while(Result::ok) {
        super::talk(&format!("{line}\n"));
    }
}
