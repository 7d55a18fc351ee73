//! What stands on the gateway's ports here: as much of a TLS and of an HTTP server as a CA wants to see.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use portcullis::acme::{Acme, Issued};
use portcullis::net::tls::{Roots, client_config};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bound");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// Shows the answers to whoever asks for `acme-tls/1`, and nothing to anybody else.
struct Shown(Arc<Acme>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut offered = hello.alpn()?;
        offered.find(|protocol| *protocol == b"acme-tls/1")?;
        self.0.alpn_answer(hello.server_name()?)
    }
}

pub fn tls(listener: TcpListener, acme: Arc<Acme>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shown(acme)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The CA looks at the certificate and goes.
            let handshake = acceptor.accept(stream);
            tokio::spawn(async move {
                if let Ok(mut stream) = handshake.await {
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
}

/// Whose answers are told.
pub struct Told(Arc<Mutex<Arc<Acme>>>);

impl Told {
    pub fn answer_for(&self, acme: Arc<Acme>) {
        *self.0.lock().expect("a value") = acme;
    }
}

pub fn http(listener: TcpListener, acme: Arc<Acme>) -> Told {
    let told = Arc::new(Mutex::new(acme));
    let answers = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else {
                    break;
                };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head);
            let path = head.split(' ').nth(1).unwrap_or_default();
            let token = path.strip_prefix("/.well-known/acme-challenge/");
            let acme = Arc::clone(&answers.lock().expect("a value"));
            let body = token.and_then(|token| acme.http_answer(token));
            let (status, body) = match body {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", String::new()),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Told(told)
}

/// A handshake of a caller who trusts this root and wants this name.
pub async fn meet(issued: &Issued, root: &str, name: &str) -> io::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(issued.chain.clone(), issued.key.clone_key())
        .expect("a certificate");
    let client = client_config(&Roots::Pem(root.as_bytes().to_vec()), &[]).expect("roots");
    let (near, far) = tokio::io::duplex(1 << 16);
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let serving = tokio::spawn(async move { acceptor.accept(far).await.map(drop) });
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let met = TlsConnector::from(client).connect(name, near).await;
    let _ = serving.await;
    met.map(drop)
}
