//! Names become addresses in one place, and some addresses are never called: what answers there
//! hands out the machine's own credentials (SSRF).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::lookup_host;

/// Turns a host name into addresses: the seam that tests replace.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, each with `port`, in the order to try them. An IP literal, without
    /// brackets, is its own address. Never an empty list: that is an error of kind `NotFound`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>>;
}

/// What was found of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The addresses; at least one.
    pub addresses: Vec<SocketAddr>,
    /// How long they hold, where anybody knows.
    pub holds: Option<Duration>,
}

/// The resolver of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>> {
        Box::pin(resolve(host, port))
    }
}

/// What counts as one address of a caller. An IPv6 subscriber has a /64 at least, and may use any address in it.
pub fn subscriber(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}

/// Asks the machine's resolver, which says nothing of times. An empty answer is an error.
pub async fn resolve(host: &str, port: u16) -> io::Result<Found> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Found {
        addresses,
        holds: None,
    })
}

/// Azure's wire server: DNS, DHCP and the guest agent's secrets
/// (Microsoft Learn, "What is IP address 168.63.129.16?").
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
/// The metadata service of Alibaba Cloud.
const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// The metadata service of AWS over IPv6. Its IPv4 address is link-local.
const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether nobody may be called at this address, however it is written. Loopback is not refused
/// here: a sidecar's backend lives there.
///
/// A false no lets whoever controls a name read the machine's credentials; a false yes costs an
/// error in the log.
pub fn refused(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => refused_v4(ip),
        IpAddr::V6(ip) => refused_v6(ip),
    }
}

/// Whether the address is this machine's own.
pub fn is_loopback(ip: IpAddr) -> bool {
    // Only the IPv4-mapped form reaches loopback; a translated address leaves the machine.
    ip.to_canonical().is_loopback()
}

/// Whether the address is link-local (RFC 3927, RFC 4291 section 2.5.6): where the platform's
/// identity endpoints live.
pub fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn refused_v4(ip: Ipv4Addr) -> bool {
    ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        // 0.0.0.0/8 is "this network" (RFC 1122 section 3.2.1.3); Linux takes 0.0.0.0 for loopback.
        || ip.octets().starts_with(&[0])
        || ip == WIRE_SERVER
        || ip == ALIBABA_METADATA
}

fn refused_v6(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() || ip == AWS_METADATA
}

/// The IPv4 address that an IPv6 address stands for, if it stands for one.
fn plain(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => embedded(v6).map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        // IPv4-mapped (RFC 4291 section 2.5.5.2), NAT64 (RFC 6052 section 2.1) and its local prefix
        // (RFC 8215), when that is laid out as a /96.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        // 6to4 (RFC 3056 section 2).
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        // IPv4-compatible (RFC 4291 section 2.5.5.1, deprecated); `::` and `::1` are not.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(v4(high, low)),
        _ => None,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_that_hand_out_credentials_are_refused_in_every_spelling() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fe80::1",
            "febf:ffff::1",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "64:ff9b::168.63.129.16",
            "fd00:ec2::254",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "64:ff9b::100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            "64:ff9b::",
            "255.255.255.255",
            "::ffff:255.255.255.255",
            "224.0.0.1",
            "239.255.255.255",
            "::ffff:224.0.0.1",
            "ff02::1",
        ] {
            assert!(refused(ip(text)), "{text}");
        }
    }

    #[test]
    fn ordinary_private_and_loopback_addresses_are_not_refused() {
        for text in [
            "10.0.0.4",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "20.50.2.1",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "2603:1020::1",
            "fd00::1",
            "64:ff9b::20.50.2.1",
            "168.63.129.17",
        ] {
            assert!(!refused(ip(text)), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_what_only_looks_like_it() {
        for (text, loopback) in [
            ("127.0.0.1", true),
            ("127.255.255.254", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("64:ff9b::127.0.0.1", false),
            ("::2", false),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(ip(text)), loopback, "{text}");
        }
    }

    #[tokio::test]
    async fn an_ip_literal_is_its_own_address() {
        let found = resolve("127.0.0.1", 81).await.expect("a literal");
        assert_eq!(
            found.addresses,
            ["127.0.0.1:81".parse().expect("an address")]
        );
        let found = resolve("::1", 82).await.expect("a literal");
        assert_eq!(found.addresses, ["[::1]:82".parse().expect("an address")]);
    }
}
