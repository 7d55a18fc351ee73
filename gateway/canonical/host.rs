//! The host that a request is for: one, in lower case, without port and trailing dot.

use std::net::Ipv6Addr;

use http::header::{HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Uri, Version};

use crate::denial::Reason;

const REFUSED: Reason = Reason::AmbiguousHost;

/// The longest name that DNS takes (RFC 1035 section 3.1).
const LONGEST: usize = 253;

/// One host and perhaps a port.
#[derive(Clone, Debug)]
pub(super) struct Host {
    text: Text,
    port: Option<u16>,
}

/// The host where it was sent, if it was sent in its canonical spelling: nothing is copied then.
#[derive(Clone, Debug)]
enum Text {
    Field(HeaderValue, usize),
    Target(Authority, usize),
    Respelled(String),
}

impl Host {
    /// Reads `:authority`, an absolute target and the `Host` field, which must agree.
    ///
    /// # Errors
    /// `AmbiguousHost` if there is none, or more than one, or it is no host. HTTP/1 wants the `Host`
    /// field in every case (RFC 9112 section 3.2); that goes for HTTP/1.0 here too.
    pub(super) fn read(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<Self, Reason> {
        let mut fields = headers.get_all(HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(REFUSED);
        }
        match (uri.authority(), field) {
            (None, None) => Err(REFUSED),
            (None, Some(field)) => Self::from_field(field),
            (Some(authority), None) if version >= Version::HTTP_2 => Self::from_target(authority),
            (Some(_), None) => Err(REFUSED),
            (Some(authority), Some(field)) => {
                let host = Self::from_target(authority)?;
                let other = Self::from_field(field)?;
                let default = default_port(uri)?;
                host.agrees_with(&other, default)
                    .then_some(host)
                    .ok_or(REFUSED)
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        match &self.text {
            Text::Field(value, length) => value.to_str().ok().and_then(|text| text.get(..*length)),
            Text::Target(authority, length) => authority.as_str().get(..*length),
            Text::Respelled(text) => Some(text.as_str()),
        }
        // INVARIANT: both lengths were measured on the very text.
        .unwrap_or_default()
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    fn from_field(field: &HeaderValue) -> Result<Self, Reason> {
        let parsed = parse(field.to_str().map_err(|_| REFUSED)?)?;
        Ok(parsed.host(|length| Text::Field(field.clone(), length)))
    }

    fn from_target(authority: &Authority) -> Result<Self, Reason> {
        let parsed = parse(authority.as_str())?;
        Ok(parsed.host(|length| Text::Target(authority.clone(), length)))
    }

    fn agrees_with(&self, other: &Self, default: u16) -> bool {
        let port = |host: &Self| host.port.unwrap_or(default);
        self.name() == other.name() && port(self) == port(other)
    }
}

/// The port that a target without one means. Another scheme than these two has no place here.
fn default_port(uri: &Uri) -> Result<u16, Reason> {
    match uri.scheme_str() {
        None | Some("https") => Ok(443),
        Some("http") => Ok(80),
        Some(_) => Err(REFUSED),
    }
}

struct Parsed {
    /// How much of the front is the canonical host, or the canonical host written anew.
    name: Result<usize, String>,
    port: Option<u16>,
}

impl Parsed {
    fn host(self, sent: impl FnOnce(usize) -> Text) -> Host {
        let text = match self.name {
            Ok(length) => sent(length),
            Err(respelled) => Text::Respelled(respelled),
        };
        Host {
            text,
            port: self.port,
        }
    }
}

fn parse(text: &str) -> Result<Parsed, Reason> {
    let (name, port) = if text.starts_with('[') {
        let end = text.find(']').ok_or(REFUSED)?;
        let (name, rest) = text.split_at_checked(end + 1).ok_or(REFUSED)?;
        (name, rest)
    } else {
        text.split_at(text.find(':').unwrap_or(text.len()))
    };
    let canonical = match name.strip_prefix('[') {
        Some(address) => ipv6(address.trim_end_matches(']'))?,
        None => reg_name(name)?,
    };
    let name = match canonical {
        Some(respelled) => Err(respelled),
        // What was cut off is a trailing dot alone, so the front is the canonical host.
        None => Ok(name.strip_suffix('.').unwrap_or(name).len()),
    };
    Ok(Parsed {
        name,
        port: parse_port(port)?,
    })
}

/// A name or an IPv4 address: letters, digits, `-` and `_`, in labels. `Some` if its canonical
/// spelling is another, apart from a trailing dot.
fn reg_name(name: &str) -> Result<Option<String>, Reason> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > LONGEST {
        return Err(REFUSED);
    }
    let mut upper = false;
    let mut label_is_empty = true;
    for byte in name.bytes() {
        upper |= byte.is_ascii_uppercase();
        match byte {
            b'.' if label_is_empty => return Err(REFUSED),
            b'.' => label_is_empty = true,
            b'-' | b'_' => label_is_empty = false,
            _ if byte.is_ascii_alphanumeric() => label_is_empty = false,
            _ => return Err(REFUSED),
        }
    }
    if label_is_empty {
        return Err(REFUSED);
    }
    Ok(upper.then(|| name.to_ascii_lowercase()))
}

/// RFC 5952 gives each address one spelling. Zones do not travel (RFC 6874 section 1).
fn ipv6(address: &str) -> Result<Option<String>, Reason> {
    let parsed: Ipv6Addr = address.parse().map_err(|_| REFUSED)?;
    Ok(Some(format!("[{parsed}]")))
}

/// `:` and one to five digits that begin with none of zero.
fn parse_port(text: &str) -> Result<Option<u16>, Reason> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix(':').ok_or(REFUSED)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    match digits.parse() {
        Ok(port) if plain => Ok(Some(port)),
        _ => Err(REFUSED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (&'a str, Version, &'a str, &'a [&'a str], Option<&'a str>);

    fn read(
        version: Version,
        target: &str,
        hosts: &[&str],
    ) -> Result<(String, Option<u16>), Reason> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(
                HOST,
                HeaderValue::from_bytes(host.as_bytes()).expect("a field value"),
            );
        }
        let uri: Uri = target.parse().expect("a target");
        let host = Host::read(version, &uri, &headers)?;
        Ok((host.name().to_owned(), host.port()))
    }

    #[test]
    fn a_host_has_one_spelling() {
        for (sent, name, port) in [
            ("api.contoso.com", "api.contoso.com", None),
            ("API.Contoso.COM", "api.contoso.com", None),
            ("api.contoso.com.", "api.contoso.com", None),
            ("API.contoso.com.:8443", "api.contoso.com", Some(8443)),
            ("api.contoso.com:443", "api.contoso.com", Some(443)),
            ("localhost:1", "localhost", Some(1)),
            ("my_service", "my_service", None),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[0:0::0:1]:8443", "[::1]", Some(8443)),
            ("[2001:DB8::A]", "[2001:db8::a]", None),
        ] {
            let expected = Ok((name.to_owned(), port));
            assert_eq!(read(Version::HTTP_11, "/", &[sent]), expected, "{sent}");
        }
    }

    #[test]
    fn a_host_in_its_canonical_spelling_is_not_copied() {
        let host =
            Host::from_field(&HeaderValue::from_static("api.contoso.com.:8443")).expect("a host");
        assert!(matches!(host.text, Text::Field(..)));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(254);
        for sent in [
            "",
            ".",
            ":443",
            "..",
            "a..b",
            ".a",
            "a..",
            "user@a",
            "user:pass@a",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a%41",
            "a,b",
            "a:b",
            "a:",
            "a:0",
            "a:080",
            "a:65536",
            "a:+80",
            "a:80:80",
            "a\\b",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]]",
            "[fe80::1%25eth0]",
            "[::1.]",
            "[]",
            "[v1.a]",
            "[1.2.3.4]",
            "caf\u{e9}",
            "a*",
            &long,
        ] {
            assert_eq!(read(Version::HTTP_11, "/", &[sent]), Err(REFUSED), "{sent}");
        }
    }

