//! The certificates that gateway.yaml has ordered, and from whom.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::{Options, StartError, machine, presenting, roots};
use crate::acme::{Acme, Challenge, ExternalAccount, Settings};
use crate::files::{self, AcmeChallenge, Diagnostics, GatewayDocument};
use crate::net::client::Client;
use crate::net::tls;
use crate::server;
use crate::snapshot::Lasting;

/// How long the end waits for what is under way. A folder that hangs is not waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// A thread that orders certificates. Its folder may lie on a share that hangs, and nothing else may hang with it.
pub(super) struct Ordering {
    end: Option<oneshot::Sender<()>>,
    ended: mpsc::Receiver<()>,
}

impl Ordering {
    /// Begins to order, until it is dropped.
    pub(super) fn start(acme: Arc<Acme>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (end, asked_to_end) = oneshot::channel();
        let (done, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("acme".to_owned());
        thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = acme.run() => {}
                    _ = asked_to_end => {}
                }
            });
            drop((runtime, done));
        })?;
        Ok(Self {
            end: Some(end),
            ended,
        })
    }
}

impl Drop for Ordering {
    fn drop(&mut self) {
        drop(self.end.take());
        // It says nothing, but hangs up.
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

/// Opens what is kept of them, if any are ordered. Nothing also where an error was added.
pub(super) fn open(
    gateway: &GatewayDocument,
    options: &Options,
    lasting: &Lasting,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Arc<Acme>>, StartError> {
    let Some(acme) = &gateway.acme else {
        return Ok(None);
    };
    let external_account = match &acme.external_account {
        None => None,
        Some(account) => {
            let own = presenting(gateway, lasting);
            let Some(hmac_key) = own.text(&account.hmac_key, diagnostics) else {
                return Ok(None);
            };
            Some(ExternalAccount {
                key_id: account.key_id.clone(),
                hmac_key,
            })
        }
    };
    let roots = roots(acme.ca.as_ref(), "acme.ca")?;
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(machine("reading acme.ca"))?;
    let settings = Settings {
        directory: acme.directory.value.clone(),
        contact: acme.contact.clone(),
        external_account,
        challenge: match acme.challenge {
            AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
            AcmeChallenge::Http01 => Challenge::Http01,
        },
        folder: acme.folder.value.clone(),
        client: Client::new(&config, Arc::clone(&options.resolver)),
        clock: Arc::clone(&options.clock),
    };
    let folder = acme.folder.value.display();
    let opened = Acme::open(settings).map_err(machine(format!("opening acme.folder {folder}")))?;
    opened.want(&wanted(gateway));
    Ok(Some(opened))
}

/// What an earlier gateway has kept of them, for who orders nothing itself. Nothing where there is no folder yet.
pub(crate) fn kept(
    gateway: &GatewayDocument,
    options: &Options,
    lasting: &Lasting,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Arc<Acme>>, StartError> {
    let acme = gateway.acme.as_ref();
    let is_there = |acme: &&files::Acme| Acme::has_kept(&acme.folder.value, &acme.directory.value);
    match acme.filter(is_there) {
        None => Ok(None),
        Some(_) => open(gateway, options, lasting, diagnostics),
    }
}

/// The names of each certificate that is ordered.
pub(super) fn wanted(gateway: &GatewayDocument) -> Vec<Vec<String>> {
    gateway.ordered().map(|names| names.value.clone()).collect()
}

/// What a CA is told that asks by plain HTTP, where it does.
pub(super) fn told_over_http(acme: Arc<Acme>) -> Option<Arc<server::Challenge>> {
    match acme.challenge() {
        Challenge::TlsAlpn01 => None,
        Challenge::Http01 => Some(Arc::new(move |token: &str| acme.http_answer(token))),
    }
}
