//! `portcullis what-can`: every route that lets an app in, with what it needs there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::who_can::{since, too_complex};
use super::{Form, Unanswered, moment, out, policies};
use crate::files::nearest;
use crate::ids::{AppId, TenantId};
use crate::policy::access::{Cube, Region, Set, TooComplex, masks};
use crate::policy::told::{LetIn, cells, requests, table};
use crate::policy::words::{COLUMNS, Row};
use crate::policy::{Named, Policy, Route};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// The app: its name in the policies, or its ID.
    #[arg(long, value_name = "NAME")]
    app: String,
    /// Its tenant, by name or ID. Any, if it is left out.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A policy folder or file, or a gateway.yaml that names it.
    #[arg(long, value_name = "PATH", default_value = "policies")]
    policies: PathBuf,
    /// From when on (RFC 3339): what it can call then or later. Now, if it is left out.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
}

pub(super) fn what_can(options: &Options) -> Result<ExitCode, Unanswered> {
    let read = policies::to_ask(&options.policies)?;
    out(&answer(options, &read.policy)?);
    Ok(ExitCode::SUCCESS)
}

fn answer(options: &Options, policy: &Policy) -> Result<String, Unanswered> {
    let now = moment(options.at.as_deref())?.as_secs();
    let names = policy.names();
    let mut asked = Cube {
        callers: masks::AUTHENTICATED,
        apps: Set::only([app(names, &options.app)?]),
        ..Cube::any()
    };
    if let Some(name) = &options.tenant {
        asked.tenants = Set::only([tenant(names, name)?]);
    }
    let asked = Region::from(vec![asked]);
    let mut found = Vec::new();
    for route in policy.routes() {
        let one = Found::of(policy, route, &asked, now).map_err(too_complex)?;
        found.extend(one);
    }
    Ok(match options.format {
        Form::Human => as_text(&found),
        Form::Json => {
            let routes = found.iter().map(Found::json);
            format!("{:#}\n", routes.collect::<Value>())
        }
    })
}

/// A route that lets the app in.
struct Found<'p> {
    route: &'p Route,
    let_in: LetIn,
}

impl<'p> Found<'p> {
    /// `None` if the route does not let the app in.
    fn of(
        policy: &'p Policy,
        route: &'p Route,
        asked: &Region,
        now: u64,
    ) -> Result<Option<Self>, TooComplex> {
        // A route with audiences of its own asks for another token than the rest.
        let usual = policy.default_audiences();
        let of_interest = |reach: Region| since(&reach.intersection(asked), now);
        let let_in = LetIn::of(policy, route, usual, of_interest)?;
        let later = let_in.callers_once_enforced.iter().flatten().next();
        let is_found = !let_in.callers.is_empty() || later.is_some();
        Ok(is_found.then_some(Self { route, let_in }))
    }

    fn json(&self) -> Value {
        let mut told = json!(self.let_in);
        let about = json!({
            "route": **self.route.name(),
            "requests": requests(self.route),
            "public": self.route.is_public(),
        });
        table::extend(&mut told, about);
        told
    }

    fn lines(&self) -> impl Iterator<Item = Vec<String>> {
        let start = [self.route.name().to_string(), requests(self.route)];
        let rows = self.let_in.callers.iter();
        rows.map(move |row| start.iter().cloned().chain(cells(row)).collect())
    }

    fn once_enforced_text(&self, rows: &[Row]) -> String {
        let mut text = format!("\n{} {}:\n", self.route.name(), self.let_in.what_reports());
        if rows.is_empty() {
            text += "  nothing\n";
            return text;
        }
        let rows: Vec<_> = rows.iter().map(cells).collect();
        for line in table::plain(&COLUMNS, &rows).lines() {
            text += &format!("  {line}\n");
        }
        text
    }
}

fn as_text(found: &[Found<'_>]) -> String {
    if found.is_empty() {
        return "nothing\n".to_owned();
    }
    let head: Vec<&str> = ["ROUTE", "REQUESTS"].into_iter().chain(COLUMNS).collect();
    let lines: Vec<_> = found.iter().flat_map(Found::lines).collect();
    let mut text = table::plain(&head, &lines);
    for one in found {
        if let Some(rows) = &one.let_in.callers_once_enforced {
            text += &one.once_enforced_text(rows);
        }
    }
    text
}

fn app(names: &Named, name: &str) -> Result<AppId, Unanswered> {
    let known = names.apps().id(name).or_else(|| name.parse().ok());
    known.ok_or_else(|| unknown("app", name, names.apps().names()))
}

fn tenant(names: &Named, name: &str) -> Result<TenantId, Unanswered> {
    let known = names.tenants().id(name).or_else(|| name.parse().ok());
    known.ok_or_else(|| unknown("tenant", name, names.tenants().names()))
}

fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Unanswered {
    Unanswered::UsedWrongly(match nearest(name, known) {
        Some(near) => format!("no {kind} is named `{name}`; did you mean `{near}`?"),
        None => format!("no {kind} is named `{name}`; write a name of the policies, or an ID"),
    })
}
