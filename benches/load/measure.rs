//! Runs cases: proxies side by side, checked first, then measured in interleaved rounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis::clock::{Clock as _, SystemClock, pause, within};
use portcullis::demo::mint::damaged;

use crate::caller::http1::{self, Pace};
use crate::caller::{Door, Round, Supply, Work, handshake, http2};
use crate::case::{Case, Load, Sends};
use crate::check::Proof;
use crate::contender::{Contender, Job};
use crate::proxy::Proxy;
use crate::siege::{Besieged, Doors, Siege, besiege};
use crate::stage::Stage;
use crate::tokens::{self, BODY, Request};

/// The round that is thrown away.
const WARM_UP: Duration = Duration::from_secs(1);
/// What a round may take beyond its time, its connections and last answers included.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a proxy to finish what a round left it: closed connections.
const SETTLE: Duration = Duration::from_millis(100);

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) round: Duration,
    pub(crate) rounds: usize,
}

/// What came of one proxy in one case.
pub(crate) struct Measured {
    pub(crate) case: Case,
    pub(crate) contender: Contender,
    pub(crate) outcome: Outcome,
}

pub(crate) enum Outcome {
    Rounds(Vec<Round>),
    /// Milliseconds.
    Start(Vec<f64>),
    /// MiB.
    Memory {
        idle: Vec<f64>,
        loaded: Vec<f64>,
    },
    Held(Vec<Besieged>),
}

/// A proxy in a case, ready to be measured.
struct Candidate<'case> {
    case: &'case Case,
    proxy: Proxy,
    door: Door,
    supply: Supply,
    rounds: Vec<Round>,
    /// Why it is out of the race.
    fault: Option<String>,
}

/// The cases of a group, in turn: what was measured, and who failed and why.
pub(crate) async fn group(
    stage: &Stage,
    cases: &[Case],
    effort: Effort,
) -> Result<(Vec<Measured>, Vec<String>), String> {
    let proof = Proof::new(stage);
    if let [case] = cases {
        let whole = |measured| (measured, Vec::new());
        match case.load {
            Load::Start => return starts(stage, case, &proof, effort).await.map(whole),
            Load::Memory { connections } => {
                let measured = memories(stage, case, &proof, connections, effort).await;
                return measured.map(whole);
            }
            Load::Held { connections, siege } => {
                return held(stage, case, &proof, (connections, siege), effort).await;
            }
            Load::Http1 { .. } | Load::Http2 { .. } => {}
            Load::Handshakes { .. } | Load::Fixed { .. } => {}
        }
    }
    let mut candidates = Vec::new();
    for case in cases {
        candidates.extend(enter(stage, case, &proof, effort).await?);
    }
    for round in 0..=effort.rounds {
        for candidate in candidates.iter_mut().filter(|one| one.fault.is_none()) {
            match candidate.round((round > 0).then_some(effort.round)).await {
                Ok(result) if round > 0 => candidate.rounds.push(result),
                Ok(_) => {}
                Err(fault) => candidate.fault = Some(fault),
            }
        }
    }
    let (failed, good): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|candidate| candidate.fault.is_some());
    let faults = failed.into_iter().filter_map(|candidate| candidate.fault);
    let measured = good.into_iter().map(Candidate::measured);
    Ok((measured.collect(), faults.collect()))
}

/// Starts and checks the proxies of a case.
async fn enter<'case>(
    stage: &Stage,
    case: &'case Case,
    proof: &Proof,
    effort: Effort,
) -> Result<Vec<Candidate<'case>>, String> {
    let mut candidates = Vec::new();
    let shared = requests(stage, case.sends, effort);
    for contender in &case.contenders {
        let proxy = Proxy::start(stage, *contender, case.answer, case.room()).await?;
        proof.of(stage, &proxy).await?;
        let requests = match (case.sends, contender.job) {
            (Sends::TokensOfApps, Job::Routes(count)) => {
                made(&tokens::of_apps(&stage.entra, count), BODY)
            }
            _ => Arc::clone(&shared),
        };
        let once = match case.sends {
            Sends::NewTokens(each) => Some(each),
            _ => None,
        };
        candidates.push(Candidate {
            case,
            door: Door::new(proxy.address, &stage.ca, alpn(case, *contender)),
            proxy,
            supply: Supply::new(requests, once),
            rounds: Vec::new(),
            fault: None,
        });
    }
    Ok(candidates)
}

