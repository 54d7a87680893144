//! EventService.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt, once, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::Context;
use super::convert::{self, args};
use super::error::ApiError;
use super::pb;
use super::pb::event_service_server::EventService;
use crate::groups::{Groups, Subscription};
use crate::store::ReplayError;

#[derive(Clone)]
pub struct Events {
    pub context: Context,
    pub groups: Groups,
}

#[tonic::async_trait]
impl EventService for Events {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<pb::SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let args::Subscribe { group, start, max_in_flight } = args::subscribe(request.into_inner())?;
        let joined = self.groups.subscribe(&group, start, max_in_flight).await.map_err(ApiError::from)?;
        let Subscription { consumer, group, created, deliveries } = joined;
        let zone = self.context.offset;
        let first = once(Ok(convert::event::joined(consumer, &group, created)));
        let rest = ReceiverStream::new(deliveries).map(move |delivery| match delivery {
            Ok(delivery) => Ok(convert::event::delivery(delivery, zone)),
            Err(error) => Err(ApiError::from(error).into()),
        });
        Ok(Response::new(Box::pin(first.chain(rest))))
    }

    async fn acknowledge(
        &self,
        request: Request<pb::AcknowledgeRequest>,
    ) -> Result<Response<pb::AcknowledgeResponse>, Status> {
        let done = args::acknowledge(request.into_inner())?;
        let args::Acknowledge { group, consumer, partition, position, lease } = done;
        let moved = self.groups.acknowledge(&group, consumer, partition, position, lease).await;
        moved.map_err(ApiError::from)?;
        Ok(Response::new(pb::AcknowledgeResponse {}))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let args::ListEvents { replay, kinds, serial, about } = args::list_events(request.into_inner())?;
        let (zone, serial) = (self.context.offset, serial.map(|serial| serial.to_string()));
        let keep = |entry: &crate::store::Entry| {
            let (event, kind) = convert::event::listed(entry, zone);
            let wanted = kinds.is_empty() || kinds.contains(&kind);
            let of = serial.as_deref().is_none_or(|serial| convert::event::serial_of(&event) == Some(serial));
            (wanted && of).then_some(event)
        };
        let page = self.context.ledger.replay(replay, keep).await.map_err(|error| match error {
            ReplayError::BadCursor => args::bad_cursor(),
            ReplayError::Store(error) => error.into(),
        })?;
        Ok(Response::new(convert::event::page(page, &about)))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Result<Response<pb::ListGroupsResponse>, Status> {
        let (after, limit) = args::list_groups(request.get_ref())?;
        let groups = self.groups.list(&after, limit).await.map_err(ApiError::from)?;
        // The last one's name is where the next page begins.
        let last = groups.last().filter(|_| groups.len() == limit).map(|group| group.name.clone());
        let groups = groups.into_iter().map(convert::event::group).collect();
        Ok(Response::new(pb::ListGroupsResponse { groups, next_page_token: last.unwrap_or_default() }))
    }

    async fn get_lag(&self, request: Request<pb::GetLagRequest>) -> Result<Response<pb::GetLagResponse>, Status> {
        let lag = self.groups.lag(args::group(&request.get_ref().group)?).await.map_err(ApiError::from)?;
        Ok(Response::new(convert::event::lag(lag)))
    }

    async fn delete_group(
        &self,
        request: Request<pb::DeleteGroupRequest>,
    ) -> Result<Response<pb::DeleteGroupResponse>, Status> {
        self.groups.delete(args::group(&request.get_ref().group)?).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::DeleteGroupResponse {}))
    }
}
