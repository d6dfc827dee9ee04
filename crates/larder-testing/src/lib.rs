//! The parts of larder's own tests, for people who test a connector, or a service that uses larder.
//!
//! | module | what |
//! |---|---|
//! | [`mod@conformance`] | larder's contract, C1 to C14, as test cases that any connector can be put through |
//! | [`entries`] | the sample entry types that those cases store |
//! | [`mod@model`] | random operations on a connector, whose answers are compared with the contract in its plainest form |
//! | [`mod@reference`] | a connector that is nothing but the contract, to compare other connectors with |
//! | [`server`] | real servers on temporary sockets, with kill, stop, continue and restart |
//! | [`proxy`] | a scripted proxy that corrupts, delays, cuts and drops |
//!
//! Nothing here is for production. The conformance suite panics when a promise is broken: that is its purpose.

pub mod conformance;
pub mod entries;
pub mod model;
pub mod proxy;
pub mod reference;
pub mod server;