    #[test]
    fn target_and_field_must_agree() {
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        let rows: &[Row<'_>] = &[
            ("none at all", v11, "/", &[], None),
            ("none in HTTP/1.0", v10, "/", &[], None),
            ("none in HTTP/2", v2, "/", &[], None),
            ("two fields", v11, "/", &["a", "a"], None),
            ("absolute target alone", v11, "http://a/", &[], None),
            (":authority alone", v2, "https://a/", &[], Some("a")),
            ("the field alone in HTTP/2", v2, "/", &["a"], Some("a")),
            ("the same", v2, "https://a/", &["a"], Some("a")),
            ("another case", v2, "https://A/", &["a"], Some("a")),
            ("the default port", v2, "https://a/", &["a:443"], Some("a")),
            (
                "the default port of http",
                v11,
                "http://a:80/",
                &["a"],
                Some("a"),
            ),
            (
                "the default port of the other scheme",
                v11,
                "http://a:443/",
                &["a"],
                None,
            ),
            ("another host", v2, "https://a/", &["b"], None),
            ("another port", v2, "https://a:1/", &["a:2"], None),
            ("another scheme", v11, "ftp://a/", &["a"], None),
            ("userinfo", v2, "https://u@a/", &[], None),
        ];
        for (why, version, target, hosts, expected) in rows {
            let host = read(*version, target, hosts).ok().map(|(name, _)| name);
            assert_eq!(host.as_deref(), *expected, "{why}");
        }
    }
}
