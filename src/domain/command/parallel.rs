//! A start of one vehicle on two guns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Start, fingerprint};
use crate::domain::ids::{Gun, RequestId, Serial};
use crate::domain::order::{Limits, StartRequest};

/// Arguments of a start on two guns: two orders, of which both start or none. With the same `request_id` it starts once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParallelStart {
    /// Two different ones, by number.
    pub guns: [GunStart; 2],
    pub request_id: RequestId,
    /// Of both orders.
    pub order_id: String,
    pub attributes: BTreeMap<String, String>,
    /// Shown on the pile; 16 digits packed, zero if none.
    pub logical_card: [u8; 8],
    /// The card that may stop the charge at the pile; zero if none.
    pub physical_card: [u8; 8],
    /// Fingerprint of the tariff the pile must have confirmed before it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_tariff: Option<u64>,
}

/// What is agreed of one of the guns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GunStart {
    pub gun: Gun,
    /// The caller's own serial; otherwise one is made by the protocol's rule.
    pub serial: Option<Serial>,
    /// In 0.01 CNY; the pile stops when it is used up.
    pub balance_fen: u32,
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

impl ParallelStart {
    /// Each gun's part of it, as if it were alone.
    pub fn parts(&self) -> [Start; 2] {
        self.guns.map(|GunStart { gun, serial, balance_fen, limits }| Start {
            gun,
            request_id: self.request_id,
            serial,
            order_id: self.order_id.clone(),
            attributes: self.attributes.clone(),
            logical_card: self.logical_card,
            physical_card: self.physical_card,
            balance_fen,
            limits,
            expected_tariff: self.expected_tariff,
        })
    }

    /// What a retry is known by.
    pub fn as_request(&self) -> StartRequest {
        StartRequest { id: self.request_id, arguments: self.arguments() }
    }

    /// Fingerprint of all arguments, and never that of a start on one gun.
    pub fn arguments(&self) -> u64 {
        let [one, other] = self.parts().map(|part| part.arguments().to_be_bytes());
        fingerprint(&[b"parallel", &one, &other])
    }
}
