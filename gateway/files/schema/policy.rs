//! What may be written in a policy file.
#![allow(dead_code, reason = "only their schemas are asked for")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::words::{
    AuthStrength, Bytes, DayOrInstant, Duration, Guid, Host, Instant, KeptParameter, LimitName,
    LimitWord, Method, Mode, Network, Path, Percent, RetryOn, Sas, Size, Text, TokenKind, Upgrade,
    Url, Window, Word,
};

type Names<T> = BTreeMap<String, T>;

/// A policy: who may call what. All files of a folder are read as one.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    title = "Portcullis policy"
)]
pub(super) struct Policy {
    /// Names for tenants, each with its tenant ID: `contoso: 11111111-1111-1111-1111-111111111111`. Tokens of other tenants are refused. A name alone lets nobody in: rules do.
    tenants: Option<Names<Guid>>,
    /// Names for client applications, each with its application (client) ID, for `apps` in rules. v1 tokens hold it as `appid`, v2 tokens as `azp`.
    apps: Option<Names<Guid>>,
    /// Names for users and service principals, each with its object ID (`oid`), for `principals` in rules. That of an app is its enterprise application's, not its registration's.
    principals: Option<Names<Guid>>,
    /// Names for groups, each with its object ID, for `groups` in rules. Tokens list groups only if the API's registration asks for the claim.
    groups: Option<Names<Guid>>,
    /// Names for networks, each with one in CIDR notation or a list of them, for `from` in rules: `office: 203.0.113.0/24`.
    networks: Option<Names<Networks>>,
    /// Whom a token must be meant for: its `aud` is one of these, compared exactly. Needed as soon as one route is not public. v1 tokens hold what the caller asked for, such as `api://contoso-gateway`; v2 tokens hold the API's application ID.
    audiences: Option<List<Word>>,
    /// What holds for routes and rules that do not say otherwise. Stands in one file of a folder only.
    defaults: Option<Defaults>,
    /// What requests are forwarded to, each under the name that routes call it by.
    backends: Option<Names<Backend>>,
    /// What is published, each route under a name of its own, which logs and counters show. A request that no route takes is refused.
    routes: Option<Names<Route>>,
}

/// A list with something in it.
pub(super) struct List<T>(T);

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<T>() })
    }
}

/// One network in CIDR notation, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Networks {
    /// One network, such as `203.0.113.0/24` or `2001:db8::/32`, or one address.
    One(Network),
    /// Several networks, any of which counts.
    Several(List<Network>),
}

/// What holds for routes and rules that do not say otherwise.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Defaults {
    /// The `mode` of routes that have none: `enforce` (default), or `reportOnly` while a policy is on trial.
    mode: Option<Mode>,
    /// Who answers for the routes that name nobody: `identity-team@contoso.example`.
    owner: Option<Text>,
    /// The `tokenKinds` of allow rules that have none. Default: tokens of any kind.
    token_kinds: Option<List<TokenKind>>,
    /// The `rateLimit` of routes that have none. Each route counts by itself. Default: no limit.
    rate_limit: Option<OneOrSeveral<RateLimit>>,
}

