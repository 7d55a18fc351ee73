//! The CA, asked for certificates: the course of one order (RFC 8555 section 7.1), from the account to the chain.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier,
    NewOrder, Order, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::Der;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::account::{self, Terms};
use super::answers::{Answer, Answers, SETTLE};
use super::failure::{Failure, Fault, said};
use super::folder::Folder;
use super::issued::Issued;
use super::names::Names;
use super::way::Way;
use super::{Challenge, Settings};
use crate::clock::doubled;
use crate::secret::Secret;

/// How often an order is looked at, if the CA does not say: twice as long each time, within this.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// An order that is not further by then has failed.
const PATIENCE: Duration = Duration::from_mins(5);

/// A key and its chain, in PEM.
pub(super) type Pem = Secret<String>;

/// When the CA suggests to renew, since the Unix epoch, and when it wants to be asked again (RFC 9773).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suggestion {
    pub(super) window: (Duration, Duration),
    pub(super) ask_again: Option<Duration>,
}

/// Who issues certificates: the seam that tests replace.
pub(super) trait Authority: Send + Sync {
    /// A new key and a chain for it. The lock must be held. What it is to replace is told to the CA where it
    /// wants to know.
    fn obtain<'a>(
        &'a self,
        names: &'a Names,
        replaces: Option<&'a Issued>,
    ) -> BoxFuture<'a, Result<Pem, Failure>>;

    /// When it should be renewed, if the CA says so.
    fn suggestion<'a>(&'a self, issued: &'a Issued) -> BoxFuture<'a, Option<Suggestion>>;
}

/// A CA that speaks ACME.
pub(super) struct Ca {
    pub(super) settings: Settings,
    pub(super) folder: Folder,
    pub(super) answers: Arc<Answers>,
}

impl Authority for Ca {
    fn obtain<'a>(
        &'a self,
        names: &'a Names,
        replaces: Option<&'a Issued>,
    ) -> BoxFuture<'a, Result<Pem, Failure>> {
        Box::pin(async move {
            let way = self.way();
            let mut obtained = self.attempt(&way, names, replaces).await;
            if obtained.as_ref().is_err_and(Fault::is_of_the_account) {
                obtained = match account::forget(&self.folder) {
                    Ok(()) => self.attempt(&way, names, replaces).await,
                    Err(fault) => Err(fault),
                };
            }
            obtained.map_err(|fault| Failure {
                sentence: fault.sentence(),
                asked: way.asked(),
            })
        })
    }

    fn suggestion<'a>(&'a self, issued: &'a Issued) -> BoxFuture<'a, Option<Suggestion>> {
        Box::pin(async move {
            let way = self.way();
            let account = account::kept(&self.folder, &way).await.ok()??;
            let (info, _) = account.renewal_info(&identifier(issued)?).await.ok()?;
            let unix = |at: time::OffsetDateTime| {
                let seconds = u64::try_from(at.unix_timestamp()).unwrap_or_default();
                Duration::from_secs(seconds)
            };
            let window = info.suggested_window;
            Some(Suggestion {
                window: (unix(window.start), unix(window.end)),
                ask_again: way.asked(),
            })
        })
    }
}

impl Ca {
    fn way(&self) -> Way {
        let Settings { client, clock, .. } = &self.settings;
        Way::new(client.clone(), Arc::clone(clock))
    }

    async fn attempt(
        &self,
        way: &Way,
        names: &Names,
        replaces: Option<&Issued>,
    ) -> Result<Pem, Fault> {
        let terms = Terms {
            directory: self.settings.directory.to_string(),
            contact: &self.settings.contact,
            external_account: self.settings.external_account.as_ref(),
        };
        let now = self.settings.clock.now();
        let account = account::open(&self.folder, way, &terms, &now).await?;
        let mut order = ordered(&account, names, replaces).await?;
        self.answer(&mut order).await?;
        self.proved(way, &mut order).await?;
        let (key, request) = request(names).map_err(|cause| Fault::Told(cause.to_string()))?;
        order.finalize_csr(&request).await?;
        let chain = self.chain(way, &mut order).await?;
        Ok(Secret::new(format!("{}{chain}", key.serialize_pem())))
    }

