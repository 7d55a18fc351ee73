//! Callers that connect anew for each request, with a full TLS 1.3 handshake or by resuming a session.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::http1::ask;
use super::{Door, Round, Work, between, gather, now};
use crate::message::Reader;
use crate::tokens::Request;

/// One that connects again and again. Each has sessions of its own to resume.
#[derive(Clone)]
pub(crate) struct Caller {
    door: Door,
    config: Arc<ClientConfig>,
    resumes: bool,
}

/// So many callers. Those that resume have connected once, so that they have something to resume.
pub(crate) async fn connect(
    door: &Door,
    count: usize,
    resumes: bool,
    first: &Request,
) -> Result<Vec<Caller>, String> {
    let mut callers = Vec::new();
    for _ in 0..count {
        let caller = Caller::new(door, resumes)?;
        if resumes {
            caller.ask(first).await?;
        }
        callers.push(caller);
    }
    Ok(callers)
}

/// All callers for a while.
pub(crate) async fn run(callers: &[Caller], work: Work) -> Result<Round, String> {
    let work = Arc::new(work);
    let mut running = JoinSet::new();
    for caller in callers {
        let caller = caller.clone();
        let work = Arc::clone(&work);
        running.spawn(async move { caller.call(&work).await });
    }
    let done = gather(running).await?;
    let seconds = between(work.begun, now()) / 1e3;
    let (latencies, resumed): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    Ok(Round {
        resumed: resumed.into_iter().sum(),
        ..Round::new(latencies.concat(), seconds)
    })
}

impl Caller {
    fn new(door: &Door, resumes: bool) -> Result<Self, String> {
        let shared = door.tls.as_deref().ok_or("a handshake needs TLS")?;
        let mut config = shared.clone();
        config.resumption = if resumes {
            Resumption::in_memory_sessions(8)
        } else {
            Resumption::disabled()
        };
        Ok(Self {
            door: door.clone(),
            config: Arc::new(config),
            resumes,
        })
    }

    async fn call(&self, work: &Work) -> Result<(Vec<f64>, usize), String> {
        let (mut latencies, mut resumed) = (Vec::new(), 0);
        let mut begun = now();
        while let Some(request) = work.next(begun) {
            let (status, kind) = self.ask(request).await?;
            work.check(status)?;
            resumed += usize::from(kind == HandshakeKind::Resumed);
            let ended = now();
            latencies.push(between(begun, ended));
            begun = ended;
        }
        Ok((latencies, resumed))
    }

    /// One connection with one request: its status, and how the handshake went.
    async fn ask(&self, request: &Request) -> Result<(u16, HandshakeKind), String> {
        let mut stream = self.door.tls(Arc::clone(&self.config)).await?;
        let status = ask(&mut stream, &mut Reader::new(), request).await?;
        let (_, tls) = stream.get_ref();
        let kind = tls.handshake_kind().ok_or("no handshake")?;
        if tls.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err("did not speak TLS 1.3".to_owned());
        }
        if !self.resumes && kind != HandshakeKind::Full {
            return Err(format!("a handshake was {kind:?} that should be full"));
        }
        // The other side may have closed before.
        let _ = stream.shutdown().await;
        Ok((status, kind))
    }
}
