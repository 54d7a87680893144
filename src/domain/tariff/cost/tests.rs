use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

/// Sharp 1.9, peak 1.6, flat 1.4, valley 0.70001 CNY/kWh: valley until 08:00, peak until 12:00, flat until 18:00, sharp
/// until 22:00, valley again.
fn tariff() -> Tariff {
    let pair = |energy, service| PricePair { energy: Price(energy), service: Price(service) };
    let mut half_hours = [Period::Valley; 48];
    half_hours[16..24].fill(Period::Peak);
    half_hours[24..36].fill(Period::Flat);
    half_hours[36..44].fill(Period::Sharp);
    let prices = [pair(150_000, 40_000), pair(120_000, 40_000), pair(100_000, 40_000), pair(30_001, 40_000)];
    Tariff { prices, half_hours }
}

fn at(hour: i8, minute: i8) -> DateTime {
    date(2026, 5, 17).at(hour, minute, 0, 0)
}

#[test]
fn a_price_holds_until_the_next_half_hour() {
    assert_eq!(tariff().prices_at(at(7, 59)).unit(), Price(70_001));
    assert_eq!(tariff().prices_at(at(8, 0)).unit(), Price(160_000));
    let next = |local| Tariff::next_half_hour(local).expect("the calendar goes on");
    assert_eq!(next(at(8, 0)), at(8, 30));
    assert_eq!(next(date(2026, 12, 31).at(23, 59, 59, 999_999_999)), date(2027, 1, 1).at(0, 0, 0, 0));
    assert_eq!(Tariff::next_half_hour(DateTime::MAX), None);
}

#[test]
fn the_classes_of_a_span_are_those_it_touches() {
    let between = |from, to| tariff().periods_between(from, to);
    assert_eq!(between(at(8, 0), at(11, 59)), [false, true, false, false]);
    assert_eq!(between(at(7, 59), at(12, 0)), [false, true, true, true]);
    assert_eq!(between(at(8, 0), at(7, 0)), [false; 4]);
    assert_eq!(between(DateTime::MIN, DateTime::MAX), [true; 4], "a day has all there are");
}

#[test]
fn readings_that_go_back_are_no_curve() {
    let check = |readings: &[(DateTime, u64)], why| {
        assert_eq!(Curve::new(readings.iter().map(|(at, energy)| (*at, Energy(*energy)))), Err(why));
    };
    check(&[], BadCurve::Empty);
    check(&[(at(8, 0), 0), (at(8, 0), 1)], BadCurve::TimeStands { at: 1 });
    check(&[(at(8, 0), 0), (at(9, 0), 5), (at(10, 0), 4)], BadCurve::EnergyFalls { at: 2 });
    check(&[(DateTime::MIN, 0), (DateTime::MAX, 4)], BadCurve::TooLong { at: 1 });
    assert_eq!(Curve::new([(at(8, 0), Energy(7))]).map(|curve| curve.energy()), Ok(Energy(0)));
}

#[test]
fn a_loss_ratio_rounds_half_up() {
    let ratio = |permille| LossRatio::from_permille(permille).expect("at most 100 %");
    assert_eq!(ratio(0).apply(Energy(12_345)), Energy(12_345));
    // 5 × 1.1 = 5.5; 4 × 1.1 = 4.4.
    assert_eq!((ratio(100).apply(Energy(5)), ratio(100).apply(Energy(4))), (Energy(6), Energy(4)));
    assert_eq!(ratio(1000).apply(Energy(u64::MAX)), Energy(u64::MAX), "and has an end");
    assert_eq!(LossRatio::from_permille(1001), None);
}

fn tariffs() -> impl Strategy<Value = Tariff> {
    let pair = (0..2_000_000_u32, 0..1_000_000_u32)
        .prop_map(|(energy, service)| PricePair { energy: Price(energy), service: Price(service) });
    let class = (0..4_usize).prop_map(|index| Period::ALL[index]);
    let (prices, hours) = (proptest::collection::vec(pair, 4), proptest::collection::vec(class, 48));
    (prices, hours).prop_map(|(prices, hours)| Tariff {
        prices: prices.try_into().expect("four"),
        half_hours: hours.try_into().expect("48"),
    })
}

/// Readings at seconds from midnight, over up to three days.
fn readings() -> impl Strategy<Value = Vec<(DateTime, Energy)>> {
    let steps = proptest::collection::vec((1..20_000_000_i64, 0..500_000_u64), 0..12);
    (0..86_400_000_i64, 0..1_000_000_000_u64, steps).prop_map(|(start, first, steps)| {
        let mut last = (at(0, 0) + SignedDuration::from_millis(start), Energy(first));
        let mut readings = vec![last];
        for (passed, gained) in steps {
            last = (last.0 + SignedDuration::from_millis(passed), last.1 + Energy(gained));
            readings.push(last);
        }
        readings
    })
}

fn losses() -> impl Strategy<Value = LossRatio> {
    (0..=LossRatio::MAX_PERMILLE).prop_map(|permille| LossRatio::from_permille(permille).expect("in range"))
}