/// What requests are forwarded to. One of `function`, `logicApp` and `http` says where it is, `credential` what the gateway presents there.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    extend("oneOf" = [{ "required": ["function"] }, { "required": ["logicApp"] }, { "required": ["http"] }])
)]
struct Backend {
    /// The URL of a Functions app, without a query: `https://contoso-guests.azurewebsites.net`. The caller's path is appended, or the route's `rewrite`. A list where several apps do the same.
    function: Option<Urls>,
    /// The URL of a Logic App's HTTP trigger, without `sp`, `sv` and `sig`. Called as it stands: nothing is appended but the route's `rewrite`, if there is one. If it names no `api-version`, one is added.
    logic_app: Option<Url>,
    /// The URL of anything else that speaks HTTP, without a query. The caller's path is appended, or the route's `rewrite`. Plain `http://` is for this machine alone: `http://127.0.0.1:7071`. A list where several endpoints do the same: each request goes to the less busy of two.
    http: Option<Urls>,
    /// What the gateway presents in place of the caller's token: `{ managedIdentity: … }`, `{ workloadIdentity: … }`, `{ app: … }`, `{ functionKey: … }`, `{ header: … }` or `{ sas: … }`. `none` must be written out: no backend is called bare by accident.
    credential: Credential,
    /// A PEM file of CA certificates that are trusted for this backend, instead of the platform's. The path is relative to this file.
    ca: Option<Text>,
    /// What the backend is spoken to in: `http1` (default) or `http2`, which gRPC needs.
    protocol: Option<Protocol>,
    /// How long the gateway waits for the backend: to connect, for the answer, and within it.
    timeouts: Option<Timeouts>,
    /// How many requests are under way to the backend at once: `{ requests: 100 }`. Beyond it requests wait for their turn, and are then refused with 503. Default: no limit.
    concurrency: Option<SharedConcurrency>,
    /// Statuses of answers that count as a failure of the backend, for `ejection` and `breaker`. Default `[502, 503, 504]`.
    failure_statuses: Option<List<Status>>,
    /// When one of several endpoints is left out for a while. Always on where there are several.
    ejection: Option<Ejection>,
    /// When nothing is sent to the backend for a while, and callers get 503 `backend-open`. Default: never.
    breaker: Option<Breaker>,
    /// What is sent again when it failed: only what was never sent, or may be repeated (GET, HEAD, OPTIONS, PUT and DELETE without a body). Default: nothing that was sent.
    retry: Option<Retry>,
    /// How the endpoints are asked, again and again, whether they are well. Not for a Logic App. Default: not at all.
    health: Option<Health>,
    /// How long a request waits while the backend starts, from `1s` to `10m`: while connections are refused, or, for what may be repeated, while the answer is 502 or 503. Default: not at all.
    cold_start: Option<Duration>,
}

/// One URL, or a list of them.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Urls {
    /// One URL.
    One(Url),
    /// Several URLs that differ in host and port alone, any of which will do.
    Several(List<Url>),
}

/// A status of an answer.
struct Status;

impl JsonSchema for Status {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 400, "maximum": 599 })
    }
}

/// A status of an answer, or a range of them.
struct StatusRange;

impl JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 100,
            "maximum": 599,
            "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$",
        })
    }
}

/// When one of several endpoints is left out for a while. Never more than half of them are.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Ejection {
    /// So many failures in a row. From 1 to 10000, default 5.
    #[schemars(range(min = 1, max = 10_000))]
    consecutive: Option<u32>,
    /// For how long at first; twice as long each time. From `1ms` to `1h`, default `5s`.
    time: Option<Duration>,
    /// The longest time. From `1ms` to `1h`, default `60s`.
    max_time: Option<Duration>,
}

/// When nothing is sent to the backend for a while. An empty mapping takes all defaults.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Breaker {
    /// So many failures in a row open it. From 1 to 10000, default 10.
    #[schemars(range(min = 1, max = 10_000))]
    failures: Option<u32>,
    /// Or this part of failures among the requests of `window`. Default `50%`.
    failure_rate: Option<Percent>,
    /// A request is slow if its answer begins later. From `1ms` to `1h`, default `10s`.
    slow_after: Option<Duration>,
    /// Or this part of slow requests. Default `80%`.
    slow_rate: Option<Percent>,
    /// How far back the parts are reckoned. From `1s` to `1h`, default `10s`.
    window: Option<Duration>,
    /// From how many requests in `window` on. From 1 to 10000, default 20.
    #[schemars(range(min = 1, max = 10_000))]
    minimum: Option<u32>,
    /// How long nothing is sent. From `1ms` to `1h`, default `30s`.
    open: Option<Duration>,
    /// How many requests are sent then to try, at once at most; once so many have succeeded all is as before. From 1 to 1000, default 3.
    #[schemars(range(min = 1, max = 1_000))]
    probes: Option<u32>,
}

/// What is sent again when it failed. An empty mapping takes all defaults.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Retry {
    /// How often a request is tried in all. From 2 to 10, default 2.
    #[schemars(range(min = 2, max = 10))]
    attempts: Option<u32>,
    /// After what. Default: all but `status429`.
    on: Option<List<RetryOn>>,
    /// The longest wait before the second attempt; twice as long before each further one. The wait itself is random. From `1ms` to `1h`, default `50ms`.
    backoff: Option<Duration>,
    /// The longest wait of all, also where the backend asks for one by `Retry-After`. From `1ms` to `1h`, default `1s`.
    max_backoff: Option<Duration>,
    /// How many of the requests of the last 10 s may be sent again, beside three a second. Default `20%`.
    budget: Option<Percent>,
}

