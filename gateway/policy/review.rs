//! What is legal in a policy and smells: told as warnings by `check`, never by a gateway that runs.

use std::collections::{HashMap, HashSet};

use super::access::{Cube, Set};
use super::always::always;
use super::back_door::Guard;
use super::condition::{Condition, Field};
use super::reach::Reach;
use super::routes::{Policy, Route};
use super::rule::{Clause, Effect, Rule};
use crate::files::{self, Diagnostics, PolicyDocument, Spanned};
use crate::ids::AppId;
use crate::seal::SEALED_PATH;

/// A rule that ends sooner than this is told ahead, in seconds: 30 days.
const AHEAD: u64 = 30 * DAY;
const DAY: u64 = 24 * 3600;

/// Adds a warning for everything that smells. `now` is in seconds since the Unix epoch.
pub fn review(policy: &Policy, document: &PolicyDocument, now: u64, diagnostics: &mut Diagnostics) {
    let reaches: Vec<Reach> = policy
        .routes()
        .iter()
        .map(|route| policy.parts_by_rules(route))
        .collect();
    for (route, reach) in policy.routes().iter().zip(&reaches) {
        for rule in route.rules() {
            too_wide(route, rule, diagnostics);
            ending(rule, now, diagnostics);
            constant(route, rule, diagnostics);
            loose(rule, diagnostics);
            part_of_a_name(rule, diagnostics);
        }
        covered(
            policy,
            route,
            route.allow().rules(),
            Effect::Allow,
            diagnostics,
        );
        covered(
            policy,
            route,
            route.deny().rules(),
            Effect::Deny,
            diagnostics,
        );
        closed(route, reach, diagnostics);
    }
    for (route, written) in policy.routes().iter().zip(&document.routes) {
        published(route, &written.value, diagnostics);
    }
    idle_apps(policy, &reaches, document, diagnostics);
    for route in &document.routes {
        foreign_pattern(&route.value.r#match.path, diagnostics);
    }
    let own = document.routes.iter().map(|route| &route.value.audiences);
    for audience in own.chain([&document.audiences]).flatten() {
        scope_for_audience(audience, diagnostics);
    }
    for route in &document.routes {
        forwarded_token(&route.value, diagnostics);
        sealed_path(&route.value, diagnostics);
    }
}

/// A route that names a path by which its host is administered. That can be meant, and a `reason` says so.
fn published(route: &Route, written: &files::Route, diagnostics: &mut Diagnostics) {
    let named = route.guard.as_ref().and_then(Guard::named);
    if let (Some(door), None) = (named, &written.reason) {
        diagnostics
            .warning(
                &written.r#match.path.span,
                format!(
                    "this route publishes `{door}`, by which the Functions host is administered"
                ),
            )
            .help(
                "take the path out, or say in the route's `reason` why it is called from outside",
            );
    }
}

/// A route for what the gateway answers itself.
fn sealed_path(route: &files::Route, diagnostics: &mut Diagnostics) {
    let path = &route.r#match.path;
    let rest = path.value.strip_prefix(SEALED_PATH);
    if rest.is_some_and(|rest| !rest.contains('/')) {
        diagnostics.warning(
            &path.span,
            "no request comes this way: below `/.sealed/` are the gateway's own sealed URLs",
        );
    }
}

/// A backend that holds the caller's token can be the caller, wherever else that token is good.
fn forwarded_token(route: &files::Route, diagnostics: &mut Diagnostics) {
    let forwards = route.forward_caller_token.as_ref();
    if let Some(forwards) = forwards.filter(|forwards| forwards.value) {
        diagnostics
            .warning(
                &forwards.span,
                "the backend gets the caller's own token, and can call in the caller's name",
            )
            .help("use `claimHeaders` or `x-ms-client-principal` if it only has to know who calls");
    }
}

/// What the clauses of a rule speak of.
fn has(rule: &Rule, kind: impl Fn(&Clause) -> bool) -> bool {
    rule.clauses().iter().any(kind)
}

/// Allow rules that let in more than their author may have thought of. That any app will do can be what is
/// meant, and a `reason` says so; that any kind of token will do can be written out.
fn too_wide(route: &Route, rule: &Rule, diagnostics: &mut Diagnostics) {
    if rule.id().effect != Effect::Allow || route.is_public() {
        return;
    }
    let names_apps = has(rule, |c| matches!(c, Clause::Apps(_)));
    let names_principals = has(rule, |c| matches!(c, Clause::Principals(_)));
    if !names_apps && !names_principals {
        if rule.reason().is_some() {
            return;
        }
        diagnostics
            .warning(rule.span(), "this rule lets in any app of its tenants")
            .help("name the `apps`, or say in a `reason` why any will do");
        return;
    }
    let by_more_than_id = has(rule, |clause| {
        matches!(
            clause,
            Clause::Kinds(_)
                | Clause::Roles(_)
                | Clause::Scopes(_)
                | Clause::Groups(_)
                | Clause::Principals(_)
        )
    });
    let by_condition = rule.condition().is_some_and(|condition| {
        condition.fields().iter().any(|field| {
            matches!(
                field,
                Field::Kind | Field::Roles | Field::Scopes | Field::Groups | Field::Principal
            )
        })
    });
    if names_apps && !by_more_than_id && !by_condition {
        diagnostics
            .warning(
                rule.span(),
                "this rule lets an app in by its ID alone, and users' tokens carry the same ID",
            )
            .help("write `tokenKinds: [appOnly]` if the app calls by itself, `[appOnly, delegated]` if it does not matter, or ask for a role or scope");
    }
}

fn ending(rule: &Rule, now: u64, diagnostics: &mut Diagnostics) {
    let ends = rule.clauses().iter().find_map(|clause| match clause {
        Clause::Window { expires, .. } => *expires,
        _ => None,
    });
    let Some(ends) = ends else {
        return;
    };
    let message = match ends.checked_sub(now) {
        None | Some(0) => "this rule has expired and holds for nobody".to_owned(),
        Some(left) if left <= AHEAD => format!("this rule ends in {} days", left / DAY),
        Some(_) => return,
    };
    let warning = diagnostics.warning(rule.span(), message);
    let owner = rule.owner();
    match owner {
        Some(owner) => warning.help(format!("ask its owner, {owner}: renew it, or remove it")),
        None => warning.help("renew it, or remove it"),
    };
}

/// What its condition always is, if it hangs on nothing.
fn constant_of(rule: &Rule) -> Option<bool> {
    rule.condition().and_then(Condition::constant)
}

fn constant(route: &Route, rule: &Rule, diagnostics: &mut Diagnostics) {
    let condition = rule.condition();
    let Some(value) = condition.and_then(|condition| always(condition, rule, route)) else {
        return;
    };
    let here = match constant_of(rule) {
        Some(_) => "",
        None => " for the requests and callers that this rule is about",
    };
    let holds = match (rule.id().effect, value) {
        (_, true) => "asks for nothing",
        (Effect::Allow, false) => "lets nobody in",
        (Effect::Deny, false) => "refuses nobody",
    };
    diagnostics
        .warning(
            rule.span(),
            format!("`when` is always {value}{here}, so this rule {holds}"),
        )
        .help("remove the condition or the rule, or mend the condition");
}

/// Deny rules that know a path by its spelling: a backend may read another spelling as the same.
fn loose(rule: &Rule, diagnostics: &mut Diagnostics) {
    let by_spelling = rule.condition().is_some_and(|condition| {
        let mut fields = condition.fields().iter();
        fields.any(|field| matches!(field, Field::Parameter(_) | Field::Path))
    });
    if rule.id().effect == Effect::Deny && by_spelling {
        diagnostics
            .warning(
                rule.span(),
                "this deny rule knows a path by its spelling, and backends read several spellings as one",
            )
            .help("`/guests/ADMIN`, `/guests/admin;x` and `/guests/admin.` may be `/guests/admin` to the backend: \
                   give that path a route of its own, which all of them are held to");
    }
}

/// Rules that know a certificate by a part of a name, which may be a part that its holder chose.
fn part_of_a_name(rule: &Rule, diagnostics: &mut Diagnostics) {
    let by_part = rule.condition().is_some_and(|condition| {
        condition.looks_into(|field| {
            matches!(field, Field::CertificateSubject | Field::CertificateIssuer)
        })
    });
    if by_part {
        diagnostics
            .warning(
                rule.span(),
                "this rule knows a certificate by a part of a name, and its holder may have chosen that part",
            )
            .help(
                "compare the whole: `connection.certificateSubject == 'CN=partner,O=Fabrikam'`, or `in` a list",
            );
    }
}

/// Rules that ask for what callers are never asked for: the gateway asks nobody for a certificate.
pub fn review_uncertified(policy: &Policy, diagnostics: &mut Diagnostics) {
    let rules = policy.routes().iter().flat_map(Route::rules);
    for rule in rules {
        let fields = rule.condition().map(Condition::fields).unwrap_or_default();
        if let Some(field) = fields.iter().find(|field| field.is_of_certificate()) {
            diagnostics
                .warning(
                    rule.span(),
                    format!("`{field}` is never there, for no listener asks callers for certificates"),
                )
                .help("write `clientCertificates: { mode: request, ca: .. }` beside the listener's `address` in gateway.yaml");
        }
    }
}

/// Routes whose deny rules leave nobody of those whom the allow rules let in.
fn closed(route: &Route, reach: &Reach, diagnostics: &mut Diagnostics) {
    if route.is_public() || route.deny().rules().is_empty() || reach.allowed.is_empty() {
        return;
    }
    if !reach.lets_somebody_in() {
        diagnostics
            .warning(
                route.span(),
                "the deny rules of this route keep out everybody whom its allow rules let in",
            )
            .help("narrow a deny rule, or remove the route");
    }
}

/// Wildcards as others write them, which are plain text here.
fn foreign_pattern(path: &Spanned<String>, diagnostics: &mut Diagnostics) {
    let foreign = |segment: &&str| {
        segment.starts_with(':') || segment.contains(".*") || matches!(*segment, "*" | "**")
    };
    if let Some(segment) = path.value.split('/').find(foreign) {
        diagnostics
            .warning(
                &path.span,
                format!("`{segment}` is no wildcard, but plain text"),
            )
            .help("write `{name}` for one segment and `{*name}` at the end for all that follows");
    }
}

/// What clients ask for, where what stands in tokens belongs.
fn scope_for_audience(audience: &Spanned<String>, diagnostics: &mut Diagnostics) {
    if let Some(resource) = audience.value.strip_suffix("/.default") {
        diagnostics
            .warning(
                &audience.span,
                "this is a scope that clients ask for; no token names it as its audience",
            )
            .help(format!(
                "write `{resource}`, or the API's client ID: what stands in `aud`"
            ));
    }
}

/// Rules of one list that say nothing that another does not say already.
fn covered(
    policy: &Policy,
    route: &Route,
    rules: &[Rule],
    effect: Effect,
    diagnostics: &mut Diagnostics,
) {
    let cubes: Vec<Vec<Cube>> = rules
        .iter()
        .map(|rule| policy.cubes(route, rule, effect))
        .collect();
    let known = ByApp::of(rules);
    for (at, (rule, own)) in rules.iter().zip(&cubes).enumerate() {
        let covers = |other: &usize| {
            let theirs = cubes.get(*other).map(Vec::as_slice).unwrap_or_default();
            let all = own
                .iter()
                .all(|cube| theirs.iter().any(|their| their.covers(cube)));
            let back = || {
                theirs
                    .iter()
                    .all(|cube| own.iter().any(|our| our.covers(cube)))
            };
            // Of two that say the same, the second is superfluous.
            *other != at && all && !(back() && *other > at)
        };
        let mode = |other: &usize| rules.get(*other).is_some_and(|o| o.mode() == rule.mode());
        let others = known.like(rule);
        let cover = others.into_iter().filter(mode).find(covers);
        let cover = cover.and_then(|other| rules.get(other));
        if own.is_empty() && constant_of(rule).is_none() {
            diagnostics
                .warning(rule.span(), "no caller can meet all that this rule asks for")
                .help("an app's own token has roles and no scopes, a user's has scopes; `explain` and `who-can` show what a rule needs");
        } else if let Some(cover) = cover.filter(|_| !own.is_empty()) {
            diagnostics
                .warning(rule.span(), "another rule says all that this one says")
                .also(cover.span(), "this one")
                .help("remove the narrower rule, or narrow the wider one");
        }
    }
}

/// Rules by the apps that they name: another one can only cover a rule if it names its apps, or none.
struct ByApp {
    named: HashMap<AppId, Vec<usize>>,
    any: Vec<usize>,
}

impl ByApp {
    fn of(rules: &[Rule]) -> Self {
        let mut by_app = Self {
            named: HashMap::new(),
            any: Vec::new(),
        };
        for (at, rule) in rules.iter().enumerate() {
            match first_app(rule) {
                None => by_app.any.push(at),
                Some(_) => {
                    for app in apps(rule) {
                        by_app.named.entry(app).or_default().push(at);
                    }
                }
            }
        }
        by_app
    }

    fn like(&self, rule: &Rule) -> Vec<usize> {
        let named = first_app(rule).and_then(|app| self.named.get(&app));
        named
            .into_iter()
            .flatten()
            .chain(&self.any)
            .copied()
            .collect()
    }
}

fn apps(rule: &Rule) -> impl Iterator<Item = AppId> {
    rule.clauses()
        .iter()
        .filter_map(|clause| match clause {
            Clause::Apps(ids) => Some(ids.iter()),
            _ => None,
        })
        .flatten()
}

fn first_app(rule: &Rule) -> Option<AppId> {
    apps(rule).next()
}

/// Apps that have a name and may call nothing: no rule that acts lets them in, or deny rules keep out whom
/// it would.
fn idle_apps(
    policy: &Policy,
    reaches: &[Reach],
    document: &PolicyDocument,
    diagnostics: &mut Diagnostics,
) {
    let mut allowed: HashSet<AppId> = HashSet::new();
    let routes = policy.routes().iter().zip(reaches);
    for (_, reach) in routes.filter(|(route, _)| !route.is_public()) {
        for cube in reach.allowed.cubes() {
            match &cube.apps {
                Set::AllBut(_) if reach.lets_in_some_of(cube) => return,
                Set::AllBut(_) => {}
                Set::Only(apps) => {
                    let new: Vec<AppId> = apps
                        .iter()
                        .filter(|app| !allowed.contains(app))
                        .copied()
                        .collect();
                    let lets_in = |app: &AppId| {
                        let of_the_app = Cube {
                            apps: Set::only([*app]),
                            ..cube.clone()
                        };
                        reach.lets_in_some_of(&of_the_app)
                    };
                    allowed.extend(new.into_iter().filter(lets_in));
                }
            }
        }
    }
    for app in &document.apps {
        if !allowed.contains(&AppId::new(app.value)) {
            diagnostics
                .warning(&app.name.span, "this app is allowed on no route")
                .help("remove the name, or the rule that names the app is missing");
        }
    }
}
