//! Subcommands for people.

pub mod demo;
pub mod sim;
pub mod serve;
pub mod decode;
pub mod journal;

/// Ctrl-C or SIGTERM. Where a handler cannot be set up, the signal ends the process by itself.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
