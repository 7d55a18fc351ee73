//! A log: workers write lines into pieces of text of their own, and one thread takes these to where they go. How many
//! may wait is bounded: what has no room is dropped and counted, or, where decisions must not be lost, requests wait
//! for room.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::event::{Level, event};
use super::file::{LogFile, write_counting};
use super::handover::{Bell, Handover};
use super::health::Health;
use super::lines::{ROOM, Which, Written};
use super::metrics::Metrics;
use super::sink::Sink;
use crate::clock::Clock;

/// How long a line waits before it is written, where there are few.
const PERIOD: Duration = Duration::from_millis(50);

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
    /// How it stands.
    pub health: Arc<Health>,
}

/// The thread that writes, and its end.
pub struct Log {
    bell: Arc<Bell>,
    ended: mpsc::Receiver<()>,
    which: Which,
    sinks: Vec<Arc<Sink>>,
    /// How many lines the thread has in hand.
    in_hand: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
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
        let bell: Arc<Bell> = Arc::default();
        let (over, ended) = mpsc::channel();
        let handover = Handover::to_thread(Arc::clone(&bell), ROOM, sinks.len());
        let mut writer = Writer::new(settings, sinks, metrics, handover);
        let is_required = writer.settings.room.is_some();
        writer.settings.health.watch(writer.check(), is_required);
        let which = writer.settings.which;
        let log = Self {
            bell: Arc::clone(&bell),
            ended,
            which,
            sinks: writer.sinks.clone(),
            in_hand: Arc::clone(&writer.in_hand),
            clock: Arc::clone(&writer.settings.clock),
        };
        let told = bell;
        std::thread::Builder::new()
            .name(which.name().to_owned())
            .spawn(move || {
                let _over: mpsc::Sender<()> = over;
                while told.wait(PERIOD) {
                    writer.turn();
                }
                writer.turn();
                writer.end();
            })?;
        Ok(log)
    }
}

impl Drop for Log {
    /// Writes what is left, so that a drained gateway leaves a whole log.
    fn drop(&mut self) {
        self.bell.end();
        // A reader that takes nothing must not keep the gateway from ending. The channel closes when
        // the thread ends, well or not.
        let ended = self.ended.recv_timeout(LAST_WORDS);
        if ended != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        let waiting = self
            .sinks
            .iter()
            .map(|sink| sink.take_lines(self.which).lines);
        let lost = self.in_hand.load(Ordering::Relaxed) + waiting.sum::<u64>();
        let detail = format!(
            "up to {lost} lines of the {} were not written: nobody takes them",
            self.which.name()
        );
        event(self.clock.now().unix, Level::Error, "log-lost", &detail);
    }
}

struct Writer {
    settings: LogSettings,
    sinks: Vec<Arc<Sink>>,
    metrics: Arc<Metrics>,
    /// Where the workers get memory, and say that there is enough.
    handover: Arc<Handover>,
    /// What was taken from the workers, of which so many bytes are written.
    waiting: Vec<u8>,
    written: usize,
    /// How many places are free again once it is written.
    placed: usize,
    /// How many lines it is, for who cannot wait until they are written.
    in_hand: Arc<AtomicU64>,
    /// Since when something is written and not synced.
    unsynced: Option<Duration>,
    is_failing: bool,
    /// Whether half a line stands at the end of a stream.
    is_torn: bool,
}

impl Writer {
    fn new(
        settings: LogSettings,
        sinks: Vec<Arc<Sink>>,
        metrics: Arc<Metrics>,
        handover: Handover,
    ) -> Self {
        let handover = Arc::new(handover);
        for sink in &sinks {
            sink.hand_lines_over(settings.which, &handover);
        }
        Self {
            settings,
            sinks,
            metrics,
            handover,
            waiting: Vec::new(),
            written: 0,
            placed: 0,
            in_hand: Arc::default(),
            unsynced: None,
            is_failing: false,
            is_torn: false,
        }
    }

    fn turn(&mut self) {
        if self.waiting.is_empty() {
            self.take();
        }
        if !self.waiting.is_empty() {
            self.write();
        }
        self.sync();
    }

