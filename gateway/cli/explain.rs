//! `portcullis explain`: why a request is let in or refused, stage by stage. Says nothing of a token's
//! signature: none is looked at, and none is printed.

mod said;

use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Uri, Version};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use self::said::{
    BackendSaid, DecisionSaid, Explanation, RecordedSaid, RequestSaid, RouteSaid, TokenSaid,
};
use super::policies::{self, Read};
use super::{Form, Unanswered, moment, out};
use crate::client_certificate::ClientCertificate;
use crate::entra;
use crate::files::without_tokens;
use crate::policy::Known;
use crate::trial::{Caller, Question, Recorded, Suite, Tokens, Unreadable, recorded};

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
    /// A PEM file with the certificate that the caller has proved to hold.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// When it comes (RFC 3339). Now, if it is left out.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Explain a recorded decision: its request ID.
    #[arg(
        long,
        value_name = "ID",
        requires = "log",
        conflicts_with_all = ["method", "url", "token", "claims", "header", "host", "client", "certificate", "at"]
    )]
    decision: Option<String>,
    /// The decision log that holds it.
    #[arg(long, value_name = "FILE", requires = "decision")]
    log: Option<PathBuf>,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
}

pub(super) fn explain(options: &Options) -> Result<ExitCode, Unanswered> {
    let read = policies::to_ask(&options.policies)?;
    let explanation = explained(asked(options, &read.tokens)?, &read);
    out(&match options.format {
        Form::Human => explanation.human(),
        Form::Json => explanation.json(),
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

fn asked(options: &Options, tokens: &Tokens) -> Result<Asked, Unanswered> {
    if let (Some(id), Some(log)) = (&options.decision, &options.log) {
        return find(log, id)
            .map(Asked::again)
            .map_err(Unanswered::UsedWrongly);
    }
    let now = moment(options.at.as_deref())?;
    Ok(Asked {
        question: question(options, tokens, now).map_err(Unanswered::UsedWrongly)?,
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
                token_looked_at: recorded.token_looked_at,
            }),
        }
    }
}

/// The request that the options describe.
fn question(options: &Options, tokens: &Tokens, now: Duration) -> Result<Question, String> {
    let (Some(method), Some(url)) = (&options.method, &options.url) else {
        return Err("name a method and a URL, or a recorded decision".to_owned());
    };
    let uri: Uri = url.parse().map_err(|_| {
        "this is neither a URL nor a path: write `https://host/path` or `/path`".to_owned()
    })?;
    let host = uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    for (what, host) in [("URL", host.as_deref()), ("host", Some(&*options.host))] {
        if host.is_some_and(|host| host.contains('@')) {
            return Err(format!(
                "the {what} holds user information, which no caller sends: leave it out"
            ));
        }
    }
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
        certificate: options
            .certificate
            .as_deref()
            .map(certificate)
            .transpose()?,
        now,
        version: Version::HTTP_11,
        caller: caller(options, tokens)?,
    })
}

fn caller(options: &Options, tokens: &Tokens) -> Result<Caller, String> {
    if let Some(token) = &options.token {
        let text = contents(token)?;
        let text = text.trim();
        let text = text.strip_prefix("Bearer ").unwrap_or(text);
        if text.is_empty() {
            return Err(format!(
                "{} is empty: it must hold a token",
                token.display()
            ));
        }
        return Ok(match entra::unverified_claims(text, &tokens.algorithms) {
            Ok(claims) => Caller::Claims(claims),
            Err(denial) => Caller::Refused(denial),
        });
    }
    if let Some(claims) = &options.claims {
        let text = contents(claims)?;
        let claims = entra::claims(&text).ok_or_else(|| {
            "the claims are no JSON object in which each name stands once: \
             write `{ \"tid\": \"...\", ... }`"
                .to_owned()
        })?;
        return Ok(Caller::Claims(claims));
    }
    Ok(Caller::Nobody)
}

fn certificate(path: &Path) -> Result<ClientCertificate, String> {
    let text = contents(path)?;
    let read = CertificateDer::from_pem_slice(text.as_bytes()).ok();
    let read = read.and_then(|der| ClientCertificate::of(&der));
    read.ok_or_else(|| format!("{}: there is no certificate in it (PEM)", path.display()))
}

fn contents(path: &Path) -> Result<String, String> {
    let read = match path.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => fs::read_to_string(path),
    };
    read.map_err(|error| match looks_like_a_token(path) {
        true => "this is a token where the name of a file belongs: put it into a file, or write `-` and \
                 give it on standard input"
            .to_owned(),
        false => format!("{}: {error}", path.display()),
    })
}

fn looks_like_a_token(path: &Path) -> bool {
    let text = path.to_string_lossy();
    without_tokens(&text) != text
}

fn find(log: &Path, id: &str) -> Result<Recorded, String> {
    let told = |error: io::Error| format!("{}: {error}", log.display());
    let mut unknown_version = false;
    for line in recorded(super::open(log).map_err(told)?) {
        match line.map_err(told)? {
            Ok(recorded) if recorded.id == id => return Ok(recorded),
            Ok(_) | Err(Unreadable::Broken | Unreadable::Unfinished) => {}
            Err(Unreadable::Version) => unknown_version = true,
        }
    }
    let also = match unknown_version {
        true => "; some of its lines are of a version that this one does not know",
        false => "",
    };
    Err(format!(
        "no decision of the ID `{id}` is in {}{also}",
        log.display()
    ))
}

fn explained(asked: Asked, read: &Read) -> Explanation {
    let Asked {
        question,
        known,
        recorded,
    } = asked;
    let question = &question;
    let trial = read.trial();
    let trial = match known {
        Some(known) => trial.knowing(known),
        None => trial,
    };
    let mut answer = trial.ask(question);
    let names = read.policy.names();
    let route = answer
        .decision
        .as_ref()
        .ok()
        .map(|decision| decision.route());
    let explanation = Explanation {
        request: RequestSaid::of(question, &answer),
        route: route.map(|route| RouteSaid::of(route, &read.policy)),
        token: TokenSaid::of(&answer.caller, names),
        rules: trial.explain(question),
        recorded,
        decision: DecisionSaid::of(&answer),
        backend: None,
    };
    let suite = Suite::new(read.trial(), &read.document, question.now);
    let sent = suite.preview(&mut answer);
    Explanation {
        backend: sent.map(|(name, head)| BackendSaid::of(name, &head)),
        ..explanation
    }
}
