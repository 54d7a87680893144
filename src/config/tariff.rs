//! The tariff as people write it: per price class two prices and its hours.

use toml::{Table, Value};

use crate::domain::tariff::PricePair;
use crate::domain::{Period, Price, Tariff};

/// Reads `[tariff.…]`; every problem is a line.
pub fn read(values: &Table) -> Result<Tariff, Vec<String>> {
    let mut problems = vec![];
    let mut prices = [PricePair::default(); 4];
    let mut half_hours = [None; 48];
    for period in Period::ALL {
        let class = values.get("tariff").and_then(|t| t.get(period.name()));
        let text = |key: &str| class.and_then(|c| c.get(key)).and_then(Value::as_str).unwrap_or_default();
        for (key, price) in
            [("energy", &mut prices[period.index()].energy), ("service", &mut prices[period.index()].service)]
        {
            match read_price(text(key)) {
                Ok(read) => *price = read,
                Err(reason) => problems.push(format!("tariff.{}.{key} = \"{}\": {reason}", period.name(), text(key))),
            }
        }
        let hours = class.and_then(|c| c.get("hours")).and_then(Value::as_array).into_iter().flatten();
        for span in hours.map(|span| span.as_str().unwrap_or_default()) {
            let mut wrong = |reason: &str| {
                problems.push(format!("tariff.{}.hours = \"{span}\": {reason}", period.name()));
            };
            let Some((from, to)) = read_span(span) else {
                wrong("must be like 08:00-10:30, in half hours, within one day");
                continue;
            };
            for slot in &mut half_hours[from..to] {
                if let Some(taken) = slot.replace(period)
                    && taken != period
                {
                    wrong("overlaps the hours of another price class");
                    break;
                }
            }
        }
    }
    let missing: Vec<_> =
        half_hours.iter().enumerate().filter(|(_, slot)| slot.is_none()).map(|(n, _)| clock(n)).collect();
    if !missing.is_empty() {
        problems.push(format!("tariff.*.hours: no price class covers the half hours from {}", missing.join(", ")));
    }
    if problems.is_empty() {
        Ok(Tariff { prices, half_hours: half_hours.map(|slot| slot.unwrap_or(Period::Flat)) })
    } else {
        Err(problems)
    }
}

/// CNY per kWh with at most five decimals, at most 42949.67295: the wire's four bytes.
fn read_price(text: &str) -> Result<Price, &'static str> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) {
        return Err("must be a price in CNY per kWh like 1.20000");
    }
    if decimals.len() > 5 {
        return Err("must be exact to 0.00001 CNY: at most five decimals");
    }
    let units: Result<u64, _> = format!("{whole}{decimals:0<5}").parse();
    let price = units.ok().and_then(|units| u32::try_from(units).ok());
    price.map(Price).ok_or("must be at most 42949.67295 CNY per kWh")
}

/// `08:00-10:30` as half-hour slots, end exclusive.
fn read_span(text: &str) -> Option<(usize, usize)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (read_clock(from)?, read_clock(to)?);
    (from < to).then_some((from, to))
}

fn read_clock(text: &str) -> Option<usize> {
    let (hour, minute) = text.trim().split_once(':')?;
    let hour: usize = hour.parse().ok().filter(|_| hour.len() == 2)?;
    let slot = match minute {
        "00" => hour * 2,
        "30" => hour * 2 + 1,
        _ => return None,
    };
    (slot <= 48).then_some(slot)
}

fn clock(slot: usize) -> String {
    format!("{:02}:{:02}", slot / 2, slot % 2 * 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_or_refused() {
        let check = |text, units| assert_eq!(read_price(text).ok(), units, "{text}");
        check("1.2", Some(Price(120_000)));
        check("0.00001", Some(Price(1)));
        check("42949.67295", Some(Price(u32::MAX)));
        for bad in ["", ".5", "1.000001", "-1", "1,2", "42949.67296", "1e3", "99999999999999999999999"] {
            check(bad, None);
        }
    }

    #[test]
    fn hours_must_cover_the_day_once() {
        let check = |valley: &str, part: &str| {
            let text = format!(
                "[tariff.sharp]\nenergy='1'\nservice='0'\nhours=['08:00-12:00']\n[tariff.peak]\nenergy='1'\nservice='0'\nhours=[]\n\
                 [tariff.flat]\nenergy='1'\nservice='0'\nhours=[]\n[tariff.valley]\nenergy='1'\nservice='0'\nhours={valley}"
            );
            let found = read(&text.parse().expect("toml"));
            match part {
                "" => assert!(found.is_ok(), "{found:?}"),
                part => assert!(format!("{found:?}").contains(part), "{found:?}"),
            }
        };
        check("['00:00-08:00','12:00-24:00']", "");
        check("['00:00-08:00','12:30-24:00']", "from 12:00");
        check("['00:00-08:30','12:00-24:00']", "overlaps");
        check("['00:00-08:15','12:00-24:00']", "in half hours");
        check("['22:00-02:00']", "within one day");
    }
}
