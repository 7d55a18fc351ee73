//! What every outgoing connection needs: names and addresses, TLS settings, and the small bounded
//! HTTP client of the control plane.

pub mod address;
pub mod channel;
pub mod client;
pub mod descriptors;
pub mod dns;
pub mod tls;
