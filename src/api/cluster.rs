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
        let stored = self.0.ledger.pile(pile).await.map_err(ApiError::from)?;
        let stored = stored.ok_or(ApiError::from(CommandError::PileUnknown))?;
        let fresh = deadline.min(tokio::time::Instant::now() + super::FRESH);
        let session = self.0.cluster.session(pile, fresh).await;
        let last_seen = session.map_or(stored.last_seen, |seen| seen.last_seen.max(stored.last_seen));
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
