//! Starts that somebody at the pile asks for, from the question to a minute after its answer.

use std::time::Duration;

use super::authority::{Denial, Parallel, Password, Role};
use crate::domain::driver::{Shown, Vin};
use crate::domain::order::vehicle_no;
use crate::domain::{Gun, Serial};
use crate::wire::{GunNo, Sequence};

/// Of each gun the last one: bounded by the guns of a pile.
#[derive(Default)]
pub struct Asks {
    list: Vec<Ask>,
    /// In which order this pile sends VINs, as far as it has shown.
    vins: Option<VinOrder>,
}

/// One wish to charge. A pile repeats it until it is answered.
pub struct Ask {
    pub gun: Gun,
    /// As the pile writes it.
    pub gun_no: GunNo,
    pub shown: Shown,
    /// With another one it is another wish.
    pub password: Option<Password>,
    pub form: Form,
    /// Of the last frame that asked.
    pub sequence: Sequence,
    /// When the first frame asked.
    pub since: Duration,
    /// What the order is called, if there will be one.
    pub serial: Serial,
    pub state: AskState,
}

/// Which frames ask and answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// 0x31 → 0x32
    V16,
    /// 0xA5 → 0xA6
    V18,
    /// 0xA1 → 0xA2
    Parallel(Parallel),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AskState {
    /// The authority has been asked; past this it counts as unanswered.
    Deciding { until: Duration },
    /// It may; the order is on its way to the store.
    Creating,
    /// The pile has been told yes.
    Granted,
    /// The pile has been told no.
    Denied(Denial),
}

/// How a pile writes the 17 characters (A19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VinOrder {
    /// Last character first: the book's.
    Reversed,
    Reading,
}

impl Asks {
    /// In place of whatever the gun has asked before.
    pub fn put(&mut self, ask: Ask) {
        self.list.retain(|other| other.gun != ask.gun);
        self.list.push(ask);
    }

    pub fn of_gun(&mut self, gun: Gun) -> Option<&mut Ask> {
        self.list.iter_mut().find(|ask| ask.gun == gun)
    }

    pub fn of_serial(&mut self, serial: Serial) -> Option<&mut Ask> {
        self.list.iter_mut().find(|ask| ask.serial == serial)
    }

    /// Of the vehicle with this number.
    pub fn of_vehicle(&mut self, number: [u8; 6]) -> impl Iterator<Item = &mut Ask> {
        self.list.iter_mut().filter(move |ask| ask.form.vehicle_no() == Some(number))
    }

    /// It never happened: the pile asks again.
    pub fn forget(&mut self, serial: Serial) {
        self.list.retain(|ask| ask.serial != serial);
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Whether the pile waits for an answer that is on its way.
    pub fn pending(&self) -> bool {
        self.list.iter().any(|ask| ask.state.is_pending())
    }

    /// What the authority has not answered in time.
    pub fn expired(&self, now: Duration) -> Vec<Serial> {
        let late = |ask: &&Ask| matches!(ask.state, AskState::Deciding { until } if until <= now);
        self.list.iter().filter(late).map(|ask| ask.serial).collect()
    }

    pub fn due(&self) -> Option<Duration> {
        let until = |ask: &Ask| if let AskState::Deciding { until } = ask.state { Some(until) } else { None };
        self.list.iter().filter_map(until).min()
    }

    /// A VIN in reading order, from its characters as the pile sent them. What is plain from one is remembered for the
    /// next: its check digit, and that Chinese ones begin with L.
    pub fn vin(&mut self, reversed: String, reading: String) -> Vin {
        let (reversed, reading) = (Vin(reversed), Vin(reading));
        let (by_the_book, as_it_stands) = (looks_right(&reversed), looks_right(&reading));
        let known = match self.vins {
            Some(VinOrder::Reversed) if by_the_book > 0 => self.vins,
            Some(VinOrder::Reading) if as_it_stands > 0 => self.vins,
            before => match by_the_book.cmp(&as_it_stands) {
                std::cmp::Ordering::Greater => Some(VinOrder::Reversed),
                std::cmp::Ordering::Less => Some(VinOrder::Reading),
                std::cmp::Ordering::Equal => before,
            },
        };
        self.vins = known;
        if known == Some(VinOrder::Reading) { reading } else { reversed }
    }
}

impl AskState {
    pub fn is_pending(self) -> bool {
        match self {
            Self::Deciding { .. } | Self::Creating => true,
            Self::Granted | Self::Denied(_) => false,
        }
    }
}

impl Form {
    /// As the pile gave it.
    pub fn parallel_no(self) -> Option<[u8; 6]> {
        self.parallel().map(|parallel| parallel.number)
    }

    /// The same, if it stands for a vehicle that asks on other guns as well.
    pub fn vehicle_no(self) -> Option<[u8; 6]> {
        self.parallel_no().and_then(vehicle_no)
    }

    pub fn parallel(self) -> Option<Parallel> {
        match self {
            Self::Parallel(parallel) => Some(parallel),
            Self::V16 | Self::V18 => None,
        }
    }
}

impl Role {
    pub fn of(role: crate::wire::GunRole) -> Self {
        match role {
            crate::wire::GunRole::Main => Self::Main,
            crate::wire::GunRole::Auxiliary => Self::Auxiliary,
            crate::wire::GunRole::Unknown(raw) => Self::Unknown(raw),
        }
    }
}

/// How much speaks for this being the reading order.
fn looks_right(vin: &Vin) -> u8 {
    if !vin.is_well_formed() {
        return 0;
    }
    2 * u8::from(vin.has_check_digit()) + u8::from(vin.reveal().starts_with('L'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(asks: &mut Asks, sent: &str) -> String {
        let reversed = sent.chars().rev().collect();
        asks.vin(reversed, sent.to_owned()).0
    }

    #[test]
    fn a_vin_is_read_in_whatever_order_the_pile_sends_it_and_that_is_remembered() {
        // By the first letter, and by the check digit.
        for vin in ["LSVAM4187C2184847", "1M8GDM9AXKP042788"] {
            let reversed: String = vin.chars().rev().collect();
            assert_eq!(read(&mut Asks::default(), vin), vin);
            assert_eq!(read(&mut Asks::default(), &reversed), vin);
        }
        // Nothing says which: as the book has it, or as this pile did before.
        let (plain, backwards) = ("WVWZZZ1JZXW000001", "100000WXZJ1ZZZWVW");
        let mut asks = Asks::default();
        assert_eq!(read(&mut asks, backwards), plain);
        read(&mut asks, "LSVAM4187C2184847");
        assert_eq!(read(&mut asks, plain), plain);
        // One that plainly says otherwise counts more.
        assert_eq!(read(&mut asks, "7484812C7814MAVSL"), "LSVAM4187C2184847");
        assert_eq!(read(&mut asks, backwards), plain);
    }

    #[test]
    fn what_is_no_vin_is_passed_on_by_the_book() {
        assert_eq!(read(&mut Asks::default(), "cba"), "abc");
    }
}
