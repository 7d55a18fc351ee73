//! Where limits are counted as it is written in gateway.yaml, and what holds while that place cannot be reached.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::credential::{Identity, reader};
use super::decode::{Table, expected, spanned};
use super::diagnostics::Diagnostics;
use super::gateway::{LEAST, SECOND};
use super::node::{Entry, Node, Value};
use super::secret::{SecretSource, literal_secret, secret_source};
use super::source::Spanned;
use super::values::{boolean, choice, duration, host_and_port, is_loopback, path, text, token};

/// `limits.store`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LimitStore {
    /// `local`: in the process; each replica counts by itself.
    #[default]
    Local,
    /// `redis`: in one Redis for all replicas.
    Redis(Box<Redis>),
}

/// `limits.onStoreFailure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// Each replica admits its part of the limit.
    #[default]
    LocalShare,
    /// Everything is admitted, and counted afterwards.
    Allow,
    /// Nothing is admitted.
    Deny,
}

/// `limits.store.redis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Redis {
    /// Where it is; of a cluster, any of its nodes.
    pub node: Spanned<RedisNode>,
    /// Whether it is a cluster. Default: it is not.
    pub cluster: bool,
    /// A PEM file of roots to trust for it, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
    /// What all keys begin with. Default `portcullis`.
    pub prefix: String,
    /// How long a request waits for it. Default 100 ms.
    pub timeout: Duration,
    /// How the gateway signs in.
    pub sign_in: RedisSignIn,
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisNode {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// How the gateway signs in to Redis.
#[derive(Clone, Debug, PartialEq)]
pub enum RedisSignIn {
    /// Not at all.
    Nobody,
    /// By a password.
    Password {
        /// The user; the default one where it is absent.
        user: Option<String>,
        /// Where the password is read.
        password: Spanned<SecretSource>,
    },
    /// By an Entra token, at Azure's Redis.
    Identity {
        /// The user: the object ID of the identity, which its token says where it is absent here.
        user: Option<String>,
        /// Whose token.
        identity: Identity,
    },
}

/// Takes `store` and `onStoreFailure` apart. `None` where the store is at fault.
pub(super) fn store_of(
    table: &mut Table<'_>,
    d: &mut Diagnostics,
) -> Option<(LimitStore, OnStoreFailure)> {
    let choices = [
        ("localShare", OnStoreFailure::LocalShare),
        ("allow", OnStoreFailure::Allow),
        ("deny", OnStoreFailure::Deny),
    ];
    let written = table.entry("store");
    let store = match written {
        None => Some(LimitStore::Local),
        Some(entry) => store(&entry.value, d),
    };
    let entry = table.entry("onStoreFailure");
    let on_failure = entry.and_then(|entry| choice(&entry.value, &choices, d));
    // To write the default down is no fault.
    let chosen = on_failure.is_some_and(|chosen| chosen != OnStoreFailure::LocalShare);
    if let (Some(entry), Some(LimitStore::Local), true) = (entry, &store, chosen) {
        d.error(&entry.span, "a store in the process does not fail")
            .help("say this beside `store: { redis: .. }`, or leave it out");
    }
    Some((store?, on_failure.unwrap_or_default()))
}

const STORES: &str = "`local`, or `{ redis: .. }`";

fn store(node: &Node, d: &mut Diagnostics) -> Option<LimitStore> {
    match &node.value {
        Value::Plain(_) | Value::Quoted(_) => {
            choice(node, &[("local", ())], d).map(|()| LimitStore::Local)
        }
        Value::Mapping(_) => {
            let mut table = Table::of(node, STORES, d)?;
            let help = "say where it is: `redis: rediss://contoso.redis.azure.net:10000`";
            let redis = table.required("redis", help, d, redis);
            table.finish(d);
            Some(LimitStore::Redis(Box::new(redis?)))
        }
        Value::Null | Value::List(_) | Value::Refused => {
            expected(node, STORES, d);
            None
        }
    }
}

fn redis(node: &Node, d: &mut Diagnostics) -> Option<Redis> {
    const URL: &str = "write `url: rediss://contoso.redis.azure.net:10000`";
    if let Value::Plain(_) | Value::Quoted(_) = &node.value {
        return spanned(redis_node)(node, d).map(Redis::at);
    }
    let mut table = Table::of(node, "the URL of a Redis, or `{ url: .. }`", d)?;
    let node = table.required("url", URL, d, spanned(redis_node));
    let cluster = table.optional("cluster", d, boolean);
    let ca = table.optional("ca", d, spanned(path));
    let prefix = table.optional("prefix", d, prefix);
    let timeout = table.optional("timeout", d, |n, d| duration(n, LEAST..=5 * SECOND, d));
    let sign_in = sign_in(&mut table, d);
    table.finish(d);
    let defaults = Redis::at(node?);
    Some(Redis {
        cluster: cluster.unwrap_or(defaults.cluster),
        ca,
        prefix: prefix.unwrap_or(defaults.prefix),
        timeout: timeout.unwrap_or(defaults.timeout),
        sign_in: sign_in?,
        node: defaults.node,
    })
}

impl Redis {
    /// One at this place, with the defaults.
    fn at(node: Spanned<RedisNode>) -> Self {
        Self {
            node,
            cluster: false,
            ca: None,
            prefix: "portcullis".to_owned(),
            timeout: Duration::from_millis(100),
            sign_in: RedisSignIn::Nobody,
        }
    }
}

fn sign_in(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<RedisSignIn> {
    let written = table.entry("user");
    let user = match written {
        Some(entry) => Some(token(&entry.value, "a user", d)?),
        None => None,
    };
    match (table.entry("identity"), table.entry("password")) {
        (None, None) => {
            if let Some(entry) = written {
                d.error(&entry.span, "this user does not say how to sign in")
                    .help("write `identity: { managedIdentity: {} }`, or `password: { keyVault: .. }`");
            }
            Some(RedisSignIn::Nobody)
        }
        (Some(identity), None) => {
            let identity = reader(&identity.value, d)?;
            Some(RedisSignIn::Identity { user, identity })
        }
        (None, Some(password)) => {
            let password = spanned(secret_source)(&password.value, d)?;
            Some(RedisSignIn::Password { user, password })
        }
        (Some(first), Some(other)) => {
            one_way(first, other, d);
            None
        }
    }
}

fn one_way(first: &Entry, other: &Entry, d: &mut Diagnostics) {
    d.error(&other.span, "the gateway signs in to Redis in one way only")
        .also(&first.span, "and this is one already");
}

/// A prefix stands in braces in each key, so that a cluster keeps them in one place.
fn prefix(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let prefix = token(node, "a prefix", d)?;
    if prefix.contains(['{', '}']) {
        d.error(&node.span, "a prefix has no braces");
        return None;
    }
    Some(prefix)
}

/// `rediss://host:port`, or `redis://host:port` on this machine.
fn redis_node(node: &Node, d: &mut Diagnostics) -> Option<RedisNode> {
    let text = text(node, "the URL of a Redis", d)?;
    if text.contains('@') {
        literal_secret(&node.span, d)
            .help("write `user` and `password: { keyVault: .. }`, `{ file: .. }` or `{ env: .. }` beside `url`");
        return None;
    }
    match RedisNode::read(&text) {
        Ok(node) => Some(node),
        Err(why) => {
            d.error(&node.span, why)
                .help("write `rediss://contoso.redis.azure.net:10000`");
            None
        }
    }
}

impl RedisNode {
    fn read(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "this is not a URL")?;
        let tls = match uri.scheme_str() {
            Some("rediss") => true,
            Some("redis") => false,
            _ => return Err("this URL begins with neither `rediss://` nor `redis://`"),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err("behind the port of this URL stands something");
        }
        let authority = uri.authority().ok_or("this URL has no host")?;
        let (host, port) =
            host_and_port(authority).ok_or("the host or port of this URL makes no sense")?;
        if !tls && !is_loopback(host) {
            return Err("`redis://` sends everything in the clear: it goes to this machine alone");
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(6379),
            tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::{GatewayDocument, GatewayLimits, VaultSecret, parse_gateway};

    fn gateway(limits: &str) -> (Option<GatewayDocument>, Diagnostics) {
        let text = format!(
            "listen: {{ address: 1.2.3.4:1, tls: platform }}\npolicies: a\nlimits: {limits}\n"
        );
        let mut diagnostics = Diagnostics::new();
        let document = parse_gateway(Path::new("/etc/gateway.yaml"), &text, &mut diagnostics);
        (document, diagnostics)
    }

    fn sound(limits: &str) -> GatewayLimits {
        let (document, diagnostics) = gateway(limits);
        assert_eq!(diagnostics.render(), "", "{limits}");
        document.expect("a document").limits
    }

    fn redis(limits: &str) -> Redis {
        match sound(limits).store {
            LimitStore::Redis(redis) => *redis,
            LimitStore::Local => panic!("{limits} is a Redis"),
        }
    }

    #[test]
    fn limits_are_counted_in_the_process_unless_said_otherwise() {
        for written in ["{}", "{ store: local }"] {
            let GatewayLimits {
                store,
                on_store_failure,
                ..
            } = sound(written);
            assert_eq!(store, LimitStore::Local);
            assert_eq!(on_store_failure, OnStoreFailure::LocalShare);
        }
    }

    #[test]
    fn a_redis_is_its_url_and_has_defaults_for_all_else() {
        for written in [
            "{ store: { redis: 'rediss://cache.example:10000' } }",
            "{ store: { redis: { url: 'rediss://cache.example:10000' } } }",
        ] {
            let Redis {
                node,
                cluster,
                ca,
                prefix,
                timeout,
                sign_in,
            } = redis(written);
            let RedisNode { host, port, tls } = node.value;
            assert_eq!((&*host, port, tls), ("cache.example", 10_000, true));
            assert_eq!((cluster, ca, &*prefix), (false, None, "portcullis"));
            assert_eq!(timeout, Duration::from_millis(100));
            assert_eq!(sign_in, RedisSignIn::Nobody);
        }
    }

    #[test]
    fn everything_about_a_redis_can_be_said() {
        let written = "{ onStoreFailure: deny, store: { redis: { url: 'rediss://c.example', cluster: true, ca: ca.pem, prefix: eu, timeout: 250ms, user: gateway, password: { keyVault: 'https://v.vault.azure.net/secrets/redis' } } } }";
        assert_eq!(sound(written).on_store_failure, OnStoreFailure::Deny);
        let Redis {
            cluster,
            ca,
            prefix,
            timeout,
            sign_in,
            ..
        } = redis(written);
        assert!(cluster);
        assert_eq!(ca.expect("a CA").value, Path::new("/etc/ca.pem"));
        assert_eq!((&*prefix, timeout), ("eu", Duration::from_millis(250)));
        let RedisSignIn::Password { user, password } = sign_in else {
            panic!("{sign_in:?}");
        };
        assert_eq!(user.as_deref(), Some("gateway"));
        assert!(matches!(
            password.value,
            SecretSource::KeyVault(VaultSecret { name, .. }) if name == "redis"
        ));

        let written = "{ store: { redis: { url: 'rediss://c.example', identity: { managedIdentity: {} } } } }";
        let identity = Identity::System;
        let user = None;
        assert_eq!(
            redis(written).sign_in,
            RedisSignIn::Identity { user, identity }
        );
    }

    #[test]
    fn what_is_wrong_with_a_store_is_said_and_no_password_repeated() {
        let in_redis = |rest: &str| format!("{{ store: {{ redis: {{ {rest} }} }} }}");
        for (written, message) in [
            ("{ store: memory }".to_owned(), "this is not `local`"),
            (
                "{ store: [local] }".to_owned(),
                "expected `local`, or `{ redis: .. }`, found a list",
            ),
            (
                "{ store: {} }".to_owned(),
                "the key `redis` is missing here",
            ),
            (
                "{ store: { redis: {} } }".to_owned(),
                "the key `url` is missing here",
            ),
            (
                "{ store: { redis: 'rediss://user:Pl4nted@c.example' } }".to_owned(),
                "a literal secret in this file",
            ),
            (
                in_redis("url: 'rediss://:Pl4nted@c.example'"),
                "a literal secret in this file",
            ),
            (
                in_redis("url: 'rediss://c.example', password: Pl4nted"),
                "a secret must not stand in this file",
            ),
            (
                in_redis("url: 'redis://c.example'"),
                "`redis://` sends everything in the clear: it goes to this machine alone",
            ),
            (
                in_redis("url: 'https://c.example'"),
                "this URL begins with neither `rediss://` nor `redis://`",
            ),
            (
                in_redis("url: 'rediss://c.example/1'"),
                "behind the port of this URL stands something",
            ),
            (
                in_redis("url: 'rediss://c.example:0'"),
                "the host or port of this URL makes no sense",
            ),
            (
                in_redis("url: 'rediss://c.example', user: a"),
                "this user does not say how to sign in",
            ),
            (
                in_redis(
                    "url: 'rediss://c.example', identity: { managedIdentity: {} }, password: { env: A }",
                ),
                "the gateway signs in to Redis in one way only",
            ),
            (
                in_redis("url: 'rediss://c.example', prefix: 'a{b}'"),
                "a prefix has no braces",
            ),
            (
                in_redis("url: 'rediss://c.example', timeout: 10s"),
                "this duration is out of bounds: from 1ms to 5s",
            ),
            (
                in_redis("url: 'rediss://c.example', clutser: true"),
                "unknown key `clutser`",
            ),
            (
                "{ store: local, onStoreFailure: deny }".to_owned(),
                "a store in the process does not fail",
            ),
            (
                "{ store: { redis: 'rediss://c.example' }, onStoreFailure: refuse }".to_owned(),
                "this is not one of `localShare`, `allow`, `deny`",
            ),
        ] {
            let (_, diagnostics) = gateway(&written);
            let rendered = diagnostics.render();
            let first = rendered.lines().next().unwrap_or_default();
            assert_eq!(first, format!("error: {message}"), "{written}");
            assert_eq!(diagnostics.errors(), 1, "{rendered}");
            assert!(!rendered.contains("Pl4nted"), "{rendered}");
        }
    }

    #[test]
    fn plain_text_goes_to_this_machine() {
        for (url, host, port) in [
            ("redis://127.0.0.1:7000", "127.0.0.1", 7_000),
            ("redis://[::1]:7000", "::1", 7_000),
            ("redis://localhost", "localhost", 6_379),
        ] {
            let node = redis(&format!("{{ store: {{ redis: '{url}' }} }}"))
                .node
                .value;
            let tls = false;
            assert_eq!(
                node,
                RedisNode {
                    host: host.to_owned(),
                    port,
                    tls
                }
            );
        }
    }
}
