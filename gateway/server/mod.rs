//! Listeners and connections.

pub mod wire;
