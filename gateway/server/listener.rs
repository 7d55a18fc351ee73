//! Listening sockets: one a worker, all on one address, among which the kernel spreads connections. Or those that
//! systemd holds and hands over, which outlive the process.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Bytes of an answer that the kernel takes before it can send them. With more, it is not seen for minutes whether a
/// slow caller takes anything, and each of them costs the kernel megabytes.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 64 * 1024;

/// Who may listen beside this gateway on the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Nobody: sockets that share a port would let two gateways take each other's callers unnoticed.
    Nobody,
    /// Another gateway, which takes over or is taken over from.
    Another,
}

/// Whether the address could be bound: nobody is listened for.
///
/// # Errors
/// When the address cannot be bound, or somebody listens there who may not.
pub fn try_address(address: SocketAddr, beside: Beside) -> io::Result<()> {
    bound(address, beside == Beside::Another).map(drop)
}

/// Binds a socket for each of `workers`. With port 0 the first gets a free port and the others share it.
///
/// # Errors
/// When the address cannot be bound, or somebody listens there who may not.
pub fn bind(address: SocketAddr, workers: usize, beside: Beside) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 && beside == Beside::Nobody {
        try_address(address, beside)?;
    }
    let first = socket(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(socket(address)?);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, true)?;
    socket.listen(BACKLOG)?;
    prepare(socket.into())
}

fn bound(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn prepare(listener: TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Connections have it from their listener.
    #[cfg(target_os = "linux")]
    SockRef::from(&listener).set_tcp_notsent_lowat(MOST_UNSENT)?;
    Ok(listener)
}

/// The sockets that were handed over to this process (sd_listen_fds(3)); none where there are none. To be called
/// before there are other threads, and once.
///
/// # Errors
/// When they are no TCP sockets.
pub fn handed_over() -> io::Result<Vec<TcpListener>> {
    // They are somebody else's if they name another process, or nobody.
    let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !is_ours {
        return Ok(Vec::new());
    }
    let mut handed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for at in 0..handed.len() {
        if let Some(listener) = handed.take_tcp_listener(at)? {
            listeners.push(prepare(listener)?);
        }
    }
    Ok(listeners)
}

/// Takes out of those that were handed over the ones for `address`: all, if any port will do.
pub fn those_for(handed: &mut Vec<TcpListener>, address: SocketAddr) -> Vec<TcpListener> {
    let is_for = |listener: &mut TcpListener| {
        let bound = listener.local_addr();
        address.port() == 0 || bound.is_ok_and(|bound| bound.port() == address.port())
    };
    handed.extract_if(.., is_for).collect()
}

/// A socket for each of `workers` of those that were handed over. Several workers share one where there are fewer.
///
/// # Errors
/// When they are not for `address`, or more than there are workers: on some of them nobody would accept.
pub fn share_out(
    mut handed: Vec<TcpListener>,
    address: SocketAddr,
    workers: usize,
) -> io::Result<Vec<TcpListener>> {
    let refused = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    for listener in &handed {
        let bound = listener.local_addr()?;
        if bound.port() != address.port() && address.port() != 0 {
            return refused(format!(
                "the socket that was handed over (LISTEN_FDS) is for {bound}"
            ));
        }
    }
    let given = handed.len();
    if given > workers {
        return refused(format!(
            "{given} sockets were handed over (LISTEN_FDS) to {workers} workers"
        ));
    }
    for at in given..workers {
        let shared = handed.get(at % given.max(1)).map(TcpListener::try_clone);
        handed.extend(shared.transpose()?);
    }
    Ok(handed)
}

/// Lets nobody new begin to connect: who tries is not answered, and tries again a second later, when the socket is
/// closed and another may listen. Whoever has begun is still let through, so that the last of them can be accepted:
/// closing a socket resets whom it has queued.
#[cfg(target_os = "linux")]
pub(super) fn close_to_newcomers(listener: &tokio::net::TcpListener) {
    use socket2::SockFilter;
    // Classic BPF over the TCP header: of SYN and ACK in its flags (RFC 9293 section 3.1), SYN alone is dropped.
    let filter = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x54, 0, 0, 0x12),
        SockFilter::new(0x15, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    // Where the kernel does not have it, a few may be reset.
    let _ = SockRef::from(listener).attach_filter(&filter);
}

/// Other systems have no such thing: a few may be reset.
#[cfg(not(target_os = "linux"))]
pub(super) fn close_to_newcomers(_: &tokio::net::TcpListener) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn sockets_that_are_handed_over_are_shared_among_the_workers() {
        let listener = socket(any()).expect("bound");
        let bound = listener.local_addr().expect("an address");
        let shared = share_out(vec![listener], bound, 3).expect("shared");
        let ports = shared.iter().map(|one| one.local_addr().expect("bound"));
        assert_eq!(ports.collect::<Vec<_>>(), [bound; 3]);
    }

    #[test]
    fn sockets_for_another_port_or_too_many_of_them_are_refused() {
        let sockets =
            |count| -> Vec<_> { (0..count).map(|_| socket(any()).expect("bound")).collect() };
        let elsewhere = SocketAddr::new(any().ip(), 1);
        let why = share_out(sockets(1), elsewhere, 1).expect_err("refused");
        assert!(why.to_string().contains("is for 127.0.0.1:"), "{why}");
        let why = share_out(sockets(3), any(), 2).expect_err("refused");
        assert!(why.to_string().contains("3 sockets"), "{why}");
    }

    #[test]
    fn an_address_is_shared_with_nobody_unless_that_is_asked_for() {
        let first = bind(any(), 2, Beside::Nobody).expect("bound");
        let bound = first[0].local_addr().expect("an address");
        assert!(bind(bound, 1, Beside::Nobody).is_err());
        assert!(bind(bound, 1, Beside::Another).is_ok());
    }

    #[tokio::test]
    async fn who_has_begun_to_connect_is_accepted_and_nobody_begins_any_more() {
        let listener = socket(any()).expect("bound");
        let bound = listener.local_addr().expect("an address");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let early = tokio::net::TcpStream::connect(bound)
            .await
            .expect("connected");
        close_to_newcomers(&listener);
        let patience = std::time::Duration::from_millis(300);
        let late = crate::clock::within(patience, tokio::net::TcpStream::connect(bound)).await;
        assert!(late.is_none(), "{late:?}");
        let (_, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer, early.local_addr().expect("an address"));
    }
}
