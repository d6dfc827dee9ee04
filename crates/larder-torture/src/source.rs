//! The source of record: one SQLite file that all nodes open. It keeps every state of every object, so that the truth survives processes that
//! are killed.
//!
//! Each change is one transaction. Changes are numbered in the order of their commits. The table `state` holds the whole state of each object
//! that a change touched. The tables `object` and `host` are what a service would have: the current states, and the owner of each host.

use super::objects::{By, Key, Kind, State};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a change waits for the change of another process.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a call of the source failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("SQLite failed: {0}")]
    Sql(#[from] rusqlite::Error),
    #[error("the database thread has ended")]
    Closed,
}

/// The state of one object that one change made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) sequence: u64,
    pub(crate) kind: Kind,
    pub(crate) number: u32,
    /// `None`: the change deleted the object.
    pub(crate) hosts: Option<Vec<u32>>,
}

/// A change, and the states of the objects it touched, before and after.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) sequence: u64,
    pub(crate) touched: Vec<(Option<State>, Option<State>)>,
}

/// One connection to the file.
pub(crate) struct Database(Connection);

fn kind(kind: Kind) -> u8 {
    match kind {
        Kind::Instance => 0,
        Kind::Policy => 1,
    }
}

fn hosts_of(text: &str) -> Vec<u32> {
    text.split(' ').filter_map(|number| number.parse().ok()).collect()
}

