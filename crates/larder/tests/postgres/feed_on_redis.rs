//! Changes that reach a cache on Redis, which several nodes share, by the database alone.

use crate::feed::run;
use crate::node::{options, session, until};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::connector::postgres::Postgres;
use larder::connector::redis::{Address, Redis, RedisOptions};
use larder::contract::{Answer, Error, Fill, KeyBuf, KeyRef, Object, Place, Pruned, Status, Value};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, Connector, Delivery, Lookup, Miss, Schema, Stored, Ticket};
use larder_testing::entries::Site;
use larder_testing::postgres::{PostgresServer, required};
use larder_testing::server::{self, Reply, Server, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(50);
/// The shortest pause between two polls.
const SHORTEST: Duration = Duration::from_millis(1);
/// What a test can wait for.
const SHORT: Duration = Duration::from_millis(500);

/// A database, and a Redis server.
pub(crate) struct Servers {
    pub(crate) database: PostgresServer,
    pub(crate) redis: Server,
}

impl Servers {
    /// The newest version of PostgreSQL with every Redis, which saves what it is told to save.
    async fn all() -> Vec<Self> {
        let binaries = required().unwrap().pop().unwrap();
        let mut all = Vec::new();
        for binary in server::required().unwrap() {
            let database = PostgresServer::start(&binaries, &[]).await.unwrap();
            all.push(Self { database, redis: Server::start(&binary, ServerOptions::default()).await.unwrap() });
        }
        all
    }

    async fn place(&self) -> Option<Vec<u8>> {
        match self.redis.command(&["GET", "larder:site:p"]).await.unwrap() {
            Reply::Bulk(place) => Some(place),
            Reply::Nil => None,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the place is another one than before.
    async fn place_moves(&self, before: Option<Vec<u8>>) {
        let begun = Instant::now();
        while self.place().await == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "the place stays where it was");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets Redis live on where no node finds it.
    async fn hide_redis(&self) {
        let mut connection = self.redis.connect().await.unwrap();
        std::fs::rename(self.redis.socket(), self.redis.socket().with_extension("away")).unwrap();
        connection.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.unwrap();
    }

    fn show_redis(&self) {
        std::fs::rename(self.redis.socket().with_extension("away"), self.redis.socket()).unwrap();
    }

    /// Lets the database live on where no node finds it.
    fn hide_database(&self) {
        let socket = self.database.socket().join(".s.PGSQL.5432");
        std::fs::rename(&socket, self.database.socket().join(".s.PGSQL.1")).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        self.database.psql_at(1, ended).unwrap();
    }

    fn show_database(&self) {
        let socket = self.database.socket().join(".s.PGSQL.5432");
        std::fs::rename(self.database.socket().join(".s.PGSQL.1"), socket).unwrap();
    }
}

/// A node whose cache is on Redis.
pub(crate) struct RedisNode {
    pub(crate) cache: Cache<Site>,
}

impl RedisNode {
    /// A node that can be read, with a deadline that a slow machine does not miss.
    async fn on(servers: &Servers) -> Self {
        let node = Self::begin(&servers.database, &servers.redis, LONG, |redis| redis);
        node.readable().await;
        node
    }

    pub(crate) fn begin(
        database: &PostgresServer,
        redis: &Server,
        deadline: Duration,
        through: impl FnOnce(Arc<dyn Connector>) -> Arc<dyn Connector>,
    ) -> Self {
        let mut settings = options(database);
        settings.breaker.open = Duration::from_millis(100);
        settings.breaker.open_max = Duration::from_millis(100);
        let postgres = Postgres::open(settings).unwrap();
        let feed = Feed::open(&postgres, FeedOptions::new().poll(Duration::from_millis(5))).unwrap();
        let patience = Duration::from_secs(20);
        let address = Address::Unix(redis.socket().to_owned());
        let mut settings = RedisOptions::new(address).operation_timeout(patience).connect_timeout(patience);
        settings.breaker.slow_call = patience;
        settings.breaker.ramp = Duration::ZERO;
        settings.breaker.open = Duration::from_millis(100);
        settings.breaker.open_max = Duration::from_millis(100);
        let schema = Schema::of::<Site>();
        let shared = through(Arc::new(Redis::open(settings).unwrap().connector(schema.clone()).unwrap()));
        let connector = feed.follow(schema.clone(), shared, FollowOptions::new().deadline(deadline)).unwrap();
        Self { cache: Cache::new(Arc::new(connector), schema).unwrap() }
    }

    pub(crate) async fn readable(&self) {
        until("the cache can be read", || self.cache.status().readable).await;
    }

    pub(crate) async fn has(&self, id: &str) -> bool {
        self.cache.get(Site::ID, id).await.is_some()
    }

    pub(crate) async fn set(&self, id: &str, name: &str) {
        assert_eq!(self.cache.set(Site::new(id, &[&format!("{id}.example")], name)).await, Stored::Accepted);
    }

    /// Waits until the object is served, and meanwhile never serves the other one.
    async fn serves(&self, id: &str, never: &str) {
        let begun = Instant::now();
        while !self.has(id).await {
            assert!(!self.has(never).await, "{never} has changed");
            assert!(begun.elapsed() < Duration::from_secs(60), "{id} is not served");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!self.has(never).await, "{never} has changed");
    }

    pub(crate) async fn forgets(&self, id: &str) {
        let begun = Instant::now();
        while self.has(id).await {
            assert!(begun.elapsed() < Duration::from_secs(60), "{id} is not forgotten");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_change_is_gone_for_every_node_and_needs_none_in_particular() {
    for servers in Servers::all().await {
        let (one, two) = (RedisNode::on(&servers).await, RedisNode::on(&servers).await);
        let writer = session(&servers.database).await;
        for id in ["a", "b", "c"] {
            one.set(id, "old").await;
            assert!(two.has(id).await);
        }
        run(&writer, "SELECT larder.invalidate('site', 'host', 'a.example')").await;
        one.forgets("a").await;
        two.forgets("a").await;
        assert!(one.has("b").await && two.has("c").await);
        // The other node goes on, without waiting for anything of this one to end.
        drop(one);
        run(&writer, "SELECT larder.invalidate('site', 'id', 'b')").await;
        two.forgets("b").await;
        assert!(two.has("c").await);
        // And a node that comes later finds the place, and clears nothing.
        let three = RedisNode::on(&servers).await;
        assert!(three.has("c").await);
        run(&writer, "SELECT larder.truncate('site')").await;
        three.forgets("c").await;
        assert!(!two.has("c").await);
    }
}

/// The second node looks at the place after the first one has set it: it applies nothing.
#[tokio::test]
async fn what_one_node_has_applied_the_other_one_skips() {
    for servers in Servers::all().await {
        let held = Arc::new(Held::default());
        let one = RedisNode::on(&servers).await;
        let through = |redis| Arc::new(Through { redis, held: held.clone() }) as Arc<dyn Connector>;
        let two = RedisNode::begin(&servers.database, &servers.redis, LONG, through);
        two.readable().await;
        let writer = session(&servers.database).await;
        for id in ["a", "b"] {
            one.set(id, "old").await;
            let no_places = held.places.write().await;
            let (asked, before) = (held.asked.load(Ordering::SeqCst), servers.place().await);
            run(&writer, &format!("SELECT larder.invalidate('site', 'id', '{id}')")).await;
            until("the second node asks for the place", || held.asked.load(Ordering::SeqCst) > asked).await;
            servers.place_moves(before).await;
            assert!(!one.has(id).await);
            drop(no_places);
        }
        // Alone, it applies what comes.
        drop(one);
        two.set("c", "old").await;
        run(&writer, "SELECT larder.invalidate('site', 'id', 'c')").await;
        two.forgets("c").await;
        assert_eq!(held.applied.load(Ordering::SeqCst), 1, "that, and nothing before");
    }
}

/// A connector that keeps no place is slow, and misses polls. What they brought is polled again, and nothing is cleared for that.
#[tokio::test]
async fn a_cache_that_misses_polls_catches_up() {
    let database = PostgresServer::start(&required().unwrap().pop().unwrap(), &[]).await.unwrap();
    let held = Arc::new(Held::default());
    let schema = Schema::of::<Site>();
    let memory = Arc::new(Memory::open(schema.clone(), MemoryOptions::new()).unwrap());
    let slow = Arc::new(Through { redis: memory, held: held.clone() });
    let feed = Feed::open(&Postgres::open(options(&database)).unwrap(), FeedOptions::new().poll(SHORTEST)).unwrap();
    let connector = feed.follow(schema.clone(), slow, FollowOptions::new().deadline(LONG)).unwrap();
    let node = RedisNode { cache: Cache::new(Arc::new(connector), schema).unwrap() };
    node.readable().await;
    for id in ["a", "b", "c"] {
        node.set(id, "old").await;
    }
    let writer = session(&database).await;
    let (no_places, asked) = (held.places.write().await, held.asked.load(Ordering::SeqCst));
    run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
    until("the change is being applied", || held.asked.load(Ordering::SeqCst) > asked).await;
    run(&writer, "SELECT larder.invalidate('site', 'id', 'b')").await;
    // Far more polls than wait for a cache that is slow.
    let polls = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let polls = || database.psql(polls).unwrap().parse::<u64>().unwrap();
    let before = polls();
    until("many polls were missed", || polls() > before + 500).await;
    drop(no_places);
    node.forgets("a").await;
    node.forgets("b").await;
    assert!(node.has("c").await);
}

#[tokio::test]
async fn redis_away_while_a_change_commits() {
    for servers in Servers::all().await {
        let (one, two) = (RedisNode::on(&servers).await, RedisNode::on(&servers).await);
        let writer = session(&servers.database).await;
        one.set("a", "old").await;
        one.set("b", "stays").await;
        servers.hide_redis().await;
        for node in [&one, &two] {
            until("nothing is read", || !node.cache.status().readable).await;
        }
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        servers.show_redis();
        tokio::join!(one.serves("b", "a"), two.serves("b", "a"));
    }
}

/// A node that is connected to Redis alone serves nothing after the deadline. What it loads it may store.
#[tokio::test]
async fn the_database_away_for_longer_than_the_deadline() {
    for servers in Servers::all().await {
        let node = RedisNode::begin(&servers.database, &servers.redis, SHORT, |redis| redis);
        node.readable().await;
        let writer = session(&servers.database).await;
        node.set("a", "old").await;
        node.set("b", "stays").await;
        servers.hide_database();
        until("the deadline has passed", || !node.cache.status().readable).await;
        assert!(!node.has("a").await && !node.has("b").await);
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        let Lookup::Miss { cause: Miss::Distrusted, ticket: Some(ticket), expired: None } =
            node.cache.lookup(Site::ID, "c").await
        else {
            panic!("not a miss with a ticket")
        };
        assert_eq!(node.cache.fill(Site::new("c", &[], "new"), ticket).await, Stored::Accepted);
        assert_eq!(node.cache.invalidate(Site::ID, ["d"]).await.unwrap(), Delivery::Applied, "Redis is there");
        servers.show_database();
        // A poll that had begun before the change may have been answered late: then `a` is served until the deadline.
        let begun = Instant::now();
        while !node.has("b").await || node.has("a").await || !node.has("c").await {
            assert!(begun.elapsed() < Duration::from_secs(60), "b and c are not served, or a still is");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// No node follows while a change commits. The next one finds where the others have ended.
#[tokio::test]
async fn a_change_while_no_node_was_there() {
    for servers in Servers::all().await {
        let writer = session(&servers.database).await;
        let node = RedisNode::on(&servers).await;
        node.set("a", "old").await;
        node.set("b", "stays").await;
        drop(node);
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        let node = RedisNode::on(&servers).await;
        assert!(!node.has("a").await);
        assert!(node.has("b").await, "nothing else is cleared");
        // Nobody knows any more what has changed since.
        drop(node);
        run(&writer, "SELECT larder.invalidate('site', 'id', 'b')").await;
        let gone = "BEGIN; DELETE FROM larder.changes; UPDATE larder.clock SET trimmed = pg_current_snapshot(); COMMIT; SELECT txid_current()";
        servers.database.psql(gone).unwrap();
        let node = RedisNode::on(&servers).await;
        assert!(!node.has("b").await);
        node.set("b", "new").await;
        assert!(node.has("b").await);
    }
}

/// Without changes the place would be trimmed away, and the next node would have to clear the cache.
#[tokio::test]
async fn the_place_moves_while_nothing_changes() {
    for servers in Servers::all().await {
        let long_ago = [
            "SELECT txid_current()",
            "SELECT pg_current_snapshot()",
            "SELECT txid_current()",
            "SELECT pg_current_snapshot()",
        ];
        let [_, first, _, second] = long_ago.map(|sql| servers.database.psql(sql).unwrap());
        let node = RedisNode::on(&servers).await;
        node.set("a", "stays").await;
        let before = servers.place().await;
        assert!(before.is_some());
        let begun = Instant::now();
        // What is trimmed moves about once a minute.
        for trimmed in [first.trim(), second.trim()].into_iter().cycle() {
            if servers.place().await != before {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "the place stays where it was");
            servers.database.psql(&format!("UPDATE larder.clock SET trimmed = '{trimmed}'")).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(node.has("a").await, "nothing is cleared by that");
    }
}

/// The data is gone, and with it the place.
#[tokio::test]
async fn redis_is_flushed_while_changes_commit() {
    for servers in Servers::all().await {
        let (one, two) = (RedisNode::on(&servers).await, RedisNode::on(&servers).await);
        let writer = session(&servers.database).await;
        one.set("a", "old").await;
        run(&writer, "BEGIN; SELECT larder.invalidate('site', 'id', 'b'), larder.invalidate('site', 'id', 'a')").await;
        servers.redis.flushall().await.unwrap();
        run(&writer, "COMMIT").await;
        for node in [&one, &two] {
            until_stores(node, "b").await;
            assert!(!node.has("a").await);
        }
        run(&writer, "SELECT larder.invalidate('site', 'id', 'b')").await;
        one.forgets("b").await;
        two.forgets("b").await;
    }
}

/// The old data comes back, and with it an old place.
#[tokio::test]
async fn redis_is_killed_and_comes_back_with_old_data() {
    for servers in Servers::all().await {
        let (one, two) = (RedisNode::on(&servers).await, RedisNode::on(&servers).await);
        let writer = session(&servers.database).await;
        for id in ["a", "b"] {
            one.set(id, "old").await;
        }
        let saved = servers.place().await;
        servers.redis.command(&["SAVE"]).await.unwrap();
        run(&writer, "SELECT larder.invalidate('site', 'id', 'a')").await;
        one.forgets("a").await;
        two.forgets("a").await;
        servers.redis.kill();
        run(&writer, "SELECT larder.invalidate('site', 'id', 'b')").await;
        servers.redis.restart().await.unwrap();
        assert!(saved.is_some());
        tokio::join!(until_stores(&one, "c"), until_stores(&two, "d"));
        for node in [&one, &two] {
            assert!(!node.has("a").await && !node.has("b").await);
            assert!(node.has("c").await && node.has("d").await);
        }
        assert_ne!(servers.place().await, saved, "the changes since the old place were applied");
    }
}

/// Waits until the node stores and serves this object. It must never serve what has changed meanwhile.
async fn until_stores(node: &RedisNode, id: &str) {
    let begun = Instant::now();
    while !node.has(id).await {
        assert!(!node.has("a").await, "a has changed");
        assert!(begun.elapsed() < Duration::from_secs(60), "{id} is not stored");
        let _ = node.cache.set(Site::new(id, &[], "new")).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a test counts and holds up.
#[derive(Default)]
struct Held {
    /// While a test holds it, no place is answered.
    places: RwLock<()>,
    asked: AtomicU64,
    applied: AtomicU64,
}

/// A connector of one's own, which forwards.
struct Through {
    redis: Arc<dyn Connector>,
    held: Arc<Held>,
}

impl Connector for Through {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        self.redis.get(key)
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        self.redis.lookup(key)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.redis.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.redis.fill(object, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.redis.put(object, ticket)
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.held.applied.fetch_add(1, Ordering::SeqCst);
        self.redis.invalidate(keys, floor)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.redis.delete(keys)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.redis.truncate()
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.redis.prune()
    }

    fn connection(&self) -> u64 {
        self.redis.connection()
    }

    fn place(&self) -> Answer<'_, Option<Place>> {
        Answer::later(async move {
            self.held.asked.fetch_add(1, Ordering::SeqCst);
            drop(self.held.places.read().await);
            self.redis.place().await
        })
    }

    fn set_place(&self, place: Vec<u8>, connection: u64) -> Answer<'_, ()> {
        self.redis.set_place(place, connection)
    }

    fn status(&self) -> Status {
        self.redis.status()
    }
}
