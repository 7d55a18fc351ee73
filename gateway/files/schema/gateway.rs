//! What may be written in gateway.yaml.
#![allow(dead_code, reason = "only their schemas are asked for")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::policy::{List, Networks, SecretSource};
use super::words::{
    Address, Agreed, Bytes, Duration, Guid, Mailbox, RedisPrefix, RedisUrl, Text, Url, Word,
};

/// The configuration of the gateway: where it listens, whose tokens it takes, and which policy is in force.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    title = "Portcullis gateway.yaml"
)]
pub(super) struct Gateway {
    /// Where callers connect: `{ address: 0.0.0.0:8443, tls: … }`, or a list of several. Changes take effect after a restart, but for certificates.
    listen: Listeners,
    /// How many threads serve requests, from 1 to 1024. Default: one a core. Changes take effect after a restart.
    #[schemars(range(min = 1, max = 1024))]
    workers: Option<u32>,
    /// From which CA certificates are ordered by ACME, and where they are kept. Default: from none. Changes take effect after a restart.
    acme: Option<Acme>,
    /// Where the gateway tells of itself: health, metrics, what is in force, how its keys, credentials, backends and limits stand: `{ address: 127.0.0.1:9901 }`. Default: nowhere.
    admin: Option<Admin>,
    /// The policy in force: a policy file, or a folder of them. The path is relative to this file.
    policies: Text,
    /// A policy file or folder that decides each request beside the one in force and does not act: where it would decide otherwise is recorded and counted. The path is relative to this file. Default: none.
    candidate: Option<Text>,
    /// Where keys come from that tokens are verified with, and which tokens are accepted.
    entra: Option<Entra>,
    /// The gateway's own base URL, which sealed URLs are built on: `https://api.contoso.com`. Default: `https://` and the host that the caller asked for.
    public_url: Option<Url>,
    /// Who reads secrets in Key Vault, and how often.
    key_vault: Option<KeyVault>,
    /// How URLs with keys in answers are sealed.
    seal: Option<Seal>,
    /// Where signing keys are kept across a restart, so that the gateway can start while Entra cannot be reached. Default: nowhere. Changes take effect after a restart.
    state: Option<State>,
    /// How the gateway ends when the platform tells it to (SIGTERM). Changes take effect after a restart.
    drain: Option<Drain>,
    /// What the gateway tells of itself, and to whom. Changes take effect after a restart.
    telemetry: Option<Telemetry>,
    /// What everybody is held to, how limits are told, and where they are counted.
    limits: Option<Limits>,
}

/// Where callers connect: one listener, or a list of several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Listeners {
    /// One listener.
    One(Listener),
    /// Several, one of which forwards.
    Several(List<Listener>),
}

/// Where callers connect: to be forwarded, or to be sent to `https`.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Listener {
    /// With TLS.
    Forwarding(Box<Listen>),
    /// Plain HTTP, by which nothing is forwarded.
    Plain(PlainListen),
}

/// Where callers connect with plain HTTP, by which nothing is forwarded.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct PlainListen {
    /// The IP address and port: `0.0.0.0:8080`.
    address: Address,
    /// What is answered there: `{ redirect: true }` sends callers to `https`.
    http: PlainHttp,
    /// `true`: another gateway may listen on the same address already, so that one takes over from the other. Default `false`.
    reuse_port: Option<bool>,
}

/// What is answered by plain HTTP.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct PlainHttp {
    /// `true`: GET and HEAD without a token are answered with 308 to the same URL with `https`, everything else with 403. Default `false`.
    redirect: Option<bool>,
    /// `true`: `/livez` and `/readyz` are answered, as at the admin address. Default `false`.
    probes: Option<bool>,
}

