//! The task that speaks with the store for all meters of a replica: it connects, tells what was admitted meanwhile,
//! asks for what is wanted, many meters at once, and gives signs of life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Pipeline, Value};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;

use super::link::{Answered, Link, LinkError};
use super::meter::{Again, Meter};
use super::script::{Answer, Ask, By, Heard, Memory, Scripts, Sign};
use super::settings::SignIn;
use super::store::Store;
use crate::clock::{Now, pause};
use crate::ids::{jitter, random_u128};

/// Between two signs of life. Others are asked by theirs to let go of what they keep back.
const BEAT: Duration = Duration::from_millis(50);
/// Between two attempts to connect, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// So many meters are asked for at once.
const AT_ONCE: usize = 128;
/// So often it is told what was admitted meanwhile, before a replica counts as heard.
const REPORTS: usize = 3;
/// A part of the meters is tidied each time that this many beats have passed.
const TIDY: u64 = 10;

pub(super) struct Keeper {
    store: Arc<Store>,
    queue: UnboundedReceiver<Arc<Meter>>,
    leaving: mpsc::Receiver<oneshot::Sender<()>>,
    scripts: Scripts,
    id: String,
    /// The epoch that it knows, and who belongs to the group in it.
    epoch: String,
    others: Vec<String>,
    /// Asked for, and not answered yet. Some of them may be in no map any more.
    unanswered: Vec<Arc<Meter>>,
    signed: Option<SignIn>,
    beats: u64,
}

/// Why a session is over before the replica leaves.
enum End {
    /// It has to join anew: another epoch has begun.
    Stale,
    Failed(LinkError),
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Failed(error)
    }
}

/// What to call for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beat {
    Yes,
    No,
}

impl Keeper {
    pub(super) fn new(
        store: Arc<Store>,
        queue: UnboundedReceiver<Arc<Meter>>,
        leaving: mpsc::Receiver<oneshot::Sender<()>>,
    ) -> Self {
        let scripts = Scripts::new(&store.settings.prefix);
        Self {
            store,
            queue,
            leaving,
            scripts,
            id: format!("{:032x}", random_u128()),
            epoch: String::new(),
            others: Vec::new(),
            unanswered: Vec::new(),
            signed: None,
            beats: 0,
        }
    }

    /// Goes on until the replica leaves.
    pub(super) async fn run(mut self) {
        let mut retry = RETRY.0;
        loop {
            let heard = self.store.common.contact();
            let ended = self.session().await;
            // Who joins and is not heard afterwards tries later and later, too: a store that is full lets all join.
            let is_stale = matches!(ended, Err(End::Stale));
            let got_through = is_stale || self.store.common.contact() != heard;
            match ended {
                Ok(()) => return,
                Err(End::Stale) => {}
                Err(End::Failed(why)) => self.store.failed(&why),
            }
            retry = if got_through {
                RETRY.0
            } else {
                (retry * 2).min(RETRY.1)
            };
            tokio::select! {
                left = self.leaving.recv() => return drop(left),
                () = pause(retry.mul_f64(0.5 + jitter() / 2.0)) => {}
            }
        }
    }

    /// Ends well when the replica has left.
    async fn session(&mut self) -> Result<(), End> {
        self.signed = self.store.settings.sign_in()?;
        let mut link = Link::open(&self.store.settings, self.signed.as_ref()).await?;
        self.join(&mut link).await?;
        self.report(&mut link).await?;
        self.serve(&mut link).await
    }

    fn now(&self) -> Now {
        self.store.common.clock.now()
    }

    /// Learns the epoch, or begins one. From here on it is a member, though not one that is heard.
    async fn join(&mut self, link: &mut Link) -> Result<(), End> {
        let fresh = format!("{:032x}", random_u128());
        let values = self.send(link, |keeper, by, commands| {
            commands.add_command(keeper.scripts.beat(
                by,
                &keeper.id,
                Sign::Join,
                &keeper.epoch,
                &fresh,
                &keeper.others,
            ));
        });
        let joined = values.await?.pop().transpose().map_err(LinkError::from)?;
        let Some(Heard::Joined(epoch)) = joined.as_ref().and_then(Heard::read) else {
            return Err(LinkError::Unreadable.into());
        };
        self.store.common.joined(epoch != self.epoch);
        self.epoch = epoch;
        Ok(())
    }

