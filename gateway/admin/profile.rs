//! Where the process spends its time: `/profile`, a flame graph of some seconds.

use std::time::Duration;

use http::StatusCode;
use pprof::ProfilerGuardBuilder;
use tokio::sync::{Mutex, MutexGuard};

use super::answer::{Answer, error, of_kind};
use crate::clock::pause;
use crate::reload::giving_way;

/// Samples a second of CPU: odd, so as not to keep step with what happens at round intervals.
const FREQUENCY: i32 = 99;

const USUAL_SECONDS: u64 = 10;
const MOST_SECONDS: u64 = 60;

/// What is interrupted there is not looked at: to unwind it could wait for what was interrupted.
const BLOCKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// One profile at a time: the timer is the process's only one.
#[derive(Default)]
pub(super) struct Profiler(Mutex<()>);

impl Profiler {
    pub(super) async fn profile(&self, query: Option<&str>) -> Answer {
        let Some(seconds) = seconds(query) else {
            let sentence = format!("write `?seconds=` and a number from 1 to {MOST_SECONDS}");
            return error(StatusCode::BAD_REQUEST, &sentence);
        };
        let Ok(turn) = self.0.try_lock() else {
            let sentence = "somebody else is profiling; ask again when that is over";
            return error(StatusCode::CONFLICT, sentence);
        };
        match flame_graph(Duration::from_secs(seconds), &turn).await {
            Ok(graph) if graph.is_empty() => error(
                StatusCode::NOT_FOUND,
                "there is nothing to draw, for the process did next to nothing; ask while it is busy",
            ),
            Ok(graph) => of_kind(StatusCode::OK, "image/svg+xml", graph),
            Err(why) => {
                let sentence = format!("the process could not be profiled: {why}");
                error(StatusCode::INTERNAL_SERVER_ERROR, &sentence)
            }
        }
    }
}

fn seconds(query: Option<&str>) -> Option<u64> {
    match query {
        None => Some(USUAL_SECONDS),
        Some(query) => {
            let seconds = query.strip_prefix("seconds=")?.parse().ok()?;
            (1..=MOST_SECONDS).contains(&seconds).then_some(seconds)
        }
    }
}

async fn flame_graph(time: Duration, _turn: &MutexGuard<'_, ()>) -> Result<Vec<u8>, String> {
    let builder = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&BLOCKED);
    let guard = builder.build().map_err(|error| error.to_string())?;
    pause(time).await;
    // Names of functions are looked up in the program's debug information, which takes a while.
    let drawn = giving_way("profile", move || {
        let report = guard.report().build().map_err(|error| error.to_string())?;
        let mut graph = Vec::new();
        let drawn = report.flamegraph(&mut graph);
        drawn.map_err(|error| error.to_string())?;
        Ok(graph)
    });
    drawn
        .await
        .unwrap_or_else(|| Err("drawing it failed".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_takes_from_one_to_sixty_seconds() {
        for (query, taken) in [
            (None, Some(10)),
            (Some("seconds=1"), Some(1)),
            (Some("seconds=60"), Some(60)),
            (Some("seconds=61"), None),
            (Some("seconds=0"), None),
            (Some("seconds=-1"), None),
            (Some("seconds="), None),
            (Some("minutes=1"), None),
        ] {
            assert_eq!(seconds(query), taken, "{query:?}");
        }
    }
}
