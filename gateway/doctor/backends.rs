//! Backends: whether the way to each is open, as far as TLS.

use std::time::Duration;

use futures_util::future::join_all;

use super::{Area, Finding, Surroundings};
use crate::clock::within;
use crate::denial::{Denial, Reason};
use crate::files::{Diagnostics, Named};
use crate::upstream::Place;
use crate::{denial, files};

/// The longest that a connection may take here; a request gives up earlier.
const LIMIT: Duration = Duration::from_secs(15);

/// A place, and the backends that live there.
pub(super) struct Reached<'d> {
    place: Place,
    backends: Vec<&'d Named<files::Backend>>,
}

/// Where the backends are. What is wrong with their URLs is added to the diagnostics.
pub(super) fn places<'s>(
    surroundings: &Surroundings<'s>,
    diagnostics: &mut Diagnostics,
) -> Vec<Reached<'s>> {
    let mut places: Vec<Reached<'s>> = Vec::new();
    for backend in &surroundings.policies.backends {
        let endpoints = &surroundings.lasting.endpoints;
        for place in Place::of(&backend.value, endpoints, diagnostics) {
            match places.iter_mut().find(|known| known.place == place) {
                Some(known) => known.backends.push(backend),
                None => places.push(Reached {
                    place,
                    backends: vec![backend],
                }),
            }
        }
    }
    places
}

/// Goes all the ways.
pub(super) async fn reach(surroundings: &Surroundings<'_>, places: &[Reached<'_>]) -> Vec<Finding> {
    join_all(places.iter().map(|place| one(surroundings, place))).await
}

async fn one(surroundings: &Surroundings<'_>, reached: &Reached<'_>) -> Finding {
    let Reached { place, backends } = reached;
    let names: Vec<&str> = backends
        .iter()
        .map(|backend| backend.name.value.as_str())
        .collect();
    let name = format!("{place} (for {})", names.join(", "));
    let way = within(LIMIT, place.reach(surroundings.resolver)).await;
    let way = way.unwrap_or_else(|| Err(Reason::BackendConnectTimeout.into()));
    match way {
        Ok(address) if place.is_secure() => Finding::good(
            Area::Backends,
            name,
            format!("{address} answers, and its certificate verifies"),
        ),
        Ok(address) => Finding::good(
            Area::Backends,
            name,
            format!("{address} answers; plain http, on this machine"),
        ),
        Err(denial) => Finding::bad(Area::Backends, name, why(&denial), advice(&denial, place)),
    }
}

/// What went wrong, with what was met.
fn why(denial: &Denial) -> String {
    let title = denial.reason().title();
    let code = denial.reason().code();
    match denial.note() {
        Some(denial::Note { got, .. }) if !got.is_empty() => format!("{code}: {title}: {got}"),
        _ => format!("{code}: {title}"),
    }
}

fn advice(denial: &Denial, place: &Place) -> &'static str {
    match denial.reason() {
        Reason::BackendDns => {
            "see that the host in the backend's URL is spelt right and that this network's DNS knows it (with a private endpoint: link the zone `privatelink.azurewebsites.net` to this virtual network)"
        }
        Reason::BackendAddressRefused if place.is_secure() => {
            "such addresses hand out credentials, so none is ever called: name the backend's own host, and see who changed its DNS"
        }
        Reason::BackendAddressRefused => {
            "plain http is for a backend on this machine: write `https://` in its URL"
        }
        Reason::BackendTls => {
            "if a CA of your own signed its certificate, name the CA's PEM file in the backend's `ca`; otherwise renew the certificate, or call the backend by a name that it holds"
        }
        _ => {
            "see that the backend runs and listens there, and that its access restrictions, private endpoint or firewall let this network in"
        }
    }
}
