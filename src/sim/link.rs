//! Where a pile stands with the platform.

use std::time::Duration;

/// The connection to the platform.
#[derive(Clone, Copy, Debug)]
pub(super) enum Link {
    /// Held: no connection, and no attempt at one, until somebody resumes the pile.
    Away,
    Down {
        retry_at: Duration,
        attempt: u32,
    },
    /// The driver is at it; its limit is the driver's.
    Connecting {
        attempt: u32,
    },
    /// 0x01 is sent, for the `asked`th time, and again at `again_at`.
    LoggingIn {
        again_at: Duration,
        attempt: u32,
        asked: u8,
    },
    Online(Online),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Online {
    pub(super) since: Duration,
    pub(super) tariff: TariffState,
    /// Records, heartbeats and telemetry have begun.
    pub(super) ready: bool,
    pub(super) heartbeat_at: Duration,
    /// When the last heartbeats were sent, until one is answered.
    pub(super) heartbeat_sent: Option<Duration>,
    /// Rounds of heartbeats without any answer.
    pub(super) unanswered: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TariffState {
    /// 0x05 is sent.
    Checking {
        again_at: Duration,
    },
    /// 0x09 is sent.
    Fetching {
        again_at: Duration,
    },
    Known,
}

impl Link {
    pub(super) fn is_up(&self) -> bool {
        matches!(self, Self::LoggingIn { .. } | Self::Online(_))
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Down { retry_at, .. } => Some(*retry_at),
            Self::Away | Self::Connecting { .. } => None,
            Self::LoggingIn { again_at, .. } => Some(*again_at),
            Self::Online(online) => Some(match online.tariff {
                TariffState::Checking { again_at } | TariffState::Fetching { again_at } => {
                    again_at.min(online.heartbeat_at)
                }
                TariffState::Known => online.heartbeat_at,
            }),
        }
    }
}
