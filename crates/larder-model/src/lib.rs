//! A model of larder's protocol. The checker tries every order in which the steps of readers, writers and faults can come, within bounds,
//! to show that no read is stale. `docs/protocol.md` makes the same argument on paper.
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
//! | `standalone.rs` | who can take which step next, against one server; which steps are left out, and why no fault is missed by that |
//! | `standalone/properties.rs` | the promises |
//! | `cluster.rs`, `cluster/` | the same on a cluster, where no step spans two hash slots |
//! | [`protections`] | what can be removed: protections, and the assumptions that the docs state |
//! | [`scenes`] | the configurations that are checked, and the configurations that find the fault when a protection is removed |
//!
//! # What it shows, and what it does not
//!
//! The bounds: two objects that share one key, two nodes, each task once, and a bounded number of faults. Within these bounds the checker
//! tries everything.
//!
//! Not modelled: ages (C6, C7), bytes (C11), releases side by side (C12), cancellation (C13: to the server, a caller that goes away is
//! a command that is not answered), names (C14), single flight, the breaker.
//!
//! An *assumption* is something that larder relies on and cannot enforce. To remove an assumption shows what "What the promises do not
//! cover" in ARCHITECTURE.md excludes.
//!
//! States that differ only in names count as one state (`canonical.rs`). A check that finds nothing proves little if nothing could happen.
//! So each configuration names what must be able to happen in it.

pub mod check;
mod cluster;
mod node;
pub mod protections;
pub mod scenes;
mod server;
mod source;
mod standalone;
