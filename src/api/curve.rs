//! GetChargingCurve: what is stored of a curve, and what the pile's session has not stored yet.

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Context;
use super::convert::{self, args};
use super::deadline::Deadline;
use super::error::ApiError;
use super::pb;
use crate::domain::curve::{Point, merged};
use crate::domain::{Command, Order, Reply, WallMs};

pub async fn get_charging_curve(
    context: &Context,
    request: Request<pb::GetChargingCurveRequest>,
) -> Result<Response<pb::GetChargingCurveResponse>, Status> {
    let (pile, serial) = args::get_charging_curve(request.get_ref())?;
    let deadline = Deadline::of(&request).min(Instant::now() + super::FRESH);
    // The session first: a chunk that is stored meanwhile is in both, and in neither if it were the other way round.
    let live = match context.cluster.execute(pile, Command::ReadCurve { serial }, deadline).await {
        Ok(Reply::Curve(points)) => Some(points),
        Ok(_) | Err(_) => None,
    };
    let stored = context.ledger.curve(pile, serial).await.map_err(ApiError::from)?;
    let order = context.ledger.order(pile, serial).await.map_err(ApiError::from)?;
    let is_live = live.is_some();
    let points = merged(stored, live.unwrap_or_default());
    let Some((order, _)) = order else {
        // A charge whose order is not stored yet, or not any more, may still have a curve.
        if points.is_empty() {
            return Err(ApiError::OrderUnknown { pile, serial }.into());
        }
        return Ok(told(&points, false, is_live));
    };
    let now = WallMs(std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as i64);
    let expired = has_expired(&order, points.first(), context.curves_kept.as_millis() as u64, now);
    Ok(told(&points, expired, is_live))
}

fn told(points: &[Point], expired: bool, live: bool) -> Response<pb::GetChargingCurveResponse> {
    Response::new(pb::GetChargingCurveResponse { points: convert::curve::points(points), expired, live })
}

/// Whether the charge began so long ago that its first chunk has gone, and it has.
fn has_expired(order: &Order, first: Option<&Point>, kept_ms: u64, now: WallMs) -> bool {
    let Some(began) = order.charging_at else { return false };
    let gone = first.is_none_or(|first| first.at.since(began) > FIRST_CHUNK_MS);
    gone && now.since(began) >= kept_ms
}

/// Where a first chunk that is there begins: with the charge, or a moment later.
const FIRST_CHUNK_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amount, Energy, Gun, Serial};

    #[test]
    fn a_curve_has_expired_once_its_beginning_is_old_and_gone() {
        let (pile, gun) = ("32010600019236".parse().expect("14 digits"), Gun::new(1).expect("a gun"));
        let mut order = Order::requested(pile, gun, Serial::from_bytes([1; 16]), WallMs(0));
        let point = |at| Point {
            at: WallMs(at),
            energy: Energy(0),
            amount: Amount(0),
            soc_percent: None,
            voltage_mv: 0,
            current_ma: 0,
            cable_celsius: None,
            battery_max_celsius: None,
            demand: None,
            extremes: None,
        };
        let kept = 10_000_000;
        assert!(!has_expired(&order, None, kept, WallMs(kept.cast_signed() * 9)), "it never charged");
        order.charging_at = Some(WallMs(1000));
        let check = |first: Option<i64>, now, expired| {
            assert_eq!(has_expired(&order, first.map(point).as_ref(), kept, WallMs(now)), expired, "{first:?} {now}");
        };
        check(None, 10_000_999, false); // nothing was measured
        check(None, 10_001_000, true);
        check(Some(2_000), 10_300_000, false); // the first chunk is written at its end
        check(Some(301_000), 10_400_000, true);
        check(Some(301_000), 9_000_000, false); // the pile was away at first
    }
}
