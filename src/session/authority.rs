//! Who decides what piles ask for, as sessions see it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::civil::DateTime;

use crate::domain::driver::{GrantedLimits, Shown};
use crate::domain::{Gun, PileCode, Serial, WallMs};

/// Decides who may charge with a card or a VIN. A session starts the question and goes on; what it does not hear in time
/// counts as [`Unanswered`].
pub trait Authority: Send + Sync + 'static {
    fn charge(&self, ask: ChargeAsk) -> BoxFuture<'static, Result<Verdict, Unanswered>>;

    /// The metric label: how it decides.
    fn mode(&self) -> &'static str;
}

/// Somebody wants to charge at the pile: 0x31, 0xA1 or 0xA5. The same (pile, gun, serial) is the same question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChargeAsk {
    pub pile: PileCode,
    pub gun: Gun,
    /// What the order will be called if it may.
    pub serial: Serial,
    pub shown: Shown,
    pub password: Option<Password>,
    pub parallel: Option<Parallel>,
    pub asked_at: WallMs,
    /// The same by the clock of the pile, as far as it is set right: the frame does not say it.
    pub pile_time: DateTime,
}

/// What was typed in at the pile, as 16 bytes: by the book the middle half of a lower-case MD5 (A21).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(pub [u8; 16]);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// One vehicle on several guns: the pile asks for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parallel {
    /// The same for all of them: `YYMMDDhhmmss`, packed.
    pub number: [u8; 6],
    pub role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Main,
    Auxiliary,
    /// No document knows it.
    Unknown(u8),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    Allow(Box<Grant>),
    Deny(Denial),
}

/// What whoever may charge gets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Grant {
    /// Shown on the pile; 16 digits packed, zero if none.
    pub logical_card: [u8; 8],
    /// In 0.01 CNY; the pile stops when it is used up.
    pub balance_fen: u32,
    pub limits: GrantedLimits,
    /// The account that pays; may be empty.
    pub account: String,
    /// The authorizer's own name for the order; may be empty.
    pub order_id: String,
    pub attributes: BTreeMap<String, String>,
}

/// Why somebody may not charge: the reasons a pile can show (0x32, 0xA2, 0xA6 `fail_reason`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denial {
    NoSuchAccount,
    AccountFrozen,
    InsufficientBalance,
    CardUnsettled,
    PileDisabled,
    NotOnThisPile,
    WrongPassword,
    NoCapacity,
    VinUnknown,
    PileUnsettled,
    NoCardCharging,
}

impl Denial {
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSuchAccount => "no_such_account",
            Self::AccountFrozen => "account_frozen",
            Self::InsufficientBalance => "insufficient_balance",
            Self::CardUnsettled => "card_unsettled",
            Self::PileDisabled => "pile_disabled",
            Self::NotOnThisPile => "not_on_this_pile",
            Self::WrongPassword => "wrong_password",
            Self::NoCapacity => "no_capacity",
            Self::VinUnknown => "vin_unknown",
            Self::PileUnsettled => "pile_unsettled",
            Self::NoCardCharging => "no_card_charging",
        }
    }

    /// `fail_reason` of 0x32, 0xA2 and 0xA6.
    pub fn code(self) -> u8 {
        match self {
            Self::NoSuchAccount => 0x01,
            Self::AccountFrozen => 0x02,
            Self::InsufficientBalance => 0x03,
            Self::CardUnsettled => 0x04,
            Self::PileDisabled => 0x05,
            Self::NotOnThisPile => 0x06,
            Self::WrongPassword => 0x07,
            Self::NoCapacity => 0x08,
            Self::VinUnknown => 0x09,
            Self::PileUnsettled => 0x0A,
            Self::NoCardCharging => 0x0B,
        }
    }

    /// Nobody knows what was shown.
    pub fn unknown(shown: &Shown) -> Self {
        match shown {
            Shown::Card(_) => Self::NoSuchAccount,
            Shown::Vin(_) => Self::VinUnknown,
        }
    }
}

/// Why nobody has decided: what is configured for that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// Nothing came within the deadline.
    TimedOut,
    /// It cannot be reached, or its connection broke.
    Unreachable,
    /// It answered with an error.
    Failed,
    /// It answered what cannot be meant.
    Nonsense,
    /// Too many questions are under way from this node.
    Busy,
}

impl Unanswered {
    /// The metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Failed => "failed",
            Self::Nonsense => "nonsense",
            Self::Busy => "busy",
        }
    }
}

/// What sessions do about starts at the pile.
#[derive(Clone, Debug)]
pub struct Asking {
    /// How long the authority may take; less than a pile waits.
    pub deadline: Duration,
    /// What counts if it does not answer.
    pub fallback: Verdict,
}

impl Default for Asking {
    /// Whoever cannot be asked about may not charge.
    fn default() -> Self {
        Self { deadline: Duration::from_secs(5), fallback: Verdict::Deny(Denial::PileDisabled) }
    }
}

/// Nobody may charge with a card or a VIN.
pub struct DenyAll;

impl Authority for DenyAll {
    fn charge(&self, ask: ChargeAsk) -> BoxFuture<'static, Result<Verdict, Unanswered>> {
        Box::pin(std::future::ready(Ok(Verdict::Deny(Denial::unknown(&ask.shown)))))
    }

    fn mode(&self) -> &'static str {
        "deny"
    }
}
