//! Refusals: every reason there is, and the one table that gives each its answer. The code of a
//! reason is the same in the answer, the log, the metric label and the tests.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::body::Reply;
use crate::ids::RequestId;

/// How a refusal challenges the caller (RFC 6750 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Challenge {
    /// No `WWW-Authenticate`.
    None,
    /// `Bearer realm="portcullis"` and nothing else: the caller brought no credentials.
    Bare,
    /// `error="invalid_request"`.
    InvalidRequest,
    /// `error="invalid_token"`.
    InvalidToken,
    /// `error="insufficient_scope"`.
    InsufficientScope,
}

struct Answer {
    code: &'static str,
    status: StatusCode,
    title: &'static str,
    detail: &'static str,
    challenge: Challenge,
    /// The `error` of `Proxy-Status` (RFC 9209 section 2.3), where the gateway failed, not the caller.
    proxy_error: Option<&'static str>,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $code:literal $status:ident $challenge:ident $proxy:expr, $title:literal, $detail:literal;)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of the request's path.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            const fn answer(self) -> Answer {
                match self {
                    $(Reason::$name => Answer {
                        code: $code,
                        status: StatusCode::$status,
                        title: $title,
                        detail: $detail,
                        challenge: Challenge::$challenge,
                        proxy_error: $proxy,
                    },)*
                }
            }
        }
    };
}

