//! Tiers over PostgreSQL: the memory of each node in front of a cache in the database.

use crate::caches::opened;
use crate::feed::run;
use crate::node::{options, servers, session, until};
use crate::sweeping::turn_and_sweep;
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::{Postgres, PostgresConnector, PostgresOptions};
use larder::connector::tiered::{Consistency, Tiered, TieredOptions};
use larder::contract::KeyRef;
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, CacheOptions, Caches, Connector, Delivery, Lookup, Schema, Stored};
use larder_testing::entries::{Site, next};
use larder_testing::postgres::PostgresServer;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No test waits for so long.
const LONG: Duration = Duration::from_secs(60);

/// A node with a memory in front of the cache.
struct Node {
    tiered: Arc<Tiered<PostgresConnector>>,
    cache: Cache<Site>,
    feed: Feed,
}

impl Node {
    /// A node that polls only when it has changed something itself.
    async fn quiet(server: &PostgresServer) -> Self {
        Self::polling(server, Duration::from_secs(30), LONG).await
    }

    /// A node that polls all the time.
    async fn on(server: &PostgresServer) -> Self {
        Self::polling(server, Duration::from_millis(5), LONG).await
    }

    async fn polling(server: &PostgresServer, poll: Duration, deadline: Duration) -> Self {
        let postgres = Postgres::open(options(server)).unwrap();
        let feed = Feed::open(&postgres, FeedOptions::new().poll(poll)).unwrap();
        let schema = Schema::of::<Site>();
        let follow = FollowOptions::new().deadline(deadline);
        let tiered = Arc::new(feed.tiered(schema.clone(), MemoryOptions::new(), follow).unwrap());
        let node = Self { cache: Cache::new(tiered.clone(), schema).unwrap(), tiered, feed };
        until("the cache can be read", || node.cache.status().readable && node.tiered.valid_for_ms() > 0).await;
        node
    }

    async fn load(&self, site: Site) {
        let Lookup::Miss { ticket: Some(ticket), .. } = self.cache.lookup(Site::ID, "nobody has this id").await else {
            panic!("a ticket is there")
        };
        assert_eq!(self.cache.fill(site, ticket).await, Stored::Accepted);
    }

    async fn name(&self, id: &str) -> Option<String> {
        self.cache.get(Site::ID, id).await.map(|site| site.name.clone())
    }

    /// Reads the object, and so has it in memory.
    async fn keeps(&self, id: &str, name: &str) {
        let begun = Instant::now();
        loop {
            assert_eq!(self.name(id).await.as_deref(), Some(name));
            // A poll may only now bring what was touched before. Then what is read meanwhile is not taken in.
            if self.objects() == 1 {
                return;
            }
            assert!(begun.elapsed() < LONG, "it is not in the memory of this node");
        }
    }

    fn objects(&self) -> u64 {
        self.tiered.status().objects.unwrap()
    }

    /// Polls once.
    async fn polls(&self) {
        assert_eq!(self.cache.invalidate(Site::ID, ["nobody has this id"]).await.unwrap(), Delivery::Applied);
    }
}

#[tokio::test]
async fn what_a_transaction_touches_leaves_the_memory_of_every_node() {
    for server in servers().await {
        let nodes = [Node::on(&server).await, Node::on(&server).await];
        let writer = session(&server).await;
        for (round, touch) in [
            "larder.invalidate('site', 'id', '1')",
            "larder.invalidate('site', 'host', 'h')",
            "larder.truncate('site')",
        ]
        .into_iter()
        .enumerate()
        {
            nodes[0].load(Site::new("1", &["h"], &round.to_string())).await;
            for node in &nodes {
                node.keeps("1", &round.to_string()).await;
            }
            run(&writer, &format!("SELECT {touch}")).await;
            for node in &nodes {
                until("the object is gone from the memory", || node.objects() == 0).await;
                assert_eq!(node.name("1").await, None);
            }
        }
    }
}

