//! The simulated pile keeps to the protocol: its state machine under a virtual clock, and one pile over a socket.

mod platform;

mod link;
mod command;
mod charge;
mod socket;
