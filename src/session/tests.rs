//! Promises of the session, as transcripts under a virtual clock: what the pile sends and receives, what the store
//! answers, what callers get.

mod samples;
mod harness;
mod ledger;
mod login;
mod start;
mod parallel;
mod together;
mod authorise;
mod admission;
mod answer;
mod watch;
mod alarms;
mod bms;
mod curve;
mod stop;
mod close;
mod plan;
mod balance;
mod limits;
mod tariff;
mod record;
mod end;
mod claims;
mod remember;
mod provisional;
mod fleet;
mod node;
mod departed;
mod walk;
