//! The system of record: tables in this process, so that nobody has to install a database to see the demo.
//!
//! One lock is around everything, so there is one order of all changes, and [`Commit`]s are told in that order, each before
//! anything can read what it has changed. That is what lets the [checker](super::checker) know the truth.
//!
//! A database is somewhere else: what the service asks of it takes a latency that can be set. What the demo asks in order to compare, and
//! to fill its page, does not.

mod tables;

pub(crate) use tables::{Edit, Invalid, Written};

use super::instance::{Instance, InstanceKey};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tables::Tables;

/// What one change has made of the instances it touched.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The number of the change.
    pub(crate) sequence: u64,
    /// Id and new state of each; `None`: deleted.
    pub(crate) states: Vec<(String, Option<Instance>)>,
}

/// The database. Cloning it is cheap; clones are the same database, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Source {
    tables: Arc<Mutex<Tables>>,
    latency: Duration,
}

impl Source {
    /// A database with `instances` instances of one to four hosts each. `witness` is told every commit, the first
    /// instances too. `latency`: how long the service waits for each answer, to the millisecond.
    pub(crate) fn open(instances: u32, latency: Duration, witness: impl Fn(Commit) + Send + 'static) -> Self {
        let mut tables = Tables::new(Box::new(witness));
        tables.seed(instances);
        Self { tables: Arc::new(Mutex::new(tables)), latency }
    }

    /// The instance that a key leads to, as the service gets it: after the latency, so it may be older than when it arrives.
    pub(crate) async fn load(&self, key: &InstanceKey) -> Option<Instance> {
        let found = self.find(key);
        self.travel().await;
        found
    }

    /// The instance that a key leads to, at once.
    pub(crate) fn find(&self, key: &InstanceKey) -> Option<Instance> {
        self.tables().find(key)
    }

    /// The first `count` instances by id.
    pub(crate) fn first(&self, count: usize) -> Vec<Instance> {
        self.tables().first(count)
    }

    /// Every key there is.
    pub(crate) fn keys(&self) -> Vec<InstanceKey> {
        self.tables().keys()
    }

    /// Changes an instance, or makes it. A host that belonged to another instance moves.
    pub(crate) async fn write(&self, id: &str, edit: Edit) -> Result<Written, Invalid> {
        let written = self.tables().write(id, edit);
        self.travel().await;
        written
    }

    /// Deletes an instance; answers the number of the change and what was deleted.
    pub(crate) async fn delete(&self, id: &str) -> Option<(u64, Instance)> {
        let deleted = self.tables().delete(id);
        self.travel().await;
        deleted
    }

    /// What has been done is on its way to whoever asked.
    async fn travel(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }

    // A panic under the lock is the witness's, which comes when everything is done.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
