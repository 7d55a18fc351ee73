//! What is alike in the demo's backends: each writes down what it saw, and answers as its model in
//! Azure does.

use std::io;
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, Method, header};
use tokio::sync::watch;

use super::ca::Ca;
pub use super::function::{FUNCTION_KEY, Function, MASTER_KEY, SYSTEM_KEY};
use super::issued::Issued;
pub use super::logic_app::{
    ASYNC_SAS_SIGNATURE, ASYNC_TRIGGER, LogicApp, SAS_SIGNATURE, TRIGGER, async_sas_query,
    sas_query,
};
use super::serve::{Answer, Served, Whole, parameters, serve};

/// What a backend saw of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query, as they came.
    pub target: String,
    /// Every header field.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    fn of(request: &Whole) -> Self {
        Self {
            method: request.method().clone(),
            target: request
                .uri()
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers: request.headers().clone(),
            body: request.body().to_vec(),
        }
    }

    /// The bearer token, if one came.
    pub fn bearer(&self) -> Option<&str> {
        self.headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")
    }

    /// The first field of a name, as text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The path as it came.
    pub(super) fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The parameters of the query, decoded.
    pub(super) fn query(&self) -> Vec<(String, String)> {
        parameters(self.target.split_once('?').map_or("", |(_, query)| query))
    }
}

/// How one kind of backend answers.
pub trait Model: Send + Sync + 'static {
    /// The answer to a request; `base` is the backend's own base URL.
    fn answer(&self, base: &str, seen: &Seen) -> Answer;
}

/// A backend that runs as long as this is held.
pub struct Backend<M = Function> {
    served: Served,
    seen: watch::Sender<Vec<Seen>>,
    pub(super) model: Arc<M>,
}

impl Backend<Function> {
    /// A Function that is called with a managed identity's token, on https.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn function(ca: &Ca, issued: Issued) -> io::Result<Self> {
        Self::start(ca, Function::of_tokens(issued)).await
    }

    /// A Function that is called with a function key, on https.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn keyed_function(ca: &Ca) -> io::Result<Self> {
        Self::start(ca, Function::of_keys()).await
    }
}

impl Backend<LogicApp> {
    /// A Logic App on the Consumption plan, with an OAuth policy, on https.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn logic_app(ca: &Ca, issued: Issued) -> io::Result<Self> {
        Self::start(ca, LogicApp::new(issued)).await
    }
}

fn url(served: &Served) -> String {
    format!("https://localhost:{}", served.address.port())
}

impl<M: Model> Backend<M> {
    async fn start(ca: &Ca, model: M) -> io::Result<Self> {
        let seen = watch::Sender::new(Vec::new());
        let (model, base) = (Arc::new(model), Arc::new(OnceLock::new()));
        let (writing, answering, based) = (seen.clone(), Arc::clone(&model), Arc::clone(&base));
        let tls = ca.server_config(&[b"http/1.1"])?;
        let served = serve(Some(tls), move |request| {
            let one = Seen::of(&request);
            // Nobody knows the port before it is written down.
            let base: &str = based.get().map_or("", |base: &String| base);
            let answer = answering.answer(base, &one);
            writing.send_modify(|seen: &mut Vec<Seen>| seen.push(one));
            async { Some(answer) }
        })
        .await?;
        base.get_or_init(|| url(&served));
        Ok(Self {
            served,
            seen,
            model,
        })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        url(&self.served)
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}
