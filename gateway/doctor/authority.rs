//! The authority: whether each tenant's signing keys can be fetched, and whether its clock is ours.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, header};
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use uuid::Uuid;

use super::{Area, Finding, PATIENCE, Surroundings, spoken};
use crate::entra::{KeyStatus, Rhythm, Version};
use crate::files::Named;
use crate::ids::TenantId;
use crate::net::client::{Bounds, Client};
use crate::net::tls;
use crate::running;

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    max_body: 1024 * 1024,
};

/// An hour off is told as such; below this nobody need act.
const NOTICED: Duration = Duration::from_secs(60);
/// `Date` has whole seconds, and the answer was under way.
const LEAST_NOTICED: Duration = Duration::from_secs(2);

/// The tenants that policies name, each once.
fn tenants<'s>(surroundings: &Surroundings<'s>) -> Vec<&'s Named<Uuid>> {
    let mut tenants: Vec<&Named<Uuid>> = Vec::new();
    let candidates = surroundings.candidate.iter();
    let candidates = candidates.flat_map(|candidate| &candidate.tenants);
    for tenant in surroundings.policies.tenants.iter().chain(candidates) {
        if !tenants.iter().any(|known| known.value == tenant.value) {
            tenants.push(tenant);
        }
    }
    tenants
}

/// Fetches the keys of every issuer.
pub(super) async fn signing_keys(surroundings: &Surroundings<'_>) -> Vec<Finding> {
    let entra = &surroundings.gateway.entra;
    let rhythm = Rhythm {
        refresh_every: entra.refresh_every,
        unknown_key_interval: entra.unknown_key_interval,
        key_wait: PATIENCE,
    };
    let versions = Version::accepted(entra.token_versions);
    let issuers = tenants(surroundings).into_iter().flat_map(|tenant| {
        let keys = surroundings
            .lasting
            .entra
            .tenant(TenantId::new(tenant.value), rhythm);
        let issuers = versions.iter().map(|version| keys.of(*version).clone());
        issuers.map(|issuer| (tenant, issuer)).collect::<Vec<_>>()
    });
    let findings = issuers.map(|(tenant, issuer)| async move {
        issuer.first().await;
        told(surroundings, tenant, &issuer.status())
    });
    join_all(findings.collect::<Vec<_>>()).await
}

fn told(surroundings: &Surroundings<'_>, tenant: &Named<Uuid>, status: &KeyStatus) -> Finding {
    let authority = &surroundings.gateway.entra.authority.value;
    let version = status.version.name();
    let name = format!("{} {version} ({})", tenant.name.value, status.tenant);
    let why = match (&status.failure, status.tried) {
        (Some(why), _) => why.as_str(),
        (None, false) => "no answer in time",
        (None, true) => {
            let found = match status.key_ids.len() {
                1 => "1 key".to_owned(),
                keys => format!("{keys} keys"),
            };
            return Finding::good(Area::SigningKeys, name, found);
        }
    };
    let advice = format!(
        "see that this network may reach {authority} on port 443 (`entra.ca`, if a proxy breaks TLS), that {} is the tenant's ID, and that `entra.authority` is its cloud's; leave a version that no API uses out of `entra.tokenVersions`",
        status.tenant
    );
    Finding::bad(Area::SigningKeys, name, why, advice)
}

/// Compares the machine's clock with the authority's.
pub(super) async fn clock(surroundings: &Surroundings<'_>) -> Vec<Finding> {
    let finding = match measured(surroundings).await {
        Ok(skew) => judged(surroundings.gateway.entra.clock_skew, skew),
        Err(why) => Finding::warning(
            Area::Clock,
            "clock",
            format!("it could not be compared with the authority's: {why}"),
            "see the signing keys, and run the doctor again",
        ),
    };
    vec![finding]
}

/// How far our clock is ahead, or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skew {
    Ahead(Duration),
    Behind(Duration),
}