    /// Tells what was admitted and what is remembered, and only then gives a sign of life.
    async fn report(&mut self, link: &mut Link) -> Result<(), End> {
        // What is admitted while this is told is told once more, though not for ever.
        for _ in 0..REPORTS {
            let owing = self.owing();
            if owing.is_empty() {
                break;
            }
            self.ask_about(link, owing).await?;
        }
        self.exchange(link, Vec::new(), Beat::Yes).await
    }

    fn owing(&mut self) -> Vec<Arc<Meter>> {
        let now = self.now();
        let mut owing = std::mem::take(&mut self.unanswered);
        self.store.meters.each(|meter| {
            if meter.owes_report(now.instant) {
                owing.push(Arc::clone(meter));
            }
        });
        owing.sort_by_key(Arc::as_ptr);
        owing.dedup_by_key(|meter| Arc::as_ptr(meter));
        owing
    }

    async fn ask_about(&mut self, link: &mut Link, mut meters: Vec<Arc<Meter>>) -> Result<(), End> {
        while !meters.is_empty() {
            let rest = meters.split_off(meters.len().min(AT_ONCE));
            if let Err(end) = self.exchange(link, meters, Beat::No).await {
                self.unanswered.extend(rest);
                return Err(end);
            }
            meters = rest;
        }
        Ok(())
    }

    async fn serve(&mut self, link: &mut Link) -> Result<(), End> {
        let mut tick = Box::pin(pause(BEAT));
        loop {
            let mut meters = Vec::new();
            let beat = tokio::select! {
                biased;
                left = self.leaving.recv() => {
                    // What fails here is over in time.
                    let _ = self.leave(link).await;
                    drop(left);
                    return Ok(());
                }
                () = &mut tick => Beat::Yes,
                meter = self.queue.recv() => {
                    meters.extend(meter);
                    Beat::No
                }
            };
            while meters.len() < AT_ONCE {
                let Ok(meter) = self.queue.try_recv() else {
                    break;
                };
                meters.push(meter);
            }
            if beat == Beat::Yes {
                tick = Box::pin(pause(BEAT));
                self.sign_in_anew(link).await?;
                self.tidy();
            }
            self.exchange(link, meters, beat).await?;
        }
    }

    /// Asks for meters, and gives a sign of life beside.
    async fn exchange(
        &mut self,
        link: &mut Link,
        meters: Vec<Arc<Meter>>,
        beat: Beat,
    ) -> Result<(), End> {
        let asked = self.now();
        self.unanswered = meters;
        let asks: Vec<(Ask, Memory)> = self
            .unanswered
            .iter()
            .map(|meter| meter.compose(&asked))
            .collect();
        let values = self.send(link, |keeper, by, commands| {
            for (meter, (ask, memory)) in keeper.unanswered.iter().zip(&asks) {
                let who = (keeper.id.as_str(), keeper.epoch.as_str());
                let what = (meter.place(), meter.rate());
                commands.add_command(keeper.scripts.ask(by, who, what, ask, *memory));
            }
            if beat == Beat::Yes {
                let (id, epoch) = (&keeper.id, &keeper.epoch);
                commands.add_command(keeper.scripts.beat(by, id, Sign::Beat, epoch, "", &[]));
            }
        });
        let mut values = values.await?;
        let heard = match beat {
            Beat::Yes => values.pop().transpose().map_err(LinkError::from)?,
            Beat::No => None,
        };
        self.take_in(&values, asked.instant)?;
        heard.map_or(Ok(()), |heard| self.heard(&heard, asked.instant))
    }

