//! Listeners, TLS, HTTP/1 and HTTP/2 connections and the limits on them, and their drain. A worker
//! thread per core shares nothing with the others: it has its own runtime, listening socket and pools.

mod accept;
mod certified;
mod connection;
mod frames;
mod hops;
pub mod http1;
mod http2;
mod listener;
mod pace;
mod places;
mod porter;
mod present;
mod proxied;
mod shortage;
mod stall;
mod tls;
mod worker;

pub use certified::Certified;
pub use hops::{Hops, SaidIn};
pub use listener::{Beside, bind, handed_over, share_out, those_for, try_address};
pub use pace::MinRate;
pub use porter::{Answers, Challenge, Given, Porter};
pub use worker::{ListenSettings, Listener, Security, Workers};

/// The most that is read, in bytes, on a connection that was closed on our side: what comes there is answered by a
/// reset, which may overtake what was said last.
const MOST_LINGERED: usize = 1024 * 1024;
