//! Who gains and who loses access by a change of policies, and what else becomes of their requests, in words
//! and as values.

use http::Method;
use serde_json::{Value, json};

use super::destination::{self, Changed};
use super::table;
use super::token::spec;
use super::who::cells;
use crate::files::PolicyDocument;
use crate::policy::access::{Cube, Ranges, Region, masks};
use crate::policy::words::{COLUMNS, Naming, Row, address, rows, timestamp};
use crate::policy::{
    Change, Kept, MethodSet, Policy, Route, RouteId, Unfinished, Witness, difference,
};

/// All that a change of policies changes, in words.
pub struct Said {
    access: Vec<SaidOfAccess>,
    otherwise: Vec<SaidOtherwise>,
}

/// A change of access in words.
struct SaidOfAccess {
    requests: Vec<String>,
    routes: String,
    gained: Side,
    lost: Side,
}

/// What becomes of requests otherwise, whoever may send them.
struct SaidOtherwise {
    requests: Vec<String>,
    routes: String,
    changes: Vec<Changed>,
}

/// Who gains or loses: each kind of caller with a request of theirs.
struct Side(Vec<Shown>);

/// A kind of caller, and a request that shows that they gain or lose.
struct Shown {
    row: Row,
    example: Option<Value>,
}

/// Two policies, each with the documents that it was compiled from. They give names to everything.
#[derive(Clone, Copy)]
pub struct Sides<'p> {
    /// As it was.
    pub old: (&'p Policy, &'p PolicyDocument),
    /// As it would be.
    pub new: (&'p Policy, &'p PolicyDocument),
}

/// Which requests, by what stands for them.
type Requests = [(Witness, MethodSet)];

impl Sides<'_> {
    fn access(&self, change: &Change<'_>, now: u64) -> SaidOfAccess {
        let ((old, _), (new, _)) = (self.old, self.new);
        let names = [new.names(), old.names()];
        let naming = Naming(&names);
        // What every caller of the route needs before and after goes without saying.
        let audiences = match (change.old, change.new) {
            (Some(before), Some(after)) if old.audiences_of(before) == new.audiences_of(after) => {
                new.audiences_of(after)
            }
            (Some(before), None) => old.audiences_of(before),
            (None, Some(after)) => new.audiences_of(after),
            _ => &[],
        };
        let side = |region: &Region| {
            let rows = rows(region, naming, audiences).into_iter();
            let shown = rows.map(|row| Shown {
                example: example(&row.some, change, now),
                row,
            });
            Side(shown.collect())
        };
        SaidOfAccess {
            requests: self.requests(change.old, change.new, &change.requests),
            routes: self.routes(change.old, change.new),
            gained: side(&change.gained),
            lost: side(&change.lost),
        }
    }

    /// `None` where the same becomes of them.
    fn otherwise(&self, kept: &Kept<'_>) -> Option<SaidOtherwise> {
        let (RouteId(before), RouteId(after)) = (kept.old.id(), kept.new.id());
        let changes = destination::changes((self.old.1, before), (self.new.1, after));
        (!changes.is_empty()).then(|| SaidOtherwise {
            requests: self.requests(Some(kept.old), Some(kept.new), &kept.requests),
            routes: self.routes(Some(kept.old), Some(kept.new)),
            changes,
        })
    }

    /// The requests in the words of the routes: their patterns, where all of their requests are meant.
    fn requests(
        &self,
        old: Option<&Route>,
        new: Option<&Route>,
        requests: &Requests,
    ) -> Vec<String> {
        let said = |route: &Route, methods: MethodSet| {
            let taken = route.taken();
            let host = taken.host.as_deref().unwrap_or_default();
            format!("{} {host}{}", list(methods), taken.path)
        };
        let methods = requests
            .iter()
            .fold(MethodSet::default(), |all, (_, methods)| {
                all.union(*methods)
            });
        let is_whole = |route: &Route, other: &Policy| {
            is_plain(requests, route) && !other.routes().iter().any(|other| akin(route, other))
        };
        match (old, new) {
            (Some(old), Some(new)) if same_place(old, new) => vec![said(new, methods)],
            (Some(old), None) if is_whole(old, self.new.0) => vec![said(old, methods)],
            (None, Some(new)) if is_whole(new, self.old.0) => vec![said(new, methods)],
            // Only some of the requests of either: by what stands for them, and by odd spellings only where
            // there is nothing else.
            _ => {
                let is_odd = requests.iter().all(|(witness, _)| witness.is_odd);
                let shown = requests
                    .iter()
                    .filter(|(witness, _)| witness.is_odd == is_odd);
                let said = shown.map(|(witness, methods)| {
                    let host = witness.pattern.as_deref().unwrap_or_default();
                    format!("{} {host}{}", list(*methods), witness.shown)
                });
                said.collect()
            }
        }
    }

    fn routes(&self, old: Option<&Route>, new: Option<&Route>) -> String {
        let has = |policy: &Policy, route: &Route| {
            let mut routes = policy.routes().iter();
            routes.any(|other| other.name() == route.name())
        };
        match (old, new) {
            (Some(old), Some(new)) if old.name() == new.name() => format!("route {}", new.name()),
            (Some(old), Some(new)) => format!("route {} in place of {}", new.name(), old.name()),
            (Some(old), None) if has(self.new.0, old) => {
                format!("route {} takes them no more", old.name())
            }
            (Some(old), None) => format!("route {} is gone", old.name()),
            (None, Some(new)) if has(self.old.0, new) => {
                format!("route {} takes them now", new.name())
            }
            (None, Some(new)) => format!("route {} is new", new.name()),
            (None, None) => "no route".to_owned(),
        }
    }
}

