//! What goes into a session and what comes out of it: closed lists.

use std::time::Duration;

use super::authority::{ChargeAsk, Unanswered, Verdict};
use super::pending::CommandId;
use crate::domain::curve::Chunk;
use crate::domain::{Command, CommandError, Fence, Order, PileCode, Record, Reply, Serial, Telemetry, WallMs};
use crate::store::ledger::{Login, SettledOrder, Write, WriteError};
use crate::store::{BatchId, Claim, StoreError};
use crate::wire::{Frame, Packet, Sequence, SequenceCounter};

/// What can happen to a session.
pub enum Input {
    /// A valid frame that names this pile.
    Frame(Box<Packet>),
    /// What [`Output::Ledger`] or [`Output::Authorise`] started has been finished.
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
    /// Say to the store again that the pile is ours; `anew` if it may have lost writes.
    Reassert {
        anew: bool,
    },
    /// The node is going down: end as soon as there is nothing of this to wait for.
    Drain(Patience),
    /// Somebody else uses this pile code, and nobody has been told lately.
    TellDuplicate,
    /// The session is over.
    End(EndReason),
}

/// What the connection must do, in this order.
pub enum Output {
    Send {
        sequence: Sequence,
        frame: Frame,
        /// Past this it must not be written any more.
        until: Option<Duration>,
    },
    /// To be started, never awaited; its result comes back as [`Input::Done`].
    Ledger(LedgerCall),
    /// The same of whoever decides who may charge.
    Authorise(Box<ChargeAsk>),
    /// The claim is won: make the session findable, and end the one it takes the pile from, wherever it is.
    Register {
        fence: Fence,
        previous: Option<Fence>,
        claim: ClaimOf,
    },
    /// The store could not be asked: make the session findable under a guess no older than this.
    RegisterProvisionally(Fence),
    /// The claim is won, but the session has ended: end the one it has taken the pile from, wherever it is.
    ClaimedInVain {
        fence: Fence,
        previous: Fence,
    },
    /// What came of [`Input::Reassert`].
    Reasserted(Reassertion),
    /// A login was refused because another device uses its pile code.
    Duplicate,
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
        self.list.push(Output::Send { sequence, frame: frame.into(), until: None });
    }

    /// What a caller asked for, to be written until his deadline. The sequence it goes out with.
    pub fn command(&mut self, frame: impl Into<Frame>, deadline: Duration) -> [u8; 2] {
        self.send(frame.into(), Some(deadline))
    }

    /// What nobody waits for.
    pub fn repeat(&mut self, frame: impl Into<Frame>) -> [u8; 2] {
        self.send(frame.into(), None)
    }

    fn send(&mut self, frame: Frame, until: Option<Duration>) -> [u8; 2] {
        let sequence = self.sequences.next_sequence();
        self.list.push(Output::Send { sequence, frame, until });
        sequence.0
    }
}

/// Why a session ended: a metric label and a log field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EndReason {
    /// The pile has logged in on another connection.
    TakenOver,
    /// The pile was heard on another connection later, and the store could not be asked whose it is.
    HeardElsewhere,
    /// Another device uses its pile code.
    Contested,
    /// The node hands its piles over, because it is going down.
    Drained,
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
            Self::HeardElsewhere => "heard_elsewhere",
            Self::Contested => "contested",
            Self::Drained => "drained",
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

/// What a claim is made for: a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClaimOf {
    /// 0x01.
    Login,
    /// A session that could not be claimed when it logged in.
    Provisional,
    /// A session that says again that it is there.
    Reassertion,
}

impl ClaimOf {
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Provisional => "provisional",
            Self::Reassertion => "reassertion",
        }
    }
}

/// What came of saying again that a pile is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reassertion {
    Kept,
    /// Somebody newer has it, or the session has ended.
    Lost,
    /// The store does not say. It is asked again.
    Unknown,
}

/// What a session that is to end may wait for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Patience {
    /// For all of its guns to do nothing.
    Idle,
    /// For the answers to starts and stops, which come by their deadlines or not at all.
    Answers,
}

/// What the ledger is asked to do.
#[derive(Clone)]
pub enum LedgerCall {
    Claim(Claim),
    Write(Box<Write>),
    Settle {
        record: Box<Record>,
        latest: Option<Box<(Order, u64)>>,
        now: WallMs,
    },
    LookUp {
        pile: PileCode,
        serial: Serial,
    },
    /// A chunk of a charging curve, to be kept until `expires`.
    KeepCurve {
        chunk: Box<Chunk>,
        /// `None` for a session that has ended.
        fence: Option<Fence>,
        expires: WallMs,
    },
    /// Tell that the device at `address` was turned away, because its pile code is somebody else's.
    TellDuplicate {
        id: BatchId,
        pile: PileCode,
        address: String,
        iccid: String,
        now: WallMs,
    },
}

/// What came of it.
pub enum Done {
    Claimed(Result<Box<Login>, StoreError>),
    Written(Result<Vec<u64>, WriteError>),
    Settled(Result<Box<SettledOrder>, StoreError>),
    LookedUp(Result<Option<Box<(Order, u64)>>, StoreError>),
    Authorised(Serial, Result<Verdict, Unanswered>),
    CurveKept(Result<(), WriteError>),
}
