//! The postgres connector on real servers: what the conformance suite cannot ask for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod caches;
mod feed;
#[cfg(feature = "redis")]
mod feed_on_redis;
#[cfg(feature = "redis")]
mod feed_on_tiers;
mod feed_only;
mod following;
mod housekeeping;
#[cfg(all(feature = "tokio-postgres", feature = "sqlx-postgres"))]
mod in_transaction;
mod interleavings;
mod many;
mod names;
mod node;
mod outage;
mod pooler;
mod refusals;
mod setup;
mod sources;
mod sweeping;
#[cfg(all(feature = "tokio-postgres", feature = "sqlx-postgres"))]
mod ticket_of_a_transaction;
mod tiered;
mod tls;
mod waking;
