//! Callers by HTTP/2: a few connections, each with several streams that ask one request after another.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::task::JoinSet;

use super::{Door, Round, Work, between, gather, now, said};

pub(crate) type Caller = SendRequest<Bytes>;

/// So many connections.
pub(crate) async fn connect(door: &Door, connections: usize) -> Result<Vec<Caller>, String> {
    let mut callers = Vec::new();
    for _ in 0..connections {
        let config = door.tls.clone().ok_or("HTTP/2 here is by TLS alone")?;
        let stream = door.tls(config).await?;
        let (sender, connection) = h2::client::handshake(stream).await.map_err(said)?;
        // What breaks it, its requests tell.
        tokio::spawn(connection);
        callers.push(sender);
    }
    Ok(callers)
}

/// All connections for a while, with `streams` requests in flight on each.
pub(crate) async fn run(callers: &[Caller], streams: usize, work: Work) -> Result<Round, String> {
    let work = Arc::new(work);
    let mut running = JoinSet::new();
    for caller in callers {
        for _ in 0..streams {
            running.spawn(stream(caller.clone(), Arc::clone(&work)));
        }
    }
    let latencies = gather(running).await?;
    let seconds = between(work.begun, now()) / 1e3;
    Ok(Round::new(latencies.concat(), seconds))
}

async fn stream(mut caller: Caller, work: Arc<Work>) -> Result<Vec<f64>, String> {
    let mut latencies = Vec::new();
    let mut begun = now();
    while let Some(request) = work.next(begun) {
        caller = caller.ready().await.map_err(said)?;
        let (answer, mut body) = caller.send_request(request.http2(), false).map_err(said)?;
        body.send_data(request.body.clone(), true).map_err(said)?;
        let answer = answer.await.map_err(said)?;
        work.check(answer.status().as_u16())?;
        finish(answer.into_body()).await?;
        let ended = now();
        latencies.push(between(begun, ended));
        begun = ended;
    }
    Ok(latencies)
}

async fn finish(mut body: h2::RecvStream) -> Result<(), String> {
    while let Some(data) = body.data().await {
        let length = data.map_err(said)?.len();
        body.flow_control().release_capacity(length).map_err(said)?;
    }
    Ok(())
}
