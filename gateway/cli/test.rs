//! `portcullis test`: runs the tests of a policy, says which rules none reaches, and attacks the rules
//! with their near misses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{junit, out, policies, talk};
use crate::clock::{Clock as _, SystemClock};
use crate::files::{self, Diagnostics, Span, TestCase};
use crate::trial::{Attack, Coverage, Outcome, Strike, Suite, Tested, Tokens, attack};

/// The options of the command.
#[derive(Args)]
pub(super) struct Options {
    /// A folder with policies and their tests, a test file in it, or a gateway.yaml that names it.
    #[arg(value_name = "PATH", default_value = "policies")]
    path: PathBuf,
    /// Try the near misses of every allow rule, and fail if one is let in.
    #[arg(long)]
    attack: bool,
    /// Fail if the tests reach less than this many percent of the rules: 0 to 100.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    min_coverage: Option<f64>,
    /// How to write what came of it.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs.
    Json,
    /// For CI systems, as XML.
    Junit,
}

fn percent(text: &str) -> Result<f64, &'static str> {
    let percent = text.parse().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or("write a number from 0 to 100")
}

/// A test that was run, with the file that it stands in.
pub(super) struct Ran {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) place: String,
    pub(super) failures: Vec<String>,
}

/// What came of it all.
struct Report {
    ran: Vec<Ran>,
    coverage: Coverage,
    unreached: Vec<String>,
    attacked: Option<Attacked>,
}

struct Attacked {
    strikes: usize,
    /// What was changed, each once.
    changes: BTreeSet<String>,
    elsewhere: Vec<String>,
    breaches: Vec<String>,
    unattacked: Vec<String>,
}

pub(super) fn test(options: &Options) -> ExitCode {
    let mut diagnostics = Diagnostics::new();
    let report = run(options, &mut diagnostics);
    let Some(report) = report.filter(|_| !diagnostics.has_errors()) else {
        tell_faults(&diagnostics, options.format);
        return ExitCode::from(1);
    };
    let good = report.good(options.min_coverage);
    match options.format {
        Format::Human => out(&report.human(options.min_coverage)),
        Format::Json => out(&format!("{:#}\n", report.json())),
        Format::Junit => out(&junit::xml(&report.cases(options.min_coverage))),
    }
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    }
}

/// Nothing could be run. Whoever asked for a form that programs read gets that form all the same.
fn tell_faults(diagnostics: &Diagnostics, format: Format) {
    match format {
        Format::Human => out(&diagnostics.render()),
        Format::Json => {
            let told = json!({ "diagnostics": diagnostics.to_json() });
            out(&format!("{told:#}\n"));
        }
        Format::Junit => {
            talk(&diagnostics.render());
            out(&junit::faults(diagnostics));
        }
    }
}

fn run(options: &Options, diagnostics: &mut Diagnostics) -> Option<Report> {
    let (place, tokens, tests) = find(&options.path, diagnostics)?;
    if tests.is_empty() {
        diagnostics
            .error(&Span::nowhere_in(&place), "there are no tests")
            .help("write some into a file `*.test.yaml` beside the policies");
        return None;
    }
    let read = policies::read_at(&place, tokens, diagnostics);
    // What is wrong with the tests is told even if the policies are at fault.
    let documents: Vec<_> = tests
        .iter()
        .map(|file| (file, files::load_tests(file, diagnostics)))
        .collect();
    let read = read?;
    let now = SystemClock.now().unix;
    let mut suite = Suite::new(read.trial(), &read.document, now);
    let (mut ran, mut tested) = (Vec::new(), Vec::new());
    for (file, document) in &documents {
        for case in &document.cases {
            let Some(one) = suite.run(case, diagnostics) else {
                continue;
            };
            ran.push(Ran::of(file, case, &one));
            tested.push(one);
        }
    }
    let attacked = options
        .attack
        .then(|| Attacked::of(&attack(&suite, &tested)));
    Some(Report {
        ran,
        coverage: suite.coverage(),
        unreached: suite
            .unreached()
            .map(|place| {
                let name = place.route.name();
                match place.rule.and_then(|id| place.route.rule(id)) {
                    Some(rule) => format!("{name} {} ({})", rule.id(), rule.span()),
                    None => format!("{name} ({})", place.route.span()),
                }
            })
            .collect(),
        attacked,
    })
}

/// Where the policies are, and the tests to run.
fn find(path: &Path, diagnostics: &mut Diagnostics) -> Option<(PathBuf, Tokens, Vec<PathBuf>)> {
    let name = path.to_string_lossy();
    if !path.is_dir() && (name.ends_with(".test.yaml") || name.ends_with(".test.yml")) {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        return Some((folder.to_owned(), Tokens::default(), vec![path.to_owned()]));
    }
    let (place, tokens) = policies::place(path, diagnostics)?;
    let folder = match place.is_dir() {
        true => place.clone(),
        false => place.parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    let tests = files::test_files(&folder);
    Some((place, tokens, tests))
}

impl Ran {
    fn of(file: &Path, case: &TestCase, tested: &Tested) -> Self {
        Self {
            file: file.display().to_string(),
            name: case.name.value.clone(),
            place: case.expect.span.to_string(),
            failures: tested.failures.clone(),
        }
    }
}

impl Attacked {
    fn of(attack: &Attack<'_>) -> Self {
        let told = |strike: &Strike<'_>, by: &str| {
            let (route, rule, change) = (strike.route.name(), strike.rule, &strike.change);
            format!("{route} {rule}: {change} is let in by {by}")
        };
        let mut attacked = Self {
            strikes: attack.strikes.len(),
            changes: BTreeSet::new(),
            elsewhere: Vec::new(),
            breaches: Vec::new(),
            unattacked: Vec::new(),
        };
        for strike in &attack.strikes {
            attacked.changes.insert(strike.change.clone());
            match &strike.outcome {
                Outcome::Refused => {}
                Outcome::LetInElsewhere(by) => attacked.elsewhere.push(told(strike, by)),
                Outcome::Breach(by) => attacked.breaches.push(told(strike, by)),
            }
        }
        let unattacked = attack.unattacked.iter();
        let unattacked = unattacked.map(|(route, rule)| format!("{} {rule}", route.name()));
        attacked.unattacked = unattacked.collect();
        attacked
    }
}

