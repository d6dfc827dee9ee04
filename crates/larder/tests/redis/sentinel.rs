//! A master that Sentinels know: failovers of real Sentinels, answers of scripted ones, and what is wrong with what was given.

mod answers;
mod failover;
mod mistakes;
mod scripted;

pub(crate) use failover::{sentinels, watching_all};