/// From which CA certificates are ordered by ACME (RFC 8555), and where they are kept.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Acme {
    /// The URL of the CA's directory: `https://acme-v02.api.letsencrypt.org/directory` is Let's Encrypt's.
    directory: Url,
    /// `true`: whoever runs the gateway has read the CA's terms of service and agrees. Must be written.
    terms_of_service_agreed: Agreed,
    /// Whom the CA writes to: `mailto:` and an address, each. Default: nobody.
    #[schemars(length(min = 1))]
    contact: Option<Vec<Mailbox>>,
    /// The folder in which the account, certificates and keys are kept. The gateway alone may read it; replicas share it. The path is relative to this file.
    folder: Text,
    /// How names are proved to the CA: `tls-alpn-01` (default) on port 443, or `http-01` on port 80.
    challenge: Option<AcmeChallenge>,
    /// PEM file of CA certificates to believe for the directory, instead of the platform's. The path is relative to this file.
    ca: Option<Text>,
    /// An account that the CA's operator knows already, where it asks for one, as ZeroSSL and Google do.
    external_account: Option<AcmeExternalAccount>,
}

/// How names are proved to the CA.
#[derive(JsonSchema)]
enum AcmeChallenge {
    /// By a certificate that is shown on port 443.
    #[schemars(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By a text that is told on port 80.
    #[schemars(rename = "http-01")]
    Http01,
}

/// An account that the CA's operator knows already.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct AcmeExternalAccount {
    /// The ID of its key, as the CA shows it.
    key_id: Word,
    /// Where its key is read, in base64, as the CA shows it.
    hmac_key: SecretSource,
}

/// Where callers connect, and what they may take of the gateway.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Listen {
    /// The IP address and port that callers connect to: `0.0.0.0:8443`, or `[::]:8443` for IPv6.
    address: Address,
    /// Where TLS ends: at the gateway with `{ certificates: [{ cert: …, key: … }] }`, or in front of it with `platform`.
    tls: Tls,
    /// `true`: another gateway may listen on the same address already, so that one takes over from the other. Default `false`.
    reuse_port: Option<bool>,
    /// Those who stand in front of the gateway and may speak for callers. Default: behind a platform, one hop; otherwise nobody.
    trusted_hops: Option<TrustedHops>,
    /// `true`: each connection begins with the PROXY protocol, version 1 or 2, and those that do not are closed. Only from `trustedHops.networks`. Default `false`.
    proxy_protocol: Option<bool>,
    /// Which certificates callers bring, for policies to ask for. The files are read again when they change. Default: callers are asked for none.
    client_certificates: Option<ClientCertificates>,
    /// Longest TLS handshake; then the connection is closed. From `1ms` to `1h`, default `10s`.
    handshake_timeout: Option<Duration>,
    /// Longest time from the first byte of a request's head to its last. Over HTTP/2: longest wait for the answer to a ping. From `1ms` to `1h`, default `10s`.
    header_timeout: Option<Duration>,
    /// How long a connection may lie without a request, and how long a caller may take nothing of an answer; then it is closed. From `1ms` to `1h`, default `75s`.
    idle_timeout: Option<Duration>,
    /// Most connections at once, in all workers; further ones are closed as they come. From 1 to 1000000, default 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_connections: Option<u32>,
    /// Most connections at once from one address, or from one /64 of IPv6; further ones are closed as they come. Not behind a platform, from which all connections come. From 1 to 1000000, default no limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    max_connections_per_address: Option<u32>,
    /// Slowest that a request's body may come, and an answer be taken, in bytes a second; `0` for as slow as callers like. Not for requests to a backend with `protocol: http2`. From `0` to `1MiB`, default 240.
    min_rate: Option<Bytes>,
    /// How long it may be slower than `minRate`. From `1ms` to `1h`, default `10s`.
    min_rate_grace: Option<Duration>,
    /// Most requests on one connection; it ends in order behind the last. From 1 to 1000000000, default no limit.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    max_requests: Option<u32>,
    /// Longest that a connection may last, up to a quarter longer; it then ends in order behind what is in flight. From `1ms` to `30d`, default `1h`.
    max_age: Option<Duration>,
    /// Largest head of a request: its line and header fields. From `8KiB` to `1MiB`, default `32KiB`.
    max_head_bytes: Option<Bytes>,
    /// Most requests at once on one HTTP/2 connection. From 1 to 10000, default 128.
    #[schemars(range(min = 1, max = 10_000))]
    max_streams: Option<u32>,
}

