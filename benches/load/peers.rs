//! The proxies: the gateway, and its peers from Debian's packages, each in processes of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portcullis::demo::ca::Ca;
use portcullis::demo::entra::Entra;
use portcullis::demo::gateway::GatewayProcess;
use portcullis::demo::identity::IdentityEndpoint;
use portcullis::demo::names::{AUDIENCE, CONTOSO, LOGIC_APP_RESOURCE, MARKETING_PORTAL};

pub(crate) struct Proxy {
    name: String,
    address: SocketAddr,
    process: Process,
}

enum Process {
    Gateway(GatewayProcess),
    Peer(Child),
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Peer(child) = self {
            // nginx's master ends its worker when it is told to quit; killing it would leave one behind.
            let _ = Command::new("kill")
                .arg("-TERM")
                .arg(child.id().to_string())
                .status();
            let _ = child.wait();
        }
    }
}

/// Installs the peers if they are missing.
pub(crate) fn install() {
    let missing = |program: &str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .stdout(Stdio::null())
            .status();
        !found.expect("a shell").success()
    };
    if missing("nginx") || missing("haproxy") || missing("taskset") {
        for arguments in [
            &["update", "-q"][..],
            &[
                "install",
                "-y",
                "-q",
                "nginx-light",
                "haproxy",
                "util-linux",
            ],
        ] {
            let done = Command::new("apt-get")
                .args(arguments)
                .stdout(Stdio::null())
                .status();
            assert!(
                done.expect("apt-get").success(),
                "nginx, haproxy and taskset are needed"
            );
        }
    }
}