/// A change of one node reaches the others as well, whatever it is.
#[tokio::test]
async fn what_one_node_changes_leaves_the_memory_of_another_one() {
    for server in servers().await {
        let (writer, reader) = (Node::quiet(&server).await, Node::on(&server).await);
        for change in ["invalidate", "delete", "truncate", "set"] {
            writer.load(Site::new("1", &["h"], "old")).await;
            reader.keeps("1", "old").await;
            let delivery = match change {
                "invalidate" => writer.cache.invalidate(Site::HOST, ["h"]).await,
                "delete" => writer.cache.delete(Site::HOST, ["h"]).await,
                "truncate" => writer.cache.truncate().await,
                _ => {
                    assert_eq!(writer.cache.set(Site::new("1", &["other"], "new")).await, Stored::Accepted);
                    Ok(Delivery::Applied)
                }
            };
            assert_eq!(delivery.unwrap(), Delivery::Applied);
            until("the object is gone from the memory", || reader.objects() == 0).await;
            assert_eq!(reader.cache.get(Site::HOST, "h").await, None, "{change}");
            writer.cache.truncate().await.unwrap();
        }
    }
}

/// Nothing polls here but what the changes themselves make this node poll.
#[tokio::test]
async fn a_change_is_right_at_once_on_its_own_node() {
    for server in servers().await {
        let node = Node::quiet(&server).await;
        let fresh = || async {
            node.load(Site::new("1", &["h"], "old")).await;
            node.keeps("1", "old").await;
        };
        fresh().await;
        node.cache.invalidate(Site::HOST, ["h"]).await.unwrap();
        assert_eq!(node.name("1").await, None);
        fresh().await;
        node.cache.delete(Site::HOST, ["h"]).await.unwrap();
        assert!(node.cache.get(Site::HOST, "h").await.is_none());
        assert_eq!(node.name("1").await.as_deref(), Some("old"), "under its other key");
        assert_eq!(node.objects(), 0, "an object with a deleted key is not kept in memory");
        fresh().await;
        node.cache.set(Site::new("2", &["h"], "new")).await;
        assert_eq!(node.name("1").await, None, "it has lost a key");
        node.cache.truncate().await.unwrap();
        fresh().await;
        node.cache.set_many([Site::new("2", &["h"], "new")]).await;
        assert_eq!(node.name("1").await, None, "it has lost a key");
        node.cache.truncate().await.unwrap();
        fresh().await;
        node.load(Site::new("2", &["h"], "new")).await;
        assert_eq!(node.name("1").await, None, "it has lost a key");
    }
}

/// What another node has changed before is gone as well: its change may be the reason why this one does not name the object.
#[tokio::test]
async fn a_change_by_a_key_that_only_the_database_knows_reaches_the_own_memory() {
    for server in servers().await {
        let (one, other) = (Node::quiet(&server).await, Node::quiet(&server).await);
        one.load(Site::new("1", &[], "old")).await;
        one.keeps("1", "old").await;
        // The object is replaced without a word, as by a load ahead of its end.
        other.load(Site::new("1", &["h"], "new")).await;
        assert_eq!(one.name("1").await.as_deref(), Some("old"), "it has not polled since");
        one.cache.invalidate(Site::HOST, ["h"]).await.unwrap();
        assert_eq!(one.name("1").await, None);
    }
}

#[tokio::test]
async fn a_load_that_is_the_same_leaves_memories_as_they_are() {
    for server in servers().await {
        let (one, other) = (Node::quiet(&server).await, Node::quiet(&server).await);
        one.load(Site::new("1", &["h"], "same")).await;
        one.keeps("1", "same").await;
        other.load(Site::new("1", &["h"], "same")).await;
        one.polls().await;
        assert_eq!(one.objects(), 1);
    }
}

