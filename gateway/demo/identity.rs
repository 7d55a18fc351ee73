//! A small identity endpoint, as App Service, Functions and Container Apps have one, as IMDS is, and as
//! the agent of Azure Arc has one.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcDateTime};
use tokio::sync::watch;

pub use super::issued::{Issued, SYSTEM};
use super::serve::{
    Answer, Refused, Served, Whole, json as answer_json, parameter, parameters, serve, with_field,
};
use super::{fault, lock};
use crate::clock::Clock;
use crate::ids::random_u128;

/// The value of IDENTITY_HEADER that the endpoint asks for.
pub const IDENTITY_HEADER: &str = "demo-identity-header";

const APP_SERVICE_PATH: &str = "/msi/token";
const IMDS_PATH: &str = "/metadata/identity/oauth2/token";
const ARC_PATH: &str = "/arc/metadata/identity/oauth2/token";

/// An identity endpoint that runs as long as this is held.
pub struct IdentityEndpoint {
    served: Served,
    state: Arc<State>,
}

struct State {
    clock: Arc<dyn Clock>,
    issued: Issued,
    manner: Mutex<Manner>,
    arc: Mutex<ArcKeys>,
    asked: watch::Sender<Vec<Asked>>,
}

/// How the endpoint answers.
struct Manner {
    fault: Option<u16>,
    faults: VecDeque<u16>,
    retry_after: Option<String>,
    hangs: bool,
    garbage: bool,
    lifetime: u64,
    expires_on: ExpiresOn,
    refresh_in: Option<u64>,
}

/// The key files of Arc's agent.
#[derive(Default)]
struct ArcKeys {
    named: PathBuf,
    keys: Vec<String>,
}

/// The forms of `expires_on` that have been seen of Azure's endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiresOn {
    /// Seconds since the Unix epoch, as text: what every endpoint of today writes.
    #[default]
    Text,
    /// Seconds since the Unix epoch, as a number.
    Number,
    /// `2024-12-31T23:59:59Z`.
    Iso,
    /// `2024-12-31 23:59:59`, in UTC.
    IsoWithSpace,
    /// `12/31/2024 23:59:59`, in UTC.
    American,
    /// An empty text, beside `expires_in`.
    Empty,
}

impl ExpiresOn {
    pub(super) fn written(self, unix: u64) -> io::Result<Value> {
        const ISO: &[BorrowedFormatItem<'_>] =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
        const SPACE: &[BorrowedFormatItem<'_>] =
            format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
        const AMERICAN: &[BorrowedFormatItem<'_>] =
            format_description!("[month]/[day]/[year] [hour]:[minute]:[second]");
        let format = match self {
            Self::Text => return Ok(unix.to_string().into()),
            Self::Number => return Ok(unix.into()),
            Self::Empty => return Ok("".into()),
            Self::Iso => ISO,
            Self::IsoWithSpace => SPACE,
            Self::American => AMERICAN,
        };
        let at = OffsetDateTime::from_unix_timestamp(i64::try_from(unix).map_err(fault)?);
        Ok(UtcDateTime::from(at.map_err(fault)?)
            .format(format)
            .map_err(fault)?
            .into())
    }
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What the token is for.
    pub resource: String,
    /// Which identity was asked for: the parameter and its value; `None` for the system's.
    pub identity: Option<(String, String)>,
    /// By IMDS's protocol, which Arc's agent speaks too, instead of App Service's.
    pub imds: bool,
}

impl IdentityEndpoint {
    /// Starts it; tokens live for a day.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let manner = Manner {
            fault: None,
            faults: VecDeque::new(),
            retry_after: None,
            hangs: false,
            garbage: false,
            lifetime: 24 * 3600,
            expires_on: ExpiresOn::Text,
            refresh_in: None,
        };
        let state = Arc::new(State {
            clock,
            issued: Issued::default(),
            manner: Mutex::new(manner),
            arc: Mutex::default(),
            asked: watch::Sender::default(),
        });
        let answering = Arc::clone(&state);
        let served = serve(None, move |request| {
            let answer = answering.answer(&request);
            async {
                match answer {
                    Some(answer) => Some(answer),
                    None => std::future::pending().await,
                }
            }
        })
        .await?;
        Ok(Self { served, state })
    }

    /// IDENTITY_ENDPOINT.
    pub fn endpoint(&self) -> String {
        format!("http://{}{APP_SERVICE_PATH}", self.served.address)
    }

    /// Where IMDS's protocol is spoken.
    pub fn imds(&self) -> SocketAddr {
        self.served.address
    }

    /// IDENTITY_ENDPOINT as Arc's agent sets it, beside IMDS_ENDPOINT and without IDENTITY_HEADER.
    pub fn arc_endpoint(&self) -> String {
        format!("http://{}{ARC_PATH}", self.served.address)
    }

    /// Writes a fresh key file as Arc's agent does, and has the agent name it in its challenges.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn arc_key(&self, folder: &Path) -> io::Result<PathBuf> {
        let key = format!("demo-arc-key-{:032x}", random_u128());
        let path = folder.join(format!("{:032x}.key", random_u128()));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(key.as_bytes())?;
        lock(&self.state.arc).keys.push(key);
        self.name_arc_key(&path);
        Ok(path)
    }

