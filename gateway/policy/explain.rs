//! Why a rule holds or not, clause by clause: what is asked, what the request has, and what comes of it.
//! Each clause is judged by the code that decides.

use std::fmt::Display;
use std::sync::Arc;

use serde::Serialize;

use super::circumstances::Circumstances;
use super::named::Named;
use super::routes::Matched;
use super::rule::{Clause, Effect, Network, Rule, Undecided, Verdict, Wanted};
use super::words::timestamp;
use crate::entra::{Groups, Principal};
use crate::files::Mode;
use crate::ids::{AppId, ObjectId, TenantId};

/// A rule, explained.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRule {
    /// Its name: `allow[0]`.
    pub rule: String,
    /// Where it was written.
    pub place: String,
    /// Whether it only reports.
    pub report_only: bool,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Why it is there.
    pub reason: Option<String>,
    /// Whether it holds: an allow rule lets in then, a deny rule keeps out.
    pub holds: bool,
    /// What it consists of.
    pub clauses: Vec<ExplainedClause>,
}

/// One condition of a rule, explained.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedClause {
    /// The key in the file.
    pub key: &'static str,
    /// What it asks for.
    pub asked: String,
    /// What the request has.
    pub got: String,
    /// `holds`, `does not hold` or `cannot be told`.
    pub verdict: &'static str,
}

impl Matched<'_> {
    /// Explains every rule of the route, deny rules first, as they are asked.
    pub fn explain(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
        names: &Named,
    ) -> Vec<ExplainedRule> {
        let circumstances = Circumstances {
            parameters: &self.parameters,
            ..*circumstances
        };
        let rules = self.route.deny.rules().iter();
        let rules = rules.chain(self.route.allow.rules());
        rules
            .map(|rule| explained(rule, principal, &circumstances, names))
            .collect()
    }
}

fn explained(
    rule: &Rule,
    principal: Option<&Principal>,
    circumstances: &Circumstances<'_>,
    names: &Named,
) -> ExplainedRule {
    let clause = |clause: &Clause| clause.explain(principal, circumstances, names);
    ExplainedRule {
        rule: rule.id().to_string(),
        place: rule.span().to_string(),
        report_only: rule.mode() == Mode::ReportOnly,
        owner: rule.owner().map(str::to_owned),
        reason: rule.reason().map(str::to_owned),
        holds: match rule.id().effect {
            Effect::Allow => rule.allows(principal, circumstances),
            Effect::Deny => rule.denies(principal, circumstances) != Verdict::Fails,
        },
        clauses: rule.clauses().iter().map(clause).collect(),
    }
}

impl Clause {
    fn explain(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
        names: &Named,
    ) -> ExplainedClause {
        let of_token = |text: &dyn Fn(&Principal) -> String| {
            principal.map_or_else(|| "no token".to_owned(), text)
        };
        let (key, asked, got) = match self {
            Self::Tenants(ids) => (
                "tenants",
                list(ids.iter().map(|id| tenant(id, names))),
                of_token(&|caller| tenant(caller.tenant(), names)),
            ),
            Self::Apps(ids) => (
                "apps",
                list(ids.iter().map(|id| app(id, names))),
                of_token(&|caller| app(caller.app(), names)),
            ),
            Self::Principals(ids) => (
                "principals",
                list(ids.iter().map(|id| object(id, names.principals().name(id)))),
                of_token(&|caller| match caller.object() {
                    Some(id) => object(id, names.principals().name(id)),
                    None => "none".to_owned(),
                }),
            ),
            Self::Kinds(kinds) => (
                "tokenKinds",
                list(kinds.iter()),
                of_token(&|caller| caller.kind().to_string()),
            ),
            Self::Strengths(ways) => (
                "authStrength",
                list(ways.iter()),
                of_token(&|caller| caller.strength().to_string()),
            ),
            Self::Roles(wanted) => (
                "roles",
                wanted_words(wanted, ToString::to_string),
                of_token(&|caller| list(caller.roles().iter())),
            ),
            Self::Scopes(wanted) => (
                "scopes",
                wanted_words(wanted, ToString::to_string),
                of_token(&|caller| list(caller.scopes().iter())),
            ),
            Self::Groups(wanted) => (
                "groups",
                wanted_words(wanted, |id| object(*id, names.groups().name(*id))),
                of_token(&|caller| groups(caller, names)),
            ),
            Self::From(networks) => (
                "from",
                list(networks.iter().map(network)),
                circumstances.client().to_string(),
            ),
            Self::When(condition) => {
                let values = condition.values(&circumstances.facts(principal));
                let values = values
                    .iter()
                    .map(|(field, value)| format!("{field} is {value}"));
                ("when", condition.text().to_owned(), list(values))
            }
            Self::Window {
                not_before,
                expires,
            } => (
                "notBefore, expires",
                window(*not_before, *expires),
                timestamp(circumstances.now.as_secs()),
            ),
        };
        let verdict = self.judge(principal, circumstances);
        ExplainedClause {
            key,
            asked,
            verdict: match &verdict {
                Verdict::Holds => "holds",
                Verdict::Fails => "does not hold",
                Verdict::Undecided(_) => "cannot be told",
            },
            got: match verdict {
                Verdict::Undecided(Undecided::Condition(failure)) => format!("{got}: {failure}"),
                Verdict::Undecided(_) | Verdict::Holds | Verdict::Fails => got,
            },
        }
    }
}

fn list<T: Display>(words: impl Iterator<Item = T>) -> String {
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

fn named<T: Display>(id: T, name: Option<&Arc<str>>) -> String {
    match name {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    }
}

/// A tenant by its name, with its ID.
pub fn tenant(id: TenantId, names: &Named) -> String {
    named(id, names.tenants().name(id))
}

/// An app by its name, with its ID.
pub fn app(id: AppId, names: &Named) -> String {
    named(id, names.apps().name(id))
}

fn object(id: ObjectId, name: Option<&Arc<str>>) -> String {
    named(id, name)
}

fn wanted_words<T>(wanted: &Wanted<T>, name: impl Fn(&T) -> String) -> String {
    let any = list(wanted.any_of.iter().map(&name));
    let all = list(wanted.all_of.iter().map(&name));
    match (wanted.any_of.is_empty(), wanted.all_of.is_empty()) {
        (_, true) => format!("any of {any}"),
        (true, false) => format!("all of {all}"),
        (false, false) => format!("any of {any}, and all of {all}"),
    }
}

fn groups(caller: &Principal, names: &Named) -> String {
    match caller.groups() {
        Groups::Overage => "more than the token lists".to_owned(),
        Groups::Listed(groups) => list(groups.iter().map(|group| {
            let id = group.parse::<ObjectId>().ok();
            id.map_or_else(
                || group.to_string(),
                |id| object(id, names.groups().name(id)),
            )
        })),
    }
}

fn network(network: &Network) -> String {
    let addresses = network.addresses.to_string();
    match *network.name == *addresses {
        true => addresses,
        false => format!("{} ({addresses})", network.name),
    }
}

fn window(not_before: Option<u64>, expires: Option<u64>) -> String {
    let from = not_before.map(|from| format!("from {}", timestamp(from)));
    let until = expires.map(|until| format!("until {}", timestamp(until)));
    let both: Vec<String> = from.into_iter().chain(until).collect();
    both.join(" ")
}
