//! What may be written in gateway.yaml.
#![allow(dead_code, reason = "only their schemas are asked for")]

use schemars::JsonSchema;

use super::policy::List;
use super::words::{Address, Duration, Size, Text, Url};

/// The platform team's file.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    title = "Portcullis gateway.yaml"
)]
pub(super) struct Gateway {
    /// Where callers connect.
    listen: Listen,
    /// Data-plane threads. Default: one a core.
    #[schemars(range(min = 1, max = 1024))]
    workers: Option<u32>,
    /// Health, metrics and what is in force. None if absent.
    admin: Option<Admin>,
    /// A policy file, or a folder of them, relative to this file.
    policies: Text,
    /// A policy file or folder that decides beside the one in force and does not act.
    candidate: Option<Text>,
    /// Whose tokens count, and how they are verified.
    entra: Option<Entra>,
    /// What survives a restart; nothing if absent.
    state: Option<State>,
    /// How the gateway ends.
    drain: Option<Drain>,
    /// What the gateway tells.
    telemetry: Option<Telemetry>,
    /// Where limits are counted.
    limits: Option<Limits>,
}

/// Where callers connect.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Listen {
    /// Address and port: `0.0.0.0:8443`.
    address: Address,
    /// Certificates, or `platform` where the platform ends TLS in front.
    tls: Tls,
    /// Longest TLS handshake. Default `10s`.
    handshake_timeout: Option<Duration>,
    /// Longest wait for a complete request head. Default `10s`.
    header_timeout: Option<Duration>,
    /// Longest time that a kept-alive connection may lie idle. Default `75s`.
    idle_timeout: Option<Duration>,
    /// Most connections per worker. Default 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_connections: Option<u32>,
    /// Largest request head, from `8KiB` to `1MiB`. Default `32KiB`.
    max_head_bytes: Option<Bytes>,
    /// Most concurrent HTTP/2 streams per connection. Default 128.
    #[schemars(range(min = 1, max = 10_000))]
    max_streams: Option<u32>,
}

/// A size: a number of bytes, or with a unit.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Bytes {
    /// Bytes.
    Number(u64),
    /// With a unit: `64KiB`.
    Text(Size),
}

/// Where TLS ends.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Tls {
    /// In front of the gateway.
    Platform(Platform),
    /// At the gateway.
    Certificates(Certificates),
}

/// The word for the platform.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Platform {
    /// The platform in front ends TLS; nobody else may reach this port.
    Platform,
}

/// The gateway's certificates.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Certificates {
    /// Certificate chains with their keys, taken up when they change.
    certificates: List<CertificatePair>,
}

/// A certificate chain and its key.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct CertificatePair {
    /// The PEM file of the chain.
    cert: Text,
    /// The PEM file of the private key.
    key: Text,
}

/// Health, metrics and what is in force, in plain HTTP.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Admin {
    /// Address and port. No ingress may publish it.
    address: Address,
}

/// Whose tokens count, and how they are verified.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Entra {
    /// Where metadata is read. Default `https://login.microsoftonline.com`.
    authority: Option<Url>,
    /// A PEM file of CA certificates to believe for the authority, instead of the platform's.
    ca: Option<Text>,
    /// How far `exp` and `nbf` may be off, at most `5m`. Default `60s`.
    clock_skew: Option<Duration>,
    /// The algorithms of signatures. Default `[RS256]`.
    algorithms: Option<List<Algorithm>>,
    /// Which token versions are accepted. Default `[v1, v2]`.
    token_versions: Option<List<TokenVersion>>,
    /// Longest token, from `1KiB` to `256KiB`. Default `16KiB`.
    max_token_bytes: Option<Bytes>,
    /// Verified tokens to remember. Default 20000.
    #[schemars(range(min = 1, max = 10_000_000))]
    cached_tokens: Option<u32>,
    /// How often metadata and keys are fetched. Default `1h`.
    refresh_every: Option<Duration>,
    /// Least time between two fetches that unknown key IDs cause. Default `1m`.
    unknown_key_interval: Option<Duration>,
    /// Longest that a request waits for such a fetch, or for the first. Default `3s`.
    key_wait: Option<Duration>,
}

/// An algorithm of signatures (RFC 7518).
#[derive(JsonSchema)]
#[schemars(rename_all = "UPPERCASE")]
enum Algorithm {
    /// RSA with SHA-256: what Entra uses.
    Rs256,
    /// RSA with SHA-384.
    Rs384,
    /// RSA with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// RSA-PSS with SHA-384.
    Ps384,
    /// RSA-PSS with SHA-512.
    Ps512,
}

/// A form of Entra's access tokens.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum TokenVersion {
    /// `ver` 1.0.
    V1,
    /// `ver` 2.0.
    V2,
}

/// What survives a restart.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    /// A folder that the gateway alone may write: signing keys are kept there.
    folder: Text,
    /// Older keys are not used from there. Default `1d`.
    max_key_age: Option<Duration>,
}

/// How the gateway ends.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Drain {
    /// How long it says that it is not ready before it stops accepting. Default `5s`.
    delay: Option<Duration>,
    /// How long requests in flight may then take. Default `30s`.
    timeout: Option<Duration>,
}

/// What the gateway tells.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Telemetry {
    /// A line a request on standard output. Default `json`.
    request_log: Option<RequestLog>,
    /// A record of every decision, with what it was made by.
    decision_log: Option<DecisionLog>,
}

/// The form of the request log.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum RequestLog {
    /// JSON objects.
    Json,
    /// For people.
    Human,
    /// None.
    Off,
}

/// Where decisions are recorded.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct DecisionLog {
    /// The file that is appended to.
    path: Text,
}

/// Where limits are counted.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    /// `local`, in the process, is the only store of this version.
    store: Option<Store>,
}

/// A store.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Store {
    /// In the process: each replica counts by itself.
    Local,
}
