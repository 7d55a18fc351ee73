//! The latest requests: listed, followed as they come, and explained one by one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::{Answer, error, json as answer};
use crate::clock::pause;
use crate::denial::Reason;
use crate::policy::Known;
use crate::policy::explain::{ExplainedClause, ExplainedRule};
use crate::snapshot::Snapshot;
use crate::telemetry::{Filter, Metrics, Outcome, Record, Times, request_line};

/// How many are listed unless somebody asks for another number, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;

/// What is asked for.
#[derive(Default)]
struct Asked {
    filter: Filter,
    limit: Option<usize>,
    follow: bool,
}

impl Asked {
    /// Reads a query.
    fn read(query: &str) -> Result<Self, String> {
        let mut asked = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = crate::fingerprint::decoded(value.replace('+', " ").as_bytes());
            let Ok(value) = String::from_utf8(decoded) else {
                return Err(format!("the value of `{name}` is no text"));
            };
            let filter = &mut asked.filter;
            match name {
                "decision" if matches!(&*value, "allow" | "deny") => filter.decision = Some(value),
                "decision" => return Err("`decision` is `allow` or `deny`".to_owned()),
                "reason" => filter.reason = Some(value),
                "route" => filter.route = Some(value),
                "app" => filter.app = Some(value),
                "tenant" => filter.tenant = Some(value),
                "limit" => {
                    let limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MOST).contains(limit));
                    let limit =
                        limit.ok_or_else(|| format!("`limit` is a number from 1 to {MOST}"))?;
                    asked.limit = Some(limit);
                }
                "follow" if matches!(&*value, "true" | "false") => asked.follow = value == "true",
                "follow" => return Err("`follow` is `true` or `false`".to_owned()),
                _ => {
                    return Err(
                        "there are decision, reason, route, app, tenant, limit and follow"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(asked)
    }
}

/// The latest that are asked for, or those to come.
pub(super) fn list(requests: &Arc<Metrics>, query: Option<&str>) -> Answer {
    let asked = match Asked::read(query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    if asked.follow {
        return follow(Arc::clone(requests), asked.filter);
    }
    let (records, _) = requests.recent(&asked.filter, &[], asked.limit.unwrap_or(USUAL));
    let decisions: Vec<Value> = records.iter().map(told).collect();
    answer(&json!({ "decisions": decisions, "kept": requests.kept() }))
}

/// A record as its line in the request log says it.
fn told(record: &Record) -> Value {
    let mut line = Vec::new();
    request_line(record, &mut Times::default(), &mut line);
    serde_json::from_slice(&line).unwrap_or_default()
}

/// How often it is looked whether there are more.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After so many looks without any, a comment shows that the connection is alive.
const LOOKS_BEFORE_A_SIGN: u32 = 60;
/// The most that are told at once; a busy gateway's others are left out.
const MOST_AT_ONCE: usize = 200;

/// So many may follow at once: others need connections, too.
static FOLLOWERS: Semaphore = Semaphore::const_new(16);

fn follow(requests: Arc<Metrics>, filter: Filter) -> Answer {
    let Ok(place) = FOLLOWERS.try_acquire() else {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "sixteen follow already; close another page, or ask without `follow`",
        );
    };
    // Those to come: behind all that there are.
    let (_, marks) = requests.recent(&filter, &[], 0);
    let events = events(requests, filter, marks, place);
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

type Event = Result<Frame<Bytes>, Infallible>;

/// Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
fn events(
    requests: Arc<Metrics>,
    filter: Filter,
    marks: Vec<u64>,
    place: SemaphorePermit<'static>,
) -> impl Stream<Item = Event> + Send {
    // A first comment, so that whoever asked sees that there is an answer.
    let state = (requests, filter, marks, LOOKS_BEFORE_A_SIGN, place);
    stream::unfold(
        state,
        |(requests, filter, mut marks, mut quiet, place)| async move {
            loop {
                if quiet >= LOOKS_BEFORE_A_SIGN {
                    let sign = Ok(Frame::data(Bytes::from_static(b":\n\n")));
                    return Some((sign, (requests, filter, marks, 0, place)));
                }
                pause(LOOK_EVERY).await;
                let (mut records, now) = requests.recent(&filter, &marks, MOST_AT_ONCE);
                marks = now;
                if records.is_empty() {
                    quiet += 1;
                    continue;
                }
                // The oldest first.
                records.reverse();
                let mut text = Vec::new();
                for record in &records {
                    text.extend_from_slice(b"event: decision\ndata: ");
                    request_line(record, &mut Times::default(), &mut text);
                    text.push(b'\n');
                }
                let told = Ok(Frame::data(Bytes::from(text)));
                return Some((told, (requests, filter, marks, 0, place)));
            }
        },
    )
}

/// The one that the path names, explained.
pub(super) fn one(requests: &Metrics, snapshot: &Snapshot, path: &str) -> Answer {
    let id = path.rsplit('/').next().unwrap_or_default();
    let Ok(id) = id.parse() else {
        return error(StatusCode::NOT_FOUND, "this is no request ID");
    };
    let filter = Filter {
        id: Some(id),
        ..Filter::default()
    };
    let (records, _) = requests.recent(&filter, &[], 1);
    let Some(record) = records.first() else {
        return error(
            StatusCode::NOT_FOUND,
            "this request is not, or no longer, among the latest of this replica; the decision log may have it: portcullis explain --decision ID --log decisions.jsonl",
        );
    };
    let mut page = told(record);
    if let Some(page) = page.as_object_mut() {
        page.insert("explanation".to_owned(), explained(record, snapshot));
    }
    answer(&page)
}

fn explained(record: &Record, snapshot: &Snapshot) -> Value {
    let (title, detail) = match record.outcome {
        Outcome::Allowed => (
            "The request was let in",
            "A rule of the route holds for it.",
        ),
        Outcome::Public => (
            "The request was let in",
            "The route is public: everybody is let in.",
        ),
        Outcome::ReportOnly => (
            "The request was let in because the route only reports",
            "Once it acts, the request is decided on as `reportOnly` says.",
        ),
        Outcome::Denied(reason) => (reason.title(), reason.detail()),
    };
    json!({
        "title": title,
        "detail": detail,
        "advice": advice(record),
        "steps": steps(record, snapshot),
    })
}

/// What to do, for those who run the gateway.
fn advice(record: &Record) -> &'static str {
    let Outcome::Denied(reason) = record.outcome else {
        return "There is nothing to mend. If it should have been refused, look at the rules below, and add a test to the policy.";
    };
    match reason.status() {
        _ if reason == Reason::CallerLeft => {
            "The caller left before the answer. If many do, look at latency, and at the callers' own time limits."
        }
        StatusCode::BAD_REQUEST => {
            "The caller has to send the request in another form; no policy lets it in as it is."
        }
        StatusCode::UNAUTHORIZED => {
            "The caller has to bring another token. If the token should do, compare what was expected with what came: tenants, audiences and token versions stand in the policies and in gateway.yaml."
        }
        StatusCode::FORBIDDEN => {
            "If the caller should be let in, change the rule that came closest, and add a test to the policy; `portcullis diff` then tells who else gains. If not, there is nothing to mend."
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            "No route takes the request. Compare method, host and path with the routes of the policy."
        }
        StatusCode::TOO_MANY_REQUESTS => {
            "The caller has to call less often, or its limit is to be raised in the policy."
        }
        status if status.is_server_error() => {
            "The gateway or the backend failed, not the caller: see the health of keys, credentials and backends, and what the events on standard error say."
        }
        _ => "See the table of reason codes in policies/README.md.",
    }
}

/// What led to the decision, stage by stage, by the policy that is in force now.
fn steps(record: &Record, snapshot: &Snapshot) -> Vec<String> {
    let mut steps = Vec::new();
    match (&record.route, record.path.is_empty()) {
        (Some(route), _) => steps.push(format!("The route {route} takes the request.")),
        (None, true) => {
            steps.push("The request has no form that can be read in one way alone.".to_owned())
        }
        (None, false) => {
            steps.push("No route was found, or none may be told of to a stranger.".to_owned())
        }
    }
    match (&record.authentication, record.principal.as_deref()) {
        (Some(reason), _) => steps.push(format!("The token was refused: {}.", reason.title())),
        (None, Some(_)) => {
            let name = record
                .app_name
                .as_deref()
                .unwrap_or("an app without a name in the policy");
            let tenant = record
                .tenant_name
                .as_deref()
                .unwrap_or("a tenant without a name");
            steps.push(format!("The token is good: {name} of {tenant}."));
        }
        (None, None) => steps.push("Nobody looked for a token.".to_owned()),
    }
    if let Some(note) = record.note() {
        steps.push(format!("Expected {}; got {}.", note.expected, note.got));
    }
    rules(record, snapshot, &mut steps);
    if let Some(limit) = &record.limit {
        let what = if record.limited {
            "refused it"
        } else {
            "would have refused it, had it acted"
        };
        steps.push(format!("The limit {limit} {what}."));
    }
    if let Some(backend) = &record.backend {
        steps.push(format!("It was sent to the backend {backend}."));
    }
    steps.push(format!("The answer was {}.", record.status.as_u16()));
    steps
}

fn rules(record: &Record, snapshot: &Snapshot, steps: &mut Vec<String>) {
    let policy = &snapshot.rules.policy;
    let (method, host, path) = record.decided_on();
    let matched = policy.find(host, method, path).ok();
    let matched = matched.filter(|matched| Some(matched.route().name()) == record.route.as_ref());
    let Some(matched) = matched else {
        if record.route.is_some() {
            steps.push("The policy has changed since: its rules are not those of then.".to_owned());
        }
        return;
    };
    let mut headers = HeaderMap::new();
    let mut known = Known {
        hashed: record.is_hashed(),
        ..Known::default()
    };
    if let Some(recorded) = record.recorded.as_ref().filter(|_| !record.is_hashed()) {
        known.claims.extend(recorded.claims.iter().cloned());
        for (name, values) in recorded.fields.iter().zip(&record.fields) {
            let (Some(values), Ok(field)) = (values, HeaderName::try_from(&**name)) else {
                continue;
            };
            known.headers.insert(name.clone());
            for value in values
                .iter()
                .filter_map(|value| HeaderValue::from_str(value).ok())
            {
                headers.append(field.clone(), value);
            }
        }
    }
    let circumstances = record.circumstances(&headers, &known);
    let rules = matched.explain(record.principal.as_deref(), &circumstances, policy.names());
    for ExplainedRule {
        rule,
        holds,
        clauses,
        ..
    } in rules
    {
        let verdict = if holds { "holds" } else { "does not hold" };
        let failing = clauses.iter().filter(|clause| clause.verdict != "holds");
        let failing: Vec<String> = failing
            .map(|clause| said(clause, record.is_hashed()))
            .collect();
        steps.push(match failing.is_empty() {
            true => format!("{rule} {verdict}."),
            false => format!("{rule} {verdict}: {}.", failing.join("; ")),
        });
    }
}

fn said(clause: &ExplainedClause, is_hashed: bool) -> String {
    let ExplainedClause {
        key,
        asked,
        got,
        verdict,
    } = clause;
    // Who is told by hashes alone is not told here either.
    match is_hashed && matches!(*key, "from" | "principals" | "when") {
        true => format!("{key} asks for {asked}, which {verdict}"),
        false => format!("{key} asks for {asked}, and the request has {got}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_nobody_knows_refused() {
        let asked = Asked::read("decision=deny&app=marketing%20portal&limit=7&follow=true");
        let asked = asked.expect("understood");
        assert_eq!(asked.filter.decision.as_deref(), Some("deny"));
        assert_eq!(asked.filter.app.as_deref(), Some("marketing portal"));
        assert_eq!((asked.limit, asked.follow), (Some(7), true));
        for wrong in [
            "decision=maybe",
            "limit=0",
            "limit=1001",
            "limit=x",
            "follow=yes",
            "sort=time",
        ] {
            assert!(Asked::read(wrong).is_err(), "{wrong}");
        }
    }
}
