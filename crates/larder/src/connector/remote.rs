//! What every connector with a server behind it shares, so that a new kind of server is one trait and its own commands.
//!
//! ```text
//!   Connector (get, fill, set, invalidate …)      the connector's own: what is sent, and what replies mean
//!     │
//!   RemoteCache, one per cache ── guard.rs  journal.rs  trust.rs        nothing is lost on its way; what may be read
//!     │
//!   Link, one per server ──────── link.rs  trouble.rs                   breaker, time-out, outcome
//!     ▲
//!   Supervisor, a task ────────── supervisor.rs  recovery.rs            connects, compares histories, clears, replays
//!     │
//!   ServerKind ────────────────── server_kind.rs                        the connector's own: connect, read the clock, clear, forget
//! ```
//!
//! A connector of your own opens a [`Server`] with its [`ServerKind`], opens each cache on it ([`Server::cache`]), and implements
//! [`Connector`](crate::contract::Connector) on the [`RemoteCache`] that this returns. `tests/toy/` in larder's repository is an example:
//! a connector of less than 300 lines, for a server of less than 200.

mod cache;
#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) mod envelope;
mod forgetting;
mod fullness;
mod guard;
#[cfg(any(feature = "redis", feature = "postgres"))]
pub(crate) mod hints;
pub(crate) mod journal;
mod link;
mod recovery;
mod server;
mod server_kind;
mod supervisor;
mod trouble;
mod trust;

pub use cache::RemoteCache;
pub use forgetting::{BATCH, Batch, Forgetting};
pub use guard::Undelivered;
pub use link::{Channel, Link, Place, WhenCrowded};
pub use server::{Server, ServerOptions};
pub use server_kind::{Clearing, Clocked, Connected, ServerKind};
pub use trouble::{Awaited, Trouble, What};
#[cfg(feature = "redis")]
pub(crate) use trust::LOST;
