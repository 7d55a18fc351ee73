//! What is asked of the benchmark, by arguments and in the environment. A mistake is told before anything is
//! installed or measured.

use std::env;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use crate::case::{self, Case};
use crate::measure::Effort;

/// An order that can be carried out.
pub(crate) struct Order {
    /// The cases, in the order of the report.
    pub(crate) cases: Vec<Case>,
    /// Whether these are all that there are.
    pub(crate) is_whole: bool,
    /// Only show what there is.
    pub(crate) lists: bool,
    /// Without the peers.
    pub(crate) alone: bool,
    pub(crate) effort: Effort,
}

impl Order {
    /// Reads the arguments that are not cargo's own, and LOAD_SECONDS, LOAD_ROUNDS and LOAD_GATEWAY.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (flags, words): (Vec<String>, Vec<String>) =
            arguments.partition(|argument| argument.starts_with("--"));
        if let Some(odd) = flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
            return Err(format!("there is no {odd}, only {}", FLAGS.join(" and ")));
        }
        let has = |flag: &str| flags.iter().any(|given| given == flag);
        let all = case::all();
        let names = |word: &&String| {
            let word = std::slice::from_ref(*word);
            all.iter().any(|case| case.is_asked_for(word))
        };
        if let Some(odd) = words.iter().find(|word| !names(word)) {
            return Err(format!(
                "no case is named {odd}: `-- --list` shows them, and a word with a dash at its end means all whose names begin so"
            ));
        }
        check_gateway()?;
        let alone = has("--alone");
        let cases = all.into_iter().filter(|case| case.is_asked_for(&words));
        let cases: Vec<Case> = match alone {
            true => cases.filter_map(Case::alone).collect(),
            false => cases.collect(),
        };
        if cases.is_empty() {
            return Err("the gateway has no part in that, and stands alone".to_owned());
        }
        Ok(Self {
            cases,
            is_whole: words.is_empty() && !alone,
            lists: has("--list"),
            alone,
            effort: Effort {
                round: seconds(setting("LOAD_SECONDS", 3.0)?)?,
                rounds: match setting("LOAD_ROUNDS", 5)? {
                    0 => return Err("LOAD_ROUNDS is one or more".to_owned()),
                    rounds => rounds,
                },
            },
        })
    }
}

const FLAGS: [&str; 2] = ["--list", "--alone"];

fn setting<N: FromStr>(name: &str, default: N) -> Result<N, String> {
    match env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name} is a number, not {text:?}")),
    }
}

fn seconds(number: f64) -> Result<Duration, String> {
    let is_sound = (0.05..=3_600.0).contains(&number);
    let error = format!("LOAD_SECONDS is between 0.05 and 3600, not {number}");
    is_sound
        .then(|| Duration::from_secs_f64(number))
        .ok_or(error)
}

fn check_gateway() -> Result<(), String> {
    let Some(path) = env::var_os("LOAD_GATEWAY") else {
        return Ok(());
    };
    match fs::metadata(&path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(format!("LOAD_GATEWAY: {path:?} is no program")),
        Err(error) => Err(format!("LOAD_GATEWAY: {path:?}: {error}")),
    }
}
