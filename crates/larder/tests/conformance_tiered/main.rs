//! Tiers keep larder's contract, with two nodes, each with a memory.
//!
//! In a bounded tier another node may serve an earlier state for as long as it may not know of a change. So each node of it [catches up](caught_up::CaughtUp) before
//! it is asked for anything, if something was changed since. What it then finds in its memory must be right.
#![cfg(any(feature = "redis", feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod caught_up;
#[cfg(feature = "postgres")]
mod over_postgres;
#[cfg(feature = "redis")]
mod over_redis;
