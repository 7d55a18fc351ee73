//! The configuration and policy that the demo writes: what a real deployment would copy, with real
//! addresses in place of loopback ones.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::ca::Ca;

/// Where everything of the demo listens.
pub(super) struct Addresses {
    /// The gateway; port 0 for any.
    pub(super) gateway: SocketAddr,
    /// Its admin address; port 0 for any.
    pub(super) admin: SocketAddr,
    /// The authority's base URL.
    pub(super) authority: String,
    /// The Logic App's URL, without its SAS parameters.
    pub(super) logic_app: String,
    /// The URL of the workflow that goes on after its answer.
    pub(super) approvals: String,
    /// The Function's base URL.
    pub(super) function: String,
    /// The base URL of the Function that is called with a key.
    pub(super) keyed_function: String,
    /// That key's identifier in Key Vault.
    pub(super) key: String,
}

/// Tenants and apps by their names in the policy.
pub mod names {
    /// The tenant that is let in.
    pub const CONTOSO: &str = "11111111-1111-1111-1111-111111111111";
    /// A tenant that the policy names, but lets in nowhere else than `GET /guests`.
    pub const FABRIKAM: &str = "22222222-2222-2222-2222-222222222222";
    /// A tenant that nobody names.
    pub const STRANGERS: &str = "33333333-3333-3333-3333-333333333333";
    /// The app that may invite.
    pub const MARKETING_PORTAL: &str = "aaaaaaaa-0000-0000-0000-000000000001";
    /// An app that may only read.
    pub const NIGHTLY_BATCH: &str = "aaaaaaaa-0000-0000-0000-000000000002";
    /// Whom tokens are meant for.
    pub const AUDIENCE: &str = "api://contoso-gateway";
    /// What the Logic App's credential is for.
    pub const LOGIC_APP_RESOURCE: &str = "https://management.azure.com/";
    /// What the Function's credential is for.
    pub const FUNCTION_RESOURCE: &str = "api://contoso-guests";
}

/// Writes certificates, gateway.yaml and the policy into a folder; returns the path of gateway.yaml.
///
/// # Errors
/// When the folder cannot be written.
pub(super) fn write(folder: &Path, ca: &Ca, addresses: &Addresses) -> io::Result<PathBuf> {
    let certs = folder.join("certs");
    let policies = folder.join("policies");
    fs::create_dir_all(&certs)?;
    fs::create_dir_all(&policies)?;
    let certificate = ca.certificate(&["localhost", "127.0.0.1"])?;
    fs::write(certs.join("ca.crt"), ca.pem())?;
    fs::write(certs.join("gateway.crt"), certificate.cert_pem)?;
    fs::write(certs.join("gateway.key"), certificate.key_pem)?;
    let config = folder.join("gateway.yaml");
    fs::write(&config, gateway_yaml(addresses))?;
    fs::write(policies.join("contoso.yaml"), policy_yaml(addresses))?;
    Ok(config)
}

fn gateway_yaml(addresses: &Addresses) -> String {
    let Addresses {
        gateway,
        admin,
        authority,
        ..
    } = addresses;
    format!(
        "\
# The platform team's file.
listen:
  address: {gateway}
  tls:
    certificates: [{{ cert: certs/gateway.crt, key: certs/gateway.key }}]
admin: {{ address: {admin} }}
policies: ./policies
entra:
  authority: {authority}      # https://login.microsoftonline.com in earnest
  ca: certs/ca.crt            # leave out in earnest: the platform's roots are right
keyVault: {{ ca: certs/ca.crt }}    # read with the system-assigned identity, if nothing else is said
telemetry: {{ requestLog: human }}
drain: {{ delay: 0s, timeout: 5s }}
"
    )
}

fn policy_yaml(addresses: &Addresses) -> String {
    let Addresses {
        logic_app,
        approvals,
        function,
        keyed_function,
        key,
        ..
    } = addresses;
    let names = (
        names::CONTOSO,
        names::FABRIKAM,
        names::MARKETING_PORTAL,
        names::NIGHTLY_BATCH,
    );
    let (contoso, fabrikam, portal, batch) = names;
    format!(
        "\
# The security team's file.
tenants:
  contoso: {contoso}
  fabrikam: {fabrikam}
apps:
  marketing-portal: {portal}
  nightly-batch: {batch}
audiences: [{audience}]
backends:
  invite-flow:
    logicApp: {logic_app}
    credential: {{ managedIdentity: {{ resource: {logic_app_resource} }} }}
    ca: ../certs/ca.crt
  approval-flow:
    logicApp: {approvals}
    credential: {{ managedIdentity: {{ resource: {logic_app_resource} }} }}
    ca: ../certs/ca.crt
  partner-api:
    function: {keyed_function}
    credential: {{ functionKey: {{ keyVault: {key} }} }}
    ca: ../certs/ca.crt
  guest-api:
    function: {function}
    credential: {{ managedIdentity: {{ resource: {function_resource} }} }}
    ca: ../certs/ca.crt
routes:
  invite-guest:
    match: {{ methods: [POST], path: /invitations }}
    backend: invite-flow
    allow:
      - tenants: [contoso]
        apps: [marketing-portal]
        roles: [Guests.Invite]
    rateLimit: {{ requests: 600, per: 1m, burst: 100, by: [tenant, app] }}
  approve-guest:
    match: {{ methods: [POST], path: /approvals }}
    backend: approval-flow
    allow:
      - {{ tenants: [contoso], apps: [marketing-portal], roles: [Guests.Invite] }}
  read-partners:
    match: {{ methods: [GET], path: \"/partners/{{id}}\" }}
    backend: partner-api
    rewrite: /api/partners/{{id}}
    allow:
      - {{ tenants: [contoso], apps: [marketing-portal] }}
  read-guests:
    match: {{ methods: [GET], path: \"/guests/{{*rest}}\" }}
    backend: guest-api
    rewrite: /api/guests/{{rest}}
    allow:
      - {{ tenants: [contoso], scopes: [Guests.Read] }}
      - {{ tenants: [contoso], apps: [nightly-batch], roles: [Guests.Read.All] }}
      - {{ tenants: [fabrikam], apps: [nightly-batch], roles: [Guests.Read.All] }}
  guest-report:
    match: {{ methods: [GET], path: /reports/guests }}
    backend: guest-api
    rewrite: /api/reports/guests
    allow:
      - {{ tenants: [contoso], apps: [nightly-batch] }}
    rateLimit: {{ requests: 60, per: 1m, burst: 2, by: [tenant, app] }}
",
        audience = names::AUDIENCE,
        logic_app_resource = names::LOGIC_APP_RESOURCE,
        function_resource = names::FUNCTION_RESOURCE,
    )
}
