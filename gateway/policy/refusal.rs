//! Which refusal a caller gets when no allow rule holds: that of the rule that came closest, for it is
//! the most useful to know. The order of rules plays no part in the reason.

use super::circumstances::Circumstances;
use super::decide::Refusal;
use super::rule::{Clause, Rule, Undecided, Verdict, Wanted};
use super::rule_set::RuleSet;
use crate::denial::{Denial, Names, Reason};
use crate::entra::Principal;

/// How far a rule went before it did not hold: the further, the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Tenant,
    App,
    Principal,
    Kind,
    Strength,
    Role,
    Scope,
    Group,
    From,
    When,
    Window,
}

impl Clause {
    fn rank(&self) -> Rank {
        match self {
            Self::Tenants(_) => Rank::Tenant,
            Self::Apps(_) => Rank::App,
            Self::Principals(_) => Rank::Principal,
            Self::Kinds(_) => Rank::Kind,
            Self::Strengths(_) => Rank::Strength,
            Self::Roles(_) => Rank::Role,
            Self::Scopes(_) => Rank::Scope,
            Self::Groups(_) => Rank::Group,
            Self::From(_) => Rank::From,
            Self::When(_) => Rank::When,
            Self::Window { .. } => Rank::Window,
        }
    }
}

/// The refusal of the rule that came closest. Rules that do not act say nothing to callers.
pub(super) fn closest(
    rules: &RuleSet,
    principal: Option<&Principal>,
    circumstances: &Circumstances<'_>,
) -> Refusal {
    let Some(caller) = principal else {
        return Refusal::new(Reason::TokenMissing.into(), None);
    };
    let mut best: Option<(Rank, &Rule, &Clause, Verdict)> = None;
    for rule in rules.candidates(principal).filter(|rule| rule.enforced()) {
        let Some((clause, verdict)) = rule.falls_short(principal, circumstances) else {
            continue;
        };
        let rank = clause.rank();
        // Among equals the first in the file.
        let closer = best
            .as_ref()
            .is_none_or(|(held, other, ..)| rank > *held || (rank == *held && rule.id < other.id));
        if closer {
            best = Some((rank, rule, clause, verdict));
        }
    }
    match best {
        Some((rank, rule, clause, verdict)) if rank > Rank::Tenant => Refusal::new(
            denial(clause, &verdict, caller, circumstances),
            Some(rule.id),
        ),
        _ if rules.others_name(caller.tenant()) => Refusal::new(app(caller), None),
        _ => Refusal::new(tenant(caller), None),
    }
}

/// The refusal of a deny rule, which says so if the rule was not known to hold.
pub(super) fn denied(rule: &Rule, verdict: &Verdict) -> Refusal {
    let denial = match verdict {
        Verdict::Undecided(Undecided::GroupOverage) => overage(),
        Verdict::Undecided(Undecided::Condition(failure)) => Denial::from(reason(verdict))
            .expected("a condition that can be evaluated", failure.to_string()),
        Verdict::Undecided(Undecided::Kind) => {
            Denial::from(reason(verdict)).expected("a token whose kind is known", "unknown")
        }
        Verdict::Undecided(Undecided::Strength) => Denial::from(reason(verdict))
            .expected("a token that says how the app proved itself", "unknown"),
        Verdict::Undecided(Undecided::NotRecorded) | Verdict::Holds | Verdict::Fails => {
            Denial::from(reason(verdict))
                .expected("a caller whom no deny rule names", rule.id.to_string())
        }
    };
    Refusal::new(denial, Some(rule.id))
}

/// Why a deny rule refuses.
pub(super) fn reason(verdict: &Verdict) -> Reason {
    match verdict {
        Verdict::Undecided(Undecided::GroupOverage) => Reason::GroupOverage,
        Verdict::Undecided(Undecided::Condition(_) | Undecided::NotRecorded) => {
            Reason::ConditionFailed
        }
        Verdict::Undecided(Undecided::Kind | Undecided::Strength)
        | Verdict::Holds
        | Verdict::Fails => Reason::DeniedByRule,
    }
}