reasons! {
    // canonical: what may not be passed on
    /// Two readings of where the message ends.
    AmbiguousFraming "ambiguous-framing" BAD_REQUEST None None,
        "The message's framing is ambiguous", "Send one Content-Length or one `Transfer-Encoding: chunked`, and end every line with CRLF.";
    /// More or larger header fields than the gateway takes.
    HeadTooLarge "head-too-large" REQUEST_HEADER_FIELDS_TOO_LARGE None None,
        "The header fields are too large", "Send fewer or shorter header fields.";
    /// A longer request target than the gateway takes.
    UriTooLong "uri-too-long" URI_TOO_LONG None None,
        "The request target is too long", "Send a shorter path or query.";
    /// No host, two hosts, or one that is not a host.
    AmbiguousHost "ambiguous-host" BAD_REQUEST None None,
        "The host is missing or ambiguous", "Send exactly one Host, which is a host name or address.";
    /// A path that two readers may read in two ways.
    AmbiguousPath "ambiguous-path" BAD_REQUEST None None,
        "The path is ambiguous", "Send the path without encoded slashes, backslashes, control characters, empty or climbing segments, double encoding, or another letter case than documented.";
    /// A query whose names two readers may read in two ways.
    AmbiguousQuery "ambiguous-query" BAD_REQUEST None None,
        "The query is ambiguous", "Send a query whose percent codes are complete and whose names hold no control characters.";
    /// A header field that two readers may read in two ways.
    AmbiguousHeader "ambiguous-header" BAD_REQUEST None None,
        "A header field is ambiguous", "Send each header field in one plain form.";
    /// TRACE, CONNECT, or a method nobody knows.
    MethodNotSupported "method-not-supported" NOT_IMPLEMENTED None None,
        "The method is not supported", "This gateway does not forward this method.";
    /// No `X-Azure-FDID`, or that of another profile.
    FrontDoorMissing "front-door-missing" FORBIDDEN None None,
        "The request did not come through Front Door", "Call the public address of this service.";
    /// Those in front name no address for the caller.
    ForwardedAddressInvalid "forwarded-address-invalid" BAD_REQUEST None None,
        "The caller's address is not known", "Have the proxy in front of this service name the caller's address in the field that it forwards.";
    /// No client certificate, where one is required.
    CertificateMissing "certificate-missing" FORBIDDEN None None,
        "A client certificate is required", "Connect with a client certificate.";
    /// A client certificate that nobody vouches for, or that was withdrawn.
    CertificateInvalid "certificate-invalid" FORBIDDEN None None,
        "The client certificate is not accepted", "Connect with a client certificate that is in date and was issued by an accepted authority.";
    /// h2c or another upgrade.
    UpgradeNotSupported "upgrade-not-supported" BAD_REQUEST None None,
        "The protocol upgrade is not supported", "Send the request without an Upgrade field.";

    // entra: the bearer token
    /// No `Authorization`.
    TokenMissing "token-missing" UNAUTHORIZED Bare None,
        "A bearer token is required", "Send an Entra ID access token in the Authorization header.";
    /// More than one `Authorization`.
    AuthorizationAmbiguous "authorization-ambiguous" BAD_REQUEST InvalidRequest None,
        "More than one Authorization header", "Send exactly one Authorization header.";
    /// Another scheme than Bearer.
    SchemeNotSupported "scheme-not-supported" UNAUTHORIZED Bare None,
        "The authorization scheme is not supported", "Use the scheme Bearer.";
    /// A longer token than the gateway takes.
    TokenTooLarge "token-too-large" BAD_REQUEST InvalidRequest None,
        "The token is too large", "Request a token with fewer claims.";
    /// Not a signed JWT in compact form.
    TokenMalformed "token-malformed" UNAUTHORIZED InvalidToken None,
        "The token is malformed", "Send the access token exactly as the authority issued it.";
    /// A JOSE header that is ambiguous or asks for what is not supported (`crit`, `b64`).
    TokenHeaderNotSupported "token-header-not-supported" UNAUTHORIZED InvalidToken None,
        "The token's header is not supported", "Send an ordinary Entra ID access token.";
    /// `none`, an HMAC, or another algorithm that is not allowed.
    AlgorithmNotAllowed "algorithm-not-allowed" UNAUTHORIZED InvalidToken None,
        "The token's algorithm is not allowed", "Send a token signed by Entra ID with an allowed algorithm.";
    /// A token for Microsoft Graph (a nonce in its JOSE header).
    GraphToken "graph-token" UNAUTHORIZED InvalidToken None,
        "The token is meant for Microsoft Graph", "Request a token for this API's own audience instead of Microsoft Graph.";
    /// Claims that are not what Entra writes: duplicate names, wrong types, too many.
    ClaimsMalformed "claims-malformed" UNAUTHORIZED InvalidToken None,
        "The token's claims are malformed", "Send the access token exactly as the authority issued it.";
    /// A token of the tenant of personal Microsoft accounts.
    PersonalAccount "personal-account" UNAUTHORIZED InvalidToken None,
        "Personal Microsoft accounts are not accepted", "Sign in with a work or school account, or with an application of a tenant.";
    /// A tenant that no policy names.
    IssuerNotTrusted "issuer-not-trusted" UNAUTHORIZED InvalidToken None,
        "The token's issuer is not trusted", "Request a token from a tenant that this API accepts.";
    /// An issuer that is not the one of the tenant the token claims.
    IssuerMismatch "issuer-mismatch" UNAUTHORIZED InvalidToken None,
        "The token's issuer does not match its tenant", "Send the access token exactly as the authority issued it.";
    /// A v1 token where only v2 is accepted, or the other way round.
    TokenVersionNotAccepted "token-version-not-accepted" UNAUTHORIZED InvalidToken None,
        "The token's version is not accepted", "Set requestedAccessTokenVersion in the API's registration to the version that this API accepts.";
    /// A `ver` of one version with the issuer of the other.
    TokenVersionMismatch "token-version-mismatch" UNAUTHORIZED InvalidToken None,
        "The token's version does not match its issuer", "Send the access token exactly as the authority issued it.";
    /// No usable key for this issuer: the token may be good.
    KeysUnavailable "keys-unavailable" SERVICE_UNAVAILABLE None None,
        "Signing keys are not available", "The token could not be checked now. Try again later.";
    /// No key with this `kid`.
    KeyUnknown "key-unknown" UNAUTHORIZED InvalidToken None,
        "The token's signing key is unknown", "Request a fresh token from the authority.";
    /// A key that belongs to another issuer.
    KeyNotForIssuer "key-not-for-issuer" UNAUTHORIZED InvalidToken None,
        "The token's signing key belongs to another issuer", "Send the access token exactly as the authority issued it.";
    /// A signature that does not verify.
    SignatureInvalid "signature-invalid" UNAUTHORIZED InvalidToken None,
        "The token's signature is invalid", "Send the access token exactly as the authority issued it.";
    /// `exp` has passed.
    TokenExpired "token-expired" UNAUTHORIZED InvalidToken None,
        "The token has expired", "Request a fresh token.";
    /// `nbf` lies ahead.
    TokenNotYetValid "token-not-yet-valid" UNAUTHORIZED InvalidToken None,
        "The token is not yet valid", "Check the clock of the machine that requested the token.";
    /// The same API in another spelling: GUID against App ID URI, or a slash more.
    AudienceForm "audience-form" UNAUTHORIZED InvalidToken None,
        "The token's audience is written in another form", "Request the token for this API's audience in the documented form (App ID URI or client ID).";
    /// A token for another API.
    AudienceMismatch "audience-mismatch" UNAUTHORIZED InvalidToken None,
        "The token is meant for another API", "Request a token for this API's audience.";
    /// An ID token.
    IdToken "id-token" UNAUTHORIZED InvalidToken None,
        "An ID token is not an access token", "Send the access token, not the ID token.";
    /// `azp` in a v1 token, or `appid` in a v2 token.
    AppClaimForm "app-claim-form" UNAUTHORIZED InvalidToken None,
        "The token names its application in the wrong claim", "Send the access token exactly as the authority issued it.";
    /// A token bound to a key, sent as if it were a bearer token.
    TokenBound "token-bound" UNAUTHORIZED InvalidToken None,
        "The token is bound to a key", "Request a bearer token; proof of possession is not supported.";

    // policy
    /// No route for this path.
    RouteNotFound "route-not-found" NOT_FOUND None None,
        "Nothing is published here", "Check the URL.";
    /// A route, but not for this method.
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED None None,
        "The method is not allowed here", "Use one of the methods named in Allow.";
    /// No rule names the caller's tenant.
    TenantNotAllowed "tenant-not-allowed" FORBIDDEN None None,
        "The tenant is not allowed", "Ask the owner of this API for access.";
    /// Rules name the tenant, but not the app.
    AppNotAllowed "app-not-allowed" FORBIDDEN None None,
        "The application is not allowed", "Ask the owner of this API for access.";
    /// Rules name the tenant and the app, but not the user or service principal.
    PrincipalNotAllowed "principal-not-allowed" FORBIDDEN None None,
        "The principal is not allowed", "Ask the owner of this API for access.";
    /// An app-only token where only delegated ones are allowed, or the other way round.
    TokenKindNotAllowed "token-kind-not-allowed" FORBIDDEN None None,
        "Tokens of this kind are not allowed", "Request the token in the way that this API expects: as an application by itself, or for a user.";
    /// The app proved itself to Entra in a weaker way than the rule asks for.
    AuthStrengthNotAllowed "auth-strength-not-allowed" FORBIDDEN None None,
        "The application's own authentication is not allowed", "Have the application sign in to Entra ID with the kind of credential that this API expects, such as a certificate.";
    /// The app is allowed with a role that the token lacks.
    RoleMissing "role-missing" FORBIDDEN InsufficientScope None,
        "A role is missing", "Ask the owner of this API to assign the application role.";
    /// The app is allowed with a scope that the token lacks.
    ScopeMissing "scope-missing" FORBIDDEN InsufficientScope None,
        "A scope is missing", "Request a token with the scope that this operation needs.";
    /// A group is asked for that the token does not list.
    GroupMissing "group-missing" FORBIDDEN None None,
        "A group is missing", "Ask the owner of this API for access.";
    /// A group is asked for, and the token has more groups than it lists.
    GroupOverage "group-overage" FORBIDDEN None None,
        "The token has more groups than it lists", "Have the groups that this API needs assigned to the application, so that Entra ID lists those alone.";
    /// The caller connects from a network that no rule names.
    NetworkNotAllowed "network-not-allowed" FORBIDDEN None None,
        "The network is not allowed", "Call from a network that this API accepts.";
    /// The rule's expression is false.
    ConditionNotMet "condition-not-met" FORBIDDEN None None,
        "A condition is not met", "Ask the owner of this API for access.";
    /// The rule's expression could not be evaluated: a claim that it asks for is not there, say.
    ConditionFailed "condition-failed" FORBIDDEN None None,
        "A condition cannot be evaluated", "Ask the owner of this API for access.";
    /// The rule that would let the caller in does not hold yet.
    AccessNotYetValid "access-not-yet-valid" FORBIDDEN None None,
        "The access has not begun", "Ask the owner of this API when it begins.";
    /// The rule that let the caller in has ended.
    AccessExpired "access-expired" FORBIDDEN None None,
        "The access has ended", "Ask the owner of this API to renew it.";
    /// A deny rule names the caller.
    DeniedByRule "denied-by-rule" FORBIDDEN None None,
        "The caller is refused", "Ask the owner of this API for access.";

    /// A path of the Functions host's own, which no route names.
    HostPathNotAllowed "host-path-not-allowed" FORBIDDEN None None,
        "The path belongs to the Functions host", "Ask the owner of this API to publish this path by a route of its own.";
    /// A signature or key in the URL, which the route does not take any more.
    KeyInUrl "key-in-url" BAD_REQUEST None None,
        "The URL carries a signature or key", "Send the request without sig, code or x-functions-key in its URL: the token is enough.";

    // sealed URLs
    /// No sealed URL of this gateway's, or one that was changed.
    SealedUrlInvalid "sealed-url-invalid" NOT_FOUND None None,
        "The sealed URL is not valid", "Follow the URL exactly as it was given.";
    /// The sealed URL has come to its end.
    SealedUrlExpired "sealed-url-expired" GONE None None,
        "The sealed URL has expired", "Start the operation again.";
    /// The sealed URL was given to another tenant or app.
    SealedUrlNotYours "sealed-url-not-yours" FORBIDDEN None None,
        "The sealed URL was given to another caller", "Follow it with a token of the application that it was given to.";

    // the request's body
    /// A longer body than the route takes.
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE None None,
        "The request's body is too large", "Send a shorter body.";
    /// A body that comes more slowly than callers may be.
    BodyTooSlow "body-too-slow" REQUEST_TIMEOUT None None,
        "The request's body came too slowly", "Send the body without pauses.";

    // limits
    /// The route's rate limit is reached.
    RateLimited "rate-limited" TOO_MANY_REQUESTS None None,
        "Too many requests", "Wait for the time that Retry-After names.";
    /// The caller has had what the day or month holds for it.
    QuotaExceeded "quota-exceeded" TOO_MANY_REQUESTS None None,
        "The quota is used up", "Wait for the time that Retry-After names, or ask the owner of this API for more.";
    /// Too many requests are under way, of the caller's or of all on the route.
    ConcurrencyLimited "concurrency-limited" TOO_MANY_REQUESTS None None,
        "Too many requests at once", "Send fewer requests at once.";
    /// Too many requests are under way to the backend.
    BackendBusy "backend-busy" SERVICE_UNAVAILABLE None Some("connection_limit_reached"),
        "The backend has too much to do", "Try again later.";
    /// Too many requests are under way through the gateway.
    Overloaded "overloaded" SERVICE_UNAVAILABLE None Some("connection_limit_reached"),
        "The gateway has too much to do", "Try again later.";
    /// Decisions have to be recorded, and there is no room for another.
    DecisionLogFull "decision-log-full" SERVICE_UNAVAILABLE None Some("proxy_internal_error"),
        "The decision could not be recorded", "Try again later.";

    // credentials and upstream
    /// The credential that the backend wants is not to be had now.
    CredentialUnavailable "credential-unavailable" SERVICE_UNAVAILABLE None Some("proxy_internal_error"),
        "The backend's credential is not available", "Try again later.";
    /// An answer in which keys are to be sealed cannot be read: it is compressed.
    AnswerUnreadable "answer-unreadable" BAD_GATEWAY None Some("http_response_incomplete"),
        "The backend's answer cannot be read", "Tell the owner of this API.";
    /// The backend's name does not resolve.
    BackendDns "backend-dns" BAD_GATEWAY None Some("dns_error"),
        "The backend's address is not known", "Try again later.";
    /// The backend's name resolves to an address that may not be called.
    BackendAddressRefused "backend-address-refused" BAD_GATEWAY None Some("destination_ip_prohibited"),
        "The backend's address may not be called", "Tell the owner of this API.";
    /// The backend failed too often just now, so nothing is sent to it for a while.
    BackendOpen "backend-open" SERVICE_UNAVAILABLE None Some("destination_unavailable"),
        "The backend is not called for a while", "Wait for the time that Retry-After names.";
    /// The backend does not accept the connection.
    BackendConnectionRefused "backend-connection-refused" BAD_GATEWAY None Some("connection_refused"),
        "The backend cannot be reached", "Try again later.";
    /// The backend does not accept the connection in time.
    BackendConnectTimeout "backend-connect-timeout" GATEWAY_TIMEOUT None Some("connection_timeout"),
        "The backend cannot be reached in time", "Try again later.";
    /// The TLS handshake with the backend takes too long.
    BackendTlsTimeout "backend-tls-timeout" GATEWAY_TIMEOUT None Some("connection_timeout"),
        "The backend does not prove its identity in time", "Try again later.";
    /// The backend's certificate does not verify, or the handshake fails.
    BackendTls "backend-tls" BAD_GATEWAY None Some("tls_protocol_error"),
        "The backend's identity cannot be verified", "Tell the owner of this API.";
    /// The connection ended before an answer, or the answer is not HTTP.
    BackendBroken "backend-broken" BAD_GATEWAY None Some("connection_terminated"),
        "The backend broke off", "Try again later, if the operation may be repeated.";
    /// No answer in time.
    BackendTimeout "backend-timeout" GATEWAY_TIMEOUT None Some("http_response_timeout"),
        "The backend did not answer in time", "Try again later, if the operation may be repeated.";
    /// The backend refused the gateway's own credential.
    BackendRefusedCredential "backend-refused-credential" BAD_GATEWAY None Some("http_response_incomplete"),
        "The backend refused the gateway's credential", "Tell the owner of this API.";
    /// The gateway has no file descriptor left for a connection to the backend.
    DescriptorsExhausted "descriptors-exhausted" SERVICE_UNAVAILABLE None Some("proxy_internal_error"),
        "The gateway has no connection to spare", "Try again later.";
    /// The caller's body broke off.
    RequestBodyBroken "request-body-broken" BAD_REQUEST None None,
        "The request's body broke off", "Send the whole body.";
    /// The caller left before the answer was complete. Never sent, only recorded.
    CallerLeft "caller-left" REQUEST_TIMEOUT None None,
        "The caller left", "The caller closed the connection.";
    /// The gateway is at fault.
    Internal "internal" INTERNAL_SERVER_ERROR None Some("proxy_internal_error"),
        "The gateway failed", "Tell the owner of this API, with the request ID.";
}

