//! Single values: durations, sizes, numbers, GUIDs, URLs, paths, words of a closed set.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use uuid::Uuid;

use super::decode::{scalar, words};
use super::diagnostics::Diagnostics;
use super::nearest::nearest;
use super::node::{Node, Value};
use super::source::Span;

/// Any text but the empty one.
pub(super) fn text(node: &Node, what: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    scalar(node, what, diagnostics).map(str::to_owned)
}

/// A text without spaces or control characters in it, as claims and resources are.
pub(super) fn token(node: &Node, what: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    let text = scalar(node, what, diagnostics)?;
    if text
        .chars()
        .any(|letter| letter.is_whitespace() || letter.is_control())
    {
        diagnostics.error(
            &node.span,
            format!("there is a space in this: expected {what}"),
        );
        return None;
    }
    Some(text.to_owned())
}

/// `true` or `false`, without quotes.
pub(super) fn boolean(node: &Node, diagnostics: &mut Diagnostics) -> Option<bool> {
    const WHAT: &str = "`true` or `false`";
    // The core schema's spellings (YAML 1.2.2 section 10.3.2); `yes` and `on` are text since 1.2.
    match (&node.value, scalar(node, WHAT, diagnostics)?) {
        (Value::Plain(_), "true" | "True" | "TRUE") => Some(true),
        (Value::Plain(_), "false" | "False" | "FALSE") => Some(false),
        _ => {
            diagnostics.error(&node.span, "this is neither `true` nor `false`");
            None
        }
    }
}

/// One word of a closed set.
pub(super) fn choice<T: Copy>(
    node: &Node,
    choices: &[(&'static str, T)],
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let known: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    let what = match known.as_slice() {
        [one] => format!("`{one}`"),
        _ => format!("one of {}", words(&known)),
    };
    let text = scalar(node, &what, diagnostics)?;
    let found = choices.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        diagnostics
            .error(&node.span, format!("this is not {what}"))
            .did_you_mean(nearest(text, known));
    }
    found.map(|(_, value)| *value)
}

/// A whole number within bounds.
pub(super) fn count<T: TryFrom<u64>>(
    node: &Node,
    bounds: RangeInclusive<u64>,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let text = scalar(node, "a whole number", diagnostics)?;
    let Some(value) = digits(text) else {
        diagnostics
            .error(&node.span, "this is not a whole number")
            .help("write digits alone, such as `100`");
        return None;
    };
    let (least, most) = (bounds.start(), bounds.end());
    if !bounds.contains(&value) {
        diagnostics.error(
            &node.span,
            format!("this is out of bounds: from {least} to {most}"),
        );
        return None;
    }
    T::try_from(value).ok()
}

/// The value of a text of decimal digits alone. `parse` would take a plus sign as well.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

/// A number and the unit after it.
pub(super) fn with_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((digits(number)?, unit.trim_start()))
}

/// A duration with its unit, within bounds.
pub(super) fn duration(
    node: &Node,
    bounds: RangeInclusive<Duration>,
    diagnostics: &mut Diagnostics,
) -> Option<Duration> {
    let text = scalar(node, "a duration such as `10s`", diagnostics)?;
    let value = with_unit(text).and_then(|(number, unit)| {
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(millis).map(Duration::from_millis)
    });
    let Some(value) = value else {
        diagnostics
            .error(&node.span, "this is not a duration")
            .help("write one number and its unit: `250ms`, `10s`, `1m`, `24h` or `1d`");
        return None;
    };
    if !bounds.contains(&value) {
        let (least, most) = (readable(*bounds.start()), readable(*bounds.end()));
        diagnostics.error(
            &node.span,
            format!("this duration is out of bounds: from {least} to {most}"),
        );
        return None;
    }
    Some(value)
}

/// A duration in the largest unit that divides it.
fn readable(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (divisor, unit) = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
    ]
    .into_iter()
    .find(|(divisor, _)| millis > 0 && millis.is_multiple_of(*divisor))
    .unwrap_or((1, "ms"));
    format!("{}{unit}", millis / divisor)
}

/// A size in bytes, within bounds.
pub(super) fn size(
    node: &Node,
    bounds: RangeInclusive<u64>,
    diagnostics: &mut Diagnostics,
) -> Option<usize> {
    amount(node, bounds, diagnostics).and_then(|bytes| usize::try_from(bytes).ok())
}