async fn measured(surroundings: &Surroundings<'_>) -> Result<Skew, String> {
    let entra = &surroundings.gateway.entra;
    let roots = running::roots(entra.ca.as_ref(), "entra.ca").map_err(|why| why.to_string())?;
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(|why| why.to_string())?;
    let client = Client::new(&config, surroundings.resolver.clone());
    let base = entra.authority.value.to_string();
    let tenant = tenants(surroundings).first().map(|tenant| tenant.value);
    let tenant = tenant.map_or_else(|| "common".to_owned(), |tenant| tenant.to_string());
    let url = format!(
        "{}/{tenant}/v2.0/.well-known/openid-configuration",
        base.trim_end_matches('/')
    );
    let request = Request::get(url).body(Bytes::new());
    let request = request.map_err(|_| "entra.authority is no usable URL".to_owned())?;
    let clock = &surroundings.lasting.clock;
    let before = clock.now().unix;
    let answer = client.send(request, BOUNDS).await;
    let answer = answer.map_err(|why| why.to_string())?;
    let theirs = date(&answer).ok_or("its answer has no date")?;
    Ok(skew(before, clock.now().unix, theirs))
}

/// The date was written between the two readings of our clock.
fn skew(before: Duration, after: Duration, theirs: Duration) -> Skew {
    match theirs < before {
        true => Skew::Ahead(before - theirs),
        false => Skew::Behind(theirs.saturating_sub(after)),
    }
}

/// When an answer was written, since the Unix epoch (RFC 9110 section 5.6.7).
fn date(answer: &Response<Bytes>) -> Option<Duration> {
    const FORMAT: &[BorrowedFormatItem<'_>] = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let text = answer.headers().get(header::DATE)?.to_str().ok()?;
    let date = PrimitiveDateTime::parse(text, FORMAT).ok()?;
    let seconds = date.assume_utc().unix_timestamp();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

fn judged(allowed: Duration, skew: Skew) -> Finding {
    let (off, way) = match skew {
        Skew::Ahead(off) => (off, "ahead of"),
        Skew::Behind(off) => (off, "behind"),
    };
    let found = format!("{} {way} the authority's clock", spoken(off));
    let advice = "set the machine's clock by NTP (chrony, systemd-timesyncd; in a container it is the host's): tokens are judged by it";
    let bearable = allowed.max(NOTICED);
    let noticed = allowed.min(NOTICED).max(LEAST_NOTICED);
    match off {
        off if off > bearable => Finding::bad(Area::Clock, "clock", found, advice),
        off if off > noticed => Finding::warning(Area::Clock, "clock", found, advice),
        _ => Finding::good(Area::Clock, "clock", found),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    #[test]
    fn the_clock_is_judged_by_what_tokens_may_be_off() {
        for (allowed, off, expected) in [
            (60, 0, Outcome::Good),
            (60, 60, Outcome::Good),
            (60, 61, Outcome::Bad),
            (0, 2, Outcome::Good),
            (0, 3, Outcome::Warning),
            (0, 61, Outcome::Bad),
            (300, 60, Outcome::Good),
            (300, 61, Outcome::Warning),
            (300, 300, Outcome::Warning),
            (300, 301, Outcome::Bad),
        ] {
            let seconds = Duration::from_secs;
            for skew in [Skew::Ahead(seconds(off)), Skew::Behind(seconds(off))] {
                let finding = judged(seconds(allowed), skew);
                assert_eq!(finding.outcome, expected, "{allowed} {skew:?}");
            }
        }
    }

    #[test]
    fn what_an_answer_took_is_not_taken_for_skew() {
        let seconds = Duration::from_secs;
        for (before, after, theirs, expected) in [
            (100, 105, 103, Skew::Behind(seconds(0))),
            (100, 105, 105, Skew::Behind(seconds(0))),
            (100, 105, 110, Skew::Behind(seconds(5))),
            (100, 105, 90, Skew::Ahead(seconds(10))),
        ] {
            let found = skew(seconds(before), seconds(after), seconds(theirs));
            assert_eq!(found, expected, "{before} {after} {theirs}");
        }
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        for (text, expected) in [
            ("Thu, 26 Nov 2026 14:00:00 GMT", Some(1_795_701_600)),
            ("Thu, 01 Jan 1970 00:00:10 GMT", Some(10)),
            ("2026-11-26T14:00:00Z", None),
        ] {
            let answer = Response::builder().header("date", text);
            let answer = answer.body(Bytes::new()).expect("an answer");
            assert_eq!(date(&answer), expected.map(Duration::from_secs), "{text}");
        }
    }
}