    /// Puts the answers to all challenges in place, waits until every replica has them, and lets the CA come.
    async fn answer(&self, order: &mut Order) -> Result<(), Fault> {
        let answers = self.asked(order).await?;
        if answers.is_empty() {
            return Ok(());
        }
        self.answers.put(&answers)?;
        self.settings.clock.sleep(SETTLE).await;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            if let Some(mut challenge) = authorization.challenge(self.kind()) {
                // A quick CA says by its answer to this already what it thinks of the proof.
                let ready = challenge.set_ready().await;
                ready.map_err(|cause| Fault::of_name(&name, cause))?;
            }
        }
        Ok(())
    }

    /// What the CA wants to see. Names that it has seen lately need no proof.
    async fn asked(&self, order: &mut Order) -> Result<Vec<Answer>, Fault> {
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(challenge) = authorization.challenge(self.kind()) else {
                let kind = self.settings.challenge.name();
                let sentence = format!("the CA takes no proof of {name} by {kind}");
                return Err(Fault::Told(sentence));
            };
            answers.push(Answer {
                name,
                token: challenge.token.clone(),
                key_authorization: challenge.key_authorization().as_str().to_owned(),
            });
        }
        Ok(answers)
    }

    fn kind(&self) -> ChallengeType {
        match self.settings.challenge {
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Http01 => ChallengeType::Http01,
        }
    }

    /// Waits until the CA has seen all that it wants.
    async fn proved(&self, way: &Way, order: &mut Order) -> Result<(), Fault> {
        let mut patience = Patience::default();
        loop {
            match order.state().status {
                OrderStatus::Ready => return Ok(()),
                OrderStatus::Pending => {}
                OrderStatus::Invalid => return Err(why(order).await),
                status @ (OrderStatus::Processing | OrderStatus::Valid) => {
                    return Err(Fault::Told(format!(
                        "the CA's order is {status:?} too early"
                    )));
                }
            }
            self.pause(way, &mut patience).await?;
            order.refresh().await?;
        }
    }

    /// Waits for the chain.
    async fn chain(&self, way: &Way, order: &mut Order) -> Result<String, Fault> {
        let mut patience = Patience::default();
        loop {
            if order.state().status != OrderStatus::Ready
                && let Some(chain) = order.certificate().await?
            {
                return Ok(chain);
            }
            self.pause(way, &mut patience).await?;
            order.refresh().await?;
        }
    }

    async fn pause(&self, way: &Way, patience: &mut Patience) -> Result<(), Fault> {
        let clock = &self.settings.clock;
        let asked = way.asked().map(|at| at.saturating_sub(clock.now().unix));
        let wait = patience.next(asked).ok_or_else(|| {
            Fault::Told("the CA has not come to a decision for minutes".to_owned())
        })?;
        clock.sleep(wait).await;
        Ok(())
    }
}

/// How long has been waited for one thing.
#[derive(Default)]
struct Patience {
    waited: Duration,
    times: u32,
}

impl Patience {
    /// The next wait. `None` when there is none left.
    fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let (first, most) = POLL;
        let wait = asked.unwrap_or_else(|| doubled(first, self.times, most));
        let wait = wait.clamp(first, most);
        self.waited += wait;
        self.times += 1;
        (self.waited <= PATIENCE).then_some(wait)
    }
}

/// A new order. A CA that knows nothing of replacing is not told of it.
async fn ordered(
    account: &Account,
    names: &Names,
    replaces: Option<&Issued>,
) -> Result<Order, Fault> {
    let names = names.as_slice().iter().cloned();
    let identifiers: Vec<Identifier> = names.map(Identifier::Dns).collect();
    if let Some(replaced) = replaces.and_then(identifier) {
        let new = NewOrder::new(&identifiers).replaces(replaced);
        match account.new_order(&new).await {
            Err(Error::Unsupported(_)) => {}
            ordered => return Ok(ordered?),
        }
    }
    Ok(account.new_order(&NewOrder::new(&identifiers)).await?)
}

/// A new key, and the request for a certificate of it.
fn request(names: &Names) -> Result<(KeyPair, Vec<u8>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.as_slice())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key, request.der().to_vec()))
}

/// Why an order has failed. Its challenges say it for each name; the order itself repeats one of them, or says what
/// lies elsewhere.
async fn why(order: &mut Order) -> Fault {
    let of_order = order.state().error.as_ref().map(said);
    let mut causes = of_challenges(order).await;
    if causes.is_empty() {
        causes.extend(of_order);
    }
    match causes.is_empty() {
        true => Fault::Told("the CA refuses the order and does not say why".to_owned()),
        false => Fault::Told(format!("the CA refuses: {}", causes.join("; "))),
    }
}

async fn of_challenges(order: &mut Order) -> Vec<String> {
    let mut causes = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let errors = state.challenges.iter();
        let errors = errors.filter_map(|challenge| challenge.error.as_ref());
        causes.extend(errors.map(|problem| format!("{name}: {}", said(problem))));
    }
    causes
}

/// What a CA calls a certificate in talk of renewal (RFC 9773 section 4.1).
fn identifier(issued: &Issued) -> Option<CertificateIdentifier<'static>> {
    let parsed = Certificate::from_der(issued.chain.first()?).ok()?;
    let parsed = parsed.tbs_certificate();
    let authority = parsed.get_extension::<AuthorityKeyIdentifier>();
    let (_, authority) = authority.ok()??;
    let key = authority.key_identifier?;
    let id = CertificateIdentifier::new(
        Der::from_slice(key.as_bytes()),
        Der::from_slice(parsed.serial_number().as_bytes()),
    );
    Some(id.into_owned())
}

#[cfg(test)]
mod tests;