    /// Sends commands by the scripts' hashes, and by their texts where the server does not know them. A question
    /// that is sent twice counts once.
    async fn send(
        &self,
        link: &mut Link,
        fill: impl Fn(&Self, By, &mut Pipeline),
    ) -> Result<Vec<Answered>, LinkError> {
        let limit = self
            .store
            .settings
            .timeout
            .saturating_mul(3)
            .max(Duration::from_millis(300));
        let mut last = LinkError::Unreadable;
        for by in [By::Hash, By::Text] {
            let mut commands = Pipeline::new();
            fill(self, by, &mut commands);
            match link.send(&commands, limit).await {
                Err(error) if error.is_unknown_script() => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    fn take_in(&mut self, values: &[Answered], asked: Instant) -> Result<(), End> {
        let now = self.now();
        let mut stale = Vec::new();
        for (meter, value) in std::mem::take(&mut self.unanswered).into_iter().zip(values) {
            let value = match value {
                Ok(value) => value,
                // The others go on as they are.
                Err(why) => {
                    self.store.strayed(&meter, why, &now);
                    continue;
                }
            };
            match Answer::read(value) {
                Some(Answer::Told(told)) => {
                    let again = meter.answered(&told, asked, &now);
                    self.again(meter, again);
                }
                Some(Answer::Stale) => stale.push(meter),
                None => return Err(LinkError::Unreadable.into()),
            }
        }
        self.unanswered = stale;
        match self.unanswered.is_empty() {
            true => Ok(()),
            false => Err(End::Stale),
        }
    }

    fn again(&self, meter: Arc<Meter>, again: Again) {
        let queue = self.store.common.queue.clone();
        match again {
            Again::Never => {}
            // The queue's other end is here.
            Again::AtOnce => drop(queue.send(meter)),
            Again::In(time) => drop(tokio::spawn(async move {
                pause(time).await;
                let _ = queue.send(meter);
            })),
        }
    }

    fn heard(&mut self, value: &Value, sent: Instant) -> Result<(), End> {
        match Heard::read(value) {
            Some(Heard::Beat { away, ids, recalls }) => {
                self.store.reached(sent, ids.len() as u64, away);
                self.others = ids;
                for (place, rest) in recalls {
                    self.recall(&place, rest);
                }
                Ok(())
            }
            Some(Heard::Stale) => Err(End::Stale),
            Some(Heard::Joined(_)) | None => Err(LinkError::Unreadable.into()),
        }
    }

    fn recall(&self, place: &str, rest: f64) {
        let meter = self.store.meters.find(Meter::name_of(place));
        if let Some(meter) = meter.filter(|meter| meter.place() == place) {
            meter.recall(rest);
        }
    }

    async fn sign_in_anew(&mut self, link: &mut Link) -> Result<(), End> {
        // Without a token for now, the connection goes on with the one that it has.
        let Ok(Some(sign_in)) = self.store.settings.sign_in() else {
            return Ok(());
        };
        if self.signed.as_ref() != Some(&sign_in) {
            link.sign_in(&sign_in, self.store.settings.timeout.saturating_mul(3))
                .await?;
            self.signed = Some(sign_in);
        }
        Ok(())
    }

    fn tidy(&mut self) {
        self.beats += 1;
        if self.beats.is_multiple_of(TIDY) {
            self.store.meters.tidy(self.beats / TIDY, &self.now());
        }
    }

    /// Gives everything back, and takes leave.
    async fn leave(&mut self, link: &mut Link) -> Result<(), End> {
        let mut holding = Vec::new();
        self.store.meters.each(|meter| {
            if meter.part() {
                holding.push(Arc::clone(meter));
            }
        });
        self.ask_about(link, holding).await?;
        self.send(link, |keeper, by, commands| {
            let (id, epoch) = (&keeper.id, &keeper.epoch);
            commands.add_command(keeper.scripts.beat(by, id, Sign::Leave, epoch, "", &[]));
        })
        .await?;
        Ok(())
    }
}
