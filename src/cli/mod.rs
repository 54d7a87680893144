//! Subcommands for people.

pub mod decode;
