//! What may be written in a policy file.
#![allow(dead_code, reason = "only their schemas are asked for")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::words::{
    AuthStrength, Duration, Guid, Host, Instant, KeptParameter, LimitKey, Method, Mode, Network,
    Path, Text, TokenKind, Url, Word,
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
    /// Names for the tenants whose tokens count, by tenant ID. A name alone lets nobody in: rules do.
    tenants: Option<Names<Guid>>,
    /// Names for client applications, by application (client) ID: `appid` in v1 tokens, `azp` in v2 tokens.
    apps: Option<Names<Guid>>,
    /// Names for users and service principals, by object ID (`oid`).
    principals: Option<Names<Guid>>,
    /// Names for groups, by object ID.
    groups: Option<Names<Guid>>,
    /// Names for networks: one in CIDR notation, or a list of them.
    networks: Option<Names<Networks>>,
    /// Whom a token must be meant for, compared exactly: what callers request tokens for.
    audiences: Option<List<Word>>,
    /// What holds for routes that do not say otherwise. In one file of a folder.
    defaults: Option<Defaults>,
    /// What requests are forwarded to, by name.
    backends: Option<Names<Backend>>,
    /// What is published, by name.
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
enum Networks {
    /// One.
    One(Network),
    /// Several.
    Several(List<Network>),
}

/// What holds for routes that do not say otherwise.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Defaults {
    /// The `mode` of routes.
    mode: Option<Mode>,
    /// The `owner` of routes: who answers for them.
    owner: Option<Text>,
    /// The `tokenKinds` of allow rules.
    token_kinds: Option<List<TokenKind>>,
    /// The `rateLimit` of routes.
    rate_limit: Option<RateLimit>,
}

/// What requests are forwarded to: one of `function`, `logicApp` and `http`.
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    deny_unknown_fields,
    extend("oneOf" = [{ "required": ["function"] }, { "required": ["logicApp"] }, { "required": ["http"] }])
)]
struct Backend {
    /// The URL of a Functions app, without a query.
    function: Option<Url>,
    /// The URL of a Logic App's trigger, without `sp`, `sv` and `sig`. Called as it stands.
    logic_app: Option<Url>,
    /// The URL of anything else that speaks HTTP. Plain `http` for this machine alone.
    http: Option<Url>,
    /// What the gateway presents. `none` must be written out: no backend is called bare by accident.
    credential: Credential,
    /// A PEM file of CA certificates to believe for this backend, instead of the platform's.
    ca: Option<Text>,
    /// `http1` (default) or `http2`, which gRPC needs.
    protocol: Option<Protocol>,
    /// How long the gateway waits.
    timeouts: Option<Timeouts>,
}

/// The protocol that a backend is spoken to in.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// How long the gateway waits, each from 1ms to 1h.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Timeouts {
    /// For a connection: DNS, TCP and TLS. Default `5s`.
    connect: Option<Duration>,
    /// From the end of the request until the answer begins. Default `225s` for `function`, `120s` for `logicApp`, `100s` for `http`.
    first_byte: Option<Duration>,
    /// Between two parts of the answer's body. Default `60s`.
    idle: Option<Duration>,
}

/// What the gateway presents to a backend. Never a secret itself, only where it is read.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Credential {
    /// Nothing, and somebody wrote that down.
    None(NoCredential),
    /// A token, a key or a header.
    Some(Presented),
}

/// The word for no credential.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum NoCredential {
    /// Nothing is presented.
    None,
}

/// One of `managedIdentity`, `functionKey` and `header`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
struct Presented {
    /// An Entra token of the gateway's managed identity, as `Authorization: Bearer`.
    managed_identity: Option<ManagedIdentity>,
    /// A function key, as `x-functions-key`: where it is read.
    function_key: Option<SecretSource>,
    /// A secret in a header of the backend's own.
    header: Option<Header>,
}

/// A managed identity; without an ID the system-assigned one.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct ManagedIdentity {
    /// Whom the token is for, without `/.default`. Exactly as the backend compares it.
    resource: Word,
    /// A user-assigned identity by its client ID.
    client_id: Option<Guid>,
    /// A user-assigned identity by its object ID.
    object_id: Option<Guid>,
    /// A user-assigned identity by its ARM ID, `/subscriptions/…`.
    resource_id: Option<Word>,
}

