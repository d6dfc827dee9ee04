//! What larder's own tests are made of, for those who test a connector or a service that uses larder.
//!
//! | module | what |
//! |---|---|
//! | [`mod@conformance`] | larder's contract, C1 to C14, as test cases that any connector can be put through |
//! | [`entries`] | the sample entry types that those cases store |
//! | [`mod@model`] | random operations, and what a connector made of them beside what the contract is in its plainest form |
//! | [`mod@reference`] | a connector that is nothing but the contract, to compare others with |
//! | [`server`] | real servers on temporary sockets, with kill, stop, continue and restart |
//! | [`proxy`] | a scripted proxy that corrupts, delays, cuts and drops |
//!
//! Servers and proxy are there without the feature `conformance`, which is a default one, too; the rest is not.
//!
//! Nothing here is for production: the conformance suite panics where a promise is broken, that being its purpose.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "conformance")]
pub mod entries;
#[cfg(feature = "conformance")]
pub mod model;
pub mod proxy;
#[cfg(feature = "conformance")]
pub mod reference;
pub mod server;
