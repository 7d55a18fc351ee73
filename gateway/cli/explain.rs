//! `portcullis explain`: why a request is let in or refused, stage by stage. Says nothing of a token's
//! signature: none is looked at, and none is printed.

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri, Version};
use serde::Serialize;
use serde_json::{Map, Value};

use super::policies::{self, Read};
use super::{Form, Unanswered, moment, out};
use crate::denial::Denial;
use crate::entra;
use crate::files::Mode;
use crate::policy::explain::{ExplainedRule, app, tenant};
use crate::policy::{Known, Rehearsed};
use crate::trial::{Answer, Caller, Question, Recorded, Suite, Trial};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// The method of the request.
    #[arg(value_name = "METHOD", required_unless_present = "decision")]
    method: Option<Method>,
    /// Its URL, or its path alone.
    #[arg(value_name = "URL", required_unless_present = "decision")]
    url: Option<String>,
    /// A policy folder or file, or a gateway.yaml that names it.
    #[arg(long, value_name = "PATH", default_value = "policies")]
    policies: PathBuf,
    /// A file that holds the caller's token; `-` for standard input. Its signature is not looked at.
    #[arg(long, value_name = "FILE", conflicts_with = "claims")]
    token: Option<PathBuf>,
    /// A file that holds the token's claims as JSON; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// A field of the request: `name: value`.
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    /// The host, where the URL has none.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Where the request comes from.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client: IpAddr,
    /// When it comes (RFC 3339). Now, if it is left out.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Explain a recorded decision: its request ID.
    #[arg(
        long,
        value_name = "ID",
        requires = "log",
        conflicts_with_all = ["method", "url", "token", "claims", "header", "host", "client", "at"]
    )]
    decision: Option<String>,
    /// The decision log that holds it.
    #[arg(long, value_name = "FILE", requires = "decision")]
    log: Option<PathBuf>,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
}

