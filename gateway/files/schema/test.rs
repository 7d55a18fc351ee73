//! What may be written in a `*.test.yaml`.
#![allow(dead_code, reason = "only their schemas are asked for")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::policy::List;
use super::words::{Instant, Text, Word};

/// The tests of the policies in the same folder.
#[derive(JsonSchema)]
#[schemars(title = "Portcullis policy tests")]
pub(super) struct Tests(Vec<Test>);

/// A request, what its token says, and what is expected.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Test {
    /// The sentence that the test proves: `another app may not`. No two tests of a file have one name.
    name: Text,
    /// The request that is decided: `{ method: GET, path: /guests/42 }`.
    request: Request,
    /// What the caller's token says, in the words of the policy: `{ tenant: contoso, app: nightly-batch }`. Default: the request has no token.
    token: Option<Token>,
    /// When the request comes: date, time and offset, such as `2027-01-15T12:00:00Z`. Default: now.
    at: Option<Instant>,
    /// What is expected: `allow`, `deny`, or a mapping with more, such as `{ deny: app-not-allowed }`.
    expect: Expect,
}

/// The request that is decided.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    /// The method, in upper case: `GET`. One that no route can take stands only where `method-not-supported` is expected.
    method: Word,
    /// Path and query, as a caller would send them: `/guests/42?top=3`. Begins with `/`, unless `ambiguous-path` is expected.
    path: Word,
    /// The host that the request names, which `match.host` of routes asks for. Default `localhost`.
    host: Option<Word>,
    /// Header fields, by name: a value, or a list of values. What a token holds stands under `token`, not here.
    headers: Option<BTreeMap<String, Values>>,
    /// The IP address that the request comes from, which `from` of rules asks for. Default `127.0.0.1`.
    client: Option<Word>,
    /// The certificate that the caller has proved to hold. Default: none.
    certificate: Option<Certificate>,
    /// What the request is sent in: `http1` (default) or `http2`. Conditions see it as `connection.protocol`.
    protocol: Option<Protocol>,
}

/// A certificate of a caller's. What is not written is that of nobody.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Certificate {
    /// Its SHA-256 in lower-case hexadecimal.
    thumbprint: Option<Word>,
    /// Whom it names (RFC 4514): `CN=partner,O=Fabrikam`.
    subject: Option<Text>,
    /// Who issued it, as the subject.
    issuer: Option<Text>,
}

/// The value of a header field, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Values {
    /// One field of the name, with this value.
    One(Text),
    /// Several fields of the name, one for each value.
    Several(List<Text>),
}

/// What the request is sent in.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Protocol {
    /// The request is sent in HTTP/1.1.
    Http1,
    /// The request is sent in HTTP/2.
    Http2,
}

/// What a token says, in the words of the policy.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Token {
    /// The version of the token, which decides in which claims it says things: `v1` or `v2` (default).
    version: Option<Version>,
    /// The tenant: a name from `tenants` of the policy, or the ID of any tenant.
    tenant: Word,
    /// The app that got the token: a name from `apps` of the policy, or the ID of any app.
    app: Word,
    /// The user or service principal (`oid`): a name from `principals` of the policy, or any object ID.
    principal: Option<Word>,
    /// Whether the app calls by itself (`appOnly`), for a user (`delegated`), or the token proves neither (`unknown`). Default: `delegated` if there are `scopes`, else `appOnly`.
    kind: Option<Kind>,
    /// How the app proved itself to Entra: `public` (not at all), `secret` (default), `certificate`, or `unknown` if the token does not say.
    auth_strength: Option<Strength>,
    /// Whom the token is meant for (`aud`). Default: the first audience of the route.
    audience: Option<Word>,
    /// The roles in the token (`roles`): `[Guests.Read.All]`. Default: none.
    roles: Option<List<Word>>,
    /// The scopes in the token (`scp`): `[Guests.Read]`. Default: none.
    scopes: Option<List<Word>>,
    /// The groups that the token lists: names from `groups` of the policy, or what else a token may list. Default: none.
    groups: Option<List<Word>>,
    /// `true`: the user is in more groups than a token lists, and the token says only that. Default `false`.
    group_overage: Option<bool>,
    /// From when on the token is valid (`nbf`): date, time and offset. Default: when the request comes.
    not_before: Option<Instant>,
    /// Until when the token is valid (`exp`): date, time and offset. Default: an hour after the request.
    expires: Option<Instant>,
    /// Further claims as they stand in the token, in place of those above: `{ acrs: [c3] }`. `null` takes one away.
    claims: Option<BTreeMap<String, Value>>,
}

/// A version of Entra's access tokens.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Version {
    /// Version 1.0 (`ver`): the app stands in `appid`.
    V1,
    /// Version 2.0 (`ver`): the app stands in `azp`.
    V2,
}

/// Whether an app calls by itself or for a user.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
enum Kind {
    /// The app calls by itself; no user has a part in it.
    AppOnly,
    /// The app calls for a user, who has signed in.
    Delegated,
    /// The token proves neither: it has no `idtyp`, scopes or roles.
    Unknown,
}

/// How the app proved itself to Entra.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
enum Strength {
    /// Not at all: a public client, such as an app on a phone.
    Public,
    /// By a client secret.
    Secret,
    /// By a client certificate.
    Certificate,
    /// The token does not say how.
    Unknown,
}

/// What is expected.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Expect {
    /// The decision alone: `allow` or `deny`.
    Decision(Decision),
    /// The decision with its reason, or what else is expected.
    More(Expectation),
}

/// Whether the request is let in.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Decision {
    /// The request is let in.
    Allow,
    /// The request is refused, for whatever reason.
    Deny,
}

/// What is expected; at least one of these.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields, extend("minProperties" = 1))]
struct Expectation {
    /// Whether the request is let in: `allow` or `deny`, for whatever reason.
    decision: Option<Decision>,
    /// The request is refused for this reason: `app-not-allowed`.
    deny: Option<Word>,
    /// The reason of the decision: a code such as `app-not-allowed`; for requests that are let in `rule`, `public` or `report-only`.
    reason: Option<Word>,
    /// The name of the route that takes the request.
    route: Option<Word>,
    /// The rule that decides or comes closest, counted from 0: `allow[0]`, `deny[1]`; `none` for none.
    rule: Option<Word>,
    /// The reason for which the request would have been refused, were everything in force that is `reportOnly`; `none` if it would not.
    report_only: Option<Word>,
    /// What the backend would get of the request: `{ path: /api/guests/42 }`.
    backend: Option<Backend>,
}

/// What the backend would get of the request.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase", deny_unknown_fields)]
struct Backend {
    /// The name of the backend that the request goes to.
    name: Option<Word>,
    /// The path that the backend gets, with that of its URL.
    path: Option<Word>,
    /// The query that the backend gets, without `?`; `""` for none.
    query: Option<String>,
    /// Header fields that the backend gets, with their values; `null` for one that must not be there. A credential shows as `(the gateway's)`.
    headers: Option<BTreeMap<String, Value>>,
}
