//! `portcullis what-can`: every route that lets an app in, with what it needs there.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::who_can::{cells, requests, rows_of};
use super::{Form, out, policies, table, talk};
use crate::files::{Diagnostics, nearest};
use crate::ids::{AppId, TenantId};
use crate::policy::access::{Cube, Region, Set, masks};
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
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
}

pub(super) fn what_can(options: &Options) -> ExitCode {
    let mut diagnostics = Diagnostics::new();
    let Some(read) = policies::read(&options.policies, &mut diagnostics) else {
        out(&diagnostics.render());
        return ExitCode::from(1);
    };
    match answer(options, &read.policy) {
        Ok(text) => {
            out(&text);
            ExitCode::SUCCESS
        }
        Err(why) => {
            talk(&format!("error: {why}\n"));
            ExitCode::from(2)
        }
    }
}

fn answer(options: &Options, policy: &Policy) -> Result<String, String> {
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
    let mut found: Vec<(&Route, Vec<Row>)> = Vec::new();
    for route in policy.routes() {
        let reach = policy.reach(route).map_err(|error| error.to_string())?;
        let reach = reach.intersection(&asked);
        if !reach.is_empty() {
            found.push((route, rows_of(policy, route, &reach)));
        }
    }
    Ok(match options.format {
        Form::Human => as_text(&found),
        Form::Json => {
            let routes = found.iter().map(|(route, rows)| {
                json!({
                    "route": **route.name(),
                    "requests": requests(route),
                    "public": route.is_public(),
                    "callers": rows,
                })
            });
            format!("{:#}\n", routes.collect::<Value>())
        }
    })
}

fn as_text(found: &[(&Route, Vec<Row>)]) -> String {
    if found.is_empty() {
        return "nothing\n".to_owned();
    }
    let lines = found.iter().flat_map(|(route, rows)| {
        rows.iter().map(|row| {
            let mut line = vec![route.name().to_string(), requests(route)];
            line.extend(cells(row));
            line
        })
    });
    let head: Vec<&str> = ["ROUTE", "REQUESTS"].into_iter().chain(COLUMNS).collect();
    table::plain(&head, &lines.collect::<Vec<_>>())
}

fn app(names: &Named, name: &str) -> Result<AppId, String> {
    let known = names.app_named(name).or_else(|| name.parse().ok());
    known.ok_or_else(|| unknown("app", name, names.apps().map(|(_, name)| &**name)))
}

fn tenant(names: &Named, name: &str) -> Result<TenantId, String> {
    let known = names.tenant_named(name).or_else(|| name.parse().ok());
    known.ok_or_else(|| unknown("tenant", name, names.tenants().map(|(_, name)| &**name)))
}

fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("no {kind} is named `{name}`; did you mean `{near}`?"),
        None => format!("no {kind} is named `{name}`; write a name of the policies, or an ID"),
    }
}
