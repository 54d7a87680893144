//! ClusterService.

use tonic::{Request, Response, Status};

use super::Context;
use super::convert::{self, args};
use super::deadline::Deadline;
use super::error::ApiError;
use super::pb;
use super::pb::cluster_service_server::ClusterService;
use crate::domain::CommandError;

#[derive(Clone)]
pub struct Nodes(pub Context);

#[tonic::async_trait]
impl ClusterService for Nodes {
    async fn list_nodes(
        &self,
        request: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        let nodes = self.0.cluster.nodes(Deadline::of(&request)).await;
        let nodes = nodes.into_iter().map(convert::cluster::node).collect();
        Ok(Response::new(pb::ListNodesResponse { nodes }))
    }

    async fn get_owner(&self, request: Request<pb::GetOwnerRequest>) -> Result<Response<pb::GetOwnerResponse>, Status> {
        let deadline = Deadline::of(&request);
        let pile = args::get_owner(request.get_ref())?;
        let place = self.0.cluster.place(pile, deadline).await.map_err(ApiError::from)?;
        let fresh = deadline.min(tokio::time::Instant::now() + super::FRESH);
        let (stored, session) = tokio::join!(self.0.ledger.pile(pile), self.0.cluster.session(pile, fresh));
        let last_seen = match (stored, session) {
            (Ok(Some(stored)), session) => {
                session.map_or(stored.last_seen, |seen| seen.last_seen.max(stored.last_seen))
            }
            // What is here and what is remembered is known without the store.
            (Ok(None) | Err(_), Some(seen)) => seen.last_seen,
            (Ok(None), None) => return Err(ApiError::from(CommandError::PileUnknown).into()),
            (Err(error), None) => return Err(ApiError::from(error).into()),
        };
        let owner = convert::cluster::owner(pile, place, &self.0.cluster.me().node, last_seen);
        Ok(Response::new(pb::GetOwnerResponse { owner: Some(owner) }))
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let deadline = Deadline::of(&request);
        let name = args::drain_node(request.get_ref())?;
        let node = self.0.cluster.drain(name, deadline).await.map_err(ApiError::from)?;
        Ok(Response::new(pb::DrainNodeResponse { node: Some(convert::cluster::node(node)) }))
    }
}
