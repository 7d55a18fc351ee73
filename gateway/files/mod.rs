//! The documents as people write them: YAML becomes typed values, each with its place, and every
//! fault is told in one go, with file, line, column and what to do. What the values mean together
//! (a name that nothing bears, routes that clash) is for the rooms that compile them.

mod acme;
mod admin;
mod backend;
mod bounded;
mod certificate;
mod comments;
mod credential;
mod decode;
mod diagnostics;
mod entra;
mod format;
mod gateway;
#[cfg(test)]
mod known;
mod limit;
mod listen;
mod load;
mod look;
mod masks;
mod nearest;
mod node;
mod policy;
mod render;
mod resilience;
mod route;
mod rule;
mod sarif;
mod schema;
mod secret;
mod source;
mod store;
mod syntax;
mod telemetry;
mod test_document;
mod tree;
mod values;

pub use acme::{Acme, AcmeChallenge, AcmeExternalAccount};
pub use admin::{Admin, AdminTls, HOW_TO_PROTECT};
pub use backend::{Backend, BackendKind, Protocol, RouteTimeouts, Timeouts};
pub use bounded::{read_at_most, read_ca, read_whole};
pub use certificate::CertificateSource;
pub use credential::{AppIdentity, Credential, Holder, Identity, Proof, WorkloadIdentity};
pub use diagnostics::{Diagnostic, Diagnostics, Label, Severity};
pub use entra::{Algorithm, Entra, TokenVersions};
pub use format::format;
pub use gateway::{Drain, GatewayDocument, KeyVault, Seal, State};
pub use limit::{
    Adaptive, AddressLimit, Amount, Concurrency, Cost, Counted, GatewayLimits, LimitFields,
    LimitKey, MOST_LIMITS, Quota, RateLimit, Window,
};
pub use listen::{
    CertificateHeader, ClientCertificates, ClientMode, ForwardedHeader, Listen, ListenTls,
    PlainHttp, Speaks, TlsPolicy, TrustedHops,
};
pub use load::{
    is_policy_file, load_gateway, load_policies, load_tests, parse_gateway, parse_policies,
    parse_tests, test_files,
};
pub use look::{holds_a_credential, is_secretive, without_tokens};
pub use nearest::nearest;
pub use policy::{Defaults, Faulty, Named, PolicyDocument, PolicyFile, hexadecimal};
pub use resilience::{Breaker, Ejection, Health, Retry, RetryOn};
pub use route::{ClaimHeader, Route, RouteMatch, SasMode};
pub use rule::{Mode, Network, Rule, Wanted, point_in_time};
pub use schema::{SchemaOf, schema};
pub use secret::{SecretSource, VaultSecret};
pub use source::{Position, Source, Span, Spanned};
pub use store::{LimitStore, OnStoreFailure, Redis, RedisNode, RedisSignIn};
pub use telemetry::{
    AzureMonitor, DecisionLog, LogForm, LogTarget, Otlp, OtlpProtocol, RequestLog, SentDecisions,
    Signal, Telemetry, TraceParent, Traces,
};
pub use test_document::{
    Expectation, ExpectedBackend, TestCase, TestDocument, TestRequest, TestToken,
};
pub use tree::masked;

#[cfg(test)]
mod tests;