fn hosts_text(hosts: &[u32]) -> String {
    hosts.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

impl Database {
    /// Opens the file, and makes the tables if there are none.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        // Without synchronous writes, commits of a killed process survive all the same, because the machine keeps running.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = OFF;
             CREATE TABLE IF NOT EXISTS state (
                 sequence INTEGER, kind INTEGER, number INTEGER, hosts TEXT, PRIMARY KEY (sequence, kind, number)
             ) WITHOUT ROWID;
             CREATE INDEX IF NOT EXISTS by_object ON state (kind, number, sequence);
             CREATE TABLE IF NOT EXISTS object (
                 kind INTEGER, number INTEGER, sequence INTEGER, hosts TEXT, PRIMARY KEY (kind, number)
             ) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS host (host INTEGER PRIMARY KEY, number INTEGER);",
        )?;
        Ok(Self(connection))
    }

    /// The object that a key leads to now.
    pub(crate) fn find(&self, key: Key) -> Result<Option<State>, SourceError> {
        let text = match key.by {
            By::Id | By::Serial => "SELECT number, sequence, hosts FROM object WHERE kind = ?1 AND number = ?2",
            By::Host => {
                "SELECT number, sequence, hosts FROM object
                 WHERE kind = ?1 AND number = (SELECT number FROM host WHERE host = ?2)"
            }
        };
        let mut statement = self.0.prepare_cached(text)?;
        let found = statement.query_row(params![kind(key.kind), key.number], |row| state(key.kind, row)).optional()?;
        Ok(found)
    }

    /// The state of an object on a replica that is `behind` changes of the object behind.
    pub(crate) fn find_on_replica(&self, key: Key, behind: u32) -> Result<Option<State>, SourceError> {
        let mut statement = self.0.prepare_cached(
            "SELECT number, sequence, hosts FROM state WHERE kind = ?1 AND number = ?2 AND hosts IS NOT NULL
             ORDER BY sequence DESC LIMIT 1 OFFSET min(?3, (SELECT count(*) - 1 FROM state WHERE kind = ?1 AND number = ?2))",
        )?;
        let parameters = params![kind(key.kind), key.number, behind];
        Ok(statement.query_row(parameters, |row| state(key.kind, row)).optional()?)
    }

    /// The objects that these keys lead to at one moment, each once. With `behind`: as on a replica.
    pub(crate) fn find_many(&mut self, keys: &[Key], behind: Option<u32>) -> Result<Vec<State>, SourceError> {
        self.0.execute_batch("BEGIN")?;
        let find = |key: &Key| match behind {
            None => self.find(*key),
            Some(behind) => self.find_on_replica(*key, behind),
        };
        let found: Result<Vec<Option<State>>, SourceError> = keys.iter().map(find).collect();
        self.0.execute_batch("COMMIT")?;
        let mut found: Vec<State> = found?.into_iter().flatten().collect();
        found.sort_by_key(|state| state.number);
        found.dedup_by_key(|state| state.number);
        Ok(found)
    }

    /// Everything that was committed after this change, in order.
    pub(crate) fn committed_since(&self, sequence: u64) -> Result<Vec<Committed>, SourceError> {
        let mut statement = self.0.prepare_cached(
            "SELECT sequence, kind, number, hosts FROM state WHERE sequence > ?1 ORDER BY sequence, kind, number",
        )?;
        let rows = statement.query_map([sequence], |row| {
            Ok(Committed {
                sequence: row.get(0)?,
                kind: if row.get::<_, u8>(1)? == 0 { Kind::Instance } else { Kind::Policy },
                number: row.get(2)?,
                hosts: row.get::<_, Option<String>>(3)?.map(|text| hosts_of(&text)),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Makes a change in one transaction. `act` writes it.
    pub(crate) fn change(
        &mut self,
        act: impl FnOnce(&mut Writing<'_>) -> Result<(), SourceError>,
    ) -> Result<Change, SourceError> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sequence: u64 = transaction
            .prepare_cached("SELECT coalesce(max(sequence), 0) + 1 FROM state")?
            .query_row([], |row| row.get(0))?;
        let mut writing = Writing { transaction, sequence, touched: Vec::new() };
        act(&mut writing)?;
        let Writing { transaction, touched, .. } = writing;
        transaction.commit()?;
        Ok(Change { sequence, touched })
    }
}

fn state(kind: Kind, row: &Row<'_>) -> rusqlite::Result<State> {
    let hosts: String = row.get(2)?;
    Ok(State { kind, number: row.get(0)?, sequence: row.get(1)?, hosts: hosts_of(&hosts) })
}

/// A change under way.
pub(crate) struct Writing<'a> {
    transaction: Transaction<'a>,
    sequence: u64,
    touched: Vec<(Option<State>, Option<State>)>,
}

impl Writing<'_> {
    /// The present state of an object, within this change.
    pub(crate) fn read(&self, of: Kind, number: u32) -> Result<Option<State>, SourceError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT number, sequence, hosts FROM object WHERE kind = ?1 AND number = ?2")?;
        Ok(statement.query_row(params![kind(of), number], |row| state(of, row)).optional()?)
    }

    /// The instance that has a host.
    pub(crate) fn owner(&self, host: u32) -> Result<Option<u32>, SourceError> {
        let mut statement = self.transaction.prepare_cached("SELECT number FROM host WHERE host = ?1")?;
        Ok(statement.query_row([host], |row| row.get(0)).optional()?)
    }

    /// Gives an object a new state with these hosts. No other object may have one of them.
    pub(crate) fn write(&mut self, of: Kind, number: u32, hosts: Vec<u32>) -> Result<(), SourceError> {
        let before = self.read(of, number)?;
        let text = hosts_text(&hosts);
        let execute = |sql: &str| -> Result<(), SourceError> {
            self.transaction.prepare_cached(sql)?.execute(params![kind(of), number, self.sequence, text])?;
            Ok(())
        };
        execute("INSERT OR REPLACE INTO state (kind, number, sequence, hosts) VALUES (?1, ?2, ?3, ?4)")?;
        execute("INSERT OR REPLACE INTO object (kind, number, sequence, hosts) VALUES (?1, ?2, ?3, ?4)")?;
        for host in before.iter().flat_map(|before| &before.hosts).filter(|host| !hosts.contains(host)) {
            // Within this change, another object may already have the host.
            self.transaction
                .prepare_cached("DELETE FROM host WHERE host = ?1 AND number = ?2")?
                .execute(params![host, number])?;
        }
        for host in &hosts {
            self.transaction
                .prepare_cached("INSERT OR REPLACE INTO host (host, number) VALUES (?1, ?2)")?
                .execute(params![host, number])?;
        }
        self.touched.push((before, Some(State { kind: of, number, sequence: self.sequence, hosts })));
        Ok(())
    }

    /// Deletes an object.
    pub(crate) fn delete(&mut self, of: Kind, number: u32) -> Result<(), SourceError> {
        let Some(before) = self.read(of, number)? else { return Ok(()) };
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO state (kind, number, sequence, hosts) VALUES (?1, ?2, ?3, NULL)")?
            .execute(params![kind(of), number, self.sequence])?;
        self.transaction
            .prepare_cached("DELETE FROM object WHERE kind = ?1 AND number = ?2")?
            .execute(params![kind(of), number])?;
        self.transaction.prepare_cached("DELETE FROM host WHERE number = ?1")?.execute([number])?;
        self.touched.push((Some(before), None));
        Ok(())
    }
}

type Job = Box<dyn FnOnce(&mut Database) + Send>;

/// The database, on threads of its own: one writes, and some read. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Source {
    writer: mpsc::Sender<Job>,
    readers: std::sync::Arc<[mpsc::Sender<Job>]>,
}

