//! The peers' configurations, from the templates in peers/.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis::demo::entra::Entra;
use portcullis::demo::mint::issuer;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
use portcullis::entra::Version;
use serde_json::{Value, json};

use crate::backend::CREDENTIAL;
use crate::contender::{Contender, Job, Program};
use crate::tokens::ROLE;

macro_rules! template {
    ($name:literal) => {
        ($name, include_str!(concat!("peers/", $name)))
    };
}

/// The files of a peer: the first is the one that it is started with.
fn templates(contender: Contender) -> Vec<(&'static str, &'static str)> {
    match (contender.program, contender.job) {
        (Program::Haproxy, Job::Plain) => vec![template!("haproxy-plain.cfg")],
        (Program::Haproxy, Job::Splice) => vec![template!("haproxy-splice.cfg")],
        (Program::Haproxy, _) => vec![template!("haproxy-full.cfg")],
        (Program::Nginx, Job::Plain) => vec![template!("nginx-plain.conf")],
        (Program::Nginx, _) => vec![template!("nginx-full.conf"), template!("nginx-full.js")],
        (Program::Envoy, Job::Plain) => vec![template!("envoy-plain.yaml")],
        (Program::Envoy, Job::Cached) => vec![template!("envoy-cached.yaml")],
        (Program::Envoy, _) => vec![template!("envoy-full.yaml")],
        (Program::Portcullis, _) => Vec::new(),
    }
}

/// Where a peer listens, and to whom it passes on.
pub(crate) struct Ports {
    pub(crate) own: u16,
    pub(crate) backend: SocketAddr,
    /// For how many connections it is set up.
    pub(crate) room: usize,
}

/// Writes the peer's files into its folder, and says the name of the first.
pub(crate) fn write(
    contender: Contender,
    folder: &Path,
    entra: &Entra,
    ports: &Ports,
) -> &'static str {
    let values = values(folder, entra, ports);
    let templates = templates(contender);
    for (name, text) in &templates {
        let filled = values
            .iter()
            .fold((*text).to_owned(), |text, (name, value)| {
                text.replace(&format!("@{name}@"), value)
            });
        fs::write(folder.join(name), filled).expect("written");
    }
    templates[0].0
}

fn values(folder: &Path, entra: &Entra, ports: &Ports) -> Vec<(&'static str, String)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let key = entra.key();
    let jwk = key.jwk(None);
    fs::write(folder.join("entra.pem"), spki(&jwk)).expect("written");
    let keys = json!({ "keys": [jwk] }).to_string();
    fs::write(folder.join("entra.json"), keys).expect("written");
    vec![
        ("PORT", ports.own.to_string()),
        ("BACKEND_PORT", ports.backend.port().to_string()),
        ("ROOM", ports.room.to_string()),
        ("DESCRIPTORS", descriptors(ports.room).to_string()),
        ("CERT", path("proxy.crt")),
        ("KEY", path("proxy.key")),
        ("PEM", path("proxy.pem")),
        ("FOLDER", folder.display().to_string()),
        ("PUBLIC_KEY", path("entra.pem")),
        ("KID", key.id.clone()),
        ("JWKS", path("entra.json")),
        ("ISSUER", issuer(Version::V2, CONTOSO)),
        ("AUDIENCE", AUDIENCE.to_owned()),
        ("TENANT", CONTOSO.to_owned()),
        ("APP", MARKETING_PORTAL.to_owned()),
        ("ROLE", ROLE.to_owned()),
        ("CREDENTIAL", CREDENTIAL.to_owned()),
    ]
}

/// As many as so many connections need, or as there may be.
fn descriptors(room: usize) -> u64 {
    let (_, most) = rlimit::Resource::NOFILE.get().unwrap_or((0, u64::MAX));
    (2 * room as u64 + 4096).min(most)
}

/// The key as PEM (RFC 7468), `SubjectPublicKeyInfo`.
fn spki(jwk: &Value) -> String {
    let part = |name: &str| {
        let text = jwk[name].as_str().expect("a part of a key");
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    };
    let components = PublicKeyComponents {
        n: part("n"),
        e: part("e"),
    };
    let key: PublicEncryptingKey = components.try_into().expect("a key");
    let text = STANDARD.encode(key.as_der().expect("DER").as_ref());
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    )
}
