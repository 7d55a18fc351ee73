//! The request as the backend receives it: the caller's, in canonical form, with what the gateway
//! asserts put in last.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};

use super::target::Target;
use crate::canonical::{self, KeyParameters};
use crate::credentials::{Carried, FUNCTIONS_KEY, Presented};
use crate::denial::{Denial, Reason};
use crate::files::{self, BackendKind, Credential};
use crate::http1::Block;
use crate::ids::RequestId;
use crate::policy::{Authorized, SealsBody};
use crate::trace::Trace;
use crate::upgrade::Protocol;

/// What the gateway says of the caller's connection, which is TLS: to the gateway, or to the platform in
/// front of it. Made once a connection.
#[derive(Clone, Debug)]
pub struct Caller(Block);

impl Caller {
    /// A caller at this address.
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        // RFC 7239 section 6: an IPv6 address stands in brackets, and so in quotes.
        let node = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        let (address, forwarded) = (address.to_string(), format!("for={node};proto=https"));
        let values = [address.as_bytes(), b"https", forwarded.as_bytes()];
        // INVARIANT: the text of an address may stand in a field.
        Self(Block::new(&CALLER, values).unwrap_or_default())
    }
}

static CALLER: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    header::FORWARDED,
];
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ARR_LOG_ID: HeaderName = HeaderName::from_static("x-arr-log-id");

/// The head of a request on its way out: what the caller sent and may send, and what the gateway says.
pub(super) struct Outgoing<'r> {
    method: Method,
    /// Path and query.
    target: String,
    /// What the caller sent. Nothing of it bears a name that the gateway says something under.
    callers: HeaderMap,
    /// What the gateway says. Kept apart, for it is only ever written out.
    said: Vec<(HeaderName, HeaderValue)>,
    /// What it says besides, in lines that were written before.
    blocks: [Option<&'r Block>; 2],
}

impl<'r> Outgoing<'r> {
    /// So many fields are said of nearly every request.
    const USUAL: usize = 10;

    fn new(method: Method, target: String, callers: HeaderMap) -> Self {
        Self {
            method,
            target,
            callers,
            said: Vec::with_capacity(Self::USUAL),
            blocks: [None; 2],
        }
    }

    /// Says this under a name that no caller's field bears by now: the canonical form takes out what only a
    /// gateway may say, and the rest is taken out above.
    fn say(&mut self, name: HeaderName, value: HeaderValue) {
        debug_assert!(!self.callers.contains_key(&name), "a caller's {name}");
        self.said.push((name, value));
    }

    /// Says these, of which the same holds.
    fn say_together(&mut self, block: &'r Block) {
        debug_assert!(
            !block.names().any(|name| self.callers.contains_key(name)),
            "a caller's"
        );
        match self.blocks.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(block),
            None => self.say_apart(block),
        }
    }

    fn say_apart(&mut self, block: &Block) {
        let fields = block.fields();
        self.said
            .extend(fields.map(|(name, value)| (name.clone(), value.clone())));
    }

    /// Says this alone under a name and whatever is read as that name.
    fn say_alone(&mut self, name: HeaderName, value: HeaderValue) {
        for block in std::mem::take(&mut self.blocks).into_iter().flatten() {
            match block
                .names()
                .any(|other| canonical::folds_alike(other, &name))
            {
                true => self.say_apart(block),
                false => self.say_together(block),
            }
        }
        let said = &mut self.said;
        said.retain(|(other, _)| !canonical::folds_alike(other, &name));
        self.say(name, value);
    }

    /// Says this under a name, in place of what the caller sent.
    fn say_instead(&mut self, name: HeaderName, value: HeaderValue) {
        self.callers.remove(&name);
        self.say(name, value);
    }

    /// The method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// A field of the message's framing, which only the caller's side says.
    pub(super) fn callers(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.callers.get(name)
    }

    /// All of the caller's fields of a name.
    pub(super) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.callers.get_all(name).iter()
    }

    /// The fields that stand alone.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let said = self.said.iter().map(|(name, value)| (name, value));
        self.callers.iter().chain(said)
    }

    /// Those that are said together, and sent behind the others.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &'r Block> {
        self.blocks.iter().copied().flatten()
    }

    /// As a request that its protocol's library, or a tool for people, can read.
    ///
    /// # Errors
    /// `Internal` where the backend's host is none, which its policy does not let happen.
    pub(super) fn into_request(
        self,
        target: &Target,
        host: &HeaderValue,
    ) -> Result<Request<()>, Denial> {
        let mut request = Request::new(());
        let mut headers = self.callers;
        for (name, value) in self.said {
            headers.append(name, value);
        }
        for (name, value) in self
            .blocks
            .iter()
            .flatten()
            .flat_map(|block| block.fields())
        {
            headers.append(name, value.clone());
        }
        *request.method_mut() = self.method;
        let path_and_query = PathAndQuery::try_from(self.target).map_err(|_| Reason::Internal)?;
        match target.protocol {
            files::Protocol::Http1 => *request.uri_mut() = Uri::from(path_and_query),
            files::Protocol::Http2 => {
                let scheme = if target.secure { "https" } else { "http" };
                let uri = Uri::builder()
                    .scheme(scheme)
                    .authority(host.as_bytes())
                    .path_and_query(path_and_query)
                    .build();
                *request.uri_mut() = uri.map_err(|_| Denial::from(Reason::Internal))?;
                *request.version_mut() = Version::HTTP_2;
                // RFC 9113 section 8.3.1: the authority says it.
                headers.remove(header::HOST);
            }
        }
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// What a request is made of, beside its body.
pub(super) struct Parts<'r> {
    pub(super) authorized: &'r Authorized<'r>,
    pub(super) target: &'r Target,
    /// What `Host` says.
    pub(super) host: &'r HeaderValue,
    /// Path and query, where a sealed URL is followed.
    pub(super) followed: Option<&'r str>,
    pub(super) caller: &'r Caller,
    pub(super) trace: Trace,
    pub(super) id: &'r HeaderValue,
    /// What the connection is to be handed over to.
    pub(super) upgrade: Option<&'r Protocol>,
}

