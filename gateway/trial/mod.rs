//! Requests that nobody sent, decided as if somebody had: what `test`, `explain` and `replay` ask.
//!
//! The same code decides as on the path of a request; only the signature is missing, and nothing is
//! forwarded.

mod attack;
mod example;
mod record;
mod suite;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use serde_json::{Map, Value};

use crate::canonical;
use crate::client_certificate::ClientCertificate;
use crate::denial::{Denial, Reason};
use crate::entra::{self, Algorithm, ClaimRules, Principal};
use crate::files;
use crate::policy::explain::{ExplainedClause, ExplainedRule};
use crate::policy::{
    Circumstances, Decision, Grounds, Known, Matched, Policy, Route, RuleId, Unmatched,
};
use crate::seal;

pub use crate::entra::TokenSpec;
pub use attack::{Attack, Outcome, Strike, attack};
pub use example::example;
pub use record::{Recorded, Unreadable, log_lines, recorded};
pub use suite::{Coverage, Suite, Tested, Unreached};

/// A request to decide on.
#[derive(Clone, Debug)]
pub struct Question {
    /// The method.
    pub method: Method,
    /// What `Host` says.
    pub host: String,
    /// Path and query, as a caller would send them.
    pub target: String,
    /// The other fields.
    pub headers: HeaderMap,
    /// The address that the connection comes from.
    pub client: IpAddr,
    /// The certificate that the caller has proved to hold.
    pub certificate: Option<ClientCertificate>,
    /// The time, since the Unix epoch.
    pub now: Duration,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// Who calls.
    pub caller: Caller,
}

/// Who calls, in a request to decide on.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Nobody that brought a token.
    Nobody,
    /// Whoever has a token with these claims and a good signature.
    Claims(Map<String, Value>),
    /// Whoever was refused by verification, whatever the policy.
    Refused(Denial),
}

/// What came of it.
#[derive(Debug)]
pub struct Answer<'p> {
    /// The canonical form, if there is one.
    pub request: Option<canonical::Request>,
    /// Who calls, or why nobody knows. A public route does not ask.
    pub caller: Result<Arc<Principal>, Denial>,
    /// What the policy says, or why no route took the request.
    pub decision: Result<Decision<'p>, Denial>,
    /// The rules of the route that hold, whether or not they decided.
    pub holding: Vec<RuleId>,
}

impl Answer<'_> {
    /// Whether the request would be let in.
    pub fn lets_in(&self) -> bool {
        self.decision.as_ref().is_ok_and(Decision::lets_in)
    }

    /// The reason code, as the request log would write it.
    pub fn reason(&self) -> &'static str {
        match (&self.decision, self.denial()) {
            (_, Some(denial)) => denial.reason().code(),
            (Ok(decision), None) => match decision.verdict() {
                Ok(Grounds::Public) => "public",
                Ok(Grounds::Rule(_) | Grounds::ReportOnly) => "rule",
                Err(_) => "report-only",
            },
            (Err(denial), None) => denial.reason().code(),
        }
    }

    /// Why it would not be. `None` if it would.
    pub fn denial(&self) -> Option<&Denial> {
        match &self.decision {
            Err(denial) => Some(denial),
            Ok(decision) if decision.lets_in() => None,
            Ok(decision) => decision.verdict().err().map(|refusal| refusal.denial()),
        }
    }
}

/// What tokens are held to beside the policy: as gateway.yaml says, or by default.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// The versions that are accepted.
    pub versions: Vec<entra::Version>,
    /// How far clocks may be apart.
    pub clock_skew: Duration,
    /// The algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
}

impl Default for Tokens {
    /// What holds where gateway.yaml says nothing.
    fn default() -> Self {
        Self {
            versions: entra::Version::ALL.to_vec(),
            clock_skew: Duration::from_secs(60),
            algorithms: vec![Algorithm::Rs256],
        }
    }
}

impl From<&files::Entra> for Tokens {
    fn from(entra: &files::Entra) -> Self {
        Self {
            versions: entra::Version::accepted(entra.token_versions),
            clock_skew: entra.clock_skew,
            algorithms: entra.algorithms.clone(),
        }
    }
}

/// A policy, and what tokens are held to beside it.
#[derive(Clone, Debug)]
pub struct Trial<'p> {
    policy: &'p Policy,
    claims: ClaimRules,
    known: Option<Known>,
}

impl<'p> Trial<'p> {
    /// Decides by `policy`.
    pub fn new(policy: &'p Policy, tokens: &Tokens) -> Self {
        Self {
            policy,
            claims: ClaimRules {
                audiences: policy.audiences().to_vec(),
                versions: tokens.versions.clone(),
                clock_skew: tokens.clock_skew,
            },
            known: None,
        }
    }

    /// Knows only this of each request: a record does not hold the whole of it.
    pub fn knowing(mut self, known: Known) -> Self {
        self.known = Some(known);
        self
    }

