//! The parts of larder's own tests, for people who test a connector, or a service that uses larder.
//!
//! | module | what |
//! |---|---|
//! | [`mod@conformance`] | larder's contract, C1 to C14, as test cases that any connector can be put through |
//! | [`entries`] | the sample entry types that those cases store |
//! | [`mod@model`] | random operations on a connector; its answers are compared with those of the reference |
//! | [`mod@reference`] | a connector that implements the contract in the simplest way, to compare other connectors with |
//! | [`server`] | real Redis and Valkey servers on temporary sockets, with kill, stop, continue and restart |
//! | [`cluster`] | real clusters of them, with failover and moving slots |
//! | [`postgres`] | real PostgreSQL servers on temporary sockets, with kill, stop, continue, restart and standbys |
//! | [`pgbouncer`] | a real PgBouncer in front of one, with kill and restart |
//! | `certificates` | authorities and certificates, for tests of TLS |
//! | [`mod@log`] | what one thread logs, for tests that read it |
//! | [`proxy`] | a scripted proxy that corrupts, delays, cuts and drops |
//!
//! Servers and proxy need no cargo feature, and certificates the feature `certificates`. The rest needs the feature `conformance`, which is on by default.
//!
//! Do not use this crate in production: the conformance suite panics when a promise is broken.

#[cfg(feature = "certificates")]
pub mod certificates;
pub mod cluster;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "conformance")]
pub mod entries;
pub mod log;
#[cfg(feature = "conformance")]
pub mod model;
pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
#[cfg(feature = "conformance")]
pub mod reference;
pub mod server;
