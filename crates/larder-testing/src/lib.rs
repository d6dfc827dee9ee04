//! The parts of larder's own tests, for people who test a connector, or a service that uses larder.
//!
//! | module | what |
//! |---|---|
//! | [`mod@conformance`] | larder's contract, C1 to C14, as test cases that any connector can be put through |
//! | [`entries`] | the sample entry types that those cases store |
//! | [`mod@model`] | random operations on a connector, whose answers are compared with the contract in its plainest form |
//! | [`mod@reference`] | a connector that is nothing but the contract, to compare other connectors with |
//! | [`server`] | real Redis and Valkey servers on temporary sockets, with kill, stop, continue and restart |
//! | [`postgres`] | real PostgreSQL servers on temporary sockets, with kill and restart |
//! | [`proxy`] | a scripted proxy that corrupts, delays, cuts and drops |
//!
//! Servers and proxy need no cargo feature. The rest needs the feature `conformance`, which is on by default.
//!
//! Nothing here is for production. The conformance suite panics when a promise is broken: that is its purpose.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "conformance")]
pub mod entries;
#[cfg(feature = "conformance")]
pub mod model;
pub mod postgres;
pub mod proxy;
#[cfg(feature = "conformance")]
pub mod reference;
pub mod server;
