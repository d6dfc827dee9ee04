//! Locks, atomics, and the seed of hashes.
//!
//! The parts of larder that several threads use at once take these from here and from nowhere else. The crate `larder-interleavings`
//! compiles the same files with other locks and atomics, which try every order of the threads' steps.

pub(crate) use foldhash::fast::RandomState;
pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
pub(crate) use std::sync::atomic;