/// Everything that led to a decision.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    request: RequestSaid,
    route: Option<RouteSaid>,
    token: TokenSaid,
    rules: Vec<ExplainedRule>,
    /// What was decided when the request came, where a recorded decision is explained.
    recorded: Option<RecordedSaid>,
    decision: DecisionSaid,
    backend: Option<BackendSaid>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestSaid {
    method: String,
    host: String,
    /// The canonical path; none where there is no canonical form.
    path: Option<String>,
    client: String,
    /// Names of keys and claimed identities that are taken out.
    stripped: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteSaid {
    name: String,
    place: String,
    pattern: String,
    report_only: bool,
    public: bool,
    owner: Option<String>,
    audiences: Vec<String>,
    backend: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenSaid {
    tenant: Option<String>,
    app: Option<String>,
    principal: Option<String>,
    kind: Option<&'static str>,
    version: Option<&'static str>,
    audience: Option<String>,
    refused: Option<Refused>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    reason: &'static str,
    title: &'static str,
    expected: Option<String>,
    got: Option<String>,
}

impl Refused {
    fn of(denial: &Denial) -> Self {
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
struct RecordedSaid {
    time: String,
    decision: &'static str,
    reason: String,
    route: Option<String>,
    rule: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DecisionSaid {
    decision: &'static str,
    reason: &'static str,
    rule: Option<String>,
    status: Option<u16>,
    refusal: Option<Refused>,
    /// What would be otherwise, if everything acted that only reports.
    report_only: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackendSaid {
    name: String,
    path: String,
    query: Option<String>,
    /// Names of the fields that it gets; values may be anybody's secrets.
    fields: Vec<String>,
}

pub(super) fn explain(options: &Options) -> Result<ExitCode, Unanswered> {
    let read = policies::to_ask(&options.policies)?;
    let explanation = explained(asked(options)?, &read);
    out(&match options.format {
        Form::Human => explanation.human(),
        Form::Json => match serde_json::to_string_pretty(&explanation) {
            Ok(text) => format!("{text}\n"),
            Err(error) => format!("{error}\n"),
        },
    });
    Ok(match explanation.decision.decision {
        "allow" => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

/// What is asked about.
struct Asked {
    question: Question,
    /// What is known of the request, where that is not everything.
    known: Option<Known>,
    recorded: Option<RecordedSaid>,
}

fn asked(options: &Options) -> Result<Asked, Unanswered> {
    if let (Some(id), Some(log)) = (&options.decision, &options.log) {
        return find(log, id)
            .map(Asked::again)
            .map_err(Unanswered::UsedWrongly);
    }
    let now = moment(options.at.as_deref())?;
    Ok(Asked {
        question: question(options, now).map_err(Unanswered::UsedWrongly)?,
        known: None,
        recorded: None,
    })
}

impl Asked {
    fn again(recorded: Recorded) -> Self {
        Self {
            question: recorded.question,
            known: Some(recorded.known),
            recorded: Some(RecordedSaid {
                time: recorded.time,
                decision: if recorded.allowed { "allow" } else { "deny" },
                reason: recorded.reason,
                route: recorded.route,
                rule: recorded.rule,
            }),
        }
    }
}

/// The request that the options describe.
fn question(options: &Options, now: Duration) -> Result<Question, String> {
    let (Some(method), Some(url)) = (&options.method, &options.url) else {
        return Err("name a method and a URL, or a recorded decision".to_owned());
    };
    let uri: Uri = url.parse().map_err(|_| {
        "this is neither a URL nor a path: write `https://host/path` or `/path`".to_owned()
    })?;
    let host = uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = HeaderMap::new();
    for field in &options.header {
        let (name, value) = field
            .split_once(':')
            .ok_or_else(|| "write a field as `name: value`".to_owned())?;
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        let value = HeaderValue::from_str(value.trim());
        match (name, value) {
            (Ok(AUTHORIZATION), _) => {
                return Err("`Authorization` is not asked for as a field: \
                     put the token into a file and name it by `--token`, or its claims by `--claims`"
                    .to_owned());
            }
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => return Err("this is no header field: write `name: value`".to_owned()),
        }
    }
    Ok(Question {
        method: method.clone(),
        host: host.unwrap_or_else(|| options.host.clone()),
        target: target.to_owned(),
        headers,
        client: options.client,
        now,
        version: Version::HTTP_11,
        caller: caller(options)?,
    })
}

fn caller(options: &Options) -> Result<Caller, String> {
    if let Some(token) = &options.token {
        let text = contents(token)?;
        let text = text.trim();
        let text = text.strip_prefix("Bearer ").unwrap_or(text);
        return Ok(match entra::unverified_claims(text) {
            Ok(claims) => Caller::Claims(claims),
            Err(denial) => Caller::Refused(denial),
        });
    }
    if let Some(claims) = &options.claims {
        let text = contents(claims)?;
        let claims: Map<String, Value> = serde_json::from_str(&text).map_err(|_| {
            "the claims are no JSON object: write `{ \"tid\": \"...\", ... }`".to_owned()
        })?;
        return Ok(Caller::Claims(claims));
    }
    Ok(Caller::Nobody)
}

fn contents(path: &Path) -> Result<String, String> {
    let read = match path.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => fs::read_to_string(path),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))
}

fn find(log: &Path, id: &str) -> Result<Recorded, String> {
    let text = contents(log)?;
    let recorded = text
        .lines()
        .filter(|line| line.contains(id))
        .filter_map(|line| Recorded::read(line).ok())
        .find(|recorded| recorded.id == id);
    recorded.ok_or_else(|| format!("no decision of the ID `{id}` is in {}", log.display()))
}

fn explained(asked: Asked, read: &Read) -> Explanation {
    let Asked {
        question,
        known,
        recorded,
    } = asked;
    let question = &question;
    let trial = Trial::new(&read.policy);
    let trial = match known {
        Some(known) => trial.knowing(known),
        None => trial,
    };
    let mut answer = trial.ask(question);
    let rules = trial.explain(question);
    let request = answer.request.as_ref();
    let said = RequestSaid {
        method: question.method.to_string(),
        host: request.map_or(question.host.clone(), |request| request.host().to_owned()),
        path: request.map(|request| request.path().to_owned()),
        client: question.client.to_string(),
        stripped: request.map_or_else(Vec::new, |request| {
            let parameters = request.key_parameters_seen();
            let headers = request.key_headers_seen();
            parameters.names().chain(headers.names()).collect()
        }),
    };
    let decision = decision(&answer);
    let route = answer.decision.as_ref().ok().map(|decision| {
        let route = decision.route();
        let taken = route.taken();
        RouteSaid {
            name: route.name().to_string(),
            place: route.span().to_string(),
            pattern: format!(
                "{}{}",
                taken.host.as_deref().unwrap_or_default(),
                taken.path
            ),
            report_only: route.mode() == Mode::ReportOnly,
            public: route.is_public(),
            owner: route.owner().map(str::to_owned),
            audiences: read
                .policy
                .audiences_of(route)
                .iter()
                .map(ToString::to_string)
                .collect(),
            backend: read
                .policy
                .names()
                .backend(route.backend())
                .map(|name| name.to_string()),
        }
    });
    let token = token(&answer, read);
    let suite = Suite::new(&read.policy, &read.document, question.now);
    let backend = suite.preview(&mut answer).map(|(name, head)| BackendSaid {
        name,
        path: head.uri().path().to_owned(),
        query: head.uri().query().map(str::to_owned),
        fields: head.headers().keys().map(ToString::to_string).collect(),
    });
    Explanation {
        request: said,
        route,
        token,
        rules,
        recorded,
        decision,
        backend,
    }
}

fn token(answer: &Answer<'_>, read: &Read) -> TokenSaid {
    let caller = answer.caller.as_ref();
    let names = read.policy.names();
    TokenSaid {
        tenant: caller.ok().map(|caller| tenant(caller.tenant(), names)),
        app: caller.ok().map(|caller| app(caller.app(), names)),
        principal: caller
            .ok()
            .and_then(|caller| caller.object())
            .map(|id| id.to_string()),
        kind: caller.ok().map(|caller| caller.kind().as_str()),
        version: caller.ok().map(|caller| caller.version().name()),
        audience: caller.ok().map(|caller| caller.audience().to_owned()),
        refused: caller.err().map(Refused::of),
    }
}

fn decision(answer: &Answer<'_>) -> DecisionSaid {
    let decision = answer.decision.as_ref().ok();
    let rehearsed = decision.and_then(|decision| decision.rehearsed());
    DecisionSaid {
        decision: if answer.lets_in() { "allow" } else { "deny" },
        reason: answer.reason(),
        rule: decision
            .and_then(|decision| decision.rule())
            .map(|rule| rule.to_string()),
        status: answer
            .denial()
            .map(|denial| denial.reason().status().as_u16()),
        refusal: answer.denial().map(Refused::of),
        report_only: rehearsed.map(|rehearsed| match rehearsed {
            Rehearsed::Denial(reason, Some(rule)) => format!("deny: {reason} ({rule})"),
            Rehearsed::Denial(reason, None) => format!("deny: {reason}"),
            Rehearsed::Allow(rule) => format!("allow ({rule})"),
        }),
    }
}

impl Explanation {
    fn human(&self) -> String {
        let mut text = self.request.text();
        text += &match &self.route {
            Some(route) => route.text(),
            None => "route     none\n".to_owned(),
        };
        text += &match (&self.route, &self.token.refused) {
            (Some(route), _) if route.public => {
                "token     not looked at: the route is public\n".to_owned()
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
        text
    }
}

impl RequestSaid {
    fn text(&self) -> String {
        let path = match &self.path {
            Some(path) => path.as_str(),
            None => " (it has no canonical form)",
        };
        let mut text = format!(
            "request   {} {}{path} from {}\n",
            self.method, self.host, self.client
        );
        if !self.stripped.is_empty() {
            text += &format!("          taken out: {}\n", self.stripped.join(", "));
        }
        text
    }
}

impl RouteSaid {
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
