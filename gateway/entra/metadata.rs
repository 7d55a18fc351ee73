//! The OpenID Connect metadata document, of which two members count: `issuer` and `jwks_uri`. They
//! are taken as the document names them and never composed.

use http::Uri;
use serde_json::Value;

use super::template::IssuerTemplate;
use crate::ids::TenantId;

/// What metadata says of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    /// The `iss` of the tenant's tokens.
    pub(super) issuer: String,
    /// Where its keys are.
    pub(super) keys: Uri,
}

impl Metadata {
    /// Reads the document of `tenant`. An issuer of another tenant is an error: it would let that
    /// tenant's tokens pass as this one's.
    pub(super) fn parse(document: &[u8], tenant: TenantId) -> Result<Self, String> {
        let document: Value =
            serde_json::from_slice(document).map_err(|_| "metadata is not JSON".to_owned())?;
        let text = |name: &str| document.get(name).and_then(Value::as_str);
        let issuer = text("issuer").ok_or("metadata names no issuer")?;
        let issuer = IssuerTemplate::parse(issuer).of(tenant);
        if tenant_segment(&issuer) != Some(tenant.to_string().as_str()) {
            return Err("metadata names the issuer of another tenant".to_owned());
        }
        let keys = text("jwks_uri").ok_or("metadata names no jwks_uri")?;
        let keys = keys
            .parse()
            .map_err(|_| "metadata's jwks_uri is not a URL".to_owned())?;
        Ok(Self { issuer, keys })
    }
}

/// The first segment of the issuer's path: `https://host/{tid}/…`.
fn tenant_segment(issuer: &str) -> Option<&str> {
    issuer.strip_prefix("https://")?.split('/').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-1111-1111-1111-111111111111";

    #[test]
    fn an_issuer_must_be_the_tenants_own() {
        for (name, issuer, accepted) in [
            ("v1", format!("https://sts.windows.net/{TENANT}/"), true),
            (
                "v2",
                format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
                true,
            ),
            (
                "a template",
                "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(),
                true,
            ),
            (
                "another tenant",
                "https://sts.windows.net/22222222-2222-2222-2222-222222222222/".to_owned(),
                false,
            ),
            (
                "the tenant further on",
                format!("https://evil.example/x/{TENANT}/"),
                false,
            ),
            (
                "plain http",
                format!("http://sts.windows.net/{TENANT}/"),
                false,
            ),
        ] {
            let document =
                serde_json::json!({ "issuer": issuer, "jwks_uri": "https://localhost/keys" });
            let tenant = TENANT.parse().expect("a GUID");
            let read = Metadata::parse(document.to_string().as_bytes(), tenant);
            assert_eq!(read.is_ok(), accepted, "{name}: {read:?}");
        }
    }
}
