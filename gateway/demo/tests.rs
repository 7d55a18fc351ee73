//! The demo's Azure keeps Azure's rules: its own servers, asked by the gateway's own client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use serde_json::Value;

use super::backend::FUNCTION_KEY;
use super::names::{CONTOSO, FUNCTION_RESOURCE};
use super::world::World;
use crate::clock::{Clock as _, ManualClock, SystemClock};
use crate::net::client::{Bounds, Client};
use crate::net::tls;

mod apps;
mod backends;
mod identities;
mod vaults;

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    max_body: 1024 * 1024,
};

/// A world whose clock stands still, and a client that trusts it.
struct Stage {
    world: World,
    client: Client,
    clock: ManualClock,
}

impl Stage {
    async fn new() -> Self {
        tls::install_provider();
        let clock = ManualClock::at(SystemClock.now());
        let world = World::start(Arc::new(clock.clone())).await;
        let world = world.expect("a world");
        let client = super::client(&world).expect("a client");
        Self {
            world,
            client,
            clock,
        }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Response<Bytes> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::from(body.to_owned()));
        let request = request.expect("a request");
        self.client.send(request, BOUNDS).await.expect("an answer")
    }

    async fn get(&self, url: &str, fields: &[(&str, &str)]) -> Response<Bytes> {
        self.send(Method::GET, url, fields, "").await
    }

    async fn post(&self, url: &str, fields: &[(&str, &str)]) -> Response<Bytes> {
        self.send(Method::POST, url, fields, "{}").await
    }

    /// A managed identity's token, as an `Authorization` field.
    fn bearer(&self, resource: &str) -> String {
        let issued = self.world.identity.issued();
        format!("Bearer {}", issued.issue(resource, super::issued::SYSTEM))
    }
}

fn told(answer: &Response<Bytes>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

fn field<'a>(answer: &'a Response<Bytes>, name: &str) -> &'a str {
    let value = answer.headers().get(name);
    value.map_or("", |value| value.to_str().expect("text"))
}

/// The status and the code of an error, as Logic Apps and Key Vault tell it.
fn verdict(answer: &Response<Bytes>) -> String {
    let body = told(answer);
    let code = body.pointer("/error/code").and_then(Value::as_str);
    let status = answer.status().as_u16();
    code.map_or_else(|| status.to_string(), |code| format!("{status} {code}"))
}

#[tokio::test]
async fn every_kind_of_secret_is_told() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let folder = tempfile::tempdir().expect("a folder");
    let key_file = world.identity.arc_key(folder.path()).expect("a key file");
    let arc_key = std::fs::read_to_string(key_file).expect("a key");
    let managed = world.identity.issued().issue(FUNCTION_RESOURCE, "any");
    let federated = world.entra.federated_token().expect("a token");
    let callers = super::mint::Token::app(
        crate::entra::Version::V2,
        CONTOSO,
        "app",
        "audience",
        world.entra.now(),
    );
    let callers = world.entra.sign(&callers).expect("a token");
    world.vault.set("old", "an old value");
    world.vault.set("old", "a new value");
    world.vault.delete("old");
    world.keyed_function.set_function_key("another-key");
    let trigger = format!(
        "{}{}?{}",
        world.logic_app.url(),
        super::backend::ASYNC_TRIGGER,
        super::backend::async_sas_query()
    );
    let location = stage.post(&trigger, &[]).await;
    let location = field(&location, header::LOCATION.as_str());
    let signature = location.rsplit_once("sig=").expect("a signature").1;
    let secrets = world.secrets();
    for (what, value) in [
        ("a managed identity's token", managed.as_str()),
        ("a service account token", &federated),
        ("a caller's token", &callers),
        ("a key of Arc's agent", &arc_key),
        ("the vault's old value", "an old value"),
        ("the vault's new value", "a new value"),
        ("the first function key", FUNCTION_KEY),
        ("the second function key", "another-key"),
        ("the system key", super::backend::SYSTEM_KEY),
        ("the master key", super::backend::MASTER_KEY),
        ("a trigger's signature", super::backend::SAS_SIGNATURE),
        ("a run's signature", signature),
        ("the client secret", super::world::CLIENT_SECRET),
        ("IDENTITY_HEADER", super::identity::IDENTITY_HEADER),
    ] {
        let known = secrets.iter().any(|(_, secret)| secret == value);
        assert!(known, "{what}");
    }
    assert!(secrets.iter().all(|(_, value)| !value.is_empty()));
}
