//! Backends: connection pools, TLS, timeouts, and the one way to send a request there, which asks for
//! the proofs that it was let in ([`Authorized`]), is within its limits and has a credential.
//!
//! [`Authorized`]: crate::policy::Authorized

mod again;
mod backend;
mod body;
mod breaker;
mod care;
mod connect;
mod credential;
mod endpoint;
mod health;
mod http1;
mod metrics;
mod moment;
mod outgoing;
mod pool;
mod reach;
mod sealing;
mod send;
mod standing;
mod target;
mod tunnel;
mod unsealed;
mod window;

pub use backend::{Backend, Backends};
pub use body::{BodyError, ResponseBody};
pub use breaker::BreakerState;
pub use care::{BackendState, EndpointState};
pub use credential::{Presenting, identity, wanted_secret};
pub use endpoint::{EndpointId, Endpoints, Site};
pub use health::ask_whether_well;
pub use metrics::metrics;
pub use outgoing::{Caller, preview};
pub use pool::Pools;
pub use reach::{Place, called};
pub use sealing::{Opened, Sealing};
pub use send::{Proofs, Way, send};
pub use unsealed::Unsealed;
