//! What the kernel knows of a process and all that came of it: its processor time and its memory.

use std::fs;
use std::path::Path;

/// How processor time is counted here, in words for the report.
pub(crate) fn accounting() -> &'static str {
    if Path::new("/proc/self/schedstat").exists() {
        "nanoseconds on the processor by /proc/PID/task/*/schedstat, user and system"
    } else {
        "utime and stime of /proc/PID/stat, in ticks of 10 ms"
    }
}

/// Seconds of CPU, user and system, of a process and its descendants.
pub(crate) fn cpu(root: u32) -> f64 {
    let tree = tree(root);
    let precise: u64 = tree.iter().map(|id| nanoseconds(*id)).sum();
    if precise > 0 {
        return precise as f64 / 1e9;
    }
    tree.iter().map(|id| ticks(*id)).sum::<u64>() as f64 / 100.0
}

/// MiB resident, shared pages by their share, of a process and its descendants.
pub(crate) fn memory(root: u32) -> f64 {
    let tree = tree(root).into_iter();
    tree.map(pss).sum::<u64>() as f64 / 1024.0
}

/// How many descriptors a process and its descendants hold open.
#[allow(dead_code, reason = "not every benchmark asks")]
pub(crate) fn descriptors(root: u32) -> usize {
    let of = |id: u32| fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count);
    tree(root).into_iter().map(of).sum()
}

fn tree(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(id) = found.get(at).copied() {
        at += 1;
        for task in tasks(id) {
            let text = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
            found.extend(
                text.split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
    }
    found
}

fn tasks(id: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{id}/task"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path().display().to_string())
        .collect()
}

/// The first number is the time on the processor.
fn nanoseconds(id: u32) -> u64 {
    let of = |task: String| -> Option<u64> {
        let text = fs::read_to_string(format!("{task}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks(id).into_iter().filter_map(of).sum()
}

/// `utime` and `stime` of /proc/ID/stat, in ticks of a hundredth of a second.
fn ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    // What follows the name begins with the third field; utime and stime are the 14th and 15th.
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// KiB.
fn pss(id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Pss:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