fn curve(readings: &[(DateTime, Energy)]) -> Curve {
    Curve::new(readings.iter().copied()).expect("readings that go on")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parts_sum_to_the_whole(tariff in tariffs(), readings in readings(), loss in losses()) {
        let curve = curve(&readings);
        let cost = tariff.cost(&curve, loss);
        prop_assert_eq!(cost.energy(), curve.energy());
        prop_assert_eq!(cost.energy_fee() + cost.service_fee(), cost.amount());
        for (period, part) in Period::ALL.into_iter().zip(cost.periods) {
            prop_assert_eq!(part.energy_fee + part.service_fee, part.amount);
            prop_assert!(part.service_fee >= Amount(0) && part.energy_fee >= Amount(0));
            prop_assert_eq!(part.loss_energy, loss.apply(part.energy));
            prop_assert_eq!(part.amount, tariff.prices_of(period).unit().cost(part.loss_energy));
        }
    }

    #[test]
    fn energy_lies_where_exact_arithmetic_puts_it(tariff in tariffs(), readings in readings()) {
        // In millionths of a unit, each piece by itself.
        let (mut exact, mut crossings) = ([0_i128; 4], 0);
        for pair in readings.windows(2) {
            let ((from, low), (to, high)) = (pair[0], pair[1]);
            let whole = to.duration_since(from).as_millis();
            let mut now = from;
            while now < to {
                let next = Tariff::next_half_hour(now).expect("goes on").min(to);
                let passed = next.duration_since(now).as_millis();
                exact[tariff.period_at(now).index()] += i128::from((high - low).0) * 1_000_000 * passed / whole;
                (now, crossings) = (next, crossings + 1);
            }
        }
        let cost = tariff.cost(&curve(&readings), LossRatio::default());
        for (part, exact) in cost.periods.iter().zip(exact) {
            let off = (i128::from(part.energy.0) * 1_000_000 - exact).abs();
            prop_assert!(off <= crossings * 1_000_001, "{} instead of {exact} millionths", part.energy.0);
        }
    }

    #[test]
    fn a_charge_that_goes_on_never_costs_less(
        tariff in tariffs(), readings in readings(), loss in losses(), kept in any::<prop::sample::Index>(),
    ) {
        let before = tariff.cost(&curve(&readings[..=kept.index(readings.len())]), loss);
        let after = tariff.cost(&curve(&readings), loss);
        for (before, after) in before.periods.iter().zip(after.periods) {
            prop_assert!(after.energy >= before.energy && after.loss_energy >= before.loss_energy);
            prop_assert!(after.amount >= before.amount && after.energy_fee >= before.energy_fee);
        }
    }

    #[test]
    fn more_energy_or_loss_never_costs_less(
        tariff in tariffs(), energies in any::<[u32; 4]>(), more in any::<[u16; 4]>(), loss in losses(),
    ) {
        let before = tariff.cost_of(energies.map(|energy| Energy(energy.into())), LossRatio::default());
        let higher = std::array::from_fn(|n| Energy(u64::from(energies[n]) + u64::from(more[n])));
        let after = tariff.cost_of(higher, loss);
        for (before, after) in before.periods.iter().zip(after.periods) {
            prop_assert!(after.amount >= before.amount && after.loss_energy >= before.loss_energy);
        }
    }

    /// A reading more, where the line goes: its energy is cut to a whole unit, which moves every later crossing of the
    /// piece by less than one, and no class by more than one per crossing.
    #[test]
    fn another_reading_on_the_line_changes_nothing_but_rounding(
        tariff in tariffs(), readings in readings(), loss in losses(), piece in any::<prop::sample::Index>(),
        share in 1..1000_i64,
    ) {
        prop_assume!(readings.len() > 1);
        let piece = piece.index(readings.len() - 1);
        let ((from, low), (to, high)) = (readings[piece], readings[piece + 1]);
        let whole = to.duration_since(from).as_millis() as i64;
        let passed = whole * share / 1000;
        prop_assume!(passed > 0);
        let gained = u128::from((high - low).0) * passed as u128 / whole as u128;
        let mut split = readings.clone();
        split.insert(piece + 1, (from + SignedDuration::from_millis(passed), low + Energy(gained as u64)));

        let (before, after) = (tariff.cost(&curve(&readings), loss), tariff.cost(&curve(&split), loss));
        prop_assert_eq!(before.energy(), after.energy());
        let crossings = whole as u64 / HALF_HOUR_MS as u64 + 2;
        for ((before, after), period) in before.periods.iter().zip(after.periods).zip(Period::ALL) {
            let moved = before.energy.0.abs_diff(after.energy.0);
            prop_assert!(moved <= crossings, "{moved} units in {crossings} crossings");
            // A unit more costs at most its price at a ratio of 100 %, and each side is rounded.
            let bound = tariff.prices_of(period).unit().cost(Energy(2 * moved + 1)) + Amount(1);
            prop_assert!(before.amount.0.abs_diff(after.amount.0) <= bound.0.unsigned_abs());
        }
    }

    #[test]
    fn a_day_later_costs_the_same(tariff in tariffs(), readings in readings(), loss in losses()) {
        let tomorrow: Vec<_> =
            readings.iter().map(|(at, energy)| (*at + SignedDuration::from_hours(24), *energy)).collect();
        prop_assert_eq!(tariff.cost(&curve(&readings), loss), tariff.cost(&curve(&tomorrow), loss));
    }

    /// Where the meter starts to count says nothing about what is charged.
    #[test]
    fn the_first_reading_is_no_energy(tariff in tariffs(), readings in readings(), loss in losses()) {
        let first = readings[0].1;
        let from_zero: Vec<_> = readings.iter().map(|(at, energy)| (*at, *energy - first)).collect();
        prop_assert_eq!(tariff.cost(&curve(&readings), loss), tariff.cost(&curve(&from_zero), loss));
    }
}
