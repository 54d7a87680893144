//! What goes to the pile, and that it may.

use super::Walk;
use crate::domain::order::AnomalyKind;
use crate::domain::{Gun, Serial};
use crate::session::held::Held;
use crate::session::tests::harness::*;

impl Walk {
    /// Everything the newest session has sent.
    pub fn check_sent(&mut self) {
        let sent = self.pile.all_received();
        let both: Vec<_> = sent.iter().filter(|down| down.frame.code() == 0xA4).map(Down::serial).collect();
        let mut denied = vec![];
        for down in sent {
            let code = down.frame.code();
            self.reached.one("down", &format!("{code:#04x}"));
            match code {
                0x34 | 0xA4 | 0xA8 => self.check_opening(&down, &both),
                0x32 | 0xA2 | 0xA6 => {
                    self.check_granted(&down);
                    if down.get("auth_result") == 1 {
                        let order = self.stored(&down);
                        self.tell(order, gun(down.get("gun_no") as u8));
                    } else if code == 0xA2 {
                        let [number @ .., _, _] = down.get("parallel_no").to_le_bytes();
                        denied.extend(Some(number).filter(|number| *number != [0; 6]));
                    }
                }
                0x36 => self.check_stop(gun(down.get("gun_no") as u8)),
                0x40 => {
                    let settled = self.pile.store.borrow().records.contains_key(&down.serial());
                    assert!(settled, "0x40 before the record");
                    let billed = self.unanswered.remove(&down.sequence.0);
                    let (serial, reason) = billed.expect("what 0x40 answers");
                    assert_eq!(serial, down.serial(), "0x40 for another");
                    let store = self.pile.store.borrow();
                    let kept = store.records[&serial].iter().any(|record| record.stop_reason == reason);
                    assert!(kept, "0x40 for a record that is not there, stopped by {reason:#x}");
                }
                _ => {}
            }
        }
        for number in denied {
            self.check_denied(number);
        }
        let forgotten = self.nature.calm && !self.unanswered.is_empty();
        assert!(!forgotten, "no 0x40: {:?}", self.unanswered);
    }

    /// The order is durable, the frame is the one this pile understands, and nobody else has the gun.
    fn check_opening(&mut self, down: &Down, both: &[Serial]) {
        let serial = self.stored(down);
        let gun = gun(down.get("gun_no") as u8);
        let (parallel, code) = (down.frame.code() == 0xA4, if self.nature.v18 { 0xA8 } else { 0x34 });
        assert!(parallel || down.frame.code() == code, "not what the pile understands: {down:?}");
        assert!(self.started.insert(serial), "started twice");
        self.tell(serial, gun);
        let order = self.pile.store.borrow().order(serial).clone();
        assert_eq!(order.gun, gun);
        let other = order.parallel.map(|other| other.serial);
        assert_eq!(other.is_some(), parallel, "{down:?}");
        assert!(other.is_none_or(|other| both.contains(&other)), "one gun of two is started");
        self.check_start(&order, down.at);
        let held = self.pile.session.orders.iter().filter(|held| held.order.gun == gun && held.occupies_gun());
        let others = held.filter(|held| held.order.serial != serial && held.order.created_at < order.created_at);
        // While a slow store takes it, the gun may begin something else.
        assert!(others.count() == 0 || !self.nature.calm, "the gun was taken");
    }

    /// 0x36 names a gun only. It must not meet a stranger, and unless somebody has just asked for it, the order it is for
    /// must have been seen to charge on that gun last.
    fn check_stop(&self, gun: Gun) {
        let charged = self.charged.get(&gun).copied();
        let held = |serial: &Serial| self.pile.session.orders.iter().find(|held| held.order.serial == *serial);
        let asked = self.stopped.filter(|_| self.pile.session.provisional.is_none());
        let asked = asked.is_some_and(|serial| charged.is_none_or(|charged| charged == serial));
        // What is not held is not known to be wrong: it was provisional, or has been settled since.
        let meant = charged.is_some_and(|serial| held(&serial).is_none_or(|held| held.order.stop.is_some()));
        // What happens to one gun of a vehicle happens to the other, whether it has been seen to charge or not.
        // It may have failed since, and be known to the store only.
        let store = self.pile.store.borrow();
        let held = self.pile.session.orders.iter().map(|held| &held.order);
        let beside = held.chain(store.orders.values().map(|(order, _)| order)).any(|order| {
            let right = charged.is_none_or(|charged| charged == order.serial);
            order.gun == gun && order.parallel_no().is_some() && order.stop.is_some() && right
        });
        assert!(asked || meant || beside, "stopped on gun {gun}, where {charged:?} charges");
    }

    /// A 0x36 is repeated three times and no more: beyond the fourth somebody has asked for each, now or for
    /// when it charges, or it starts late.
    pub fn check_repeats(&mut self) {
        for Held { order, ended_plan, .. } in &self.pile.session.orders {
            let Some(stop) = order.stop else { continue };
            let now = (stop.sent, *ended_plan);
            let (before, plan) = self.stops_sent.insert(order.serial, now).unwrap_or(now);
            let asked = self.stopped == Some(order.serial) || plan != *ended_plan;
            let late = order.anomalies.iter().any(|anomaly| anomaly.kind == AnomalyKind::LateStart);
            assert!(stop.sent <= before.max(4) || asked || late, "0x36 repeated too often: {order:#?}");
        }
    }

    /// The order a frame to the pile names, which is durable.
    fn stored(&self, down: &Down) -> Serial {
        let serial = down.serial();
        assert!(self.pile.store.borrow().orders.contains_key(&serial), "before the order: {down:?}");
        serial
    }

    fn tell(&mut self, serial: Serial, gun: Gun) {
        if !self.told.iter().any(|(told, _)| *told == serial) {
            self.told.push((serial, gun));
        }
    }
}
