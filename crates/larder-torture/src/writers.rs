//! The writers of a run with `--feed`: they change the source by plain SQL and know no cache. Their transactions have every isolation level, savepoints, and
//! two phases; some stay open for a while, some are rolled back, and some fail because of others.
//!
//! A writer reports a transaction when its commit was answered. If the answer is lost, the writer looks into the history whether it was committed.

use crate::ledger::{Ledger, is_declared, table};
use crate::node::INSTANCES;
use crate::objects::{Key, Kind};
use crate::postgres::{Sql, SqlError};
use crate::protocol::{Call, Counts, Event, Forgotten, Outcome, PackedReads, Report, now};
use crate::witness::News;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The number by which the witness knows the writers: no node has it.
pub(crate) const WRITERS: u32 = 0;

/// How many there are.
const COUNT: u64 = 6;

const TELL_EVERY: Duration = Duration::from_millis(25);

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// All writers.
pub(crate) struct Writers {
    desk: Arc<Desk>,
    tasks: JoinSet<()>,
}

struct Desk {
    dsn: String,
    /// How long after its commit was answered a change may still be unknown to a cache, in ns.
    deadline: u64,
    events: Mutex<Vec<Event>>,
    ending: AtomicBool,
    next: AtomicU64,
}

impl Writers {
    pub(crate) fn begin(dsn: String, deadline: Duration, seed: u64, news: UnboundedSender<News>) -> Self {
        let desk = Arc::new(Desk {
            dsn,
            deadline: u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX),
            events: Mutex::default(),
            ending: AtomicBool::new(false),
            next: AtomicU64::new(0),
        });
        let _ = news.send(News::Begins { node: WRITERS, at: now() });
        let mut tasks = JoinSet::new();
        for number in 0..COUNT {
            tasks.spawn(
                desk.clone().write(fastrand::Rng::with_seed(seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))),
            );
        }
        tokio::spawn(desk.clone().tell(news));
        Self { desk, tasks }
    }

    /// Lets every writer end its transaction, and returns when all have.
    pub(crate) async fn end(&mut self) {
        self.desk.ending.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What a transaction did.
struct Written {
    version: u64,
    numbers: Vec<u32>,
}

impl Desk {
    /// Reports, again and again, until the witness has ended.
    async fn tell(self: Arc<Self>, news: UnboundedSender<News>) {
        let turns = Arc::new(Semaphore::new(4));
        while let Ok(turn) = turns.clone().acquire_owned().await {
            let (until, events) = {
                let mut events = self.lock();
                (now(), std::mem::take(&mut *events))
            };
            let counts = Counts { readable: true, ..Counts::default() };
            let report = Report { until, since: until, events, counts, reads: PackedReads::default() };
            if news.send(News::Report { node: WRITERS, report: Box::new(report), turn }).is_err() {
                return;
            }
            sleep(TELL_EVERY).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(self: Arc<Self>, mut rng: fastrand::Rng) {
        let mut session = None;
        while !self.ending.load(Ordering::Relaxed) {
            let connected = match session.take() {
                Some(session) => session,
                None => match Sql::connect(&self.dsn).await {
                    Ok(session) => session,
                    Err(_) => {
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                },
            };
            // A session that has failed is not used again, whatever state it is in.
            if self.transaction(&connected, &mut rng).await.is_ok() {
                session = Some(connected);
            }
            sleep(Duration::from_millis(rng.u64(..40))).await;
        }
    }

    async fn transaction(&self, session: &Sql, rng: &mut fastrand::Rng) -> Result<(), SqlError> {
        let level = rng.choice(LEVELS).unwrap_or("SERIALIZABLE");
        session.run(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
        // Its own number is drawn before, so that it commits late.
        let slow = rng.u32(..3) == 0;
        if slow {
            session.run("SELECT pg_current_xact_id()").await?;
            sleep(Duration::from_millis(rng.u64(..200))).await;
        }
        let written = match change(session, rng).await {
            Ok(written) => written,
            // Others were first: a serialization failure, or a deadlock.
            Err(error) if matches!(error.state(), Some("40001" | "40P01")) => return session.run("ROLLBACK").await,
            Err(error) => return Err(error),
        };
        if slow {
            sleep(Duration::from_millis(rng.u64(..250))).await;
        }
        if rng.u32(..8) == 0 {
            return session.run("ROLLBACK").await;
        }
        let two_phases = rng.u32(..6) == 0;
        if two_phases {
            let name = format!("writer-{}", self.next.fetch_add(1, Ordering::Relaxed));
            let prepared = session.run(&format!("PREPARE TRANSACTION '{name}'")).await;
            // Without an answer it may be prepared all the same.
            if let Err(error) = &prepared
                && error.state().is_some()
            {
                let _ = session.run("ROLLBACK").await;
                return prepared;
            }
            sleep(Duration::from_millis(rng.u64(..400))).await;
            let word = if rng.u32(..4) == 0 { "ROLLBACK" } else { "COMMIT" };
            return self.end_prepared(&format!("{word} PREPARED '{name}'"), now(), written).await;
        }
        let begun = now();
        match session.run("COMMIT").await {
            Ok(()) => self.answered(begun, &written),
            // Refused at the end: it is rolled back.
            Err(error) if error.state().is_some_and(|state| state.starts_with("40")) => {}
            Err(_) => self.look(begun, written).await,
        }
        Ok(())
    }

    /// Ends a prepared transaction, however often the server is away meanwhile.
    async fn end_prepared(&self, text: &str, begun: u64, written: Written) -> Result<(), SqlError> {
        loop {
            let ended = match Sql::connect(&self.dsn).await {
                Ok(session) => session.run(text).await,
                Err(error) => Err(error),
            };
            match ended {
                Ok(()) => break,
                // It has ended: an answer was lost.
                Err(error) if error.state() == Some("42704") => break,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
        self.look(begun, written).await;
        Ok(())
    }

    /// Finds out whether a transaction was committed. Once it is known that it was, that counts as the answer.
    async fn look(&self, begun: u64, written: Written) {
        loop {
            if let Ok(session) = Sql::connect(&self.dsn).await
                // A commit that is still under way holds its locks: wait for them.
                && session.run("BEGIN; LOCK TABLE app.history IN SHARE MODE").await.is_ok()
                && let Ok(committed) = Ledger::has(&session, written.version).await
            {
                if committed {
                    self.answered(begun, &written);
                }
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn answered(&self, begun: u64, written: &Written) {
        let keys: Vec<Key> = written.numbers.iter().map(|number| Key::id(Kind::Instance, *number)).collect();
        // The time is taken under the lock, so that a report has everything from before its time.
        let mut events = self.lock();
        events.push(Event::Forgotten(Forgotten {
            call: Call::Sql,
            kind: Kind::Instance,
            keys,
            sequence: written.version,
            begun,
            ended: now() + self.deadline,
            outcome: Outcome::Applied,
            led: None,
        }));
    }
}

/// Changes some instances: locks them, draws a version, writes, and says so where no trigger does.
async fn change(session: &Sql, rng: &mut fastrand::Rng) -> Result<Written, SqlError> {
    let mut numbers: Vec<u32> = (0..rng.u32(1..4)).map(|_| rng.u32(..INSTANCES)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    // Sometimes in another order, so that writers deadlock.
    if rng.u32(..16) == 0 {
        numbers.reverse();
    }
    for number in &numbers {
        // Whether it is there or not.
        session
            .run(&format!(
                "SELECT pg_advisory_xact_lock({number}); SELECT FROM {} WHERE number = {number} FOR UPDATE",
                table(*number)
            ))
            .await?;
    }
    let version: u64 = session.number("SELECT nextval('app.version')").await?;
    let undone = rng.u32(..6) == 0;
    if undone {
        // What is rolled back to a savepoint was never there, and neither was its invalidation.
        let number = numbers.first().copied().unwrap_or(0);
        session
            .run(&format!(
                "SAVEPOINT a; UPDATE {} SET version = -1 WHERE number = {number}; ROLLBACK TO a",
                table(number)
            ))
            .await?;
    }
    let mut text = String::new();
    for number in &numbers {
        let removes = rng.u32(..12) == 0;
        text += &written(*number, version, removes);
        text += &format!("INSERT INTO app.history VALUES ({version}, {number}, {});", !removes);
        if !is_declared(*number) {
            let id = Key::id(Kind::Instance, *number).text();
            text += &format!("SELECT larder.invalidate('instance', 'id', '{id}');");
        }
    }
    if rng.bool() {
        text = format!("SAVEPOINT b; {text} RELEASE b;");
    }
    session.run(&text).await?;
    Ok(Written { version, numbers })
}

/// What gives an instance a new version, or removes it.
///
/// It is removed only after it was written: the snapshot of the transaction may be older than the row, because it was taken before the lock was there. Then a
/// DELETE alone would find nothing, say nothing and leave the row, although the history has it removed. So the write fails.
fn written(number: u32, version: u64, removes: bool) -> String {
    let (table, id) = (table(number), Key::id(Kind::Instance, number).text());
    let delete = if removes { format!("DELETE FROM {table} WHERE number = {number};") } else { String::new() };
    format!(
        "INSERT INTO {table} VALUES ({number}, '{id}', {version}) ON CONFLICT (number) DO UPDATE SET version = excluded.version;{delete}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger;
    use larder_testing::postgres::{PostgresServer, required};

    #[tokio::test]
    async fn nobody_removes_what_their_snapshot_does_not_see() {
        let server = PostgresServer::start(&required().unwrap().remove(0), &[]).await.unwrap();
        ledger::set_up(&server.dsn()).await.unwrap();
        let (early, late) = (Sql::connect(&server.dsn()).await.unwrap(), Sql::connect(&server.dsn()).await.unwrap());
        for level in ["REPEATABLE READ", "SERIALIZABLE"] {
            late.run(&written(5, 100, true)).await.unwrap();
            early.run(&format!("BEGIN ISOLATION LEVEL {level}; SELECT 1")).await.unwrap();
            late.run(&written(5, 101, false)).await.unwrap();
            let refused = early.run(&written(5, 102, true)).await.unwrap_err();
            assert_eq!(refused.state(), Some("40001"), "{level}: {refused}");
            early.run("ROLLBACK").await.unwrap();
            let key = Key::id(Kind::Instance, 5);
            assert_eq!(ledger::load(&late, key).await.unwrap().map(|state| state.sequence), Some(101));
        }
    }
}
