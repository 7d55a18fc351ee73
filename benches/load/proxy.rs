//! A proxy that runs: in processes of its own, on core 0, with a backend of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis::clock::{Clock as _, SystemClock, pause};
use portcullis::demo::ca::Ca;
use portcullis::demo::identity::IDENTITY_HEADER;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::contender::{Contender, Job, Program};
use crate::install;
use crate::peers::{self, Ports};
use crate::process;
use crate::stage::Stage;

/// Longest that a proxy may take until it listens: with ten thousand routes, too.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Proxy {
    pub(crate) contender: Contender,
    pub(crate) address: SocketAddr,
    /// When it was spawned.
    pub(crate) spawned: Instant,
    backend: Backend,
    child: Child,
    folder: TempDir,
}

impl Proxy {
    /// Starts one with room for so many connections, whose backend answers with `answer` bytes, and waits until it
    /// listens.
    pub(crate) async fn start(
        stage: &Stage,
        contender: Contender,
        answer: usize,
        room: usize,
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = Backend::start(contender.expect(), answer, stage.identity.issued()).await;
        certificate(folder.path(), &stage.ca);
        let ports = Ports {
            own: free_port(),
            backend: backend.address(),
            room,
        };
        let mut command = command(stage, contender, folder.path(), &ports);
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let spawned = SystemClock.now().instant;
        let child = command.spawn().expect("the proxy starts");
        let mut proxy = Self {
            contender,
            address: SocketAddr::from(([127, 0, 0, 1], ports.own)),
            spawned,
            backend,
            child,
            folder,
        };
        proxy.listening().await?;
        Ok(proxy)
    }

    async fn listening(&mut self) -> Result<(), String> {
        while TcpStream::connect(self.address).await.is_err() {
            let late = SystemClock.now().instant.duration_since(self.spawned) > PATIENCE;
            if late || matches!(self.child.try_wait(), Ok(Some(_))) {
                return Err(self.fault("does not listen"));
            }
            pause(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// What is wrong, with the proxy's name and the end of what it said.
    pub(crate) fn fault(&self, what: &str) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(10)..].join("\n");
        format!("{}: {what}\n{end}", self.contender)
    }

    /// Requests that did not reach the backend as they should.
    pub(crate) fn faults(&self) -> u64 {
        self.backend.faults()
    }

    /// Seconds.
    pub(crate) fn cpu(&self) -> f64 {
        process::cpu(self.child.id())
    }

    /// MiB.
    pub(crate) fn memory(&self) -> f64 {
        process::memory(self.child.id())
    }

    /// How many files and connections it holds open.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub(crate) fn descriptors(&self) -> usize {
        process::descriptors(self.child.id())
    }

    #[allow(dead_code, reason = "not every benchmark writes policies anew")]
    pub(crate) fn policy_file(&self) -> PathBuf {
        self.folder.path().join("policy.yaml")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's master ends its worker when it is told to; killing it would leave one behind. And a program that
        // was built with counters writes them down when it ends by itself.
        let counts = std::env::var_os("LLVM_PROFILE_FILE").is_some();
        if counts || self.contender.program == Program::Nginx {
            let id = self.child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &id]).status();
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn command(stage: &Stage, contender: Contender, folder: &Path, ports: &Ports) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", "0"])
        .arg(install::binary(contender.program));
    if contender.program == Program::Portcullis {
        configure(stage, contender, folder, ports);
        command
            .args(["run", "--config"])
            .arg(folder.join("gateway.yaml"))
            .env("IDENTITY_ENDPOINT", stage.identity.endpoint())
            .env("IDENTITY_HEADER", IDENTITY_HEADER);
        return command;
    }
    let config = folder.join(peers::write(contender, folder, &stage.entra, ports));
    match contender.program {
        Program::Portcullis => {}
        Program::Haproxy => {
            command.args(["-db", "-f"]).arg(config);
        }
        Program::Nginx => {
            command.arg("-c").arg(config);
        }
        Program::Envoy => {
            command
                .args(["--concurrency", "1", "--disable-hot-restart"])
                .args(["--log-level", "warn", "-c"])
                .arg(config);
        }
    }
    command
}

/// The default configuration, but for one worker as the peers have one, and no request log as they have none.
fn configure(stage: &Stage, contender: Contender, folder: &Path, ports: &Ports) {
    let (port, authority) = (ports.own, stage.entra.authority());
    let more = match ports.room > 10_000 {
        true => format!(", maxConnections: {}", ports.room),
        false => String::new(),
    };
    let told = match contender.job {
        Job::Told(told) => told.settings(stage.collector),
        _ => "telemetry: { requestLog: off }\n".to_owned(),
    };
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
    write("ca.crt", stage.ca.pem());
    write("policy.yaml", &contender.policy(ports.backend));
    write(
        "gateway.yaml",
        &format!(
            "listen: {{ address: '127.0.0.1:{port}', tls: {{ certificates: [{{ cert: proxy.crt, key: proxy.key }}] }}{more} }}\nworkers: 1\npolicies: policy.yaml\nentra: {{ authority: '{authority}', ca: ca.crt }}\n{told}"
        ),
    );
    let collector = stage.collector;
    write(
        "connection",
        &format!(
            "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=http://{collector}"
        ),
    );
}

fn certificate(folder: &Path, ca: &Ca) {
    let certificate = ca.certificate(&["localhost"]).expect("a certificate");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("written");
    write("proxy.crt", &certificate.cert_pem);
    write("proxy.key", &certificate.key_pem);
    write("proxy.pem", &(certificate.cert_pem + &certificate.key_pem));
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}
