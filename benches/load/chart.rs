//! The chart: CPU per request as bars, a group for each case on a scale of its own, since a handshake
//! costs ten times what a request does.

use std::fmt::Write as _;

use crate::caller::Round;
use crate::contender::{Job, Program};
use crate::figures::median;
use crate::measure::{Measured, Outcome};

/// Pixels.
const WIDTH: f64 = 920.0;
const BAR: f64 = 16.0;
const GAP: f64 = 30.0;
/// Where bars begin, and how long the longest is.
const LEFT: f64 = 330.0;
const LONGEST: f64 = 500.0;

const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.case { font-weight: 600 }
.portcullis { fill: #0969da } .haproxy { fill: #8c6bb1 } .nginx { fill: #3d8b57 } .envoy { fill: #c4713b }
.plain { opacity: .55 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.portcullis { fill: #58a6ff } .haproxy { fill: #b79ad9 } .nginx { fill: #63b87f } .envoy { fill: #e69a68 }
}
</style>
";

struct Bar {
    label: String,
    class: &'static str,
    plain: bool,
    micros: f64,
}

/// An SVG that is readable on light and dark ground.
pub(crate) fn svg(measured: &[Measured]) -> String {
    let mut body = String::new();
    let mut y = 20.0;
    text(
        &mut body,
        "case",
        (10.0, y),
        "CPU µs per request; each case on its own scale; plain jobs paler",
    );
    for (name, bars) in groups(measured) {
        y += GAP;
        text(&mut body, "case", (10.0, y), name);
        let longest = bars
            .iter()
            .map(|bar| bar.micros)
            .fold(f64::MIN_POSITIVE, f64::max);
        for bar in &bars {
            y += BAR + 4.0;
            draw(&mut body, bar, y, bar.micros / longest * LONGEST);
        }
    }
    let height = y + GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"CPU microseconds per request by case and proxy\">\n{STYLE}{body}</svg>\n"
    )
}

/// Cases with their bars, in the order of the report.
fn groups(measured: &[Measured]) -> Vec<(&'static str, Vec<Bar>)> {
    let mut groups: Vec<(&'static str, Vec<Bar>)> = Vec::new();
    for one in measured {
        let Outcome::Rounds(rounds) = &one.outcome else {
            continue;
        };
        let bar = Bar {
            label: one.contender.to_string(),
            class: class(one.contender.program),
            plain: matches!(one.contender.job, Job::Plain | Job::Splice),
            micros: median(rounds, Round::cpu_per_request),
        };
        match groups.last_mut() {
            Some((name, bars)) if *name == one.case.name => bars.push(bar),
            _ => groups.push((one.case.name, vec![bar])),
        }
    }
    groups
}

fn class(program: Program) -> &'static str {
    match program {
        Program::Portcullis => "portcullis",
        Program::Haproxy => "haproxy",
        Program::Nginx => "nginx",
        Program::Envoy => "envoy",
    }
}

fn draw(out: &mut String, bar: &Bar, y: f64, length: f64) {
    let top = y - BAR + 4.0;
    let shade = if bar.plain { " plain" } else { "" };
    text(out, "", (20.0, y), &bar.label);
    let _ = writeln!(
        out,
        "<rect class=\"{}{shade}\" x=\"{LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\"/>",
        bar.class
    );
    text(
        out,
        "",
        (LEFT + length + 6.0, y),
        &format!("{:.1}", bar.micros),
    );
}

fn text(out: &mut String, class: &str, (x, y): (f64, f64), what: &str) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{what}</text>"
    );
}
