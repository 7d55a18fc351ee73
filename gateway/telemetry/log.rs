//! The log: workers put records into queues of their own, and one thread formats and writes them. A
//! slow reader of the log costs records, which are counted, never time on a request.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connections::Connections;
use super::decision::DecisionLog;
use super::format;
use super::metrics::{Counted, Metrics};
use super::record::Record;
use super::sightings::Agents;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Human,
    /// Not at all; they are still counted.
    Off,
}

impl RequestLog {
    /// Writes the line of a record.
    pub fn write(self, record: &Record, out: &mut Vec<u8>) {
        match self {
            Self::Json => format::json(record, out),
            Self::Human => format::human(record, out),
            Self::Off => {}
        }
    }
}

/// Records that one queue holds before more are dropped: about a second of a busy worker, and some
/// 30 MB if every one of them is as large as it can be.
const LONGEST_QUEUE: usize = 16_384;

/// How long a record waits before it is written.
const PERIOD: Duration = Duration::from_millis(20);

/// How long the last records may take to be written when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A worker's queue, or its own counts where records are not written.
#[derive(Debug)]
pub struct Sink {
    queue: Mutex<Vec<Record>>,
    counted: Mutex<Counted>,
    lost: AtomicU64,
    is_written: bool,
    connections: Connections,
}

impl Sink {
    /// A queue of records that are written somewhere, or only counted, with the `agents` of all who count.
    pub fn new(is_written: bool, agents: Agents) -> Self {
        Self {
            queue: Mutex::default(),
            counted: Mutex::new(Counted::new(agents)),
            lost: AtomicU64::new(0),
            is_written,
            connections: Connections::default(),
        }
    }

    /// What the worker counts of its connections.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Whether what it is handed is written somewhere, and not only counted.
    pub fn is_written(&self) -> bool {
        self.is_written
    }

    /// Hands a record over.
    pub fn push(&self, record: Box<Record>) {
        if !self.is_written {
            self.counted().count(&record);
            return;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() < LONGEST_QUEUE {
            queue.push(*record);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted here since it was asked for last.
    pub(super) fn take_counts(&self) -> Counted {
        self.counted().take()
    }

    fn drain(&self, into: &mut Vec<Record>) -> u64 {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        into.append(&mut queue);
        drop(queue);
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// The thread that writes, and its end.
pub struct Log {
    end: Option<mpsc::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Log {
    /// Begins to write what the sinks hold to `out`, and decisions to their own file. Where nothing of it is to be
    /// written, nothing begins.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        form: RequestLog,
        mut sinks: Vec<Arc<Sink>>,
        metrics: Arc<Metrics>,
        out: Box<dyn Write + Send>,
        decisions: Option<DecisionLog>,
    ) -> std::io::Result<Self> {
        let (end, told) = mpsc::channel::<()>();
        let (over, ended) = mpsc::channel();
        sinks.retain(|sink| sink.is_written);
        if sinks.is_empty() {
            return Ok(Self { end: None, ended });
        }
        let mut writer = Writer {
            form,
            sinks,
            metrics,
            out,
            decisions,
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                let _over: mpsc::Sender<()> = over;
                while matches!(told.recv_timeout(PERIOD), Err(RecvTimeoutError::Timeout)) {
                    writer.turn();
                }
                writer.turn();
            })?;
        Ok(Self {
            end: Some(end),
            ended,
        })
    }
}

impl Drop for Log {
    /// Writes what is left, so that a drained gateway leaves a whole log.
    fn drop(&mut self) {
        self.end.take();
        // A reader that takes nothing must not keep the gateway from ending. The channel closes when
        // the thread ends, well or not.
        let _ = self.ended.recv_timeout(LAST_WORDS);
    }
}

struct Writer {
    form: RequestLog,
    sinks: Vec<Arc<Sink>>,
    metrics: Arc<Metrics>,
    out: Box<dyn Write + Send>,
    decisions: Option<DecisionLog>,
}

impl Writer {
    fn turn(&mut self) {
        let mut records = Vec::new();
        let mut lost = 0;
        for sink in &self.sinks {
            lost += sink.drain(&mut records);
        }
        if records.is_empty() && lost == 0 {
            return;
        }
        let decisions_lost = match &mut self.decisions {
            Some(decisions) => decisions.write(&records) + lost,
            None => 0,
        };
        self.metrics.count(&records, lost, decisions_lost);
        let mut text = Vec::new();
        for record in &records {
            self.form.write(record, &mut text);
        }
        // A log that cannot be written must not end the gateway.
        let _ = self.out.write_all(&text);
        let _ = self.out.flush();
    }
}
