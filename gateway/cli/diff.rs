//! `portcullis diff`: who gains and who loses access by a change of policies, computed from the rules.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::revision::{self, Operand};
use super::{Unanswered, out};
use crate::clock::{Clock as _, SystemClock};
use crate::files::Diagnostics;
use crate::policy::told::{Said, Sides};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// The policies as they were: a folder, a file, a git revision (for the folder of NEW there), or
    /// `REVISION:PATH`.
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

pub(super) fn diff(options: &Options) -> Result<ExitCode, Unanswered> {
    let mut diagnostics = Diagnostics::new();
    let mut read = |place, other, may_be_empty| {
        let operand = Operand {
            place,
            other,
            may_be_empty,
        };
        revision::read(&operand, &mut diagnostics).map_err(Unanswered::UsedWrongly)
    };
    let old = read(&options.old, &options.new, true)?;
    let new = read(&options.new, &options.old, false)?;
    let (Some(old), Some(new)) = (old, new) else {
        return Err(Unanswered::Faulty(diagnostics));
    };
    let sides = Sides {
        old: (&old.policy, &old.document),
        new: (&new.policy, &new.document),
    };
    let now = SystemClock.now().unix_seconds();
    let said =
        Said::of(sides, now, &|| true).map_err(|error| Unanswered::AtFault(error.to_string()))?;
    let (gained, lost) = (said.is_gained(), said.is_lost());
    out(&match options.format {
        Format::Human => said.human(),
        Format::Markdown => said.markdown(),
        Format::Json => format!("{:#}\n", said.json()),
    });
    let fails = match options.fail_on {
        None => false,
        Some(FailOn::Gained) => gained,
        Some(FailOn::Lost) => lost,
        Some(FailOn::Any) => gained || lost,
    };
    Ok(ExitCode::from(u8::from(fails)))
}
