//! The simulated pile keeps to the protocol: its state machine under a virtual clock, one pile over a socket,
//! and fleets over several addresses.

mod platform;
mod station;

mod link;
mod command;
mod charge;
mod socket;
mod fleet;
