//! Names are asked for at the machine's name servers, and asked for again when their answers' time is over. An answer
//! that was good serves on for a while when no other is to be had: what answers names fails more often than what they
//! name.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts, ResolverOpts};
use tokio::runtime::Handle;

use super::address::{self, Found, Resolver};
use crate::clock::{Clock, SystemClock, within};

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long an answer without a time of its own holds.
const UNTIMED: Duration = Duration::from_secs(5);

/// Where the machine says which name servers it has, and what it knows by itself.
const CONFIGURATION: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The name servers that the machine names, and its own list of hosts. Both are read again when they change. Where
/// they cannot be read, the system's own resolver is asked, which says nothing of times.
#[derive(Default)]
pub struct NameServers(Mutex<Option<Read>>);

/// What was read, and of which age it is.
struct Read {
    of: [Option<SystemTime>; 2],
    resolver: Option<TokioResolver>,
}

impl Read {
    fn now(of: [Option<SystemTime>; 2]) -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            settle(builder.options_mut());
            builder.build()
        });
        Self {
            of,
            resolver: resolver.ok(),
        }
    }
}

/// What is kept is kept by [`Cached`].
fn settle(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = ResolveHosts::Always;
    options.timeout = PATIENCE;
}

fn ages() -> [Option<SystemTime>; 2] {
    CONFIGURATION.map(|path| Path::new(path).metadata().ok()?.modified().ok())
}

impl NameServers {
    fn current(&self) -> Option<TokioResolver> {
        let of = ages();
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if read.as_ref().is_none_or(|read| read.of != of) {
            *read = Some(Read::now(of));
        }
        read.as_ref()?.resolver.clone()
    }
}

impl Resolver for NameServers {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>> {
        Box::pin(async move {
            match self.current() {
                Some(resolver) if host.parse::<IpAddr>().is_err() => {
                    ask(&resolver, host, port).await
                }
                Some(_) | None => Ok(Found {
                    holds: Some(UNTIMED),
                    ..address::resolve(host, port).await?
                }),
            }
        })
    }
}

async fn ask(resolver: &TokioResolver, host: &str, port: u16) -> io::Result<Found> {
    let answer = resolver.lookup_ip(host).await.map_err(io::Error::other)?;
    let addresses: Vec<SocketAddr> = answer.iter().map(|ip| SocketAddr::new(ip, port)).collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Its time is by the machine's clock, whatever the gateway's is.
    let holds = answer
        .valid_until()
        .saturating_duration_since(SystemClock.instant());
    Ok(Found {
        addresses,
        holds: Some(holds),
    })
}

/// The least and the longest time that an answer holds, whatever it says.
const LEAST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// How long beyond its time an answer serves while no other is to be had.
const OVERTIME: Duration = Duration::from_mins(5);

/// How long is waited for another answer where the last one could serve, and how soon it is tried again.
const SOON: Duration = Duration::from_millis(500);
const AGAIN: Duration = Duration::from_secs(1);

/// More names than this are not kept: those that are called stand in the policies.
const MOST: usize = 4096;

/// Keeps what another resolver finds for as long as it holds, and asks it one question at a time for each name.
pub struct Cached {
    source: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    /// Where questions are asked: what asks may end before it is answered.
    handle: Handle,
    known: Arc<Mutex<HashMap<Box<str>, Known>>>,
}

/// What is known of a name.
#[derive(Default)]
struct Known {
    addresses: Arc<[IpAddr]>,
    /// Until when it holds, and until when it serves.
    holds: Option<Instant>,
    serves: Option<Instant>,
    asked: Option<Asked>,
}

/// A question that is under way.
type Asked = Shared<BoxFuture<'static, Answer>>;

/// An error is told to all who wait.
type Answer = Result<Arc<[IpAddr]>, Arc<io::Error>>;

/// What a look at what is known comes to.
enum Look {
    /// An answer that holds.
    Known(Arc<[IpAddr]>),
    /// The question for one, and what serves meanwhile.
    Asked(Asked, Option<Arc<[IpAddr]>>),
}

impl Known {
    fn is_until(until: Option<Instant>, now: Instant) -> bool {
        until.is_some_and(|until| now < until)
    }
}