/// An amount of bytes, within bounds.
pub(super) fn amount(
    node: &Node,
    bounds: RangeInclusive<u64>,
    diagnostics: &mut Diagnostics,
) -> Option<u64> {
    let text = scalar(node, "a size such as `64KiB`", diagnostics)?;
    let value = with_unit(text).and_then(|(number, unit)| {
        let bytes: u64 = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(bytes)
    });
    let Some(value) = value else {
        diagnostics
            .error(&node.span, "this is not a size")
            .help("write a number of bytes, or one with its unit: `64KiB` or `1MiB`");
        return None;
    };
    let (least, most) = (bounds.start(), bounds.end());
    if !bounds.contains(&value) {
        diagnostics.error(
            &node.span,
            format!("this size is out of bounds: from {least} to {most} bytes"),
        );
        return None;
    }
    Some(value)
}

/// A GUID in its hyphenated form, the only one that Entra writes.
pub(super) fn guid(node: &Node, diagnostics: &mut Diagnostics) -> Option<Uuid> {
    let text = scalar(node, "a GUID", diagnostics)?;
    let guid = match text.len() {
        36 => Uuid::try_parse(text).ok(),
        _ => None,
    };
    if guid.is_none() {
        diagnostics
            .error(&node.span, "this is not a GUID")
            .help("write it as Entra shows it: `11111111-1111-1111-1111-111111111111`");
    }
    guid
}

/// An address and port to listen on.
pub(super) fn address(node: &Node, diagnostics: &mut Diagnostics) -> Option<SocketAddr> {
    let text = scalar(node, "an address and port", diagnostics)?;
    let address = text.parse().ok();
    if address.is_none() {
        diagnostics
            .error(&node.span, "this is not an IP address with a port")
            .help("write `0.0.0.0:8443`, `127.0.0.1:9901` or `[::]:8443`");
    }
    address
}

/// A path, resolved against the folder of the file that names it.
pub(super) fn path(node: &Node, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    let text = scalar(node, "a path", diagnostics)?;
    if text.contains('\0') {
        diagnostics.error(&node.span, "a path holds no NUL");
        return None;
    }
    Some(node.span.source().folder().join(text))
}

/// A URL that the gateway calls: `https`, or `http` to this machine alone, with a host, without
/// user information or fragment. What its query may be, the caller says.
pub(super) fn url(node: &Node, diagnostics: &mut Diagnostics) -> Option<Uri> {
    let url = url_of_any_host(node, diagnostics)?;
    let host = url.host().unwrap_or_default();
    if url.scheme_str() == Some("http") && !is_loopback(host) {
        diagnostics
            .error(&node.span, "plain `http` is for this machine alone")
            .help("write `https://`, or a loopback address such as `127.0.0.1`");
        return None;
    }
    Some(url)
}

/// The same, but for plain `http`, which may go to any machine.
pub(super) fn url_of_any_host(node: &Node, diagnostics: &mut Diagnostics) -> Option<Uri> {
    let text = scalar(node, "a URL", diagnostics)?;
    let span = &node.span;
    // `Uri` drops a fragment without a word.
    if text.contains('#') {
        diagnostics.error(span, "a URL that is called has no fragment (`#`)");
        return None;
    }
    let Ok(url) = text.parse::<Uri>() else {
        diagnostics
            .error(span, "this is not a URL")
            .help("write `https://`, a host and a path");
        return None;
    };
    reachable(&url, span, diagnostics).then_some(url)
}

fn reachable(url: &Uri, span: &Span, diagnostics: &mut Diagnostics) -> bool {
    let (Some("http" | "https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        diagnostics
            .error(
                span,
                "this URL begins with neither `https://` nor `http://`",
            )
            .help("write `https://`, a host and a path");
        return false;
    };
    if authority.as_str().contains('@') {
        diagnostics
            .error(span, "a URL here holds no user name or password")
            .help("say under `credential` what the gateway presents");
        return false;
    }
    if host_and_port(authority).is_none() {
        diagnostics.error(span, "the host or port of this URL makes no sense");
        return false;
    }
    true
}

/// The host, and the port if one is written. `None` where they make no sense.
pub(super) fn host_and_port(authority: &Authority) -> Option<(&str, Option<u16>)> {
    let host = authority.host();
    let written = authority.as_str().strip_prefix(host).unwrap_or_default();
    let port = authority.port_u16().filter(|port| *port != 0);
    (!host.is_empty() && (written.is_empty() || port.is_some())).then_some((host, port))
}

/// Whether a host is this machine: a token or key sent to any other in the clear could be read.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
