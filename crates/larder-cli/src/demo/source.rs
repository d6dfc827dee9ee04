//! The system of record: SQLite in memory, on a thread of its own.
//!
//! One thread does everything in turn, so there is one order of all changes, and [`Commit`]s are told in that order, each before
//! anything can read what it has changed. That is what lets the [checker](super::checker) know the truth.
//!
//! A database is somewhere else: what the service asks of it takes a latency that can be set. What the demo asks in order to compare, and
//! to fill its page, does not.

mod database;

pub(crate) use database::{Edit, Invalid, Written};

use super::instance::{Instance, InstanceKey};
use database::Database;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;

/// What one change has made of the instances it touched.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// The number of the change.
    pub(crate) sequence: u64,
    /// Id and new state of each; `None`: deleted.
    pub(crate) states: Vec<(String, Option<Instance>)>,
}

/// Why the source has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The request made no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// SQLite failed.
    #[error("SQLite failed: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The thread has ended.
    #[error("the database thread has ended")]
    Closed,
}

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// The database. Cloning it is cheap; clones are the same database, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Source {
    jobs: mpsc::Sender<Job>,
    latency: Duration,
}

impl Source {
    /// A database with `instances` instances of one to four hosts each. `witness` is told every commit, the first
    /// instances too. `latency`: how much longer the service waits than SQLite takes, to the millisecond.
    pub(crate) fn open(
        instances: u32,
        latency: Duration,
        witness: impl Fn(Commit) + Send + 'static,
    ) -> Result<Self, SourceError> {
        let mut database = Database::open(Box::new(witness))?;
        database.seed(instances)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let work = move || {
            for job in queue {
                job(&mut database);
            }
        };
        let thread = std::thread::Builder::new().name("sqlite".to_owned());
        thread.spawn(work).map_err(|_| SourceError::Closed)?;
        Ok(Self { jobs, latency })
    }

    /// The instance that a key leads to, as the service gets it: after the latency, so it may be older than when it arrives.
    pub(crate) async fn load(&self, key: InstanceKey) -> Result<Option<Instance>, SourceError> {
        let found = self.find(key).await;
        self.travel().await;
        found
    }

    /// The instance that a key leads to, at once.
    pub(crate) async fn find(&self, key: InstanceKey) -> Result<Option<Instance>, SourceError> {
        self.run(move |database| database.find(&key)).await
    }

    /// The first `count` instances by id.
    pub(crate) async fn first(&self, count: u32) -> Result<Vec<Instance>, SourceError> {
        self.run(move |database| database.first(count)).await
    }

    /// Every key there is.
    pub(crate) async fn keys(&self) -> Result<Vec<InstanceKey>, SourceError> {
        self.run(|database| database.keys()).await
    }

    /// Changes an instance, or makes it. A host that belonged to another instance moves.
    pub(crate) async fn write(&self, id: Arc<str>, edit: Edit) -> Result<Written, SourceError> {
        let written = self.run(move |database| database.write(&id, edit)).await;
        self.travel().await;
        written
    }

    /// Deletes an instance; answers the number of the change and what was deleted.
    pub(crate) async fn delete(&self, id: Arc<str>) -> Result<Option<(u64, Instance)>, SourceError> {
        let deleted = self.run(move |database| database.delete(&id)).await;
        self.travel().await;
        deleted
    }

    /// What has been done is on its way to whoever asked.
    async fn travel(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }

    /// A job that was sent is done, also when nobody waits for it any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (reply, result) = oneshot::channel();
        let job = Box::new(move |database: &mut Database| {
            let _ = reply.send(work(database));
        });
        self.jobs.send(job).map_err(|_| SourceError::Closed)?;
        result.await.map_err(|_| SourceError::Closed)?
    }
}
