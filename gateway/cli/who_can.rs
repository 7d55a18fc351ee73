//! `portcullis who-can`: everybody whom the policies let through, exactly; for one request, or as a table
//! of all routes that is kept beside the policies and reviewed with them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::{HeaderMap, Version};
use serde_json::Value;

use super::policies::{self, Read};
use super::{Form, Unanswered, moment, out};
use crate::denial::Reason;
use crate::policy::access::{Cube, Ranges, Region, TooComplex};
use crate::policy::told::{Who, access_table, by_name, table};
use crate::policy::{Policy, some_host};
use crate::trial::{Caller, Question, Trial};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// The method of the request.
    #[arg(value_name = "METHOD", required_unless_present = "all")]
    method: Option<String>,
    /// Its path, or its URL.
    #[arg(value_name = "PATH", required_unless_present = "all")]
    path: Option<String>,
    /// Its host.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Every route, as `access.expected` keeps them: whenever, not only now.
    #[arg(long, conflicts_with_all = ["method", "path", "at"])]
    all: bool,
    /// A policy folder or file, or a gateway.yaml that names it.
    #[arg(long, value_name = "PATH", default_value = "policies")]
    policies: PathBuf,
    /// From when on (RFC 3339): who is let in then or later. Now, if it is left out.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
}

pub(super) fn who_can(options: &Options) -> Result<ExitCode, Unanswered> {
    let read = policies::to_ask(&options.policies)?;
    out(&match (&options.method, &options.path) {
        (Some(method), Some(path)) => one(options, &read, method, path)?,
        _ => all(&read.policy, options.format).map_err(too_complex)?,
    });
    Ok(ExitCode::SUCCESS)
}

/// A fault of the policies: who reads them could not say either.
pub(super) fn too_complex(error: TooComplex) -> Unanswered {
    Unanswered::AtFault(error.to_string())
}

fn one(options: &Options, read: &Read, method: &str, path: &str) -> Result<String, Unanswered> {
    let now = moment(options.at.as_deref())?;
    let (host, path) = place(options, path)?;
    let method = method.to_ascii_uppercase();
    let question = Question {
        certificate: None,
        method: method.parse().map_err(|_| {
            Unanswered::UsedWrongly(format!("`{method}` is no method: write `GET`, say"))
        })?,
        host: host.to_owned(),
        target: path.to_owned(),
        headers: HeaderMap::new(),
        client: std::net::Ipv4Addr::LOCALHOST.into(),
        now,
        version: Version::HTTP_11,
        caller: Caller::Nobody,
    };
    let trial = read.trial();
    let route = trial.route(&question).map_err(|denial| match denial.reason() {
        Reason::RouteNotFound | Reason::MethodNotAllowed => Unanswered::AtFault(format!(
            "nobody can: no route takes {method} {path} on the host {host} ({}){}",
            denial.reason(),
            elsewhere(&read.policy, &trial, &question)
        )),
        reason => Unanswered::UsedWrongly(format!(
            "the gateway refuses {method} {path} whoever sends it ({reason}), so ask for another spelling"
        )),
    })?;
    let of_interest = |reach: Region| since(&reach, now.as_secs());
    let answer = Who::of(&read.policy, route, of_interest).map_err(too_complex)?;
    Ok(match options.format {
        Form::Json => format!("{:#}\n", answer.json()),
        Form::Human => answer.text(table::plain),
    })
}

/// The host and path that are asked about: of a URL, or a path alone.
fn place<'o>(options: &'o Options, path: &'o str) -> Result<(&'o str, &'o str), Unanswered> {
    let url = ["https://", "http://"]
        .iter()
        .find_map(|scheme| path.strip_prefix(scheme));
    let (host, path) = match url {
        None => (&*options.host, path),
        Some(url) => match url.find('/') {
            Some(at) => url.split_at(at),
            None => (url, "/"),
        },
    };
    let path = path.split('?').next().unwrap_or_default();
    if !path.starts_with('/') || path.contains(['{', '}']) {
        return Err(Unanswered::UsedWrongly(
            "write the path of a request: it begins with `/`, and has values in place of parameters, \
             `/guests/42`"
                .to_owned(),
        ));
    }
    Ok((host, path))
}

/// On which other hosts a route takes the request.
fn elsewhere(policy: &Policy, trial: &Trial<'_>, question: &Question) -> String {
    let hosts: BTreeSet<&str> = policy
        .routes()
        .iter()
        .filter_map(|route| route.taken().host.as_deref())
        .collect();
    let taken = hosts.into_iter().filter(|host| {
        let host = some_host(host, "any");
        let question = Question {
            host,
            ..question.clone()
        };
        trial.route(&question).is_ok()
    });
    let taken: Vec<&str> = taken.collect();
    match taken.is_empty() {
        true => String::new(),
        false => format!("; a route does on {}: say --host", taken.join(", ")),
    }
}

/// Who is let in from a time on (seconds since the Unix epoch). Times that begin then begin at the
/// beginning: who is let in from now on is let in always, as far as anybody who asks now is concerned.
pub(super) fn since(region: &Region, now: u64) -> Region {
    let later = Cube {
        times: Ranges::of([(now, u64::MAX)]),
        ..Cube::any()
    };
    let region = region.intersection(&Region::from(vec![later]));
    let cubes = region.cubes().iter().map(|cube| {
        let past = Ranges::of([(0, now)]);
        let times = match cube.times.contains(now) {
            true => cube.times.union(&past),
            false => cube.times.clone(),
        };
        Cube {
            times,
            ..cube.clone()
        }
    });
    Region::from(cubes.collect::<Vec<_>>())
}

fn all(policy: &Policy, format: Form) -> Result<String, TooComplex> {
    Ok(match format {
        Form::Human => access_table(policy)?,
        Form::Json => {
            let mut routes = Vec::new();
            for route in by_name(policy) {
                routes.push(Who::of(policy, route, |reach| reach)?.json());
            }
            format!("{:#}\n", Value::from(routes))
        }
    })
}
