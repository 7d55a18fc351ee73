//! Timestamps: read from RFC 3339, written as RFC 3339, and taken apart in UTC.

use time::{Date, Month, OffsetDateTime, UtcOffset};

use super::node::Part;

/// The seconds since the Unix epoch that an RFC 3339 date and time stands for (section 5.6). Whole
/// seconds only, for `request.time` has no others; no leap second, for Unix time has none.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't'])?;
    let (clock, zone) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    let clock = [hour, minute, second].map(|part| u8::try_from(part).unwrap_or(u8::MAX));
    let local = date.with_hms(clock[0], clock[1], clock[2]).ok()?;
    Some(local.assume_offset(offset(zone)?).unix_timestamp())
}

fn offset(zone: &str) -> Option<UtcOffset> {
    if matches!(zone, "Z" | "z") {
        return Some(UtcOffset::UTC);
    }
    let sign = match zone.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
    let hours = i8::try_from(hours).ok().filter(|hours| *hours < 24)?;
    let minutes = i8::try_from(minutes).ok()?;
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// Numbers of as many digits as told, with `between` between them and nothing else.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[u16; N]> {
    let mut parts = text.split(between);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let plain = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = plain.then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

/// RFC 3339 in UTC. Nothing if the year has no four digits.
pub(super) fn write(seconds: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(month);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// One part of a time, in UTC. Nothing if the year is none that the calendar reaches.
pub(super) fn part(seconds: i64, part: Part) -> Option<i64> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some(match part {
        Part::Hours => i64::from(time.hour()),
        Part::Minutes => i64::from(time.minute()),
        Part::DayOfWeek => i64::from(time.weekday().number_days_from_sunday()),
        Part::DayOfMonth => i64::from(time.day()) - 1,
        Part::Month => i64::from(u8::from(time.month())) - 1,
        Part::FullYear => i64::from(time.year()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_rfc_3339_writes_it_and_in_no_other_way() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-31T12:30:15Z", Some(1_769_862_615)),
            ("2026-01-31T13:30:15+01:00", Some(1_769_862_615)),
            ("2026-01-31t07:00:15-05:30", Some(1_769_862_615)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-01-31T24:00:00Z", None),
            ("2026-01-31T12:30:15.5Z", None),
            ("2026-01-31T12:30:15", None),
            ("2026-01-31 12:30:15Z", None),
            ("2026-1-31T12:30:15Z", None),
            ("2026-01-31T12:30:15+24:00", None),
            ("2026-01-31T12:30:15+1:00", None),
            ("2026-01-31T12:30:15+01:00:00", None),
            ("+026-01-31T12:30:15Z", None),
            ("éééééééééé", None),
            ("", None),
        ] {
            assert_eq!(parse(text), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_as_the_same_time() {
        for seconds in [0, -1, 1_769_862_615, 253_402_300_799, -62_167_219_200] {
            let text = write(seconds).expect("a year of four digits");
            assert_eq!(parse(&text), Some(seconds), "{text}");
        }
        assert_eq!(write(i64::MAX), None);
        assert_eq!(part(i64::MIN, Part::FullYear), None);
    }

    #[test]
    fn parts_are_numbered_as_cel_numbers_them() {
        // A Saturday.
        let seconds = 1_769_862_615;
        for (which, value) in [
            (Part::Hours, 12),
            (Part::Minutes, 30),
            (Part::DayOfWeek, 6),
            (Part::DayOfMonth, 30),
            (Part::Month, 0),
            (Part::FullYear, 2026),
        ] {
            assert_eq!(part(seconds, which), Some(value), "{which:?}");
        }
    }
}
