//! `portcullis sas-report`: who still calls with a SAS signature or a function key in the URL, by what the
//! decision log holds; and who used one that leaked. No signature and no key is ever printed.

mod call;
mod leak;
mod report;
mod said;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::call::Call;
use self::report::Report;
use self::said::Names;
use super::policies::{self, Read};
use super::replay::no_decision;
use super::{Unanswered, open, out};
use crate::fingerprint::Fingerprint;
use crate::trial::{Unreadable, log_lines};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// A policy folder or file, or a gateway.yaml that names it: apps are called by their names there.
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// A file that holds a signature or key that leaked, or a whole SAS URL: tells who used it. `-` for
    /// standard input.
    #[arg(long, value_name = "FILE", requires = "key")]
    trace: Option<PathBuf>,
    /// The file that holds the gateway's fingerprint key (`telemetry.fingerprintKey` of gateway.yaml).
    #[arg(long, value_name = "FILE", requires = "trace")]
    key: Option<PathBuf>,
    /// Fail (exit code 1) if any request brought a key; with `--trace`, if any brought that one.
    #[arg(long)]
    fail_if_any: bool,
    /// How to write the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Decision logs; `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For an issue or a pull request.
    Markdown,
}

pub(super) fn sas_report(options: &Options) -> Result<ExitCode, Unanswered> {
    options.read_standard_input_once()?;
    let read = match &options.policies {
        Some(path) => policies::to_ask(path)?,
        None => Read::default(),
    };
    let leaked = options.leaked()?;
    let mut report = Report::default();
    for file in &options.files {
        add(file, leaked, &mut report)?;
    }
    let names = Names::of(&read.policy);
    out(&match leaked {
        Some(leaked) => said::trace(&report, leaked, &names, options.format),
        None => said::report(&report, &names, options.format),
    });
    let found = options.fail_if_any && report.with_keys() > 0;
    Ok(ExitCode::from(u8::from(found)))
}

impl Options {
    /// Whoever reads it a second time finds nothing, and would report that nobody calls.
    fn read_standard_input_once(&self) -> Result<(), Unanswered> {
        let asked = self.files.iter().chain(&self.trace).chain(&self.key);
        match asked.filter(|file| file.as_os_str() == "-").count() {
            0 | 1 => Ok(()),
            _ => Err(Unanswered::UsedWrongly(
                "standard input can be read only once: name `-` once".to_owned(),
            )),
        }
    }

    /// The fingerprint to look for.
    fn leaked(&self) -> Result<Option<Fingerprint>, Unanswered> {
        match (&self.trace, &self.key) {
            (Some(leaked), Some(key)) => leak::fingerprint(leaked, key).map(Some),
            _ => Ok(None),
        }
    }
}

/// Adds the requests of a file: all, or, if a fingerprint is looked for, what was called with it.
fn add(file: &Path, leaked: Option<Fingerprint>, report: &mut Report) -> Result<(), Unanswered> {
    let at_fault = |error| Unanswered::AtFault(format!("{}: {error}", file.display()));
    let (mut decisions, mut strange) = (0_u64, None);
    for line in log_lines(open(file).map_err(at_fault)?, Call::read) {
        match line.map_err(at_fault)? {
            Ok(call) => {
                decisions += 1;
                if leaked.is_none_or(|leaked| call.brought(leaked)) {
                    report.add(call);
                }
            }
            Err(why) => {
                strange = Some(why);
                match why {
                    Unreadable::Unfinished => {}
                    Unreadable::Broken => report.unreadable += 1,
                    Unreadable::Version => report.unknown_version += 1,
                }
            }
        }
    }
    match strange {
        Some(why) if decisions == 0 => Err(Unanswered::UsedWrongly(format!(
            "{}: {}",
            file.display(),
            no_decision(why)
        ))),
        _ => Ok(()),
    }
}
