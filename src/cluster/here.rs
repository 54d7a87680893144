//! What this node answers itself, whoever asks: its own API, or another node.

use tokio::time::Instant;

use crate::domain::pile::SessionSeen;
use crate::domain::{Command, CommandError, Fence, PileCode, Reply};
use crate::hub::Hub;
use crate::session::{LiveSession, NotHere, Sessions};

/// This node's sessions and measurements. Cheap to clone.
#[derive(Clone)]
pub struct Here {
    pub sessions: Sessions,
    pub hub: Hub,
    /// What people call this node.
    pub node: String,
}

impl Here {
    /// The pile's session on this node, if it is exactly `fence`.
    pub async fn execute_as(
        &self,
        pile: PileCode,
        fence: Fence,
        command: Command,
        deadline: Instant,
    ) -> Result<Result<Reply, CommandError>, NotHere> {
        if matches!(command, Command::ReadSession) {
            let seen = self.seen(pile).filter(|seen| seen.fence == fence).ok_or(NotHere)?;
            return Ok(Ok(Reply::Session(Box::new(seen))));
        }
        self.sessions.execute_as(pile, fence, command, deadline).await
    }

    pub fn seen(&self, pile: PileCode) -> Option<SessionSeen> {
        let live = self.sessions.live(pile)?;
        let LiveSession {
            fence,
            connected_at,
            last_seen,
            address,
            frames,
            swapped_crc_frames,
            refused_frames,
            provisional: _,
        } = live;
        let (node, address) = (self.node.clone(), address.to_string());
        Some(SessionSeen { node, fence, connected_at, last_seen, address, frames, swapped_crc_frames, refused_frames })
    }
}
