//! Commands: each in a file of its own. Data goes to standard output, talk to standard error. Exit
//! codes: 0 good, 1 the thing checked is at fault, 2 the command was used wrongly.

mod check;
mod destination;
mod diff;
mod explain;
mod fmt;
mod junit;
mod policies;
mod replay;
mod revision;
mod run;
mod table;
mod test;
mod what_can;
mod who_can;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::clock::{Clock as _, SystemClock};
use crate::files::{Diagnostics, SchemaOf, point_in_time, schema};

/// A TLS gateway in front of Azure Functions and Logic Apps: an Entra caller in, a managed identity out.
#[derive(Parser)]
#[command(name = "portcullis", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start everything on this machine with nothing to configure, and print curl lines to try.
    Demo {
        /// Run the story of the audit, print a table of what was allowed and refused and why, and exit.
        #[arg(long)]
        check: bool,
    },
    /// Run the gateway.
    Run {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "gateway.yaml")]
        config: PathBuf,
    },
    /// Check configuration and policies without running: every fault, with its place and what to do.
    Check {
        /// A gateway.yaml, or a policy file or folder.
        #[arg(value_name = "PATH", default_value = "gateway.yaml")]
        path: PathBuf,
        /// How to write the faults.
        #[arg(long, value_enum, default_value_t = Format::Human)]
        format: Format,
    },
    /// Run the tests of a policy, and say which rules no test reaches.
    Test(test::Options),
    /// Why a request is let in or refused, stage by stage.
    Explain(explain::Options),
    /// The JSON schema of a kind of file, for editors.
    Schema {
        /// Which kind.
        #[arg(value_enum, default_value_t = Kind::Policy)]
        kind: Kind,
    },
    /// Write files in their canonical form; comments stay.
    Fmt {
        /// Files, or folders of them; `-` for standard input.
        #[arg(value_name = "PATH", default_value = "policies")]
        paths: Vec<PathBuf>,
        /// Write nothing, show what differs, and fail if anything does.
        #[arg(long)]
        check: bool,
    },
    /// Everybody whom the policies let through.
    WhoCan(who_can::Options),
    /// Every route that lets an app in.
    WhatCan(what_can::Options),
    /// Who gains and who loses access by a change.
    Diff(diff::Options),
    /// Which recorded requests other policies would decide otherwise.
    Replay(replay::Options),
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For code hosts, as SARIF.
    Sarif,
}

/// A kind of file.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// gateway.yaml.
    Gateway,
    /// A policy file.
    Policy,
    /// A `*.test.yaml`.
    Test,
}

/// How a command writes its answer.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For people.
    Human,
    /// For programs.
    Json,
}

/// Parses the arguments and runs the command that they name.
pub fn main() -> ExitCode {
    // Clap itself exits with 2 when the arguments are wrong.
    match Arguments::parse().command {
        Command::Demo { check: true } => crate::demo::check(),
        Command::Demo { check: false } => crate::demo::run(),
        Command::Run { config } => run::run(&config),
        Command::Check { path, format } => check::check(&path, format),
        Command::Test(options) => test::test(&options),
        Command::Explain(options) => explain::explain(&options).unwrap_or_else(Unanswered::tell),
        Command::Schema { kind } => {
            out(&format!(
                "{:#}\n",
                schema(match kind {
                    Kind::Gateway => SchemaOf::Gateway,
                    Kind::Policy => SchemaOf::Policy,
                    Kind::Test => SchemaOf::Test,
                })
            ));
            ExitCode::SUCCESS
        }
        Command::Fmt { paths, check } => fmt::fmt(&paths, check),
        Command::WhoCan(options) => who_can::who_can(&options).unwrap_or_else(Unanswered::tell),
        Command::WhatCan(options) => what_can::what_can(&options).unwrap_or_else(Unanswered::tell),
        Command::Diff(options) => diff::diff(&options).unwrap_or_else(Unanswered::tell),
        Command::Replay(options) => replay::replay(&options).unwrap_or_else(Unanswered::tell),
    }
}

/// Why a command cannot answer.
enum Unanswered {
    /// It was used wrongly.
    UsedWrongly(String),
    /// What it was asked about is at fault.
    AtFault(String),
    /// The files that it was asked about have faults.
    Faulty(Diagnostics),
}

impl Unanswered {
    /// Says so, to people.
    fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::UsedWrongly(why) => (format!("error: {why}\n"), 2),
            Self::AtFault(why) => (format!("error: {why}\n"), 1),
            Self::Faulty(diagnostics) => (diagnostics.render(), 1),
        };
        talk(&text);
        ExitCode::from(code)
    }
}

/// The point in time that an option names (RFC 3339), since the Unix epoch; now, if it is left out.
fn moment(at: Option<&str>) -> Result<Duration, Unanswered> {
    let Some(at) = at else {
        return Ok(SystemClock.now().unix);
    };
    point_in_time(at).ok_or_else(|| {
        let why = format!("`{at}` is no point in time: write `2027-03-31T00:00:00Z`");
        Unanswered::UsedWrongly(why)
    })
}

/// A file to read line by line; `-` for standard input.
fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    Ok(match file.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(file)?)),
    })
}

/// Writes to standard output. Whoever closed it does not want more.
fn out(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error.
fn talk(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
