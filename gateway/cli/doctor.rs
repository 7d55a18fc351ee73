//! `portcullis doctor`: whether the gateway could serve where this runs, check by check, and what to do about
//! what keeps it from it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Form, out, talk};
use crate::doctor::{Finding, Outcome, Report, examine};
use crate::running;

#[derive(Args)]
pub(super) struct Options {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
    /// Also call each backend as a stranger would, past the gateway: real requests, without its credential.
    #[arg(long)]
    probe_backends: bool,
    /// How to write what was found.
    #[arg(long, value_enum, default_value_t = Form::Human)]
    format: Form,
}

pub(super) fn doctor(options: &Options) -> ExitCode {
    if options.probe_backends {
        talk(
            "Backends get real requests without the gateway's credential; their logs name portcullis-doctor.\n",
        );
    }
    let system = running::Options::system();
    let report = examine(&options.config, &system, options.probe_backends);
    match options.format {
        Form::Json => out(&format!("{:#}\n", report.to_json())),
        Form::Human => out(&human(&report)),
    }
    match report.count(Outcome::Bad) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

fn human(report: &Report) -> String {
    let mut text = report.diagnostics.render();
    if !text.is_empty() {
        text.push('\n');
    }
    text.extend(report.findings.iter().map(line));
    let count = |outcome| report.count(outcome);
    text.push_str(&format!(
        "\n{} passed, {} {}, {} failed\n",
        count(Outcome::Good),
        count(Outcome::Warning),
        match count(Outcome::Warning) {
            1 => "warning",
            _ => "warnings",
        },
        count(Outcome::Bad)
    ));
    text
}

fn line(finding: &Finding) -> String {
    let Finding {
        area,
        name,
        outcome,
        found,
        advice,
    } = finding;
    let advice = advice
        .as_ref()
        .map(|advice| format!("         -> {advice}\n"));
    format!(
        "{:<8} {:<13} {name}: {found}\n{}",
        outcome.name(),
        area.name(),
        advice.unwrap_or_default()
    )
}
