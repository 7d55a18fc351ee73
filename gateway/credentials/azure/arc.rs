//! Azure Arc's identity endpoint, which the crate's released version does not speak with. Whoever can
//! read a file that only privileged users may read is let in: the endpoint names the file, and wants its
//! content back.
//! <https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication>

use std::path::{Path, PathBuf};
use std::sync::Arc as Shared;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::Value;

use super::super::source::{FetchFailure, Fetched};
use super::super::wanted::WantedToken;
use super::answer;
use super::door::{BOUNDS, Door, refusal};
use crate::files;
use crate::secret::Secret;

/// The folder of the agent's key files. A file elsewhere is not read: whoever could answer in the
/// endpoint's place would have the gateway send it any file that it likes.
const TOKENS: &str = "/var/opt/azcmagent/tokens";
/// The largest key file, in bytes.
const LARGEST: usize = 4096;
const API_VERSION: &str = "2020-06-01";

/// The agent's token endpoint.
pub(super) struct Arc {
    door: Shared<Door>,
    endpoint: String,
    tokens: PathBuf,
}

impl Arc {
    pub(super) fn new(door: &Shared<Door>, endpoint: &str) -> Self {
        Self {
            door: Shared::clone(door),
            endpoint: endpoint.to_owned(),
            tokens: PathBuf::from(TOKENS),
        }
    }

    /// A token of the system-assigned identity.
    pub(super) async fn token(&self, wanted: &WantedToken) -> Result<Fetched, FetchFailure> {
        let challenge = self.ask(&wanted.resource, None).await?;
        let key = self.key(&challenge)?;
        let answer = self.ask(&wanted.resource, Some(key)).await?;
        if !answer.status().is_success() {
            return Err(FetchFailure::Refused(refusal(&answer)));
        }
        let now = self.door.clock.now().unix;
        let read = answer::of_identity_endpoint(answer.body(), now);
        let (body, lifetime) = read.ok_or(FetchFailure::Unreadable)?;
        let body: Value = serde_json::from_slice(&body).map_err(|_| FetchFailure::Unreadable)?;
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let expires = text("expires_on").and_then(|text| text.parse().ok());
        let token = text("access_token").ok_or(FetchFailure::Unreadable)?;
        Ok(Fetched {
            secret: Secret::new(token.to_owned()),
            expires: Some(Duration::from_secs(
                expires.ok_or(FetchFailure::Unreadable)?,
            )),
            refresh_in: lifetime.refresh_in,
        })
    }

    async fn ask(
        &self,
        resource: &str,
        key: Option<HeaderValue>,
    ) -> Result<Response<Bytes>, FetchFailure> {
        let mut url = azure_core::http::Url::parse(&self.endpoint)
            .map_err(|_| FetchFailure::Unsupported("IDENTITY_ENDPOINT is no URL".to_owned()))?;
        url.query_pairs_mut()
            .append_pair("api-version", API_VERSION)
            .append_pair("resource", resource);
        let mut request = Request::get(url.as_str()).header("metadata", "true");
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, key);
        }
        let request = request
            .body(Bytes::new())
            .map_err(|_| FetchFailure::Unreadable)?;
        let answer = self.door.client.send(request, BOUNDS).await;
        answer.map_err(FetchFailure::Unreachable)
    }

    /// What the challenge asks for, as `Authorization` carries it.
    fn key(&self, challenge: &Response<Bytes>) -> Result<HeaderValue, FetchFailure> {
        if challenge.status() != StatusCode::UNAUTHORIZED {
            return Err(FetchFailure::Refused(refusal(challenge)));
        }
        let field = challenge.headers().get(WWW_AUTHENTICATE);
        let named = field.and_then(|field| {
            let file = field.to_str().ok()?.strip_prefix("Basic realm=")?;
            Some(PathBuf::from(file.trim_matches('"')))
        });
        let named = named.ok_or(FetchFailure::Unreadable)?;
        let key = key_file(&named, &self.tokens)?;
        let mut key = HeaderValue::try_from(format!("Basic {}", key.expose()))
            .map_err(|_| FetchFailure::Unreadable)?;
        key.set_sensitive(true);
        Ok(key)
    }
}

