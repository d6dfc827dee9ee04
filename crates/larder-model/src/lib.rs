//! A model of larder's protocol. Within bounds, the checker tries every order of the steps of readers, writers and faults, to show that no
//! read is stale. `docs/protocol.md` makes the same argument on paper.
//!
//! ```text
//! cargo test -p larder-model                        all configurations, small, and each protection removed: seconds
//! cargo run --release -p larder-model               all configurations, large: minutes
//! cargo run --release -p larder-model -- --config values --without fence     what goes wrong, step by step
//! cargo run --release -p larder-model -- --list
//! ```
//!
//! # Where to read what
//!
//! | file | what |
//! |---|---|
//! | `source.rs` | the source of record: two objects, P and Q, and a secondary key, h, that moves between them |
//! | `server.rs` | one server: each script of the library as one atomic step |
//! | `node.rs` | a node: whether it may read, its journal, its tasks |
//! | `standalone.rs` | the model of one server and two nodes: what a step is; which steps are left out, and why that misses no fault |
//! | `standalone/possible_steps.rs` | the steps that are possible next |
//! | `standalone/tasks.rs`, `recovery.rs`, `clearing.rs`, `faults.rs` | what the steps of tasks, supervisors, clearings and faults do |
//! | `standalone/properties.rs` | the promises |
//! | `cluster.rs`, `cluster/` | the same on a cluster, where no step spans two hash slots |
//! | `postgres.rs`, `postgres/` | the postgres connector, whose operations are transactions beside other transactions; `docs/protocol-postgres.md` |
//! | `feed.rs`, `feed/` | changes that travel with the database transaction, into memory and onto a shared server; `docs/protocol-feed.md` |
//! | `tiers.rs`, `tiers/` | memory in front of a shared server, where a change waits until no memory can be stale; `docs/protocol-tiers.md` |
//! | [`protections`] | what can be removed: the protections, and the assumptions that the docs state |
//! | [`scenes`] | the configurations that are checked, and for each protection the configuration that finds the fault without it |
//!
//! # What it shows, and what it does not
//!
//! The bounds: two objects that share one key, two nodes, each task once, and a bounded number of faults. Within these bounds the checker
//! tries everything.
//!
//! Not modelled: ages (C6, C7), bytes (C11), releases side by side (C12), cancellation (C13: a caller that goes away is the same to the
//! server as a command that is not answered), names (C14), single flight, the breaker.
//!
//! An *assumption* is something that larder relies on and cannot enforce. A check without an assumption shows what ARCHITECTURE.md excludes
//! under "What the promises do not cover".
//!
//! States that differ only in names count as one state (`canonical.rs`). A check that finds no fault proves little if nothing could happen.
//! So each configuration names what must be able to happen in it.

pub mod check;
mod cluster;
mod feed;
mod node;
mod postgres;
pub mod protections;
pub mod scenes;
mod server;
mod source;
mod standalone;
mod tiers;
