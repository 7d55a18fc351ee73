//! What may be written in a `*.test.yaml`.
#![allow(dead_code, reason = "only their schemas are asked for")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::policy::List;
use super::words::{Instant, Text, Word};

/// The tests of a policy.
#[derive(JsonSchema)]
#[schemars(title = "Portcullis policy tests")]
pub(super) struct Tests(Vec<Test>);

/// A request, what its token says, and what is expected.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Test {
    /// The sentence that the test proves. No two tests of a file have one name.
    name: Text,
    /// The request.
    request: Request,
    /// What the token says; without it there is none.
    token: Option<Token>,
    /// When the request comes: `2027-01-15T12:00:00Z`. Default: now.
    at: Option<Instant>,
    /// `allow`, `deny`, or a mapping with more.
    expect: Expect,
}

/// A request.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    /// The method, such as `GET`.
    method: Word,
    /// Path and query, as a caller would send them.
    path: Word,
    /// The host. Default `localhost`.
    host: Option<Word>,
    /// Fields, by name: a value, or a list of values.
    headers: Option<BTreeMap<String, Values>>,
    /// The address that the request comes from. Default `127.0.0.1`.
    client: Option<Word>,
    /// `http1` (default) or `http2`.
    protocol: Option<Protocol>,
}

/// One value, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Values {
    /// One.
    One(Text),
    /// Several fields of the name.
    Several(List<Text>),
}

/// The protocol of a request.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a token says, in the words of the policy.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Token {
    /// `v1` or `v2` (default).
    version: Option<Version>,
    /// A name of the policy, or the ID of any tenant.
    tenant: Word,
    /// A name of the policy, or the ID of any app.
    app: Word,
    /// A name of the policy, or any object ID.
    principal: Option<Word>,
    /// Default: `delegated` if there are scopes, else `appOnly`.
    kind: Option<Kind>,
    /// How the app proved itself. Default `secret`.
    auth_strength: Option<Strength>,
    /// Default: the first audience of the route.
    audience: Option<Word>,
    /// Roles in the token (`roles`).
    roles: Option<List<Word>>,
    /// Scopes in the token (`scp`).
    scopes: Option<List<Word>>,
    /// Groups, by names of the policy or as a token lists them.
    groups: Option<List<Word>>,
    /// `true`: more groups than a token lists.
    group_overage: Option<bool>,
    /// From when on the token is valid. Default: when the request comes.
    not_before: Option<Instant>,
    /// When it ends. Default: an hour later.
    expires: Option<Instant>,
    /// Further claims as they stand, in place of those above; `null` takes one away.
    claims: Option<BTreeMap<String, Value>>,
}

/// A form of Entra's access tokens.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Version {
    /// `ver` 1.0.
    V1,
    /// `ver` 2.0.
    V2,
}

/// A kind of token.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
enum Kind {
    /// The app calls by itself.
    AppOnly,
    /// The app acts for a user.
    Delegated,
    /// The token proves neither.
    Unknown,
}

/// How the app proved itself.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
enum Strength {
    /// Not at all.
    Public,
    /// By a secret.
    Secret,
    /// By a certificate.
    Certificate,
    /// The token does not say.
    Unknown,
}

/// What is expected.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Expect {
    /// The decision.
    Decision(Decision),
    /// More.
    More(Expectation),
}

/// A decision.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Decision {
    /// Let in.
    Allow,
    /// Refused.
    Deny,
}

/// What is expected; at least one of these.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
struct Expectation {
    /// `allow` or `deny`.
    decision: Option<Decision>,
    /// Denied, for this reason.
    deny: Option<Word>,
    /// The reason code; for requests that are let in `rule`, `public` or `report-only`.
    reason: Option<Word>,
    /// The route that takes the request.
    route: Option<Word>,
    /// The rule that decides or comes closest: `allow[0]`; `none` for none.
    rule: Option<Word>,
    /// What would have refused the request, had everything acted that only reports: a reason, or `none`.
    report_only: Option<Word>,
    /// What the backend would get.
    backend: Option<Backend>,
}

/// What the backend would get.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Backend {
    /// The name of the backend.
    name: Option<Word>,
    /// The path that it gets.
    path: Option<Word>,
    /// The query; `""` for none.
    query: Option<String>,
    /// Fields with their values; `null` for one that must not be there.
    headers: Option<BTreeMap<String, Value>>,
}
