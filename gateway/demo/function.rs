//! A function app as the Functions host runs it on App Service, with what the host lets in that it
//! should not, if nobody stands in front.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::backend::{Backend, Model, Seen};
use super::durable::{Durable, Event};
use super::issued::Issued;
use super::serve::{Answer, decoded, json as answer_json, parameter_of_any_case, with_field};
use super::{lock, names};

/// The key of every function, unless another is set.
pub const FUNCTION_KEY: &str = "planted-function-key-5d20";

/// The key of the Durable extension's webhooks.
pub const SYSTEM_KEY: &str = "planted-system-key-83b6";

/// The key of everything, `/admin` too.
pub const MASTER_KEY: &str = "planted-master-key-e94a";

/// A function app: functions of any name, which tell what they saw, and orchestrators.
pub struct Function {
    wants: Wants,
    /// The function keys that were ever good; the last one is.
    keys: Mutex<Vec<String>>,
    durable: Durable,
}

/// What a function asks of a caller.
enum Wants {
    /// A managed identity's token: Easy Auth stands in front, functions are anonymous.
    Token(Issued),
    /// A function key.
    Key,
}

impl Backend<Function> {
    /// The function key from now on.
    pub fn set_function_key(&self, key: &str) {
        lock(&self.model.keys).push(key.to_owned());
    }

    /// How often an orchestration that begins from now on says that it is not done yet. Once, unless
    /// set.
    pub fn set_polls(&self, times: u32) {
        self.model.durable.set_polls(times);
    }

    /// The events that were raised, in order.
    pub fn durable_events(&self) -> Vec<Event> {
        self.model.durable.events()
    }

    /// Every key that is good, or was.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = lock(&self.model.keys).clone();
        keys.extend([SYSTEM_KEY.to_owned(), MASTER_KEY.to_owned()]);
        keys
    }
}

impl Function {
    pub(super) fn of_tokens(issued: Issued) -> Self {
        Self::wanting(Wants::Token(issued))
    }

    pub(super) fn of_keys() -> Self {
        Self::wanting(Wants::Key)
    }

    fn wanting(wants: Wants) -> Self {
        Self {
            wants,
            keys: Mutex::new(vec![FUNCTION_KEY.to_owned()]),
            durable: Durable::default(),
        }
    }
}

/// A status and nothing else: how the host refuses.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// Whether the host takes a request for one of the platform's own: the front end adds
/// `x-arr-log-id` to all others, so whoever leaves it out is let in without a key. So it is where
/// WEBSITE_INSTANCE_ID is set, and this host behaves as if it were.
fn is_internal(seen: &Seen) -> bool {
    !seen.headers.contains_key("x-arr-log-id")
}

/// What of `/admin` the host opens to requests of the platform's own.
fn lets_internals_in(rest: &[&str]) -> bool {
    match rest {
        ["host", "scale", "status"] => true,
        ["host", word, ..] => [
            "config",
            "drain",
            "log",
            "processes",
            "resume",
            "status",
            "synctriggers",
        ]
        .contains(word),
        _ => false,
    }
}

/// The key that counts: the first field of the header, and only without one the first `code`.
fn key_of(seen: &Seen) -> Option<String> {
    match seen.headers.get("x-functions-key") {
        Some(key) => Some(String::from_utf8_lossy(key.as_bytes()).into_owned()),
        None => parameter_of_any_case(&seen.query(), "code"),
    }
}

/// Scheme and host as the host believes them: the front end's headers win over `Host`.
pub(super) fn origin(seen: &Seen) -> String {
    let scheme = seen.field("x-forwarded-proto").unwrap_or("https");
    let scheme = scheme.split(',').next().unwrap_or_default().trim();
    let host = seen.field("disguised-host").or_else(|| seen.field("host"));
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

impl Model for Function {
    fn answer(&self, _: &str, seen: &Seen) -> Answer {
        let segments = seen.path().trim_start_matches('/').split('/');
        let segments: Vec<String> = segments.map(decoded).collect();
        // Routing is without regard to case; what the segments say is not.
        let folded: Vec<String> = segments.iter().map(|one| one.to_lowercase()).collect();
        let words: Vec<&str> = folded.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["admin", rest @ ..] => self.admin(seen, rest),
            ["runtime", "webhooks", extension, ..] => self.webhook(seen, extension, &segments),
            rest => self.called(seen, rest, &segments),
        }
    }
}

impl Function {
    fn has_key(&self, seen: &Seen, good: &[&str]) -> bool {
        key_of(seen).is_some_and(|key| good.contains(&key.as_str()))
    }

    fn admin(&self, seen: &Seen, rest: &[&str]) -> Answer {
        if rest == ["host", "ping"] {
            return empty(StatusCode::OK);
        }
        let trusted = is_internal(seen) && lets_internals_in(rest);
        if !trusted && !self.has_key(seen, &[MASTER_KEY]) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        let named = |name: &str, value: &str| json!({ "keys": [{ "name": name, "value": value }] });
        let body = match rest {
            ["host", "status"] => {
                json!({ "id": "contoso-guests", "state": "Running", "version": "4.1036.2.2" })
            }
            ["host", "keys" | "functionkeys"] => {
                let key = lock(&self.keys).last().cloned().unwrap_or_default();
                named("default", &key)
            }
            ["host", "systemkeys"] => named("durabletask_extension", SYSTEM_KEY),
            ["host", ..] => json!({}),
            ["functions"] => json!([{ "name": "guests" }, { "name": "whoami" }]),
            _ => return empty(StatusCode::NOT_FOUND),
        };
        answer_json(StatusCode::OK, &body)
    }

