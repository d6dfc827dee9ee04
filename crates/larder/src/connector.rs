//! The connectors: where objects are kept.
//!
//! | connector | keeps objects |
//! |---|---|
//! | [`noop`] | nowhere: a cache that is switched off |
//! | [`memory`] | in this process |
//! | [`redis`] | on one Redis or Valkey server |
//!
//! What every connector does is in [`contract`](crate::contract), and so is how to write one of your own.

pub mod memory;
pub mod noop;
#[cfg(feature = "redis")]
pub mod redis;
/// The connector for one Redis or Valkey server, of which there are only the options without the cargo feature `redis`.
#[cfg(not(feature = "redis"))]
pub mod redis {
    pub(crate) mod options;

    pub use options::{Address, RedisOptions};
}
#[cfg(feature = "redis")]
pub(crate) mod remote;
pub(crate) mod secret;

pub use secret::Secret;
