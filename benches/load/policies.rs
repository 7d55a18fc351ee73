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
#![allow(dead_code, reason = "shared with another benchmark")]

mod backend;
mod caller;
mod check;
mod contender;
mod install;
mod message;
mod peers;
mod process;
mod proxy;
mod stage;
mod tokens;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis::clock::pause;

use caller::http1::{self, Pace};
use caller::{Door, Round, Supply, Work};
use check::Proof;
use contender::{Contender, Job, Program};
use proxy::Proxy;
use stage::Stage;
use tokens::{BODY, Request};

const SECONDS: u64 = 8;
const CONNECTIONS: usize = 32;
/// Between two requests of one connection: the gateway is busy for some part of the time alone.
const REST: Duration = Duration::from_millis(10);
/// How often the policy is written anew: each write is taken once it has stood still for a second.
const RELOAD_EVERY: Duration = Duration::from_millis(2_500);

/// Rounds that count: RELOAD_ROUNDS, or five.
fn rounds() -> usize {
    let set = std::env::var("RELOAD_ROUNDS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(5)
}

/// A gateway with so many routes and apps.
struct Gateway {
    name: &'static str,
    proxy: Proxy,
    door: Door,
    supply: Supply,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    install::install();
    let (stage, load) = Stage::start();
    load.block_on(async {
        let small = Gateway::start(&stage, "10 routes", 10).await;
        let large = Gateway::start(&stage, "10,000 routes", 10_000).await;
        let gateways = [small, large];
        println!("{} rounds of {SECONDS} s each, interleaved\n", rounds());
        sizes(&gateways).await;
        for gateway in &gateways {
            reloads(gateway).await;
        }
    });
}

/// Few routes against many.
async fn sizes(gateways: &[Gateway; 2]) {
    let mut cost = [Vec::new(), Vec::new()];
    for round in 0..=rounds() {
        for (gateway, cost) in gateways.iter().zip(&mut cost) {
            let measured = gateway.run(SECONDS / 2, Pace::Closed).await;
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
}

/// Reloads against none.
async fn reloads(gateway: &Gateway) {
    let (mut calm, mut busy) = (Round::default(), Round::default());
    let path = gateway.proxy.policy_file();
    let policy = fs::read_to_string(&path).expect("a policy");
    let mut reloads = 0;
    for round in 0..=rounds() {
        let quiet = gateway.run(SECONDS, Pace::Resting(REST)).await;
        let stirred = tokio::select! {
            never = reload(&path, &policy, &mut reloads) => match never {},
            measured = gateway.run(SECONDS, Pace::Resting(REST)) => measured,
        };
        if round > 0 {
            (calm, busy) = (calm.join(&quiet), busy.join(&stirred));
        }
    }
    println!(
        "{}: p99 without reloads {:.3} ms, with {reloads} reloads {:.3} ms; ratio {:.2}; p50 {:.3} and {:.3} ms; {:.0} requests/s; every request was answered 200",
        gateway.name,
        calm.permille(990),
        busy.permille(990),
        busy.permille(990) / calm.permille(990),
        calm.permille(500),
        busy.permille(500),
        busy.rate(),
    );
}

impl Gateway {
    async fn start(stage: &Stage, name: &'static str, size: usize) -> Self {
        let contender = Contender {
            program: Program::Portcullis,
            job: Job::Routes(size),
        };
        let proxy = Proxy::start(stage, contender, 256, 8192)
            .await
            .expect("a gateway");
        let proof = Proof::new(stage);
        proof.of(stage, &proxy).await.expect("does its job");
        let token = tokens::good(&stage.entra);
        let request = Request::new(&token, &Bytes::from_static(BODY));
        Self {
            name,
            door: Door::new(proxy.address, &stage.ca, Some(b"http/1.1")),
            proxy,
            supply: Supply::new(Arc::new(vec![request]), None),
        }
    }

    async fn run(&self, seconds: u64, pace: Pace) -> Round {
        let callers = http1::connect(&self.door, CONNECTIONS).await;
        let before = self.proxy.cpu();
        let work = Work::new(&self.supply, 200, Duration::from_secs(seconds));
        let run = http1::run(callers.expect("connected"), work, pace).await;
        let (_, mut round) = run.expect("every request is answered 200");
        round.cpu = self.proxy.cpu() - before;
        round
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