/// The content of a key file, if it is one of the agent's.
fn key_file(named: &Path, tokens: &Path) -> Result<Secret<String>, FetchFailure> {
    let is_the_agents = named.parent() == Some(tokens)
        && named
            .extension()
            .is_some_and(|extension| extension == "key");
    let meta = std::fs::symlink_metadata(named).ok();
    let is_small_file = meta.is_some_and(|meta| meta.is_file() && meta.len() <= LARGEST as u64);
    if !is_the_agents || !is_small_file {
        return Err(FetchFailure::Needs(
            "Azure Arc names a key file that is not one of its agent's, or that cannot be seen; the gateway has to run in the group `himds`".to_owned(),
        ));
    }
    let bytes = files::read_at_most(named, LARGEST).map_err(|_| {
        FetchFailure::Needs(
            "Azure Arc's key file cannot be read; the gateway has to run in the group `himds`"
                .to_owned(),
        )
    })?;
    // Text as it stands; what is none could only be meant in base64.
    let text = String::from_utf8(bytes).unwrap_or_else(|binary| STANDARD.encode(binary.as_bytes()));
    Ok(Secret::new(text.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::super::wanted::Identity;
    use super::super::door::Kind;
    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::demo::identity::IdentityEndpoint;
    use crate::net::address::SystemResolver;
    use crate::net::client::Client;
    use crate::net::tls::{Roots, client_config};

    /// The agent of the demo, whose key files lie in this folder.
    async fn agent(tokens: &Path) -> (IdentityEndpoint, Arc) {
        let endpoint = IdentityEndpoint::start(Shared::new(SystemClock)).await;
        let endpoint = endpoint.expect("an endpoint");
        let made = rcgen::generate_simple_self_signed(["unused.test".to_owned()]).expect("made");
        let roots = Roots::Pem(made.cert.pem().into_bytes());
        let tls = client_config(&roots, &[]).expect("settings");
        let door = Shared::new(Door {
            kind: Kind::Metadata,
            client: Client::new(&tls, Shared::new(SystemResolver)),
            imds: None,
            clock: Shared::new(SystemClock),
        });
        let arc = Arc {
            door,
            endpoint: endpoint.arc_endpoint(),
            tokens: tokens.to_owned(),
        };
        (endpoint, arc)
    }

    fn wanted() -> WantedToken {
        WantedToken {
            resource: "https://management.azure.com/".to_owned(),
            identity: Identity::System,
        }
    }

    #[tokio::test]
    async fn whoever_can_read_the_agents_key_file_gets_a_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let (endpoint, arc) = agent(folder.path()).await;
        endpoint.arc_key(folder.path()).expect("a key file");
        let fetched = arc.token(&wanted()).await.expect("a token");
        let resource = endpoint.issued().resource(fetched.secret.expose());
        assert_eq!(resource.as_deref(), Some("https://management.azure.com/"));
        assert!(fetched.expires.expect("an end") > SystemClock.now().unix);
    }

    #[tokio::test]
    async fn no_file_elsewhere_is_sent_to_whoever_poses_as_the_agent() {
        let (folder, elsewhere) = (tempfile::tempdir(), tempfile::tempdir());
        let (folder, elsewhere) = (folder.expect("a folder"), elsewhere.expect("a folder"));
        let (endpoint, arc) = agent(folder.path()).await;
        endpoint.arc_key(elsewhere.path()).expect("a key file");
        let failure = arc.token(&wanted()).await.expect_err("refused");
        assert!(matches!(failure, FetchFailure::Needs(_)), "{failure:?}");
        assert!(endpoint.asked().borrow().is_empty(), "nothing was shown");
    }

    #[test]
    fn only_a_key_file_of_the_agents_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = folder.path();
        let write = |name: &str, length: usize| {
            let path = tokens.join(name);
            std::fs::write(&path, "k".repeat(length)).expect("written");
            path
        };
        let good = write("a.key", 4096);
        assert!(key_file(&good, tokens).is_ok());
        std::os::unix::fs::symlink("/etc/hostname", tokens.join("link.key")).expect("linked");
        for named in [
            write("b.txt", 8),
            write("large.key", 4097),
            tokens.join("missing.key"),
            tokens.join("link.key"),
            tokens.join("../etc/a.key"),
            PathBuf::from("/etc/hostname"),
            PathBuf::from("a.key"),
        ] {
            assert!(key_file(&named, tokens).is_err(), "{}", named.display());
        }
        assert!(key_file(&good, Path::new("/elsewhere")).is_err());
    }
}