/// How the endpoints are asked whether they are well.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Health {
    /// The path that is asked for by GET, as it stands: `/healthz`.
    path: Word,
    /// How often. From `1s` to `1h`, default `10s`.
    every: Option<Duration>,
    /// How long the answer may take. From `1ms` to `1m`, default `2s`.
    timeout: Option<Duration>,
    /// So many good answers in a row make an endpoint well again. From 1 to 100, default 2.
    #[schemars(range(min = 1, max = 100))]
    healthy: Option<u32>,
    /// So many bad answers in a row, or none, make it unwell. From 1 to 100, default 3.
    #[schemars(range(min = 1, max = 100))]
    unhealthy: Option<u32>,
    /// Which answers are good: a status or a range of them. Default `200-399`.
    status: Option<StatusRange>,
    /// `true`: the backend's credential goes along. Default `false`: the path has to be open to anybody who reaches the endpoint.
    credential: Option<bool>,
}

/// The protocol that a backend is spoken to in.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Protocol {
    /// The backend is spoken to in HTTP/1.1.
    Http1,
    /// The backend is spoken to in HTTP/2, which gRPC needs.
    Http2,
}

/// How long the gateway waits for the backend, each from `1ms` to `1h`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Timeouts {
    /// Longest time to connect: DNS and TCP. From `1ms` to `1h`, default `5s`.
    connect: Option<Duration>,
    /// Longest time for the TLS handshake. From `1ms` to `1h`, default `5s`.
    tls: Option<Duration>,
    /// Longest time from the end of the request until the answer begins; an upload that moves does not count. From `1ms` to `1h`, default `225s` for `function`, `120s` for `logicApp`, `100s` for `http`.
    first_byte: Option<Duration>,
    /// Longest time between two parts of the answer's body. From `1ms` to `1h`, default `60s`.
    idle: Option<Duration>,
    /// Longest time from sending the request to the last byte of the answer, all attempts together. From `1ms` to `1h`, default: no limit.
    total: Option<Duration>,
}

/// What of the backend's `timeouts` is otherwise on this route, each from `1ms` to `1h`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct RouteTimeouts {
    /// Longest time from the end of the request until the answer begins. From `1ms` to `1h`, default: the backend's.
    first_byte: Option<Duration>,
    /// Longest time between two parts of the answer's body. From `1ms` to `1h`, default: the backend's.
    idle: Option<Duration>,
    /// Longest time from sending the request to the last byte of the answer. From `1ms` to `1h`, default: the backend's.
    total: Option<Duration>,
}

/// What the gateway presents to a backend. A secret never stands here itself, only where it is read.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Credential {
    /// The word `none`: the backend is called without a credential.
    None(NoCredential),
    /// A token of the gateway's own, a function key, a secret in a header, or a signature.
    Some(Presented),
}

/// The word `none`: no credential.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum NoCredential {
    /// The backend is called without a credential. Whoever else can reach it can call it too.
    None,
}

/// What the gateway presents: one of `managedIdentity`, `workloadIdentity`, `app`, `functionKey`, `header` and `sas`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
struct Presented {
    /// An Entra token of the gateway's managed identity, sent as `Authorization: Bearer`: `{ resource: api://contoso-guests }`.
    managed_identity: Option<ManagedIdentity>,
    /// The same of the identity that AKS federates with the pod's service account: `{ resource: api://contoso-guests }`.
    workload_identity: Option<WorkloadIdentity>,
    /// The same of an app registration, for tenants where no managed identity is let in: it proves itself by a certificate or a secret.
    app: Option<App>,
    /// A function key, sent as `x-functions-key`. Says where it is read: `{ keyVault: … }`, `{ file: … }` or `{ env: … }`.
    function_key: Option<SecretSource>,
    /// A secret in a header that the backend asks for: `{ name: x-api-key, value: { keyVault: … } }`.
    header: Option<Header>,
    /// The SAS signature of a Logic App, for a workflow that takes no token yet: where its whole SAS URL is read, `{ keyVault: … }`. Callers never see it.
    sas: Option<SecretSource>,
}