impl Cached {
    /// Asks `source` on the runtime `handle`.
    pub fn new(source: Arc<dyn Resolver>, clock: Arc<dyn Clock>, handle: Handle) -> Self {
        Self {
            source,
            clock,
            handle,
            known: Arc::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Box<str>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, host: &str) -> Look {
        let now = self.clock.instant();
        let mut all = self.known();
        if all.len() >= MOST {
            all.retain(|_, known| Known::is_until(known.serves, now) || known.asked.is_some());
        }
        let known = all.entry(host.into()).or_default();
        let serves = Known::is_until(known.serves, now).then(|| Arc::clone(&known.addresses));
        match serves {
            Some(addresses) if Known::is_until(known.holds, now) => Look::Known(addresses),
            serves => {
                let asked = known.asked.get_or_insert_with(|| self.ask(host)).clone();
                Look::Asked(asked, serves)
            }
        }
    }

    /// Asks, and notes what is answered.
    fn ask(&self, host: &str) -> Asked {
        let (source, clock) = (Arc::clone(&self.source), Arc::clone(&self.clock));
        let (known, host) = (Arc::clone(&self.known), Box::<str>::from(host));
        // Whoever waits may leave: it is answered and noted all the same.
        let answer = self.handle.spawn(async move {
            let found = source.resolve(&host, 0).await;
            let now = clock.instant();
            let mut all = known.lock().unwrap_or_else(PoisonError::into_inner);
            match all.get_mut(&host) {
                Some(known) => known.note(found, now),
                None => Err(Arc::new(io::ErrorKind::NotFound.into())),
            }
        });
        let gone = |_| Err(Arc::new(io::Error::other("nobody answers")));
        let answer = answer.map(move |answer| answer.unwrap_or_else(gone));
        answer.boxed().shared()
    }
}

impl Known {
    fn note(&mut self, found: io::Result<Found>, now: Instant) -> Answer {
        self.asked = None;
        match found {
            Ok(Found { addresses, holds }) => {
                let addresses: Arc<[IpAddr]> = addresses.iter().map(SocketAddr::ip).collect();
                // What has no time is not kept.
                if let Some(holds) = holds {
                    let until = now + holds.clamp(LEAST, LONGEST);
                    self.addresses = Arc::clone(&addresses);
                    (self.holds, self.serves) = (Some(until), Some(until + OVERTIME));
                }
                Ok(addresses)
            }
            Err(error) => {
                // As long as the last answer serves, nobody has to wait for each failure.
                self.holds = Some(now + AGAIN);
                Err(Arc::new(error))
            }
        }
    }
}

impl Resolver for Cached {
    /// How long it holds is minded here, and nobody else's business.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>> {
        let found = move |ips: &[IpAddr]| Found {
            addresses: ips.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
            holds: None,
        };
        Box::pin(async move {
            if let Ok(ip) = host.parse() {
                return Ok(found(&[ip]));
            }
            let ips = match self.look(host) {
                Look::Known(known) => known,
                Look::Asked(asked, None) => asked.await.map_err(copied)?,
                Look::Asked(asked, Some(known)) => match within(SOON, asked).await {
                    Some(Ok(found)) => found,
                    Some(Err(_)) | None => known,
                },
            };
            Ok(found(&ips))
        })
    }
}

