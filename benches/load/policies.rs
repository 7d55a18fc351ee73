//! What policies cost a gateway under load: ten routes and apps against ten thousand, and reloads
//! against none: `cargo bench --bench reload`.
//!
//! Rounds are interleaved, and each figure is the ratio of two that were measured in this run.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark that fails says where, and prints what it measured"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]

#[allow(dead_code, reason = "shared with another benchmark")]
mod backend;
#[allow(dead_code, reason = "shared with another benchmark")]
mod peers;
mod stage;
#[allow(dead_code, reason = "shared with another benchmark")]
mod traffic;

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis::clock::pause;

use peers::Proxy;
use stage::{Stage, TARGET};
use traffic::{Round, Traffic};

const SECONDS: u64 = 8;
/// Between two requests of one connection: the gateway is busy for some part of the time alone.
const REST: Duration = Duration::from_millis(10);
/// How often the policy is written anew: each write is taken once it has stood still for a second.
const RELOAD_EVERY: Duration = Duration::from_millis(2_500);

/// Rounds that count: RELOAD_ROUNDS, or five.
fn rounds() -> usize {
    let set = std::env::var("RELOAD_ROUNDS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(5)
}

fn main() {
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
    backend.expect_gateway(true);
    let folder = tempfile::tempdir().expect("a folder");
    let start = |name: &str, size: usize| {
        let place = folder.path().join(name);
        fs::create_dir(&place).expect("a folder");
        let policy = peers::policy(backend.address(), size, size);
        let proxy = Proxy::gateway(&place, &ca, &entra, &identity, &policy);
        let traffic = Traffic::new(proxy.address(), &ca, TARGET, &token);
        (proxy, traffic, place.join("policy.yaml"), policy)
    };
    let gateways = [start("small", 10), start("large", 10_000)];

    let rounds = rounds();
    println!("{rounds} rounds of {SECONDS} s each, interleaved\n");
    let mut cost = [Vec::new(), Vec::new()];
    for round in 0..=rounds {
        for ((proxy, traffic, ..), cost) in gateways.iter().zip(&mut cost) {
            let before = proxy.cpu();
            let mut measured = runtime.block_on(traffic.run(Duration::from_secs(SECONDS / 2)));
            measured.cpu = proxy.cpu() - before;
            if round > 0 {
                cost.push(measured.cpu_per_request());
            }
        }
    }
    let [small, large] = cost.map(median);
    println!(
        "CPU per request at 10 routes and 10 apps: {small:.1} µs; at 10,000 and 10,000: {large:.1} µs; ratio {:.2}",
        large / small
    );

    for (name, (_, traffic, path, policy)) in ["10 routes", "10,000 routes"].iter().zip(&gateways) {
        let (mut calm, mut busy) = (Round::default(), Round::default());
        let mut reloads = 0;
        for round in 0..=rounds {
            let length = Duration::from_secs(SECONDS);
            let quiet = runtime.block_on(traffic.paced(length, REST));
            let (stirred, taken) = runtime.block_on(async {
                tokio::select! {
                    never = reload(path, policy, &mut reloads) => match never {},
                    measured = traffic.paced(length, REST) => (measured, ()),
                }
            });
            let () = taken;
            if round > 0 {
                (calm, busy) = (calm.join(&quiet), busy.join(&stirred));
            }
        }
        println!(
            "{name}: p99 without reloads {:.3} ms, with {reloads} reloads {:.3} ms; ratio {:.2}; p50 {:.3} and {:.3} ms; {:.0} requests/s; every request was answered 200",
            calm.percentile(99),
            busy.percentile(99),
            busy.percentile(99) / calm.percentile(99),
            calm.percentile(50),
            busy.percentile(50),
            busy.rate(),
        );
    }
}

/// Writes the policy again and again, each time with another text and the same meaning.
async fn reload(path: &Path, policy: &str, reloads: &mut usize) -> std::convert::Infallible {
    loop {
        *reloads += 1;
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, format!("# {reloads}\n{policy}")).expect("written");
        fs::rename(&fresh, path).expect("in place");
        pause(RELOAD_EVERY).await;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
