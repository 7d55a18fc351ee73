//! Durable Functions: orchestrations, and the management URLs that carry the extension's system key.

use std::collections::HashMap;
use std::sync::Mutex;

use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::backend::Seen;
use super::function::{SYSTEM_KEY, empty, origin};
use super::lock;
use super::serve::{Answer, json as answer_json, parameter_of_any_case, with_field};
use crate::ids::random_u128;

const TASK_HUB: &str = "DemoHub";
const CONNECTION: &str = "Storage";

/// An event that was raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The orchestration it was raised for.
    pub instance: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub body: String,
}

/// The orchestrations of a task hub.
pub(super) struct Durable {
    polls: Mutex<u32>,
    instances: Mutex<HashMap<String, Instance>>,
    events: Mutex<Vec<Event>>,
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            polls: Mutex::new(1),
            instances: Mutex::default(),
            events: Mutex::default(),
        }
    }
}

#[derive(Clone)]
struct Instance {
    name: String,
    state: State,
}

/// How far an orchestration is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It says so many times that it is not done yet.
    Running(u32),
    /// It stands still, and counts as running.
    Suspended(u32),
    Completed,
    Terminated,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running(_) => "Running",
            Self::Suspended(_) => "Suspended",
            Self::Completed => "Completed",
            Self::Terminated => "Terminated",
        }
    }

    fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Terminated)
    }

    /// What it is once somebody has asked.
    fn asked(self) -> Self {
        match self {
            Self::Running(0) => Self::Completed,
            Self::Running(left) => Self::Running(left - 1),
            other => other,
        }
    }
}

/// The management URLs of an instance by their names; `{eventName}` and `{text}` stand in them as
/// they are, for callers to fill in.
fn management(origin: &str, id: &str) -> Value {
    let url = |below: &str, reason: &str| {
        format!(
            "{origin}/runtime/webhooks/durabletask/instances/{id}{below}?{reason}taskHub={TASK_HUB}&connection={CONNECTION}&code={SYSTEM_KEY}"
        )
    };
    json!({
        "id": id,
        "statusQueryGetUri": url("", ""),
        "sendEventPostUri": url("/raiseEvent/{eventName}", ""),
        "terminatePostUri": url("/terminate", "reason={text}&"),
        "rewindPostUri": url("/rewind", "reason={text}&"),
        "purgeHistoryDeleteUri": url("", ""),
        "restartPostUri": url("/restart", ""),
        "suspendPostUri": url("/suspend", "reason={text}&"),
        "resumePostUri": url("/resume", "reason={text}&"),
    })
}

/// What `CreateCheckStatusResponse` answers, in JSON as .NET writes it: `&` stands escaped.
fn check_status(origin: &str, id: &str) -> Answer {
    let urls = management(origin, id);
    let location = urls.get("statusQueryGetUri").and_then(Value::as_str);
    let text = urls.to_string().replace('&', "\\u0026");
    let mut answer = empty(StatusCode::ACCEPTED);
    *answer.body_mut() = text.into();
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    let answer = with_field(answer, header::LOCATION, location);
    with_field(answer, header::RETRY_AFTER, Some("10"))
}

impl Durable {
    pub(super) fn set_polls(&self, times: u32) {
        *lock(&self.polls) = times;
    }

    pub(super) fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// Begins an orchestration.
    pub(super) fn begin(&self, name: &str, origin: &str) -> Answer {
        let id = format!("{:032x}", random_u128());
        let instance = Instance {
            name: name.to_owned(),
            state: State::Running(*lock(&self.polls)),
        };
        lock(&self.instances).insert(id.clone(), instance);
        check_status(origin, &id)
    }

