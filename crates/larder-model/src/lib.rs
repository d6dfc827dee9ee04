//! A model of larder's protocol, checked exhaustively: every way in which the steps of readers, writers and faults can interleave,
//! within bounds. It is the argument that no read is stale; `docs/protocol.md` is the same argument on paper.
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
//! | `standalone.rs` | who can do what next, against one server; what is left out, and why nothing is lost by it |
//! | `standalone/properties.rs` | the promises |
//! | `cluster.rs`, `cluster/` | the same on a cluster, where nothing spans hash slots |
//! | [`protections`] | what can be taken away: protections, and the assumptions that the docs state |
//! | [`scenes`] | the configurations that are checked, and in which each removed protection is found out |
//!
//! # What it shows, and what it does not
//!
//! Two objects with one key between them, two nodes, each task once, and a bounded number of faults: within that, everything. Not
//! modelled: ages (C6, C7), bytes (C11), releases side by side (C12), cancellation (C13: a caller that goes away is a command
//! that is not answered), names (C14), single flight, the breaker. An *assumption* is a protection that nobody gives: lifting it
//! shows what "What the promises do not cover" in ARCHITECTURE.md excludes.
//!
//! States that differ in names only are one (`canonical.rs`). A check that finds nothing proves little if nothing could happen, so
//! each configuration names what must be able to happen in it.

pub mod check;
mod cluster;
mod node;
pub mod protections;
pub mod scenes;
mod server;
mod source;
mod standalone;