fn alpn(case: &Case, contender: Contender) -> Option<&'static [u8]> {
    match case.load {
        Load::Http2 { .. } => Some(b"h2"),
        _ => contender.has_tls().then_some(b"http/1.1"),
    }
}

fn requests(stage: &Stage, sends: Sends, effort: Effort) -> Arc<Vec<Request>> {
    let entra = &stage.entra;
    match sends {
        Sends::OneToken | Sends::TokensOfApps => made(&[tokens::good(entra)], BODY),
        Sends::Tokens(count) => made(&tokens::different(entra, count), BODY),
        Sends::NewTokens(each) => made(&tokens::different(entra, each * (effort.rounds + 1)), BODY),
        // Without a body: Envoy closes the connection when it refuses a request before it has read its body,
        // and then a handshake would be measured.
        Sends::BadSignature => made(&[damaged(&tokens::good(entra))], b""),
        Sends::WrongClaim => made(&[tokens::without_role(entra)], b""),
        Sends::Body(size) => made(&[tokens::good(entra)], &vec![b'x'; size]),
    }
}

fn made(tokens: &[String], body: &[u8]) -> Arc<Vec<Request>> {
    let body = Bytes::copy_from_slice(body);
    let requests = tokens.iter().map(|token| Request::new(token, &body));
    Arc::new(requests.collect())
}

impl Candidate<'_> {
    /// A round of so long; `None` is the one that warms up.
    async fn round(&mut self, duration: Option<Duration>) -> Result<Round, String> {
        let limit = PATIENCE + duration.unwrap_or(WARM_UP);
        let done = within(limit, self.run(duration)).await;
        let result = done.unwrap_or_else(|| Err("is stuck".to_owned()));
        let case = self.case.name;
        let round = result.map_err(|what| self.proxy.fault(&format!("{case}: {what}")))?;
        match self.proxy.faults() {
            0 => Ok(round),
            faults => Err(self.proxy.fault(&format!(
                "{case}: {faults} requests reached the backend wrongly"
            ))),
        }
    }

    async fn run(&mut self, duration: Option<Duration>) -> Result<Round, String> {
        let (proxy, door, supply) = (&self.proxy, &self.door, &self.supply);
        let work = || self.work(duration);
        let round = match self.case.load {
            Load::Http1 { connections } => {
                at_pace(proxy, door, connections, work, Pace::Closed).await
            }
            Load::Fixed { connections, rate } => {
                at_pace(proxy, door, connections, work, Pace::Fixed(rate)).await
            }
            Load::Http2 {
                connections,
                streams,
            } => {
                let callers = http2::connect(door, connections).await?;
                let before = proxy.cpu();
                let round = http2::run(&callers, streams, work()).await?;
                Ok(accounted(round, proxy, before))
            }
            Load::Handshakes { callers, resumed } => {
                let callers = handshake::connect(door, callers, resumed, supply.next()).await?;
                let before = proxy.cpu();
                let round = handshake::run(&callers, work()).await?;
                Ok(accounted(round, proxy, before))
            }
            Load::Start | Load::Memory { .. } | Load::Held { .. } => {
                Err("is not measured in rounds".to_owned())
            }
        };
        pause(SETTLE).await;
        round
    }

    /// The round that warms up sends each request once, if there are many.
    fn work(&self, duration: Option<Duration>) -> Work {
        let mut supply = self.supply.clone();
        let many = supply.requests.len() > 1 && supply.once.is_none();
        if duration.is_none() && many {
            supply.once = Some(supply.requests.len());
            return Work::new(&supply, self.case.status, PATIENCE);
        }
        Work::new(&supply, self.case.status, duration.unwrap_or(WARM_UP))
    }

    fn measured(self) -> Measured {
        Measured {
            case: self.case.clone(),
            contender: self.proxy.contender,
            outcome: Outcome::Rounds(self.rounds),
        }
    }
}

async fn at_pace(
    proxy: &Proxy,
    door: &Door,
    connections: usize,
    work: impl FnOnce() -> Work,
    pace: Pace,
) -> Result<Round, String> {
    let callers = http1::connect(door, connections).await?;
    let before = proxy.cpu();
    let (_open, round) = http1::run(callers, work(), pace).await?;
    Ok(accounted(round, proxy, before))
}

