//! The operator's commands on PostgreSQL servers, as a user runs them, on what services have stored with the library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench;
mod forget;
mod get;
mod service;
mod setup;
mod stats;
mod trouble;
mod truncate;
