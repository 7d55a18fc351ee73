//! Rules as they are written become rules that can be judged.

use super::condition::{Condition, Fault};
use super::names::Names;
use super::rule::{Clause, Effect, Ids, Network, Rule, RuleId, Wanted};
use super::rule_set::RuleSet;
use crate::files::{self, Diagnostics, Mode, Span, Spanned};

/// Compiles the rules of one list. `None` when one of them is at fault; every fault of each is told.
pub(super) fn compile(
    effect: Effect,
    written: &[Spanned<files::Rule>],
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<RuleSet> {
    let rules: Vec<Option<Rule>> = written
        .iter()
        .enumerate()
        .map(|(index, rule)| compile_one(RuleId { effect, index }, rule, names, diagnostics))
        .collect();
    let rules: Option<Vec<Rule>> = rules.into_iter().collect();
    rules.map(RuleSet::new)
}

fn compile_one(
    id: RuleId,
    written: &Spanned<files::Rule>,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Rule> {
    // Written out in full, so that a new condition cannot be forgotten here.
    let files::Rule {
        tenants,
        apps,
        principals,
        token_kinds,
        auth_strength,
        roles,
        scopes,
        groups,
        from,
        when,
        mode,
        not_before,
        expires,
        owner,
        reason,
    } = &written.value;
    let before = diagnostics.errors();
    check_scopes(scopes, diagnostics);
    let mut clauses = Vec::new();
    let ids = names.tenants.all(tenants, diagnostics).map(Ids::new);
    clauses.push(asked(tenants, ids.map(Clause::Tenants)));
    let ids = names.apps.all(apps, diagnostics).map(Ids::new);
    clauses.push(asked(apps, ids.map(Clause::Apps)));
    let ids = names.principals.all(principals, diagnostics).map(Ids::new);
    clauses.push(asked(principals, ids.map(Clause::Principals)));
    clauses.push(asked(token_kinds, Some(Clause::Kinds(values(token_kinds)))));
    let strengths = Clause::Strengths(values(auth_strength));
    clauses.push(asked(auth_strength, Some(strengths)));
    clauses.push((!roles.is_empty()).then(|| Clause::Roles(texts(roles))));
    clauses.push((!scopes.is_empty()).then(|| Clause::Scopes(texts(scopes))));
    if !groups.is_empty() {
        let any_of = names.groups.all(&groups.any_of, diagnostics);
        let all_of = names.groups.all(&groups.all_of, diagnostics);
        let wanted = any_of.zip(all_of).map(|(any_of, all_of)| Wanted {
            any_of: any_of.into(),
            all_of: all_of.into(),
        });
        clauses.push(wanted.map(Clause::Groups));
    }
    clauses.push(asked(
        from,
        networks(from, names, diagnostics).map(Clause::From),
    ));
    if let Some(when) = when {
        clauses.push(condition(when, names, diagnostics).map(Clause::When));
    }
    let seconds = |time: &Option<Spanned<std::time::Duration>>| {
        time.as_ref().map(|time| time.value.as_secs())
    };
    if not_before.is_some() || expires.is_some() {
        clauses.push(Some(Clause::Window {
            not_before: seconds(not_before),
            expires: seconds(expires),
        }));
    }
    // What could not be read has been reported, and must not be taken for what was not written.
    if diagnostics.errors() > before {
        return None;
    }
    Some(Rule {
        id,
        clauses: clauses.into_iter().flatten().collect(),
        mode: mode.as_ref().map_or(Mode::Enforce, |mode| mode.value),
        owner: owner.as_ref().map(|owner| owner.value.as_str().into()),
        reason: reason.as_ref().map(|reason| reason.value.as_str().into()),
        span: written.span.clone(),
    })
}

/// The clause, if anything was written of it.
fn asked<T>(written: &[T], clause: Option<Clause>) -> Option<Clause> {
    clause.filter(|_| !written.is_empty())
}

fn values<T: Copy>(list: &[Spanned<T>]) -> Box<[T]> {
    list.iter().map(|item| item.value).collect()
}

fn texts(wanted: &files::Wanted) -> Wanted<Box<str>> {
    let texts =
        |list: &[Spanned<String>]| list.iter().map(|text| text.value.as_str().into()).collect();
    Wanted {
        any_of: texts(&wanted.any_of),
        all_of: texts(&wanted.all_of),
    }
}

/// RFC 6749 section 3.3. Another character could not be in a token's `scp`, nor in a challenge.
fn check_scopes(scopes: &files::Wanted, diagnostics: &mut Diagnostics) {
    let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    for scope in scopes.names() {
        if !scope.value.bytes().all(valid) || scope.value.is_empty() {
            diagnostics
                .error(&scope.span, "this is not a scope name")
                .help(
                    "a scope is one word of printable ASCII, without quotes; list several as items",
                );
        }
    }
}

fn networks(
    from: &[Spanned<files::Network>],
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Box<[Network]>> {
    let mut networks = Vec::new();
    for place in from {
        match &place.value {
            files::Network::Cidr(addresses) => networks.push(Network {
                name: addresses.to_string().into(),
                addresses: *addresses,
            }),
            files::Network::Name(name) => {
                let named = Spanned::new(name.clone(), place.span.clone());
                let found = names.networks.find(&named, diagnostics)?;
                networks.extend(found.into_iter().map(|addresses| Network {
                    name: name.as_str().into(),
                    addresses,
                }));
            }
        }
    }
    Some(networks.into())
}

fn condition(
    written: &Spanned<String>,
    names: &Names<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Condition> {
    match Condition::compile(&written.value, &|field, name| names.guid(field, name)) {
        Ok(condition) => {
            let given = |header| names.backend_that_is_given(header);
            if let Some(backend) = condition.headers().find_map(given) {
                diagnostics
                    .error(
                        &written.span,
                        format!("this reads the header in which the backend `{backend}` gets its credential"),
                    )
                    .help("what callers send in it counts for nothing, and must not be written to a log");
            }
            Some(condition)
        }
        Err(faults) => {
            for fault in faults {
                report(&fault, written, diagnostics);
            }
            None
        }
    }
}

fn report(fault: &Fault, written: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let place = Span::within(&written.span, &written.value, fault.range.clone());
    let error = diagnostics.error(&place, &*fault.message);
    error.did_you_mean(fault.near.as_deref());
    if let Some(help) = &fault.help {
        error.help(&**help);
    }
}
