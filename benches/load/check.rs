//! Does each proxy do its job? Asked of every one before it is measured.

use std::time::Duration;

use bytes::Bytes;
use portcullis::clock::{Clock as _, SystemClock, pause};
use portcullis::demo::mint::damaged;

use crate::caller::Door;
use crate::caller::http1::Caller;
use crate::proxy::Proxy;
use crate::stage::Stage;
use crate::tokens::{self, BODY, Request};

/// Longest until it serves: keys may have to be fetched first.
const PATIENCE: Duration = Duration::from_secs(10);

/// The requests that show it, made once.
pub(crate) struct Proof {
    pub(crate) good: Request,
    /// What has to become of the others at a proxy that guards.
    bad: [(&'static str, Request, u16); 2],
}

impl Proof {
    pub(crate) fn new(stage: &Stage) -> Self {
        let request = |token: &str| Request::new(token, &Bytes::from_static(BODY));
        let good = tokens::good(&stage.entra);
        let other = tokens::without_role(&stage.entra);
        Self {
            bad: [
                ("a bad signature", request(&damaged(&good)), 401),
                ("a token without the role", request(&other), 403),
            ],
            good: request(&good),
        }
    }

    /// A bad signature and a wrong claim are refused by those that guard and pass the others; and what
    /// passes reaches the backend as it should.
    pub(crate) async fn of(&self, stage: &Stage, proxy: &Proxy) -> Result<(), String> {
        let alpn = proxy.contender.has_tls().then_some(&b"http/1.1"[..]);
        let door = Door::new(proxy.address, &stage.ca, alpn);
        self.served(proxy, &door).await?;
        for (name, request, refused) in &self.bad {
            let expected = if proxy.contender.guards() {
                *refused
            } else {
                200
            };
            let status = once(&door, request)
                .await
                .map_err(|what| proxy.fault(&what))?;
            if status != expected {
                return Err(proxy.fault(&format!(
                    "answers {name} with {status} instead of {expected}"
                )));
            }
        }
        // Once more: a refusal must not have let the next one in, nor shut it out.
        let status = once(&door, &self.good)
            .await
            .map_err(|what| proxy.fault(&what))?;
        match (status, proxy.faults()) {
            (200, 0) => Ok(()),
            (200, _) => Err(proxy.fault("what reached the backend was not as it should be")),
            _ => Err(proxy.fault(&format!("answers a good request with {status}"))),
        }
    }

    /// Waits until a good request is served.
    pub(crate) async fn served(&self, proxy: &Proxy, door: &Door) -> Result<(), String> {
        let mut last = once(door, &self.good).await;
        while last != Ok(200) {
            if SystemClock.now().instant.duration_since(proxy.spawned) > PATIENCE {
                return Err(proxy.fault(&format!("does not serve a good request: {last:?}")));
            }
            pause(Duration::from_millis(1)).await;
            last = once(door, &self.good).await;
        }
        Ok(())
    }
}

async fn once(door: &Door, request: &Request) -> Result<u16, String> {
    Caller::connect(door).await?.ask(request).await
}
