//! What passes between a cache and its connector: the trait [`Connector`], and what its operations take and answer.
//!
//! A connector knows bytes and keys, not the user's type: a [`Schema`] tells it how to turn a [`Value`] into bytes and back. So a connector
//! that stays in memory never serialises anything. Every operation returns an [`Answer`]. A connector that already knows the result returns
//! it [at once](Answer::Now), without boxing a future.
//!
//! # Contract
//!
//! A connector keeps the promises C1–C14 of `ARCHITECTURE.md`; `larder_testing::conformance` checks them all. These are the promises that
//! the signatures do not show:
//!
//! - Every operation may be dropped at any await point without losing an invalidation that it had begun.
//! - Nothing that was stored before an invalidation, delete or truncate is returned by a call that begins after the answer
//!   [`Delivery::Applied`].
//! - An object is never stored by a fill or put whose [`Ticket`] was taken before an invalidation or put of any of the object's keys.
//!
//! A connector need not check keys: [`Cache`](crate::Cache) passes only keys of 1 B to 64 KiB. The cache computes the keys of an [`Object`]
//! once, before it passes the object to the connector.

mod answer;
mod connector;
mod consistency;
mod delivery;
#[cfg(feature = "redis")]
mod following;
mod lease;
mod load_options;
mod lookup;
mod many;
mod miss;
mod object;
mod place;
mod schema;
mod stats;
mod status;
mod stored;
mod ticket;
mod transactions;

pub use crate::codec::Value;
pub use crate::key::{KeyBuf, KeyRef};
pub use crate::option_error::OptionError;
pub use answer::Answer;
pub use connector::Connector;
pub use consistency::Consistency;
pub(crate) use consistency::VALIDITY;
pub use delivery::{Delivery, Error};
#[cfg(feature = "redis")]
pub(crate) use following::Following;
pub use lease::{Lease, LeaseToken};
#[cfg(any(feature = "yaml", feature = "toml"))]
pub(crate) use load_options::JITTER;
pub use load_options::LoadOptions;
pub use lookup::{Lookup, Lookups};
#[cfg(feature = "postgres")]
pub(crate) use many::set_each;
pub use miss::Miss;
pub use object::Object;
pub use place::Place;
#[cfg(any(feature = "yaml", feature = "toml"))]
pub(crate) use schema::MAX_OBJECT_SIZE;
pub(crate) use schema::examine;
pub use schema::{Schema, WrongSchema};
pub use stats::Stats;
pub use status::{Pruned, Status};
pub use stored::{Fill, Stored};
pub use ticket::{Ticket, issue_ticket};
pub use transactions::{OtherDatabase, Snapshot, Snapshots, Transactions};