    /// Has the agent name any path in its challenges, there or not: a false agent would.
    pub fn name_arc_key(&self, path: &Path) {
        path.clone_into(&mut lock(&self.state.arc).named);
    }

    /// The content of every key file that was written.
    pub(super) fn arc_keys(&self) -> Vec<String> {
        lock(&self.state.arc).keys.clone()
    }

    /// The tokens that were issued.
    pub fn issued(&self) -> Issued {
        self.state.issued.clone()
    }

    /// Answers with this status from now on, or well again.
    pub fn set_fault(&self, status: Option<u16>) {
        lock(&self.state.manner).fault = status;
    }

    /// Answers with these statuses first, one a request, and then well.
    pub fn set_faults(&self, statuses: &[u16]) {
        lock(&self.state.manner).faults = statuses.iter().copied().collect();
    }

    /// The `Retry-After` of faults from now on.
    pub fn set_retry_after(&self, value: Option<&str>) {
        lock(&self.state.manner).retry_after = value.map(str::to_owned);
    }

    /// Never answers from now on, or well again.
    pub fn set_hang(&self, hangs: bool) {
        lock(&self.state.manner).hangs = hangs;
    }

    /// Answers 200 with what is not JSON from now on, or well again.
    pub fn set_garbage(&self, garbage: bool) {
        lock(&self.state.manner).garbage = garbage;
    }

    /// How long tokens live from now on, in seconds.
    pub fn set_lifetime(&self, seconds: u64) {
        lock(&self.state.manner).lifetime = seconds;
    }

    /// How answers say when a token ends.
    pub fn set_expires_on(&self, form: ExpiresOn) {
        lock(&self.state.manner).expires_on = form;
    }

    /// Answers advise to refresh after so many seconds.
    pub fn set_refresh_in(&self, seconds: Option<u64>) {
        lock(&self.state.manner).refresh_in = seconds;
    }

    /// The requests so far.
    pub fn asked(&self) -> watch::Receiver<Vec<Asked>> {
        self.state.asked.subscribe()
    }
}

/// Whose protocol is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    AppService,
    Imds,
    Arc,
}

impl Protocol {
    fn of(request: &Whole) -> Self {
        match request.uri().path() {
            IMDS_PATH => Self::Imds,
            ARC_PATH => Self::Arc,
            _ => Self::AppService,
        }
    }

    /// The parameters that select an identity. A resource ID is spelt differently at each, and the
    /// wrong spelling is ignored: the answer is the system's token, without a word.
    fn selectors(self) -> &'static [&'static str] {
        match self {
            Self::AppService => &["client_id", "principal_id", "object_id", "mi_res_id"],
            Self::Imds | Self::Arc => &["client_id", "object_id", "msi_res_id"],
        }
    }
}

fn refuse(status: StatusCode, error: &str) -> Refused {
    let problem = json!({ "error": error, "error_description": "see error" });
    Box::new(answer_json(status, &problem))
}

fn header<'r>(request: &'r Whole, name: &str) -> Option<&'r str> {
    request.headers().get(name)?.to_str().ok()
}

