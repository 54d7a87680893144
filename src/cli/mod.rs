//! Subcommands for people.

pub mod decode;
pub mod sim;