pub(crate) fn pin_this_process(core: usize) {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-cp", &core.to_string(), &id])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.expect("taskset").success());
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

fn certificate(folder: &Path, ca: &Ca, name: &str) -> (String, String) {
    let certificate = ca.certificate(&["localhost"]).expect("a certificate");
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    fs::write(path("crt"), &certificate.cert_pem).expect("written");
    fs::write(path("key"), &certificate.key_pem).expect("written");
    fs::write(path("pem"), certificate.cert_pem + &certificate.key_pem).expect("written");
    (
        path("crt").display().to_string(),
        path("key").display().to_string(),
    )
}

/// The gateway's policy: the route that is asked for, and `routes` and `apps` in all.
pub(crate) fn policy(backend: SocketAddr, routes: usize, apps: usize) -> String {
    let mut text =
        format!("tenants: {{ contoso: {CONTOSO} }}\napps:\n  portal: {MARKETING_PORTAL}\n");
    let mut names = "portal".to_owned();
    for app in 1..apps {
        let _ = writeln!(text, "  app-{app}: cccccccc-0000-0000-0000-{app:012}");
        let _ = write!(names, ", app-{app}");
    }
    let _ = write!(
        text,
        "audiences: ['{AUDIENCE}']\nbackends:\n  b: {{ http: 'http://{backend}', credential: {{ managedIdentity: {{ resource: '{LOGIC_APP_RESOURCE}' }} }} }}\nroutes:\n  r: {{ match: {{ methods: [POST], path: /invitations }}, backend: b, allow: [{{ tenants: [contoso], apps: [{names}], roles: [Guests.Invite] }}], rateLimit: {{ requests: 100000000, per: 1s, by: [tenant, app] }} }}\n"
    );
    for route in 1..routes {
        let _ = writeln!(
            text,
            "  r{route}: {{ match: {{ methods: [GET, POST], path: '/r{route}/{{id}}/{{*rest}}' }}, backend: b, allow: [{{ tenants: [contoso], apps: [portal], roles: [Guests.Invite] }}] }}"
        );
    }
    text
}

impl Proxy {
    pub(crate) fn gateway(
        folder: &Path,
        ca: &Ca,
        entra: &Entra,
        identity: &IdentityEndpoint,
        policy: &str,
    ) -> Self {
        let (cert, key) = certificate(folder, ca, "gateway");
        fs::write(folder.join("ca.crt"), ca.pem()).expect("written");
        let authority = entra.authority();
        fs::write(folder.join("policy.yaml"), policy).expect("written");
        let config = folder.join("gateway.yaml");
        fs::write(
            &config,
            format!(
                "listen: {{ address: 127.0.0.1:0, tls: {{ certificates: [{{ cert: '{cert}', key: '{key}' }}] }} }}\nworkers: 1\npolicies: policy.yaml\nentra: {{ authority: '{authority}', ca: ca.crt }}\ntelemetry: {{ requestLog: off }}\n"
            ),
        )
        .expect("written");
        // A shell that becomes the gateway, on core 0.
        let program = folder.join("gateway");
        let binary = env!("CARGO_BIN_EXE_portcullis");
        fs::write(
            &program,
            format!("#!/bin/sh\nexec taskset -c 0 '{binary}' \"$@\"\n"),
        )
        .expect("written");
        make_executable(&program);
        let process =
            GatewayProcess::start(&program, &config, identity, Stdio::null()).expect("a gateway");
        Self {
            name: format!("portcullis {}", env!("CARGO_PKG_VERSION")),
            address: process.address,
            process: Process::Gateway(process),
        }
    }

    pub(crate) fn nginx(folder: &Path, ca: &Ca, backend: SocketAddr) -> Self {
        let (cert, key) = certificate(folder, ca, "nginx");
        let port = free_port();
        let config = folder.join("nginx.conf");
        let shown = folder.display();
        fs::write(
            &config,
            format!(
                "daemon off; worker_processes 1; pid {shown}/nginx.pid; error_log {shown}/nginx.log;\nevents {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests 1000000000;\n client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy; fastcgi_temp_path {shown}/f; uwsgi_temp_path {shown}/u; scgi_temp_path {shown}/s;\n upstream b {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}\n server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;\n  location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n"
            ),
        )
        .expect("written");
        let version = Command::new("nginx")
            .arg("-v")
            .output()
            .expect("nginx")
            .stderr;
        let name = String::from_utf8_lossy(&version)
            .trim()
            .replace("nginx version: ", "");
        Self::peer(
            &name,
            port,
            folder,
            Command::new("taskset")
                .args(["-c", "0", "nginx", "-c"])
                .arg(&config),
        )
    }

    pub(crate) fn haproxy(folder: &Path, ca: &Ca, backend: SocketAddr) -> Self {
        certificate(folder, ca, "haproxy");
        let port = free_port();
        let config = folder.join("haproxy.cfg");
        let shown = folder.display();
        fs::write(
            &config,
            format!(
                "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nfrontend f\n  bind 127.0.0.1:{port} ssl crt {shown}/haproxy.pem ssl-min-ver TLSv1.3 alpn http/1.1\n  default_backend b\nbackend b\n  http-reuse always\n  server s {backend}\n"
            ),
        )
        .expect("written");
        let version = Command::new("haproxy")
            .arg("-v")
            .output()
            .expect("haproxy")
            .stdout;
        let version = String::from_utf8_lossy(&version);
        let name = version
            .split_whitespace()
            .nth(2)
            .unwrap_or("unknown")
            .to_owned();
        Self::peer(
            &format!("haproxy/{name}"),
            port,
            folder,
            Command::new("taskset")
                .args(["-c", "0", "haproxy", "-db", "-f"])
                .arg(&config),
        )
    }

    fn peer(name: &str, port: u16, folder: &Path, command: &mut Command) -> Self {
        let log = fs::File::create(folder.join(format!("{}.out", name.replace('/', "-"))))
            .expect("a file");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the peer starts");
        let process = Process::Peer(child);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // It listens as soon as it has read its configuration.
        let mut tries = 0_u64;
        while std::net::TcpStream::connect(address).is_err() {
            tries += 1;
            assert!(tries < 2_000_000, "{name} does not listen");
            std::thread::yield_now();
        }
        Self {
            name: name.to_owned(),
            address,
            process,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn is_gateway(&self) -> bool {
        matches!(self.process, Process::Gateway(_))
    }

    /// Seconds of CPU, user and system, of the process and its children.
    pub(crate) fn cpu(&self) -> f64 {
        let id = match &self.process {
            Process::Gateway(process) => process.id(),
            Process::Peer(child) => child.id(),
        };
        let children =
            fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|id| id.parse().ok());
        children.chain([id]).map(ticks).sum::<u64>() as f64 / 100.0
    }
}

/// `utime` and `stime` of /proc/ID/stat, in ticks of a hundredth of a second.
fn ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    // The state is the third field; utime and stime are the 14th and 15th.
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("executable");
}
