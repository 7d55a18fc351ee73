//! What the tools of the security team take on large policies: `cargo bench --bench policies`.
//!
//! The real command runs on policies that are made up: 500 routes and 2,000 apps as a company might have
//! them, and ten times less beside it, so that a cost that grows faster than the policies shows. Each comes
//! plain and dense: with several deny rules on every route, for groups and roles, and a condition in every
//! allow rule.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures time, and fails and tells aloud"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

/// How much stands in each route.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Plain,
    Dense,
}

/// Policies with this many routes and apps. `changed` widens and narrows some rules, and moves one route.
fn policies(shape: Shape, routes: usize, apps: usize, changed: bool) -> String {
    let mut text = String::from("tenants:\n");
    for tenant in 0..10 {
        let _ = writeln!(
            text,
            "  tenant-{tenant}: 11111111-1111-1111-1111-{tenant:012}"
        );
    }
    text += "apps:\n";
    for app in 0..apps {
        let _ = writeln!(text, "  app-{app}: aaaaaaaa-0000-0000-0000-{app:012}");
    }
    text += "networks: { office: [203.0.113.0/24, '2001:db8::/32'] }\n";
    text += "groups:\n";
    for group in 0..20 {
        let _ = writeln!(text, "  group-{group}: dddddddd-0000-0000-0000-{group:012}");
    }
    text += "audiences: [api://gateway]\n";
    text += "backends: { b: { http: 'http://127.0.0.1:9', credential: none } }\nroutes:\n";
    let per_route = apps / routes.max(1);
    for route in 0..routes {
        // As of one API: all paths begin alike.
        let path = match route % 4 {
            0 => format!("/api/thing-{route}"),
            1 => format!("/api/thing-{route}/{{id}}"),
            2 => format!("/api/thing-{route}/{{id}}/part-{route}"),
            _ => format!("/api/thing-{route}/{{*rest}}"),
        };
        let _ = writeln!(
            text,
            "  route-{route}:\n    match: {{ methods: [GET, POST], path: '{path}' }}\n    backend: b\n    allow:"
        );
        for rule in 0..4 {
            let (tenant, first) = ((route + rule) % 10, (route * per_route + rule * 7) % apps);
            let more = if changed && route % 50 == 0 {
                per_route + 1
            } else {
                per_route
            };
            let names: Vec<String> = (0..more.max(1))
                .map(|n| format!("app-{}", (first + n) % apps))
                .collect();
            let _ = writeln!(
                text,
                "      - {{ tenants: [tenant-{tenant}], apps: [{}], tokenKinds: [appOnly], roles: [Role.{rule}, Role.Common]{} }}",
                names.join(", "),
                match shape {
                    Shape::Plain => String::new(),
                    Shape::Dense => format!(", when: \"request.headers['x-{rule}'] == 'yes'\""),
                }
            );
        }
        let _ = writeln!(
            text,
            "      - {{ tenants: [tenant-{}], scopes: [Things.Read], from: [office], reason: bench }}",
            route % 10
        );
        if shape == Shape::Dense {
            text += "    deny:\n";
            for rule in 0..3 {
                let _ = writeln!(
                    text,
                    "      - {{ groups: [group-{}], roles: [Denied.{rule}, Denied.Too] }}",
                    (route + rule) % 20
                );
            }
        } else if route % 5 == 0 {
            let deny = if changed && route % 100 == 0 {
                "delegated"
            } else {
                "appOnly"
            };
            let _ = writeln!(
                text,
                "    deny:\n      - {{ tenants: [tenant-3], tokenKinds: [{deny}] }}"
            );
        }
    }
    text
}

fn run(folder: &Path, arguments: &[&str]) -> Duration {
    let began = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(folder)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it runs");
    let took = began.elapsed();
    assert_eq!(status.code(), Some(0), "{arguments:?}");
    took
}

fn median(folder: &Path, arguments: &[&str]) -> f64 {
    let mut took: Vec<Duration> = (0..ROUNDS).map(|_| run(folder, arguments)).collect();
    took.sort();
    took.get(ROUNDS / 2).expect("some rounds").as_secs_f64()
}

fn main() {
    let commands: [&[&str]; 4] = [
        &["check", "old"],
        &["diff", "old", "new"],
        &["who-can", "--all", "--policies", "old"],
        &["what-can", "--app", "app-7", "--policies", "old"],
    ];
    let sizes = [(50, 200), (500, 2_000)];
    let folder = tempfile::tempdir().expect("a folder");
    println!("median of {ROUNDS} runs of the real command, in seconds");
    for (name, shape) in [("plain", Shape::Plain), ("dense", Shape::Dense)] {
        println!(
            "\n{name:<34} {:>12} {:>14} {:>7}",
            "50 r, 200 a", "500 r, 2000 a", "ratio"
        );
        let mut took = vec![Vec::new(); commands.len()];
        for (routes, apps) in sizes {
            let place = folder.path().join(format!("{name}-{routes}"));
            for (side, changed) in [("old", false), ("new", true)] {
                fs::create_dir_all(place.join(side)).expect("a folder");
                let text = policies(shape, routes, apps, changed);
                fs::write(place.join(side).join("policy.yaml"), text).expect("written");
            }
            for (command, took) in commands.iter().zip(&mut took) {
                took.push(median(&place, command));
            }
        }
        for (command, took) in commands.iter().zip(&took) {
            let [small, large] = took.as_slice() else {
                continue;
            };
            println!(
                "{:<34} {small:>12.3} {large:>14.3} {:>7.1}",
                command.join(" "),
                large / small
            );
        }
    }
}