/// Those who stand in front of the gateway and may speak for callers.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct TrustedHops {
    /// Where they are, in CIDR notation: `[10.0.0.0/8]`. Has to be written unless the platform ends TLS, where nobody else may connect then. Default: anywhere.
    networks: Option<Networks>,
    /// How many of them append to the header whom they saw: Front Door in front of Container Apps is 2. From 1 to 16. Default: all that are in `networks`, or 1 if that is not written.
    #[schemars(range(min = 1, max = 16))]
    count: Option<u32>,
    /// The header that they append to. Default `x-forwarded-for`.
    header: Option<ForwardedHeader>,
    /// The IDs of the Front Door profiles that requests have to come through: `X-Azure-FDID` is one of them. Default: they need not.
    front_door: Option<List<Guid>>,
}

/// Which certificates callers bring.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct ClientCertificates {
    /// `require`: nobody is served without one. `request`: callers may go without, and policies decide.
    mode: ClientMode,
    /// The PEM file of the CAs that issue them. The path is relative to this file.
    ca: Text,
    /// Files of what those CAs have withdrawn (RFC 5280), PEM or DER: one of each CA on the way from a certificate to its root. A list that is out of date lets nobody in. The paths are relative to this file. Default: nothing is withdrawn.
    crl: Option<List<Text>>,
    /// The header in which those in front pass them on, who have ended TLS. Default: they come in handshakes.
    header: Option<CertificateHeader>,
}

/// Whether callers may go without a certificate.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum ClientMode {
    /// Nobody is served without one.
    Require,
    /// Callers may go without, and policies decide.
    Request,
}

/// The header in which certificates of callers are passed on.
#[derive(JsonSchema)]
enum CertificateHeader {
    /// Container Apps and Envoy.
    #[schemars(rename = "x-forwarded-client-cert")]
    Forwarded,
    /// App Service.
    #[schemars(rename = "x-arr-clientcert")]
    Arr,
}

/// The header that they append to.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Where TLS ends: at the gateway, or in front of it.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Tls {
    /// The word `platform`: TLS ends in front of the gateway.
    Platform(Platform),
    /// TLS ends at the gateway, with these certificates.
    Certificates(Certificates),
}

/// The word `platform`: TLS ends in front of the gateway.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Platform {
    /// TLS ends in front of the gateway, which speaks plain HTTP/1.1 and HTTP/2 (h2c) and takes the last entry of `X-Forwarded-For` for the caller's address, unless `trustedHops` says otherwise. Nobody but the platform may reach this port.
    Platform,
}

/// TLS ends at the gateway, with these certificates.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Certificates {
    /// The gateway's certificates with their keys, read again when they change. The name that a caller asks for chooses among several; the first is for all others.
    certificates: List<Certificate>,
    /// Which versions of TLS are spoken: `modern` is 1.3 alone, `intermediate` 1.3 and 1.2. Default `intermediate`.
    policy: Option<TlsPolicy>,
    /// Where the keys of session tickets are read, each at least 32 characters on a line of its own: the first makes them, all take them. With the same keys, replicas take each other's. Default: random keys of the process.
    ticket_keys: Option<List<SecretSource>>,
}

/// Which versions of TLS are spoken, as Mozilla's guidelines call them.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum TlsPolicy {
    /// TLS 1.3 alone.
    Modern,
    /// TLS 1.3 and 1.2, with forward secrecy and authenticated encryption.
    Intermediate,
}

