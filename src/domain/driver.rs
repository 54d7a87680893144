//! What drivers show at a pile, and what is granted for it. Cards and VINs are never clear in a log: `Debug` masks them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::hex;

/// A physical card number: eight opaque bytes, by the book the UID, right-aligned (A20).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Card(pub [u8; 8]);

impl Card {
    /// From 16 hex digits, or fewer: a UID as it is printed, right-aligned.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = (1..=16).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(number.to_be_bytes()))
    }

    /// All 16 hex digits: for whoever may know them, never for a log.
    pub fn reveal(self) -> String {
        hex(&self.0)
    }

    /// Which cards a pile may mean that reports this, the likeliest first: exactly this one, or with its last four bytes
    /// reversed, or right-aligned (A20).
    pub fn meant(self) -> impl Iterator<Item = Self> {
        let Self([head @ .., a, b, c, d]) = self;
        let mut reversed = [0; 8];
        reversed[..4].copy_from_slice(&head);
        reversed[4..].copy_from_slice(&[d, c, b, a]);
        let number = u64::from_be_bytes(self.0);
        let left_aligned = self.0[0] != 0;
        let spare = if left_aligned { number.trailing_zeros() / 8 } else { 0 };
        let shifted = (1..=spare).rev().map(move |bytes| Self((number >> (8 * bytes)).to_be_bytes()));
        [self, Self(reversed)].into_iter().chain(shifted)
    }
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Card(…{})", hex(&self.0[6..]))
    }
}

/// A vehicle identification number in reading order.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vin(pub String);

impl Vin {
    pub const LEN: usize = 17;

    /// 17 digits and capital letters other than I, O and Q.
    pub fn is_well_formed(&self) -> bool {
        self.0.len() == Self::LEN && self.0.bytes().all(|b| value(b).is_some())
    }

    /// Whether its ninth character is what the others give. Not every maker keeps to it.
    pub fn has_check_digit(&self) -> bool {
        let values = self.0.bytes().map(value).collect::<Option<Vec<_>>>();
        let Some(values) = values.filter(|values| values.len() == Self::LEN) else { return false };
        let sum: u32 = values.iter().zip(WEIGHTS).map(|(value, weight)| value * weight).sum();
        let expected = if sum % 11 == 10 { b'X' } else { b'0' + (sum % 11) as u8 };
        self.0.as_bytes()[8] == expected
    }

    /// The number itself: for whoever may know it, never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Vin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.char_indices().rev().nth(3).map_or(0, |(at, _)| at);
        write!(f, "Vin(…{})", &self.0[last..])
    }
}

/// By what a driver asks to charge.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    Card(Card),
    Vin(Vin),
}

/// What an order that was started at the pile keeps of its start: enough to give the pile the same answer again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AtPile {
    pub shown: Shown,
    /// The account that pays, as its authorizer named it; may be empty.
    pub account: String,
    /// Shown on the pile; 16 digits packed, zero if none.
    pub logical_card: [u8; 8],
    /// In 0.01 CNY; the pile stops when it is used up.
    pub balance_fen: u32,
    pub limits: GrantedLimits,
    /// The number the pile gave to a charge of one vehicle on several guns: `YYMMDDhhmmss`, packed.
    pub parallel_no: Option<[u8; 6]>,
}

/// How much may be charged; zero is no limit. Only V1.8 piles can be told (0xA6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GrantedLimits {
    pub max_power_kw: u16,
    pub soc_percent: u8,
    /// In 0.0001 kWh.
    pub energy: u32,
}

/// What a character counts in the check digit.
fn value(character: u8) -> Option<u32> {
    let value = match character {
        b'0'..=b'9' => character - b'0',
        b'A'..=b'H' => character - b'A' + 1,
        b'J'..=b'N' => character - b'J' + 1,
        b'P' => 7,
        b'R' => 9,
        b'S'..=b'Z' => character - b'S' + 2,
        _ => return None,
    };
    Some(u32::from(value))
}

const WEIGHTS: [u32; Vin::LEN] = [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_in_every_way_piles_report_it() {
        let check = |card: &str, seen: &str, same: bool| {
            let card = Card::parse(card).expect(card);
            assert_eq!(Card::parse(seen).expect(seen).meant().any(|meant| meant == card), same, "{card:?} {seen}");
        };
        check("D14B0A54", "00000000D14B0A54", true);
        check("D14B0A54", "00000000540A4BD1", true);
        check("D14B0A54", "D14B0A5400000000", true);
        check("D14B0A00", "D14B0A0000000000", true);
        check("D14B0A54", "00000000D14B0A55", false);
        check("D14B0A54", "0000D14B0A540000", false);
        check("D14B0A54", "00000000D14B540A", false);
        check("1122334455667788", "1122334488776655", true);
        for none in ["", "12345678901234567", "D14B0A5G", "0x12", "+1"] {
            assert_eq!(Card::parse(none), None, "{none}");
        }
    }

    #[test]
    fn the_check_digit_of_a_vin_is_its_ninth_character() {
        assert!(Vin("1M8GDM9AXKP042788".into()).has_check_digit(), "the textbook's");
        assert!(Vin("11111111111111111".into()).has_check_digit());
        assert!(!Vin("1M8GDM9A1KP042788".into()).has_check_digit());
        assert!(!Vin("1M8GDM9AXKP04278".into()).has_check_digit(), "too short");
        assert!(!Vin("LSVAM4187C21848O7".into()).is_well_formed(), "no O in a VIN");
        assert!(Vin("LSVAM4187C2184847".into()).is_well_formed());
    }

    #[test]
    fn neither_is_clear_in_a_log() {
        let card = Card::parse("00000000D14B0A54").expect("a card");
        assert_eq!(format!("{:?}", Shown::Card(card)), "Card(Card(…0a54))");
        assert_eq!(format!("{:?}", Vin("LSVAM4187C2184847".into())), "Vin(…4847)");
        assert_eq!(format!("{:?}", Vin("é".into())), "Vin(…é)");
    }
}
