//! The connectors: where objects are kept.
//!
//! | connector | keeps objects |
//! |---|---|
//! | [`noop`] | nowhere: a cache that is switched off |
//! | [`memory`] | in this process |
//! | `redis` (cargo feature) | on one Redis or Valkey server |
//! | `postgres` (cargo feature) | in a PostgreSQL database |
//!
//! What every connector does is in [`contract`](crate::contract). A connector of your own implements
//! [`Connector`](crate::contract::Connector); one with a server behind it does best to build on `remote`.

pub mod memory;
pub mod noop;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "remote")]
pub mod remote;
/// The connector for one Redis or Valkey server, of which there are only the options without the cargo feature `redis`.
#[cfg(not(feature = "redis"))]
pub mod redis {
    pub(crate) mod options;

    pub use options::{Address, RedisOptions};
}
pub(crate) mod secret;

pub use secret::Secret;