    /// Takes what the workers have written.
    fn take(&mut self) {
        for sink in &self.sinks {
            let Written {
                mut text,
                lines,
                placed,
            } = sink.take_lines(self.settings.which);
            self.placed += placed;
            self.in_hand.fetch_add(lines, Ordering::Relaxed);
            match self.waiting.is_empty() {
                true => std::mem::swap(&mut self.waiting, &mut text),
                false => self.waiting.append(&mut text),
            }
            self.handover.give_back(text);
        }
    }

    fn write(&mut self) {
        let text = self.waiting.get(self.written..).unwrap_or_default();
        let (written, outcome) = match &mut self.settings.target {
            Target::Stream(stream) => {
                // What follows half a line is to begin on a line of its own.
                let end: &[u8] = if self.is_torn { b"\n" } else { b"" };
                match write_counting(stream, end) {
                    (_, Err(error)) => (0, Err(error)),
                    (_, Ok(())) => {
                        let (written, outcome) = write_counting(stream, text);
                        let last = text.get(..written).and_then(<[u8]>::last);
                        self.is_torn = last.is_some_and(|last| *last != b'\n');
                        (written, outcome)
                    }
                }
            }
            Target::File(file) => {
                let turned = match self.written {
                    0 => file.turn(),
                    _ => Ok(None),
                };
                match turned {
                    // What nobody would find is not written.
                    Err(error) => (0, Err(error)),
                    // What cannot be put aside goes on growing, which is better than to be lost.
                    Ok(kept) => {
                        let (written, outcome) = file.write(text);
                        (written, outcome.and(kept.map_or(Ok(()), Err)))
                    }
                }
            }
        };
        self.written += written;
        let now = self.settings.clock.now().unix;
        if written > 0 {
            self.unsynced.get_or_insert(now);
        }
        let is_whole = self.written >= self.waiting.len();
        if self.settings.room.is_none() {
            // Counted first: whoever hears of the fault is to find what it cost.
            let failed = self.metrics.failed(self.settings.which);
            failed.fetch_add(self.unwritten(), Ordering::Relaxed);
        }
        self.tell(outcome.err(), is_whole, now);
        match &self.settings.room {
            // What was written half goes on, and until then nobody is let in for whom there is no room.
            Some(_) if !is_whole => self.begin_line_anew(),
            Some(room) => {
                room.add_permits(self.placed);
                self.done();
            }
            None => self.done(),
        }
    }

