//! A connection to Redis: one server or a cluster, signed in, bounded in time.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind,
    IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind,
    TlsCertificates, Value,
};

use super::settings::{Node, Settings, SignIn};
use crate::clock::within;
use crate::net::tls::Roots;

/// How long it may take until there is a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// How often a cluster's client asks again by itself: where a slot has moved, say.
const RETRIES: u32 = 2;

/// A connection. To be dropped when a command on it has failed: nobody knows then which answers are still to come.
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The answer to one command, or what is the matter with the key that it names.
pub(super) type Answered = Result<Value, RedisError>;

/// Why there is no answer. Holds nothing secret: of what was sent, only names of commands appear in Redis' errors.
#[derive(Debug)]
pub(super) enum LinkError {
    Late(Duration),
    Redis(RedisError),
    /// There is no password or token yet.
    NoSignIn,
    /// The answer is not what the scripts answer.
    Unreadable,
}

impl LinkError {
    /// The server does not know the script by its hash.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Redis(error) if is_unknown_script(error.kind()))
    }
}

fn is_unknown_script(kind: ErrorKind) -> bool {
    kind == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether the server only says that a script could do nothing with what lies at its key. Before Redis 7 all that is
/// met within a script is `ERR`, what is the matter with the server as well.
fn is_of_key(error: &RedisError) -> bool {
    const OF_SERVER: [&str; 5] = ["OOM", "READONLY", "MISCONF", "NOREPLICAS", "can't run this"];
    match error.code() {
        Some("WRONGTYPE") => true,
        Some("ERR") => {
            let text = error.to_string();
            text.contains("script") && !OF_SERVER.iter().any(|word| text.contains(word))
        }
        _ => false,
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            Self::Redis(error) => error.fmt(f),
            Self::NoSignIn => f.write_str("there is no password or token to sign in with yet"),
            Self::Unreadable => f.write_str("the answer is not one of the gateway's scripts"),
        }
    }
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl Link {
    /// Connects and signs in.
    pub(super) async fn open(
        settings: &Settings,
        sign_in: Option<&SignIn>,
    ) -> Result<Self, LinkError> {
        let opening = async {
            match settings.cluster {
                false => one(settings, sign_in).await.map(Self::One),
                true => cluster(settings, sign_in).await.map(Self::Cluster),
            }
        };
        let opened = within(CONNECT, opening).await;
        Ok(opened.ok_or(LinkError::Late(CONNECT))??)
    }

    /// Sends commands at once, and returns an answer for each.
    pub(super) async fn send(
        &mut self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<Vec<Answered>, LinkError> {
        let many = commands.len();
        let sending = async {
            match self {
                Self::One(link) => link.req_packed_commands(commands, 0, many).await,
                Self::Cluster(link) => link.req_packed_commands(commands, 0, many).await,
            }
        };
        let sent = within(limit, sending).await;
        let values = sent.ok_or(LinkError::Late(limit))??;
        let values = values.into_iter().map(|value| match value.extract_error() {
            Err(error) if is_of_key(&error) => Ok(Err(error)),
            // A failure of one is a failure of all: they are sent again as they are.
            answer => answer.map(Ok),
        });
        Ok(values.collect::<Result<_, _>>()?)
    }

    /// Asks one thing.
    pub(super) async fn ask(&mut self, command: &Cmd, limit: Duration) -> Result<Value, LinkError> {
        let asking = async {
            match self {
                Self::One(link) => link.req_packed_command(command).await,
                Self::Cluster(link) => link.req_packed_command(command).await,
            }
        };
        let asked = within(limit, asking).await;
        Ok(asked.ok_or(LinkError::Late(limit))??.extract_error()?)
    }

    /// Signs in anew on a connection that is in use: at Azure's Redis it ends with the token otherwise.
    pub(super) async fn sign_in(
        &mut self,
        sign_in: &SignIn,
        limit: Duration,
    ) -> Result<(), LinkError> {
        let mut command = redis::cmd("AUTH");
        // No user is the default one, who has no name before Redis 6.
        if !sign_in.user.is_empty() {
            command.arg(&sign_in.user);
        }
        command.arg(sign_in.password.expose());
        let signing = async {
            match self {
                Self::One(link) => link.req_packed_command(&command).await,
                Self::Cluster(link) => everywhere(link, command).await,
            }
        };
        let signed = within(limit, signing).await;
        signed.ok_or(LinkError::Late(limit))??.extract_error()?;
        Ok(())
    }
}

async fn everywhere(link: &mut ClusterConnection, command: Cmd) -> Result<Value, RedisError> {
    let all = (
        MultipleNodeRoutingInfo::AllNodes,
        Some(ResponsePolicy::AllSucceeded),
    );
    link.route_command(command, RoutingInfo::MultiNode(all))
        .await
}

async fn one(
    settings: &Settings,
    sign_in: Option<&SignIn>,
) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT));
    client(settings, sign_in)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn client(settings: &Settings, sign_in: Option<&SignIn>) -> Result<Client, RedisError> {
    let info = info(&settings.node, sign_in)?;
    match settings.node.tls {
        false => Client::open(info),
        true => Client::build_with_tls(info, certificates(settings)),
    }
}

