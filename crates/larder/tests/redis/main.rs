//! The redis connector against real servers: every server binary found is put through each test.

mod cost;
mod handshake;
mod instance;
mod limits;
mod log;
mod node;
mod outage;
mod restart;
