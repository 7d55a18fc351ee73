//! Where a backend listens, and whether a URL leads there.

/// A backend's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In lower case, without a trailing dot; an IPv6 address in brackets.
    pub host: String,
    /// The port that it is called at.
    pub port: u16,
}

/// An absolute URL of HTTP, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absolute<'u> {
    secure: bool,
    authority: &'u str,
    rest: &'u str,
}

impl<'u> Absolute<'u> {
    pub(super) fn read(url: &'u str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        // Who reads `\` as `/` ends the authority there, and who does not has no such host.
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end)?;
        Some(Self {
            secure,
            authority,
            rest,
        })
    }

    /// Whether it leads to this place. A function behind a front end that ends TLS takes itself to be
    /// called by `http`, so that scheme's own port is the backend's too. A user name is never there.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        let Some((host, port)) = host_and_port(self.authority) else {
            return false;
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        host.eq_ignore_ascii_case(&place.host) && self.port_is(port, place.port)
    }

    fn port_is(&self, written: Option<u16>, expected: u16) -> bool {
        let port = written.unwrap_or(if self.secure { 443 } else { 80 });
        port == expected || (!self.secure && port == 80)
    }

    /// Path and query, without the fragment.
    pub(super) fn target(&self) -> String {
        let target = without_fragment(self.rest);
        if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        }
    }
}

/// What of a URL is sent to a server.
pub(super) fn without_fragment(url: &str) -> &str {
    url.split('#').next().unwrap_or(url)
}

fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end = match authority.starts_with('[') {
        true => authority.find(']')? + 1,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(end)?;
    if port.is_empty() {
        return Some((host, None));
    }
    let digits = port.strip_prefix(':')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| plain)?;
    Some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_at_the_backend_by_host_and_port() {
        for (url, port, here) in [
            ("https://b.example/x", 443, true),
            ("https://b.example:443/x", 443, true),
            ("HTTPS://B.Example.:443/x", 443, true),
            ("http://b.example/x", 443, true),
            ("http://b.example:80/x", 443, true),
            ("http://b.example:7071/x", 7071, true),
            ("https://b.example?x", 443, true),
            ("https://b.example", 443, true),
            ("https://b.example#@evil", 443, true),
            ("https://b.example:8443/x", 443, false),
            ("http://b.example:443/x", 443, true),
            ("http://b.example:8080/x", 443, false),
            ("https://b.example/x", 8443, false),
            ("https://b.example:80/x", 443, false),
            ("https://b.example.evil/x", 443, false),
            ("https://evil.b.example/x", 443, false),
            ("https://b.example@evil/x", 443, false),
            ("https://evil@b.example/x", 443, false),
            ("https://b.example:443@evil/x", 443, false),
            ("https://b.example:@evil/x", 443, false),
            ("https://evil\\@b.example/x", 443, false),
            ("https://b.example:/x", 443, false),
            ("https://b.example:+443/x", 443, false),
            ("https://b.example:65979/x", 443, false),
            ("https://b%2Eexample/x", 443, false),
            ("https:///b.example/x", 443, false),
            ("https://b.example../x", 443, false),
        ] {
            let place = Place {
                host: "b.example".to_owned(),
                port,
            };
            let url_read = Absolute::read(url).expect(url);
            assert_eq!(url_read.is_at(&place), here, "{url} at {port}");
        }
        let place = Place {
            host: "[::1]".to_owned(),
            port: 7071,
        };
        let url = Absolute::read("http://[::1]:7071/x").expect("a URL");
        assert!(url.is_at(&place));
    }

    #[test]
    fn a_target_is_path_and_query() {
        for (url, target) in [
            ("https://b/x?y=1#z", Some("/x?y=1")),
            ("https://b", Some("/")),
            ("https://b?y", Some("/?y")),
            ("https://b#y", Some("/")),
            ("ftp://b/x", None),
            ("/x", None),
        ] {
            let read = Absolute::read(url).map(|url| url.target());
            assert_eq!(read.as_deref(), target, "{url}");
        }
    }
}
