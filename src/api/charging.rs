//! ChargingService.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::amend::{Amendment, wall};
use super::convert::{self, args};
use super::deadline::Deadline;
use super::error::ApiError;
use super::pb::charging_service_server::ChargingService;
use super::pb::{self, watch_orders_response::Update};
use super::watch::{Client, Ended, Messages, watch};
use super::{Context, unexpected};
use crate::domain::order::{Failure, Happening, StartRequest};
use crate::domain::{Command, CommandError, EventKind, Order, OrderState, PileCode, Reply, Serial};
use crate::store::{EventWatch, OrderQuery, Seen};

#[derive(Clone)]
pub struct Charging(pub Context);

#[tonic::async_trait]
impl ChargingService for Charging {
    async fn start_charging(
        &self,
        request: Request<pb::StartChargingRequest>,
    ) -> Result<Response<pb::StartChargingResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, start) = args::start(request.into_inner())?;
        let request = start.as_request();
        let order = match self.0.execute(pile, Command::StartCharging(Box::new(start)), deadline).await {
            Ok(Reply::Started(order)) => *order,
            Ok(Reply::StartedBefore { serial }) => self.started_before(pile, serial).await?,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => self.started_before(pile, self.attempt(pile, request, error).await?).await?,
        };
        let order = convert::order::order(not_failed(order)?, self.0.offset);
        Ok(Response::new(pb::StartChargingResponse { order: Some(order) }))
    }

    async fn start_parallel_charging(
        &self,
        request: Request<pb::StartParallelChargingRequest>,
    ) -> Result<Response<pb::StartParallelChargingResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, start) = args::start_parallel(request.into_inner())?;
        let request = start.as_request();
        let orders = match self.0.execute(pile, Command::StartParallelCharging(Box::new(start)), deadline).await {
            Ok(Reply::ParallelStarted(orders)) => *orders,
            Ok(Reply::StartedBefore { serial }) => self.both_started_before(pile, serial).await?,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => self.both_started_before(pile, self.attempt(pile, request, error).await?).await?,
        };
        let orders = neither_failed(orders)?.map(|order| convert::order::order(order, self.0.offset)).to_vec();
        Ok(Response::new(pb::StartParallelChargingResponse { orders }))
    }

    async fn stop_charging(
        &self,
        request: Request<pb::StopChargingRequest>,
    ) -> Result<Response<pb::StopChargingResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, serial, stands) = args::stop(request.get_ref())?;
        let (order, proof) = match (self.0.execute(pile, Command::StopCharging { serial }, deadline).await, stands) {
            (Ok(Reply::Stopped { order, confirmed_by }), _) => (order, convert::order::stop_proof(confirmed_by)),
            (Ok(other), _) => return Err(unexpected(&other)),
            (Err(error), Some(stands)) if is_away(&error) => {
                (self.stop_at_login(pile, serial, stands, deadline).await?, pb::StopProof::Pending)
            }
            (Err(error), _) => return Err(error.into()),
        };
        let order = convert::order::order(*order, self.0.offset);
        Ok(Response::new(pb::StopChargingResponse { order: Some(order), confirmed_by: proof.into() }))
    }

    async fn update_balance(
        &self,
        request: Request<pb::UpdateBalanceRequest>,
    ) -> Result<Response<pb::UpdateBalanceResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::update_balance(request.get_ref())?;
        match self.0.execute(pile, command, deadline).await? {
            Reply::BalanceUpdated(order) => {
                let order = convert::order::order(*order, self.0.offset);
                Ok(Response::new(pb::UpdateBalanceResponse { order: Some(order) }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn close_order(
        &self,
        request: Request<pb::CloseOrderRequest>,
    ) -> Result<Response<pb::CloseOrderResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, serial, close) = args::close_order(request.into_inner())?;
        let command = Command::CloseOrder { serial, close: Box::new(close.clone()) };
        let change = |now, order: &mut Order| {
            close.check(order, now)?;
            Ok(order.apply(now, Happening::Closed(Box::new(close.clone()))))
        };
        let order = match self.0.amend((pile, serial), command, change, deadline).await? {
            Amendment::BySession(Reply::Closed(order)) | Amendment::InStore(order) => *order,
            Amendment::BySession(other) => return Err(unexpected(&other)),
        };
        let order = convert::order::order(order, self.0.offset);
        Ok(Response::new(pb::CloseOrderResponse { order: Some(order) }))
    }

    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::GetOrderResponse>, Status> {
        let (pile, serial) = args::get_order(request.get_ref())?;
        let deadline = Deadline::of(&request).min(Instant::now() + super::FRESH);
        let known = match self.0.cluster.execute(pile, Command::ReadOrder { serial }, deadline).await {
            Ok(Reply::Order(known)) => known.map(|order| *order),
            Ok(_) | Err(_) => None,
        };
        let stored = self.0.ledger.order(pile, serial).await.map_err(ApiError::from)?;
        let order = newest(known, stored.map(|(order, _)| order));
        let order = order.ok_or(ApiError::OrderUnknown { pile, serial })?;
        let order = convert::order::order(order, self.0.offset);
        Ok(Response::new(pb::GetOrderResponse { order: Some(order) }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let query = args::list_orders(request.into_inner())?;
        let page = self.0.ledger.orders(query).await.map_err(ApiError::from)?;
        let orders = page.items.into_iter().map(|order| convert::order::order(order, self.0.offset)).collect();
        Ok(Response::new(pb::ListOrdersResponse { orders, next_page_token: page.next_page_token }))
    }

    async fn estimate_cost(
        &self,
        request: Request<pb::EstimateCostRequest>,
    ) -> Result<Response<pb::EstimateCostResponse>, Status> {
        Ok(Response::new(self.0.estimate(request.get_ref())?))
    }

    async fn get_charging_curve(
        &self,
        request: Request<pb::GetChargingCurveRequest>,
    ) -> Result<Response<pb::GetChargingCurveResponse>, Status> {
        super::curve::get_charging_curve(&self.0, request).await
    }

    type WatchOrdersStream = Messages<pb::WatchOrdersResponse>;

    async fn watch_orders(
        &self,
        request: Request<pb::WatchOrdersRequest>,
    ) -> Result<Response<Self::WatchOrdersStream>, Status> {
        let piles = args::watch_orders(request.get_ref())?;
        // Before the snapshot, so that nothing falls between the two.
        let events = self.0.ledger.watch().await.map_err(ApiError::from)?;
        let context = self.0.clone();
        let run = |client| changes(context, client, piles, events);
        Ok(Response::new(watch(self.0.shutdown.clone(), run)))
    }
}

/// What the order's session knows is never behind what a caller was told; what is stored is never behind what a watch
/// told. A settled order is settled, whether its session has heard of it or not; else the session is ahead.
fn newest(known: Option<Order>, stored: Option<Order>) -> Option<Order> {
    let ended = |order: &Order| matches!(order.state, OrderState::Settled | OrderState::ClosedWithoutRecord);
    match (known, stored) {
        (_, Some(stored)) if ended(&stored) => Some(stored),
        (Some(known), _) => Some(known),
        (None, stored) => stored,
    }
}

impl Charging {
    /// Keeps the stop with the order until its pile is back.
    async fn stop_at_login(
        &self,
        pile: PileCode,
        serial: Serial,
        stands: Duration,
        deadline: Instant,
    ) -> Result<Box<Order>, Status> {
        let not_active = |state: &'static str| CommandError::OrderNotActive { serial, state: state.into() };
        if self.0.gun_is_elses(pile, serial).await? {
            return Err(ApiError::from(not_active("another order has its gun")).into());
        }
        let expires_at = wall().plus_ms(stands.as_millis() as u64);
        let change = |now, order: &mut Order| {
            let may = order.may_be_stopped().then_some(()).ok_or_else(|| not_active(order.state.name()));
            may.map(|()| order.apply(now, Happening::StopPlanned { expires_at }))
        };
        match self.0.amend((pile, serial), Command::StopAtLogin { serial, expires_at }, change, deadline).await? {
            Amendment::BySession(Reply::StopPlanned(order)) | Amendment::InStore(order) => Ok(order),
            Amendment::BySession(other) => Err(unexpected(&other)),
        }
    }

    /// What has become of a start that was asked for before.
    async fn started_before(&self, pile: PileCode, serial: Serial) -> Result<Order, ApiError> {
        let found = self.0.ledger.order(pile, serial).await?;
        // Still unanswered: nobody can say more than that until the pile, or time, decides.
        let known = found.map(|(order, _)| order).filter(|order| order.state != OrderState::Requested);
        known.ok_or(CommandError::OutcomeUnknown { serial: Some(serial) }.into())
    }

    /// The same of a start on two guns, of which `serial` leads. What one of them has failed with is known even while the
    /// other is unanswered.
    async fn both_started_before(&self, pile: PileCode, serial: Serial) -> Result<[Order; 2], ApiError> {
        let unknown = || ApiError::from(CommandError::OutcomeUnknown { serial: Some(serial) });
        let first = self.0.ledger.order(pile, serial).await?;
        let (first, _) = first.ok_or_else(unknown)?;
        let other = first.parallel.ok_or(ApiError::Defect("a start on two guns has led to one order"))?;
        let second = self.0.ledger.order(pile, other.serial).await?;
        let (second, _) = second.ok_or_else(unknown)?;
        let orders = [first, second];
        if orders.iter().any(Order::never_came_about) || orders.iter().all(Order::is_answered) {
            Ok(orders)
        } else {
            Err(unknown())
        }
    }

    /// What the earlier attempt with this request id has led to, if `error` says that this one has done nothing: a retry
    /// gets its result even while the pile is away, or its gun is used by somebody else by now.
    async fn attempt(&self, pile: PileCode, request: StartRequest, error: ApiError) -> Result<Serial, ApiError> {
        let StartRequest { id, arguments } = request;
        if !has_done_nothing(&error) {
            return Err(error);
        }
        match self.0.ledger.start_attempt(pile, id).await {
            Ok(Some(before)) if before.arguments == arguments => Ok(before.serial),
            Ok(Some(_)) => Err(CommandError::RequestReused { id }.into()),
            // A store that does not answer leaves the first error standing: it is true.
            Ok(None) | Err(_) => Err(error),
        }
    }
}

/// It has done nothing, and an earlier one may have done it all.
fn has_done_nothing(error: &ApiError) -> bool {
    let ApiError::Command(error) = error else { return false };
    match error {
        CommandError::PileOffline { .. }
        | CommandError::PileBusy { .. }
        | CommandError::GunBusy { .. }
        | CommandError::SerialTaken { .. }
        | CommandError::TariffNotCurrent { .. }
        | CommandError::DeadlinePassed
        | CommandError::SessionLost { written: false } => true,
        CommandError::PileUnknown
        | CommandError::PileRejected { .. }
        | CommandError::GunUnknown { .. }
        | CommandError::OrderNotActive { .. }
        | CommandError::OrderNotHeld { .. }
        | CommandError::OrderActive { .. }
        | CommandError::OutcomeUnknown { .. }
        | CommandError::NodeLost { .. }
        | CommandError::Unsupported { .. }
        | CommandError::UnsupportedByPile { .. }
        | CommandError::SessionLost { written: true }
        | CommandError::StoreUnavailable { .. }
        | CommandError::RequestReused { .. } => false,
    }
}

/// Nothing was written to the pile, because it is not there.
fn is_away(error: &ApiError) -> bool {
    matches!(error, ApiError::Command(CommandError::PileOffline { .. } | CommandError::SessionLost { written: false }))
}

/// A start answers with its order, unless the order says that it did not come about.
fn not_failed(order: Order) -> Result<Order, ApiError> {
    let failure = match (order.state, &order.failure) {
        (OrderState::Failed, Some(failure)) => failure.clone(),
        // Its record came instead of 0x33, which is what the caller was told the first time.
        (OrderState::Settled, Some(failure @ Failure::FailedOnPile { .. }))
            if order.accepted_at.is_none() && order.charging_at.is_none() =>
        {
            failure.clone()
        }
        _ => return Ok(order),
    };
    Err(ApiError::StartFailed { failure, record: order.bill.map(|bill| bill.record.code) })
}

/// The same of a start on two guns: the one that has not come about is named, and of two the one the pile has spoken of,
/// since the other has failed for that.
fn neither_failed(orders: [Order; 2]) -> Result<[Order; 2], ApiError> {
    let said_no =
        |order: &&Order| matches!(order.failure, Some(Failure::Rejected { .. } | Failure::FailedOnPile { .. }));
    let failed = || orders.iter().filter(|order| not_failed((*order).clone()).is_err());
    let Some(order) = failed().find(said_no).or_else(|| failed().next()) else { return Ok(orders) };
    let (gun, serial) = (order.gun, order.serial);
    match not_failed(order.clone()) {
        Ok(_) => Ok(orders),
        Err(ApiError::StartFailed { failure: Failure::Rejected { code, name }, record: _ }) => {
            let error = CommandError::PileRejected { frame: 0xA3, code, name };
            Err(ApiError::OfGun { gun, serial, error: Box::new(error.into()) })
        }
        Err(error) => Err(ApiError::OfGun { gun, serial, error: Box::new(error) }),
    }
}

/// `wanted` is sorted; empty = all.
async fn changes(
    context: Context,
    client: Client<pb::WatchOrdersResponse>,
    wanted: Vec<PileCode>,
    mut events: EventWatch,
) -> Result<(), Ended> {
    let mut count = 0;
    if wanted.is_empty() {
        count += snapshot(&context, &client, None).await?;
    }
    for pile in &wanted {
        count += snapshot(&context, &client, Some(*pile)).await?;
    }
    send(&client, Update::SnapshotEnd(pb::SnapshotEnd { count })).await?;
    loop {
        let stamped = match events.next().await? {
            Seen::Event(stamped) => stamped,
            Seen::Gap(gap) => {
                send(&client, Update::Gap(convert::gap(gap))).await?;
                continue;
            }
        };
        let pile = stamped.event.pile;
        if !wanted.is_empty() && wanted.binary_search(&pile).is_err() {
            continue;
        }
        match &stamped.event.kind {
            EventKind::Order { order, change } => {
                let event = convert::order::event(&stamped, *change, order.as_ref().clone(), context.offset);
                if let Some(event) = event {
                    send(&client, Update::Event(event)).await?;
                }
            }
            // Without an order of ours it is none of this watch's.
            EventKind::Bms { order, report, gun: _, serial: _ } => {
                if let Some(order) = order {
                    let (report, order) = (report.as_ref().clone(), order.as_ref().clone());
                    let event = convert::order::vehicle_event(&stamped, report, order, context.offset);
                    send(&client, Update::Event(event)).await?;
                }
            }
            // A conflict is told by the order's own event, once, with the order after it.
            EventKind::RecordConflict { .. }
            | EventKind::PileOnline(_)
            | EventKind::PileOffline { .. }
            | EventKind::GunChanged(_)
            | EventKind::AlarmRaised { .. }
            | EventKind::AlarmCleared { .. }
            | EventKind::DuplicatePileCode { .. } => {}
        }
    }
}

/// The open orders, state by state in the order in which an order passes through them: one that moves on meanwhile
/// is met again further on, not missed.
async fn snapshot(
    context: &Context,
    client: &Client<pb::WatchOrdersResponse>,
    pile: Option<PileCode>,
) -> Result<i64, Ended> {
    let mut count = 0;
    for state in OrderState::ALL.into_iter().filter(|state| state.is_open()) {
        let mut page_token = String::new();
        loop {
            let query = OrderQuery {
                pile,
                state: Some(state),
                created_from: None,
                created_to: None,
                page_size: super::SNAPSHOT_PAGE,
                page_token,
            };
            let page = context.ledger.orders(query).await?;
            for order in page.items {
                send(client, Update::Snapshot(convert::order::order(order, context.offset))).await?;
                count += 1;
            }
            if page.next_page_token.is_empty() {
                break;
            }
            page_token = page.next_page_token;
        }
    }
    Ok(count)
}

async fn send(client: &Client<pb::WatchOrdersResponse>, update: Update) -> Result<(), Ended> {
    client.send(pb::WatchOrdersResponse { update: Some(update) }).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Gun, Serial, WallMs};

    #[test]
    fn a_start_that_was_answered_before_answers_as_it_ended() {
        let check = |state, failure, accepted: bool| {
            let pile = "32010600019236".parse().expect("code");
            let gun = Gun::new(1).expect("gun");
            let order = Order::requested(pile, gun, Serial::from_bytes([1; 16]), WallMs(0));
            assert_eq!(not_failed(Order { state, failure, ..order }).is_ok(), accepted, "{state:?}");
        };
        let no = || Some(Failure::Rejected { code: 3, name: "equipment fault".into() });
        check(OrderState::WaitingForPlug, None, true);
        check(OrderState::Charging, no(), true); // it failed, and charged after all
        check(OrderState::Settled, no(), true);
        check(OrderState::Failed, no(), false);
        // Its record came instead of 0x33.
        check(OrderState::Settled, Some(Failure::FailedOnPile { code: 0x59, name: "no BHM".into() }), false);
        check(OrderState::Failed, Some(Failure::NotPluggedIn), false);
        check(OrderState::Failed, Some(Failure::NotSent), false);
    }

    #[test]
    fn a_settlement_is_told_even_before_its_session_has_heard_of_it() {
        let order = |state| {
            let (pile, gun) = ("32010600019236".parse().expect("14 digits"), Gun::new(1).expect("a gun"));
            Some(Order { state, ..Order::requested(pile, gun, Serial::from_bytes([1; 16]), WallMs(0)) })
        };
        let check = |known, stored, told: Option<OrderState>| assert_eq!(newest(known, stored).map(|o| o.state), told);
        check(order(OrderState::Finished), order(OrderState::Settled), Some(OrderState::Settled));
        check(order(OrderState::Charging), order(OrderState::Starting), Some(OrderState::Charging));
        check(order(OrderState::Charging), order(OrderState::Failed), Some(OrderState::Charging));
        check(None, order(OrderState::Starting), Some(OrderState::Starting));
        check(order(OrderState::Charging), None, Some(OrderState::Charging));
        check(None, None, None);
    }
}