/// Whose token is presented, and for what. Without `clientId`, `objectId` and `resourceId`: the system-assigned identity's.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct ManagedIdentity {
    /// Whom the token is for, exactly as the backend compares it: `api://contoso-guests`. A resource, not a scope: without `/.default`.
    resource: Word,
    /// The client ID of the user-assigned identity whose token is presented. In place of `objectId` and `resourceId`.
    client_id: Option<Guid>,
    /// The object ID of the user-assigned identity whose token is presented. In place of `clientId` and `resourceId`.
    object_id: Option<Guid>,
    /// The ARM ID, `/subscriptions/…`, of the user-assigned identity whose token is presented. In place of `clientId` and `objectId`.
    resource_id: Option<Word>,
}

/// Whose token is presented, and for what: that of the identity which AKS federates with the pod's service account.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct WorkloadIdentity {
    /// Whom the token is for, exactly as the backend compares it: `api://contoso-guests`. A resource, not a scope: without `/.default`.
    resource: Word,
    /// The tenant's ID. Default: `AZURE_TENANT_ID`, which AKS sets.
    tenant_id: Option<Guid>,
    /// The identity's client ID. Default: `AZURE_CLIENT_ID`, which AKS sets.
    client_id: Option<Guid>,
    /// The file of the service account's token, read with each fetch. Default: `AZURE_FEDERATED_TOKEN_FILE`, which AKS sets. The path is relative to this file.
    token_file: Option<Text>,
}

/// An app registration whose token is presented, and how it proves itself: by `certificate` or by `secret`.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    extend("oneOf" = [{ "required": ["certificate"] }, { "required": ["secret"] }])
)]
struct App {
    /// Whom the token is for, exactly as the backend compares it: `api://contoso-guests`. A resource, not a scope: without `/.default`.
    resource: Word,
    /// The tenant's ID.
    tenant_id: Guid,
    /// The app's client ID.
    client_id: Guid,
    /// Where the certificate and its RSA key are read, PEM or PFX without a password: `{ keyVault: … }`, the secret of the certificate's name.
    certificate: Option<SecretSource>,
    /// Where the client secret is read: `{ keyVault: … }`.
    secret: Option<SecretSource>,
}

/// Where a secret is read: in Key Vault (`keyVault`), in the environment variable `env` or in the file `file`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct SecretSource {
    /// The identifier of the secret in Key Vault: `https://contoso.vault.azure.net/secrets/guest-api-key`, or with a version behind it. Read with the identity that gateway.yaml names, and again and again.
    key_vault: Option<Url>,
    /// The name of the environment variable that holds the secret: `GUESTS_KEY`. It cannot change while the gateway runs; a secret that is rotated belongs in a `file`.
    env: Option<Word>,
    /// The file that holds the secret and nothing else, but for a line break at its end. Read again when it changes. The path is relative to this file.
    file: Option<Text>,
}

/// A secret in a header that the backend asks for.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    /// The name of the header, such as `x-api-key`. Not one that the gateway writes itself, such as `x-forwarded-for`, or that belongs to the connection.
    name: Word,
    /// Where the secret is read: `{ keyVault: … }`, `{ file: … }` or `{ env: … }`.
    value: SecretSource,
}

