//! TLS handshakes with a gateway, by rustls's own client: what is offered, and what came of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use portcullis::demo::ca::Certificate;

use super::Stage;

/// What a caller offers.
#[derive(Clone)]
pub struct Caller {
    ca: String,
    name: String,
    sends_name: bool,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: CryptoProvider,
    certificate: Option<(String, String)>,
    protocols: Vec<Vec<u8>>,
}

impl Caller {
    /// One that believes the demo's CA and asks for `name`.
    pub fn new(stage: &Stage, name: &str) -> Self {
        Self {
            ca: stage.world.ca.pem().to_owned(),
            name: name.to_owned(),
            sends_name: true,
            versions: rustls::ALL_VERSIONS.to_vec(),
            provider: aws_lc_rs::default_provider(),
            certificate: None,
            protocols: vec![b"http/1.1".to_vec()],
        }
    }

    /// Believing another CA.
    pub fn believing(mut self, ca: &str) -> Self {
        self.ca = ca.to_owned();
        self
    }

    /// Without saying which name it asks for.
    pub fn without_name(mut self) -> Self {
        self.sends_name = false;
        self
    }

    /// With one version of TLS.
    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Of the ways to sign a handshake only with those whose names begin so.
    pub fn signed_by(mut self, word: &str) -> Self {
        let algorithms = &mut self.provider.signature_verification_algorithms;
        let known: Vec<_> = algorithms.mapping.to_vec();
        let known = known
            .into_iter()
            .filter(|(scheme, _): &(SignatureScheme, _)| format!("{scheme:?}").starts_with(word));
        // A test's few bytes stay until it ends.
        algorithms.mapping = Vec::leak(known.collect());
        self
    }

    /// With these ways to agree on a key.
    pub fn agreeing_by(mut self, groups: &[&'static dyn SupportedKxGroup]) -> Self {
        self.provider.kx_groups = groups.to_vec();
        self
    }

    /// With a certificate of its own.
    pub fn with(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some((certificate.cert_pem.clone(), certificate.key_pem.clone()));
        self
    }

    /// Offering another protocol.
    pub fn offering(mut self, protocol: &str) -> Self {
        self.protocols = vec![protocol.as_bytes().to_vec()];
        self
    }

    /// What several handshakes share: sessions among them.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("a CA");
        roots.add(ca).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider.clone()))
            .with_protocol_versions(&self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes());
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.enable_sni = self.sends_name;
        config.alpn_protocols = self.protocols.clone();
        Arc::new(config)
    }

    /// Shakes hands.
    pub fn shake(&self, address: SocketAddr) -> Result<Shaken, String> {
        shake(&self.config(), &self.name, address)
    }
}

/// A handshake that succeeded.
pub struct Shaken(StreamOwned<ClientConnection, TcpStream>);

/// Shakes hands by a configuration.
pub fn shake(
    config: &Arc<ClientConfig>,
    name: &str,
    address: SocketAddr,
) -> Result<Shaken, String> {
    shake_on(
        config,
        name,
        TcpStream::connect(address).expect("connected"),
    )
}

/// Shakes hands on a connection on which something may have been said already.
pub fn shake_on(
    config: &Arc<ClientConfig>,
    name: &str,
    mut stream: TcpStream,
) -> Result<Shaken, String> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).expect("a connection");
    while connection.is_handshaking() {
        connection
            .complete_io(&mut stream)
            .map_err(|error| error.to_string())?;
    }
    Ok(Shaken(StreamOwned::new(connection, stream)))
}

impl Shaken {
    /// The certificate that was shown.
    pub fn leaf(&self) -> Vec<u8> {
        let chain = self.0.conn.peer_certificates().expect("a certificate");
        chain.first().expect("a leaf").to_vec()
    }

    /// How the handshake went: `Full`, `Resumed`, …
    pub fn kind(&self) -> String {
        format!("{:?}", self.0.conn.handshake_kind().expect("a handshake"))
    }

    /// How the key was agreed on.
    pub fn group(&self) -> String {
        let group = self.0.conn.negotiated_key_exchange_group();
        format!("{:?}", group.expect("a group").name())
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.0.conn.alpn_protocol()?;
        Some(String::from_utf8_lossy(protocol).into_owned())
    }

    /// Asks for a path and reads to the end.
    pub fn get(mut self, path: &str, fields: &str) -> Result<String, String> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n");
        self.0
            .write_all(request.as_bytes())
            .map_err(|error| error.to_string())?;
        let mut answer = String::new();
        self.0
            .read_to_string(&mut answer)
            .map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

/// The first certificate of PEM text, DER.
pub fn der(pem: &str) -> Vec<u8> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    der.expect("a certificate").to_vec()
}
