//! TelemetryService.

use futures_util::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use super::convert::{self, args};
use super::deadline::Deadline;
use super::pb;
use super::pb::telemetry_service_server::TelemetryService;
use super::{Context, unexpected};
use crate::domain::Reply;

#[derive(Clone)]
pub struct Measurements(pub Context);

#[tonic::async_trait]
impl TelemetryService for Measurements {
    async fn read_telemetry(
        &self,
        request: Request<pb::ReadTelemetryRequest>,
    ) -> Result<Response<pb::ReadTelemetryResponse>, Status> {
        let deadline = Deadline::of(&request);
        let (pile, command) = args::read_telemetry(request.get_ref())?;
        match self.0.execute(pile, command, deadline).await? {
            Reply::Telemetry(measured) => {
                let telemetry = convert::telemetry::telemetry(&measured);
                Ok(Response::new(pb::ReadTelemetryResponse { telemetry: Some(telemetry) }))
            }
            other => Err(unexpected(&other)),
        }
    }

    type WatchTelemetryStream = BoxStream<'static, Result<pb::WatchTelemetryResponse, Status>>;

    /// No queue here: the watch keeps the latest of each kind until the client's connection has room, and
    /// anything put in between would only hand out older values.
    async fn watch_telemetry(
        &self,
        request: Request<pb::WatchTelemetryRequest>,
    ) -> Result<Response<Self::WatchTelemetryStream>, Status> {
        let filter = args::watch_telemetry(request.get_ref())?;
        let told = stream::unfold(self.0.cluster.watch(filter), |mut watch| async {
            let told = watch.next().await;
            Some((Ok(convert::telemetry::told(&told)), watch))
        });
        Ok(Response::new(told.take_until(self.0.shutdown.clone().cancelled_owned()).boxed()))
    }
}
