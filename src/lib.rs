//! pileway: the control plane between a charging operator and its EV charging piles.

pub mod wire;
pub mod domain;
pub mod store;
pub mod hub;
pub mod session;
pub mod api;
pub mod app;
pub mod config;
pub mod observe;
pub mod settings;
pub mod sim;
pub mod cli;
