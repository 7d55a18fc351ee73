//! The gateway under load beside its peers, in one run: `cargo bench --bench load`.
//!
//! HAProxy, nginx with njs and Envoy are installed if they are missing, each proxy is asked whether it
//! does its job, and then all are measured in turn on core 0, with callers and backend on core 1. What
//! counts is the CPU time of a proxy's own processes for each request, and its ratio to the peers'.
//!
//! `-- full refused-` runs the case of that name and those whose names begin so, `-- --list` lists them. LOAD_SECONDS
//! and LOAD_ROUNDS set the effort. When all cases were run with three rounds or more and none failed,
//! docs/benchmarks.md and its chart are written.
//!
//! LOAD_GATEWAY names the gateway that is measured, where it is not the one that was built with the benchmark; its path
//! in the project, or its name, stands in the report. `-- --alone` puts the gateway under load and no peer, and
//! installs none: benches/pgo learns from that what the gateway does.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that fails says where, and prints what it measured"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]

mod backend;
mod caller;
mod case;
mod chart;
mod check;
mod contender;
mod figures;
mod install;
mod measure;
mod message;
mod order;
mod peers;
mod process;
mod proxy;
mod report;
mod siege;
mod stage;
mod targets;
mod tokens;

use std::process::ExitCode;

use case::Case;
use measure::{Effort, Measured};
use order::Order;
use stage::Stage;

/// Rounds, without which a report is not worth keeping.
const WORTH_KEEPING: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` only wants to know that it builds.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let arguments = arguments.into_iter();
    let order = Order::read(arguments.filter(|argument| argument != "--bench"));
    match order {
        Err(mistake) => {
            eprintln!("load: {mistake}");
            ExitCode::from(2)
        }
        Ok(order) if order.lists => {
            for case in order.cases {
                println!("{:24} {}", case.name, case.says);
            }
            ExitCode::SUCCESS
        }
        Ok(order) => carry_out(&order),
    }
}

fn carry_out(order: &Order) -> ExitCode {
    let effort = order.effort;
    if !order.alone {
        install::install();
    }
    let (measured, faults) = run(&order.cases, effort);
    if order.alone {
        return exit(&faults);
    }
    let report = report::text(&measured, effort, &faults);
    println!("{report}");
    if order.is_whole && faults.is_empty() && effort.rounds >= WORTH_KEEPING {
        report::publish(&report, &chart::svg(&measured));
    }
    exit(&faults)
}

fn exit(faults: &[String]) -> ExitCode {
    match faults.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What was measured, and why some of it could not be. What is done is shown at once.
fn run(cases: &[Case], effort: Effort) -> (Vec<Measured>, Vec<String>) {
    let (stage, load) = Stage::start();
    let (mut measured, mut faults) = (Vec::new(), Vec::new());
    for group in cases.chunk_by(|one, next| one.group == next.group) {
        eprintln!("measuring {}", group[0].group);
        match load.block_on(measure::group(&stage, group, effort)) {
            Ok((more, failed)) => {
                eprintln!("{}{}", report::sections(&more), failed.join("\n"));
                measured.extend(more);
                faults.extend(failed);
            }
            Err(fault) => {
                eprintln!("{fault}");
                faults.push(fault);
            }
        }
    }
    (measured, faults)
}