impl Reason {
    /// The stable code, in kebab-case.
    pub const fn code(self) -> &'static str {
        self.answer().code
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        self.answer().status
    }

    /// One sentence for the caller.
    pub const fn title(self) -> &'static str {
        self.answer().title
    }

    /// What the caller can do about it.
    pub const fn detail(self) -> &'static str {
        self.answer().detail
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// What was expected and what came, for the log alone: callers never see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What would have been accepted.
    pub expected: String,
    /// What the request brought. Never a credential.
    pub got: String,
    /// Whom that names.
    pub names: Names,
}

/// Whom a text names, where callers may be told by hashes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Nobody.
    #[default]
    Nobody,
    /// The principal.
    Principal,
    /// The caller's address.
    Address,
}

/// A refusal: its reason and what its answer needs beside the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    reason: Reason,
    // Boxed, so that the path of a request carries two words, not a page.
    more: Option<Box<More>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct More {
    retry_after: Option<Duration>,
    note: Option<Note>,
    scope: Option<String>,
    /// The names of limits.
    violated: Vec<Arc<str>>,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self { reason, more: None }
    }
}

impl Denial {
    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What was expected and what came, if the reason has such a thing.
    pub fn note(&self) -> Option<&Note> {
        self.more.as_ref()?.note.as_ref()
    }