impl<'r> Parts<'r> {
    /// Makes the head of the request, with what the backend wants to see. The caller's fields are moved out of it.
    pub(super) fn head(
        self,
        request: &mut canonical::Request,
        credential: Presented,
    ) -> Result<Outgoing<'r>, Denial> {
        self.with(request, credential.into_carried())
    }

    fn with(
        self,
        request: &mut canonical::Request,
        credential: Carried,
    ) -> Result<Outgoing<'r>, Denial> {
        let signature = match &credential {
            Carried::Query(query) => query.expose(),
            Carried::Nothing | Carried::InTheUrl(_) | Carried::Field(..) => "",
        };
        let target = self.path_and_query(request, signature)?;
        let callers_token = self.callers_token(request);
        let method = request.method().clone();
        let host = HeaderValue::from_str(request.host());
        let trailers = request.te_trailers();
        let mut callers = request.take_headers();
        self.withhold_claims(&mut callers);
        if let Carried::Field(name, _) | Carried::InTheUrl(Some(name)) = &credential {
            // What callers send as `Authorization` is gone already, in every spelling.
            if *name != header::AUTHORIZATION {
                canonical::remove_spellings(&mut callers, name);
            }
        }
        let mut head = Outgoing::new(method, target, callers);
        head.say(header::HOST, self.host.clone());
        self.tell_claims(&mut head);
        self.assert(&mut head, host.ok());
        if self.searches_the_body(&head.method) {
            ask_for_plain(&mut head);
        }
        if let Some(token) = callers_token {
            head.say(header::AUTHORIZATION, token);
        }
        if let Carried::Field(name, value) = credential {
            head.say_alone(name, value);
        }
        if let Some(value) = self.upgrade.and_then(upgrade_field) {
            head.say(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.say(header::UPGRADE, value);
        }
        if trailers {
            head.say(header::TE, HeaderValue::from_static("trailers"));
        }
        Ok(head)
    }

    /// Path and query. The path is the canonical one, or what the route rewrote it to, behind the
    /// backend's own; a Logic App's URL is called as it stands.
    fn path_and_query(
        &self,
        request: &canonical::Request,
        signature: &str,
    ) -> Result<String, Denial> {
        if let Some(followed) = self.followed {
            let is_good = may_be_sent(followed);
            return is_good
                .then(|| followed.to_owned())
                .ok_or(Reason::SealedUrlInvalid.into());
        }
        let matched = self.authorized.matched();
        let path = match (matched.rewritten(), self.target.kind) {
            (Some(path), _) => path,
            (None, BackendKind::LogicApp) => "",
            (None, BackendKind::Function | BackendKind::Http) => request.path(),
        };
        let kept = matched.route().kept_parameters();
        let kept = match self.target.kind {
            // A caller who could name another version would call another API.
            BackendKind::LogicApp => kept,
            BackendKind::Function | BackendKind::Http => kept.with(KeyParameters::API_VERSION),
        };
        let query = request.forwarded_query(kept);
        let query = query.as_deref().unwrap_or_default();
        let base = self.target.base_query.as_deref().unwrap_or_default();
        let mut target = String::with_capacity(
            self.target.base_path.len()
                + path.len()
                + query.len()
                + base.len()
                + signature.len()
                + 3,
        );
        target.push_str(&self.target.base_path);
        target.push_str(path);
        if target.is_empty() {
            target.push('/');
        }
        for part in [base, signature, query]
            .into_iter()
            .filter(|part| !part.is_empty())
        {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(part);
        }
        may_be_sent(&target)
            .then_some(target)
            .ok_or(Reason::Internal.into())
    }

    /// Whether the answer's body will be searched for keys. That of a plain GET is not kept from being
    /// compressed for the sake of a 202 that hardly ever comes.
    fn searches_the_body(&self, method: &Method) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match self.authorized.matched().route().seals_body() {
            SealsBody::Never => false,
            SealsBody::Always => true,
            SealsBody::Accepted => !reads || self.followed.is_some(),
        }
    }

    /// The caller's own token, where the route says that the backend gets it. Where the caller was let in
    /// without a good one, there is none.
    fn callers_token(&self, request: &canonical::Request) -> Option<HeaderValue> {
        let forwards = self.authorized.matched().route().forwards_caller_token();
        // Beside a signature there is no place for it, and a link may lead anywhere at the backend.
        let follows = self.followed.is_some();
        if !forwards || follows || self.authorized.principal().is_none() {
            return None;
        }
        let mut token = HeaderValue::try_from(format!("Bearer {}", request.bearer().ok()?)).ok()?;
        token.set_sensitive(true);
        Some(token)
    }

    /// Takes out what the caller sent in the names of claims that the route has told.
    fn withhold_claims(&self, callers: &mut HeaderMap) {
        for (name, _) in self.authorized.matched().route().claim_headers().iter() {
            canonical::remove_spellings(callers, name);
        }
    }

    /// Says the claims that the route has told.
    fn tell_claims(&self, head: &mut Outgoing<'_>) {
        for (name, claim) in self.authorized.matched().route().claim_headers().iter() {
            let principal = self.authorized.principal();
            let value = principal.and_then(|principal| principal.claim_text(claim));
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                head.say(name.clone(), value);
            }
        }
    }

    /// Says what the gateway asserts. Everything of these names that the caller sent is gone.
    fn assert(&self, head: &mut Outgoing<'r>, host: Option<HeaderValue>) {
        head.say_together(&self.caller.0);
        if let Some(host) = host {
            head.say(FORWARDED_HOST, host);
        }
        // Behind those of the caller's side, which stay.
        head.said
            .push((header::VIA, HeaderValue::from_static("1.1 portcullis")));
        // Without this header a Functions host takes a call for the platform's own and opens its
        // admin endpoints.
        if self.target.kind == BackendKind::Function && !head.callers.contains_key(&ARR_LOG_ID) {
            head.say(ARR_LOG_ID, self.id.clone());
        }
        head.say_instead(REQUEST_ID, self.id.clone());
        let (parent, value) = self.trace.parent();
        head.say(parent, value);
        if let Some(principal) = self.authorized.principal() {
            head.say_together(principal.identity_headers());
        }
    }
}

