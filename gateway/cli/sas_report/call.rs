//! A line of the decision log, as far as this command is concerned.

use serde::Deserialize;
use serde_json::Value;

use crate::files::point_in_time;
use crate::fingerprint::Fingerprint;

/// One request.
pub(super) struct Call {
    /// When it came, as it was written: all are, in UTC and in one form, so that text compares as time does.
    pub(super) time: String,
    pub(super) route: Option<String>,
    /// The app ID of the token that was verified.
    pub(super) app: Option<String>,
    pub(super) sas: Option<Sas>,
}

/// What it brought in its URL.
pub(super) struct Sas {
    /// The names of the parameters.
    pub(super) keys: Vec<String>,
    pub(super) fingerprint: Option<Fingerprint>,
    /// The product that the user agent calls itself.
    pub(super) agent: Option<String>,
    /// Whether that is why it was refused.
    pub(super) refused: bool,
}

#[derive(Deserialize)]
struct Line {
    time: String,
    #[serde(rename = "id")]
    _id: String,
    #[serde(rename = "decision")]
    _decision: String,
    route: Option<String>,
    token: Option<Token>,
    sas: Option<SasLine>,
}

#[derive(Deserialize)]
struct Token {
    app: String,
}

#[derive(Deserialize)]
struct SasLine {
    keys: Vec<String>,
    fingerprint: Option<String>,
    agent: Option<String>,
    #[serde(default)]
    refused: bool,
}

impl Call {
    /// Reads a line. `None` if it is no decision.
    pub(super) fn read(line: Value) -> Option<Self> {
        let line: Line = serde_json::from_value(line).ok()?;
        point_in_time(&line.time)?;
        Some(Self {
            time: line.time,
            route: line.route,
            app: line.token.map(|token| token.app),
            sas: match line.sas {
                Some(sas) => Some(sas.read()?),
                None => None,
            },
        })
    }

    /// Whether it brought the signature or key of this fingerprint.
    pub(super) fn brought(&self, fingerprint: Fingerprint) -> bool {
        let sas = self.sas.as_ref();
        sas.is_some_and(|sas| sas.fingerprint == Some(fingerprint))
    }
}

impl SasLine {
    /// What is not written as a fingerprint might be the signature itself, so it is not passed on.
    fn read(self) -> Option<Sas> {
        Some(Sas {
            keys: self.keys,
            fingerprint: match self.fingerprint {
                Some(text) => Some(Fingerprint::read(&text)?),
                None => None,
            },
            agent: self.agent.as_deref().and_then(product),
            refused: self.refused,
        })
    }
}

/// Most characters of a product that are kept.
const LONGEST_PRODUCT: usize = 64;

/// The product that comes first in a `User-Agent` (RFC 9110 section 10.1.5), without its version: one that is
/// updated stays one caller.
fn product(agent: &str) -> Option<String> {
    let end = |letter: char| letter == '/' || letter.is_whitespace();
    let first = agent.split(end).next()?;
    let product: String = first.chars().take(LONGEST_PRODUCT).collect();
    (!product.is_empty()).then_some(product)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_what_stands_before_the_first_slash_or_space() {
        let long = "x".repeat(65);
        for (agent, expected) in [
            ("curl/8.5.0", Some("curl")),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Gecko",
                Some("Mozilla"),
            ),
            ("azure-logic-apps 1.0", Some("azure-logic-apps")),
            ("tab\there", Some("tab")),
            ("", None),
            ("/1.0", None),
            (&long, Some(&long[..64])),
            ("größe/1", Some("größe")),
        ] {
            assert_eq!(product(agent).as_deref(), expected, "{agent:?}");
        }
    }
}
