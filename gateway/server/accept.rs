//! Accepting: who gets a connection, what becomes of the others, and who is still let in at the end.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::connection::{Peer, Shared, introduced, serve_plain, serve_tls};
use super::listener::close_to_newcomers;
use super::places::{Place, Places};
use super::shortage::{Scarce, Shortage};
use super::worker::Security;
use crate::clock::{pause, within};
use crate::net::descriptors;
use crate::telemetry::Closed;

/// How long a worker that drains still takes what the kernel has accepted already.
/// Who has begun to connect needs one round trip to be there.
const LAST_ACCEPTS: Duration = Duration::from_millis(250);

/// How long a worker waits when it cannot accept.
const BREATH: Duration = Duration::from_millis(20);

/// How often a worker looks whether a descriptor has come back.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Callers that are dealt with at once while there are no descriptors.
const AT_ONCE: usize = 64;

/// What the workers share of who may come in.
#[derive(Clone)]
pub(super) struct Gate {
    /// The places for connections.
    pub(super) places: Arc<Places>,
    pub(super) scarce: Arc<Scarce>,
}

/// Where a worker's callers come in.
struct Door {
    shared: Rc<Shared>,
    security: Security,
    gate: Gate,
    listener: TcpListener,
    open: Rc<Open>,
    shortage: Rc<Shortage>,
}

/// Accepts callers and serves them, until the drain has come and nobody is left.
pub(super) async fn accept(
    shared: Rc<Shared>,
    security: Security,
    gate: Gate,
    listener: StdListener,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let door = Door {
        shared: Rc::clone(&shared),
        security,
        gate,
        listener,
        open: Rc::default(),
        shortage: Rc::default(),
    };
    loop {
        tokio::select! {
            accepted = door.listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    door.receive(stream, peer).await;
                }
                Err(error) => door.fails(&error).await,
            },
            () = shared.worker.drain.draining() => break,
        }
    }
    let open = Rc::clone(&door.open);
    // Where others have the socket as well, it goes on without us, and closes to nobody.
    if shared.settings.is_sole {
        close_to_newcomers(&door.listener);
    }
    // What the kernel has accepted for us is ours to answer: closing would reset it.
    let _ = within(LAST_ACCEPTS, door.last()).await;
    drop(door);
    open.none().await;
}

impl Door {
    fn begin(&self, stream: TcpStream, peer: SocketAddr) {
        let Self {
            shared,
            security,
            gate,
            open,
            ..
        } = self;
        let opened = Opened::new(shared, open);
        if !self.is_expected(peer) {
            return opened.refused(Closed::UntrustedHop);
        }
        let place = match gate.places.take(peer.ip()) {
            Ok(place) => place,
            Err(why) => return opened.refused(why),
        };
        // Without it small answers wait for acknowledgements; failing costs only that.
        let _ = stream.set_nodelay(true);
        let (shared, security) = (Rc::clone(shared), security.clone());
        tokio::task::spawn_local(async move {
            let _held: (Opened, Place) = (opened, place);
            let mut stream = stream;
            let peer = match shared.settings.proxy_protocol {
                false => Peer::itself(peer),
                true => match Box::pin(introduced(&shared, &mut stream, peer)).await {
                    Some(caller) => caller,
                    None => return,
                },
            };
            match security {
                Security::Tls(config) => {
                    serve_tls(shared, config.load_full(), stream, peer).await;
                }
                // Boxed, for the room that it takes would be in every connection.
                Security::Platform => Box::pin(serve_plain(shared, stream, peer)).await,
            }
        });
    }

    /// Whether somebody may connect at all. Where nobody but those in front may, they are looked at; what they say of
    /// callers is looked at later.
    fn is_expected(&self, peer: SocketAddr) -> bool {
        let settings = &self.shared.settings;
        let is_behind = matches!(self.security, Security::Platform) || settings.proxy_protocol;
        let hops = settings.hops.as_ref().filter(|_| is_behind);
        hops.is_none_or(|hops| hops.trusts(peer.ip()))
    }

    async fn fails(&self, error: &io::Error) {
        // Somebody left before being let in; the next one is waiting.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        if descriptors::are_out(error) {
            self.relieve().await;
        }
        // Whatever it is, it does not pass by being tried again at once.
        pause(BREATH).await;
    }

    /// Deals with those who wait although there is no descriptor left. The kernel says so even when nobody waits, so
    /// the spare descriptor is given up to look.
    async fn relieve(&self) {
        self.shortage.begins(&self.shared, &self.gate.scarce);
        for _ in 0..AT_ONCE {
            let accept = || self.listener.accept().now_or_never();
            let Some(accepted) = self.gate.scarce.without_spare(accept) else {
                return self.shared.present.make_room();
            };
            let Some(Ok((stream, peer))) = accepted else {
                return;
            };
            self.receive(stream, peer).await;
        }
    }

    /// Lets in who has been accepted. Where that took the last descriptor, it takes the place of connections that
    /// nobody uses; where none of them goes, it is sent away, rather than others left to wait for they know not what.
    async fn receive(&self, stream: TcpStream, peer: SocketAddr) {
        let scarce = &self.gate.scarce;
        if scarce.keep_spare() || self.finds_room().await {
            return self.begin(stream, peer);
        }
        Opened::new(&self.shared, &self.open).refused(Closed::Descriptors);
        drop(stream);
        scarce.keep_spare();
    }

    /// Whether there is a spare descriptor again soon, because connections that nobody uses go.
    async fn finds_room(&self) -> bool {
        self.shortage.begins(&self.shared, &self.gate.scarce);
        if self.shared.present.shed() == 0 {
            return false;
        }
        let room = async {
            while !self.gate.scarce.keep_spare() {
                pause(LOOK_EVERY).await;
            }
        };
        within(BREATH, room).await.is_some()
    }

    /// Takes what has been accepted for us.
    async fn last(&self) {
        while let Ok((stream, peer)) = self.listener.accept().await {
            self.begin(stream, peer);
        }
    }
}

/// Counts the connections of a worker.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    closed: tokio::sync::Notify,
}

impl Open {
    async fn none(&self) {
        while self.count.get() > 0 {
            self.closed.notified().await;
        }
    }
}

/// A connection, from when it is accepted until it has ended.
struct Opened {
    shared: Rc<Shared>,
    open: Rc<Open>,
}

impl Opened {
    fn new(shared: &Rc<Shared>, open: &Rc<Open>) -> Self {
        open.count.set(open.count.get() + 1);
        shared.worker.sink.connections().accepted();
        Self {
            shared: Rc::clone(shared),
            open: Rc::clone(open),
        }
    }

    /// Ends as it came.
    fn refused(self, why: Closed) {
        self.shared.worker.sink.connections().closed(why);
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.shared.worker.sink.connections().ended();
        self.open.count.set(self.open.count.get() - 1);
        self.open.closed.notify_one();
    }
}
