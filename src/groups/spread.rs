//! Whose a partition is to be: evenly, and moving as few as possible.

use crate::store::document::ConsumerId;

/// Gives every partition to one of `consumers`, so that nobody has two more than anybody else. A partition stays where it
/// is unless its consumer has gone or has too many.
pub fn spread(assigned: &mut [Option<ConsumerId>], consumers: &[ConsumerId]) {
    if consumers.is_empty() {
        return assigned.fill(None);
    }
    let count = |assigned: &[Option<ConsumerId>], id| assigned.iter().filter(|whose| **whose == Some(id)).count();
    let (each, over) = (assigned.len() / consumers.len(), assigned.len() % consumers.len());
    // Those who have most keep what cannot be divided.
    let mut order = consumers.to_vec();
    order.sort_by_key(|id| std::cmp::Reverse(count(assigned, *id)));
    let share = |id: ConsumerId| each + usize::from(order.iter().take(over).any(|other| *other == id));
    let mut has: Vec<(ConsumerId, usize)> = consumers.iter().map(|id| (*id, 0)).collect();
    for whose in assigned.iter_mut() {
        match whose.and_then(|id| has.iter_mut().find(|(other, _)| *other == id)) {
            Some((id, has)) if *has < share(*id) => *has += 1,
            Some(_) | None => *whose = None,
        }
    }
    let mut short = has.into_iter().flat_map(|(id, has)| std::iter::repeat_n(id, share(id) - has));
    for whose in assigned.iter_mut().filter(|whose| whose.is_none()) {
        *whose = short.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<ConsumerId> {
        numbers.iter().map(|number| ConsumerId { incarnation: 1, number: *number }).collect()
    }

    /// Partitions of each, and how many have moved from somebody who is still there.
    fn check(assigned: &mut [Option<ConsumerId>], consumers: &[u64], shares: &[usize], moved: usize) {
        let (before, consumers) = (assigned.to_vec(), ids(consumers));
        spread(assigned, &consumers);
        let mut found: Vec<_> =
            consumers.iter().map(|id| assigned.iter().filter(|whose| **whose == Some(*id)).count()).collect();
        found.sort_unstable();
        assert_eq!(found, shares);
        let stays = |id: &Option<ConsumerId>| id.is_some_and(|id| consumers.contains(&id));
        let changed = before.iter().zip(&*assigned).filter(|(before, now)| stays(before) && before != now).count();
        assert_eq!(changed, moved, "moved");
    }

    #[test]
    fn partitions_are_spread_evenly_and_move_only_if_they_must() {
        let mut assigned = vec![None; 64];
        check(&mut assigned, &[1], &[64], 0);
        check(&mut assigned, &[1, 2], &[32, 32], 32);
        check(&mut assigned, &[1, 2, 3], &[21, 21, 22], 21);
        check(&mut assigned, &[1, 3], &[32, 32], 0);
        check(&mut assigned, &[1, 3, 4, 5, 6], &[12, 13, 13, 13, 13], 38);
        check(&mut assigned, &[], &[], 0);
        assert!(assigned.iter().all(Option::is_none));
        let many: Vec<u64> = (0..100).collect();
        spread(&mut assigned, &ids(&many));
        let mut holders: Vec<_> = assigned.iter().flatten().collect();
        holders.sort_unstable();
        holders.dedup();
        assert_eq!(holders.len(), 64, "one each, and some wait");
    }

    #[test]
    fn whatever_comes_and_goes_every_partition_is_somebodys() {
        let (mut assigned, mut there, mut seed) = (vec![None; 64], vec![1], 7_u64);
        for next in 2..500 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if seed >> 63 == 0 || there.len() < 2 {
                there.push(next);
            } else {
                there.remove((seed >> 33) as usize % there.len());
            }
            let consumers = ids(&there);
            spread(&mut assigned, &consumers);
            let counts = consumers.iter().map(|id| assigned.iter().filter(|whose| **whose == Some(*id)).count());
            let (least, most) = counts.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
            assert!(most - least <= 1, "{least} to {most} of {there:?}");
            assert!(assigned.iter().all(|whose| whose.is_some_and(|id| consumers.contains(&id))));
        }
    }
}
