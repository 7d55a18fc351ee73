//! What answers say of limits: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-10), or the older `X-RateLimit-*`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::measure::Left;
use crate::denial::whole_seconds;
use crate::files::{Amount, LimitFields, Window};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const OLD_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const OLD_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const OLD_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// A limit as its callers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) name: Arc<str>,
    /// How much there is in a window.
    quota: u64,
    /// The window, in seconds. Of months, the shortest: what it says is no promise.
    window: u64,
    is_bytes: bool,
}

impl Told {
    /// A rate of so many `requests` per period.
    pub(super) fn rate(name: Arc<str>, requests: u32, per: Duration) -> Self {
        Self {
            name,
            quota: u64::from(requests),
            window: whole_seconds(per),
            is_bytes: false,
        }
    }

    pub(super) fn quota(name: Arc<str>, amount: Amount, per: Window) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            name,
            quota: amount.most(),
            window: match per {
                Window::Day => DAY,
                Window::Month => 28 * DAY,
            },
            is_bytes: matches!(amount, Amount::Bytes(_)),
        }
    }

    fn policy(&self, out: &mut String) {
        let Self {
            name,
            quota,
            window,
            is_bytes,
        } = self;
        let unit = match is_bytes {
            true => r#";qu="content-bytes""#,
            false => "",
        };
        // Writing to memory cannot fail. Names are words that need no quoting within quotes.
        let _ = write!(out, r#""{name}";q={quota}{unit};w={window}"#);
    }
}

/// How a route tells of its limits. Made once a policy.
#[derive(Debug)]
pub(super) enum Telling {
    Nothing,
    Ietf { policy: HeaderValue },
    Old,
}

impl Telling {
    pub(super) fn of<'t>(fields: LimitFields, limits: impl Iterator<Item = &'t Told>) -> Self {
        match fields {
            LimitFields::Off => Self::Nothing,
            LimitFields::Legacy => Self::Old,
            LimitFields::Ietf => {
                let mut policy = String::new();
                for told in limits {
                    separate(&mut policy);
                    told.policy(&mut policy);
                }
                match policy.is_empty() {
                    true => Self::Nothing,
                    false => Self::Ietf {
                        policy: value(&policy),
                    },
                }
            }
        }
    }

    /// What an answer says: of each limit what is left, and after what time there is more.
    pub(super) fn standing<'t>(
        &self,
        limits: impl Iterator<Item = (&'t Told, Left)> + Clone,
    ) -> Standing {
        Standing(match self {
            Self::Nothing => None,
            Self::Ietf { policy } => {
                let mut text = Vec::with_capacity(64);
                for (told, left) in limits {
                    if !text.is_empty() {
                        text.extend_from_slice(b", ");
                    }
                    text.push(b'"');
                    text.extend_from_slice(told.name.as_bytes());
                    text.extend_from_slice(b"\";r=");
                    push_number(left.units, &mut text);
                    text.extend_from_slice(b";t=");
                    push_number(whole_seconds(left.full_in), &mut text);
                }
                let is_empty = text.is_empty();
                // INVARIANT: names of limits are made of letters, digits and three signs.
                let standing = HeaderValue::from_maybe_shared(Bytes::from(text));
                let fields = Fields::Ietf {
                    policy: policy.clone(),
                    standing: standing.unwrap_or(HeaderValue::from_static("")),
                };
                (!is_empty).then(|| Box::new(fields))
            }
            Self::Old => {
                let tightest = limits.min_by_key(|(_, left)| left.units);
                tightest.map(|(told, left)| {
                    Box::new(Fields::Old {
                        limit: told.quota.into(),
                        remaining: left.units.into(),
                        reset: whole_seconds(left.full_in).into(),
                    })
                })
            }
        })
    }
}

/// Every answer says some: without the machinery of formatting, which takes ten times as long.
fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}

fn value(text: &str) -> HeaderValue {
    // INVARIANT: names of limits are made of letters, digits and three signs.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// How the caller of one request stands with the limits of its route.
#[derive(Debug, Default)]
pub struct Standing(Option<Box<Fields>>);

#[derive(Debug)]
enum Fields {
    Ietf {
        policy: HeaderValue,
        standing: HeaderValue,
    },
    Old {
        limit: HeaderValue,
        remaining: HeaderValue,
        reset: HeaderValue,
    },
}

impl Standing {
    /// Says it in the head of the answer, beside what the backend says of its own limits. Of the older fields there
    /// can be only one of each: the backend's stay.
    pub fn tell(self, answer: &mut HeaderMap) {
        match self.0.map(|fields| *fields) {
            None => {}
            Some(Fields::Ietf { policy, standing }) => {
                answer.append(RATELIMIT_POLICY, policy);
                answer.append(RATELIMIT, standing);
            }
            Some(Fields::Old {
                limit,
                remaining,
                reset,
            }) => {
                if [OLD_LIMIT, OLD_REMAINING, OLD_RESET]
                    .iter()
                    .any(|name| answer.contains_key(name))
                {
                    return;
                }
                answer.insert(OLD_LIMIT, limit);
                answer.insert(OLD_REMAINING, remaining);
                answer.insert(OLD_RESET, reset);
            }
        }
    }

    /// The fields, for the answer of a refusal.
    pub(super) fn into_fields(self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        self.tell(&mut fields);
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::push_number;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_is_written_as_everybody_writes_it(number in any::<u64>(), shift in 0u32..64) {
            for number in [number >> shift, u64::MAX, 0] {
                let mut out = b"r=".to_vec();
                push_number(number, &mut out);
                prop_assert_eq!(out, format!("r={number}").into_bytes());
            }
        }
    }
}
