//! Listeners, TLS, HTTP/1 and HTTP/2 connections and the limits on them, and their drain. A worker
//! thread per core shares nothing with the others: it has its own runtime, listening socket and pools.

mod accept;
mod certificates;
mod connection;
mod drain;
mod frames;
pub mod http1;
mod http2;
mod listener;
mod pace;
mod places;
mod present;
mod stall;
mod tls;
mod worker;

pub use certificates::Certificates;
pub use drain::{Drain, Phase};
pub use listener::{Beside, bind, handed_over, share_out};
pub use pace::MinRate;
pub use worker::{ListenSettings, Security, Workers};
