//! The gateway under load over TLS with its full policy, against nginx and HAProxy as plain TLS
//! reverse proxies, in one run: `cargo bench --bench load`.
//!
//! Each proxy runs on one core with one worker; load and backend share the other. What is reported is
//! the CPU time of the proxy's own processes (user and system, by the kernel's account) divided by the
//! requests that it answered, as a median over interleaved rounds, and its ratio to the peers. Wall
//! time is reported beside it, and depends on the machine. LOAD_SECONDS and LOAD_ROUNDS set the effort.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails says where, and prints what it measured"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]

mod backend;
mod peers;
mod stage;
mod traffic;

use std::process::Command;
use std::time::Duration;

use portcullis::demo::mint::damaged;

use backend::Backend;
use peers::Proxy;
use stage::{Stage, TARGET};
use traffic::{Round, Traffic};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Stage {
        runtime,
        ca,
        entra,
        identity,
        backend,
        token,
    } = Stage::start();
    let seconds = setting("LOAD_SECONDS", 5);
    let rounds = setting("LOAD_ROUNDS", 5);
    let folder = tempfile::tempdir().expect("a folder");

    let proxies = [
        Proxy::gateway(
            folder.path(),
            &ca,
            &entra,
            &identity,
            &peers::policy(backend.address(), 1, 1),
        ),
        Proxy::nginx(folder.path(), &ca, backend.address()),
        Proxy::haproxy(folder.path(), &ca, backend.address()),
    ];
    let traffic: Vec<Traffic> = proxies
        .iter()
        .map(|proxy| Traffic::new(proxy.address(), &ca, TARGET, &token))
        .collect();
    runtime.block_on(check(&proxies, &traffic, &backend, &damaged(&token)));

    let mut measured: Vec<Vec<Round>> = vec![Vec::new(); proxies.len()];
    for round in 0..=rounds {
        for (at, proxy) in proxies.iter().enumerate() {
            backend.expect_gateway(proxy.is_gateway());
            let duration = Duration::from_secs(if round == 0 { 1 } else { seconds });
            let before = proxy.cpu();
            let mut result = runtime.block_on(traffic[at].run(duration));
            result.cpu = proxy.cpu() - before;
            assert_eq!(backend.faults(), 0, "{} did not do its job", proxy.name());
            // The first round warms up.
            if round > 0 {
                measured[at].push(result);
            }
        }
    }
    report(&proxies, &measured, seconds, rounds);
}

/// Does each do its job? The gateway's is the full policy, the others' to pass on.
async fn check(proxies: &[Proxy], traffic: &[Traffic], backend: &Backend, damaged: &str) {
    for (proxy, traffic) in proxies.iter().zip(traffic) {
        backend.expect_gateway(proxy.is_gateway());
        assert_eq!(traffic.ask(None).await, 200, "{}", proxy.name());
        let refused = if proxy.is_gateway() { 401 } else { 200 };
        assert_eq!(
            traffic.ask(Some(damaged)).await,
            refused,
            "{}",
            proxy.name()
        );
        assert_eq!(backend.faults(), 0, "{} did not do its job", proxy.name());
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(proxies: &[Proxy], measured: &[Vec<Round>], seconds: u64, rounds: u64) {
    let date = Command::new("date")
        .arg("-I")
        .output()
        .expect("a date")
        .stdout;
    println!(
        "\n{} rounds of {seconds} s each, interleaved; {}",
        rounds,
        String::from_utf8_lossy(&date).trim()
    );
    println!(
        "\n| proxy | job | CPU µs per request (median, lowest to highest) | requests/s | p50 ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut cost = Vec::new();
    for (proxy, rounds) in proxies.iter().zip(measured) {
        let each: Vec<f64> = rounds.iter().map(Round::cpu_per_request).collect();
        let (low, high) = each.iter().fold((f64::MAX, 0_f64), |(low, high), one| {
            (low.min(*one), high.max(*one))
        });
        cost.push(median(each));
        println!(
            "| {} | {} | {:.1} ({low:.1} to {high:.1}) | {:.0} | {:.2} | {:.2} |",
            proxy.name(),
            if proxy.is_gateway() {
                "the full policy"
            } else {
                "TLS and nothing else"
            },
            cost[cost.len() - 1],
            median(rounds.iter().map(Round::rate).collect()),
            median(rounds.iter().map(|round| round.percentile(50)).collect()),
            median(rounds.iter().map(|round| round.percentile(99)).collect()),
        );
    }
    for (proxy, peer) in proxies.iter().zip(&cost).skip(1) {
        println!("\ngateway / {}: {:.2}", proxy.name(), cost[0] / peer);
    }
}
