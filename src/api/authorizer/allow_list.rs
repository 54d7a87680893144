//! Who may charge, in a file.
//!
//! ```toml
//! [[allow]]
//! card = "D14B0A54"
//! logical_card = "0000001000000573"
//! balance = "100.00"
//!
//! [[allow]]
//! vin = "LSVAM4187C2184847"
//! balance = "250.00"
//! ```

use std::collections::HashMap;

use serde::Deserialize;

use super::config;
use crate::domain::driver::{Card, Shown, Vin};
use crate::session::authority::{Denial, Grant, Verdict};

/// Cards and VINs that may charge.
#[derive(Debug, Default)]
pub struct AllowList {
    cards: HashMap<Card, Grant>,
    vins: HashMap<Vin, Grant>,
}

impl AllowList {
    /// What is wrong with it names the entry, counted from 1, key and value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| one_line(&error, text))?;
        let mut list = Self::default();
        for (n, entry) in file.allow.into_iter().enumerate() {
            let wrong =
                |key: &str, value: &str, reason: &str| format!("allow[{}].{key} = \"{value}\": {reason}", n + 1);
            let Entry { card, vin, logical_card, balance, account } = entry;
            let logical = match &*logical_card {
                "" => [0; 8],
                text => Card::parse(text)
                    .filter(|_| text.len() == 16)
                    .map(|card| card.0)
                    .ok_or_else(|| wrong("logical_card", text, "must be 16 digits"))?,
            };
            let grant = Grant { logical_card: logical, balance_fen: balance, account, ..Grant::default() };
            match (card, vin) {
                (Some(text), None) => {
                    let card = Card::parse(&text).ok_or_else(|| wrong("card", &text, "must be up to 16 hex digits"))?;
                    if list.cards.insert(card, grant).is_some() {
                        return Err(wrong("card", &text, "is there twice"));
                    }
                }
                (None, Some(text)) => {
                    let vin = Vin(text.to_ascii_uppercase());
                    if !vin.is_well_formed() {
                        return Err(wrong("vin", &text, "must be 17 digits and letters without I, O and Q"));
                    }
                    if list.vins.insert(vin, grant).is_some() {
                        return Err(wrong("vin", &text, "is there twice"));
                    }
                }
                (Some(text), Some(_)) => {
                    return Err(wrong("card", &text, "an entry is for a card or a vin, not for both"));
                }
                (None, None) => return Err(wrong("card", "", "an entry needs a card or a vin")),
            }
        }
        Ok(list)
    }

    pub fn len(&self) -> usize {
        self.cards.len() + self.vins.len()
    }

    /// An exact match of a card counts before one that piles report in another way.
    pub fn decide(&self, shown: &Shown) -> Verdict {
        let grant = match shown {
            Shown::Card(seen) => seen.meant().find_map(|card| self.cards.get(&card)),
            Shown::Vin(vin) => self.vins.get(vin),
        };
        grant.map_or_else(|| Verdict::Deny(Denial::unknown(shown)), |grant| Verdict::Allow(Box::new(grant.clone())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    allow: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    card: Option<String>,
    vin: Option<String>,
    #[serde(default)]
    logical_card: String,
    #[serde(deserialize_with = "config::balance")]
    balance: u32,
    #[serde(default)]
    account: String,
}

fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
    let message = error.message().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    format!("line {line}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance_of(list: &AllowList, shown: &Shown) -> Result<u32, Denial> {
        match list.decide(shown) {
            Verdict::Allow(grant) => Ok(grant.balance_fen),
            Verdict::Deny(reason) => Err(reason),
        }
    }

    #[test]
    fn cards_are_known_in_every_way_piles_report_them_and_exactly_first() {
        let text = "[[allow]]\ncard = \"540A4BD1\"\nbalance = \"1\"\n[[allow]]\ncard = \"D14B0A54\"\nbalance = \"2\"\n\
            [[allow]]\nvin = \"LSVAM4187C2184847\"\nbalance = \"3.50\"\nlogical_card = \"0000001000000573\"\n";
        let list = AllowList::parse(text).expect("a list");
        let card = |text| Shown::Card(Card::parse(text).expect("a card"));
        assert_eq!(balance_of(&list, &card("D14B0A54")), Ok(200));
        assert_eq!(balance_of(&list, &card("540A4BD1")), Ok(100));
        assert_eq!(balance_of(&list, &card("D14B0A5400000000")), Ok(200));
        assert_eq!(balance_of(&list, &card("D14B0A55")), Err(Denial::NoSuchAccount));
        assert_eq!(balance_of(&list, &Shown::Vin(Vin("LSVAM4187C2184847".into()))), Ok(350));
        assert_eq!(balance_of(&list, &Shown::Vin(Vin("LSVAM4187C2184848".into()))), Err(Denial::VinUnknown));
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn what_is_wrong_names_entry_key_value_and_reason() {
        let good = "[[allow]]\ncard = \"1\"\nbalance = \"1\"\n";
        let check = |more: &str, said: &str| {
            let error = AllowList::parse(&format!("{good}{more}")).expect_err(more);
            assert!(error.starts_with(said), "{error}");
        };
        check("[[allow]]\ncard = \"xyz\"\nbalance = \"1\"\n", "allow[2].card = \"xyz\": must be up to 16 hex digits");
        check("[[allow]]\ncard = \"01\"\nbalance = \"1\"\n", "allow[2].card = \"01\": is there twice");
        check("[[allow]]\nvin = \"LSV\"\nbalance = \"1\"\n", "allow[2].vin = \"LSV\": must be 17");
        check("[[allow]]\nbalance = \"1\"\n", "allow[2].card = \"\": an entry needs");
        check("[[allow]]\ncard = \"2\"\nvin = \"L\"\nbalance = \"1\"\n", "allow[2].card = \"2\": an entry is for");
        check(
            "[[allow]]\ncard = \"2\"\nbalance = \"1\"\nlogical_card = \"5\"\n",
            "allow[2].logical_card = \"5\": must be 16",
        );
        check("[[allow]]\ncard = \"2\"\nbalance = \"1.234\"\n", "line 6: must be an amount in CNY");
        check("[[allow]]\ncard = \"2\"\n", "line 4: missing field `balance`");
        check("[[allow]]\ncard = \"2\"\nbalance = \"1\"\nname = \"x\"\n", "line 7: unknown field `name`");
    }
}