/// `Upgrade`, on either side.
pub(super) fn upgrade_field(protocol: &Protocol) -> Option<HeaderValue> {
    HeaderValue::from_str(protocol.name()).ok()
}

/// Whether a target can be written into a request line: it holds nothing that ends it, or that a reader might end
/// it at. It was made of what was checked before; this is the last look, and without a branch for each byte.
fn may_be_sent(target: &str) -> bool {
    let found = target.bytes().fold(0, |found, byte| {
        found | u8::from((byte <= b' ') | (byte == 0x7F) | (byte == b'#'))
    });
    target.starts_with('/') && found == 0
}

/// What is to be searched has to come whole, and as it is.
fn ask_for_plain(head: &mut Outgoing<'_>) {
    head.say_instead(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    for name in [header::RANGE, header::IF_RANGE] {
        head.callers.remove(name);
    }
}

/// What a backend would get of an authorised request, with a placeholder for the credential: for tools
/// that show what a policy does. Nothing is sent.
///
/// # Errors
/// As the request itself would fail.
pub fn preview(
    backend: &files::Backend,
    authorized: &Authorized<'_>,
    mut request: canonical::Request,
) -> Result<Request<()>, Denial> {
    let target = Target::of(backend).ok_or(Reason::Internal)?;
    let caller = Caller::new(request.client().ip());
    let id = RequestId::fresh().header();
    let upgrade = request.upgrade();
    let upgrade = upgrade.map(|asked| authorized.upgrade(asked)).transpose()?;
    let parts = Parts {
        authorized,
        target: &target,
        host: &target.host,
        followed: None,
        caller: &caller,
        trace: Trace::begin(),
        id: &id,
        upgrade: upgrade.as_ref().map(|upgrade| upgrade.asked().protocol()),
    };
    let placeholder = HeaderValue::from_static("(the gateway's)");
    let credential = match &backend.credential.value {
        Credential::None => None,
        Credential::Token { .. } => Some(header::AUTHORIZATION),
        Credential::FunctionKey { .. } => Some(FUNCTIONS_KEY),
        Credential::Header { name, .. } => Some(name.value.clone()),
        // It stands in the query, which is not for tools to show.
        Credential::Sas { .. } => None,
    };
    let carried = credential.map_or(Carried::Nothing, |name| Carried::Field(name, placeholder));
    let head = parts.with(&mut request, carried)?;
    head.into_request(&target, &target.host)
}