    /// How many lines are not written to their end.
    fn unwritten(&self) -> u64 {
        let rest = self.waiting.get(self.written..).unwrap_or_default();
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// A line of which a part was written is written whole after the end of that part.
    fn begin_line_anew(&mut self) {
        let before = self.waiting.get(..self.written).unwrap_or_default();
        let whole = before.iter().rposition(|byte| *byte == b'\n');
        self.written = whole.map_or(0, |end| end + 1);
    }

    fn done(&mut self) {
        self.handover.give_back(std::mem::take(&mut self.waiting));
        self.written = 0;
        self.placed = 0;
        self.in_hand.store(0, Ordering::Relaxed);
    }

    fn tell(&mut self, error: Option<io::Error>, is_whole: bool, now: Duration) {
        let name = self.settings.which.name();
        match error {
            Some(error) if !self.is_failing => {
                self.is_failing = true;
                let what = match (is_whole, &self.settings.room) {
                    (true, _) => "goes on in the same file",
                    (false, None) => "loses lines",
                    (false, Some(_)) => "keeps lines, and requests will wait",
                };
                let detail = format!("the {name} {what}: {error}");
                self.settings.health.fails(self.check(), &detail);
                event(now, Level::Error, "log-failing", &detail);
            }
            None if self.is_failing => {
                self.is_failing = false;
                self.settings.health.recovers(self.check());
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

    /// The check of readiness that tells of it.
    fn check(&self) -> &'static str {
        match self.settings.which {
            Which::Requests => "telemetry.requestLog",
            Which::Decisions => "telemetry.decisionLog",
        }
    }

    /// What is not written when the gateway ends is lost, and that is said.
    fn end(&mut self) {
        let lost = self.unwritten();
        if lost > 0 {
            let now = self.settings.clock.now().unix;
            let detail = format!(
                "{lost} lines of the {} could not be written",
                self.settings.which.name()
            );
            event(now, Level::Error, "log-lost", &detail);
        }
        self.sync_now();
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::Request;

    use super::*;
    use crate::body::CallerBody;
    use crate::clock::SystemClock;
    use crate::telemetry::{Agents, LogLevel, Record, Recorded, RequestLog, Telling};

    /// Takes so many bytes, and nothing more until it is given room.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn give(&self, room: usize) {
            self.0.lock().expect("not poisoned").1 = room;
        }

        fn text(&self) -> String {
            let held = self.0.lock().expect("not poisoned");
            String::from_utf8(held.0.clone()).expect("text")
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut held = self.0.lock().expect("not poisoned");
            let taken = bytes.len().min(held.1);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            held.0.extend_from_slice(&bytes[..taken]);
            held.1 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        disk: Disk,
        sink: Arc<Sink>,
        metrics: Arc<Metrics>,
        room: Option<Arc<Semaphore>>,
        writer: Writer,
    }

    fn scene(room: Option<usize>) -> Scene {
        let room = room.map(|room| Arc::new(Semaphore::new(room)));
        let telling = Telling {
            decision_log: true,
            room: room.clone(),
            ..Telling::NOTHING
        };
        let level = Arc::new(LogLevel::new(RequestLog::Off));
        let sink = Arc::new(Sink::new(Arc::new(telling), Agents::default(), level));
        let metrics = Arc::new(Metrics::new(vec![Arc::clone(&sink)], Agents::default()));
        let disk = Disk::default();
        let settings = LogSettings {
            which: Which::Decisions,
            target: Target::Stream(Box::new(disk.clone())),
            sync: Sync::Never,
            room: room.clone(),
            clock: Arc::new(SystemClock),
            health: Arc::default(),
        };
        let writer = Writer::new(
            settings,
            vec![Arc::clone(&sink)],
            Arc::clone(&metrics),
            Handover::to_thread(Arc::default(), ROOM, 1),
        );
        Scene {
            disk,
            sink,
            metrics,
            room,
            writer,
        }
    }

    impl Scene {
        /// A decision, with the place that it was given.
        async fn decide(&self) {
            let place = self.sink.place().await.expect("a place");
            let client = "192.0.2.1:1".parse().expect("an address");
            let request = Request::new(CallerBody::nothing());
            let mut record = Record::open(SystemClock.now(), &client, &request);
            record.recorded = Some(Arc::new(Recorded {
                fields: Vec::new(),
                claims: Vec::new(),
                policy: String::new(),
                trust: String::new(),
            }));
            self.sink.push(Box::new(record), place);
        }

        fn whole_lines(&self) -> usize {
            let text = self.disk.text();
            let lines = text
                .lines()
                .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
            lines.count()
        }

        fn failed(&self) -> u64 {
            self.metrics
                .failed(Which::Decisions)
                .load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn where_nothing_may_be_lost_lines_wait_for_the_disk_and_requests_for_the_lines() {
        let mut scene = scene(Some(2));
        scene.disk.give(50);
        scene.decide().await;
        scene.decide().await;
        scene.writer.turn();
        let room = scene.room.clone().expect("a room");
        assert_eq!((scene.whole_lines(), room.available_permits()), (0, 0));
        let next = scene.sink.place();
        let mut next = Box::pin(next);
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        scene.disk.give(100_000);
        scene.writer.turn();
        assert_eq!((scene.whole_lines(), scene.failed()), (2, 0));
        assert!(next.await.expect("a place").is_some());
    }

    #[tokio::test]
    async fn where_lines_may_be_lost_they_are_counted_and_the_next_are_whole() {
        let mut scene = scene(None);
        scene.disk.give(50);
        scene.decide().await;
        scene.decide().await;
        scene.writer.turn();
        assert_eq!((scene.whole_lines(), scene.failed()), (0, 2));
        scene.disk.give(100_000);
        scene.decide().await;
        scene.writer.turn();
        assert_eq!((scene.whole_lines(), scene.failed()), (1, 2));
    }
}