    /// Answers what is below the extension's webhook, once it has been let in.
    pub(super) fn answer(&self, seen: &Seen, segments: &[&str]) -> Answer {
        let hub = parameter_of_any_case(&seen.query(), "taskHub");
        if hub.is_some_and(|hub| !hub.eq_ignore_ascii_case(TASK_HUB)) {
            return empty(StatusCode::NOT_FOUND);
        }
        let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
        match (&seen.method, segments) {
            (&Method::GET, [all]) if is(all, "instances") => self.all(),
            (&Method::GET, [all, id]) if is(all, "instances") => self.status(seen, id),
            (&Method::DELETE, [all, id]) if is(all, "instances") => self.purge(id),
            (&Method::POST, [all, id, raise, event])
                if is(all, "instances") && is(raise, "raiseEvent") =>
            {
                self.raise(seen, id, event)
            }
            (&Method::POST, [all, id, verb]) if is(all, "instances") => {
                self.manage(seen, id, &verb.to_ascii_lowercase())
            }
            (&Method::POST, [all, name]) if is(all, "orchestrators") => {
                self.begin(name, &origin(seen))
            }
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    fn all(&self) -> Answer {
        let instances = lock(&self.instances);
        let all: Vec<Value> = instances
            .iter()
            .map(|(id, instance)| told(id, instance))
            .collect();
        answer_json(StatusCode::OK, &all.into())
    }

    /// 202 with the request's own URL until it is done.
    fn status(&self, seen: &Seen, id: &str) -> Answer {
        let mut instances = lock(&self.instances);
        let Some(instance) = instances.get_mut(id) else {
            return empty(StatusCode::NOT_FOUND);
        };
        instance.state = instance.state.asked();
        let body = told(id, instance);
        if instance.state.ended() {
            return answer_json(StatusCode::OK, &body);
        }
        let answer = answer_json(StatusCode::ACCEPTED, &body);
        let location = format!("{}{}", origin(seen), seen.target);
        let answer = with_field(answer, header::LOCATION, Some(&location));
        with_field(answer, header::RETRY_AFTER, Some("5"))
    }

    fn purge(&self, id: &str) -> Answer {
        match lock(&self.instances).remove(id) {
            Some(_) => answer_json(StatusCode::OK, &json!({ "instancesDeleted": 1 })),
            None => empty(StatusCode::NOT_FOUND),
        }
    }

    fn raise(&self, seen: &Seen, id: &str, event: &str) -> Answer {
        match lock(&self.instances).get(id) {
            None => return empty(StatusCode::NOT_FOUND),
            Some(instance) if instance.state.ended() => return empty(StatusCode::GONE),
            Some(_) => {}
        }
        lock(&self.events).push(Event {
            instance: id.to_owned(),
            name: event.to_owned(),
            body: String::from_utf8_lossy(&seen.body).into_owned(),
        });
        empty(StatusCode::ACCEPTED)
    }

    fn manage(&self, seen: &Seen, id: &str, verb: &str) -> Answer {
        let mut instances = lock(&self.instances);
        let Some(instance) = instances.get_mut(id) else {
            return empty(StatusCode::NOT_FOUND);
        };
        instance.state = match (verb, instance.state) {
            ("restart", _) => {
                let name = instance.name.clone();
                drop(instances);
                return self.begin(&name, &origin(seen));
            }
            ("rewind", _) => State::Running(*lock(&self.polls)),
            ("terminate" | "suspend" | "resume", state) if state.ended() => {
                return empty(StatusCode::GONE);
            }
            ("terminate", _) => State::Terminated,
            ("suspend", State::Running(left)) => State::Suspended(left),
            ("resume", State::Suspended(left)) => State::Running(left),
            ("suspend" | "resume", state) => state,
            _ => return empty(StatusCode::NOT_FOUND),
        };
        empty(StatusCode::ACCEPTED)
    }
}

fn told(id: &str, instance: &Instance) -> Value {
    let output = match instance.state {
        State::Completed => json!({ "invited": true }),
        _ => Value::Null,
    };
    json!({
        "name": instance.name,
        "instanceId": id,
        "runtimeStatus": instance.state.name(),
        "input": null,
        "customStatus": null,
        "output": output,
        "createdTime": "2026-01-01T00:00:00Z",
        "lastUpdatedTime": "2026-01-01T00:00:01Z",
    })
}
