//! Signals: the first SIGTERM or SIGINT asks for an orderly end, the second ends the process at once.
//!
//! An orderly end is each command's own: a worker hands its leases back, a command that waits says 130.

use std::{io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::exit::Exit;

/// Listens from now on; the token is cancelled by the first signal.
pub(crate) fn listen() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked = CancellationToken::new();
    let token = asked.clone();
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        info!("asked to stop");
        asked.cancel();
        next(&mut terminate, &mut interrupt).await;
        warn!("asked again: ending at once");
        process::exit(Exit::Interrupted as i32);
    });
    Ok(token)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