impl State {
    /// `None` for an answer that never comes.
    fn answer(&self, request: &Whole) -> Option<Answer> {
        let protocol = Protocol::of(request);
        if let Err(refusal) = self.let_in(protocol, request) {
            return Some(*refusal);
        }
        let query = parameters(request.uri().query().unwrap_or_default());
        let asked = match asked(protocol, &query) {
            Ok(asked) => asked,
            Err(refusal) => return Some(*refusal),
        };
        self.asked
            .send_modify(|requests| requests.push(asked.clone()));
        let mut manner = lock(&self.manner);
        if manner.hangs {
            return None;
        }
        if let Some(status) = manner.faults.pop_front().or(manner.fault) {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            let after = manner.retry_after.as_deref();
            return Some(with_field(
                *refuse(status, "unavailable"),
                header::RETRY_AFTER,
                after,
            ));
        }
        if manner.garbage {
            let body = Full::new(Bytes::from_static(b"<html>proxy</html>"));
            return Some(Response::new(body));
        }
        Some(self.token(protocol, &asked, &manner))
    }

    /// What each protocol asks of a request before it looks at what is wanted.
    fn let_in(&self, protocol: Protocol, request: &Whole) -> Result<(), Refused> {
        if protocol == Protocol::AppService {
            return match header(request, "x-identity-header") {
                Some(IDENTITY_HEADER) => Ok(()),
                _ => Err(refuse(StatusCode::UNAUTHORIZED, "unknown_source")),
            };
        }
        if header(request, "metadata") != Some("true") {
            return Err(refuse(StatusCode::BAD_REQUEST, "bad_request_102"));
        }
        if request.headers().contains_key("x-forwarded-for") {
            return Err(refuse(StatusCode::BAD_REQUEST, "invalid_request"));
        }
        match protocol {
            Protocol::Arc => self.key_is_known(request),
            Protocol::AppService | Protocol::Imds => Ok(()),
        }
    }

    /// Arc's challenge: whoever can read a file of the agent's may have a token.
    fn key_is_known(&self, request: &Whole) -> Result<(), Refused> {
        let named = lock(&self.arc).named.clone();
        let sent = header(request, "authorization").and_then(|value| value.strip_prefix("Basic "));
        let key = std::fs::read_to_string(&named).ok();
        if sent.is_some() && sent == key.as_deref() {
            return Ok(());
        }
        let challenge = format!("Basic realm={}", named.display());
        let refusal = refuse(StatusCode::UNAUTHORIZED, "unauthorized_client");
        let refusal = with_field(*refusal, header::WWW_AUTHENTICATE, Some(&challenge));
        Err(Box::new(refusal))
    }

    fn token(&self, protocol: Protocol, asked: &Asked, manner: &Manner) -> Answer {
        let expires = self.clock.now().unix_seconds() + manner.lifetime;
        let expires_on = match manner.expires_on.written(expires) {
            Ok(expires_on) => expires_on,
            Err(_) => return *refuse(StatusCode::INTERNAL_SERVER_ERROR, "no_such_time"),
        };
        let identity = asked.identity.as_ref().map(|(_, value)| value.as_str());
        let mut answer = json!({
            "access_token": self.issued.issue(&asked.resource, identity.unwrap_or(SYSTEM)),
            "expires_on": expires_on,
            "resource": asked.resource,
            "token_type": "Bearer",
        });
        let mut add = |name: &str, value: Value| {
            if let Some(members) = answer.as_object_mut() {
                members.insert(name.to_owned(), value);
            }
        };
        // Numbers as text, as the endpoints write them.
        if protocol != Protocol::AppService || manner.expires_on == ExpiresOn::Empty {
            add("expires_in", manner.lifetime.to_string().into());
        }
        if protocol != Protocol::AppService {
            add("refresh_token", "".into());
        }
        if let Some(seconds) = manner.refresh_in {
            add("refresh_in", seconds.to_string().into());
        }
        answer_json(StatusCode::OK, &answer)
    }
}

fn asked(protocol: Protocol, query: &[(String, String)]) -> Result<Asked, Refused> {
    let invalid = || refuse(StatusCode::BAD_REQUEST, "invalid_request");
    let resource = parameter(query, "resource").ok_or_else(invalid)?;
    parameter(query, "api-version").ok_or_else(invalid)?;
    let named = |name: &&str| Some(((*name).to_owned(), parameter(query, name)?));
    let mut selected = protocol.selectors().iter().filter_map(named);
    let identity = selected.next();
    if selected.next().is_some() {
        return Err(invalid());
    }
    Ok(Asked {
        resource,
        identity,
        imds: protocol != Protocol::AppService,
    })
}
