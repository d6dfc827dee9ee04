//! The source of record: tables in this process, so that nobody has to install a database to see the demo.
//!
//! One lock guards everything, so all changes have one order. The witness gets each [`Commit`] in that order, before anybody can read the
//! change. So the [checker](super::checker) knows the truth.
//!
//! The service's calls take a latency, which can be set, as if the database were behind a network. The demo's own calls, to compare answers
//! and to fill the page, do not.

mod tables;

pub(crate) use tables::{Edit, Invalid, Written};

use super::instance::{Instance, InstanceKey};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tables::Tables;

/// A change, with the instances that it touched.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The number of the change.
    pub(crate) sequence: u64,
    /// The id and the new state of each instance. `None`: deleted.
    pub(crate) states: Vec<(String, Option<Instance>)>,
}

/// The database. Cloning is cheap, and all clones are the same database.
#[derive(Clone)]
pub(crate) struct Source {
    tables: Arc<Mutex<Tables>>,
    latency: Duration,
}

impl Source {
    /// A database with `instances` instances of one to four hosts each. `witness` is called with every commit, including the first
    /// instances. `latency`: how long the service waits for each answer, to the millisecond.
    pub(crate) fn open(instances: u32, latency: Duration, witness: impl Fn(Commit) + Send + 'static) -> Self {
        let mut tables = Tables::new(Box::new(witness));
        tables.seed(instances);
        Self { tables: Arc::new(Mutex::new(tables)), latency }
    }

    /// The instance that a key leads to, as the service gets it. It is read before the latency, so it may be stale when it arrives.
    pub(crate) async fn load(&self, key: &InstanceKey) -> Option<Instance> {
        let found = self.find(key);
        self.travel().await;
        found
    }

    /// The instance that a key leads to, without the latency.
    pub(crate) fn find(&self, key: &InstanceKey) -> Option<Instance> {
        self.tables().find(key)
    }

    /// The first `count` instances by id.
    pub(crate) fn first(&self, count: usize) -> Vec<Instance> {
        self.tables().first(count)
    }

    /// All keys of all instances.
    pub(crate) fn keys(&self) -> Vec<InstanceKey> {
        self.tables().keys()
    }

    /// Changes an instance, or creates it. A host that belonged to another instance moves.
    pub(crate) async fn write(&self, id: &str, edit: Edit) -> Result<Written, Invalid> {
        let written = self.tables().write(id, edit);
        self.travel().await;
        written
    }

    /// Deletes an instance. Returns the number of the change and the deleted instance.
    pub(crate) async fn delete(&self, id: &str) -> Option<(u64, Instance)> {
        let deleted = self.tables().delete(id);
        self.travel().await;
        deleted
    }

    /// The latency of an answer.
    async fn travel(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }

    // Only the witness can panic under the lock, and it is called after the tables have changed. So a poisoned lock can be used.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