/// A route: which requests, who may send them, and where they go.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Route {
    /// Which requests take the route: `{ methods: [GET], path: /guests }`. Two routes that would take the same request are an error.
    r#match: Match,
    /// What the requests are forwarded to: a name from `backends`.
    backend: Word,
    /// Who answers for the route: `identity-team@contoso.example`. Default: `owner` of `defaults`.
    owner: Option<Text>,
    /// Why the route is there, in a sentence for those who review it.
    reason: Option<Text>,
    /// `enforce`, or `reportOnly`: whatever the rules refuse is let through, callers without a token among it, and recorded and counted. Default: `mode` of `defaults`, or else `enforce`.
    mode: Option<Mode>,
    /// `true`: callers are let in without a token, and tokens are not looked at. Allow rules say nothing then; deny rules may ask where callers connect from. Default `false`.
    public: Option<bool>,
    /// Whom tokens must be meant for on this route (`aud`), compared exactly. They take the place of the policy's `audiences`.
    audiences: Option<List<Word>>,
    /// Rules, any of which lets a caller in unless a deny rule holds. All that a rule says must hold. Without any, nobody is let in.
    allow: Option<List<AllowRule>>,
    /// Rules, any of which keeps a caller out, whatever the allow rules say. All that a rule says must hold.
    deny: Option<List<Rule>>,
    /// How often callers are let through: `{ requests: 60, per: 1m, by: [app] }`, or a list of such limits, all of which hold. Beyond it the answer is 429. Default: `rateLimit` of `defaults`, or else no limit.
    rate_limit: Option<OneOrSeveral<RateLimit>>,
    /// How much callers have in a day or month: `{ requests: 10000, per: day, by: [app] }`, or a list of quotas, all of which hold. Beyond it the answer is 429. Default: as much as they like.
    quota: Option<OneOrSeveral<Quota>>,
    /// How many requests are under way at once: `{ requests: 20, by: [app] }`, or a list of such limits, all of which hold. Beyond it requests wait for their turn, and are then refused with 429. Default: no limit.
    concurrency: Option<OneOrSeveral<Concurrency>>,
    /// The path at the backend, in place of the caller's. It may use the parameters of `match.path`: `/api/guests/{rest}`.
    rewrite: Option<Path>,
    /// Parameters of the query that are forwarded although they look like keys, since the backend means something else by them. Otherwise `code`, `sp`, `sv` and `se` are removed; `sig` always is.
    keep_parameters: Option<List<KeptParameter>>,
    /// What becomes of a request with a SAS signature or function key in its URL: `strip` (default) removes it and goes on, `reject` refuses the request, once the caller is known to be let in.
    sas: Option<Sas>,
    /// From then on `sas` is `reject`: a day, which begins in UTC, such as `2027-03-01`, or a point in time. `sas-report` shows who still brings keys.
    reject_from: Option<DayOrInstant>,
    /// `true`: URLs with keys in the bodies of answers are sealed, too, as they are in header fields: Durable Functions' `statusQueryGetUri` and its kin. Answers are then asked for uncompressed. `false`: in none. Default: in answers of 202, from a `function` or `logicApp`.
    seal_body: Option<bool>,
    /// Longest body of a request; a longer one is refused with 413. From `0` to `1048576MiB`. Default `100MiB` for a `function` or `logicApp`, as much as Azure takes; else any length.
    max_body: Option<Bytes>,
    /// What else than HTTP may be spoken on a connection, by the name in `Upgrade`: `[websocket]`. The caller is let in like any other, and the connection closed once its token has expired or the policy would not let it in any more. Over HTTP/1.1 alone, on both sides. Default: nothing.
    upgrades: Option<List<Upgrade>>,
    /// Claims of the caller's token that the backend gets as headers of their own: `{ x-caller-department: department }`. Nothing that a caller sends under such a name arrives.
    claim_headers: Option<ClaimHeaders>,
    /// `true`: the backend gets the caller's own token. Whoever runs it can then call in the caller's name whatever else takes that token. Default `false`.
    forward_caller_token: Option<bool>,
    /// How long the gateway waits for answers on this route, in place of the backend's `timeouts`: `{ firstByte: 30s }`.
    timeouts: Option<RouteTimeouts>,
}

/// Headers of your own, which begin with `x-`, and the claims that they carry.
struct ClaimHeaders;

impl JsonSchema for ClaimHeaders {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimHeaders".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": "^[xX]-[A-Za-z0-9_.-]+$" },
            "additionalProperties": generator.subschema_for::<Word>(),
        })
    }
}

/// Which requests take the route, by host, method and path.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Match {
    /// The host: exact, such as `api.contoso.com`, or `*.contoso.com` for all below it, at any depth. Without scheme and port. Default: any host.
    host: Option<Host>,
    /// The methods, each written out: `[GET, HEAD]`. `GET` does not imply `HEAD`.
    methods: List<Method>,
    /// The path, as callers send it. `{id}` takes one segment or a part of one, `{*rest}` at the end all that follows: `/guests/{id}`, `/guests/{*rest}`.
    path: Path,
}

