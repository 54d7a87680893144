//! Subcommands for people.

pub mod demo;
pub mod sim;
pub mod serve;
pub mod decode;
