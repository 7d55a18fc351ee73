//! Token answers, in all the forms in which they are seen, made into the one that the crates read. They
//! take `expires_on` only as a text of digits and know no `refresh_in`.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// What an answer says of a token's life, from now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) expires_in: Option<Duration>,
    pub(super) refresh_in: Option<Duration>,
}

/// An answer of App Service's, IMDS's or Arc's endpoint. `None` if it is no token answer at all.
pub(super) fn of_identity_endpoint(body: &[u8], now: Duration) -> Option<(Bytes, Lifetime)> {
    let mut answer = object(body)?;
    let refresh_in = seconds(answer.get("refresh_in"));
    let expires_on = answer.get("expires_on").and_then(point_in_time);
    let expires_on = expires_on.or_else(|| Some(now + seconds(answer.get("expires_in"))?))?;
    let expires_on = expires_on.as_secs().to_string();
    answer.insert("expires_on".to_owned(), expires_on.into());
    // The crate wants both to be there, and reads neither.
    for (name, value) in [("token_type", "Bearer"), ("resource", "")] {
        answer.entry(name).or_insert_with(|| value.into());
    }
    let lifetime = Lifetime {
        expires_in: None,
        refresh_in,
    };
    Some((text(answer), lifetime))
}

/// An answer of Entra's token endpoint.
pub(super) fn of_entra(body: &[u8]) -> Option<(Bytes, Lifetime)> {
    let mut answer = object(body)?;
    let expires_in = seconds(answer.get("expires_in"))?;
    let refresh_in = seconds(answer.get("refresh_in"));
    answer.insert("expires_in".to_owned(), expires_in.as_secs().into());
    answer.remove("ext_expires_in");
    let lifetime = Lifetime {
        expires_in: Some(expires_in),
        refresh_in,
    };
    Some((text(answer), lifetime))
}

fn object(body: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(body).ok()? {
        Value::Object(answer) if answer.contains_key("access_token") => Some(answer),
        _ => None,
    }
}

fn text(answer: Map<String, Value>) -> Bytes {
    Value::Object(answer).to_string().into()
}

/// A number of seconds, as a number or as a text.
fn seconds(value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// Seconds since the Unix epoch, or a date in one of the forms that identity endpoints have used.
fn point_in_time(value: &Value) -> Option<Duration> {
    const US: &[BorrowedFormatItem<'_>] = format_description!(
        "[month padding:none]/[day padding:none]/[year] [hour padding:none]:[minute]:[second]"
    );
    const PLAIN: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    if let Some(seconds) = seconds(Some(value)) {
        return Some(seconds);
    }
    let text = value.as_str()?.trim();
    // In UTC, and the year 2017 wrote a `PM` behind hours of the whole day.
    let bare = text.trim_end_matches("+00:00").trim_end();
    let bare = bare
        .trim_end_matches("PM")
        .trim_end_matches("AM")
        .trim_end();
    let time = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let plain = PrimitiveDateTime::parse(bare, PLAIN);
        let plain = plain.or_else(|_| PrimitiveDateTime::parse(bare, US));
        plain.ok().map(PrimitiveDateTime::assume_utc)
    })?;
    u64::try_from(time.unix_timestamp())
        .ok()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn read(answer: Value) -> Option<(Value, Lifetime)> {
        let (body, lifetime) = of_identity_endpoint(answer.to_string().as_bytes(), NOW)?;
        Some((serde_json::from_slice(&body).expect("JSON"), lifetime))
    }

    #[test]
    fn every_form_of_an_end_is_read() {
        for (expires_on, expected) in [
            (json!("1735689599"), "1735689599"),
            (json!(1_735_689_599), "1735689599"),
            (json!("2024-12-31T23:59:59Z"), "1735689599"),
            (json!("12/31/2024 23:59:59"), "1735689599"),
            (json!("2024-12-31 23:59:59"), "1735689599"),
            (json!("12/31/2024 23:59:59 PM +00:00"), "1735689599"),
            (json!(""), "1700003599"),
            (json!(null), "1700003599"),
        ] {
            let answer =
                json!({ "access_token": "t", "expires_on": expires_on, "expires_in": "3599" });
            let (read, _) = read(answer).expect("a token answer");
            assert_eq!(read["expires_on"], expected, "{expires_on}");
            assert_eq!(read["token_type"], "Bearer");
        }
    }

    #[test]
    fn what_says_nothing_of_its_end_or_holds_no_token_is_none() {
        assert!(read(json!({ "access_token": "t", "expires_on": "soon" })).is_none());
        assert!(read(json!({ "expires_on": "1735689599" })).is_none());
        assert!(of_identity_endpoint(b"<html>", NOW).is_none());
        assert!(of_entra(br#"{"access_token":"t"}"#).is_none());
    }

    #[test]
    fn refresh_in_is_read_as_a_number_or_a_text() {
        for refresh_in in [json!(1800), json!("1800")] {
            let answer =
                json!({ "access_token": "t", "expires_in": 3599, "refresh_in": refresh_in });
            let expected = Some(Duration::from_secs(1800));
            let (_, lifetime) = read(answer.clone()).expect("a token answer");
            assert_eq!(lifetime.refresh_in, expected);
            let (_, lifetime) = of_entra(answer.to_string().as_bytes()).expect("a token answer");
            assert_eq!(lifetime.refresh_in, expected);
            assert_eq!(lifetime.expires_in, Some(Duration::from_secs(3599)));
        }
    }
}