fn tenant(caller: &Principal) -> Denial {
    Denial::from(Reason::TenantNotAllowed)
        .expected("a tenant of a rule", caller.tenant().to_string())
}

fn app(caller: &Principal) -> Denial {
    Denial::from(Reason::AppNotAllowed).expected("an app of a rule", caller.app().to_string())
}

/// What a caller is told when this clause does not hold, and what the log is.
fn denial(
    clause: &Clause,
    verdict: &Verdict,
    caller: &Principal,
    circumstances: &Circumstances<'_>,
) -> Denial {
    match clause {
        Clause::Tenants(_) => tenant(caller),
        Clause::Apps(_) => app(caller),
        Clause::Principals(_) => Denial::from(Reason::PrincipalNotAllowed)
            .expected(
                "a principal of a rule",
                caller
                    .object()
                    .map_or_else(|| "none".to_owned(), |object| object.to_string()),
            )
            .naming(Names::Principal),
        Clause::Kinds(kinds) => {
            Denial::from(Reason::TokenKindNotAllowed).expected(words(kinds), caller.kind().as_str())
        }
        Clause::Strengths(strengths) => Denial::from(Reason::AuthStrengthNotAllowed)
            .expected(words(strengths), caller.strength().as_str()),
        Clause::Roles(wanted) => {
            Denial::from(Reason::RoleMissing).expected(listed("roles", wanted), "none of them")
        }
        Clause::Scopes(wanted) => {
            let names: Vec<&str> = wanted.names().map(|name| &**name).collect();
            Denial::from(Reason::ScopeMissing)
                .scope(names.join(" "))
                .expected(listed("scopes", wanted), "none of them")
        }
        Clause::Groups(wanted) => match verdict {
            Verdict::Undecided(_) => overage(),
            Verdict::Holds | Verdict::Fails => Denial::from(Reason::GroupMissing)
                .expected(listed("groups", wanted), "none of them"),
        },
        Clause::From(networks) => Denial::from(Reason::NetworkNotAllowed)
            .expected(
                words(networks.iter().map(|network| &network.name)),
                circumstances.client().to_string(),
            )
            .naming(Names::Address),
        Clause::When(condition) => match verdict {
            Verdict::Undecided(Undecided::GroupOverage) => overage(),
            Verdict::Undecided(Undecided::Condition(failure)) => {
                Denial::from(Reason::ConditionFailed)
                    .expected(condition.text(), failure.to_string())
            }
            Verdict::Undecided(Undecided::NotRecorded) => Denial::from(Reason::ConditionNotMet)
                .expected(condition.text(), "what was not recorded"),
            Verdict::Undecided(Undecided::Kind | Undecided::Strength)
            | Verdict::Holds
            | Verdict::Fails => {
                Denial::from(Reason::ConditionNotMet).expected(condition.text(), "false")
            }
        },
        Clause::Window { not_before, .. } => {
            let now = circumstances.now.as_secs();
            match not_before.filter(|from| now < *from) {
                Some(from) => Denial::from(Reason::AccessNotYetValid).expected(
                    "a rule that holds already",
                    format!("begins in {} s", from.saturating_sub(now)),
                ),
                None => Denial::from(Reason::AccessExpired)
                    .expected("a rule that holds still", "one that has expired"),
            }
        }
    }
}

fn overage() -> Denial {
    Denial::from(Reason::GroupOverage).expected(
        "a token that lists its groups",
        "one with more groups than it lists",
    )
}

fn words<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    format!("one of: {}", words.join(", "))
}

fn listed<T: ToString>(what: &str, wanted: &Wanted<T>) -> String {
    let names = |list: &[T]| list.iter().map(T::to_string).collect::<Vec<_>>().join(" ");
    match (wanted.any_of.is_empty(), wanted.all_of.is_empty()) {
        (_, true) => format!("one of the {what}: {}", names(&wanted.any_of)),
        (true, false) => format!("all of the {what}: {}", names(&wanted.all_of)),
        (false, false) => format!(
            "one of the {what}: {}, and all of: {}",
            names(&wanted.any_of),
            names(&wanted.all_of)
        ),
    }
}
