//! Changes that reach caches in the memory of every node, by the database alone.

use crate::node::{options, servers, session, until};
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::Postgres;
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, Delivery, Lookup, Schema, Stored};
use larder_testing::entries::Site;
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;

/// A node whose cache is in its own memory.
pub(crate) struct FedNode {
    pub(crate) cache: Cache<Site>,
}

impl FedNode {
    /// With a deadline that a slow machine does not miss.
    pub(crate) async fn on(server: &PostgresServer) -> Self {
        Self::with_deadline(server, Duration::from_secs(20)).await
    }

    /// With one that a test can wait for.
    async fn on_short(server: &PostgresServer) -> Self {
        Self::with_deadline(server, Duration::from_millis(500)).await
    }

    async fn with_deadline(server: &PostgresServer, deadline: Duration) -> Self {
        let mut settings = options(server);
        settings.breaker.open = Duration::from_millis(100);
        settings.breaker.open_max = Duration::from_millis(100);
        let postgres = Postgres::open(settings).unwrap();
        let feed = FeedOptions::new().poll(Duration::from_millis(5));
        let node = Self::following(&Feed::open(&postgres, feed).unwrap(), deadline);
        node.readable().await;
        node
    }

    pub(crate) fn following(feed: &Feed, deadline: Duration) -> Self {
        let schema = Schema::of::<Site>();
        let connector =
            feed.memory(schema.clone(), MemoryOptions::new(), FollowOptions::new().deadline(deadline)).unwrap();
        Self { cache: Cache::new(Arc::new(connector), schema).unwrap() }
    }

    pub(crate) async fn readable(&self) {
        until("the cache can be read", || self.cache.status().readable && self.cache.status().journal == 0).await;
    }

    pub(crate) async fn fill(&self, id: &str, hosts: &[&str], name: &str) {
        let Lookup::Miss { ticket: Some(ticket), .. } = self.cache.lookup(Site::ID, id).await else { panic!("a hit") };
        assert_eq!(self.cache.fill(Site::new(id, hosts, name), ticket).await, Stored::Accepted);
    }

    pub(crate) async fn has(&self, id: &str) -> bool {
        self.cache.get(Site::ID, id).await.is_some()
    }

