//! Limits that many replicas share, by one Redis.
//!
//! A replica leases units in batches and spends them by itself, so that a request seldom waits. All that is decided
//! between replicas is decided by one script at one time (`ask.lua`), by Redis' own clock.
//!
//! Beside what is leased, the store keeps units back for each replica that uses a meter, half of its part of what is
//! left: its standby. Who is cut off admits those, and its part of what leaks; as they were kept back before, nobody
//! else was granted them, whether the others were cut off as well or not. Who comes back tells what it has admitted
//! before it counts as heard.
//!
//! The store may lose everything. Then an epoch begins: everybody tells what it saw last, and nothing is granted
//! until all have, for a second at most.

mod bucket;
mod common;
mod keeper;
mod link;
mod meter;
mod probe;
mod script;
mod settings;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

pub use bucket::Rate;
pub use meter::{Meter, Taken};
pub use probe::{Fault, Found, Step, probe};
pub use settings::{Authentication, Node, OnStoreFailure, Settings};
pub use store::State;

use crate::clock::{Clock, within};
use crate::net::tls;
use common::Common;
use keeper::Keeper;
use store::Store;

/// How long it may take to give everything back.
const LEAVE: Duration = Duration::from_secs(2);

/// The store of limits that replicas share.
pub struct Shared {
    store: Arc<Store>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    keeper: AbortHandle,
}

impl Shared {
    /// Begins to speak with the store, by a task on the runtime of `handle`. Returns at once, whether it can be
    /// reached or not.
    pub fn start(settings: Settings, clock: Arc<dyn Clock>, handle: &Handle) -> Arc<Self> {
        tls::install_provider();
        let (queue, queued) = mpsc::unbounded_channel();
        let (leave, leaving) = mpsc::channel(1);
        let common = Common::new(clock, settings.timeout, settings.on_failure, queue);
        let store = Store::new(common, settings);
        let keeper = Keeper::new(Arc::clone(&store), queued, leaving);
        Arc::new(Self {
            store,
            leave,
            keeper: handle.spawn(keeper.run()).abort_handle(),
        })
    }

    /// The meter of this name and rate: the same for whoever asks, while it is in use. Another rate, or another
    /// window of a quota, begins another meter.
    pub fn meter(&self, name: &str, rate: Rate) -> Arc<Meter> {
        self.store.meter(name, rate)
    }

    /// How it stands with the store.
    pub fn state(&self) -> State {
        self.store.state()
    }

    /// Gives back what is leased and takes leave of the other replicas. To be called when no more requests come:
    /// what is taken afterwards is taken as if the store were away.
    pub async fn leave(&self) {
        let (leaving, left) = oneshot::channel();
        if self.leave.send(leaving).await.is_ok() {
            // Who cannot leave in time is forgotten in time.
            let _ = within(LEAVE, left).await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
