//! Limits: how often a caller may call. One rate limit a route, by any combination of tenant, app,
//! principal and client address. The store is this process's memory; several replicas limit each by
//! itself.

mod clock;
mod rate;

pub use rate::{LimitStore, Limits, Slot};