fn accounted(mut round: Round, proxy: &Proxy, before: f64) -> Round {
    round.cpu = proxy.cpu() - before;
    round.memory = proxy.memory();
    round
}

async fn starts(
    stage: &Stage,
    case: &Case,
    proof: &Proof,
    effort: Effort,
) -> Result<Vec<Measured>, String> {
    let mut times = vec![Vec::new(); case.contenders.len()];
    for round in 0..=effort.rounds {
        for (contender, times) in case.contenders.iter().zip(&mut times) {
            let proxy = Proxy::start(stage, *contender, case.answer, case.room()).await?;
            let door = Door::new(proxy.address, &stage.ca, alpn(case, *contender));
            proof.served(&proxy, &door).await?;
            let taken = SystemClock.now().instant.duration_since(proxy.spawned);
            // The first reads the program from the disk.
            if round > 0 {
                times.push(taken.as_secs_f64() * 1e3);
            }
        }
    }
    let outcomes = times.into_iter().map(Outcome::Start);
    Ok(all(case, outcomes))
}

async fn memories(
    stage: &Stage,
    case: &Case,
    proof: &Proof,
    connections: usize,
    effort: Effort,
) -> Result<Vec<Measured>, String> {
    let requests = requests(stage, case.sends, effort);
    let mut found = vec![(Vec::new(), Vec::new()); case.contenders.len()];
    for _ in 0..effort.rounds {
        for (contender, (idle, loaded)) in case.contenders.iter().zip(&mut found) {
            let proxy = Proxy::start(stage, *contender, case.answer, case.room()).await?;
            proof.of(stage, &proxy).await?;
            pause(SETTLE).await;
            idle.push(proxy.memory());
            let door = Door::new(proxy.address, &stage.ca, alpn(case, *contender));
            let supply = Supply::new(Arc::clone(&requests), None);
            let work = || Work::new(&supply, 200, WARM_UP);
            let run = at_pace(&proxy, &door, connections, work, Pace::Closed);
            let round = within(PATIENCE, run).await;
            let round = round.unwrap_or_else(|| Err("is stuck".to_owned()));
            loaded.push(round.map_err(|what| proxy.fault(&what))?.memory);
        }
    }
    let outcomes = found.into_iter();
    Ok(all(
        case,
        outcomes.map(|(idle, loaded)| Outcome::Memory { idle, loaded }),
    ))
}

/// A siege takes long and differs little from one time to the next: so many rounds are enough.
const SIEGES: usize = 3;

async fn held(
    stage: &Stage,
    case: &Case,
    proof: &Proof,
    (connections, siege): (usize, Siege),
    effort: Effort,
) -> Result<(Vec<Measured>, Vec<String>), String> {
    let requests = requests(stage, case.sends, effort);
    let token = tokens::good(&stage.entra);
    let request = Arc::new(Request::new(&token, &requests[0].body));
    let (mut measured, mut faults) = (Vec::new(), Vec::new());
    for contender in &case.contenders {
        let mut rounds = Vec::new();
        for _ in 0..effort.rounds.min(SIEGES) {
            let proxy = Proxy::start(stage, *contender, case.answer, case.room()).await?;
            proof.of(stage, &proxy).await?;
            pause(SETTLE).await;
            let door = |alpn| Door::new(proxy.address, &stage.ca, Some(alpn));
            let doors = Doors {
                http1: door(b"http/1.1"),
                http2: door(b"h2"),
            };
            match besiege(&proxy, siege, &doors, connections, &request).await {
                Ok(besieged) => rounds.push(besieged),
                Err(fault) => faults.push(format!("{}: {fault}", case.name)),
            }
        }
        if !rounds.is_empty() {
            measured.push(Measured {
                case: case.clone(),
                contender: *contender,
                outcome: Outcome::Held(rounds),
            });
        }
    }
    Ok((measured, faults))
}

fn all(case: &Case, outcomes: impl Iterator<Item = Outcome>) -> Vec<Measured> {
    let pairs = case.contenders.iter().zip(outcomes);
    pairs
        .map(|(contender, outcome)| Measured {
            case: case.clone(),
            contender: *contender,
            outcome,
        })
        .collect()
}
