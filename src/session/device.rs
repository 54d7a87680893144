//! Which device a login comes from.

use crate::domain::pile::Identity;

/// Tells two devices with one pile code apart: another address (not port, which changes with every connection), or another
/// SIM card.
pub fn device(address: &str, identity: &Identity) -> u64 {
    let bytes = host(address).bytes().chain([0]).chain(identity.iccid.bytes());
    // FNV-1a: it has to be the same on every node and in every release.
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The address without its port.
pub fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}
