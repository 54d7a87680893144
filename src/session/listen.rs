//! The pile port: accepts connections, bounds them, and notices when one's task dies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::config::Drain;
use super::connection;
use super::fleet::BEAT;
use super::node::Node;

/// Accepts until `shutdown`, then ends all sessions as `drain` says and waits, bounded, for what they still have for the
/// store.
pub async fn run(node: Arc<Node>, listener: TcpListener, shutdown: CancellationToken, drain: Drain) {
    let serve = accept(&node, listener, &shutdown, drain);
    tokio::select! {
        () = serve => {}
        // Ends only by being dropped.
        () = beat(&node) => {}
    }
}

/// Notices when this node stands still.
async fn beat(node: &Node) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        node.sessions.beat(node.now().mono);
    }
}

async fn accept(node: &Arc<Node>, listener: TcpListener, shutdown: &CancellationToken, drain: Drain) {
    let mut connections = JoinSet::new();
    let limit = node.policy.config.max_connections;
    let mut refused = 0_u64;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if connections.len() >= limit => {
                    drop(socket);
                    refused += 1;
                    if refused.is_power_of_two() {
                        tracing::warn!(limit, refused, "connection refused: max_connections reached");
                    }
                }
                Ok((socket, address)) => {
                    if let Err(error) = prepare(&socket) {
                        tracing::debug!(%address, %error, "connection gone before it began");
                        continue;
                    }
                    connections.spawn(connection::run(node.clone(), socket, address, shutdown.clone()));
                }
                Err(error) => {
                    // Out of descriptors, mostly: waiting lets connections end.
                    tracing::error!(%error, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task died");
                }
            }
        }
    }
    drop(listener);
    node.sessions.drain(drain.rate, Instant::now() + drain.limit).await;
    let all_ended = async {
        while !connections.is_empty() {
            // Again and again: a login that was on its way becomes a session only now.
            node.sessions.shut_down();
            let _ = timeout(TELL_AGAIN, async { while connections.join_next().await.is_some() {} }).await;
        }
    };
    if timeout(SHUTDOWN, all_ended).await.is_err() {
        tracing::warn!("connections that did not end in time were cut");
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TELL_AGAIN: Duration = Duration::from_millis(200);
/// For what sessions still have for the store: by default more than one call of it may take. Records that
/// are not settled by then were not acknowledged, so their piles send them again.
const SHUTDOWN: Duration = Duration::from_secs(6);
