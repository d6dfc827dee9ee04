//! A tier over PostgreSQL keeps larder's contract, on every version that is installed, with two nodes.
//!
//! It is bounded: another node may serve an earlier state until its next poll. So each node here polls once before it is asked for anything, if something was changed
//! since: a change of its own that touches nothing is answered when a later poll was applied. What it then finds in its memory must be right.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::{Postgres, PostgresConnector, PostgresOptions};
use larder::connector::tiered::Tiered;
use larder::contract::{
    Answer, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Pruned, Status,
    Stored, Ticket, Value,
};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::model::{self, Settings};
use larder_testing::postgres::{PostgresServer, required};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

larder_testing::conformance! { each Tiers::on_each_version().await }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations() {
    for subject in Tiers::on_each_version().await {
        let settings = Settings::default();
        // Those with ages wait for real time to pass.
        model::run(&subject, &Settings { sequences: settings.sequences / 3, ..settings }).await;
    }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// One database, and two nodes, each with a memory in front of it.
struct Tiers {
    nodes: [(Postgres, Feed); 2],
    changes: Arc<Changes>,
    server: PostgresServer,
}

impl Tiers {
    async fn on_each_version() -> Vec<Self> {
        let mut all = Vec::new();
        for binaries in required().unwrap() {
            let server = PostgresServer::start(&binaries, &["autovacuum = off"]).await.unwrap();
            let node = || {
                // The suite counts on time-outs that never fire, however slow the machine is.
                let mut options = PostgresOptions::from_url(&server.dsn()).unwrap();
                options = options.operation_timeout(TIMEOUT).connect_timeout(TIMEOUT);
                options.breaker.slow_call = TIMEOUT;
                let postgres = Postgres::open(options).unwrap();
                // Only a change of its own makes a node poll.
                let feed = Feed::open(&postgres, FeedOptions::new().poll(Duration::from_secs(10))).unwrap();
                (postgres, feed)
            };
            all.push(Self { nodes: [node(), node()], changes: Arc::default(), server });
        }
        all
    }
}

impl Subject for Tiers {
    fn nature(&self) -> Nature {
        Nature {
            shared: Yes,
            exact_time: No("ages are counted by the server, whose time is real"),
            bytes: No("a node that has an object in its own memory does not look at the server's bytes"),
            evicts: No("the database keeps everything until it is pruned"),
            leases: Yes,
            absences: Yes,
            expired: Yes,
            outages: Yes,
            at_once: No("nodes hear of a change one after the other, as they poll"),
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let follow = FollowOptions::new().deadline(Duration::from_secs(60));
        let tiered = self.nodes[node].1.tiered(schema, MemoryOptions::new(), follow).unwrap();
        let begun = Instant::now();
        while !tiered.status().readable || tiered.valid_for_ms() == 0 {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.server.binaries(), tiered.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Arc::new(CaughtUp { tiered: Arc::new(tiered), changes: self.changes.clone(), seen: AtomicU64::new(0) })
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The server lives on where no node finds it, so that it still has everything when it is back.
    async fn interrupt(&self) {
        let socket = self.server.socket().join(".s.PGSQL.5432");
        std::fs::rename(&socket, self.server.socket().join(".s.PGSQL.1")).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        self.server.psql_at(1, ended).unwrap();
    }

    async fn mend(&self) {
        let socket = self.server.socket().join(".s.PGSQL.5432");
        std::fs::rename(self.server.socket().join(".s.PGSQL.1"), socket).unwrap();
    }
}

/// What was changed through all nodes.
#[derive(Debug, Default)]
struct Changes {
    ended: AtomicU64,
    /// Whether one was given up or deferred: nobody knows when it takes effect.
    some_open: AtomicBool,
}

/// A change that is under way.
struct Change<'a>(&'a Changes, bool);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.some_open.fetch_or(!self.1, Ordering::SeqCst);
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A node that has polled before it is asked.
#[derive(Debug)]
struct CaughtUp {
    tiered: Arc<Tiered<PostgresConnector>>,
    changes: Arc<Changes>,
    /// How many changes had ended when it polled last.
    seen: AtomicU64,
}

impl CaughtUp {
    /// What is to be asked. Where there is no connection, the memory is as old as it is, and the suite expects that nothing is read: so it is left out.
    async fn caught_up(&self) -> &dyn Connector {
        let far: &dyn Connector = self.tiered.over();
        if !self.tiered.status().readable {
            return far;
        }
        let ended = self.changes.ended.load(Ordering::SeqCst);
        if ended == self.seen.load(Ordering::SeqCst) && !self.changes.some_open.load(Ordering::SeqCst) {
            return &*self.tiered;
        }
        let tiered = self.tiered.clone();
        // A change that is dropped is deferred, and nothing can be read before it is applied. A get that is dropped must not do that.
        let polled = tokio::spawn(async move {
            let nobody = vec![KeyBuf { index: 0, bytes: b"nobody has this key"[..].into() }];
            tiered.over().invalidate(nobody, None).await
        });
        match polled.await {
            Ok(Ok(Delivery::Applied)) => {
                self.seen.store(ended, Ordering::SeqCst);
                &*self.tiered
            }
            _ => far,
        }
    }

    fn change<'a, T: Send + Unpin + 'a>(&'a self, answer: Answer<'a, T>, is_over: fn(&T) -> bool) -> Answer<'a, T> {
        Answer::later(async move {
            let mut change = Change(&self.changes, false);
            let answer = answer.await;
            change.1 = is_over(&answer);
            answer
        })
    }
}

fn is_applied(delivery: &Result<Delivery, Error>) -> bool {
    matches!(delivery, Ok(Delivery::Applied))
}

fn is_stored(stored: &Stored) -> bool {
    *stored != Stored::Unavailable
}

impl Connector for CaughtUp {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        Answer::later(async move { self.caught_up().await.get(key).await })
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::later(async move { self.caught_up().await.lookup(key).await })
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        self.tiered.lease(key)
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        self.tiered.release(key, token)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.tiered.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.change(self.tiered.fill(object, ticket), |fill| is_stored(&fill.stored))
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        self.change(self.tiered.fill_absent(key, ticket), |fill| is_stored(&fill.stored))
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.change(self.tiered.put(object, ticket), is_stored)
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        self.change(self.tiered.set(object), is_stored)
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        Answer::later(async move { self.caught_up().await.get_many(keys).await })
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        Answer::later(async move { self.caught_up().await.lookup_many(keys).await })
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        self.change(self.tiered.fill_many(objects, ticket), |fills| fills.iter().all(|fill| is_stored(&fill.stored)))
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        self.change(self.tiered.set_many(objects), |stored| stored.iter().all(is_stored))
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.change(self.tiered.invalidate(keys, floor), is_applied)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.change(self.tiered.delete(keys), is_applied)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.change(self.tiered.truncate(), is_applied)
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.tiered.prune()
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.tiered.untouched(keys, since)
    }

    fn status(&self) -> Status {
        self.tiered.status()
    }
}
