//! The near misses of one request: what is otherwise in each, and the request.

use std::net::IpAddr;
use std::time::Duration;

use http::Method;
use serde_json::{Map, Value, json};

use super::STRANGER;
use crate::entra;
use crate::ids::{AppId, ObjectId, PERSONAL_ACCOUNTS, TenantId};
use crate::policy::{Clause, Policy, Route, Rule, Wanted};
use crate::token::{AuthStrength, TokenKind};
use crate::trial::{Caller, Question};

/// Every near miss of a request that a rule lets in.
pub(super) fn misses(
    base: &Question,
    route: &Route,
    rule: &Rule,
    policy: &Policy,
) -> Vec<(String, Question)> {
    let mut misses = Misses {
        base,
        found: Vec::new(),
    };
    misses.tokens_in_general(policy, route);
    for clause in rule.clauses() {
        misses.clause(clause, rule, policy);
    }
    misses.paths(route);
    misses.methods(route);
    misses.found
}

struct Misses<'b> {
    base: &'b Question,
    found: Vec<(String, Question)>,
}

impl Misses<'_> {
    fn add(&mut self, change: impl Into<String>, miss: Question) {
        self.found.push((change.into(), miss));
    }

    /// The same request with other claims.
    fn claims(&mut self, change: impl Into<String>, edit: impl FnOnce(&mut Map<String, Value>)) {
        if let Caller::Claims(claims) = &self.base.caller {
            let mut claims = claims.clone();
            edit(&mut claims);
            let miss = Question {
                caller: Caller::Claims(claims),
                ..self.base.clone()
            };
            self.add(change, miss);
        }
    }

    fn tokens_in_general(&mut self, policy: &Policy, route: &Route) {
        let nobody = Question {
            caller: Caller::Nobody,
            ..self.base.clone()
        };
        self.add("no token", nobody);
        self.claims("a tenant that nobody names", |claims| {
            of_tenant(claims, TenantId::new(STRANGER));
        });
        self.claims("a personal account", |claims| {
            of_tenant(claims, PERSONAL_ACCOUNTS)
        });
        self.claims("the issuer of another tenant", |claims| {
            let claimed = claims.get("tid").cloned();
            of_tenant(claims, TenantId::new(STRANGER));
            set(claims, "tid", claimed.unwrap_or_default());
        });
        let own = policy.audiences_of(route);
        let mut others = policy.audiences().iter();
        if let Some(other) = others.find(|audience| !own.contains(audience)) {
            self.claims("an audience of another route", |claims| {
                set(claims, "aud", json!(other));
            });
        }
        let audience = "api://near-miss";
        if !policy.audiences().iter().any(|own| **own == *audience) {
            self.claims("another audience", |claims| {
                set(claims, "aud", json!(audience))
            });
        }
        let now = self.base.now.as_secs();
        self.claims("an expired token", |claims| {
            set(claims, "nbf", json!(now.saturating_sub(7200)));
            set(claims, "exp", json!(now.saturating_sub(3600)));
        });
        self.claims("a token that is not valid yet", |claims| {
            set(claims, "nbf", json!(now.saturating_add(3600)));
            set(claims, "exp", json!(now.saturating_add(7200)));
        });
    }

    fn clause(&mut self, clause: &Clause, rule: &Rule, policy: &Policy) {
        match clause {
            Clause::Tenants(ids) => {
                let mut others = policy.names().tenants().iter();
                if let Some((name, id)) = others.find(|(_, id)| !ids.contains(*id)) {
                    self.claims(format!("the tenant {name}"), |claims| of_tenant(claims, id));
                }
            }
            Clause::Apps(ids) => {
                let app = |claims: &mut Map<String, Value>, id: AppId| {
                    let claim = if claims.contains_key("appid") {
                        "appid"
                    } else {
                        "azp"
                    };
                    set(claims, claim, json!(id.to_string()));
                };
                self.claims("an app that nobody names", |claims| {
                    app(claims, AppId::new(STRANGER))
                });
                let mut others = policy.names().apps().iter();
                if let Some((name, id)) = others.find(|(_, id)| !ids.contains(*id)) {
                    self.claims(format!("the app {name}"), |claims| app(claims, id));
                }
                self.users_of_the_app(rule);
            }
            Clause::Principals(_) => {
                let other = ObjectId::new(STRANGER).to_string();
                self.claims("another principal", |claims| {
                    set(claims, "oid", json!(other))
                });
                self.claims("a token that names no principal", |claims| {
                    claims.remove("oid");
                });
            }
            Clause::Kinds(kinds) => {
                if !kinds.contains(&TokenKind::Delegated) {
                    self.claims("a user's token with the same app ID and roles", users);
                }
                if !kinds.contains(&TokenKind::AppOnly) {
                    self.claims("an app's own token", |claims| {
                        claims.remove("scp");
                        set(claims, "idtyp", json!("app"));
                    });
                }
            }
            Clause::Strengths(ways) => {
                let claimed = |way: AuthStrength| match way {
                    AuthStrength::Public => Some("0"),
                    AuthStrength::Secret => Some("1"),
                    AuthStrength::Certificate => Some("2"),
                    AuthStrength::Unknown => None,
                };
                for way in AuthStrength::ALL.iter().filter(|way| !ways.contains(way)) {
                    self.claims(
                        format!("an app that proved itself otherwise: {way}"),
                        |claims| {
                            let v1 = claims.contains_key("appid");
                            let claim = if v1 { "appidacr" } else { "azpacr" };
                            match claimed(*way) {
                                Some(value) => set(claims, claim, json!(value)),
                                None => drop(claims.remove(claim)),
                            }
                        },
                    );
                }
            }
            Clause::Roles(wanted) => self.names("roles", "role", wanted),
            Clause::Scopes(wanted) => self.names("scp", "scope", wanted),
            Clause::Groups(wanted) => {
                self.names("groups", "group", wanted);
                self.claims("more groups than a token lists", |claims| {
                    claims.remove("groups");
                    set(claims, "_claim_names", json!({ "groups": "src1" }));
                });
            }
            Clause::From(networks) => {
                let inside =
                    |client: &IpAddr| networks.iter().any(|n| n.addresses.contains(client));
                let candidates = (0..=255u8).map(|part| IpAddr::from([part, 51, 100, 77]));
                if let Some(client) = candidates.into_iter().find(|client| !inside(client)) {
                    let miss = Question {
                        client,
                        ..self.base.clone()
                    };
                    self.add("another network", miss);
                }
            }
            // Nobody but a test knows what makes it false.
            Clause::When(_) => {}
            Clause::Window {
                not_before,
                expires,
            } => {
                let early = not_before.map(|from| from.saturating_sub(1));
                let edges = [
                    ("before the rule begins", early),
                    ("after it has ended", *expires),
                ];
                for (change, now) in edges {
                    let Some(now) = now.map(Duration::from_secs) else {
                        continue;
                    };
                    self.at(change, now);
                }
            }
        }
    }

    /// The request at another time, with a token that is valid then.
    fn at(&mut self, change: &str, now: Duration) {
        let mut miss = self.base.clone();
        miss.now = now;
        if let Caller::Claims(claims) = &mut miss.caller {
            set(claims, "nbf", json!(now.as_secs()));
            set(claims, "exp", json!(now.as_secs().saturating_add(3600)));
        }
        self.add(change, miss);
    }

    /// A user may hold a token with the app's ID, and have been given the same roles. Who the rule is for
    /// beside the app, the user is not.
    fn users_of_the_app(&mut self, rule: &Rule) {
        let asks_more = |clause: &Clause| matches!(clause, Clause::Scopes(_) | Clause::Kinds(_));
        if !rule.clauses().iter().any(asks_more) {
            self.claims("a user's token with the same app ID", |claims| {
                users(claims);
                set(claims, "oid", json!(ObjectId::new(STRANGER).to_string()));
                claims.remove("groups");
            });
        }
    }

    /// Without one of several that are all needed, and without any.
    fn names<T: ToString>(&mut self, claim: &str, what: &str, wanted: &Wanted<T>) {
        self.claims(format!("a token without the {what}"), |claims| {
            claims.remove(claim);
        });
        self.claims(format!("a {what} of a similar name"), |claims| {
            edit_names(claims, claim, |name| Some(format!("{name}x")));
        });
        for missing in wanted.all_of.iter().map(T::to_string) {
            self.claims(format!("a token without the {what} {missing}"), |claims| {
                edit_names(claims, claim, |name| {
                    (!name.eq_ignore_ascii_case(&missing)).then(|| name.to_owned())
                });
            });
        }
    }

    /// The path as a looser reader might take it for the same.
    fn paths(&mut self, route: &Route) {
        let (path, query) = match self.base.target.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (&*self.base.target, String::new()),
        };
        let pattern = &*route.taken().path;
        let literal = pattern
            .split('/')
            .find(|part| !part.is_empty() && !part.contains('{'));
        let mut variants = vec![
            (
                "an encoded slash in the path",
                path.replacen('/', "/%2F", 1),
            ),
            ("a double slash in the path", path.replacen('/', "//", 1)),
            ("a backslash in the path", path.replacen('/', "/%5C", 1)),
            ("a climb in the path", format!("/..{path}")),
        ];
        if let Some(literal) = literal {
            let upper = literal.to_ascii_uppercase();
            if upper != literal {
                variants.push(("the path in capitals", path.replacen(literal, &upper, 1)));
            }
            let first = literal.bytes().next().unwrap_or(b'a');
            let twice = format!("%25{first:02X}{}", literal.get(1..).unwrap_or_default());
            variants.push((
                "a path that is encoded twice",
                path.replacen(literal, &twice, 1),
            ));
        }
        if !pattern.contains('{') && pattern != "/" {
            variants.push(("a slash at the end of the path", format!("{path}/")));
            variants.push(("a parameter at the end of the path", format!("{path};x=1")));
        }
        for (change, path) in variants {
            let miss = Question {
                target: format!("{path}{query}"),
                ..self.base.clone()
            };
            self.add(change, miss);
        }
    }

    fn methods(&mut self, route: &Route) {
        let own: Vec<Method> = route.taken().methods.methods().collect();
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::TRACE,
        ] {
            if !own.contains(&method) {
                let miss = Question {
                    method: method.clone(),
                    ..self.base.clone()
                };
                self.add(format!("the method {method}"), miss);
            }
        }
    }
}

fn set(claims: &mut Map<String, Value>, name: &str, value: Value) {
    claims.insert(name.to_owned(), value);
}

/// Makes it a token of another tenant, as its own authority would write it.
fn of_tenant(claims: &mut Map<String, Value>, tenant: TenantId) {
    let version = match claims.contains_key("appid") {
        true => entra::Version::V1,
        false => entra::Version::V2,
    };
    set(claims, "tid", json!(tenant.to_string()));
    set(claims, "iss", json!(version.issuers(tenant).first()));
}

/// Makes it a user's token.
fn users(claims: &mut Map<String, Value>) {
    set(claims, "idtyp", json!("user"));
    set(claims, "scp", json!("access_as_user"));
}

/// Changes each name that a claim lists, or takes it away: of `scp`, in one text, and of all others.
fn edit_names(claims: &mut Map<String, Value>, claim: &str, edit: impl Fn(&str) -> Option<String>) {
    let edited = match claims.get(claim) {
        Some(Value::String(text)) => {
            let names: Vec<String> = text.split(' ').filter_map(edit).collect();
            json!(names.join(" "))
        }
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .filter_map(edit)
            .collect(),
        _ => Value::Null,
    };
    set(claims, claim, edited);
}