fn same_place(one: &Route, other: &Route) -> bool {
    one.taken().host == other.taken().host && one.taken().path == other.taken().path
}

/// Whether some of the requests of a route may be taken by another still.
fn akin(route: &Route, other: &Route) -> bool {
    route.name() == other.name() || same_place(route, other)
}

/// Whether all requests of the route are meant, in their plain spelling at least.
fn is_plain(requests: &Requests, route: &Route) -> bool {
    let same_host = |witness: &Witness| witness.pattern == route.taken().host;
    requests
        .iter()
        .any(|(witness, _)| !witness.is_odd && same_host(witness))
}

fn list(methods: MethodSet) -> String {
    let methods: Vec<String> = methods.methods().map(|method| method.to_string()).collect();
    methods.join(",")
}

/// A request that is decided otherwise, as a test could write it.
fn example(cube: &Cube, change: &Change<'_>, now: u64) -> Option<Value> {
    let point = cube.point(moment(&cube.times, now))?;
    let (witness, methods) = change.requests.first()?;
    let method: Method = methods.methods().next()?;
    let claims = point.token.as_ref().map(|token| {
        let now = std::time::Duration::from_secs(point.time);
        Value::Object(spec(token, now).claims())
    });
    let conditions = point
        .conditions
        .iter()
        .map(|(condition, truth)| {
            let truth = match *truth {
                masks::TRUE => "true",
                masks::FALSE => "false",
                _ => "failed",
            };
            (condition.to_string(), Value::from(truth))
        })
        .collect::<serde_json::Map<_, _>>();
    Some(json!({
        "method": method.as_str(),
        "host": witness.host,
        "path": witness.path,
        "client": address(point.address).to_string(),
        "at": timestamp(point.time),
        "claims": claims,
        "conditions": conditions,
    }))
}

/// A time that shows what matters: now, or else the first or last second that counts.
fn moment(times: &Ranges<u64>, now: u64) -> u64 {
    match times.iter().next() {
        Some((0, u64::MAX)) | None => now,
        Some((0, last)) => last,
        Some((first, _)) => first,
    }
}

