//! A real Redis for tests: started, paused, and ended with everything in it; and a road to it that can be cut.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as Probe};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use portcullis::clock::{Clock, SystemClock};
use portcullis::demo::ca::Ca;
use portcullis::limits::shared::Node;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A server in a folder of its own. It ends with the value.
pub struct Redis {
    child: Child,
    port: u16,
    options: Vec<String>,
    plain: bool,
    // Removed last.
    folder: tempfile::TempDir,
}

impl Redis {
    /// One that speaks plain text and asks nobody who he is.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// One with further options of the command line.
    pub fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self::run(folder, options, true)
    }

    /// One that speaks TLS alone, with a certificate of this authority.
    pub fn tls(ca: &Ca) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let made = ca
            .certificate(&["localhost", "127.0.0.1"])
            .expect("a certificate");
        let mut options = vec!["--tls-auth-clients".to_owned(), "no".to_owned()];
        for (option, name, text) in [
            ("--tls-cert-file", "redis.crt", made.cert_pem.as_str()),
            ("--tls-key-file", "redis.key", made.key_pem.as_str()),
            ("--tls-ca-cert-file", "ca.crt", ca.pem()),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            options.extend([option.to_owned(), path.display().to_string()]);
        }
        Self::run(folder, options, false)
    }

    /// A cluster of one node, which has all slots.
    pub fn cluster() -> Self {
        let redis = Self::with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-announce-ip",
            "127.0.0.1",
        ]);
        let all = redis.tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        assert_eq!(all, redis::Value::Okay);
        until("the cluster", || {
            let state = redis.tell(&["CLUSTER", "INFO"]);
            format!("{state:?}").contains("cluster_state:ok")
        });
        redis
    }

    fn run(folder: tempfile::TempDir, options: Vec<String>, plain: bool) -> Self {
        // A port that is free now may be taken when the server asks for it.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = spawn(folder.path(), port, &options, plain) {
                return Self {
                    child,
                    port,
                    options,
                    plain,
                    folder,
                };
            }
        }
        panic!("no Redis would start");
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn node(&self) -> Node {
        Node {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: !self.plain,
        }
    }

    /// What the server answers to a command. Of a server that speaks plain text.
    pub fn tell(&self, words: &[&str]) -> redis::Value {
        self.try_tell(words).expect("an answer")
    }

    /// The same, where it may refuse.
    pub fn try_tell(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query(&mut client.get_connection()?)
    }

    /// All keys, each with the milliseconds that it has left; negative for one that stays.
    pub fn keys(&self) -> Vec<(String, i64)> {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("a client");
        let mut link = client.get_connection().expect("connected");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut link).expect("keys");
        let left = |key: String| {
            let left = redis::cmd("PTTL")
                .arg(&key)
                .query(&mut link)
                .expect("a time");
            (key, left)
        };
        keys.into_iter().map(left).collect()
    }

    /// Stops it where it stands: connections stay, and nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it, with everything in it.
    pub fn kill(&mut self) {
        self.child.kill().expect("ended");
        self.child.wait().expect("ended");
    }

    /// Starts it again where it was, empty.
    pub fn start_again(&mut self) {
        let spawned = || spawn(self.folder.path(), self.port, &self.options, self.plain);
        let mut started = None;
        until("Redis", || {
            started = spawned();
            started.is_some()
        });
        self.child = started.expect("started above");
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("an id");
        kill_process(Pid::from_raw(id).expect("an id"), signal).expect("a signal");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Who has ended already is no fault here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    // A cluster's node has a second port, 10,000 above.
    loop {
        let probe = Probe::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = probe.local_addr().expect("an address").port();
        if port < 55_000 {
            return port;
        }
    }
}

fn spawn(folder: &std::path::Path, port: u16, options: &[String], plain: bool) -> Option<Child> {
    let port = port.to_string();
    let ports = match plain {
        true => ["--port", &port, "--tls-port", "0"],
        false => ["--port", "0", "--tls-port", &port],
    };
    let log = folder.join("log");
    let _ = std::fs::remove_file(&log);
    let mut child = Command::new("redis-server")
        .args(ports)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--loglevel", "notice", "--logfile"])
        .arg(&log)
        .arg("--dir")
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server, which tests/run installs");
    // Its own word: on its port another one may listen, and a cluster's node ends when its second port is taken.
    let is_ready = || {
        let log = std::fs::read_to_string(&log);
        log.is_ok_and(|log| log.contains("Ready to accept connections"))
    };
    let mut ended = false;
    until("Redis to listen", || {
        ended = child.try_wait().expect("a process").is_some();
        ended || is_ready()
    });
    (!ended).then_some(child)
}

/// Waits for a condition, and fails when it does not come true for very long.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = SystemClock.instant();
    while !condition() {
        let waited = SystemClock.instant().duration_since(begun);
        assert!(waited.as_secs() < 20, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// What a road does with who takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Through,
    /// Connections are closed.
    Refused,
    /// Connections stay, and nothing comes through.
    Nowhere,
}

/// A road to a server, which can be cut.
pub struct Road {
    address: SocketAddr,
    open: Arc<watch::Sender<Open>>,
}

impl Road {
    /// A road to `target`. To be called on a runtime.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let open = Arc::new(watch::Sender::new(Open::Through));
        let watched = open.subscribe();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(travel(caller, target, watched.clone()));
            }
        });
        Self { address, open }
    }

    pub fn set(&self, open: Open) {
        self.open.send_replace(open);
    }

    pub fn node(&self) -> Node {
        Node {
            host: "127.0.0.1".to_owned(),
            port: self.address.port(),
            tls: false,
        }
    }
}

async fn travel(mut caller: TcpStream, target: SocketAddr, mut open: watch::Receiver<Open>) {
    let now = *open.borrow_and_update();
    let mut server = None;
    if now == Open::Through {
        let Ok(reached) = TcpStream::connect(target).await else {
            return;
        };
        let server = server.insert(reached);
        tokio::select! {
            _ = copy_bidirectional(&mut caller, server) => return,
            _ = open.changed() => {}
        }
    }
    // Whoever was sent nowhere finds no way on this connection afterwards either.
    let _ = open.wait_for(|open| *open != Open::Nowhere).await;
    drop(server);
}