    /// Waits until the object is served: where the deadline is short, a slow machine misses it now and then.
    async fn serves(&self, id: &str) {
        let begun = std::time::Instant::now();
        while !self.has(id).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{id} is not served");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the object is served, and the other one is not. A poll that had begun before the change may have been answered late: then the other
    /// one is served until the deadline.
    async fn serves_without(&self, id: &str, without: &str) {
        let begun = std::time::Instant::now();
        while !self.has(id).await || self.has(without).await || !self.has(id).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{id} is not served, or {without} still is");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the object is gone.
    pub(crate) async fn forgets(&self, id: &str) {
        let begun = std::time::Instant::now();
        while self.has(id).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{id} is not forgotten");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until everything that is committed has arrived: a change that is made last has.
    async fn hears(&self, client: &Client) {
        self.cache.invalidate(Site::ID, ["marker"]).await.unwrap();
        self.fill("marker", &[], "there").await;
        run(client, "SELECT larder.invalidate('site', 'id', 'marker')").await;
        self.forgets("marker").await;
    }
}

pub(crate) async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn a_change_reaches_the_memory_of_every_node() {
    for server in servers().await {
        let (one, two, writer) = (FedNode::on(&server).await, FedNode::on(&server).await, session(&server).await);
        for node in [&one, &two] {
            node.fill("a", &["h"], "old").await;
            node.fill("b", &["k"], "stays").await;
        }
        run(&writer, "SELECT larder.invalidate('site', 'host', 'h')").await;
        for node in [&one, &two] {
            node.forgets("a").await;
            assert!(node.has("b").await);
        }
        run(&writer, "SELECT larder.truncate('site')").await;
        one.forgets("b").await;
        two.forgets("b").await;
        one.fill("a", &["h"], "new").await;
        assert!(one.has("a").await);
    }
}

/// Reading an outbox by sequence number lost every fifth row (postgres.md, F1): a lower number commits later.
#[tokio::test]
async fn reading_an_outbox_by_sequence_number_lost_what_committed_later() {
    for server in servers().await {
        let (node, one, two) = (FedNode::on(&server).await, session(&server).await, session(&server).await);
        for id in ["a", "b", "c", "d", "e"] {
            node.fill(id, &[], "old").await;
        }
        run(&one, "BEGIN; SELECT larder.invalidate('site', 'id', 'a')").await;
        run(&two, "BEGIN; SAVEPOINT s; SELECT larder.invalidate('site', 'id', 'b'); RELEASE s; SAVEPOINT t; SELECT larder.invalidate('site', 'id', 'c'); ROLLBACK TO t; COMMIT").await;
        node.forgets("b").await;
        assert!(node.has("a").await && node.has("c").await, "not committed, and rolled back");
        node.hears(&two).await;
        run(&one, "COMMIT").await;
        node.forgets("a").await;
        run(&one, "BEGIN; SELECT larder.invalidate('site', 'id', 'd'); PREPARE TRANSACTION 'later'").await;
        node.hears(&two).await;
        assert!(node.has("d").await);
        run(&two, "COMMIT PREPARED 'later'").await;
        node.forgets("d").await;
        run(&one, "BEGIN; SELECT larder.invalidate('site', 'id', 'e'); ROLLBACK").await;
        node.hears(&two).await;
        assert!(node.has("c").await && node.has("e").await, "what was rolled back has not changed");
    }
}

/// What this node is not told of it must not serve.
#[tokio::test]
async fn a_node_that_cannot_poll_reads_nothing_and_goes_on_where_it_was() {
    for server in servers().await {
        let (node, writer) = (FedNode::on_short(&server).await, session(&server).await);
        node.fill("a", &[], "old").await;
        node.fill("b", &[], "stays").await;
        let socket = server.socket().join(".s.PGSQL.5432");
        std::fs::rename(&socket, server.socket().join(".s.PGSQL.1")).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        server.psql_at(1, ended).unwrap();
        until("the deadline has passed", || !node.cache.status().readable).await;
        assert!(!node.has("a").await && !node.has("b").await);
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        assert_eq!(node.cache.invalidate(Site::ID, ["c"]).await.unwrap(), Delivery::Deferred);
        std::fs::rename(server.socket().join(".s.PGSQL.1"), &socket).unwrap();
        // Its place in the feed is still there.
        node.serves_without("b", "a").await;
    }
}

/// A load that is under way may have read what has changed since, and a node that cannot poll does not know. So such a load answers nobody who asks
/// after the deadline has passed.
#[tokio::test]
async fn a_load_from_before_an_outage_answers_nobody_who_asks_after_the_deadline() {
    for server in servers().await {
        let node = FedNode::on_short(&server).await;
        let load = |name: &'static str, go: Arc<tokio::sync::Semaphore>| {
            move |id: String| async move {
                let _permit = go.acquire().await;
                Ok::<_, std::io::Error>(Some(Site::new(&id, &[], name)))
            }
        };
        let (held, free) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(tokio::sync::Semaphore::new(9)));
        let loads = || node.cache.stats().loads.get();
        let first = {
            let (cache, load) = (node.cache.clone(), load("old", held.clone()));
            tokio::spawn(async move { cache.get_or_load(Site::ID, "a", load).await.unwrap().unwrap().name.clone() })
        };
        until("the load has begun", || loads() == 1).await;
        server.stop().unwrap();
        until("the deadline has passed", || !node.cache.status().readable).await;
        let second = {
            let (cache, load) = (node.cache.clone(), load("new", free.clone()));
            tokio::spawn(async move { cache.get_or_load(Site::ID, "a", load).await.unwrap().unwrap().name.clone() })
        };
        until("it has joined the load", || node.cache.stats().joined.get() == 1).await;
        let third = {
            let (cache, free) = (node.cache.clone(), free.clone());
            tokio::spawn(async move {
                let load = move |ids: Vec<String>| {
                    let free = free.clone();
                    async move {
                        let _permit = free.acquire().await;
                        Ok::<_, std::io::Error>(ids.iter().map(|id| Site::new(id, &[], "new")).collect::<Vec<_>>())
                    }
                };
                let found = cache.load_many(Site::ID, ["a"], load).await.unwrap();
                found[0].as_ref().unwrap().name.clone()
            })
        };
        until("the third has joined as well", || node.cache.stats().joined.get() == 2).await;
        held.add_permits(1);
        assert_eq!(first.await.unwrap(), "old", "it has asked before the change");
        assert_eq!((second.await.unwrap(), third.await.unwrap()), ("new".to_owned(), "new".to_owned()));
        server.cont().unwrap();
    }
}

/// A node that was away for longer than events are kept came back "healthy" and kept its stale copies (keycloak 52696). A gap is a truncate.
#[tokio::test]
async fn a_node_away_for_longer_than_changes_are_kept_came_back_healthy_and_kept_stale_copies() {
    for server in servers().await {
        let node = FedNode::on(&server).await;
        node.fill("a", &[], "old").await;
        server.psql("BEGIN; DELETE FROM larder.changes; UPDATE larder.clock SET trimmed = format('%s:%s:', s, s)::pg_snapshot FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 + 10 AS s) s; COMMIT").unwrap();
        node.forgets("a").await;
    }
}

/// The tables are empty after a crash: nobody can say what was changed meanwhile.
#[tokio::test]
async fn a_server_that_crashed_clears_the_caches_that_follow_it() {
    for server in servers().await {
        let node = FedNode::on_short(&server).await;
        node.fill("a", &[], "old").await;
        server.kill();
        until("the deadline has passed", || !node.cache.status().readable).await;
        server.restart().await.unwrap();
        node.readable().await;
        assert!(!node.has("a").await);
        node.fill("a", &[], "new").await;
        node.serves("a").await;
    }
}

#[tokio::test]
async fn what_one_node_changes_every_node_forgets_also_after_an_outage() {
    for server in servers().await {
        let (one, two) = (FedNode::on(&server).await, FedNode::on(&server).await);
        for id in ["a", "b", "c"] {
            two.fill(id, &[], "old").await;
        }
        assert_eq!(one.cache.invalidate(Site::ID, ["a"]).await.unwrap(), Delivery::Applied);
        two.forgets("a").await;
        assert_eq!(one.cache.set(Site::new("b", &[], "new")).await, Stored::Accepted);
        two.forgets("b").await;
        assert_eq!(one.cache.truncate().await.unwrap(), Delivery::Applied);
        two.forgets("c").await;
    }
}

/// A load that read the old row, and is stored before the change arrives, is forgotten when it does; one that is stored later is refused.
#[tokio::test]
async fn a_slow_loader_does_not_bring_the_old_state_back() {
    for server in servers().await {
        let (node, writer) = (FedNode::on(&server).await, session(&server).await);
        let Lookup::Miss { ticket: Some(early), .. } = node.cache.lookup(Site::ID, "a").await else { panic!("a hit") };
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        node.hears(&writer).await;
        assert_eq!(node.cache.fill(Site::new("a", &[], "old"), early).await, Stored::Overtaken);
        run(&writer, "BEGIN; SELECT larder.invalidate('site', 'id', 'a')").await;
        node.fill("a", &[], "old").await;
        run(&writer, "COMMIT").await;
        node.forgets("a").await;
    }
}

/// A cache that is opened while a poll is under way is not among those that this poll asks for. What it loads meanwhile may be from before a change that
/// the next poll takes for known.
#[tokio::test]
async fn a_cache_that_is_opened_during_a_poll_misses_no_change() {
    for server in servers().await {
        let postgres = Postgres::open(options(&server)).unwrap();
        let deadline = Duration::from_secs(20);
        let feed = Feed::open(&postgres, FeedOptions::new().poll(Duration::from_millis(5))).unwrap();
        let first = FedNode::following(&feed, deadline);
        first.readable().await;
        drop(first);
        let holder = session(&server).await;
        run(&holder, "BEGIN; LOCK TABLE larder.changes IN ACCESS EXCLUSIVE MODE").await;
        let waits = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'larder.changes'::regclass AND NOT granted";
        until("a poll is under way", || server.psql(waits).unwrap() == "t").await;
        let node = FedNode::following(&feed, deadline);
        let Lookup::Miss { ticket: Some(ticket), .. } = node.cache.lookup(Site::ID, "a").await else { panic!("a hit") };
        run(&holder, "SELECT larder.invalidate('site', 'id', 'a'); COMMIT").await;
        node.readable().await;
        node.cache.fill(Site::new("a", &[], "old"), ticket).await;
        assert!(!node.has("a").await);
    }
}
