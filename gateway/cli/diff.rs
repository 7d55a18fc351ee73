//! `portcullis diff`: who gains and who loses access by a change of policies, computed from the rules.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::policies::Read;
use super::who_can::cells;
use super::{out, revision, table, talk};
use crate::clock::{Clock as _, SystemClock};
use crate::files::Diagnostics;
use crate::policy::access::{Cube, Ranges, Region};
use crate::policy::words::{COLUMNS, Naming, Row, address, rows, timestamp};
use crate::policy::{Change, MethodSet, Route, Witness, difference};
use crate::trial::spec;

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// The policies as they were: a folder, a file, a git revision, or `REVISION:PATH`.
    #[arg(value_name = "OLD")]
    old: String,
    /// The policies as they would be.
    #[arg(value_name = "NEW")]
    new: String,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Fail (exit code 1) if access is gained, lost, or either.
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    /// Somebody may call what they could not.
    Gained,
    /// Somebody may not call what they could.
    Lost,
    /// Either.
    Any,
}

/// A change in words.
struct Said {
    requests: Vec<String>,
    routes: String,
    gained: Side,
    lost: Side,
}

/// Who gains or loses, and one of them as an example.
struct Side {
    rows: Vec<Row>,
    example: Option<Value>,
    /// Whether it matters when the example is sent.
    timed: bool,
}

