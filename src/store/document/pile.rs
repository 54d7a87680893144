//! The pile document.

use super::field::{self, Unreadable, enumerated, enumeration, packed, required, small};
use super::v1;
use crate::domain::alarm::{Alarm, Fault};
use crate::domain::pile::{GunState, GunStatus, Identity, Presence, TariffOnPile};
use crate::domain::{Pile, WallMs};

impl From<&Pile> for v1::Pile {
    fn from(pile: &Pile) -> Self {
        let Pile { code, identity, presence, presence_since, last_seen, first_seen, address, guns, tariff } = pile;
        Self {
            code: packed(&code.bcd()),
            identity: Some(identity.into()),
            presence: v1::Presence::from(*presence).into(),
            presence_since_ms: presence_since.0,
            last_seen_ms: last_seen.0,
            first_seen_ms: first_seen.0,
            address: address.clone(),
            guns: guns.iter().map(Into::into).collect(),
            tariff: Some(tariff.into()),
        }
    }
}

impl TryFrom<v1::Pile> for Pile {
    type Error = Unreadable;

    fn try_from(stored: v1::Pile) -> Result<Self, Unreadable> {
        let v1::Pile {
            code,
            identity,
            presence,
            presence_since_ms,
            last_seen_ms,
            first_seen_ms,
            address,
            guns,
            tariff,
        } = stored;
        Ok(Self {
            code: field::pile(&code)?,
            identity: required("identity", identity)?.try_into()?,
            presence: enumerated::<v1::Presence, _>("presence", presence)?,
            presence_since: WallMs(presence_since_ms),
            last_seen: WallMs(last_seen_ms),
            first_seen: WallMs(first_seen_ms),
            address,
            guns: guns.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            tariff: required("tariff", tariff)?.try_into()?,
        })
    }
}

impl From<&Identity> for v1::Identity {
    fn from(identity: &Identity) -> Self {
        let Identity { pile_type, gun_count, protocol_version, software_version, network_type, iccid, operator } =
            identity;
        Self {
            pile_type: u32::from(*pile_type),
            gun_count: u32::from(*gun_count),
            protocol_version: u32::from(*protocol_version),
            software_version: software_version.clone(),
            network_type: u32::from(*network_type),
            iccid: iccid.clone(),
            operator: u32::from(*operator),
        }
    }
}

impl TryFrom<v1::Identity> for Identity {
    type Error = Unreadable;

    fn try_from(stored: v1::Identity) -> Result<Self, Unreadable> {
        let v1::Identity { pile_type, gun_count, protocol_version, software_version, network_type, iccid, operator } =
            stored;
        Ok(Self {
            pile_type: small("pile_type", pile_type)?,
            gun_count: small("gun_count", gun_count)?,
            protocol_version: small("protocol_version", protocol_version)?,
            software_version,
            network_type: small("network_type", network_type)?,
            iccid,
            operator: small("operator", operator)?,
        })
    }
}

impl From<&GunStatus> for v1::GunStatus {
    fn from(status: &GunStatus) -> Self {
        let GunStatus { gun, state, faults, since, alarms } = status;
        Self {
            gun: u32::from(gun.number()),
            state: v1::GunState::from(*state).into(),
            faults: u32::from(*faults),
            since_ms: since.0,
            alarms: alarms.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::GunStatus> for GunStatus {
    type Error = Unreadable;

    fn try_from(stored: v1::GunStatus) -> Result<Self, Unreadable> {
        let v1::GunStatus { gun, state, faults, since_ms, alarms } = stored;
        Ok(Self {
            gun: field::gun(gun)?,
            state: enumerated::<v1::GunState, _>("guns.state", state)?,
            faults: small("guns.faults", faults)?,
            since: WallMs(since_ms),
            alarms: alarms.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Alarm> for v1::Alarm {
    fn from(alarm: &Alarm) -> Self {
        let Alarm { fault, raised_at } = *alarm;
        Self { fault_bit: u32::from(fault.bit()), raised_at_ms: raised_at.0 }
    }
}

impl TryFrom<v1::Alarm> for Alarm {
    type Error = Unreadable;

    fn try_from(stored: v1::Alarm) -> Result<Self, Unreadable> {
        let v1::Alarm { fault_bit, raised_at_ms } = stored;
        let fault = Fault::from_bit(small("alarms.fault_bit", fault_bit)?);
        let fault = fault.ok_or_else(|| field::bad("alarms.fault_bit", fault_bit))?;
        Ok(Self { fault, raised_at: WallMs(raised_at_ms) })
    }
}

impl From<&TariffOnPile> for v1::TariffOnPile {
    fn from(tariff: &TariffOnPile) -> Self {
        let TariffOnPile { fingerprint, number, confirmed } = *tariff;
        Self { fingerprint, number: u32::from(number), confirmed }
    }
}

impl TryFrom<v1::TariffOnPile> for TariffOnPile {
    type Error = Unreadable;

    fn try_from(stored: v1::TariffOnPile) -> Result<Self, Unreadable> {
        let v1::TariffOnPile { fingerprint, number, confirmed } = stored;
        Ok(Self { fingerprint, number: small("tariff.number", number)?, confirmed })
    }
}

enumeration!(Presence, Presence: Online Offline);
enumeration!(GunState, GunState: Offline Idle Plugged Starting Charging Finished Fault OutOfService);