/// Where a secret is read: an environment variable or a file.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1))]
struct SecretSource {
    /// The environment variable that holds it.
    env: Option<Word>,
    /// The file that holds it; read again when it changes.
    file: Option<Text>,
}

/// A secret in a header.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Header {
    /// The header. Not one that the gateway writes itself or that belongs to the connection.
    name: Word,
    /// Where the secret is read.
    value: SecretSource,
}

/// A route: which requests, who may send them, and where they go.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Route {
    /// Which requests take the route.
    r#match: Match,
    /// The name of the backend.
    backend: Word,
    /// Who answers for the route.
    owner: Option<Text>,
    /// Why it is there.
    reason: Option<Text>,
    /// `reportOnly`: what it refuses is recorded, counted and let through. Default `enforce`.
    mode: Option<Mode>,
    /// `true`: everybody is let in, and tokens are not looked at.
    public: Option<bool>,
    /// Whom tokens must be meant for on this route, in place of the policy's `audiences`.
    audiences: Option<List<Word>>,
    /// Rules, any of which lets a caller in. All that a rule says must hold. Without any, nobody is let in.
    allow: Option<List<AllowRule>>,
    /// Rules that keep a caller out, whatever the allow rules say.
    deny: Option<List<Rule>>,
    /// How often. Without it: no limit.
    rate_limit: Option<RateLimit>,
    /// The path at the backend, instead of the caller's: `/api/guests/{rest}`.
    rewrite: Option<Path>,
    /// Parameters of the query that look like keys but are this route's own.
    keep_parameters: Option<List<KeptParameter>>,
}

/// Which requests.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Match {
    /// An exact host, or `*.` and a suffix. Without it: any host.
    host: Option<Host>,
    /// The methods. `GET` does not imply `HEAD`.
    methods: List<Method>,
    /// A path pattern: `/guests/{id}`, `/guests/{*rest}`.
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

/// A rule: it holds when all that it says holds.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    /// The token's tenant is one of these names.
    tenants: Option<List<Word>>,
    /// The token's app is one of these names. Users' tokens carry the app's ID too: see `tokenKinds`.
    apps: Option<List<Word>>,
    /// The token's user or service principal is one of these names.
    principals: Option<List<Word>>,
    /// Whether the app calls by itself (`appOnly`) or for a user (`delegated`).
    token_kinds: Option<List<TokenKind>>,
    /// How the app proved itself to Entra.
    auth_strength: Option<List<AuthStrength>>,
    /// Roles in the token: any of a list, or `{ allOf: [..] }`.
    roles: Option<Wanted>,
    /// Scopes in the token: any of a list, or `{ allOf: [..] }`.
    scopes: Option<Wanted>,
    /// Groups that the token lists, by name: any of a list, or `{ allOf: [..] }`.
    groups: Option<Wanted>,
    /// Where the caller connects from: names of networks, or CIDR notation.
    from: Option<List<Word>>,
    /// A condition in CEL over `token`, `request` and `connection`: `'c3' in token.acrs`.
    when: Option<Text>,
    /// `reportOnly`: the rule is recorded, and does nothing. Default `enforce`.
    mode: Option<Mode>,
    /// From then on the rule holds: `2027-01-01T00:00:00Z`.
    not_before: Option<Instant>,
    /// From then on it holds no more. `check` warns 30 days ahead.
    expires: Option<Instant>,
    /// Who answers for it.
    owner: Option<Text>,
    /// Why it is there. `check` takes a rule with a reason for one that was thought about.
    reason: Option<Text>,
}

/// Any of a list, or `anyOf` and `allOf`.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Wanted {
    /// At least one of these.
    Any(List<Word>),
    /// At least one of `anyOf`, and every one of `allOf`.
    Both(Both),
}

/// At least one of `anyOf`, and every one of `allOf`.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
struct Both {
    /// At least one of these.
    any_of: Option<List<Word>>,
    /// Every one of these.
    all_of: Option<List<Word>>,
}

/// How often callers are let through: evenly, after a burst.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct RateLimit {
    /// How many requests per `per`.
    #[schemars(range(min = 1))]
    requests: u32,
    /// The period, from `1s` to `1d`.
    per: Duration,
    /// How many may come at once. Default: as many as `requests`.
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What has a count of its own.
    by: List<LimitKey>,
}
