//! Pebble, a process of its own, and a name server that tells it that every name is this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as Probe};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http::{Request, Uri};
use portcullis::clock::pause;
use portcullis::demo::ca::Ca;
use portcullis::net::client::Bounds;
use serde_json::json;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::client;

const BOUNDS: Bounds = Bounds {
    timeout: std::time::Duration::from_secs(10),
    max_body: 1 << 20,
};

/// Where it comes to see proofs.
#[derive(Clone, Copy)]
pub struct Ports {
    pub tls: u16,
    pub http: u16,
}

/// A CA. It ends with the value.
pub struct Pebble {
    child: Child,
    ca: Ca,
    address: SocketAddr,
    management: SocketAddr,
    names: (SocketAddr, JoinHandle<()>),
    folder: tempfile::TempDir,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.names.1.abort();
    }
}

impl Pebble {
    /// One that deals with anybody, or with whoever knows this key alone.
    pub async fn start(ports: Ports, external: Option<(&str, &str)>) -> Self {
        let ca = Ca::new().expect("a CA");
        let folder = tempfile::tempdir().expect("a folder");
        let made = ca
            .certificate(&["localhost", "127.0.0.1"])
            .expect("a certificate");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("tls.crt", &made.cert_pem);
        write("tls.key", &made.key_pem);
        let names = name_server().await;
        // Another process may take a port between the look and the start.
        loop {
            let (address, management) = (free_address(), free_address());
            let mut config = json!({
                "listenAddress": address.to_string(),
                "managementListenAddress": management.to_string(),
                "certificate": folder.path().join("tls.crt"),
                "privateKey": folder.path().join("tls.key"),
                "httpPort": ports.http,
                "tlsPort": ports.tls,
                "ocspResponderURL": "",
                "externalAccountBindingRequired": external.is_some(),
            });
            if let Some((id, key)) = external {
                config["externalAccountMACKeys"] = json!({ id: key });
            }
            write("config.json", &json!({ "pebble": config }).to_string());
            if let Some(child) = spawn(folder.path(), names.0, [address, management]).await {
                return Self {
                    child,
                    ca,
                    address,
                    management,
                    names,
                    folder,
                };
            }
        }
    }

    /// The same place, where nobody remembers anything.
    pub async fn restart(mut self) -> Self {
        self.child.kill().expect("ended");
        self.child.wait().expect("ended");
        let addresses = [self.address, self.management];
        let child = spawn(self.folder.path(), self.names.0, addresses).await;
        self.child = child.expect("its ports are free");
        self
    }

    pub fn directory(&self) -> Uri {
        let text = format!("https://{}/dir", self.address);
        text.parse().expect("a URL")
    }

    /// Who vouches for the CA's own servers.
    pub fn server_root(&self) -> &str {
        self.ca.pem()
    }

    /// Who vouches for what it issues.
    pub async fn root(&self) -> String {
        let url = format!("https://{}/roots/0", self.management);
        let request = Request::get(url).body(Bytes::new()).expect("a request");
        let client = client(self.server_root());
        let answer = client.send(request, BOUNDS).await.expect("an answer");
        String::from_utf8(answer.into_body().to_vec()).expect("PEM")
    }
}

fn free_address() -> SocketAddr {
    let probe = Probe::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    probe.local_addr().expect("an address")
}

/// `None` if it has ended, as it does when a port is taken.
async fn spawn(
    folder: &std::path::Path,
    names: SocketAddr,
    listening: [SocketAddr; 2],
) -> Option<Child> {
    let mut child = Command::new("pebble")
        .arg("-config")
        .arg(folder.join("config.json"))
        .args(["-dnsserver", &names.to_string()])
        .env("PEBBLE_VA_NOSLEEP", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pebble, which tests/run installs");
    for address in listening {
        while TcpStream::connect(address).await.is_err() {
            if child.try_wait().expect("a process").is_some() {
                return None;
            }
            pause(std::time::Duration::from_millis(10)).await;
        }
    }
    Some(child)
}

/// Answers every question for A with this machine, and none of any other kind (RFC 1035 section 4).
async fn name_server() -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let address = socket.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            let name = buffer[12..].iter().position(|byte| *byte == 0);
            let end = 12 + name.expect("a name") + 5;
            let is_a = buffer[end - 4..end - 2] == [0, 1];
            let mut answer = buffer[..end].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            if is_a {
                answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).await.expect("sent");
        }
    });
    (address, task)
}
