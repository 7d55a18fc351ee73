//! A route with whom it lets in, and all of them as the table that is kept beside the policies.

use serde_json::{Value, json};

use super::let_in::LetIn;
use super::table;
use crate::policy::access::{Region, TooComplex};
use crate::policy::words::{COLUMNS, Row};
use crate::policy::{Policy, Route};

/// Which requests a route takes: `POST /invitations`, with the host if it names one.
pub(crate) fn requests(route: &Route) -> String {
    let taken = route.taken();
    let methods: Vec<String> = taken.methods.methods().map(|m| m.to_string()).collect();
    let host = taken.host.as_deref().unwrap_or_default();
    format!("{} {host}{}", methods.join(","), taken.path)
}

/// A route, and whom it lets in.
pub(crate) struct Who<'p> {
    policy: &'p Policy,
    route: &'p Route,
    pub(crate) let_in: LetIn,
}

impl<'p> Who<'p> {
    /// Of all whom a route lets in those that are of interest.
    ///
    /// # Errors
    /// When the answer would be too long.
    pub(crate) fn of(
        policy: &'p Policy,
        route: &'p Route,
        of_interest: impl Fn(Region) -> Region,
    ) -> Result<Self, TooComplex> {
        let usual = policy.audiences_of(route);
        Ok(Self {
            policy,
            route,
            let_in: LetIn::of(policy, route, usual, of_interest)?,
        })
    }

    /// For people.
    pub(crate) fn text(&self, table: Table) -> String {
        let route = self.route;
        let backend = self.policy.names().backend(route.backend());
        let backend = backend.map(|backend| format!(" to {backend}"));
        let mut text = format!(
            "{}: {}{}\n",
            route.name(),
            requests(route),
            backend.unwrap_or_default(),
        );
        if !route.is_public() {
            let audiences: Vec<&str> = self.audiences().iter().map(|text| &**text).collect();
            text += &format!("  by tokens for {}\n", audiences.join(", "));
        }
        text += &table_of(&self.let_in.callers, table);
        if let Some(rows) = &self.let_in.callers_once_enforced {
            text += &format!("  It {}:\n", self.let_in.what_reports());
            text += &table_of(rows, table);
        }
        text
    }

    fn audiences(&self) -> &'p [Box<str>] {
        self.policy.audiences_of(self.route)
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let taken = self.route.taken();
        let methods: Vec<String> = taken.methods.methods().map(|m| m.to_string()).collect();
        let backend = self.policy.names().backend(self.route.backend());
        let mut told = json!(self.let_in);
        let about = json!({
            "route": **self.route.name(),
            "host": taken.host,
            "methods": methods,
            "path": &*taken.path,
            "backend": backend.map(|name| name.to_string()),
            "audiences": self.audiences(),
        });
        table::extend(&mut told, about);
        told
    }
}

/// How a table is written.
pub(crate) type Table = fn(&[&str], &[Vec<String>]) -> String;

fn table_of(rows: &[Row], table: Table) -> String {
    if rows.is_empty() {
        return "  nobody\n".to_owned();
    }
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let table = table(&COLUMNS, &cells);
    table.lines().map(|line| format!("  {line}\n")).collect()
}

/// A row as cells of a table.
pub(crate) fn cells(row: &Row) -> Vec<String> {
    row.words
        .cells()
        .iter()
        .map(|cell| (*cell).to_owned())
        .collect()
}

/// Every route with whom it lets in, in the form of `access.expected`: it depends on the policies alone,
/// not on the time or on the order of anything.
///
/// # Errors
/// When the answer would be too long.
pub(crate) fn access_table(policy: &Policy) -> Result<String, TooComplex> {
    let mut text = String::from(
        "# Who can call what: `portcullis who-can --all`, kept beside the policies so that a review\n\
         # sees who gains and who loses access. `portcullis check` finds it stale.\n",
    );
    for route in by_name(policy) {
        let who = Who::of(policy, route, |reach| reach)?;
        text += &format!("\n{}", who.text(table::ragged));
    }
    text += "\n# What the names stand for.\n";
    for (key, names) in policy.names().meanings() {
        let rows: Vec<Vec<String>> = names
            .into_iter()
            .map(|(name, meaning)| vec![format!("  {name}"), meaning])
            .collect();
        if !rows.is_empty() {
            text += &format!("{key}\n");
            for row in rows {
                text += &format!("{}\n", row.join(" | "));
            }
        }
    }
    Ok(text)
}

/// All routes, in the order of their names.
pub(crate) fn by_name(policy: &Policy) -> Vec<&Route> {
    let mut routes: Vec<&Route> = policy.routes().iter().collect();
    routes.sort_by_key(|route| route.name());
    routes
}
