//! Commands: each in a file of its own. Data goes to standard output, talk to standard error. Exit
//! codes: 0 good, 1 the thing checked is at fault, 2 the command was used wrongly.

mod check;
mod diff;
mod doctor;
mod explain;
mod fmt;
mod junit;
mod policies;
mod replay;
mod revision;
mod run;
mod sas_report;
mod test;
mod what_can;
mod who_can;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
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
        /// What to start as the gateway instead of this program, with the same arguments and environment: what runs
        /// a container, say.
        #[arg(long, value_name = "PROGRAM")]
        gateway: Option<PathBuf>,
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
    /// Whether the gateway could serve where this runs, and what keeps it from it.
    Doctor(doctor::Options),
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
    /// Who still calls with SAS signatures or function keys in the URL.
    SasReport(sas_report::Options),
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
    let code = run_command(Arguments::parse().command);
    match UNWRITTEN.load(Ordering::Relaxed) {
        true => ExitCode::from(1),
        false => code,
    }
}

fn run_command(command: Command) -> ExitCode {
    match command {
        Command::Demo {
            check: true,
            gateway,
        } => crate::demo::check(gateway.as_deref()),
        Command::Demo {
            check: false,
            gateway,
        } => crate::demo::run(gateway.as_deref()),
        Command::Run { config } => run::run(&config),
        Command::Check { path, format } => check::check(&path, format),
        Command::Doctor(options) => doctor::doctor(&options),
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
        Command::SasReport(options) => {
            sas_report::sas_report(&options).unwrap_or_else(Unanswered::tell)
        }
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

/// Set once something could not be written to standard output.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Writes to standard output. Whoever closed it does not want more; any other failure is told, and ends
/// the command with 1 whatever it found.
fn out(text: &str) {
    let mut stdout = std::io::stdout();
    let written = stdout
        .write_all(visible(text).as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        UNWRITTEN.store(true, Ordering::Relaxed);
        talk(&format!(
            "error: standard output cannot be written: {error}\n"
        ));
    }
}

/// Writes to standard error.
fn talk(text: &str) {
    let _ = std::io::stderr().write_all(visible(text).as_bytes());
}

/// Text with what would steer a terminal, or turn the direction of what stands there, written out.
fn visible(text: &str) -> Cow<'_, str> {
    let steers = |letter: char| {
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        turns || (letter.is_control() && !matches!(letter, '\n' | '\t'))
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let letters = text.chars().map(|letter| match steers(letter) {
        true => format!("\\u{:04x}", u32::from(letter)),
        false => letter.to_string(),
    });
    Cow::Owned(letters.collect())
}