/// A release that knows more keys of an object has it invalidated by them. The memory of another release would not hear of that.
#[tokio::test]
async fn an_object_with_keys_of_another_release_is_not_kept_in_memory() {
    for server in servers().await {
        let node = Node::on(&server).await;
        let schema = Schema::of::<next::Site>();
        let follow = FollowOptions::new().deadline(LONG);
        let newer = Arc::new(node.feed.tiered(schema.clone(), MemoryOptions::new(), follow).unwrap());
        let newer = Cache::<next::Site>::new(newer, schema).unwrap();
        until("the newer release can be read", || newer.status().readable).await;
        node.load(Site::new("1", &[], "old")).await;
        node.keeps("1", "old").await;
        let site = next::Site { id: "1".into(), hosts: vec!["h".into()], name: "newer".into(), region: None };
        let Lookup::Miss { ticket: Some(ticket), .. } = newer.lookup(next::Site::ID, "2").await else {
            panic!("a hit")
        };
        assert_eq!(newer.fill(site, ticket).await, Stored::Accepted);
        until("the object is gone from the memory", || node.objects() == 0).await;
        assert_eq!(node.name("1").await.as_deref(), Some("old"));
        assert_eq!(node.objects(), 0);
        newer.invalidate(next::Site::HOST, ["h"]).await.unwrap();
        assert_eq!(node.name("1").await, None);
    }
}

/// Pitfall: "a gap is a truncate". Fences are swept when no ticket needs them any more, and a memory is no ticket.
#[tokio::test]
async fn a_memory_that_was_away_while_fences_were_swept_is_cleared() {
    for server in servers().await {
        let node = Node::quiet(&server).await;
        node.load(Site::new("1", &["h"], "old")).await;
        node.keeps("1", "old").await;
        run(&session(&server).await, "SELECT larder.invalidate('site', 'id', '1')").await;
        let fence = "SELECT count(*) FROM larder.fences WHERE mark = larder.mark('site', 'id', '1')";
        while server.psql(fence).unwrap() != "0" {
            turn_and_sweep(&server);
        }
        node.polls().await;
        assert_eq!(node.name("1").await, None);
    }
}

/// A crash empties the tables, fences included. There is another epoch then.
#[tokio::test]
async fn a_crash_of_the_database_clears_the_memory() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.load(Site::new("1", &["h"], "old")).await;
        node.keeps("1", "old").await;
        server.kill();
        server.restart().await.unwrap();
        until("the object is gone from the memory", || node.objects() == 0).await;
        until("the cache can be read again", || node.cache.status().readable && node.tiered.valid_for_ms() > 0).await;
        assert_eq!(node.name("1").await, None);
    }
}

/// The memory is read for as long as the deadline says, and no longer. It is the outage of the database that it bridges.
#[tokio::test]
async fn a_memory_that_cannot_poll_is_read_until_the_deadline() {
    for server in servers().await {
        let node = Node::polling(&server, Duration::from_millis(5), Duration::from_secs(2)).await;
        node.load(Site::new("1", &["h"], "old")).await;
        node.keeps("1", "old").await;
        server.stop().unwrap();
        until("the memory may not be read any more", || node.tiered.valid_for_ms() == 0).await;
        let unread = node.tiered.get_hit(KeyRef { index: 0, bytes: b"1" });
        server.cont().unwrap();
        assert!(unread.is_none());
        until("the memory is read again", || node.tiered.valid_for_ms() > 0).await;
        assert_eq!(node.name("1").await.as_deref(), Some("old"));
    }
}

/// C10: what could not be delivered is forgotten here at once, and nothing comes back before it is applied.
#[tokio::test]
async fn a_deferred_change_leaves_nothing_in_the_memory() {
    for server in servers().await {
        let node = Node::on(&server).await;
        node.load(Site::new("1", &["h"], "old")).await;
        node.keeps("1", "old").await;
        let (socket, away) = (server.socket().join(".s.PGSQL.5432"), server.socket().join(".s.PGSQL.1"));
        std::fs::rename(&socket, &away).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        server.psql_at(1, ended).unwrap();
        until("the node has noticed", || !node.cache.status().readable).await;
        assert_eq!(node.name("1").await.as_deref(), Some("old"), "the memory bridges the outage");
        assert_eq!(node.cache.invalidate(Site::ID, ["1"]).await.unwrap(), Delivery::Deferred);
        assert_eq!(node.name("1").await, None);
        std::fs::rename(&away, &socket).unwrap();
        until("the change was applied", || node.cache.status().readable && node.cache.status().journal == 0).await;
        assert_eq!(node.name("1").await, None);
    }
}