/// A rule that must name tenants.
struct AllowRule;

impl JsonSchema for AllowRule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AllowRule".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<Rule>();
        schema.insert("required".to_owned(), serde_json::json!(["tenants"]));
        schema
    }
}

/// A rule: it holds when all that it says holds. What it does not say does not matter.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    /// The token's tenant (`tid`) is one of these, by names from `tenants`. Must be written in an allow rule.
    tenants: Option<List<Word>>,
    /// The token's app (`appid`, `azp`) is one of these, by names from `apps`. Users' tokens carry the app's ID too: `tokenKinds: [appOnly]` asks for the app itself. Default: any app.
    apps: Option<List<Word>>,
    /// The token's user or service principal (`oid`) is one of these, by names from `principals`.
    principals: Option<List<Word>>,
    /// Whether the app calls by itself (`appOnly`) or for a user (`delegated`): any of these. Default in an allow rule: `tokenKinds` of `defaults`, or else any kind.
    token_kinds: Option<List<TokenKind>>,
    /// How the app proved itself to Entra when it got the token: any of `public` (not at all), `secret` and `certificate`.
    auth_strength: Option<List<AuthStrength>>,
    /// The token has these roles (`roles`), compared exactly: at least one of a list, or every one of `{ allOf: [Guests.Read, Guests.Audit] }`.
    roles: Option<Wanted>,
    /// The token has these scopes (`scp`), compared exactly: at least one of a list, or every one of `{ allOf: [Guests.Read, Guests.Audit] }`. Only tokens that an app holds for a user have any.
    scopes: Option<Wanted>,
    /// The token lists these groups, by names from `groups`: at least one of a list, or every one of `{ allOf: [staff, managers] }`. If there are more groups than it lists, an allow rule does not hold and a deny rule does.
    groups: Option<Wanted>,
    /// The caller connects from one of these, by names from `networks` or in CIDR notation: `[office, 203.0.113.0/24]`.
    from: Option<List<Word>>,
    /// A condition in CEL over `token`, `request` and `connection` that must be true: `'c3' in token.acrs`. If what it reads is not there, an allow rule does not hold and a deny rule does.
    when: Option<Text>,
    /// `enforce` (default), or `reportOnly`: the rule lets nobody in and keeps nobody out, and where it would have made a difference is recorded and counted.
    mode: Option<Mode>,
    /// The rule holds from then on: date, time and offset, such as `2027-01-01T00:00:00Z`. Default: always.
    not_before: Option<Instant>,
    /// The rule holds no more from then on: date, time and offset, such as `2027-06-30T22:00:00Z`. `check` warns 30 days ahead and names the `owner`. Default: never.
    expires: Option<Instant>,
    /// Who answers for the rule: `partner-desk@contoso.example`.
    owner: Option<Text>,
    /// Why the rule is there, in a sentence for those who review it. `check` takes a rule with a reason for one that was thought about.
    reason: Option<Text>,
}

/// What the token must have: at least one of a list, or what `anyOf` and `allOf` say.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Wanted {
    /// The token has at least one of these.
    Any(List<Word>),
    /// The token has at least one of `anyOf`, and every one of `allOf`.
    Both(Both),
}

/// The token has at least one of `anyOf`, and every one of `allOf`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
struct Both {
    /// The token has at least one of these.
    any_of: Option<List<Word>>,
    /// The token has every one of these.
    all_of: Option<List<Word>>,
}

/// One, or a list of several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum OneOrSeveral<T> {
    /// One.
    One(T),
    /// Several, all of which hold.
    Several(List<T>),
}

