//! A log: workers write lines into pieces of text of their own, and one thread takes these to where they go. How many
//! may wait is bounded: what has no room is dropped and counted, or, where decisions must not be lost, requests wait
//! for room.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::event::{Level, event};
use super::file::LogFile;
use super::lines::{Lines, Which};
use super::metrics::Metrics;
use super::sink::Sink;
use crate::clock::Clock;

/// How long a line waits before it is written.
const PERIOD: Duration = Duration::from_millis(20);

/// How long the last lines may take to be written when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Where lines go.
pub enum Target {
    /// To a stream, such as the standard output.
    Stream(Box<dyn Write + Send>),
    /// To a file.
    File(LogFile),
}

/// When what was written is made to last through a crash of the machine. Through one of the process it lasts as soon
/// as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the kernel sees fit: half a minute by default.
    Never,
    /// At most this late.
    Within(Duration),
}

/// What makes a log.
pub struct LogSettings {
    /// Which one.
    pub which: Which,
    /// Where it goes.
    pub target: Target,
    /// When it is synced.
    pub sync: Sync,
    /// The places that are free again once their lines are written; `None` where lines are rather dropped.
    pub room: Option<Arc<Semaphore>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The thread that writes, and its end.
pub struct Log {
    end: Option<mpsc::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Log {
    /// Begins to write the lines of the sinks.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        settings: LogSettings,
        sinks: Vec<Arc<Sink>>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (end, told) = mpsc::channel::<()>();
        let (over, ended) = mpsc::channel();
        let name = match settings.which {
            Which::Requests => "request log",
            Which::Decisions => "decision log",
        };
        let mut writer = Writer {
            name,
            settings,
            sinks,
            metrics,
            waiting: Lines::default(),
            written: 0,
            spare: Vec::new(),
            unsynced: None,
            is_failing: false,
        };
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _over: mpsc::Sender<()> = over;
                while matches!(told.recv_timeout(PERIOD), Err(RecvTimeoutError::Timeout)) {
                    writer.turn();
                }
                writer.turn();
                writer.sync_now();
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
    name: &'static str,
    settings: LogSettings,
    sinks: Vec<Arc<Sink>>,
    metrics: Arc<Metrics>,
    /// What was taken from the workers, of which so many bytes are written.
    waiting: Lines,
    written: usize,
    /// Pieces of text to give to the workers in exchange.
    spare: Vec<Vec<u8>>,
    /// Since when something is written and not synced.
    unsynced: Option<Duration>,
    is_failing: bool,
}

/// The largest piece of text that is kept for the next lines.
const LARGEST_SPARE: usize = 1 << 20;

impl Writer {
    fn turn(&mut self) {
        if self.waiting.text.is_empty() {
            self.take();
        }
        if !self.waiting.text.is_empty() {
            self.write();
        }
        self.sync();
    }

    /// Takes what the workers have written.
    fn take(&mut self) {
        for at in 0..self.sinks.len() {
            let Some(sink) = self.sinks.get(at) else {
                return;
            };
            let empty = Lines {
                text: self.spare.pop().unwrap_or_default(),
                placed: 0,
            };
            let mut lines = sink.take_lines(self.settings.which, empty);
            self.waiting.placed += lines.placed;
            match self.waiting.text.is_empty() {
                true => std::mem::swap(&mut self.waiting.text, &mut lines.text),
                false => self.waiting.text.append(&mut lines.text),
            }
            self.keep(lines.text);
        }
    }

    fn keep(&mut self, mut text: Vec<u8>) {
        if text.capacity() <= LARGEST_SPARE && self.spare.len() <= self.sinks.len() {
            text.clear();
            self.spare.push(text);
        }
    }

    fn write(&mut self) {
        let text = self.waiting.text.get(self.written..).unwrap_or_default();
        let (written, outcome) = match &mut self.settings.target {
            Target::Stream(stream) => {
                let outcome = stream.write_all(text).and_then(|()| stream.flush());
                (text.len(), outcome)
            }
            Target::File(file) => {
                // What cannot be put aside goes on growing, which is better than to be lost.
                let turned = match self.written {
                    0 => file.turn(),
                    _ => Ok(()),
                };
                let (written, outcome) = file.write(text);
                (written, outcome.and(turned))
            }
        };
        self.written += written;
        let now = self.settings.clock.now().unix;
        if written > 0 {
            self.unsynced.get_or_insert(now);
        }
        let is_whole = self.written >= self.waiting.text.len();
        self.tell(outcome.err(), is_whole, now);
        match &self.settings.room {
            // What was written half goes on, and until then nobody is let in for whom there is no room.
            Some(_) if !is_whole => self.begin_line_anew(),
            Some(room) => {
                room.add_permits(self.waiting.placed);
                self.done();
            }
            None => {
                let rest = self.waiting.text.get(self.written..).unwrap_or_default();
                let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
                let failed = self.metrics.failed(self.settings.which);
                failed.fetch_add(lost, Ordering::Relaxed);
                self.done();
            }
        }
    }

    /// A line of which a part was written is written whole after the end of that part.
    fn begin_line_anew(&mut self) {
        let before = self.waiting.text.get(..self.written).unwrap_or_default();
        let whole = before.iter().rposition(|byte| *byte == b'\n');
        self.written = whole.map_or(0, |end| end + 1);
    }

    fn done(&mut self) {
        let Lines { text, .. } = std::mem::take(&mut self.waiting);
        self.keep(text);
        self.written = 0;
    }

    fn tell(&mut self, error: Option<io::Error>, is_whole: bool, now: Duration) {
        let name = self.name;
        match error {
            Some(error) if !self.is_failing => {
                self.is_failing = true;
                let what = match (is_whole, &self.settings.room) {
                    (true, _) => "goes on in the same file",
                    (false, None) => "loses lines",
                    (false, Some(_)) => "keeps lines, and requests will wait",
                };
                let detail = format!("the {name} {what}: {error}");
                event(now, Level::Error, "log-failing", &detail);
            }
            None if self.is_failing => {
                self.is_failing = false;
                event(
                    now,
                    Level::Info,
                    "log-recovered",
                    &format!("the {name} is written again"),
                );
            }
            Some(_) | None => {}
        }
    }

    fn sync(&mut self) {
        let Sync::Within(late) = self.settings.sync else {
            return;
        };
        let now = self.settings.clock.now().unix;
        // A turn later it might be too late.
        if self
            .unsynced
            .is_some_and(|since| now.saturating_sub(since) + PERIOD >= late)
        {
            self.sync_now();
        }
    }

    fn sync_now(&mut self) {
        if self.settings.sync == Sync::Never {
            return;
        }
        if let (Target::File(file), Some(_)) = (&self.settings.target, self.unsynced.take()) {
            let outcome = file.sync();
            let now = self.settings.clock.now().unix;
            if let Err(error) = outcome {
                self.tell(Some(error), true, now);
            }
        }
    }
}