/// A certificate chain and its key: two PEM files, a PFX file, a certificate in Key Vault, or one that is ordered.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Certificate {
    /// Two PEM files.
    Pem(CertificateInPem),
    /// A PFX file.
    Pfx(CertificateInPfx),
    /// A certificate in Key Vault.
    Vault(CertificateInVault),
    /// A certificate that is ordered.
    Ordered(CertificateOrdered),
}

/// A certificate chain and its key in two PEM files.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateInPem {
    /// The PEM file of the certificate and of those that issued it. The path is relative to this file.
    cert: Text,
    /// The PEM file of its private key. The path is relative to this file.
    key: Text,
    /// Where the passphrase is read that the key is encrypted with (PKCS#8). Default: it is not encrypted.
    passphrase: Option<SecretSource>,
}

/// A certificate chain and its key in a PFX file.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateInPfx {
    /// The PFX file (PKCS #12) with the certificate, those that issued it, and its private key. The path is relative to this file.
    pfx: Text,
    /// Where its passphrase is read. Default: the empty one.
    passphrase: Option<SecretSource>,
}

/// A certificate that is ordered by ACME.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateOrdered {
    /// The names that it is for: `[api.contoso.com]`. Each has to lead here, where the CA asks for it; no wildcards.
    acme: List<Word>,
}

/// A certificate in Key Vault.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct CertificateInVault {
    /// The identifier of the certificate: `https://contoso.vault.azure.net/certificates/gateway`. It is read with its key as the secret of the same name, by the identity of `keyVault`, which needs the role Key Vault Secrets User, and again every `keyVault.refreshEvery`.
    key_vault: Url,
}

/// Where the gateway tells of itself, and to whom.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Admin {
    /// The IP address and port: `127.0.0.1:9901`. Not that of `listen`, and not to be published by an ingress. If it is not a loopback address, no more than `/livez` and `/readyz` is told there without `tls` and one of `bearer` and `tls.clientCa`. Changes take effect after a restart.
    address: Address,
    /// Where the secret is read that has to be brought as `Authorization: Bearer`, at least 32 characters. A file is read again when it changes. Default: none is asked for.
    bearer: Option<SecretSource>,
    /// HTTPS on this address. To add or remove it takes effect after a restart. Default: plain HTTP.
    tls: Option<AdminTls>,
    /// `true`: `/profile` answers with a flame graph of the process, to who brings a credential. Default `false`.
    profile: Option<bool>,
}

/// HTTPS on the admin address.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct AdminTls {
    /// The certificates of the admin address with their keys, read again when they change.
    certificates: List<Certificate>,
    /// A PEM file of CA certificates, read again when it changes: whoever brings a client certificate by one of them needs no bearer. The path is relative to this file. Default: client certificates are not asked for.
    client_ca: Option<Text>,
}

/// Where keys come from that tokens are verified with, and which tokens are accepted.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Entra {
    /// Where the tenants' metadata and signing keys are read. Default `https://login.microsoftonline.com`; other clouds have their own, such as `https://login.microsoftonline.us`.
    authority: Option<Url>,
    /// A PEM file of CA certificates that are trusted for the authority, instead of the platform's. The path is relative to this file.
    ca: Option<Text>,
    /// How far a token's times (`nbf`, `exp`) and the gateway's clock may differ. From `0ms` to `5m`, default `60s`.
    clock_skew: Option<Duration>,
    /// The algorithms that tokens may be signed with. Default `[RS256]`, which is what Entra uses.
    algorithms: Option<List<Algorithm>>,
    /// Which versions of access tokens are accepted. Default `[v1, v2]`: the API's registration decides which of them callers get.
    token_versions: Option<List<TokenVersion>>,
    /// Longest token that is looked at. From `1KiB` to `256KiB`, default `16KiB`.
    max_token_bytes: Option<Bytes>,
    /// How many verified tokens are remembered, so that their signatures are checked once. From 1 to 10000000, default 20000.
    #[schemars(range(min = 1, max = 10_000_000))]
    cached_tokens: Option<u32>,
    /// How often metadata and signing keys are fetched, a tenth more or less by chance. From `1m` to `1d`, default `1h`.
    refresh_every: Option<Duration>,
    /// Least time between two fetches that tokens with unknown key IDs cause, for each tenant and version. From `1s` to `1d`, default `1m`.
    unknown_key_interval: Option<Duration>,
    /// Longest that a request waits for signing keys that are being fetched; then the answer is 503. From `1ms` to `1m`, default `3s`.
    key_wait: Option<Duration>,
}