/// The same error once more.
fn copied(error: Arc<io::Error>) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Answers what it is told to, and counts how often it was asked.
    #[derive(Default)]
    struct Told {
        answer: Mutex<Option<(IpAddr, Option<Duration>)>>,
        asked: AtomicUsize,
        is_silent: std::sync::atomic::AtomicBool,
    }

    impl Resolver for Told {
        fn resolve<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = *self.answer.lock().expect("not poisoned");
            Box::pin(async move {
                if self.is_silent.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let (ip, holds) = answer.ok_or(io::ErrorKind::NotFound)?;
                Ok(Found {
                    addresses: vec![SocketAddr::new(ip, port)],
                    holds,
                })
            })
        }
    }

    struct Scene {
        told: Arc<Told>,
        clock: ManualClock,
        cached: Cached,
    }

    impl Scene {
        fn new() -> Self {
            let told = Arc::new(Told::default());
            let clock = ManualClock::at(SystemClock.now());
            let source: Arc<dyn Resolver> = Arc::<Told>::clone(&told);
            let cached = Cached::new(source, Arc::new(clock.clone()), Handle::current());
            Self {
                told,
                clock,
                cached,
            }
        }

        fn tell(&self, answer: &str, holds: Option<u64>) {
            let ip = answer.parse::<IpAddr>().ok();
            let answer = ip.map(|ip| (ip, holds.map(Duration::from_secs)));
            *self.told.answer.lock().expect("not poisoned") = answer;
        }

        async fn find(&self) -> String {
            match self.cached.resolve("a.test", 9).await {
                Ok(found) => found.addresses[0].to_string(),
                Err(error) => error.kind().to_string(),
            }
        }

        fn asked(&self) -> usize {
            self.told.asked.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn an_answer_holds_for_its_time_within_bounds() {
        for (holds, until) in [(0, 1), (60, 60), (86_400, 300)] {
            let scene = Scene::new();
            scene.tell("10.0.0.1", Some(holds));
            assert_eq!(scene.find().await, "10.0.0.1:9");
            scene.tell("10.0.0.2", Some(holds));
            scene
                .clock
                .advance(Duration::from_secs(until) - Duration::from_millis(1));
            assert_eq!(scene.find().await, "10.0.0.1:9", "{holds}");
            assert_eq!(scene.asked(), 1, "{holds}");
            scene.clock.advance(Duration::from_millis(1));
            assert_eq!(scene.find().await, "10.0.0.2:9", "{holds}");
            assert_eq!(scene.asked(), 2, "{holds}");
        }
    }

    #[tokio::test]
    async fn the_last_good_answer_serves_for_a_while_when_there_is_no_other() {
        let scene = Scene::new();
        scene.tell("10.0.0.1", Some(60));
        scene.find().await;
        scene.tell("", None);
        scene.clock.advance(Duration::from_secs(60));
        assert_eq!(scene.find().await, "10.0.0.1:9");
        assert_eq!(scene.find().await, "10.0.0.1:9");
        assert_eq!(scene.asked(), 2, "not with each request");
        scene.clock.advance(AGAIN);
        assert_eq!(scene.find().await, "10.0.0.1:9");
        assert_eq!(scene.asked(), 3);
        scene.clock.advance(OVERTIME - AGAIN);
        assert_eq!(scene.find().await, "entity not found");
        scene.tell("10.0.0.2", Some(60));
        assert_eq!(scene.find().await, "10.0.0.2:9");
    }

    #[tokio::test]
    async fn name_servers_that_fall_silent_hold_nobody_up_who_has_an_answer() {
        let scene = Scene::new();
        scene.tell("10.0.0.1", Some(60));
        scene.find().await;
        scene.told.is_silent.store(true, Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(60));
        let both = futures_util::future::join(scene.find(), scene.find()).await;
        assert_eq!(both, ("10.0.0.1:9".to_owned(), "10.0.0.1:9".to_owned()));
        assert_eq!(scene.asked(), 2, "one question for both");
    }

    #[tokio::test]
    async fn what_has_no_time_is_asked_for_each_time_and_a_literal_never() {
        let scene = Scene::new();
        scene.tell("10.0.0.1", None);
        scene.find().await;
        scene.tell("10.0.0.2", None);
        assert_eq!(scene.find().await, "10.0.0.2:9");
        let literal = scene.cached.resolve("::1", 81).await.expect("a literal");
        assert_eq!(literal.addresses, ["[::1]:81".parse().expect("an address")]);
        assert_eq!(scene.asked(), 2);
    }

    /// A name server on loopback that answers every question for A with this address and time, and none for AAAA.
    async fn name_server(ip: [u8; 4], time: u32) -> u16 {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let port = socket.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                // RFC 1035 section 4: the header, the question, and one record that points at its name.
                let end = 12
                    + buffer[12..length]
                        .iter()
                        .position(|byte| *byte == 0)
                        .expect("a name")
                    + 5;
                let is_a = buffer[end - 4..end - 2] == [0, 1];
                let mut answer = buffer[..end].to_vec();
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                if is_a {
                    answer.extend([0xC0, 12, 0, 1, 0, 1]);
                    answer.extend(time.to_be_bytes());
                    answer.extend([0, 4]);
                    answer.extend(ip);
                }
                socket.send_to(&answer, from).await.expect("sent");
            }
        });
        port
    }

    #[tokio::test]
    async fn a_name_server_is_asked_for_both_families_and_tells_how_long_its_answer_holds() {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
        let mut connection = ConnectionConfig::udp();
        connection.port = name_server([192, 0, 2, 7], 77).await;
        let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![connection]);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, Default::default());
        settle(builder.options_mut());
        let resolver = builder.build().expect("a resolver");
        let found = ask(&resolver, "a.test.", 443).await.expect("an answer");
        assert_eq!(
            found.addresses,
            ["192.0.2.7:443".parse().expect("an address")]
        );
        let holds = found.holds.expect("a time").as_secs_f64();
        assert!((70.0..=77.0).contains(&holds), "{holds}");
    }

    #[tokio::test]
    async fn the_machines_own_names_need_no_name_server() {
        let found = NameServers::default()
            .resolve("localhost", 81)
            .await
            .expect("an answer");
        assert!(
            found
                .addresses
                .iter()
                .all(|address| address.ip().is_loopback())
        );
    }
}
