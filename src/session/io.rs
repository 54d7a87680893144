//! What goes into a session and what comes out of it: closed lists.

use std::time::Duration;

use super::pending::CommandId;
use crate::domain::{Command, CommandError, Fence, Order, PileCode, Record, Reply, Serial, Telemetry, WallMs};
use crate::store::ledger::{Login, SettledOrder, Write, WriteError};
use crate::store::{Claim, StoreError};
use crate::wire::{Frame, Packet, Sequence, SequenceCounter};

/// What can happen to a session.
pub enum Input {
    /// A valid frame that names this pile.
    Frame(Box<Packet>),
    /// The ledger has finished what [`Output::Ledger`] started.
    Done(Done),
    Command {
        id: CommandId,
        command: Command,
        deadline: Duration,
    },
    /// No valid frame on the connection for `lost_after_s`.
    Silent,
    /// A valid frame after [`Input::Silent`].
    Heard,
    /// The time [`Session::due`] named has come.
    Timer,
    /// The session is over.
    End(EndReason),
}

/// What the connection must do, in this order.
pub enum Output {
    Send {
        sequence: Sequence,
        frame: Frame,
    },
    /// To be started, never awaited; its result comes back as [`Input::Done`].
    Ledger(LedgerCall),
    /// The claim is won: make the session findable, and end the one it takes the pile from, wherever it is.
    Register {
        fence: Fence,
        previous: Option<Fence>,
    },
    Publish(Box<Telemetry>),
    Reply {
        to: CommandId,
        result: Result<Reply, CommandError>,
    },
    /// The session is over; `fence` is what it was registered under.
    Ended {
        reason: EndReason,
        fence: Option<Fence>,
    },
}

/// Outputs, and the sequence numbers of the connection they go out on.
#[derive(Default)]
pub struct Out {
    pub list: Vec<Output>,
    pub sequences: SequenceCounter,
}

impl Out {
    /// An answer carries the sequence of what it answers (A5).
    pub fn reply(&mut self, sequence: Sequence, frame: impl Into<Frame>) {
        self.list.push(Output::Send { sequence, frame: frame.into() });
    }

    /// The sequence it goes out with.
    pub fn command(&mut self, frame: impl Into<Frame>) -> [u8; 2] {
        let sequence = self.sequences.next_sequence();
        self.list.push(Output::Send { sequence, frame: frame.into() });
        sequence.0
    }
}

/// Why a session ended: a metric label and a log field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndReason {
    /// The pile has logged in on another connection.
    TakenOver,
    /// The pile closed the connection, or the network did.
    ConnectionClosed,
    /// No valid frame for `close_after_s`.
    Silent,
    /// A write did not get through in time.
    WriteTimeout,
    /// A frame was begun and not finished in time.
    PartialFrame,
    /// A caller asked for it.
    Disconnected,
    /// The store did not take the login.
    StoreUnavailable,
    /// The node is shutting down.
    Shutdown,
}

impl EndReason {
    pub fn name(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over",
            Self::ConnectionClosed => "connection_closed",
            Self::Silent => "silent",
            Self::WriteTimeout => "write_timeout",
            Self::PartialFrame => "partial_frame",
            Self::Disconnected => "disconnected",
            Self::StoreUnavailable => "store_unavailable",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What the ledger is asked to do.
#[derive(Clone)]
pub enum LedgerCall {
    Claim(Claim),
    Write(Box<Write>),
    Settle { record: Box<Record>, latest: Option<Box<(Order, u64)>>, now: WallMs },
    LookUp { pile: PileCode, serial: Serial },
}

/// What came of it.
pub enum Done {
    Claimed(Result<Box<Login>, StoreError>),
    Written(Result<Vec<u64>, WriteError>),
    Settled(Result<Box<SettledOrder>, StoreError>),
    LookedUp(Result<Option<Box<(Order, u64)>>, StoreError>),
}