/// An algorithm that tokens may be signed with (RFC 7518).
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

/// A version of Entra's access tokens.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum TokenVersion {
    /// Version 1.0 (`ver`): the app stands in `appid`.
    V1,
    /// Version 2.0 (`ver`): the app stands in `azp`.
    V2,
}

/// Who reads secrets in Key Vault, and how often.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct KeyVault {
    /// Whose token is shown to Key Vault; it needs the role Key Vault Secrets User. Default: the system-assigned managed identity's.
    identity: Option<Reader>,
    /// How often each secret is read again, up to a tenth sooner by chance. From `1m` to `1d`, default `1h`.
    refresh_every: Option<Duration>,
    /// A PEM file of CA certificates that are trusted for Key Vault, instead of the platform's. The path is relative to this file. Changes take effect after a restart.
    ca: Option<Text>,
}

/// Who reads: one of `managedIdentity` and `workloadIdentity`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
struct Reader {
    /// A managed identity: `{}` for the system-assigned one, `{ clientId: … }` for another.
    managed_identity: Option<Assigned>,
    /// The identity that AKS federates with the pod's service account: `{}`.
    workload_identity: Option<Federated>,
}

/// Which managed identity. Without `clientId`, `objectId` and `resourceId`: the system-assigned one.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Assigned {
    /// The client ID of a user-assigned identity. In place of `objectId` and `resourceId`.
    client_id: Option<Guid>,
    /// The object ID of a user-assigned identity. In place of `clientId` and `resourceId`.
    object_id: Option<Guid>,
    /// The ARM ID, `/subscriptions/…`, of a user-assigned identity. In place of `clientId` and `objectId`.
    resource_id: Option<Word>,
}

/// Which workload identity. What is left out, AKS has put into the environment.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Federated {
    /// The tenant's ID. Default: `AZURE_TENANT_ID`.
    tenant_id: Option<Guid>,
    /// The identity's client ID. Default: `AZURE_CLIENT_ID`.
    client_id: Option<Guid>,
    /// The file of the service account's token. Default: `AZURE_FEDERATED_TOKEN_FILE`. The path is relative to this file.
    token_file: Option<Text>,
}

/// How URLs with keys in answers are sealed.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Seal {
    /// Where the sealing keys are read, each at least 32 characters on a line of its own: the first seals, all open, so that old URLs work while keys are rotated. All replicas need the same. Default: a random key, with which sealed URLs end with the process and no other replica can open them.
    keys: Option<List<SecretSource>>,
    /// How long a sealed URL can be followed. From `1m` to `90d`, default `1d`.
    lifetime: Option<Duration>,
}

/// Where signing keys are kept across a restart.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    /// The folder that signing keys are kept in, which the gateway alone may write. The path is relative to this file.
    folder: Text,
    /// How old kept keys may be to be used after a restart. From `1m` to `30d`, default `1d`.
    max_key_age: Option<Duration>,
}

/// How the gateway ends when the platform tells it to (SIGTERM).
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Drain {
    /// How long requests are still accepted while `/readyz` says that the gateway is not ready, so that others are sent elsewhere. From `0ms` to `1h`, default `5s`.
    delay: Option<Duration>,
    /// How long requests in flight may then take to end. From `0ms` to `1h`, default `30s`. The platform's grace period must be longer than both together.
    timeout: Option<Duration>,
}

