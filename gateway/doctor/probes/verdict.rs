//! What an answer to a stranger means.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::Value;

use super::super::{Area, Finding};
use super::{Aim, Stranger, unprobed};
use crate::files::{Backend, BackendKind, Credential, Named};
use crate::net::client::FetchError;

/// Judges what a stranger was answered.
pub(super) fn judged(
    aim: &Aim,
    backend: &Named<Backend>,
    stranger: Stranger,
    answer: Result<Response<Bytes>, FetchError>,
) -> Finding {
    let name = format!("{} {}", backend.name.value, stranger.words());
    match answer {
        Ok(answer) => Answered {
            said: said(aim, &answer),
            aim,
            backend,
            stranger,
            name,
        }
        .weighed(&answer),
        // No refusal is that long.
        Err(FetchError::TooLarge(..)) => Finding::bad(
            Area::Probes,
            name,
            format!(
                "{} was answered with more than 1 MiB: it lets strangers in",
                aim.told()
            ),
            closing(backend, stranger),
        ),
        Err(why) => unprobed(&name, &why.to_string()),
    }
}

/// What was asked and answered, in words.
fn said(aim: &Aim, answer: &Response<Bytes>) -> String {
    let (asked, status) = (aim.told(), answer.status().as_u16());
    match error_code(answer.body()) {
        Some(code) => format!("{asked} was answered {status} ({code})"),
        None => format!("{asked} was answered {status}"),
    }
}

struct Answered<'a> {
    aim: &'a Aim,
    backend: &'a Named<Backend>,
    stranger: Stranger,
    name: String,
    said: String,
}

impl Answered<'_> {
    fn weighed(self, answer: &Response<Bytes>) -> Finding {
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => match self.stranger {
                Stranger::Signer => self.of_sas(error_code(answer.body()).as_deref()),
                Stranger::Bare | Stranger::Forger | Stranger::KeyHolder => {
                    Finding::good(Area::Probes, self.name, self.said)
                }
            },
            status if status.is_redirection() && leads_to_login(answer) => self.good(
                ", a login page; `unauthenticatedClientAction: Return401` would tell programs better",
            ),
            status if status.is_success() => self.let_in(),
            _ => self.warning(
                ", neither let in nor refused",
                "call the backend by hand with a path and body that it knows and without a credential, and expect 401 or 403",
            ),
        }
    }

    fn let_in(self) -> Finding {
        if self.may_be_the_hosts_own() {
            return self.warning(
                ", which may be the host's own page and no function",
                "call a function of the app by hand without a key, and expect 401",
            );
        }
        let advice = closing(self.backend, self.stranger);
        self.bad(": anyone who can reach it passes the gateway by", &advice)
    }

    /// A Functions host shows a page of its own at `/` to everybody; its keys are for functions.
    fn may_be_the_hosts_own(&self) -> bool {
        is_keyed(self.backend) && self.aim.uri.path() == "/"
    }

    /// A Logic App's refusal of a wrong signature tells whether a right one would have been taken.
    fn of_sas(self, code: Option<&str>) -> Finding {
        let called_by_sas = matches!(self.backend.value.credential.value, Credential::Sas { .. });
        match (code, called_by_sas) {
            (Some("DirectApiInvalidAuthorizationScheme"), true) => self.bad(
                ": SAS is switched off, and the gateway itself calls by SAS",
                "give the backend `managedIdentity` in place of `sas`, with an OAuth policy in the workflow that lets it in",
            ),
            (Some("DirectApiInvalidAuthorizationScheme"), false) => {
                self.good(": SAS is switched off")
            }
            (Some("AuthorizationFailed"), true) => {
                self.good("; the gateway itself calls by SAS, so it has to be on")
            }
            (Some("AuthorizationFailed"), false) => {
                let advice = sas_off(&self.backend.value);
                self.warning(
                    ": SAS is still accepted, so whoever holds a link to the workflow passes the gateway by",
                    advice,
                )
            }
            (_, _) => Finding::good(Area::Probes, self.name, self.said),
        }
    }

    fn good(self, means: &str) -> Finding {
        Finding::good(Area::Probes, self.name, self.said + means)
    }

    fn warning(self, means: &str, advice: &str) -> Finding {
        Finding::warning(Area::Probes, self.name, self.said + means, advice)
    }

    fn bad(self, means: &str, advice: &str) -> Finding {
        Finding::bad(Area::Probes, self.name, self.said + means, advice)
    }
}

fn is_keyed(backend: &Named<Backend>) -> bool {
    matches!(
        backend.value.credential.value,
        Credential::FunctionKey { .. }
    )
}

/// Where SAS is switched off: in the workflow of the Consumption plan, in the site of the Standard plan.
fn sas_off(backend: &Backend) -> &'static str {
    match backend.url.value.path().starts_with("/api/") {
        true => {
            "set `properties.logicAppsAccessControlConfiguration.triggers.sasAuthenticationPolicy.state: Disabled` of the site (`Microsoft.Web/sites`)"
        }
        false => {
            "set `properties.accessControl.triggers.sasAuthenticationPolicy.state: Disabled` of the workflow (`Microsoft.Logic/workflows`)"
        }
    }
}

const CLOSED_NETWORK: &str = "or close its network, so that only the gateway reaches it (`publicNetworkAccess: Disabled` with a private endpoint, or `ipSecurityRestrictions`)";

/// How the gap is closed.
fn closing(backend: &Named<Backend>, stranger: Stranger) -> String {
    let own = match (backend.value.kind, stranger) {
        (BackendKind::LogicApp, _) => {
            "give the workflow an OAuth policy (`accessControl.triggers.openAuthenticationPolicies`) and switch SAS off (`sasAuthenticationPolicy.state: Disabled`)"
        }
        (BackendKind::Function, _) if is_keyed(backend) => {
            "set the `authLevel` of its functions to `function`, which asks for a key"
        }
        (BackendKind::Function, Stranger::Forger) => {
            "switch on App Service authentication, which removes x-ms-client-principal from what strangers send (`authsettingsV2`: `platform.enabled: true`, `globalValidation.unauthenticatedClientAction: Return401`)"
        }
        (BackendKind::Function, _) => {
            "switch on App Service authentication (`authsettingsV2`: `globalValidation.requireAuthentication: true`, `unauthenticatedClientAction: Return401`) and let the gateway's identity alone in (`azureActiveDirectory.validation.defaultAuthorizationPolicy.allowedPrincipals.identities`)"
        }
        (BackendKind::Http, _) => {
            "have the backend ask for the credential that the gateway brings, or listen on loopback beside it"
        }
    };
    format!("{own}; {CLOSED_NETWORK}")
}

/// Whether a redirect asks to log in, as App Service authentication does.
fn leads_to_login(answer: &Response<Bytes>) -> bool {
    let location = answer.headers().get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    location.is_some_and(|location| {
        let place = location.split('?').next().unwrap_or_default();
        ["/.auth/login", "/oauth2/", "//login."]
            .iter()
            .any(|part| place.contains(part))
    })
}

/// `error.code` of Azure's answers. What is no plain word is nobody's code.
fn error_code(body: &Bytes) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = body.get("error")?.get("code")?.as_str()?;
    let is_word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}
