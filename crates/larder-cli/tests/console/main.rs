//! The operator's commands, as a user runs them, on what services have stored with the library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod cluster;
mod foreign;
mod forget;
mod get;
mod service;
mod several;
mod stats;
mod trouble;
mod truncate;
