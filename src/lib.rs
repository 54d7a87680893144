//! pileway: the control plane between a charging operator's internal services and its EV charging piles.
//!
//! Piles hold long-lived TCP connections and speak YKC (云快充); internal services speak gRPC. pileway holds the
//! connections, keeps what is worth money, and gives every caller the pile's own answer.
//!
//! # The map
//!
//! The tree is the architecture; a test (`tests/tidy.rs`) holds this page and the imports to it.
//!
//! ```text
//! src/
//!   main.rs       parse arguments, run one subcommand, exit code
//!   cli/          demo, sim, serve, config, decode, journal: what people type
//!   app.rs        composition root: build, start, ordered shutdown
//!   config.rs     composes every component's Config; defaults < file < environment < flags; all errors at once
//!   config/       the commented default file, sections of nodes among others, and the tariff as people write it
//!   api/          gRPC in, gRPC out: one file per service, convert, error, layers, deadline
//!   groups/       events delivered to groups of consumers, and how long the log keeps them
//!   cluster/      which node holds a pile, and how to reach it
//!   session/      a pile's life on a socket
//!   hub.rs        live telemetry: the latest of each gun, and who watches
//!   store/        documents, logs, ownership: one contract, embedded or in Redis; ledger is its typed door
//!   sim/          simulated piles: the same wire module, the other side
//!   domain/       PURE. piles, orders, records, tariffs, commands, events
//!   wire/         PURE. bytes <-> frames
//!   observe.rs    logs and metrics; every metric's name, once
//!   settings.rs   what every component's settings have in common
//! ```
//!
//! Imports run strictly downward and never in a circle:
//!
//! ```text
//! main > cli > sim, app > config > api > groups > cluster > session > store, hub > domain      wire, observe, settings: leaves
//! ```
//!
//! `wire` and `domain` import nothing of ours and not each other; only `session/translate.rs` maps one to the other.
//! `sim` imports `wire` and value types of `domain`: it is the other side. `api/convert` is the only place that knows
//! both protobuf and domain.
//!
//! # The two data lines
//!
//! ```text
//! IN   socket bytes → wire::Codec → session::connection → Session::apply (pure) → outputs:
//!        Ledger(call)    → store    started, never awaited; its result comes back as an input and releases what waits (0x40, 0x34)
//!        Send(frame)     → socket
//!        Publish(t)      → hub      never waits
//! OUT  gRPC call → api (layers, args) → Command → cluster::Router: here, or one hop to the node
//!      that holds the session → Sessions::execute → the session's mailbox (bounded)
//!      → pending, with a deadline → frame out → the pile's frame in → Reply → api::convert → gRPC response
//! ```
//!
//! # The invariants, and where each is kept
//!
//! | promise | kept in |
//! |---|---|
//! | the caller gets the pile's own answer, a definite error, or an explicit *unknown*, in time | `session/pending.rs`, `api/deadline.rs`, `api/error.rs` |
//! | no acknowledged record is lost: 0x40 follows a durable settlement | `session/charge.rs` (`settled`), `store/ledger.rs` (`settle`) |
//! | the store may go away: what happens meanwhile is on the node's disk, and gets there in order per pile | `store/ledger/journaled.rs`, `store/ledger/drain.rs`, `session/state/provisional.rs` |
//! | a store that has lost writes is told again what it had, by whoever knew | `cluster/reassert.rs`, `session/remember.rs`, `session/departed.rs`, `store/ledger/journaled.rs` (`resettle`) |
//! | one owner: the newest login wins, an older session can neither write nor answer | `store` (`claim`, fences), `session/fleet.rs` (`register`), `cluster/route.rs`, `cluster/evict.rs` |
//! | no stale and no doubled commands: nothing is written past its deadline, a request id starts once | `session/charge/start.rs` (`created`, `attempt_exists`) |
//! | a vehicle on two guns charges on both or on none, and ends on both | `domain/order/parallel.rs`, `session/charge/parallel.rs` |
//! | a card is asked about once and makes one order; a pile that may not log in takes nothing from its owner | `session/charge/authorise.rs` (`asked_before`), `session/state/claims.rs` (`knock`) |
//! | an event is delivered at least once, in order per pile, or told to be missing | `groups/cursor.rs`, `groups/share.rs`, `groups/flight.rs`, `store/position.rs` |
//! | a bill is audited, and a late copy of a record is known for years | `domain/record/audit.rs`, `store/ledger/settling.rs`, `store/document/retention.rs` |
//! | a rolling deploy is calm: piles are handed over one after another, nothing is cut in the middle | `session/fleet.rs` (`drain`) |
//! | a dead pile is known dead, a short reconnect is no offline | `session/connection.rs` (`tick`), `session/departed.rs`, `session/absent.rs` |
//! | one pile cannot hurt another: every byte sequence ends in a reply, a counted refusal or a closed socket | `wire/codec.rs`, `session/connection.rs` |
//! | a slow reader hurts only itself | `hub.rs`, `api/watch.rs` |

pub mod cli;
pub mod sim;
pub mod app;
pub mod config;
pub mod api;
pub mod groups;
pub mod cluster;
pub mod session;
pub mod hub;
pub mod store;
pub mod domain;
pub mod wire;
pub mod observe;
pub mod settings;