    /// The policy.
    pub fn policy(&self) -> &'p Policy {
        self.policy
    }

    /// Decides.
    pub fn ask(&self, question: &Question) -> Answer<'p> {
        let caller = self.caller(question);
        let request = match request(question) {
            Ok(request) => request,
            Err(denial) => {
                return Answer {
                    request: None,
                    caller,
                    decision: Err(denial),
                    holding: Vec::new(),
                };
            }
        };
        let matched = match self.find(&request) {
            Ok(matched) => matched,
            Err(unmatched) => {
                return Answer {
                    decision: Err(unmatched.unrouted(caller.clone()).denial),
                    request: Some(request),
                    caller,
                    holding: Vec::new(),
                };
            }
        };
        let caller = asked(&matched, caller);
        let circumstances = self.circumstances(&request, question);
        let principal = caller.as_deref().ok();
        let holding = matched.holding(principal, &circumstances);
        let decision = matched.decide(caller.clone(), &circumstances);
        Answer {
            decision: Ok(decision),
            request: Some(request),
            caller,
            holding,
        }
    }

    /// Every rule of the route that takes a request, explained. None if no route does.
    pub fn explain(&self, question: &Question) -> Vec<ExplainedRule> {
        let Ok(request) = request(question) else {
            return Vec::new();
        };
        let Ok(matched) = self.find(&request) else {
            return Vec::new();
        };
        let caller = asked(&matched, self.caller(question));
        let circumstances = self.circumstances(&request, question);
        let principal = caller.as_deref().ok();
        let mut rules = matched.explain(principal, &circumstances, self.policy.names());
        if caller.is_err_and(|denial| denial.reason() != Reason::TokenMissing) {
            let clauses = rules.iter_mut().flat_map(|rule| &mut rule.clauses);
            clauses.for_each(tell_refused);
        }
        rules
    }

    fn circumstances<'r>(
        &'r self,
        request: &'r canonical::Request,
        question: &Question,
    ) -> Circumstances<'r> {
        let of_request = Circumstances::of(request, question.now);
        let known = self.known.as_ref();
        Circumstances {
            version: question.version,
            // A record names what was in the URL, and does not hold it.
            keys: known.map_or(of_request.keys, |known| known.keys),
            upgrade: known.map_or(of_request.upgrade, |known| known.upgrade.as_ref()),
            known,
            ..of_request
        }
    }

    /// The route that would take a request.
    ///
    /// # Errors
    /// Why none would.
    pub fn route(&self, question: &Question) -> Result<&'p Route, Denial> {
        let request = request(question)?;
        let matched = self.find(&request);
        matched
            .map(|matched| matched.route())
            .map_err(Unmatched::denial)
    }

    /// What takes a request. Where a sealed URL leads, only the gateway knows that made it.
    fn find(&self, request: &canonical::Request) -> Result<Matched<'p>, Unmatched> {
        match seal::opaque(request.path()) {
            None => (self.policy).find(request.host(), request.method(), request.path()),
            Some(_) => Err(Unmatched::by(Reason::SealedUrlInvalid.into())),
        }
    }

    fn caller(&self, question: &Question) -> Result<Arc<Principal>, Denial> {
        match &question.caller {
            Caller::Nobody => Err(Reason::TokenMissing.into()),
            Caller::Refused(denial) => Err(denial.clone()),
            Caller::Claims(claims) => {
                let trusted = |tenant| self.policy.tenants().contains(&tenant);
                entra::simulate(claims, trusted, &self.claims, question.now.as_secs())
            }
        }
    }
}

/// Rules are asked only after the token was accepted: one that was refused is as good as none to them,
/// and who reads that it is not there should know that one came.
fn tell_refused(clause: &mut ExplainedClause) {
    const REFUSED: &str = "a token that was refused";
    if clause.got == "no token" {
        REFUSED.clone_into(&mut clause.got);
    } else if clause.key == "when" && clause.asked.contains("token.") {
        clause.got = format!("{REFUSED}, and so {}", clause.got);
    }
}

/// Who calls, as far as the route asks: a public one does not look at tokens.
fn asked(
    matched: &Matched<'_>,
    caller: Result<Arc<Principal>, Denial>,
) -> Result<Arc<Principal>, Denial> {
    match matched.is_public() {
        true => Err(Reason::TokenMissing.into()),
        false => caller,
    }
}

/// The canonical form of the request.
fn request(question: &Question) -> Result<canonical::Request, Denial> {
    let mut parts = Request::builder()
        .method(question.method.clone())
        .uri(&question.target)
        .body(())
        // A target that is none cannot be read in one way alone.
        .map_err(|_| Reason::AmbiguousPath)?
        .into_parts()
        .0;
    let host = HeaderValue::from_str(&question.host).map_err(|_| Reason::AmbiguousHost)?;
    parts.headers = question.headers.clone();
    parts.headers.insert(header::HOST, host);
    let client = SocketAddr::new(question.client, 0);
    let request = canonical::Request::new(parts, client);
    let request = request.map_err(canonical::Refused::into_denial)?;
    Ok(request.certified(question.certificate.clone().map(Arc::new)))
}
