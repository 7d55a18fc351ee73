//! Who stands between callers and the gateway, and whose word on callers counts.

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{FORWARDED, HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::denial::Reason;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The ID of the Front Door profile that a request came through.
/// <https://learn.microsoft.com/azure/frontdoor/origin-security>
const FRONT_DOOR: HeaderName = HeaderName::from_static("x-azure-fdid");

/// Those who may speak for callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops {
    /// Where they are; anywhere if it is empty.
    pub networks: Vec<IpNet>,
    /// How many of them say whom they saw. Otherwise all that are in `networks` do.
    pub count: Option<usize>,
    /// Where they say it.
    pub said_in: SaidIn,
    /// The Front Door profiles that requests come through, in lower case; if it is empty, they need not.
    pub front_doors: Vec<String>,
}

/// The field in which each hop says whom it saw, behind what the hops before said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaidIn {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Hops {
    /// Whether somebody may speak for callers.
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.networks.is_empty() || self.has(peer)
    }

    fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// The caller's address, as trusted hops saw it: each appends whom it saw, and all in front of that is somebody's
    /// own word. Where nothing is said, `peer` is who calls.
    ///
    /// # Errors
    /// What is said and is no address: no other could stand in its place, for a rule might let that in, or not keep
    /// the caller's out.
    pub(super) fn client(
        &self,
        headers: &HeaderMap,
        peer: SocketAddr,
    ) -> Result<SocketAddr, Reason> {
        if !self.trusts(peer.ip()) {
            return Ok(peer);
        }
        let name = match self.said_in {
            SaidIn::XForwardedFor => X_FORWARDED_FOR,
            SaidIn::Forwarded => FORWARDED,
        };
        let lines = headers.get_all(name).iter().rev();
        // A comma is taken for an end, also within quotation marks: a caller's in front may not close, and would
        // swallow what the hop wrote.
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut entries = entries.map(|entry| self.address(entry));
        let client = match self.count {
            // Where there are fewer, some hop was passed by; the last that spoke is the farthest that is known.
            Some(count) => entries.take(count).last().unwrap_or(Some(peer)),
            None => {
                let mut client = Some(peer);
                while client.is_some_and(|client| self.has(client.ip()))
                    && let Some(seen) = entries.next()
                {
                    client = seen;
                }
                client
            }
        };
        client.ok_or(Reason::ForwardedAddressInvalid)
    }

    fn address(&self, entry: &[u8]) -> Option<SocketAddr> {
        let entry = std::str::from_utf8(entry).unwrap_or_default().trim();
        let entry = match self.said_in {
            SaidIn::XForwardedFor => Some(entry),
            SaidIn::Forwarded => node(entry),
        };
        entry.and_then(address)
    }

    /// Whether a request came through one of the Front Door profiles, if it has to.
    pub(super) fn came_through(&self, headers: &HeaderMap) -> bool {
        let mut said = headers.get_all(FRONT_DOOR).iter();
        let is_one = |said: &[u8]| {
            let said = said.to_ascii_lowercase();
            // All are compared: how long it takes tells nothing.
            let equal = |id: &&String| verify_slices_are_equal(id.as_bytes(), &said).is_ok();
            self.front_doors.iter().filter(equal).count() > 0
        };
        match (said.next(), said.next()) {
            _ if self.front_doors.is_empty() => true,
            (Some(one), None) => is_one(one.as_bytes()),
            _ => false,
        }
    }
}

/// The value of `for` (RFC 7239 section 4), without its quotation marks. Nothing where these do not close: then a comma
/// within them was taken for the end of an element. Nothing either where something is escaped: no address needs that, and
/// a caller's words in a value beside it might.
fn node(element: &str) -> Option<&str> {
    if element.contains('\\') {
        return None;
    }
    let mut is_quoted = false;
    let mut pairs = element.split(|letter| {
        is_quoted ^= letter == '"';
        letter == ';' && !is_quoted
    });
    if element.matches('"').count() % 2 == 1 {
        return None;
    }
    let (_, node) = pairs.find_map(|pair| {
        let pair = pair.trim().split_once('=')?;
        pair.0.eq_ignore_ascii_case("for").then_some(pair)
    })?;
    let inner = node
        .strip_prefix('"')
        .and_then(|node| node.strip_suffix('"'));
    Some(inner.unwrap_or(node))
}

