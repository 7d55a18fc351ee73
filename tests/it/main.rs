//! Every test that goes through the real listener or the real command, in one binary.
#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails says where"
)]

mod acme;
mod admin;
mod azure;
mod canonical;
mod certificates;
mod client_certificates;
mod clients;
mod commands;
mod credentials;
mod doctor;
mod documents;
mod edge;
mod faults;
mod forwarding;
mod hops;
mod keys;
mod layers;
mod limits;
mod listeners;
mod log;
mod policy;
mod questions;
mod reload;
mod replay;
mod resilience;
mod rules;
mod schema;
mod sealed;
mod secrets;
mod server;
mod shared;
mod stalls;
mod support;
mod telemetry;
mod tokens;
mod upgrades;