/// What the gateway tells of itself, and to whom. Changes take effect after a restart, that of `fingerprintKey` at once.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Telemetry {
    /// What the gateway is called in traces, metrics and logs (`service.name`, `cloud_RoleName`). Default: `OTEL_SERVICE_NAME` of the environment, or else `portcullis`.
    service_name: Option<Text>,
    /// What else is said of it, by OpenTelemetry's names: `{ deployment.environment.name: production }`. Beside what `OTEL_RESOURCE_ATTRIBUTES` of the environment says. `service.instance.id` (`cloud_RoleInstance`) is the replica's name on its platform if it is absent, or else the machine's with the number of the process.
    resource: Option<BTreeMap<String, Text>>,
    /// The line that each request leaves: `json` (default), `human` or `off`, on standard output; or a file.
    request_log: Option<RequestLog>,
    /// A log of its own for decisions, each with what it was made by: `explain` and `replay` read it. `stdout` or a file. Default: none.
    decision_log: Option<DecisionLog>,
    /// Where the key is read that fingerprints of signatures and keys in callers' URLs, and hashes of callers, are made with, at least 32 characters: so the same key has the same fingerprint in every replica and after every restart. Default: a random key.
    fingerprint_key: Option<SecretSource>,
    /// Whether callers' addresses and principals are told as they are (`plain`, default) or by hashes alone (`hash`), made with `fingerprintKey`.
    privacy: Option<Privacy>,
    /// Which traces are recorded. Refusals always are.
    traces: Option<Traces>,
    /// How often metrics are sent. From `1s` to `1h`, default `1m`.
    metrics_interval: Option<Duration>,
    /// Where traces, metrics and logs are sent over OTLP. Default: nowhere.
    otlp: Option<Otlp>,
    /// An Application Insights resource that requests, dependencies, exceptions and metrics are sent to, without a collector. Default: none.
    azure_monitor: Option<AzureMonitor>,
}

/// The line that each request leaves.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum RequestLog {
    /// On standard output.
    Form(LogForm),
    /// In a file.
    File(RequestLogFile),
}

/// The form of the line that each request leaves.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum LogForm {
    /// A JSON object a line.
    Json,
    /// A line for people to read, while trying things out.
    Human,
    /// Nothing is written.
    Off,
}

/// A file for the lines of requests.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct RequestLogFile {
    /// `json` (default) or `human`.
    form: Option<LogFileForm>,
    /// The file that lines are appended to. The path is relative to this file.
    path: Text,
    /// When the file is put aside; a link, a pipe or a device cannot be. Default: never; a file that something else moves away is made anew.
    rotate: Option<Rotate>,
    /// How late at most a line is on the disk, through a crash of the machine too. From `1ms` to `1d`. Default: when the kernel sees fit. A crash of the gateway alone loses what was not written yet: 50 ms at most, where the disk keeps up.
    sync_within: Option<Duration>,
}

/// The form of a line in a file.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum LogFileForm {
    /// A JSON object a line.
    Json,
    /// A line for people to read.
    Human,
}

/// Where each decision is recorded.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum DecisionLog {
    /// On standard output.
    Stdout(Stdout),
    /// In a file.
    File(DecisionLogFile),
}

/// Standard output.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Stdout {
    /// A JSON object a line.
    Stdout,
}

/// The file in which each decision is recorded.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct DecisionLogFile {
    /// The file that decisions are appended to, relative to this file; or `stdout`.
    path: Text,
    /// What happens when 16,384 decisions wait to be written, or 16 MiB of a worker's: `drop` (default) drops and counts those beyond; `block`, for audits, lets requests wait until there is room, up to 5 s, and refuses them then.
    when_full: Option<WhenFull>,
    /// When the file is put aside; a link, a pipe or a device cannot be. Default: never; a file that something else moves away is made anew.
    rotate: Option<Rotate>,
    /// How late at most a line is on the disk, through a crash of the machine too. From `1ms` to `1d`. Default: when the kernel sees fit. A crash of the gateway alone loses what was not written yet: 50 ms at most, where the disk keeps up.
    sync_within: Option<Duration>,
}

