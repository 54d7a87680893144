//! Offline cards: what a pile accepts while it cannot ask.

use bytes::BytesMut;

use super::charge::Outcome;
use super::field::{Bcd, Counted, Entry, Group, Kind, Opaque, PileCode, Reason, Tail, TailError, ToEnd, open_enum};
use super::table::{DecodeError, Row, entry, frames};

frames! {
    /// The answer to 0x44.
    0x43 Up CardSyncResponse [9] {
        0  pile_code: PileCode,
        7  result: Outcome,
        8  fail_reason: CardSyncFailure,
    }

    /// Adds cards the pile accepts while it is offline; at most 11 keep the frame within 200 bytes (A6).
    0x44 Down CardSync [8..] {
        0  pile_code: PileCode,
        .. 7 [card_count] cards: Counted<SyncCard, 15>,
    }

    /// The answer to 0x46, one result per card. Some devices leave the clear flag out (A32).
    0x45 Up CardClearResponse [7..] {
        0  pile_code: PileCode,
        .. 7 cards: ClearResults,
    }

    /// Removes offline cards; at most 18 keep the answer within 200 bytes (A6).
    0x46 Down CardClear [8..] {
        0  pile_code: PileCode,
        .. 7 [card_count] cards: Counted<CardUid, 24>,
    }

    /// The answer to 0x48, one result per card.
    0x47 Up CardQueryResponse [7..] {
        0  pile_code: PileCode,
        .. 7 cards: ToEnd<QueryResult, 26>,
    }

    /// Asks which cards the pile knows; at most 21 keep the answer within 200 bytes (A6).
    0x48 Down CardQuery [8..] {
        0  pile_code: PileCode,
        .. 7 [card_count] cards: Counted<CardUid, 26>,
    }
}

open_enum! {
    /// Why cards were not stored.
    CardSyncFailure {
        0x00 None "none (sample)",
        0x01 BadFormat "bad card number format",
        0x02 OutOfStorage "out of storage",
    }

    /// Whether a card was removed.
    Cleared {
        0x00 NotCleared "not cleared",
        0x01 Cleared "cleared",
    }

    /// Why a card was not removed. The document's rows contradict each other: the clear flag counts (A32).
    ClearReason {
        0x00 ClearedRowN "cleared (row N) – treat as: none",
        0x01 BadFormat "bad card number format",
        0x02 ClearedRow1 "cleared (row 1) – treat as: none",
    }

    /// Whether the pile knows a card.
    Present {
        0x00 NotPresent "not present",
        0x01 Present "present",
    }
}

entry! {
    /// A card to store.
    SyncCard [16] {
        0 logical_card: Bcd<8>,
        8 physical_card: Opaque<8>,
    }
}

entry! {
    /// A card to remove or to ask for.
    CardUid [8] {
        0 physical_card: Opaque<8>,
    }
}

entry! {
    /// Whether one card is stored.
    QueryResult [9] {
        0 physical_card: Opaque<8>,
        8 present: Present,
    }
}

entry! {
    /// What became of one card.
    ClearResult [10] {
        0 physical_card: Opaque<8>,
        8 cleared: Cleared,
        9 fail_reason: ClearReason,
    }
}

entry! {
    /// What became of one card, from a device that leaves the clear flag out (A32).
    ClearResultNoFlag [9] {
        0 physical_card: Opaque<8>,
        8 fail_reason: ClearReason,
    }
}

/// The results in 0x45, in whichever of the two layouts the device uses (A32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClearResults {
    /// As the table says.
    Full(ToEnd<ClearResult, 24>),
    /// As the document's sample shows: nine bytes each.
    NoFlag(ToEnd<ClearResultNoFlag, 27>),
}

impl ClearResults {
    /// Each card with whether it is gone. Without a flag, the reasons 0x00 and 0x02 mean that it is.
    pub fn iter(&self) -> impl Iterator<Item = (Opaque<8>, bool)> {
        let (full, no_flag): (&[ClearResult], &[ClearResultNoFlag]) = match self {
            Self::Full(results) => (results, &[]),
            Self::NoFlag(results) => (&[], results),
        };
        let full = full.iter().map(|r| (r.physical_card, r.cleared == Cleared::Cleared));
        full.chain(
            no_flag.iter().map(|r| {
                (r.physical_card, matches!(r.fail_reason, ClearReason::ClearedRowN | ClearReason::ClearedRow1))
            }),
        )
    }
}

impl CardClearResponse {
    /// Decoded, but not what the table says: the clear flags are missing (A32).
    pub fn defect(&self) -> Option<DecodeError> {
        match &self.cards {
            ClearResults::Full(_) => None,
            ClearResults::NoFlag(_) => Some(DecodeError {
                code: Self::SPEC.code,
                frame: Self::SPEC.type_name,
                field: "cards",
                byte: Self::SPEC.min_body_len + 8,
                reason: Reason::NoClearFlag,
            }),
        }
    }
}

impl Tail for ClearResults {
    const COUNT_WIDTH: usize = 0;
    const KIND: Kind = Kind::Group(Group {
        entry: ClearResult::FIELDS,
        max: 24,
        count_width: 0,
        also: Some(ClearResultNoFlag::FIELDS),
    });

    fn decode(rest: &[u8]) -> Result<(Self, usize), TailError> {
        if rest.len().is_multiple_of(ClearResultNoFlag::WIDTH) && !rest.len().is_multiple_of(ClearResult::WIDTH) {
            let (results, taken) = ToEnd::decode(rest)?;
            Ok((Self::NoFlag(results), taken))
        } else {
            let (results, taken) = ToEnd::decode(rest)?;
            Ok((Self::Full(results), taken))
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Full(results) => results.encode(out),
            Self::NoFlag(results) => results.encode(out),
        }
    }
}
