//! What threads share, and what chance decides: locks, atomics, the seed of a hash.
//!
//! The parts of larder that are written for several threads at once take these from here and from nowhere else, because the crate
//! `larder-interleavings` compiles the same files over others, which try every order of the threads' steps.

pub(crate) use foldhash::fast::RandomState;
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::atomic;