/// The number of threads that read.
const READERS: usize = 2;

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let readers = (0..READERS).map(|_| thread(path.to_owned())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { writer: thread(path.to_owned())?, readers: readers.into() })
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let reader = self.readers.get(fastrand::usize(..READERS)).ok_or(SourceError::Closed)?;
        run(reader, work).await
    }

    /// Makes a change.
    ///
    /// # Cancellation
    ///
    /// Once the future has been polled, the change is made even if the future is dropped.
    pub(crate) async fn change(
        &self,
        act: impl FnOnce(&mut Writing<'_>) -> Result<(), SourceError> + Send + 'static,
    ) -> Result<Change, SourceError> {
        run(&self.writer, move |database| database.change(act)).await
    }
}

async fn run<T: Send + 'static>(
    thread: &mpsc::Sender<Job>,
    work: impl FnOnce(&mut Database) -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    let (reply, result) = oneshot::channel();
    let job = Box::new(move |database: &mut Database| {
        let _ = reply.send(work(database));
    });
    thread.send(job).map_err(|_| SourceError::Closed)?;
    result.await.map_err(|_| SourceError::Closed)?
}

fn thread(path: PathBuf) -> Result<mpsc::Sender<Job>, SourceError> {
    let mut database = Database::open(&path)?;
    let (jobs, queue) = mpsc::channel::<Job>();
    let work = move || {
        for job in queue {
            job(&mut database);
        }
    };
    std::thread::Builder::new().name("sqlite".to_owned()).spawn(work).map_err(|_| SourceError::Closed)?;
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("source")).unwrap();
        (folder, database)
    }

    #[test]
    fn a_host_that_moves_makes_one_change_of_two_objects() {
        let (_folder, mut database) = database();
        database.change(|writing| writing.write(Kind::Instance, 1, vec![5, 6])).unwrap();
        let moved = database
            .change(|writing| {
                assert_eq!(writing.owner(6)?, Some(1));
                writing.write(Kind::Instance, 1, vec![5])?;
                writing.write(Kind::Instance, 2, vec![6])
            })
            .unwrap();
        assert_eq!((moved.sequence, moved.touched.len()), (2, 2));
        assert_eq!(database.find(Key::host(6)).unwrap().unwrap().number, 2);
        assert_eq!(database.find(Key::id(Kind::Instance, 1)).unwrap().unwrap().hosts, [5]);
        let committed: Vec<_> = database.committed_since(1).unwrap().into_iter().map(|one| one.number).collect();
        assert_eq!(committed, [1, 2]);
    }

    #[test]
    fn what_is_deleted_is_remembered_and_found_no_more() {
        let (_folder, mut database) = database();
        database.change(|writing| writing.write(Kind::Instance, 1, vec![5])).unwrap();
        database.change(|writing| writing.delete(Kind::Instance, 1)).unwrap();
        assert_eq!(database.find(Key::host(5)).unwrap(), None);
        assert_eq!(database.find(Key::serial(Kind::Instance, 1)).unwrap(), None);
        assert_eq!(database.committed_since(1).unwrap()[0].hosts, None);
    }

    #[test]
    fn a_replica_is_behind_but_never_before_the_beginning() {
        let (_folder, mut database) = database();
        for _ in 0..3 {
            database.change(|writing| writing.write(Kind::Policy, 1, Vec::new())).unwrap();
        }
        let key = Key::id(Kind::Policy, 1);
        let found = |behind| database.find_on_replica(key, behind).unwrap().unwrap().sequence;
        assert_eq!((found(0), found(1), found(2), found(9)), (3, 2, 1, 1));
    }
}