/// What happens when too many decisions wait to be written.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum WhenFull {
    /// Those beyond are dropped and counted.
    Drop,
    /// Requests wait for room.
    Block,
}

/// When a file is put aside.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Rotate {
    /// The size from which on it is: renamed to `.1`, and those that are there to the next number. From `64KiB` to `65536MiB`.
    size: Bytes,
    /// How many of those are kept. Default 10.
    #[schemars(range(min = 0, max = 1000))]
    keep: Option<u32>,
}

/// How callers are told.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Privacy {
    /// As they are.
    Plain,
    /// By hashes.
    Hash,
}

/// Which traces are recorded.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Traces {
    /// The part of the traces that begin here. From `0` to `1`, default `1`.
    #[schemars(range(min = 0.0, max = 1.0))]
    ratio: Option<f64>,
    /// What a caller's `traceparent` counts for: `follow` (default) continues its trace and records it if the caller does; `continue` continues it and records it by `ratio`; `restart` begins another, where callers are not to be trusted with it.
    parent: Option<TraceParent>,
}

/// What a caller's `traceparent` counts for.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum TraceParent {
    /// It is continued, and recorded if the caller says so.
    Follow,
    /// It is continued, and recorded by `ratio`.
    Continue,
    /// For nothing.
    Restart,
}

/// A collector that speaks OTLP.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Otlp {
    /// Its URL, without `/v1/traces`. `http://` goes to this machine alone, unless `insecure` is written.
    endpoint: Url,
    /// `http/protobuf` (default) or `grpc`.
    protocol: Option<OtlpProtocol>,
    /// Fields of each request, and where their values are read.
    headers: Option<BTreeMap<String, SecretSource>>,
    /// PEM file of CA certificates to believe for it, instead of the platform's.
    ca: Option<Text>,
    /// `true`: plain `http://` may go to another machine, such as an agent of the node. Default `false`.
    insecure: Option<bool>,
    /// `none` (default) or `gzip`.
    compression: Option<Compression>,
    /// Longest time for one request. From `1ms` to `1m`, default `10s`.
    timeout: Option<Duration>,
    /// What is sent: any of `traces`, `metrics` and `logs`. Default: all.
    #[schemars(length(min = 1))]
    signals: Option<Vec<Signal>>,
    /// `cumulative` (default) or `delta`.
    temporality: Option<Temporality>,
    /// Which decisions are sent as log records, beside the spans of requests: `denied` (default), `all` or `none`.
    decisions: Option<SentDecisions>,
}

/// How OTLP is spoken.
#[derive(JsonSchema)]
enum OtlpProtocol {
    /// Over HTTP/1.1, port 4318 mostly.
    #[schemars(rename = "http/protobuf")]
    Http,
    /// Over HTTP/2, port 4317 mostly.
    #[schemars(rename = "grpc")]
    Grpc,
}

/// How requests are compressed.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
}

/// What is sent over OTLP.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Signal {
    /// Spans of requests.
    Traces,
    /// Metrics.
    Metrics,
    /// Decisions and events.
    Logs,
}

/// What sums are told since.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Temporality {
    /// The start.
    Cumulative,
    /// They were told before.
    Delta,
}

/// Which decisions are sent, each as a record of its own.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum SentDecisions {
    /// All.
    All,
    /// Refusals.
    Denied,
    /// None.
    None,
}

/// An Application Insights resource.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct AzureMonitor {
    /// Where its connection string is read, as the portal shows it.
    connection_string: SecretSource,
    /// Which decisions are sent as custom events, beside the requests: `denied` (default), `all` or `none`.
    decisions: Option<SentDecisions>,
}

