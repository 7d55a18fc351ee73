//! What is told of a request, put into words once for all who write it: the same identifiers stand in both logs, on
//! spans, in records and in envelopes.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use uuid::Uuid;

use super::json::Times;
use super::record::{Record, Told};
use crate::entra::Principal;
use crate::policy::{Effect, RuleId};
use crate::trace::hexadecimal;

/// A record, and the words for what it holds.
pub(super) struct Said<'r> {
    pub(super) record: &'r Record,
    time: [u8; 24],
    id: Guid,
    trace: [u8; 32],
    client: Short,
    rule: Option<Short>,
    caller: Option<Caller>,
}

struct Caller {
    tenant: Guid,
    app: Guid,
    object: Option<Short>,
}

impl<'r> Said<'r> {
    /// Finds the words.
    pub(super) fn of(record: &'r Record, times: &mut Times) -> Self {
        let mut trace = [0; 32];
        hexadecimal(&record.trace_or_own().id(), Some(&mut trace));
        Self {
            record,
            time: times.of(record.arrived.unix),
            id: guid(record.id.uuid()),
            trace,
            client: Short::told(record.client()),
            rule: record.rule.map(Short::rule),
            caller: record
                .principal
                .as_deref()
                .map(|principal| Caller::of(principal, record)),
        }
    }

    /// When the request arrived: RFC 3339, UTC, milliseconds.
    pub(super) fn time(&self) -> &str {
        text(&self.time)
    }

    /// The request's ID.
    pub(super) fn id(&self) -> &str {
        text(&self.id)
    }

    /// The trace's ID, if the request has one of its own.
    pub(super) fn trace(&self) -> Option<&str> {
        self.record.trace.map(|_| text(&self.trace))
    }

    /// The trace's ID, whoever began it.
    pub(super) fn any_trace(&self) -> &str {
        text(&self.trace)
    }

    /// The caller's address, or its hash.
    pub(super) fn client(&self) -> &str {
        self.client.text()
    }

    /// The rule.
    pub(super) fn rule(&self) -> Option<&str> {
        self.rule.as_ref().map(Short::text)
    }

    /// The principal's tenant, app, and object or its hash.
    pub(super) fn caller(&self) -> Option<(&'r Principal, &str, &str, Option<&str>)> {
        let principal = self.record.principal.as_deref()?;
        let Caller {
            tenant,
            app,
            object,
        } = self.caller.as_ref()?;
        let object = object.as_ref().map(Short::text);
        Some((principal, text(tenant), text(app), object))
    }
}

impl Caller {
    fn of(principal: &Principal, record: &Record) -> Self {
        Self {
            tenant: guid(principal.tenant().uuid()),
            app: guid(principal.app().uuid()),
            object: record.object().map(Short::told),
        }
    }
}

type Guid = [u8; uuid::fmt::Hyphenated::LENGTH];

fn guid(id: Uuid) -> Guid {
    let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
    id.as_hyphenated().encode_lower(&mut digits);
    digits
}

fn text(bytes: &[u8]) -> &str {
    // INVARIANT: digits and the signs between them.
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A short text, where it is made.
struct Short {
    bytes: [u8; 48],
    length: usize,
}

impl Short {
    const EMPTY: Self = Self {
        bytes: [0; 48],
        length: 0,
    };

    fn shown(what: fmt::Arguments<'_>) -> Self {
        let mut short = Self::EMPTY;
        // What is longer than any address and any rule's name does not come here.
        let _ = short.write_fmt(what);
        short
    }

    /// As it is displayed; most indices have one digit.
    fn rule(rule: RuleId) -> Self {
        let digit = u8::try_from(rule.index).ok().filter(|index| *index < 10);
        let Some(digit) = digit else {
            return Self::shown(format_args!("{rule}"));
        };
        let mut short = Self::EMPTY;
        short.extend(match rule.effect {
            Effect::Allow => &b"allow["[..],
            Effect::Deny => &b"deny["[..],
        });
        short.extend(&[b'0' + digit, b']']);
        short
    }

    fn told(told: Told) -> Self {
        match told {
            Told::Address(IpAddr::V4(address)) => {
                let mut short = Self::EMPTY;
                for (at, part) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        short.push(b'.');
                    }
                    if part >= 100 {
                        short.push(b'0' + part / 100);
                    }
                    if part >= 10 {
                        short.push(b'0' + part / 10 % 10);
                    }
                    short.push(b'0' + part % 10);
                }
                short
            }
            Told::Object(object) => {
                let mut short = Self::EMPTY;
                short.extend(&guid(object.uuid()));
                short
            }
            Told::Address(_) | Told::Hashed(_) => Self::shown(format_args!("{told}")),
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(places) = self.bytes.get_mut(self.length..end) {
            places.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn text(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ObjectId;

    #[test]
    fn a_rule_reads_as_it_is_displayed() {
        for effect in [Effect::Allow, Effect::Deny] {
            for index in [0, 9, 10, 12_345] {
                let rule = RuleId { effect, index };
                assert_eq!(Short::rule(rule).text(), rule.to_string());
            }
        }
    }

    #[test]
    fn what_is_told_reads_as_it_is_displayed() {
        let object = ObjectId::new(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        let addresses = [
            "0.0.0.0",
            "127.0.0.1",
            "10.99.100.255",
            "::1",
            "2001:db8::ffff:1",
        ];
        let addresses =
            addresses.map(|address| Told::Address(address.parse().expect("an address")));
        let others = [Told::Object(object), Told::Hashed(None)];
        for told in addresses.into_iter().chain(others) {
            assert_eq!(Short::told(told).text(), told.to_string());
        }
    }
}
