//! What the process takes of the machine, as the kernel knows it.
//! <https://opentelemetry.io/docs/specs/semconv/system/process-metrics/>

use std::fs;

use crate::metric::{Family, Metric, Point, Unit};

static CPU: Metric = Metric::counter(
    "process.cpu.time",
    Unit::Seconds,
    "Processor time that the gateway took, in the kernel and out of it.",
);
static MEMORY: Metric = Metric::new(
    "process.memory.usage",
    crate::metric::Kind::UpDown,
    Unit::Bytes,
    "Memory of the gateway that is in use.",
);
static DESCRIPTORS: Metric = Metric::new(
    "process.unix.file_descriptor.count",
    crate::metric::Kind::UpDown,
    Unit::Of("{file_descriptor}"),
    "File descriptors that the gateway has open.",
);
static UPTIME: Metric = Metric::gauge(
    "process.uptime",
    Unit::Seconds,
    "How long the gateway has been running.",
);

static BUILD: Metric = Metric::gauge(
    "portcullis.build.info",
    Unit::Of("{build}"),
    "1, with the version of the gateway.",
);
static TOKENS: Metric = Metric::gauge(
    "portcullis.token_cache.entries",
    Unit::Of("{token}"),
    "Verified tokens that are remembered.",
);

/// How many verified tokens are remembered.
pub(super) fn tokens(count: usize) -> Family {
    TOKENS.of(count as u64)
}

/// The families of what can be read; one that cannot is left out.
pub(super) fn families() -> Vec<Family> {
    let stat = Stat::read();
    let cpu = stat.as_ref().map(|stat| {
        CPU.with(vec![
            Point::new([("cpu.mode", "user")], stat.user),
            Point::new([("cpu.mode", "system")], stat.system),
        ])
    });
    let uptime = stat
        .as_ref()
        .zip(since_boot())
        .map(|(stat, now)| UPTIME.of((now - stat.started).max(0.0)));
    let memory = resident().map(|bytes| MEMORY.of(bytes));
    let descriptors = fs::read_dir("/proc/self/fd").ok();
    // The one that reads them is not counted.
    let descriptors =
        descriptors.map(|entries| DESCRIPTORS.of((entries.count() as u64).saturating_sub(1)));
    let build = Point::new([("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    let build = Some(BUILD.with(vec![build]));
    [build, cpu, memory, descriptors, uptime]
        .into_iter()
        .flatten()
        .collect()
}

/// Of proc_pid_stat(5), in seconds.
struct Stat {
    user: f64,
    system: f64,
    started: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may hold anything.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / ticks);
        Some(Self {
            user: seconds(11)?,
            system: seconds(12)?,
            started: seconds(19)?,
        })
    }
}

fn since_boot() -> Option<f64> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Value;

    #[test]
    fn what_the_kernel_knows_of_this_process_is_told() {
        let families = families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.metric.name == name);
            match family.expect("a family").points[0].value {
                Value::Whole(value) => value as f64,
                Value::Real(value) => value,
                Value::Distribution(_) => f64::NAN,
            }
        };
        assert!(value("process.memory.usage") > 1e6);
        assert!(value("process.unix.file_descriptor.count") >= 3.0);
        assert!((0.0..1e5).contains(&value("process.uptime")));
        assert!((0.0..1e5).contains(&value("process.cpu.time")));
    }
}