/// An address with or without a port, as App Service, Application Gateway and RFC 7239 write them.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let bare = bare.parse().ok().map(|address| SocketAddr::new(address, 0));
    let address: SocketAddr = bare.or_else(|| text.parse().ok())?;
    let ip = address.ip().to_canonical();
    // No caller calls from there, and no rule is written for it.
    (!ip.is_unspecified()).then(|| SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const INVALID: &str = "forwarded-address-invalid";

    fn client(hops: &Hops, name: &'static str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_str(line).expect("a value");
            headers.append(HeaderName::from_static(name), line);
        }
        let peer = "10.0.0.1:1".parse().expect("an address");
        let client = hops.client(&headers, peer);
        client.map_or_else(
            |reason| reason.code().to_owned(),
            |client| client.to_string(),
        )
    }

    fn networks(networks: &[&str]) -> Vec<IpNet> {
        let networks = networks.iter().map(|network| network.parse());
        networks.collect::<Result<_, _>>().expect("networks")
    }

    fn counting(count: usize) -> Hops {
        Hops {
            count: Some(count),
            ..Hops::default()
        }
    }

    #[test]
    fn so_many_hops_are_believed_from_the_right() {
        for (count, lines, expected) in [
            (1, vec!["203.0.113.7"], "203.0.113.7:0"),
            (1, vec!["1.1.1.1, 203.0.113.7:4711"], "203.0.113.7:4711"),
            (1, vec!["1.1.1.1", "203.0.113.7"], "203.0.113.7:0"),
            (1, vec!["[2001:db8::1]:443"], "[2001:db8::1]:443"),
            (1, vec!["[2001:db8::1]"], "[2001:db8::1]:0"),
            (1, vec!["2001:db8::1"], "[2001:db8::1]:0"),
            (1, vec!["::ffff:203.0.113.7"], "203.0.113.7:0"),
            (1, vec![], "10.0.0.1:1"),
            (1, vec!["203.0.113.7, unknown"], INVALID),
            (1, vec!["203.0.113.7,"], INVALID),
            (1, vec!["0.0.0.0"], INVALID),
            (1, vec!["[::ffff:0.0.0.0]:443"], INVALID),
            (1, vec!["unknown, 203.0.113.7"], "203.0.113.7:0"),
            (
                2,
                vec!["6.6.6.6, 203.0.113.7", "198.51.100.1"],
                "203.0.113.7:0",
            ),
            (
                2,
                vec!["6.6.6.6, 203.0.113.7, 198.51.100.1"],
                "203.0.113.7:0",
            ),
            (2, vec!["198.51.100.1"], "198.51.100.1:0"),
            (3, vec!["a, 203.0.113.7, 198.51.100.1"], INVALID),
        ] {
            let said = client(&counting(count), "x-forwarded-for", &lines);
            assert_eq!(said, expected, "{count} {lines:?}");
        }
    }

    #[test]
    fn hops_in_named_networks_are_passed_over_and_no_others_are_believed() {
        for (known, lines, expected) in [
            (
                vec!["10.0.0.0/8"],
                vec!["6.6.6.6, 203.0.113.7, 10.9.9.9"],
                "203.0.113.7:0",
            ),
            (
                vec!["10.0.0.0/8"],
                vec!["6.6.6.6, 203.0.113.7"],
                "203.0.113.7:0",
            ),
            (
                vec!["10.0.0.0/8", "203.0.113.0/24"],
                vec!["6.6.6.6, 203.0.113.7"],
                "6.6.6.6:0",
            ),
            (vec!["10.0.0.0/8"], vec!["10.2.2.2, 10.9.9.9"], "10.2.2.2:0"),
            (vec!["10.0.0.0/8"], vec!["203.0.113.7, x"], INVALID),
            (vec!["10.0.0.0/8"], vec![], "10.0.0.1:1"),
            (vec!["192.0.2.0/24"], vec!["203.0.113.7"], "10.0.0.1:1"),
        ] {
            let hops = Hops {
                networks: networks(&known),
                ..Hops::default()
            };
            let said = client(&hops, "x-forwarded-for", &lines);
            assert_eq!(said, expected, "{known:?} {lines:?}");
        }
        let both = Hops {
            networks: networks(&["192.0.2.0/24"]),
            ..counting(1)
        };
        let said = client(&both, "x-forwarded-for", &["203.0.113.7"]);
        assert_eq!(said, "10.0.0.1:1", "a stranger's word");
    }

    #[test]
    fn forwarded_is_read_as_hops_write_it_whatever_callers_wrote_in_front() {
        let hops = Hops {
            said_in: SaidIn::Forwarded,
            ..counting(1)
        };
        for (lines, expected) in [
            (vec!["for=203.0.113.7"], "203.0.113.7:0"),
            (
                vec!["proto=https;For=\"203.0.113.7:4711\";by=_gw"],
                "203.0.113.7:4711",
            ),
            (
                vec!["for=6.6.6.6, for=\"[2001:db8::1]:443\""],
                "[2001:db8::1]:443",
            ),
            (vec!["for=\"x, for=203.0.113.7"], "203.0.113.7:0"),
            (vec!["for=6.6.6.6, proto=https"], INVALID),
            (vec!["for=6.6.6.6, for=_hidden"], INVALID),
            (vec!["for=6.6.6.6, for=unknown"], INVALID),
            (
                vec!["for=203.0.113.7;host=\"a\\\",for=6.6.6.6;b=\\\"c\""],
                INVALID,
            ),
            (vec!["for=203.0.113.7;host=\"a\\b\""], INVALID),
            (
                vec!["host=\"a;for=6.6.6.6;b\";for=203.0.113.7"],
                "203.0.113.7:0",
            ),
            (vec!["proto=http;host=\"x,for=6.6.6.6;y\""], INVALID),
        ] {
            assert_eq!(client(&hops, "forwarded", &lines), expected, "{lines:?}");
        }
        let said = client(&hops, "x-forwarded-for", &["6.6.6.6"]);
        assert_eq!(said, "10.0.0.1:1", "the other field is nobody's word");
    }

    #[test]
    fn a_request_comes_through_exactly_one_known_front_door() {
        let hops = Hops {
            front_doors: vec!["11111111-2222-3333-4444-55555555555a".to_owned()],
            ..Hops::default()
        };
        for (ids, comes) in [
            (vec!["11111111-2222-3333-4444-55555555555a"], true),
            (vec!["11111111-2222-3333-4444-55555555555A"], true),
            (vec!["11111111-2222-3333-4444-555555555550"], false),
            (vec!["11111111-2222-3333-4444-55555555555a"; 2], false),
            (vec!["11111111-2222-3333-4444-55555555555a, x"], false),
            (vec![""], false),
            (vec![], false),
        ] {
            let mut headers = HeaderMap::new();
            for id in &ids {
                headers.append(FRONT_DOOR, HeaderValue::from_static(id));
            }
            assert_eq!(hops.came_through(&headers), comes, "{ids:?}");
        }
        assert!(
            Hops::default().came_through(&HeaderMap::new()),
            "none is asked for"
        );
    }
}
