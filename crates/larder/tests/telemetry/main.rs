//! What is counted and told, in memory and on real servers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod counting;
mod displaced;
#[cfg(all(feature = "redis", feature = "yaml"))]
mod metrics;
mod place;
mod unlisted;
mod user;