pub(super) fn diff(options: &Options) -> ExitCode {
    let mut diagnostics = Diagnostics::new();
    let mut read = |place: &str| revision::read(place, &mut diagnostics);
    let (old, new) = match (read(&options.old), read(&options.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (_, Err(why)) => {
            talk(&format!("error: {why}\n"));
            return ExitCode::from(2);
        }
    };
    let (Some(old), Some(new)) = (old, new) else {
        out(&diagnostics.render());
        return ExitCode::from(1);
    };
    let changes = match difference(&old.policy, &new.policy) {
        Ok(changes) => changes,
        Err(error) => {
            talk(&format!("error: {error}\n"));
            return ExitCode::from(1);
        }
    };
    let gained = changes.iter().any(|change| !change.gained.is_empty());
    let lost = changes.iter().any(|change| !change.lost.is_empty());
    let said: Vec<Said> = changes
        .iter()
        .map(|change| say(change, &old, &new))
        .collect();
    out(&match options.format {
        Format::Human => human(&said),
        Format::Markdown => markdown(&said),
        Format::Json => format!("{:#}\n", said.iter().map(Said::json).collect::<Value>()),
    });
    let fails = match options.fail_on {
        None => false,
        Some(FailOn::Gained) => gained,
        Some(FailOn::Lost) => lost,
        Some(FailOn::Any) => gained || lost,
    };
    match fails {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    }
}

fn say(change: &Change<'_>, old: &Read, new: &Read) -> Said {
    let names = [new.policy.names(), old.policy.names()];
    let naming = Naming(&names);
    // What every caller of the route needs before and after goes without saying.
    let audiences = match (change.old, change.new) {
        (Some(before), Some(after))
            if old.policy.audiences_of(before) == new.policy.audiences_of(after) =>
        {
            new.policy.audiences_of(after)
        }
        (Some(before), None) => old.policy.audiences_of(before),
        (None, Some(after)) => new.policy.audiences_of(after),
        _ => &[],
    };
    let side = |region: &Region| Side {
        rows: rows(region, naming, audiences),
        example: region
            .cubes()
            .first()
            .and_then(|cube| example(cube, change)),
        timed: region
            .cubes()
            .first()
            .is_some_and(|cube| !cube.times.is_any()),
    };
    Said {
        requests: requests(change),
        routes: routes(change.old, change.new),
        gained: side(&change.gained),
        lost: side(&change.lost),
    }
}

/// The requests in the words of the routes: their patterns, where both routes say the same.
fn requests(change: &Change<'_>) -> Vec<String> {
    let said = |route: &Route, methods: MethodSet| {
        let taken = route.taken();
        let host = taken.host.as_deref().unwrap_or_default();
        format!("{} {host}{}", list(methods), taken.path)
    };
    let methods = change
        .requests
        .iter()
        .fold(MethodSet::default(), |all, (_, methods)| {
            all.union(*methods)
        });
    match (change.old, change.new) {
        (Some(old), Some(new))
            if old.taken().host == new.taken().host && old.taken().path == new.taken().path =>
        {
            vec![said(new, methods)]
        }
        (Some(route), None) | (None, Some(route)) if is_plain(change, route) => {
            vec![said(route, methods)]
        }
        // Only some of the requests of either: by what stands for them.
        _ => change
            .requests
            .iter()
            .map(|(witness, methods)| {
                let host = witness.pattern.as_deref().unwrap_or_default();
                format!("{} {host}{}", list(*methods), witness.path)
            })
            .collect(),
    }
}

/// Whether all requests of the route are meant, in their plain spelling at least.
fn is_plain(change: &Change<'_>, route: &Route) -> bool {
    let loose = |witness: &Witness| witness.path.contains(';') || witness.path.ends_with('/');
    let same_host = |witness: &Witness| witness.pattern == route.taken().host;
    change
        .requests
        .iter()
        .any(|(witness, _)| !loose(witness) && same_host(witness))
}

fn list(methods: MethodSet) -> String {
    let methods: Vec<String> = methods.methods().map(|method| method.to_string()).collect();
    methods.join(",")
}

fn routes(old: Option<&Route>, new: Option<&Route>) -> String {
    match (old, new) {
        (Some(old), Some(new)) if old.name() == new.name() => format!("route {}", new.name()),
        (Some(old), Some(new)) => format!("route {} in place of {}", new.name(), old.name()),
        (Some(old), None) => format!("route {} is gone", old.name()),
        (None, Some(new)) => format!("route {} is new", new.name()),
        (None, None) => "no route".to_owned(),
    }
}

/// A request that is decided otherwise, as a test could write it.
fn example(cube: &Cube, change: &Change<'_>) -> Option<Value> {
    let point = cube.point(moment(&cube.times))?;
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
                crate::policy::access::masks::TRUE => "true",
                crate::policy::access::masks::FALSE => "false",
                _ => "cannot be evaluated",
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
fn moment(times: &Ranges<u64>) -> u64 {
    match times.iter().next() {
        Some((0, u64::MAX)) | None => SystemClock.now().unix_seconds(),
        Some((0, last)) => last,
        Some((first, _)) => first,
    }
}

impl Said {
    fn json(&self) -> Value {
        let side = |side: &Side| json!({ "callers": side.rows, "example": side.example });
        json!({
            "requests": self.requests,
            "routes": self.routes,
            "gained": side(&self.gained),
            "lost": side(&self.lost),
        })
    }

    fn sides(&self) -> impl Iterator<Item = (&'static str, &Side)> {
        let sides = [("gained by", &self.gained), ("lost by", &self.lost)];
        sides.into_iter().filter(|(_, side)| !side.rows.is_empty())
    }
}

impl Side {
    fn cells(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(cells).collect()
    }

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
                let shown = ["tid", "azp", "idtyp", "roles", "scp", "groups", "oid"];
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
        let at = match self.timed {
            true => format!(" at {}", text("at")),
            false => String::new(),
        };
        Some(format!(
            "{} {}{} from {}{at}, {token}",
            text("method"),
            text("host"),
            text("path"),
            text("client"),
        ))
    }
}

const UNCHANGED: &str = "Nobody gains or loses access.\n";

fn human(said: &[Said]) -> String {
    if said.is_empty() {
        return UNCHANGED.to_owned();
    }
    let mut text = String::new();
    for change in said {
        text += &format!("{} ({})\n", change.requests.join(", "), change.routes);
        for (title, side) in change.sides() {
            text += &format!("  {title}\n");
            for line in table::plain(&COLUMNS, &side.cells()).lines() {
                text += &format!("    {line}\n");
            }
            if let Some(line) = side.line() {
                text += &format!("    for example {line}\n");
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len() + 1);
    text
}

fn markdown(said: &[Said]) -> String {
    if said.is_empty() {
        return format!("**Access:** {UNCHANGED}");
    }
    let gained = said
        .iter()
        .filter(|change| !change.gained.rows.is_empty())
        .count();
    let lost = said
        .iter()
        .filter(|change| !change.lost.rows.is_empty())
        .count();
    let mut text = format!("**Access changes:** gained on {gained}, lost on {lost}.\n");
    for change in said {
        let requests: Vec<String> = change
            .requests
            .iter()
            .map(|request| format!("`{request}`"))
            .collect();
        text += &format!("\n### {} ({})\n", requests.join(", "), change.routes);
        for (title, side) in change.sides() {
            let mark = if title.starts_with("gained") {
                "➕"
            } else {
                "➖"
            };
            text += &format!("\n{mark} **{title}**\n\n");
            text += &table::markdown(&COLUMNS, &side.cells());
            if let Some(line) = side.line() {
                text += &format!("\nFor example `{line}`\n");
            }
        }
    }
    text
}
