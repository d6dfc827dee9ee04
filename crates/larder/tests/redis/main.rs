//! The redis connector against real servers: every server binary found is put through each test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod absence;
mod audit;
mod clearing;
mod cluster;
mod cluster_inspect;
mod cost;
mod credentials;
mod crowd;
mod discretion;
mod handshake;
mod index_names;
mod instance;
mod large_calls;
mod limits;
mod log;
mod many;
mod neighbours;
mod node;
mod outage;
mod pitfalls;
mod promotion;
mod recovery;
mod releases;
mod replicas;
mod restart;
mod rights;
mod runtimes;
mod sentinel;
mod set;
mod side_by_side;
mod telling;
mod tiered;
mod tiers;
mod tls;
mod unfit;
