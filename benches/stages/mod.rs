//! What the benchmarks of the stages share: one caller's request on its way, and the policy that it
//! meets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use portcullis::canonical::{self, KeptParameters, KeyParameters, Refused};
use portcullis::clock::{Clock, Now, SystemClock};
use portcullis::demo::mint::{Key, Token, issuer};
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
use portcullis::denial::Denial;
use portcullis::entra::{
    Algorithm, ClaimRules, Entra, Fetched, Fetching, KeySource, Principal, Rhythm, TokenRules,
    Version,
};
use portcullis::files::{Diagnostics, PolicyDocument, parse_policies};
use portcullis::ids::TenantId;
use portcullis::policy::{self, Circumstances, Policy};
use tokio::runtime::Runtime;

/// Where the caller is.
pub(crate) const CLIENT: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 4711);

/// Whom the caller means.
pub(crate) const HOST: &str = "api.contoso.com";

/// A target as most are.
pub(crate) const PLAIN: &str = "/invitations/42?top=10&skip=20";

/// A target with the signature of a Logic App.
pub(crate) const SIGNED: &str = "/invitations/42?api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=abcdefghijklmnop";

/// The fields of an answer as most are.
pub(crate) const USUAL: [(&str, &str); 6] = [
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "8192"),
    ("date", "Thu, 26 Nov 2026 12:00:00 GMT"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("etag", "\"0x8DC1234\""),
];

/// Fields as hyper hands them over.
pub(crate) fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    fields.collect()
}

/// Lists one key for everybody.
struct OneKey(Key);

impl KeySource for OneKey {
    fn fetch(&self, tenant: TenantId, version: Version) -> Fetching<'_> {
        let keys = serde_json::json!({ "keys": [self.0.jwk(None)] });
        let fetched = Fetched {
            issuer: issuer(version, &tenant.to_string()),
            keys: Bytes::from(keys.to_string()),
        };
        Box::pin(async { Ok(fetched) })
    }
}

/// Who issues tokens, and who verifies them.
pub(crate) struct Authority {
    runtime: Runtime,
    entra: Arc<Entra>,
    rules: TokenRules,
    key: Arc<OneKey>,
    now: Now,
}

impl Authority {
    /// Remembers at most `cached_tokens` tokens.
    pub(crate) fn new(cached_tokens: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let key = Arc::new(OneKey(Key::new().expect("a key")));
        let source: Arc<dyn KeySource> = key.clone();
        let entra = Entra::new(
            Arc::new(SystemClock),
            source,
            None,
            runtime.handle().clone(),
            cached_tokens,
        );
        let tenant: TenantId = CONTOSO.parse().expect("a GUID");
        let rhythm = Rhythm {
            refresh_every: Duration::from_secs(3600),
            unknown_key_interval: Duration::from_secs(300),
            key_wait: Duration::from_secs(3),
        };
        let rules = TokenRules {
            tenants: [(tenant, entra.tenant(tenant, rhythm))]
                .into_iter()
                .collect(),
            claims: ClaimRules {
                audiences: vec![AUDIENCE.into()],
                versions: Version::ALL.to_vec(),
                clock_skew: Duration::from_secs(60),
            },
            algorithms: vec![Algorithm::Rs256],
            longest_token: 16 * 1024,
            kept: Arc::new([]),
        };
        Self {
            runtime,
            entra,
            rules,
            key,
            now: SystemClock.now(),
        }
    }

    /// A good token; another for another number.
    pub(crate) fn token(&self, number: usize) -> String {
        self.token_of("Guests.Invite", number)
    }

    /// The same for an app of this role.
    pub(crate) fn token_of(&self, role: &str, number: usize) -> String {
        let token = Token::app(
            Version::V2,
            CONTOSO,
            MARKETING_PORTAL,
            AUDIENCE,
            self.now.unix_seconds(),
        );
        let token = token.roles(&[role]).claim("uti", format!("{number}"));
        token.signed_by(&self.key.0).expect("signed")
    }

    /// Who calls with this token.
    pub(crate) fn authenticate(&self, token: &str) -> Arc<Principal> {
        let asked = self.entra.authenticate(token, &self.rules, &self.now);
        self.runtime.block_on(asked).expect("a principal").0
    }

    /// The same with a token that was verified before: there is nothing to wait for.
    pub(crate) fn recognise(&self, token: &str) -> Arc<Principal> {
        self.judge(token).expect("a principal")
    }

    /// What comes of a token when there are keys, so that there is nothing to wait for.
    pub(crate) fn judge(&self, token: &str) -> Result<Arc<Principal>, Denial> {
        let asked = self.entra.authenticate(token, &self.rules, &self.now);
        let asked = asked.now_or_never().expect("keys in memory");
        asked.map(|(principal, _)| principal)
    }
}

/// A request for this target, as hyper hands it over.
pub(crate) fn parts(target: &str) -> http::request::Parts {
    let request = Request::post(target)
        .header("host", HOST)
        .header("user-agent", "azsdk-net-Core/1.44")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, deflate, br")
        .header("content-type", "application/json")
        .header("content-length", "29")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .header("authorization", format!("Bearer {}", "x".repeat(1200)));
    request.body(()).expect("a request").into_parts().0
}

/// The canonical form of a request, with the length of the query that is passed on.
pub(crate) fn canonical(
    parts: http::request::Parts,
) -> Result<(canonical::Request, usize), Refused> {
    let request = canonical::Request::new(parts, CLIENT)?;
    let query = request.forwarded_query(KeptParameters::NONE);
    let length = query.map_or(0, |query| query.len());
    Ok((request, length))
}

/// The path of the route in the middle.
pub(crate) fn path(routes: usize) -> String {
    format!("/r{}/42/a/b", routes / 2)
}

/// A policy of so many routes.
pub(crate) fn document(routes: usize) -> PolicyDocument {
    let mut text = format!(
        "tenants: {{ contoso: {CONTOSO} }}\napps: {{ portal: {MARKETING_PORTAL} }}\naudiences: ['{AUDIENCE}']\nbackends: {{ b: {{ function: 'https://contoso.azurewebsites.net', credential: {{ managedIdentity: {{ resource: 'api://contoso' }} }} }} }}\nroutes:\n"
    );
    for route in 0..routes {
        text += &format!(
            "  r{route}: {{ match: {{ methods: [GET, POST], path: '/r{route}/{{id}}/{{*rest}}' }}, backend: b, allow: [{{ tenants: [contoso], apps: [portal], roles: [Guests.Invite] }}], rateLimit: {{ requests: 4000000000, per: 1s, burst: 4000000000, by: [tenant, app] }} }}\n"
        );
    }
    parse_policies(&[(Path::new("bench.yaml"), &text)], &mut Diagnostics::new())
}

/// The same, ready.
pub(crate) fn compiled(document: &PolicyDocument) -> Policy {
    let mut diagnostics = Diagnostics::new();
    let policy = policy::compile(document, &mut diagnostics);
    policy.unwrap_or_else(|| panic!("{}", diagnostics.render()))
}

/// What else is decided by.
pub(crate) fn circumstances(headers: &HeaderMap) -> Circumstances<'_> {
    Circumstances {
        certificate: None,
        now: SystemClock.now().unix,
        client: CLIENT.ip(),
        method: &Method::POST,
        host: HOST,
        path: "/",
        headers,
        keys: KeyParameters::NONE,
        upgrade: None,
        version: http::Version::HTTP_11,
        parameters: &[],
        known: None,
    }
}
