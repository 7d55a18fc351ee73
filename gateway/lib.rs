//! Portcullis: a TLS gateway in front of Azure Functions and Logic Apps. A caller brings an Entra
//! ID token; the backend sees a managed identity. ARCHITECTURE.md tells how the rooms fit together.

pub mod acme;
pub mod admin;
pub mod body;
pub mod canonical;
pub mod certificates;
pub mod cli;
pub mod client_certificate;
pub mod clock;
pub mod credentials;
pub mod demo;
pub mod denial;
pub mod doctor;
pub mod drain;
pub mod entra;
pub mod files;
pub mod fingerprint;
pub mod http1;
pub mod ids;
pub mod limits;
pub mod metric;
pub mod net;
pub mod pipeline;
pub mod policy;
pub mod reload;
pub mod running;
pub mod seal;
pub mod secret;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod token;
pub mod trace;
pub mod trial;
pub mod upgrade;
pub mod upstream;
