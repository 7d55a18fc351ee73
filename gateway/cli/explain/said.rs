//! An explanation, for people and for programs. No signature, no credential and no value of a query is in it.

use std::sync::Arc;

use http::Request;
use serde::Serialize;

use crate::canonical::KeyParameters;
use crate::denial::Denial;
use crate::entra::Principal;
use crate::files::{Mode, without_tokens};
use crate::policy::explain::{ExplainedRule, app, tenant};
use crate::policy::{Named, Policy, Rehearsed, Route};
use crate::trial::{Answer, Question};

/// Everything that led to a decision.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    pub(super) request: RequestSaid,
    pub(super) route: Option<RouteSaid>,
    pub(super) token: TokenSaid,
    pub(super) rules: Vec<ExplainedRule>,
    /// What was decided when the request came, where a recorded decision is explained.
    pub(super) recorded: Option<RecordedSaid>,
    pub(super) decision: DecisionSaid,
    pub(super) backend: Option<BackendSaid>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestSaid {
    pub(super) method: String,
    pub(super) host: String,
    /// The canonical path; none where there is no canonical form.
    pub(super) path: Option<String>,
    pub(super) client: String,
    /// The thumbprint and subject of the caller's certificate.
    pub(super) certificate: Option<(String, String)>,
    /// Names of keys and claimed identities that came and do not reach the backend.
    pub(super) stripped: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RouteSaid {
    pub(super) name: String,
    pub(super) place: String,
    pub(super) pattern: String,
    pub(super) report_only: bool,
    pub(super) public: bool,
    pub(super) owner: Option<String>,
    pub(super) audiences: Vec<String>,
    pub(super) backend: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenSaid {
    pub(super) tenant: Option<String>,
    pub(super) app: Option<String>,
    pub(super) principal: Option<String>,
    pub(super) kind: Option<&'static str>,
    pub(super) version: Option<&'static str>,
    pub(super) audience: Option<String>,
    pub(super) refused: Option<Refused>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) title: &'static str,
    pub(super) expected: Option<String>,
    pub(super) got: Option<String>,
}

impl Refused {
    pub(super) fn of(denial: &Denial) -> Self {
        let note = denial.note();
        Self {
            reason: denial.reason().code(),
            title: denial.reason().title(),
            expected: note.map(|note| note.expected.clone()),
            got: note.map(|note| note.got.clone()),
        }
    }

    fn text(&self) -> String {
        match (&self.expected, &self.got) {
            (Some(expected), Some(got)) => {
                format!(
                    "{}: {} (expected {expected}, got {got})",
                    self.reason, self.title
                )
            }
            _ => format!("{}: {}", self.reason, self.title),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordedSaid {
    pub(super) time: String,
    pub(super) decision: &'static str,
    pub(super) reason: String,
    pub(super) route: Option<String>,
    pub(super) rule: Option<String>,
    /// Whether anybody looked for a token: a public route does not.
    pub(super) token_looked_at: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DecisionSaid {
    pub(super) decision: &'static str,
    pub(super) reason: &'static str,
    pub(super) rule: Option<String>,
    pub(super) status: Option<u16>,
    pub(super) refusal: Option<Refused>,
    /// What would be otherwise, if everything acted that only reports.
    pub(super) report_only: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BackendSaid {
    pub(super) name: String,
    pub(super) path: String,
    /// Without its values.
    pub(super) query: Option<String>,
    /// Names of the fields that it gets; values may be anybody's secrets.
    pub(super) fields: Vec<String>,
}

/// A query with its names alone: any value may be somebody's secret.
fn names_of(query: &str) -> String {
    let parameters = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) => format!("{name}=***"),
            None => parameter.to_owned(),
        });
    parameters.collect::<Vec<_>>().join("&")
}

impl Explanation {
    /// For people.
    pub(super) fn human(&self) -> String {
        let mut text = self.request.text();
        text += &match &self.route {
            Some(route) => route.text(),
            None => "route     none\n".to_owned(),
        };
        text += &match &self.route {
            Some(route) if route.public => {
                "token     not looked at: the route is public\n".to_owned()
            }
            _ if self.recorded.as_ref().is_some_and(|recorded| !recorded.token_looked_at) => {
                "token     not known: nobody looked for one when this was recorded, so none is assumed\n"
                    .to_owned()
            }
            _ => self.token.text(),
        };
        for rule in &self.rules {
            text += &rule_text(rule);
        }
        if let Some(recorded) = &self.recorded {
            text += &recorded.text();
        }
        text += &self.decision.text();
        if let Some(backend) = &self.backend {
            let query = backend.query.as_ref().map(|query| format!("?{query}"));
            text += &format!(
                "backend   {} gets {}{} with the fields {}\n",
                backend.name,
                backend.path,
                query.unwrap_or_default(),
                backend.fields.join(", ")
            );
        }
        without_tokens(&text)
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        let text = text.unwrap_or_else(|error| error.to_string());
        format!("{}\n", without_tokens(&text))
    }
}

impl RequestSaid {
    pub(super) fn of(question: &Question, answer: &Answer<'_>) -> Self {
        let request = answer.request.as_ref();
        let decision = answer.decision.as_ref().ok();
        let kept = decision.map_or(KeyParameters::NONE, |decision| {
            decision.route().kept_parameters()
        });
        // Which is no key, and the gateway's where it calls a Logic App.
        let kept = kept.with(KeyParameters::API_VERSION);
        Self {
            method: question.method.to_string(),
            host: request.map_or(question.host.clone(), |request| request.host().to_owned()),
            path: request.map(|request| request.path().to_owned()),
            client: question.client.to_string(),
            certificate: question
                .certificate
                .as_ref()
                .map(|one| (one.thumbprint.to_string(), one.subject.to_string())),
            stripped: request.map_or_else(Vec::new, |request| {
                let parameters = request.key_parameters_seen().without(kept);
                let headers = request.key_headers_seen();
                parameters.names().chain(headers.names()).collect()
            }),
        }
    }

    fn text(&self) -> String {
        let path = match &self.path {
            Some(path) => path.as_str(),
            None => " (it has no canonical form)",
        };
        let mut text = format!(
            "request   {} {}{path} from {}\n",
            self.method, self.host, self.client
        );
        if let Some((thumbprint, subject)) = &self.certificate {
            text += &format!("          certificate {subject}, {thumbprint}\n");
        }
        if !self.stripped.is_empty() {
            text += &format!("          taken out: {}\n", self.stripped.join(", "));
        }
        text
    }
}

impl RouteSaid {
    pub(super) fn of(route: &Route, policy: &Policy) -> Self {
        let taken = route.taken();
        let host = taken.host.as_deref().unwrap_or_default();
        let audiences = policy.audiences_of(route).iter();
        let backend = policy.names().backend(route.backend());
        Self {
            name: route.name().to_string(),
            place: route.span().to_string(),
            pattern: format!("{host}{}", taken.path),
            report_only: route.mode() == Mode::ReportOnly,
            public: route.is_public(),
            owner: route.owner().map(str::to_owned),
            audiences: audiences.map(ToString::to_string).collect(),
            backend: backend.map(|name| name.to_string()),
        }
    }

    fn text(&self) -> String {
        let mut text = format!(
            "route     {} ({}), {}\n",
            self.name, self.place, self.pattern
        );
        if self.report_only {
            text += "          only reports: its refusals do not act\n";
        }
        if let Some(owner) = &self.owner {
            text += &format!("          owner: {owner}\n");
        }
        text
    }
}

impl TokenSaid {
    pub(super) fn of(caller: &Result<Arc<Principal>, Denial>, names: &Named) -> Self {
        let known = caller.as_deref().ok();
        let object = known.and_then(Principal::object);
        Self {
            tenant: known.map(|caller| tenant(caller.tenant(), names)),
            app: known.map(|caller| app(caller.app(), names)),
            principal: object.map(|id| id.to_string()),
            kind: known.map(|caller| caller.kind().as_str()),
            version: known.map(|caller| caller.version().name()),
            audience: known.map(|caller| caller.audience().to_owned()),
            refused: caller.as_ref().err().map(Refused::of),
        }
    }

    fn text(&self) -> String {
        if let Some(refused) = &self.refused {
            return format!("token     {}\n", refused.text());
        }
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        format!(
            "token     {} {} of {} by {}; the signature is not looked at here\n          principal {}, audience {}\n",
            self.version.unwrap_or_default(),
            self.kind.unwrap_or_default(),
            shown(&self.tenant),
            shown(&self.app),
            shown(&self.principal),
            shown(&self.audience),
        )
    }
}

fn rule_text(rule: &ExplainedRule) -> String {
    let word = if rule.holds { "holds" } else { "does not hold" };
    let report = if rule.report_only {
        ", only reports"
    } else {
        ""
    };
    let mut text = format!("rule      {} ({}) {word}{report}\n", rule.rule, rule.place);
    let about = [("owner", &rule.owner), ("reason", &rule.reason)];
    for (name, value) in about {
        if let Some(value) = value {
            text += &format!("          {name}: {value}\n");
        }
    }
    for clause in &rule.clauses {
        let mark = match clause.verdict {
            "holds" => "+",
            "does not hold" => "-",
            _ => "?",
        };
        text += &format!(
            "        {mark} {}: {}; got {}\n",
            clause.key, clause.asked, clause.got
        );
    }
    text
}

impl RecordedSaid {
    fn text(&self) -> String {
        let place: Vec<&str> = [&self.route, &self.rule]
            .into_iter()
            .filter_map(|name| name.as_deref())
            .collect();
        format!(
            "recorded  {}: {} ({}) at {}; the rest is what these policies say\n",
            self.decision,
            self.reason,
            match place.is_empty() {
                true => "no route".to_owned(),
                false => place.join(" "),
            },
            self.time,
        )
    }
}

impl DecisionSaid {
    pub(super) fn of(answer: &Answer<'_>) -> Self {
        let decision = answer.decision.as_ref().ok();
        let rehearsed = decision.and_then(|decision| decision.rehearsed());
        let rule = decision.and_then(|decision| decision.rule());
        let denial = answer.denial();
        Self {
            decision: if answer.lets_in() { "allow" } else { "deny" },
            reason: answer.reason(),
            rule: rule.map(|rule| rule.to_string()),
            status: denial.map(|denial| denial.reason().status().as_u16()),
            refusal: denial.map(Refused::of),
            report_only: rehearsed.map(|rehearsed| match rehearsed {
                Rehearsed::Denial(reason, Some(rule)) => format!("deny: {reason} ({rule})"),
                Rehearsed::Denial(reason, None) => format!("deny: {reason}"),
                Rehearsed::Allow(rule) => format!("allow ({rule})"),
            }),
        }
    }

    fn text(&self) -> String {
        let rule = self.rule.as_ref().map(|rule| format!(" by {rule}"));
        let rule = rule.unwrap_or_default();
        let mut text = match (&self.refusal, self.status) {
            (Some(refusal), Some(status)) => {
                let rule = self.rule.as_ref().map(|rule| format!("; closest {rule}"));
                format!(
                    "decision  deny, {status}: {}{}\n",
                    refusal.text(),
                    rule.unwrap_or_default()
                )
            }
            _ => format!("decision  {}: {}{rule}\n", self.decision, self.reason),
        };
        if let Some(rehearsed) = &self.report_only {
            text += &format!("          if everything acted that only reports: {rehearsed}\n");
        }
        text
    }
}

impl BackendSaid {
    pub(super) fn of(name: String, head: &Request<()>) -> Self {
        Self {
            name,
            path: head.uri().path().to_owned(),
            query: head.uri().query().map(names_of),
            fields: head.headers().keys().map(ToString::to_string).collect(),
        }
    }
}
