//! `portcullis run`: the gateway, until a signal ends it.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::talk;
use crate::running::{Gateway, Options};

/// Runs the gateway. SIGTERM drains, SIGINT drains without the delay, SIGHUP reloads; a second signal
/// ends at once.
pub(super) fn run(config: &Path) -> ExitCode {
    let gateway = match Gateway::start(config, Options::system()) {
        Ok(gateway) => gateway,
        Err(error) => {
            talk(&format!("{error}\n"));
            return ExitCode::from(1);
        }
    };
    match gateway.block_on(told_to_end(&gateway)) {
        Ok(quick) => {
            gateway.drain(quick);
            ExitCode::SUCCESS
        }
        Err(error) => {
            talk(&format!("error: signals cannot be received: {error}\n"));
            ExitCode::from(1)
        }
    }
}

/// Waits for a signal to end, reloading meanwhile. True for SIGINT: somebody waits at a terminal.
async fn told_to_end(gateway: &Gateway) -> io::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let quick = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break true,
            _ = hangup.recv() => gateway.reload(),
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // 128 + SIGINT, as shells say it: the drain was cut short.
        std::process::exit(130);
    });
    Ok(quick)
}
