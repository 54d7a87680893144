//! ChargingService.

use tonic::{Request, Response, Status};

use super::convert::{self, args};
use super::deadline::Deadline;
use super::error::ApiError;
use super::pb::charging_service_server::ChargingService;
use super::pb::{self, watch_orders_response::Update};
use super::watch::{Client, Ended, Messages, watch};
use super::{Context, unexpected};
use crate::domain::order::{AnomalyKind, Change};
use crate::domain::{CommandError, EventKind, Order, OrderState, PileCode, Reply};
use crate::store::{EventWatch, OrderQuery};

#[derive(Clone)]
pub struct Charging(pub Context);

#[tonic::async_trait]
impl ChargingService for Charging {
    async fn start_charging(
        &self,
        request: Request<pb::StartChargingRequest>,
    ) -> Result<Response<pb::StartChargingResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::start(request.into_inner())?;
        let order = match self.0.execute(pile, command, deadline).await? {
            Reply::Started(order) => *order,
            Reply::StartedBefore { serial } => {
                let found = self.0.ledger.order(pile, serial).await.map_err(ApiError::from)?;
                let unknown = CommandError::OutcomeUnknown { serial: Some(serial) };
                found.map(|(order, _)| order).ok_or(ApiError::from(unknown))?
            }
            other => return Err(unexpected(&other)),
        };
        let order = convert::order::order(not_failed(order)?, self.0.offset);
        Ok(Response::new(pb::StartChargingResponse { order: Some(order) }))
    }

    async fn stop_charging(
        &self,
        request: Request<pb::StopChargingRequest>,
    ) -> Result<Response<pb::StopChargingResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::stop(request.get_ref())?;
        match self.0.execute(pile, command, deadline).await? {
            Reply::Stopped { order, confirmed_by } => Ok(Response::new(pb::StopChargingResponse {
                order: Some(convert::order::order(*order, self.0.offset)),
                confirmed_by: convert::order::stop_proof(confirmed_by).into(),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::GetOrderResponse>, Status> {
        let (pile, serial) = args::get_order(request.get_ref())?;
        let found = self.0.ledger.order(pile, serial).await.map_err(ApiError::from)?;
        let (order, _) = found.ok_or(ApiError::OrderUnknown { pile, serial })?;
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

/// A start answers with its order, unless the order says that it did not come about.
fn not_failed(order: Order) -> Result<Order, ApiError> {
    match (order.state, &order.failure) {
        (OrderState::Failed, Some(failure)) => Err(ApiError::StartFailed(failure.clone())),
        _ => Ok(order),
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
        let stamped = events.next().await?;
        let pile = stamped.event.pile;
        if !wanted.is_empty() && wanted.binary_search(&pile).is_err() {
            continue;
        }
        let (change, after) = match &stamped.event.kind {
            EventKind::Order { order, change } => (*change, Some(order.as_ref().clone())),
            // The order itself stays as it was settled.
            EventKind::RecordConflict { serial } => {
                let found = context.ledger.order(pile, *serial).await?;
                (Change::Anomaly(AnomalyKind::RecordConflict), found.map(|(order, _)| order))
            }
            EventKind::PileOnline(_) | EventKind::PileOffline { .. } | EventKind::GunChanged(_) => continue,
        };
        if let Some(after) = after {
            let event = convert::order::event(&stamped, change, after, context.offset);
            send(&client, Update::Event(event)).await?;
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
    use crate::domain::order::Failure;
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
        check(OrderState::Failed, Some(Failure::NotPluggedIn), false);
    }
}
