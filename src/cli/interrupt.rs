//! Ctrl-C and SIGTERM: the first asks the command to stop cleanly, the second ends the process.

use tokio_util::sync::CancellationToken;

/// Starts to listen. The token is cancelled by the first signal.
pub(super) fn listen() -> CancellationToken {
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        if signal().await.is_err() {
            // Without a handler the system's default stays: the signal ends the process.
            return;
        }
        asked.cancel();
        eprintln!("stopping; once more to stop at once");
        if signal().await.is_ok() {
            std::process::exit(1);
        }
    });
    token
}

#[cfg(unix)]
async fn signal() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