impl Report {
    fn failed(&self) -> usize {
        self.ran
            .iter()
            .filter(|ran| !ran.failures.is_empty())
            .count()
    }

    fn good(&self, min_coverage: Option<f64>) -> bool {
        let attacked = self.attacked.as_ref();
        self.failed() == 0
            && self.lacks(min_coverage).is_none()
            && attacked.is_none_or(|a| a.breaches.is_empty() && a.unattacked.is_empty())
    }

    /// How much was asked for, if less was reached.
    fn lacks(&self, min_coverage: Option<f64>) -> Option<f64> {
        min_coverage.filter(|asked| self.coverage.percent() < *asked)
    }

    fn human(&self, min_coverage: Option<f64>) -> String {
        let mut text = String::new();
        let mut file = "";
        for ran in &self.ran {
            if ran.file != file {
                file = &ran.file;
                text += &format!("{file}\n");
            }
            match ran.failures.is_empty() {
                true => text += &format!("  ok    {}\n", ran.name),
                false => text += &format!("  FAIL  {} ({})\n", ran.name, ran.place),
            }
            for failure in &ran.failures {
                text += &format!("        {failure}\n");
            }
        }
        let (all, failed) = (self.ran.len(), self.failed());
        let tests = if all == 1 { "test" } else { "tests" };
        text += &format!(
            "\n{all} {tests}: {} passed, {failed} failed\n",
            all - failed
        );
        let Coverage { reached, all } = self.coverage;
        // Not all is not 100 %.
        let percent = self.coverage.percent().floor();
        text += &format!("{reached} of {all} rules reached: {percent} %\n");
        for place in &self.unreached {
            text += &format!("  not reached: {place}\n");
        }
        if let Some(asked) = self.lacks(min_coverage) {
            text += &format!("  FAIL  at least {asked} % are asked for\n");
        }
        if let Some(attacked) = &self.attacked {
            text += &attacked.human();
        }
        text
    }

    fn json(&self) -> Value {
        let ran = self.ran.iter().map(|ran| {
            json!({
                "file": ran.file,
                "name": ran.name,
                "place": ran.place,
                "passed": ran.failures.is_empty(),
                "failures": ran.failures,
            })
        });
        json!({
            "tests": ran.collect::<Vec<_>>(),
            "coverage": {
                "reached": self.coverage.reached,
                "rules": self.coverage.all,
                "percent": self.coverage.percent(),
                "notReached": self.unreached,
            },
            "attack": self.attacked.as_ref().map(|attacked| json!({
                "nearMisses": attacked.strikes,
                "changes": attacked.changes,
                "letIn": attacked.breaches,
                "letInElsewhere": attacked.elsewhere,
                "notAttacked": attacked.unattacked,
            })),
        })
    }

    /// Everything as tests: those of the files, the coverage that was asked for as one, and the attack.
    fn cases(&self, min_coverage: Option<f64>) -> Vec<Ran> {
        let ran = self.ran.iter().map(|ran| Ran {
            file: ran.file.clone(),
            name: ran.name.clone(),
            place: ran.place.clone(),
            failures: ran.failures.clone(),
        });
        let unreached = self.unreached.iter();
        let unreached = unreached.map(|place| format!("no test reaches {place}"));
        let coverage = min_coverage.map(|asked| Ran {
            file: "coverage".to_owned(),
            name: format!("rule coverage is at least {asked} %"),
            place: String::new(),
            failures: match self.lacks(min_coverage) {
                Some(_) => unreached.collect(),
                None => Vec::new(),
            },
        });
        let attack = self.attacked.as_ref().map(|attacked| Ran {
            file: "attack".to_owned(),
            name: "no near miss of an allow rule is let in".to_owned(),
            place: String::new(),
            failures: attacked.problems().collect(),
        });
        ran.chain(coverage).chain(attack).collect()
    }
}

impl Attacked {
    fn problems(&self) -> impl Iterator<Item = String> {
        let unattacked = self.unattacked.iter().map(|rule| {
            format!("{rule}: no test shows whom it lets in, so nothing near it could be tried")
        });
        self.breaches.iter().cloned().chain(unattacked)
    }

    fn human(&self) -> String {
        let let_in = self.breaches.len() + self.elsewhere.len();
        let mut text = format!(
            "{} near misses: {} refused",
            self.strikes,
            self.strikes - let_in
        );
        if !self.elsewhere.is_empty() {
            text += &format!(", {} let in by other rules", self.elsewhere.len());
        }
        text.push('\n');
        for problem in self.problems() {
            text += &format!("  FAIL  {problem}\n");
        }
        for elsewhere in &self.elsewhere {
            text += &format!("  look  {elsewhere}\n");
        }
        text
    }
}