/// A hit in memory is no use that the database sees. So the memory asks it again in time.
#[tokio::test]
async fn an_object_that_is_in_use_in_memory_stays_in_the_database() {
    const AGE: Duration = Duration::from_millis(800);
    for server in servers().await {
        let postgres = Postgres::open(options(&server)).unwrap();
        let feed = Feed::open(&postgres, FeedOptions::new().poll(Duration::from_millis(5))).unwrap();
        let schema = Schema::of::<Site>().ages(Duration::ZERO, AGE);
        let follow = FollowOptions::new().deadline(LONG);
        let tiered = Arc::new(feed.tiered(schema.clone(), MemoryOptions::new(), follow).unwrap());
        let cache = Cache::<Site>::new(tiered.clone(), schema).unwrap();
        until("the cache can be read", || cache.status().readable && tiered.valid_for_ms() > 0).await;
        // Where the machine keeps this test from reading for too long, the object may go, and it begins anew.
        loop {
            cache.set(Site::new("1", &["h"], "used")).await;
            let (begun, mut last, mut late) = (Instant::now(), Instant::now(), false);
            while !late && begun.elapsed() < 3 * AGE {
                let found = cache.get(Site::ID, "1").await;
                late = last.elapsed() > AGE / 4;
                last = Instant::now();
                assert!(late || found.is_some(), "unused for {:?} of its age", begun.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if !late {
                break;
            }
        }
    }
}

/// A node is notified of what another one changes, and need not wait for its next poll.
#[tokio::test]
async fn a_node_that_listens_is_notified_of_what_another_one_changes() {
    for server in servers().await {
        let node = || async {
            let caches = Caches::builder()
                .postgres("db", options(&server))
                .feed(
                    "main",
                    FeedOptions::new().poll(Duration::from_secs(30)).wake(larder::feed::Wake::Listen).on("db"),
                )
                .tiered("near", TieredOptions::new().consistency(Consistency::Bounded).over("db"))
                .cache::<Site>(CacheOptions::on("near").feed("main").feed_deadline(LONG))
                .open()
                .await
                .unwrap();
            let cache = opened(&caches).await;
            (caches, cache)
        };
        let (writer, reader) = (node().await, node().await);
        let begun = Instant::now();
        loop {
            writer.1.set(Site::new("1", &["h"], "old")).await;
            until("the memory can be read", || reader.1.status().valid_for_ms > Some(0)).await;
            assert!(reader.1.get(Site::ID, "1").await.is_some());
            writer.1.invalidate(Site::ID, ["1"]).await.unwrap();
            until("the object is gone from the memory", || reader.1.status().objects == Some(0)).await;
            assert!(begun.elapsed() < Duration::from_secs(25), "a poll would have come by itself");
            if reader.1.get(Site::ID, "1").await.is_none() {
                break;
            }
        }
        for (caches, _) in [writer, reader] {
            assert!(caches.shutdown().await.is_clean());
        }
    }
}

#[tokio::test]
async fn a_tier_over_a_database_needs_the_feed_of_that_database() {
    let db = || PostgresOptions::from_url("host=h").unwrap();
    let with = |tier: TieredOptions, cache: CacheOptions| async {
        let builder = Caches::builder().postgres("db", db()).postgres("other", db());
        let builder = builder.feed("main", FeedOptions::new().on("db")).feed("far", FeedOptions::new().on("other"));
        builder.tiered("near", tier.over("db")).cache::<Site>(cache).open().await.unwrap_err().to_string()
    };
    let bounded = || TieredOptions::new().consistency(Consistency::Bounded);
    assert_eq!(
        with(TieredOptions::new(), CacheOptions::on("near").feed("main")).await,
        "the connector `near` is over the connector `db`, of the kind postgres, and is strict: over a database a tier can only be bounded, since \
         nodes hear of a change from the feed, within `feed_deadline`; give `consistency: bounded`"
    );
    assert_eq!(
        with(bounded(), CacheOptions::on("near")).await,
        "the cache `site` is on the connector `near`, a tier over the database of `db`, which only a feed of that database keeps right, and the cache \
         follows none: give the cache `feed: main`"
    );
    assert_eq!(
        with(bounded(), CacheOptions::on("near").feed("far")).await,
        "the cache `site` is on the connector `near`, a tier over the database of `db`, which only a feed of that database keeps right, and `far` is \
         the feed of another one: give the cache `feed: main`"
    );
}
