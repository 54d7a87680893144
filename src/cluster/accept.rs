//! Connections of gRPC callers, of the API and of other nodes alike.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::net::{TcpListener, TcpStream};

/// Connections as they come. Where the system refuses one (no file descriptor left), the next try waits a moment
/// instead of spinning.
pub fn accept(listener: TcpListener) -> impl Stream<Item = Result<TcpStream, std::io::Error>> {
    stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    undelayed(&socket, peer);
                    return Some((Ok(socket), listener));
                }
                Err(error) => {
                    tracing::warn!(%error, "a gRPC connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// Small answers must not wait for more to come.
fn undelayed(socket: &TcpStream, peer: SocketAddr) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY could not be set");
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
