//! What the last change of policies changed: worked out when it is taken, beside the requests, and told in `/policies`.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::answer::timestamp;
use crate::clock::{Clock, SystemClock};
use crate::policy::told::{Said, Sides};
use crate::reload::{Reloads, giving_way};
use crate::snapshot::Snapshot;

/// It is not worked on for longer.
const LONGEST: Duration = Duration::from_secs(10);

/// What is longer is not kept, in bytes of its text.
const MOST_TEXT: usize = 1 << 20;

/// The last change.
#[derive(Default)]
pub(super) struct Changes {
    last: ArcSwapOption<Value>,
}

impl Changes {
    /// The last one, as JSON.
    pub(super) fn last(&self) -> Value {
        let last = self.last.load();
        last.as_ref().map_or(Value::Null, |last| Value::clone(last))
    }

    /// Waits for changes, one after the other, for ever. What came while one was worked on is told as one.
    pub(super) async fn watch(
        self: Arc<Self>,
        mut before: Arc<Snapshot>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        mut reloads: watch::Receiver<Reloads>,
    ) {
        loop {
            let now = snapshot.load_full();
            if now.origin.digest != before.origin.digest {
                let (old, new) = (Arc::clone(&before), Arc::clone(&now));
                let told = giving_way("changes", move || told(&old, &new)).await;
                self.last.store(told.map(Arc::new));
            }
            before = now;
            // The sender ends with the gateway.
            if reloads.changed().await.is_err() {
                return;
            }
        }
    }
}

fn told(old: &Snapshot, new: &Snapshot) -> Value {
    let (exact, changes, text) = match said(old, new) {
        Ok(said) => {
            let text = said.human();
            match text.len() <= MOST_TEXT {
                true => (true, said.changes(), text),
                false => (false, Vec::new(), too_long()),
            }
        }
        Err(why) => (false, Vec::new(), why),
    };
    json!({
        "time": timestamp(new.compiled.unix),
        "from": old.origin.digest,
        "to": new.origin.digest,
        "exact": exact,
        "changes": changes,
        "text": text,
    })
}

fn too_long() -> String {
    "there are more changes than are kept here; `portcullis diff` tells them".to_owned()
}

fn said(old: &Snapshot, new: &Snapshot) -> Result<Said, String> {
    let (Some(before), Some(after)) = (&old.written, &new.written) else {
        return Err("the policies as they were written are not kept".to_owned());
    };
    let sides = Sides {
        old: (&old.rules.policy, before),
        new: (&new.rules.policy, after),
    };
    let begun = SystemClock.instant();
    let goes_on = || SystemClock.instant().saturating_duration_since(begun) < LONGEST;
    let said = Said::of(sides, new.compiled.unix_seconds(), &goes_on);
    said.map_err(|why| why.to_string())
}
