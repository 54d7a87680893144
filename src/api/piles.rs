//! PileService.

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::convert::{self, args};
use super::deadline::Deadline;
use super::error::ApiError;
use super::pb::pile_service_server::PileService;
use super::pb::{self, watch_piles_response::Update};
use super::watch::{Client, Ended, Messages, watch};
use super::{Context, unexpected};
use crate::domain::{CommandError, PileCode, Reply};
use crate::store::{EventWatch, PileQuery, Seen};

#[derive(Clone)]
pub struct Piles(pub Context);

#[tonic::async_trait]
impl PileService for Piles {
    async fn get_pile(&self, request: Request<pb::GetPileRequest>) -> Result<Response<pb::GetPileResponse>, Status> {
        let code = args::get_pile(request.get_ref())?;
        let deadline = Deadline::of(&request).min(Instant::now() + super::FRESH);
        let (found, session) = tokio::join!(self.0.ledger.pile(code), self.0.cluster.session(code, deadline));
        let pile = found.map_err(ApiError::from)?.ok_or(ApiError::from(CommandError::PileUnknown))?;
        Ok(Response::new(pb::GetPileResponse { pile: Some(convert::pile::pile(pile, session.as_ref())) }))
    }

    async fn list_piles(
        &self,
        request: Request<pb::ListPilesRequest>,
    ) -> Result<Response<pb::ListPilesResponse>, Status> {
        let query = args::list_piles(request.into_inner())?;
        let page = self.0.ledger.piles(query).await.map_err(ApiError::from)?;
        let piles = page.items.into_iter().map(|pile| self.0.told(pile)).collect();
        Ok(Response::new(pb::ListPilesResponse { piles, next_page_token: page.next_page_token }))
    }

    type WatchPilesStream = Messages<pb::WatchPilesResponse>;

    async fn watch_piles(
        &self,
        request: Request<pb::WatchPilesRequest>,
    ) -> Result<Response<Self::WatchPilesStream>, Status> {
        let piles = args::watch_piles(request.get_ref())?;
        // Before the snapshot, so that nothing falls between the two.
        let events = self.0.ledger.watch().await.map_err(ApiError::from)?;
        let context = self.0.clone();
        let run = |client| changes(context, client, piles, events);
        Ok(Response::new(watch(self.0.shutdown.clone(), run)))
    }

    async fn reboot_pile(
        &self,
        request: Request<pb::RebootPileRequest>,
    ) -> Result<Response<pb::RebootPileResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::reboot(request.get_ref())?;
        match self.0.execute(pile, command, deadline).await? {
            Reply::RebootAccepted => Ok(Response::new(pb::RebootPileResponse {})),
            other => Err(unexpected(&other)),
        }
    }

    async fn sync_clock(
        &self,
        request: Request<pb::SyncClockRequest>,
    ) -> Result<Response<pb::SyncClockResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::sync_clock(request.get_ref())?;
        match self.0.execute(pile, command, deadline).await? {
            Reply::Clock { pile_time } => {
                let pile_time = pile_time.map(|local| convert::pile_time(local, self.0.offset));
                Ok(Response::new(pb::SyncClockResponse { pile_time }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn disconnect_pile(
        &self,
        request: Request<pb::DisconnectPileRequest>,
    ) -> Result<Response<pb::DisconnectPileResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::disconnect(request.get_ref())?;
        match self.0.execute(pile, command, deadline).await? {
            Reply::Disconnected => Ok(Response::new(pb::DisconnectPileResponse {})),
            other => Err(unexpected(&other)),
        }
    }
}

/// `wanted` is sorted; empty = all.
async fn changes(
    context: Context,
    client: Client<pb::WatchPilesResponse>,
    wanted: Vec<PileCode>,
    mut events: EventWatch,
) -> Result<(), Ended> {
    let count = if wanted.is_empty() {
        snapshot_of_all(&context, &client).await?
    } else {
        snapshot_of(&context, &client, &wanted).await?
    };
    send(&client, Update::SnapshotEnd(pb::SnapshotEnd { count })).await?;
    loop {
        let stamped = match events.next().await? {
            Seen::Event(stamped) => stamped,
            Seen::Gap(gap) => {
                send(&client, Update::Gap(convert::gap(gap))).await?;
                continue;
            }
        };
        if !wanted.is_empty() && wanted.binary_search(&stamped.event.pile).is_err() {
            continue;
        }
        let live = |pile| context.cluster.session_here(pile);
        if let Some(event) = convert::pile::event(&stamped, live, context.offset) {
            send(&client, Update::Event(event)).await?;
        }
    }
}

async fn snapshot_of(
    context: &Context,
    client: &Client<pb::WatchPilesResponse>,
    wanted: &[PileCode],
) -> Result<i64, Ended> {
    let mut count = 0;
    for code in wanted {
        if let Some(pile) = context.ledger.pile(*code).await? {
            send(client, Update::Snapshot(context.told(pile))).await?;
            count += 1;
        }
    }
    Ok(count)
}

async fn snapshot_of_all(context: &Context, client: &Client<pb::WatchPilesResponse>) -> Result<i64, Ended> {
    let mut count = 0;
    let mut page_token = String::new();
    loop {
        let query = PileQuery { presence: None, page_size: super::SNAPSHOT_PAGE, page_token };
        let page = context.ledger.piles(query).await?;
        for pile in page.items {
            send(client, Update::Snapshot(context.told(pile))).await?;
            count += 1;
        }
        if page.next_page_token.is_empty() {
            return Ok(count);
        }
        page_token = page.next_page_token;
    }
}

async fn send(client: &Client<pb::WatchPilesResponse>, update: Update) -> Result<(), Ended> {
    client.send(pb::WatchPilesResponse { update: Some(update) }).await
}