async fn cluster(
    settings: &Settings,
    sign_in: Option<&SignIn>,
) -> Result<ClusterConnection, RedisError> {
    let mut builder = ClusterClientBuilder::new([info(&settings.node, sign_in)?])
        .retries(RETRIES)
        .connection_timeout(CONNECT)
        .response_timeout(CONNECT);
    if settings.node.tls {
        builder = builder.certs(certificates(settings));
    }
    builder.build()?.get_async_connection().await
}

fn info(node: &Node, sign_in: Option<&SignIn>) -> Result<ConnectionInfo, RedisError> {
    let Node { host, port, tls } = node;
    let (host, port) = (host.clone(), *port);
    let address = match tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
    };
    // Who the library is, an administrator may have forbidden to say.
    let mut redis = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(SignIn { user, password }) = sign_in {
        redis = redis.set_password(password.expose());
        if !user.is_empty() {
            redis = redis.set_username(user);
        }
    }
    Ok(address.into_connection_info()?.set_redis_settings(redis))
}

fn certificates(settings: &Settings) -> TlsCertificates {
    let root_cert = match &settings.roots {
        Roots::Platform => None,
        Roots::Pem(pem) => Some(pem.clone()),
    };
    TlsCertificates {
        client_tls: None,
        root_cert,
    }
}

#[cfg(test)]
mod tests {
    use redis::make_extension_error;

    use super::*;

    #[test]
    fn what_is_the_matter_with_one_key_is_told_from_what_is_the_matter_with_the_server() {
        let general = |text: &str| {
            let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
            RedisError::from((kind, "An error was signalled", text.to_owned()))
        };
        let of_kind = |kind| RedisError::from((ErrorKind::Server(kind), "An error was signalled"));
        let with_code = |code: &str| make_extension_error(code.to_owned(), None);
        for (error, expected) in [
            (with_code("WRONGTYPE"), true),
            (
                general(
                    "user_script:31: attempt to perform arithmetic on a nil value script: 01ab, on @user_script:31.",
                ),
                true,
            ),
            // Redis 6.
            (
                general(
                    "Error running script (call to f_01ab): @user_script:31: WRONGTYPE Operation against a key",
                ),
                true,
            ),
            (
                general(
                    "Error running script (call to f_01ab): @user_script:85: -OOM command not allowed",
                ),
                false,
            ),
            (
                general(
                    "Error running script (call to f_01ab): @user_script:85: -READONLY You can't write",
                ),
                false,
            ),
            (general("unknown command 'EVALSHA'"), false),
            (with_code("OOM"), false),
            (with_code("NOAUTH"), false),
            (with_code("MISCONF"), false),
            (of_kind(ServerErrorKind::BusyLoading), false),
            (of_kind(ServerErrorKind::NoPerm), false),
            (of_kind(ServerErrorKind::ClusterDown), false),
        ] {
            assert_eq!(is_of_key(&error), expected, "{error}");
        }
    }
}