    fn webhook(&self, seen: &Seen, extension: &str, segments: &[String]) -> Answer {
        if !is_internal(seen) && !self.has_key(seen, &[SYSTEM_KEY, MASTER_KEY]) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        let segments: Vec<&str> = segments.iter().skip(3).map(String::as_str).collect();
        match extension {
            "durabletask" => self.durable.answer(seen, &segments),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    /// A function is called, which is behind its credential.
    fn called(&self, seen: &Seen, words: &[&str], segments: &[String]) -> Answer {
        if let Some(refusal) = self.refusal(seen) {
            return refusal;
        }
        match (&seen.method, words) {
            (&Method::POST, ["api", "orchestrators", _]) => {
                let name = segments.last().map_or("", String::as_str);
                self.durable.begin(name, &origin(seen))
            }
            (&Method::GET, ["api", "whoami"]) => whoami(seen),
            _ => self.echo(seen),
        }
    }

    fn refusal(&self, seen: &Seen) -> Option<Answer> {
        match &self.wants {
            Wants::Token(issued) => {
                let resource = seen.bearer().and_then(|token| issued.resource(token));
                let good = resource.as_deref() == Some(names::FUNCTION_RESOURCE);
                let challenge = "Bearer realm=\"contoso-guests.azurewebsites.net\"";
                let refusal = answer_json(StatusCode::UNAUTHORIZED, &Value::Null);
                (!good).then(|| with_field(refusal, header::WWW_AUTHENTICATE, Some(challenge)))
            }
            Wants::Key => {
                let key = lock(&self.keys).last().cloned().unwrap_or_default();
                let good = self.has_key(seen, &[&key, MASTER_KEY]);
                (!good).then(|| empty(StatusCode::UNAUTHORIZED))
            }
        }
    }

    /// What the function saw, without what it was called with.
    fn echo(&self, seen: &Seen) -> Answer {
        let headers = seen.headers.iter();
        let headers: Vec<Value> = headers
            .map(|(name, value)| json!([name.as_str(), self.shown(name.as_str(), value)]))
            .collect();
        let echo = json!({
            "method": seen.method.as_str(),
            "target": seen.target,
            "headers": headers,
        });
        answer_json(StatusCode::OK, &echo)
    }

    fn shown(&self, name: &str, value: &HeaderValue) -> String {
        match (name, &self.wants) {
            ("authorization", Wants::Token(_)) => format!(
                "Bearer <managed identity token for {}>",
                names::FUNCTION_RESOURCE
            ),
            ("x-functions-key", Wants::Key) => "<function key>".to_owned(),
            _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        }
    }
}

/// Whom the host takes the caller for, by the header that Easy Auth sets and everybody believes. A
/// header that is no base64 (standard, padded), and claims that are not there, break the request, as
/// they do in the host; what is no such JSON makes the caller anonymous.
fn whoami(seen: &Seen) -> Answer {
    let Some(value) = seen.headers.get("x-ms-client-principal") else {
        return answer_json(StatusCode::OK, &json!({ "authenticated": false }));
    };
    let Ok(bytes) = STANDARD.decode(value.as_bytes()) else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(principal)) => match principal.get("claims") {
            None | Some(Value::Null) => empty(StatusCode::INTERNAL_SERVER_ERROR),
            Some(claims) => understood(&Value::Object(principal.clone()), claims),
        },
        Ok(_) | Err(_) => answer_json(StatusCode::OK, &json!({ "authenticated": false })),
    }
}

fn understood(principal: &Value, claims: &Value) -> Answer {
    let text = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let claims = claims.as_array().cloned().unwrap_or_default();
    let claims: Vec<(String, String)> = claims
        .iter()
        .map(|claim| (text(claim, "typ"), text(claim, "val")))
        .collect();
    let of_type = |wanted: &str| {
        let matching = claims.iter().filter(|(typ, _)| typ == wanted);
        matching.map(|(_, val)| val.clone()).collect::<Vec<_>>()
    };
    let members = ["auth_typ", "name_typ", "role_typ"];
    let [auth_typ, name_typ, role_typ] = members.map(|name| text(principal, name));
    let known = json!({
        "authenticated": !auth_typ.is_empty(),
        "auth_typ": auth_typ,
        "name_typ": name_typ,
        "role_typ": role_typ,
        "name": of_type(&name_typ).first(),
        "roles": of_type(&role_typ),
        "claims": claims
            .iter()
            .map(|(typ, val)| json!({ "typ": typ, "val": val }))
            .collect::<Vec<_>>(),
    });
    answer_json(StatusCode::OK, &known)
}