/// What everybody is held to, how limits are told, and where they are counted.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    /// What answers of routes with limits say of them: `ietf` (default), `legacy` or `off`. `Retry-After` stands on every 429.
    headers: Option<LimitHeaders>,
    /// How often an address may call, whoever calls from it: asked before anything of the request is looked at. Default: no limit.
    before_authentication: Option<AddressLimit>,
    /// How many requests are under way at once, in all. From 80 in 100 on, callers are refused who have not proved who they are by a token that is known already, from 90 on those with more than their share. The answer is 503. Default: no limit.
    #[schemars(range(min = 1, max = 10_000_000))]
    max_requests: Option<u64>,
    /// Where the counts are kept: `local` (default), in the process, or `{ redis: rediss://… }`, in one Redis for all replicas. Changes take effect after a restart.
    store: Option<Store>,
    /// What holds while Redis cannot be reached. Default `localShare`. Changes take effect after a restart.
    on_store_failure: Option<OnStoreFailure>,
}

/// What answers say of limits.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum LimitHeaders {
    /// `RateLimit` and `RateLimit-Policy`, as the IETF drafts them.
    Ietf,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`, in seconds, of the limit with the least left.
    Legacy,
    /// Nothing.
    Off,
}

/// How often an address may call. An IPv6 /64 is one address.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct AddressLimit {
    /// How many requests are let through in each `per`, evenly. At least 1. Must be written.
    #[schemars(range(min = 1))]
    requests: u32,
    /// The period, from `1s` to `1d`. Must be written.
    per: Duration,
    /// How many may come at once. Default: as many as `requests`.
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What counts: `requests` (default), or `failures` alone (401, and 400 for what cannot be read), so that who proves who they are is not held up by others at their address until these have used it up.
    count: Option<Counted>,
}

/// What counts for an address.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Counted {
    /// Every request.
    Requests,
    /// Requests whose caller does not prove who they are: 401.
    Failures,
}

/// Where counts are kept: in the process, or in Redis.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Store {
    /// The word `local`.
    Local(Local),
    /// In one Redis for all replicas.
    Shared(SharedStore),
}

/// The word `local`.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Local {
    /// In the process: each replica counts by itself, so two let twice as much through.
    Local,
}

/// In one Redis for all replicas.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct SharedStore {
    /// The Redis: its URL alone, or a mapping with more about it.
    redis: Redis,
}

/// A Redis: its URL alone, or a mapping with more about it.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Redis {
    /// Its URL.
    Url(RedisUrl),
    /// Its URL, and more.
    Full(Box<RedisStore>),
}

/// A Redis, how it is reached and how the gateway signs in there.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct RedisStore {
    /// Where it is: `rediss://contoso.redis.azure.net:10000`. `redis://`, in the clear, goes to this machine alone. Of a cluster, any of its nodes. No user or password stands in it.
    url: RedisUrl,
    /// Whether it is a cluster. Default `false`.
    cluster: Option<bool>,
    /// A PEM file of CA certificates that are trusted for it, instead of the platform's. The path is relative to this file.
    ca: Option<Text>,
    /// What all keys in it begin with: gateways with the same prefix share their limits. Without braces. Default `portcullis`.
    prefix: Option<RedisPrefix>,
    /// How long a request waits for it. From `1ms` to `5s`, default `100ms`.
    timeout: Option<Duration>,
    /// Whose Entra token the gateway signs in with, at Azure's Redis. In place of `password`.
    identity: Option<Reader>,
    /// The user. Default: the identity's object ID, or with a password the default user.
    user: Option<Word>,
    /// Where the password is read: `{ keyVault: … }`, `{ file: … }` or `{ env: … }`. In place of `identity`.
    password: Option<SecretSource>,
}

/// What holds while Redis cannot be reached.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
enum OnStoreFailure {
    /// Each replica admits its part of the limit: the rate divided by the replicas that it knew of last.
    LocalShare,
    /// Everything is admitted, and counted afterwards.
    Allow,
    /// Nothing is admitted where a limit stands.
    Deny,
}
