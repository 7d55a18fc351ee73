//! The rules of a route, found by app: a route with ten thousand apps costs what one with ten does.

use foldhash::{HashMap, HashSet};

use super::rule::{Clause, Rule};
use crate::entra::Principal;
use crate::ids::{AppId, TenantId};

/// Fewer rules than this are looked at one after the other.
const WORTH_AN_INDEX: usize = 16;

/// The rules of one list, in the order of the file, which plays no part in what they decide.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    index: Option<Index>,
}

#[derive(Debug)]
struct Index {
    /// The rules that name an app, by it.
    by_app: HashMap<AppId, Vec<usize>>,
    /// The rules that name none.
    any_app: Vec<usize>,
    /// The tenants of all rules that act.
    tenants: HashSet<TenantId>,
}

impl RuleSet {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        let index = (rules.len() >= WORTH_AN_INDEX).then(|| Index::of(&rules));
        Self { rules, index }
    }

    /// The same rules, looked at one after the other: what the index must agree with.
    #[cfg(test)]
    pub(super) fn forget_index(&mut self) -> bool {
        self.index.take().is_some()
    }

    /// All of them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules that may hold for a caller, in the order of the file: all that do are among them.
    pub(super) fn candidates<'s>(
        &'s self,
        principal: Option<&Principal>,
    ) -> impl Iterator<Item = &'s Rule> {
        let (all, few) = match (&self.index, principal) {
            (Some(index), Some(principal)) => {
                let by_app = index.by_app.get(&principal.app());
                let by_app = by_app.map(Vec::as_slice).unwrap_or_default();
                (None, Some(in_order(by_app, &index.any_app)))
            }
            (None, _) | (_, None) => (Some(self.rules.iter()), None),
        };
        let few = few.into_iter().flatten();
        let few = few.filter_map(|at| self.rules.get(at));
        all.into_iter().flatten().chain(few)
    }

    /// Whether some rule that is no candidate names the caller's tenant: it failed by the app then.
    pub(super) fn others_name(&self, tenant: TenantId) -> bool {
        self.index
            .as_ref()
            .is_some_and(|index| index.tenants.contains(&tenant))
    }
}

/// The numbers of two lists, each in ascending order, as one.
fn in_order<'l>(one: &'l [usize], other: &'l [usize]) -> impl Iterator<Item = usize> + 'l {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if a <= b => one.next().copied(),
        (_, Some(_)) => other.next().copied(),
        (_, None) => one.next().copied(),
    })
}

impl Index {
    fn of(rules: &[Rule]) -> Self {
        let mut index = Self {
            by_app: HashMap::default(),
            any_app: Vec::new(),
            tenants: HashSet::default(),
        };
        for (at, rule) in rules.iter().enumerate() {
            let mut names_apps = false;
            for clause in &rule.clauses {
                match clause {
                    // A rule that only reports says nothing to callers.
                    Clause::Tenants(ids) if rule.enforced() => index.tenants.extend(ids.iter()),
                    Clause::Tenants(_) => {}
                    Clause::Apps(ids) => {
                        names_apps = true;
                        for app in ids.iter() {
                            index.by_app.entry(app).or_default().push(at);
                        }
                    }
                    Clause::Principals(_)
                    | Clause::Kinds(_)
                    | Clause::Strengths(_)
                    | Clause::Roles(_)
                    | Clause::Scopes(_)
                    | Clause::Groups(_)
                    | Clause::From(_)
                    | Clause::When(_)
                    | Clause::Window { .. } => {}
                }
            }
            if !names_apps {
                index.any_app.push(at);
            }
        }
        index
    }
}
