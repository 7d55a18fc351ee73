//! Redis, where replicas count limits together: whether the gateway could use it from here.

use super::{Area, Finding, Surroundings};
use crate::files::{LimitStore, Redis, RedisNode, RedisSignIn};
use crate::limits::shared::{Fault, Found, Step, probe};
use crate::running;

/// Tells of `limits.store`, once what signs in there is fetched.
pub(super) async fn limits(surroundings: &Surroundings<'_>) -> Option<Finding> {
    let LimitStore::Redis(redis) = &surroundings.gateway.limits.store else {
        return None;
    };
    let RedisNode { host, port, tls } = &redis.node.value;
    let scheme = if *tls { "rediss" } else { "redis" };
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
    };
    let name = format!("limits.store {scheme}://{host}:{port}");
    let lasting = surroundings.lasting;
    let settings = running::store_settings(
        surroundings.gateway,
        redis,
        &lasting.credentials,
        &lasting.clock,
    );
    let settings = match settings {
        Ok(settings) => settings,
        Err(why) => {
            return Some(Finding::bad(
                Area::Limits,
                name,
                super::plain(&why),
                "mend this first, and run the doctor again",
            ));
        }
    };
    Some(match probe(&settings).await {
        Ok(Found::Sound) => Finding::good(
            Area::Limits,
            name,
            "lets the gateway in, and runs its scripts",
        ),
        Ok(Found::Cluster) => Finding::warning(
            Area::Limits,
            name,
            "lets the gateway in, and runs its scripts, but is one server of a cluster: limits are away once their keys move to another",
            "write `cluster: true` in `limits.store.redis`",
        ),
        Err(fault) => Finding::bad(Area::Limits, name, fault.why.clone(), advice(&fault, redis)),
    })
}

fn advice(fault: &Fault, redis: &Redis) -> String {
    let Redis {
        node, ca, prefix, ..
    } = redis;
    let tls = node.value.tls;
    match fault.step {
        Step::Resolve => "see that the host in `limits.store.redis.url` is spelt right and that this network's DNS knows it (with a private endpoint: link its zone to this virtual network)".to_owned(),
        Step::Connect => "see that Redis runs and listens on that port (Azure's on 6380 or 10000), and that its firewall or private endpoint lets this network in".to_owned(),
        Step::HaveSignIn => "what signs in was not fetched: see the lines of its token or its secret first".to_owned(),
        Step::SignIn => match redis.sign_in {
            RedisSignIn::Nobody => "it wants to know who calls: write `identity`, or `user` and `password`, in `limits.store.redis`".to_owned(),
            RedisSignIn::Password { .. } => "see that `user` and `password` in `limits.store.redis` are those of Redis; without `user` it is the default one's password".to_owned(),
            RedisSignIn::Identity { .. } => "let Redis take Entra tokens, and give the identity a data access policy there; `user` is its object ID".to_owned(),
        },
        Step::BeCluster => "it is no cluster: leave `cluster` out of `limits.store.redis`".to_owned(),
        Step::BeOne => "it is a cluster: write `cluster: true` in `limits.store.redis`; if that stands there already, see that the cluster is whole".to_owned(),
        Step::Allow => format!(
            "let the user run +ping +eval +evalsha +time +hgetall +hset +hdel +hlen +pexpire on ~{{{prefix}}}:* (Azure: a data access policy, Data Contributor for one)"
        ),
        Step::Write => "let `limits.store.redis.url` lead to the primary, and give it room: limits need some hundred bytes for each caller".to_owned(),
        Step::Answer if tls && ca.is_some() => "if its certificate does not verify, see that `limits.store.redis.ca` is the CA that signed it, and `url` a name that it holds; otherwise see that it speaks TLS on that port".to_owned(),
        Step::Answer if tls => "if a CA of your own signed its certificate, name that in `limits.store.redis.ca`, and call it by a name that the certificate holds; otherwise see that it speaks TLS on that port".to_owned(),
        Step::Answer => "see that this is Redis 6 or later, and what its own log says".to_owned(),
    }
}
