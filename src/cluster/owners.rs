//! Which session a pile was last found to have: saves asking the store, and is wrong at any time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::{Fence, PileCode};

/// Two generations of half the size: when the young one is full it becomes the old one, and what nobody has asked for
/// in a whole generation is forgotten.
pub struct Owners {
    half: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    young: HashMap<PileCode, Fence>,
    old: HashMap<PileCode, Fence>,
}

impl Owners {
    /// Remembers at most `capacity` piles, and at least two.
    pub fn new(capacity: usize) -> Self {
        Self { half: (capacity / 2).max(1), known: Mutex::default() }
    }

    pub fn get(&self, pile: PileCode) -> Option<Fence> {
        let mut known = self.lock();
        if let Some(fence) = known.young.get(&pile) {
            return Some(*fence);
        }
        let fence = known.old.remove(&pile)?;
        known.keep(pile, fence, self.half);
        Some(fence)
    }

    pub fn learn(&self, pile: PileCode, fence: Fence) {
        let mut known = self.lock();
        known.old.remove(&pile);
        known.keep(pile, fence, self.half);
    }

    /// Forgets the pile's owner if it is this one: somebody may have learnt a newer one meanwhile.
    pub fn forget(&self, pile: PileCode, fence: Fence) {
        let mut known = self.lock();
        let Known { young, old } = &mut *known;
        for generation in [young, old] {
            if generation.get(&pile) == Some(&fence) {
                generation.remove(&pile);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic while the lock was held cannot leave a map half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keep(&mut self, pile: PileCode, fence: Fence, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&pile) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(pile, fence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Epoch, SessionId};

    fn pile(n: u8) -> PileCode {
        format!("{n:014}").parse().expect("14 digits")
    }

    fn fence(epoch: u64) -> Fence {
        Fence { session: SessionId { incarnation: 1, counter: epoch }, epoch: Epoch(epoch) }
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_bounded() {
        let owners = Owners::new(10);
        for n in 0..100 {
            owners.learn(pile(n), fence(u64::from(n)));
            assert_eq!(owners.get(pile(0)), Some(fence(0)), "after {n} others");
        }
        let known = (0..100).filter(|n| owners.get(pile(*n)).is_some()).count();
        assert!((1..=10).contains(&known), "{known}");
    }

    #[test]
    fn only_the_owner_that_was_wrong_is_forgotten() {
        let owners = Owners::new(10);
        owners.learn(pile(1), fence(2));
        owners.forget(pile(1), fence(1));
        assert_eq!(owners.get(pile(1)), Some(fence(2)));
        owners.forget(pile(1), fence(2));
        assert_eq!(owners.get(pile(1)), None);
    }
}