impl SaidOfAccess {
    fn json(&self) -> Value {
        json!({
            "requests": self.requests,
            "routes": self.routes,
            "gained": self.gained.json(),
            "lost": self.lost.json(),
        })
    }

    fn sides(&self) -> impl Iterator<Item = (&'static str, &Side)> {
        let sides = [("gained by", &self.gained), ("lost by", &self.lost)];
        sides.into_iter().filter(|(_, side)| !side.is_empty())
    }
}

impl SaidOtherwise {
    fn json(&self) -> Value {
        let change = |(what, old, new): &Changed| json!({ "what": what, "old": old, "new": new });
        json!({
            "requests": self.requests,
            "routes": self.routes,
            "changes": self.changes.iter().map(change).collect::<Value>(),
        })
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let changes = self.changes.iter();
        changes
            .map(|(what, old, new)| vec![(*what).to_owned(), old.clone(), new.clone()])
            .collect()
    }
}

impl Side {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn json(&self) -> Value {
        let shown = self.0.iter();
        shown
            .map(|Shown { row, example }| json!({ "callers": row, "example": example }))
            .collect()
    }

    fn cells(&self) -> Vec<Vec<String>> {
        self.0.iter().map(|shown| cells(&shown.row)).collect()
    }

    /// The examples, a line each.
    fn examples(&self) -> Vec<String> {
        self.0.iter().filter_map(Shown::line).collect()
    }
}

impl Shown {
    /// The example in one line.
    fn line(&self) -> Option<String> {
        let example = self.example.as_ref()?;
        let text = |name: &str| {
            example
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let token = match example.get("claims") {
            Some(Value::Object(claims)) => {
                let shown = [
                    "aud", "tid", "azp", "azpacr", "idtyp", "roles", "scp", "groups", "oid",
                ];
                let shown = shown.iter().filter_map(|name| {
                    Some(format!(
                        "{name}={}",
                        claims.get(*name)?.to_string().replace('"', "")
                    ))
                });
                format!("token {}", shown.collect::<Vec<_>>().join(" "))
            }
            _ => "no token".to_owned(),
        };
        let at = match self.row.some.times.is_any() {
            true => String::new(),
            false => format!(" at {}", text("at")),
        };
        let conditions = example.get("conditions").and_then(Value::as_object);
        let conditions = conditions.into_iter().flatten().map(|(condition, truth)| {
            let truth = truth.as_str().unwrap_or_default();
            format!(", where `{condition}` is {truth}")
        });
        Some(format!(
            "{} {}{} from {}{at}, {token}{}",
            text("method"),
            text("host"),
            text("path"),
            text("client"),
            conditions.collect::<String>(),
        ))
    }
}

const UNCHANGED: &str = "Nobody gains or loses access.\n";
const OTHERWISE: &str = "What becomes of these requests changes, whoever may send them:";
const OTHERWISE_COLUMNS: [&str; 3] = ["what", "as it was", "as it would be"];

impl Said {
    /// What changes between two policies, shown by requests at `now` (seconds since the Unix epoch) where
    /// the time does not matter. It is given up once `goes_on` says no.
    ///
    /// # Errors
    /// When it cannot be worked out, or was given up.
    pub fn of(sides: Sides<'_>, now: u64, goes_on: &dyn Fn() -> bool) -> Result<Self, Unfinished> {
        let ((old, _), (new, _)) = (sides.old, sides.new);
        let difference = difference(old, new, goes_on)?;
        let access = difference.access.iter();
        let otherwise = difference.kept.iter();
        Ok(Self {
            access: access.map(|change| sides.access(change, now)).collect(),
            otherwise: otherwise.filter_map(|kept| sides.otherwise(kept)).collect(),
        })
    }

    /// Whether somebody may call what they could not.
    pub fn is_gained(&self) -> bool {
        self.access.iter().any(|change| !change.gained.is_empty())
    }

