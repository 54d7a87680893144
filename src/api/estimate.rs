//! What a charge would cost: arithmetic, of which no pile is asked.

use super::error::ApiError;
use super::{Context, convert, pb};
use crate::domain::WallMs;

impl Context {
    /// With the tariff every pile is given.
    pub(super) fn estimate(&self, request: &pb::EstimateCostRequest) -> Result<pb::EstimateCostResponse, ApiError> {
        let now = WallMs(jiff::Timestamp::now().as_millisecond());
        let estimate = convert::estimate::read(request, self.offset, now)?;
        let cost = self.tariff.cost(&estimate.curve, estimate.loss);
        Ok(convert::estimate::told(&estimate, &cost, &self.tariff, self.offset))
    }
}
