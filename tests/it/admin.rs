//! The admin address: what it answers is what its description says, and only to whom it should.

mod console;
mod decisions;
mod described;
mod lets_in;
mod profile;
mod stands;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use portcullis::demo::ca::{Ca, Certificate};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{RawBackend, Scene, Stage};

const SECRET: &str = "planted-bearer-planted-bearer-planted";

/// What came back.
#[derive(Debug)]
struct Told {
    status: u16,
    head: String,
    body: String,
}

impl Told {
    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        let told = Self {
            status: status.parse().expect("a number"),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        assert!(!answer.contains("planted"), "{told:?}");
        told
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    fn json(&self) -> Value {
        assert_eq!(self.field("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The sentence of a refusal.
    fn error(&self) -> String {
        let page = self.json();
        page["error"].as_str().expect("a sentence").to_owned()
    }
}

/// Whom the admin address is asked by.
struct Asker<'s> {
    stage: &'s Stage,
    address: SocketAddr,
    /// Further lines of the head.
    fields: String,
    host: String,
    tls: Option<ClientConfig>,
}

impl<'s> Asker<'s> {
    /// Over plain HTTP, with nothing.
    fn new(stage: &'s Stage) -> Self {
        let bound = stage.gateway().admin_address().expect("an admin address");
        Self {
            stage,
            address: SocketAddr::from(([127, 0, 0, 1], bound.port())),
            fields: String::new(),
            host: "localhost".to_owned(),
            tls: None,
        }
    }

    fn bearer(mut self, secret: &str) -> Self {
        self.fields = format!("Authorization: Bearer {secret}\r\n");
        self
    }

    fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// Over TLS, with a client certificate or none.
    fn tls(mut self, certificate: Option<&Certificate>) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = self.stage.world.ca.pem();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM");
        roots.add(ca).expect("a root");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        self.tls = Some(match certificate {
            None => builder.with_no_client_auth(),
            Some(Certificate { cert_pem, key_pem }) => {
                let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("PEM");
                let config = builder.with_client_auth_cert(vec![cert], key);
                config.expect("a certificate")
            }
        });
        self
    }

    fn get(&self, path: &str) -> Told {
        self.ask("GET", path).expect("an answer")
    }

    /// `None` where the connection came to nothing.
    fn ask(&self, method: &str, path: &str) -> Option<Told> {
        self.send(method, path, "")
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Option<Told> {
        let (host, fields, length) = (&self.host, &self.fields, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = self.stage.runtime.block_on(async {
            let stream = TcpStream::connect(self.address).await.expect("connected");
            match &self.tls {
                None => exchange(stream, &request).await,
                Some(config) => {
                    let name = ServerName::try_from("localhost").expect("a name");
                    let connector = TlsConnector::from(Arc::new(config.clone()));
                    let stream = connector.connect(name, stream).await.ok()?;
                    exchange(stream, &request).await
                }
            }
        });
        answer.map(|answer| Told::read(&answer))
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Option<String> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    // Whoever speaks plain HTTP to TLS gets an alert.
    let answer = String::from_utf8(answer).ok()?;
    answer.starts_with("HTTP/1.1 ").then_some(answer)
}

/// A gateway with one route, and `admin:` as given.
fn scene(admin: &str) -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.admin = admin.to_owned();
    let scene = scene
        .raw("raw", &raw)
        .portal_route("one", "GET", "/one", "raw");
    (raw, scene)
}

fn started(admin: &str) -> (RawBackend, Stage) {
    let (raw, scene) = scene(admin);
    (raw, scene.start())
}

/// A file outside of the gateway's folder, for what has to be there before it starts.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

/// A client certificate by a CA of its own, with that CA.
fn client() -> (Ca, Certificate) {
    let ca = Ca::new().expect("a CA");
    let certificate = ca.certificate(&["operator"]).expect("a certificate");
    (ca, certificate)
}