    /// Whether somebody may not call what they could.
    pub fn is_lost(&self) -> bool {
        self.access.iter().any(|change| !change.lost.is_empty())
    }

    /// Each change by itself: of access first, then of what becomes of requests otherwise.
    pub fn changes(&self) -> Vec<Value> {
        let access = self.access.iter().map(SaidOfAccess::json);
        let otherwise = self.otherwise.iter().map(SaidOtherwise::json);
        access.chain(otherwise).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "access": self.access.iter().map(SaidOfAccess::json).collect::<Value>(),
            "otherwise": self.otherwise.iter().map(SaidOtherwise::json).collect::<Value>(),
        })
    }

    /// For people.
    pub fn human(&self) -> String {
        let mut text = String::new();
        if self.access.is_empty() {
            text += UNCHANGED;
            text.push('\n');
        }
        let indented = |table: String| -> String {
            table.lines().map(|line| format!("    {line}\n")).collect()
        };
        for change in &self.access {
            text += &format!("{} ({})\n", change.requests.join(", "), change.routes);
            for (title, side) in change.sides() {
                text += &format!("  {title}\n");
                text += &indented(table::plain(&COLUMNS, &side.cells()));
                text += &match side.examples().as_slice() {
                    [one] => format!("    for example {one}\n"),
                    several => {
                        let lines = several.iter().map(|line| format!("      {line}\n"));
                        format!("    for example, row by row\n{}", lines.collect::<String>())
                    }
                };
            }
            text.push('\n');
        }
        if !self.otherwise.is_empty() {
            text += &format!("{OTHERWISE}\n\n");
        }
        for change in &self.otherwise {
            text += &format!("{} ({})\n", change.requests.join(", "), change.routes);
            text += &indented(table::plain(&OTHERWISE_COLUMNS, &change.cells()));
            text.push('\n');
        }
        text.truncate(text.trim_end().len() + 1);
        text
    }

    /// For a comment on a pull request.
    pub fn markdown(&self) -> String {
        let mut text = match self.access.is_empty() {
            true => format!("**Access:** {UNCHANGED}"),
            false => {
                let count = |side: fn(&SaidOfAccess) -> &Side| {
                    let changes = self.access.iter();
                    changes.filter(|change| !side(change).is_empty()).count()
                };
                let gained = count(|change| &change.gained);
                let lost = count(|change| &change.lost);
                format!("**Access changes:** gained on {gained}, lost on {lost}.\n")
            }
        };
        for change in &self.access {
            text += &heading(&change.requests, &change.routes);
            for (title, side) in change.sides() {
                let mark = if title.starts_with("gained") {
                    "➕"
                } else {
                    "➖"
                };
                text += &format!("\n{mark} **{title}**\n\n");
                text += &table::markdown(&COLUMNS, &side.cells());
                text += &match side.examples().as_slice() {
                    [one] => format!("\nFor example {}\n", code(one)),
                    several => {
                        let lines = several.iter().map(|line| format!("1. {}\n", code(line)));
                        format!(
                            "\nFor example, row by row:\n\n{}",
                            lines.collect::<String>()
                        )
                    }
                };
            }
        }
        if !self.otherwise.is_empty() {
            text += &format!("\n**{OTHERWISE}**\n");
        }
        for change in &self.otherwise {
            text += &heading(&change.requests, &change.routes);
            text.push('\n');
            text += &table::markdown(&OTHERWISE_COLUMNS, &change.cells());
        }
        text
    }
}

fn heading(requests: &[String], routes: &str) -> String {
    let requests: Vec<String> = requests.iter().map(|request| code(request)).collect();
    format!("\n### {} ({routes})\n", requests.join(", "))
}

/// Text as code in Markdown: between more backticks than it holds itself.
fn code(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max();
    match longest.unwrap_or(0) {
        0 => format!("`{text}`"),
        longest => {
            let fence = "`".repeat(longest + 1);
            format!("{fence} {text} {fence}")
        }
    }
}
