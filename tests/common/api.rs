//! The public API, as a caller sees it.

use std::net::SocketAddr;
use std::time::Duration;

use pileway::api::pb;
use pileway::api::pb::charging_service_client::ChargingServiceClient;
use pileway::api::pb::cluster_service_client::ClusterServiceClient;
use pileway::api::pb::event_service_client::EventServiceClient;
use pileway::api::pb::pile_service_client::PileServiceClient;
use pileway::api::pb::telemetry_service_client::TelemetryServiceClient;
use pileway::wire::Serial;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use super::{Node, eventually, within};

/// Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub struct Api {
    pub piles: PileServiceClient<Channel>,
    pub charging: ChargingServiceClient<Channel>,
    pub telemetry: TelemetryServiceClient<Channel>,
    pub cluster: ClusterServiceClient<Channel>,
    pub events: EventServiceClient<Channel>,
    pub channel: Channel,
}

impl Api {
    pub async fn of(node: &Node) -> Self {
        Self::at(node.grpc).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = within("the API", endpoint.connect()).await.expect("the API listens");
        Self {
            piles: PileServiceClient::new(channel.clone()),
            charging: ChargingServiceClient::new(channel.clone()),
            telemetry: TelemetryServiceClient::new(channel.clone()),
            cluster: ClusterServiceClient::new(channel.clone()),
            events: EventServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// A pile that has logged in. Its first login is answered a moment before it is in the store.
    pub async fn pile(&self, code: &str) -> pb::Pile {
        let request = pb::GetPileRequest { pile: code.to_owned() };
        let ask = || async {
            match self.piles.clone().get_pile(request.clone()).await {
                Ok(answer) => Some(answer.into_inner().pile.expect("a pile")),
                Err(status) if status.code() == Code::NotFound => None,
                // A Redis that is busy with a thousand logins may take longer than its time limit; a read may be repeated.
                Err(status) if reason(&status).1 == "STORE_UNAVAILABLE" => None,
                Err(status) => panic!("GetPile: {status:?}"),
            }
        };
        eventually("a pile to be known", ask).await
    }

    pub async fn session(&self, code: &str) -> pb::PileSession {
        self.pile(code).await.session.expect("a session")
    }

    /// Waits until the pile is logged in and online.
    pub async fn session_begins(&self, code: &str) {
        let ask = || async {
            let pile = self.pile(code).await;
            (pile.session.is_some() && pile.presence() == pb::PilePresence::Online).then_some(())
        };
        eventually("a session", ask).await;
    }

    /// Waits until the pile has no session.
    pub async fn session_ends(&self, code: &str) {
        eventually("the end of a session", || async { self.pile(code).await.session.is_none().then_some(()) }).await;
    }

    pub async fn start(&self, request: pb::StartChargingRequest) -> Result<pb::Order, Status> {
        let answer = within("StartCharging", self.charging.clone().start_charging(request)).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    /// With the caller's own deadline.
    pub async fn start_within(
        &self,
        request: pb::StartChargingRequest,
        deadline: Duration,
    ) -> Result<pb::Order, Status> {
        let answer = within("StartCharging", self.charging.clone().start_charging(timed(request, deadline))).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    /// Both orders, by gun.
    pub async fn start_parallel(&self, request: pb::StartParallelChargingRequest) -> Result<[pb::Order; 2], Status> {
        let answer = within("StartParallelCharging", self.charging.clone().start_parallel_charging(request)).await?;
        Ok(answer.into_inner().orders.try_into().expect("two orders"))
    }

    pub async fn stop(&self, pile: &str, serial: &str) -> Result<pb::StopChargingResponse, Status> {
        let (pile, serial) = (pile.to_owned(), serial.to_owned());
        self.stop_with(pb::StopChargingRequest { pile, serial, ..Default::default() }).await
    }

    pub async fn stop_with(&self, request: pb::StopChargingRequest) -> Result<pb::StopChargingResponse, Status> {
        Ok(within("StopCharging", self.charging.clone().stop_charging(request)).await?.into_inner())
    }

    /// Ends an order without its record, with what was last metered.
    pub async fn close(&self, pile: &str, serial: &str, force: bool) -> Result<pb::Order, Status> {
        let reason = "its pile is gone".to_owned();
        let (pile, serial) = (pile.to_owned(), serial.to_owned());
        self.close_with(pb::CloseOrderRequest { pile, serial, reason, force, ..Default::default() }).await
    }

    pub async fn close_with(&self, request: pb::CloseOrderRequest) -> Result<pb::Order, Status> {
        let answer = within("CloseOrder", self.charging.clone().close_order(request)).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    pub async fn order(&self, pile: &str, serial: &str) -> pb::Order {
        self.find_order(pile, serial).await.expect("GetOrder")
    }

    pub async fn find_order(&self, pile: &str, serial: &str) -> Result<pb::Order, Status> {
        let request = pb::GetOrderRequest { pile: pile.to_owned(), serial: serial.to_owned() };
        let answer = within("GetOrder", self.charging.clone().get_order(request)).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    /// All orders of a pile, newest first, page by page.
    pub async fn orders(&self, pile: &str) -> Vec<pb::Order> {
        let mut request = pb::ListOrdersRequest { pile: pile.to_owned(), page_size: 100, ..Default::default() };
        let mut orders = vec![];
        loop {
            let page = self.charging.clone().list_orders(request.clone()).await.expect("ListOrders").into_inner();
            orders.extend(page.orders);
            if page.next_page_token.is_empty() {
                return orders;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Waits until the order is in this state, as stored: GetOrder may be ahead of that, and of what watches tell.
    pub async fn order_becomes(&self, pile: &str, serial: &str, state: pb::OrderState) -> pb::Order {
        let is_it = |order: &pb::Order| order.serial == serial && order.state() == state;
        let ask = || async { self.orders(pile).await.into_iter().find(is_it) };
        eventually(state.as_str_name(), ask).await
    }

    /// 0x56: the plainest command.
    pub async fn sync_clock(&self, pile: &str) -> Result<pb::SyncClockResponse, Status> {
        let request = pb::SyncClockRequest { pile: pile.to_owned() };
        Ok(within("SyncClock", self.piles.clone().sync_clock(request)).await?.into_inner())
    }

    pub async fn disconnect(&self, pile: &str, timing: pb::CommandTiming) -> Result<(), Status> {
        let request = pb::DisconnectPileRequest { pile: pile.to_owned(), timing: timing.into() };
        within("DisconnectPile", self.piles.clone().disconnect_pile(request)).await.map(drop)
    }

    /// Watches all piles; the snapshot has been read.
    pub async fn watch_piles(&self) -> PileEvents {
        let request = pb::WatchPilesRequest::default();
        let stream = within("WatchPiles", self.piles.clone().watch_piles(request)).await.expect("WatchPiles");
        let mut events = PileEvents { stream: stream.into_inner(), snapshot: vec![] };
        loop {
            match events.message().await {
                Some(pb::watch_piles_response::Update::Snapshot(pile)) => events.snapshot.push(pile),
                Some(pb::watch_piles_response::Update::SnapshotEnd(end)) => {
                    assert_eq!(end.count, events.snapshot.len() as i64);
                    return events;
                }
                other => panic!("{other:?} within the snapshot"),
            }
        }
    }

    /// Watches all orders; the snapshot has been read.
    pub async fn watch_orders(&self, piles: &[&str]) -> OrderEvents {
        let request = pb::WatchOrdersRequest { piles: piles.iter().map(|pile| (*pile).to_owned()).collect() };
        let stream = within("WatchOrders", self.charging.clone().watch_orders(request)).await.expect("WatchOrders");
        let mut events = OrderEvents { stream: stream.into_inner(), snapshot: vec![] };
        loop {
            match events.message().await {
                Some(pb::watch_orders_response::Update::Snapshot(order)) => events.snapshot.push(order),
                Some(pb::watch_orders_response::Update::SnapshotEnd(end)) => {
                    assert_eq!(end.count, events.snapshot.len() as i64);
                    return events;
                }
                other => panic!("{other:?} within the snapshot"),
            }
        }
    }
}

pub struct PileEvents {
    stream: Streaming<pb::WatchPilesResponse>,
    pub snapshot: Vec<pb::Pile>,
}

impl PileEvents {
    async fn message(&mut self) -> Option<pb::watch_piles_response::Update> {
        within("an event of a pile", self.any_time()).await
    }

    async fn any_time(&mut self) -> Option<pb::watch_piles_response::Update> {
        let message = self.stream.message().await.expect("the watch goes on")?;
        Some(message.update.expect("an update"))
    }

    /// The next event, which may be a matter of time as such; `None` if there is none until then.
    pub async fn next_until(&mut self, until: std::time::Instant) -> Option<pb::PileEvent> {
        match tokio::time::timeout_at(until.into(), self.any_time()).await.ok()?? {
            pb::watch_piles_response::Update::Event(event) => Some(event),
            other => panic!("{other:?} behind the snapshot"),
        }
    }

    pub async fn next(&mut self) -> Option<pb::PileEvent> {
        match self.message().await? {
            pb::watch_piles_response::Update::Event(event) => Some(event),
            other => panic!("{other:?} behind the snapshot"),
        }
    }

    /// Every event up to and with the first one that is `last`.
    pub async fn until(&mut self, pile: &str, last: pb::PileChange) -> Vec<pb::PileEvent> {
        let mut seen = vec![];
        loop {
            let event = self.next().await.expect("the watch goes on");
            let found = event.change() == last && of(&event) == pile;
            seen.push(event);
            if found {
                return seen;
            }
        }
    }
}

/// Whose event it is.
pub fn of(event: &pb::PileEvent) -> &str {
    &event.pile.as_ref().expect("a pile").pile
}

/// What happened to `pile`.
pub fn changes(events: &[pb::PileEvent], pile: &str) -> Vec<pb::PileChange> {
    events.iter().filter(|event| of(event) == pile).map(pb::PileEvent::change).collect()
}

pub struct OrderEvents {
    stream: Streaming<pb::WatchOrdersResponse>,
    pub snapshot: Vec<pb::Order>,
}

impl OrderEvents {
    async fn message(&mut self) -> Option<pb::watch_orders_response::Update> {
        let message = within("an event of an order", self.stream.message()).await.expect("the watch goes on")?;
        Some(message.update.expect("an update"))
    }

    pub async fn next(&mut self) -> Option<pb::OrderEvent> {
        match self.message().await? {
            pb::watch_orders_response::Update::Event(event) => Some(event),
            other => panic!("{other:?} behind the snapshot"),
        }
    }

    /// Every event up to and with the first one of this kind of this order.
    pub async fn until(&mut self, serial: &str, last: pb::OrderChange) -> Vec<pb::OrderEvent> {
        let mut seen = vec![];
        loop {
            let event = self.next().await.expect("the watch goes on");
            let found = event.change() == last && event.order.as_ref().is_some_and(|order| order.serial == serial);
            seen.push(event);
            if found {
                return seen;
            }
        }
    }
}

/// A start on gun 1 with a new request id and 50 CNY.
pub fn start_request(pile: &str, gun: i32) -> pb::StartChargingRequest {
    pb::StartChargingRequest {
        pile: pile.to_owned(),
        gun,
        request_id: new_request_id(),
        balance: Some(pb::Money { currency_code: "CNY".into(), units: 50, nanos: 0 }),
        ..Default::default()
    }
}

/// A start on guns 1 and 2 with a new request id, and 50 CNY for each.
pub fn parallel_request(pile: &str) -> pb::StartParallelChargingRequest {
    let pb::StartChargingRequest { pile, request_id, balance, .. } = start_request(pile, 1);
    let gun = |gun| pb::ParallelGun { gun, balance: balance.clone(), ..Default::default() };
    pb::StartParallelChargingRequest { pile, request_id, guns: vec![gun(1), gun(2)], ..Default::default() }
}

pub fn new_request_id() -> String {
    let (a, b) = (getrandom::u64().expect("randomness"), getrandom::u64().expect("randomness"));
    let hex = format!("{a:016x}{b:016x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A request with the caller's own deadline.
pub fn timed<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// The serial the API's text names.
pub fn wire_serial(order: &pb::Order) -> Serial {
    order.serial.parse().expect("32 hex digits")
}

/// Code and `ErrorInfo.reason`; every error of ours has one, of our domain.
#[track_caller]
pub fn reason(status: &Status) -> (Code, String) {
    let Some(info) = status.get_details_error_info() else { panic!("no ErrorInfo: {status:?}") };
    assert_eq!(info.domain, "pileway");
    (status.code(), info.reason)
}

/// One fact of `ErrorInfo.metadata`.
#[track_caller]
pub fn fact(status: &Status, key: &str) -> String {
    let info = status.get_details_error_info().expect("ErrorInfo");
    info.metadata.get(key).unwrap_or_else(|| panic!("no {key} in {status:?}")).clone()
}
