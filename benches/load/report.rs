//! What was measured, as Markdown: who and where, a table for each case, and the targets.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::caller::Round;
use crate::contender::Program;
use crate::figures::{Figures, Spread, median};
use crate::install::{said, version};
use crate::measure::{Effort, Measured, Outcome};
use crate::process;
use crate::targets;

/// Between these two lines of docs/benchmarks.md stands what was measured; the rest is prose.
const BEGIN: &str = "<!-- measured -->";
const END: &str = "<!-- /measured -->";

/// The whole report.
pub(crate) fn text(measured: &[Measured], effort: Effort, faults: &[String]) -> String {
    let mut text = heading(effort);
    text.push_str(&sections(measured));
    if !faults.is_empty() {
        let faults = faults.join("\n- ");
        let _ = write!(text, "\n### Not measured\n- {faults}\n");
    }
    let targets = targets::table(&Figures(measured));
    let _ = write!(
        text,
        "\n### Targets\nRatios of CPU are medians of the rounds' own, with the lowest and highest in parentheses: what is compared shares its rounds, and the speed of the machine in them.\n\n{targets}"
    );
    text
}

/// A table for each case.
pub(crate) fn sections(measured: &[Measured]) -> String {
    let (mut text, mut rest) = (String::new(), measured);
    while let Some(first) = rest.first() {
        let same = |one: &&Measured| one.case.name == first.case.name;
        let count = rest.iter().take_while(same).count();
        let (case, after) = rest.split_at(count);
        text.push_str(&section(case));
        rest = after;
    }
    text
}

fn heading(effort: Effort) -> String {
    let Effort { round, rounds } = effort;
    let mut lines = vec![
        format!("- date: {}", said(Path::new("date"), "-I")),
        format!("- machine: {}", machine()),
        format!(
            "- versions: {}; {}",
            version(Program::Portcullis),
            said(Path::new("rustc"), "-V")
        ),
    ];
    let peers = [Program::Haproxy, Program::Nginx, Program::Envoy];
    lines.extend(peers.map(|peer| format!("- {}", version(peer))));
    lines.push(format!(
        "- effort: {rounds} rounds of {} s each, interleaved, and one before them that is thrown away; medians, with the lowest and highest round in parentheses",
        round.as_secs_f64()
    ));
    lines.push(format!("- CPU: {}", process::accounting()));
    lines.push(
        "- place: each proxy with one worker on core 0, callers and backend on core 1".to_owned(),
    );
    lines.join("\n") + "\n"
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = cpus
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {} cores, Linux {}",
        models.first().unwrap_or(&"unknown"),
        models.len(),
        kernel.trim()
    )
}

/// A case.
pub(crate) fn section(case: &[Measured]) -> String {
    let Some(first) = case.first() else {
        return String::new();
    };
    let mut text = format!("\n### {}\n{}\n\n", first.case.name, first.case.says);
    text.push_str(match first.outcome {
        Outcome::Rounds(_) => "| proxy | job | CPU µs per request | requests/s | p50 ms | p99 ms | p99.9 ms | MiB |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
        Outcome::Start(_) => "| proxy | job | ms |\n| --- | --- | --- |\n",
        Outcome::Memory { .. } => "| proxy | job | MiB idle | MiB under 1,000 connections |\n| --- | --- | --- | --- |\n",
        Outcome::Held(_) => "| proxy | job | bytes for each connection | ms until an honest caller is answered |\n| --- | --- | --- | --- |\n",
    });
    for one in case {
        let _ = writeln!(text, "{}", row(one));
    }
    text
}

fn row(one: &Measured) -> String {
    let (program, job) = (one.contender.program, one.contender.job);
    let spread = |values: &[f64]| {
        Spread::of(values.iter().copied()).map_or_else(String::new, |spread| spread.to_string())
    };
    let figures = match &one.outcome {
        Outcome::Rounds(rounds) => rounds_row(rounds),
        Outcome::Start(times) => spread(times),
        Outcome::Held(rounds) => {
            let bytes: Vec<f64> = rounds.iter().map(|round| round.bytes).collect();
            let honest: Vec<f64> = rounds.iter().map(|round| round.honest).collect();
            format!("{} | {}", spread(&bytes), spread(&honest))
        }
        Outcome::Memory { idle, loaded } => format!("{} | {}", spread(idle), spread(loaded)),
    };
    let note = note(one);
    format!("| {program} | {job}{note} | {figures} |")
}

fn rounds_row(rounds: &[Round]) -> String {
    let cpu = Spread::of(rounds.iter().map(Round::cpu_per_request));
    let cpu = cpu.map_or_else(String::new, |spread| spread.to_string());
    let rate = median(rounds, Round::rate);
    let [p50, p99, p999] =
        [500, 990, 999].map(|share| median(rounds, |round| round.permille(share)));
    let memory = median(rounds, |round| round.memory);
    format!("{cpu} | {rate:.0} | {p50:.2} | {p99:.2} | {p999:.2} | {memory:.1}")
}

/// How many handshakes resumed a session, where callers offered one, and how many refusals closed the
/// connection, which then has to be made anew.
fn note(one: &Measured) -> String {
    let Outcome::Rounds(rounds) = &one.outcome else {
        return String::new();
    };
    let share = |of: fn(&Round) -> usize| {
        median(rounds, |round| {
            of(round) as f64 * 100.0 / round.requests() as f64
        })
    };
    let anew = share(|round| round.anew);
    if one.case.name == "handshake-resumed" {
        format!(", {:.0} % resumed", share(|round| round.resumed))
    } else if anew > 0.0 {
        format!(", {anew:.0} connections closed per 100 answers")
    } else {
        String::new()
    }
}

/// Puts the report into docs/benchmarks.md, and the chart beside it.
pub(crate) fn publish(report: &str, chart: &str) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::create_dir_all(&docs).expect("a folder");
    let page = docs.join("benchmarks.md");
    fs::write(&page, placed(&page, report)).expect("written");
    fs::write(docs.join("benchmarks.svg"), chart).expect("written");
}

fn placed(page: &PathBuf, report: &str) -> String {
    let old = fs::read_to_string(page).unwrap_or_else(|_| {
        format!("# Benchmarks\n\n![CPU per request](benchmarks.svg)\n\n{BEGIN}\n{END}\n")
    });
    let parts = old.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) =
        parts.expect("docs/benchmarks.md has the lines between which the report stands");
    format!("{before}{BEGIN}\n{report}{END}{after}")
}