    /// When to come back; sent as `Retry-After`, in whole seconds, rounded up.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.more().retry_after = Some(after);
        self
    }

    /// For the log: what was expected and what came.
    pub fn expected(mut self, expected: impl Into<String>, got: impl Into<String>) -> Self {
        self.more().note = Some(Note {
            expected: expected.into(),
            got: got.into(),
            names: Names::Nobody,
        });
        self
    }

    /// Whom it names what came, as [`Denial::expected`] noted it.
    pub fn naming(mut self, names: Names) -> Self {
        if let Some(note) = &mut self.more().note {
            note.names = names;
        }
        self
    }

    /// The scopes that would do, for the challenge (RFC 6750 section 3).
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.more().scope = Some(scope.into());
        self
    }

    /// A limit that refused, by its name.
    pub fn violates(mut self, limit: &Arc<str>) -> Self {
        self.more().violated.push(Arc::clone(limit));
        self
    }

    /// The first limit that refused.
    pub fn limit(&self) -> Option<&Arc<str>> {
        self.more.as_ref()?.violated.first()
    }

    /// A further header field of the answer (`Allow`, `RateLimit`).
    pub fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.more().fields.push((name, value));
        self
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The answer: problem+json (RFC 9457) with challenge, `Retry-After` and `Proxy-Status`.
    pub fn answer(&self, id: RequestId) -> Response<Reply> {
        let answer = self.reason.answer();
        let body = self.problem(&answer, id);
        let mut response = Response::new(Reply::full(body));
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge(&answer) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(error) = answer.proxy_error {
            insert_text(
                headers,
                HeaderName::from_static("proxy-status"),
                &format!("portcullis; error={error}"),
            );
        }
        if let Some(more) = &self.more {
            if let Some(after) = more.retry_after {
                headers.insert(header::RETRY_AFTER, whole_seconds(after).into());
            }
            for (name, value) in &more.fields {
                headers.insert(name.clone(), value.clone());
            }
        }
        response
    }

    fn problem(&self, answer: &Answer, id: RequestId) -> String {
        let mut body = String::with_capacity(320);
        // Codes, titles and details are constants without characters that JSON escapes; a test
        // parses every one of them.
        let _ = write!(
            body,
            r#"{{"type":"urn:portcullis:denial:{code}","title":"{title}","status":{status},"detail":"{detail}","instance":"urn:uuid:{id}","reason":"{code}""#,
            code = answer.code,
            title = answer.title,
            status = answer.status.as_u16(),
            detail = answer.detail,
        );
        if let Some(more) = &self.more {
            violated_policies(&more.violated, &mut body);
        }
        body.push('}');
        body
    }

    fn challenge(&self, answer: &Answer) -> Option<HeaderValue> {
        let error = match answer.challenge {
            Challenge::None => return None,
            Challenge::Bare => {
                return Some(HeaderValue::from_static(r#"Bearer realm="portcullis""#));
            }
            Challenge::InvalidRequest => "invalid_request",
            Challenge::InvalidToken => "invalid_token",
            Challenge::InsufficientScope => "insufficient_scope",
        };
        let mut text = format!(
            r#"Bearer realm="portcullis", error="{error}", error_description="{}""#,
            answer.title
        );
        if let Some(scope) = self.more.as_ref().and_then(|more| more.scope.as_deref()) {
            let _ = write!(text, r#", scope="{scope}""#);
        }
        HeaderValue::try_from(text).ok()
    }
}

/// The limits that refused, as draft-ietf-httpapi-ratelimit-headers-10 section 5 names them in a problem. Names of
/// limits hold no characters that JSON escapes.
fn violated_policies(limits: &[Arc<str>], body: &mut String) {
    for (at, limit) in limits.iter().enumerate() {
        let before = match at {
            0 => r#","violated-policies":["#,
            _ => ",",
        };
        let _ = write!(body, r#"{before}"{limit}""#);
    }
    if !limits.is_empty() {
        body.push(']');
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

/// The `Allow` field of a 405 (RFC 9110 section 15.5.6).
pub fn allow_field(methods: &[Method]) -> (HeaderName, HeaderValue) {
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let value = HeaderValue::try_from(names.join(", "));
    (
        header::ALLOW,
        value.unwrap_or_else(|_| HeaderValue::from_static("")),
    )
}

/// Seconds as `Retry-After` counts them: rounded up, so that who waits as told is let in.
pub fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn insert_text(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own_in_kebab_case() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(seen.insert(code), "{code} stands twice");
            assert!(
                code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{code}"
            );
        }
    }

    #[test]
    fn every_answer_is_json_and_names_reason_and_request() {
        let id = RequestId::fresh();
        for reason in Reason::ALL {
            let denial = Denial::from(*reason);
            let problem: serde_json::Value =
                serde_json::from_str(&denial.problem(&reason.answer(), id)).expect("valid JSON");
            assert_eq!(problem["reason"], reason.code());
            assert_eq!(problem["status"], reason.status().as_u16());
            assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
            assert!(reason.status().is_client_error() || reason.status().is_server_error());
        }
    }

    #[test]
    fn every_401_challenges_and_nothing_else_but_invalid_request_and_scope_does() {
        for reason in Reason::ALL {
            let answer = Denial::from(*reason).answer(RequestId::fresh());
            let challenged = answer.headers().contains_key(header::WWW_AUTHENTICATE);
            match answer.status() {
                StatusCode::UNAUTHORIZED => assert!(challenged, "{reason}"),
                StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {}
                _ => assert!(!challenged, "{reason}"),
            }
        }
    }

    #[test]
    fn a_caller_without_credentials_is_told_no_error() {
        let answer = Denial::from(Reason::TokenMissing).answer(RequestId::fresh());
        assert_eq!(
            answer.headers()[header::WWW_AUTHENTICATE],
            r#"Bearer realm="portcullis""#
        );
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let answer = Denial::from(Reason::RateLimited)
            .retry_after(Duration::from_millis(1001))
            .answer(RequestId::fresh());
        assert_eq!(answer.headers()[header::RETRY_AFTER], "2");
    }
}