/// How often callers are let through: evenly, after a burst. Beyond it the answer is 429 with `Retry-After`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct RateLimit {
    /// What the limit is called in answers, logs and metrics. Must be written where a route has several. Default: `route`.
    name: Option<LimitName>,
    /// How many requests are let through in each `per`, evenly. At least 1.
    #[schemars(range(min = 1))]
    requests: u32,
    /// The period in which so many `requests` are let through, from `1s` to `1d`: `1m`.
    per: Duration,
    /// How many requests may come at once before they are let through evenly. At least 1. Default: as many as `requests`.
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What has a count of its own: with `[tenant, app]` each app of each tenant, with `[route]` all callers together.
    by: List<LimitKey>,
    /// As how many requests a request of a method counts: `{ POST: 5 }`. Default: as one.
    cost: Option<Costs>,
    /// `enforce` (default), or `reportOnly`: what the limit would refuse is let through, recorded and counted.
    mode: Option<Mode>,
}

/// How much callers have in a day or month of the calendar, in UTC. Beyond it the answer is 429 with `Retry-After`.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    extend("oneOf" = [{ "required": ["requests"] }, { "required": ["bytes"] }])
)]
struct Quota {
    /// What the quota is called in answers, logs and metrics. Must be written where a route has several limits. Default: `quota`.
    name: Option<LimitName>,
    /// How many requests, at least 1.
    #[schemars(range(min = 1))]
    requests: Option<u64>,
    /// How many bytes of the bodies of requests and answers: `10GiB`. They count when a request is over; the one that exceeds the quota is not cut off.
    bytes: Option<Size>,
    /// The window, which begins anew for all at once: `day` or `month`, in UTC.
    per: Window,
    /// What has a count of its own: with `[app]` each app, with `[route]` all callers together.
    by: List<LimitKey>,
    /// As how many requests a request of a method counts: `{ POST: 5 }`. Default: as one.
    cost: Option<Costs>,
    /// `enforce` (default), or `reportOnly`: what the quota would refuse is let through, recorded and counted.
    mode: Option<Mode>,
}

/// How many requests are under way at once, in each gateway by itself.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Concurrency {
    /// How many at once, at least 1.
    #[schemars(range(min = 1))]
    requests: u32,
    /// What has a count of its own: with `[app]` each app. Default: all callers of the route share one.
    by: Option<List<LimitKey>>,
    /// How long a request waits for its turn, to `1m`; `0s`: not at all. Default `1s`.
    wait: Option<Duration>,
    /// How many requests wait at once, those of all callers together. When it is full, the caller with the most waiting gives way. Default 100.
    #[schemars(range(min = 1))]
    queue: Option<u32>,
    /// The limit follows how soon answers begin: `{ least: 5 }`. Default: it stays.
    adaptive: Option<Adaptive>,
}

/// How many requests are under way to a backend at once, from each gateway by itself.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct SharedConcurrency {
    /// How many at once, at least 1.
    #[schemars(range(min = 1))]
    requests: u32,
    /// How long a request waits for its turn, to `1m`; `0s`: not at all. Default `1s`.
    wait: Option<Duration>,
    /// How many requests wait at once, those of all callers together. When it is full, the caller with the most waiting gives way. Default 100.
    #[schemars(range(min = 1))]
    queue: Option<u32>,
    /// The limit follows how soon answers begin: `{ least: 5 }`. Default: it stays.
    adaptive: Option<Adaptive>,
}

/// A limit that moves between `least` and `requests`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Adaptive {
    /// The limit never falls below it. Default 1.
    #[schemars(range(min = 1))]
    least: Option<u32>,
    /// While answers begin sooner than this, the limit grows by one at a time; when they do not, it falls by a tenth. Default: answers are compared with how soon they usually begin.
    latency: Option<Duration>,
}

/// What has a count of its own: a word, a claim or a header.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum LimitKey {
    /// One of the words.
    Word(LimitWord),
    /// Each value of a claim of the token: `{ claim: department }`. Tokens without it share one count.
    Claim(ByClaim),
    /// Each value of a header: `{ header: x-site }`. Callers write it as they like, so count by something else besides.
    Header(ByHeader),
}

/// Each value of a claim.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct ByClaim {
    /// The name of the claim.
    claim: Word,
}

/// Each value of a header.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct ByHeader {
    /// The name of the header. Not one that holds credentials.
    header: Word,
}

/// Methods, and as how many requests each counts.
struct Costs;

impl JsonSchema for Costs {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Costs".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": generator.subschema_for::<Method>(),
            "additionalProperties": { "type": "integer", "minimum": 1 },
        })
    }
}
