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
#[cfg(feature = "redis")]
pub mod remote;
