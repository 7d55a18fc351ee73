//! The PROXY protocol: who connects says first whose connection it passes on, in version 1 or 2.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::v1::Addresses as V1;
use ppp::v2::{Addresses as V2, Command};
use ppp::{HeaderResult, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with, and what version 1 does.
const SIGNATURE: usize = 12;
const PREFIX: &[u8] = b"PROXY ";

/// What follows on version 2's signature: version, family, and the length of the rest.
const REST_OF_HEAD: usize = 4;

/// The longest line of version 1, in bytes.
const LONGEST_LINE: usize = 107;

/// The most bytes of version 2 that are taken: addresses and what is said beside them.
const MOST_SAID: usize = 4 * 1024;

/// Reads what is said in front of a connection, and not a byte more: whose it is, or nothing where that is not said, as
/// when the proxy connects on its own account.
///
/// # Errors
/// The connection's; `InvalidData` if it is no PROXY protocol.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // The shortest line of version 1 is longer than version 2's signature.
    let mut said = vec![0; SIGNATURE];
    stream.read_exact(&mut said).await?;
    match said.starts_with(PREFIX) {
        true => read_line(stream, &mut said).await?,
        false if said == v2::PROTOCOL_PREFIX => read_rest(stream, &mut said).await?,
        false => return Err(invalid()),
    }
    source(&said).ok_or_else(invalid)
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin), said: &mut Vec<u8>) -> io::Result<()> {
    while !said.ends_with(b"\r\n") {
        if said.len() == LONGEST_LINE {
            return Err(invalid());
        }
        said.push(stream.read_u8().await?);
    }
    Ok(())
}

async fn read_rest(stream: &mut (impl AsyncRead + Unpin), said: &mut Vec<u8>) -> io::Result<()> {
    let mut head = [0; REST_OF_HEAD];
    stream.read_exact(&mut head).await?;
    said.extend(head);
    let [_, _, length @ ..] = head;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MOST_SAID {
        return Err(invalid());
    }
    let from = said.len();
    said.resize(from + length, 0);
    stream
        .read_exact(said.get_mut(from..).unwrap_or_default())
        .await?;
    Ok(())
}

fn source(said: &[u8]) -> Option<Option<SocketAddr>> {
    let address = |address: IpAddr, port| {
        let address = SocketAddr::new(address.to_canonical(), port);
        Some(Some(address))
    };
    match HeaderResult::parse(said) {
        HeaderResult::V1(header) => match header.ok()?.addresses {
            V1::Unknown => Some(None),
            V1::Tcp4(of) => address(of.source_address.into(), of.source_port),
            V1::Tcp6(of) => address(of.source_address.into(), of.source_port),
        },
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            match (header.command, header.addresses) {
                (Command::Local, _) | (Command::Proxy, V2::Unspecified) => Some(None),
                (Command::Proxy, V2::IPv4(of)) => address(of.source_address.into(), of.source_port),
                (Command::Proxy, V2::IPv6(of)) => address(of.source_address.into(), of.source_port),
                // A socket of its own machine is no caller's address.
                (Command::Proxy, V2::Unix(_)) => None,
            }
        }
    }
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is no PROXY protocol")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const SIGNED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn version_2(command: u8, family: u8, addresses: &[u8], beside: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len() + beside.len()).expect("short");
        [
            SIGNED,
            &[command, family],
            &length.to_be_bytes(),
            addresses,
            beside,
        ]
        .concat()
    }

    fn told(said: &[u8]) -> Result<(String, usize), io::ErrorKind> {
        let all = [said, b"HELLO"].concat();
        let mut rest = all.as_slice();
        let read = read(&mut rest).now_or_never().expect("nothing to wait for");
        let source = read.map_err(|error| error.kind())?;
        let source = source.map_or_else(|| "nobody".to_owned(), |source| source.to_string());
        Ok((source, rest.len()))
    }

    #[test]
    fn both_versions_say_whose_connection_it_is_and_no_byte_behind_is_taken() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 2, 0x12, 0x34, 0, 80];
        let v6 = [
            &std::net::Ipv6Addr::LOCALHOST.octets()[..],
            &[0; 16],
            &[0, 7, 0, 80],
        ]
        .concat();
        let mapped = "::ffff:203.0.113.7"
            .parse::<std::net::Ipv6Addr>()
            .expect("one");
        let mapped = [&mapped.octets()[..], &[0; 16], &[0, 7, 0, 80]].concat();
        for (said, source) in [
            (
                b"PROXY TCP4 203.0.113.7 10.0.0.2 4660 80\r\n".to_vec(),
                "203.0.113.7:4660",
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 7 80\r\n".to_vec(),
                "[2001:db8::1]:7",
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), "nobody"),
            (b"PROXY UNKNOWN ffff::1 ::1 7 80\r\n".to_vec(), "nobody"),
            (version_2(0x21, 0x11, &v4, b""), "203.0.113.7:4660"),
            (
                version_2(0x21, 0x11, &v4, &[4, 0, 1, 9]),
                "203.0.113.7:4660",
            ),
            (version_2(0x21, 0x21, &v6, b""), "[::1]:7"),
            (version_2(0x21, 0x21, &mapped, b""), "203.0.113.7:7"),
            (version_2(0x20, 0x00, b"", b""), "nobody"),
            (version_2(0x20, 0x11, &v4, b""), "nobody"),
        ] {
            let expected = Ok((source.to_owned(), b"HELLO".len()));
            assert_eq!(told(&said), expected, "{}", said.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_proxy_protocol_is_refused() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 2, 0x12, 0x34, 0, 80];
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
        for said in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.7 10.0.0.2 4660\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.700 10.0.0.2 1 2\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 ::1 7 80\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.7 10.0.0.2 4660 80\r\n".to_vec(),
            long,
            version_2(0x11, 0x11, &v4, b""),
            version_2(0x22, 0x11, &v4, b""),
            version_2(0x21, 0x11, &v4[..8], b""),
            version_2(0x21, 0x31, &[0; 216], b""),
            version_2(0x21, 0x11, &v4, &[0; 5000]),
            [b"\x16\x03\x01\x02".as_slice(), &[0; 40]].concat(),
        ] {
            let told = told(&said).map(|_| ());
            assert_eq!(
                told,
                Err(io::ErrorKind::InvalidData),
                "{}",
                said.escape_ascii()
            );
        }
    }
}
