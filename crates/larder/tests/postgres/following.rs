//! Caches that follow a feed, by name in the builder or the file.

use crate::caches::{PATIENCE, opened, sessions};
use crate::node::{options, servers, session, until};
use larder::clock::Clock;
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::PostgresOptions;
use larder::feed::{FeedOptions, Source, Sources};
use larder::{Cache, CacheOptions, Caches, CachesBuilder, Delivery, Lookup};
use larder_testing::entries::Site;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

fn polls() -> FeedOptions {
    FeedOptions::new().poll(Duration::from_millis(5))
}

fn in_memory() -> CacheOptions {
    CacheOptions::on("memory").feed("Main").feed_deadline(DEADLINE)
}

fn builder(options: PostgresOptions) -> CachesBuilder {
    Caches::builder().postgres("db", options).feed("main", polls().on("db"))
}

async fn fill(cache: &Cache<Site>, id: &str) {
    let Lookup::Miss { ticket: Some(ticket), .. } = cache.lookup(Site::ID, id).await else { panic!("a hit") };
    cache.fill(Site::new(id, &["h"], "old"), ticket).await;
    assert!(cache.get(Site::ID, id).await.is_some());
}

async fn forgets(cache: &Cache<Site>, id: &str) {
    let begun = std::time::Instant::now();
    while cache.get(Site::ID, id).await.is_some() {
        assert!(begun.elapsed() < PATIENCE, "{id} is not forgotten");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_change_reaches_a_cache_that_the_builder_has_follow_a_feed() {
    for server in servers().await {
        let caches = builder(options(&server)).cache::<Site>(in_memory()).open().await.unwrap();
        assert_eq!(sessions(&server), "0", "nothing is connected before a cache follows");
        let cache = opened(&caches).await;
        fill(&cache, "a").await;
        session(&server).await.batch_execute("SELECT larder.invalidate('site', 'id', 'a')").await.unwrap();
        forgets(&cache, "a").await;
        assert!(caches.postgres("db").is_some());
        // What this node changes is told as well, and a shutdown waits for that.
        assert_eq!(cache.invalidate(Site::ID, ["b"]).await.unwrap(), Delivery::Applied);
        let told = "SELECT count(*) FROM larder.changes WHERE keys = ARRAY['b'::bytea]";
        assert_eq!(server.psql(told).unwrap(), "1");
        assert!(caches.shutdown().await.is_clean());
    }
}

/// The clock is that of the ages, in memory, of a cache that follows a feed as well. Polls and deadlines go on by real time.
#[tokio::test]
async fn the_builders_clock_is_that_of_a_cache_in_memory_that_follows() {
    for server in servers().await {
        let (clock, hand) = Clock::manual();
        let hour = Duration::from_secs(3600);
        let builder = builder(options(&server)).cache::<Site>(in_memory().max_age(hour)).clock(clock);
        let caches = builder.open().await.unwrap();
        let cache = opened(&caches).await;
        fill(&cache, "a").await;
        hand.advance(hour - Duration::from_millis(1));
        assert!(cache.get(Site::ID, "a").await.is_some());
        hand.advance(Duration::from_millis(1));
        assert!(cache.get(Site::ID, "a").await.is_none());
    }
}

/// One feed for all caches of the process that follow it. A shutdown ends it, and the caches are not read any more.
#[tokio::test]
async fn a_shutdown_ends_the_feed() {
    for server in servers().await {
        let short = in_memory().feed_deadline(Duration::from_millis(500));
        let caches = builder(options(&server)).cache::<Site>(short).open().await.unwrap();
        let cache = opened(&caches).await;
        caches.shutdown().await;
        until("the deadline has passed", || !cache.status().readable).await;
        assert!(cache.get(Site::ID, "a").await.is_none());
    }
}

#[tokio::test]
async fn a_cache_in_the_feeds_own_database_needs_no_feed_and_may_name_it() {
    for server in servers().await {
        let on = CacheOptions::on("db").feed("main");
        let caches = builder(options(&server)).cache::<Site>(on).open().await.unwrap();
        let cache = opened(&caches).await;
        fill(&cache, "a").await;
        session(&server).await.batch_execute("SELECT larder.invalidate('site', 'id', 'a')").await.unwrap();
        assert!(cache.get(Site::ID, "a").await.is_none(), "at once");
        assert_eq!(server.psql("SELECT count(*) FROM larder.moments").unwrap().len(), 1);
    }
    let off = Caches::builder().postgres("db", PostgresOptions::from_url("host=h").unwrap());
    let off = off.feed("main", polls().on("db")).cache::<Site>(CacheOptions::on("none").feed("main"));
    assert!(off.open().await.unwrap().open::<Site>().is_ok());
}

#[tokio::test]
async fn a_feed_whose_database_is_away_is_told() {
    let away = PostgresOptions::from_url("host=/nowhere user=ann").unwrap();
    let caches = builder(away).cache::<Site>(in_memory()).open().await.unwrap();
    let cache = caches.open::<Site>().unwrap();
    assert!(cache.get(Site::ID, "a").await.is_none());
    let said = caches.ready(Duration::ZERO).await.to_string();
    let expected = "cannot be read: `site`, because it follows the feed of the database at /nowhere/ann, to which there is no connection";
    assert_eq!(said, expected);
}

#[cfg(feature = "yaml")]
#[tokio::test]
async fn a_file_has_a_cache_follow_a_feed() {
    for server in servers().await {
        let text = format!(
            "
            connectors: {{ db: {{ kind: postgres, url: '{}', operation_timeout: 20s, connect_timeout: 20s, breaker: {{ slow_call: 0 }} }} }}
            feed: {{ main: {{ connector: db, poll: 5ms, sources: {{ site: [ {{ table: app.sites, key: id, index: id }} ] }} }} }}
            caches: {{ site: {{ connector: memory, feed: main, feed_deadline: 20s }} }}
            ",
            server.dsn()
        );
        server.psql("CREATE SCHEMA app; CREATE TABLE app.sites (id text)").unwrap();
        let config = larder::Config::from_yaml(&text).unwrap();
        let sources = config.feed("main").unwrap().1.sources.clone();
        let caches = Caches::from_config(config).await.unwrap();
        let cache = opened(&caches).await;
        fill(&cache, "a").await;
        assert_eq!(
            server.psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'larder%'").unwrap(),
            "0",
            "a service installs nothing"
        );
        sources.apply(&options(&server)).await.unwrap();
        // What was cached before the triggers were there may have missed a change.
        forgets(&cache, "a").await;
        fill(&cache, "a").await;
        server.psql("INSERT INTO app.sites VALUES ('a')").unwrap();
        forgets(&cache, "a").await;
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_the_same_check_as_a_file() {
    let new = || builder(PostgresOptions::from_url("host=h").unwrap());
    let zero = polls().poll(Duration::ZERO);
    for (builder, expected) in [
        (
            new().feed("MAIN", polls().on("db")),
            "the feed `MAIN` names the same feed as `main`: case, `_` and `-` make no difference; give one of the two",
        ),
        (
            new().feed("none", polls().on("db")),
            "the feed `none` cannot be the name of a feed: a cache with it follows no feed; give another name",
        ),
        (
            new().feed("b", polls().on("db")),
            "the feed `b` is on the connector `db`, whose database the feed `main` polls already: one feed is enough for all caches; put the sources there",
        ),
        (
            new().feed("b", polls().on("memory")),
            "the feed `b` is on the connector `memory`, of the kind memory: give a connector of the kind postgres: db",
        ),
        (
            new().feed("b", polls().on("dbb")),
            "the feed `b` is on the connector `dbb`, which is no connector (did you mean `db`?): give a connector of the kind postgres: db",
        ),
        (
            new().feed("b", zero.on("db")),
            "the feed `b` cannot be used: poll is `0`: give a duration from 1ms to 30s, such as 50ms",
        ),
        (
            new().feed("b", polls().on("db").sources(Sources::new().of("x", Source::new("t", ["k"], "")))),
            "the feed `b` cannot be used: index is ``: give 1 to 128 letters, digits, `_`, `-` or `.`",
        ),
        (
            new().cache::<Site>(CacheOptions::on("memory").feed("mainn")),
            "the cache `site` follows the feed `mainn`, which is no feed (did you mean `main`?): give none or main",
        ),
        (
            new().cache::<Site>(CacheOptions::on("memory").feed("main").feed_deadline(Duration::from_millis(9))),
            "the cache `site` cannot be opened: feed_deadline is `9ms`: give a duration of at least two polls and at most 1m, such as 1s",
        ),
    ] {
        let refused = builder.open().await.unwrap_err().to_string();
        assert_eq!(refused, expected);
    }
}

/// The triggers tell exactly these names. Nobody would hear of others.
#[tokio::test]
async fn sources_that_name_the_cache_or_an_index_wrongly_are_refused_when_it_is_opened() {
    for (cache, index, expected) in [
        (
            "Site",
            "id",
            "the cache `site` cannot be opened: the source `t` of the feed `main` calls the cache `Site`, and the triggers would tell nobody: give `site`",
        ),
        (
            "site",
            "hosts",
            "the cache `site` cannot be opened: the source `t` of the feed `main` names the index `hosts`, which the cache does not have: give id or host",
        ),
    ] {
        let sources = Sources::new().of(cache, Source::new("t", ["k"], index));
        let postgres = PostgresOptions::from_url("host=h").unwrap();
        let caches = Caches::builder().postgres("db", postgres).feed("main", polls().on("db").sources(sources));
        let caches = caches
            .memory("memory", MemoryOptions::new())
            .cache::<Site>(CacheOptions::on("memory"))
            .open()
            .await
            .unwrap();
        assert_eq!(caches.open::<Site>().unwrap_err().to_string(), expected);
    }
}

/// A cache on Redis, which nodes share, follows as well.
#[cfg(feature = "redis")]
#[tokio::test]
async fn a_cache_on_redis_follows_the_feed_that_it_names() {
    use larder::connector::redis::{Address, RedisOptions};
    use larder_testing::server::{Server, ServerOptions, required};
    let redis = Server::start(&required().unwrap().pop().unwrap(), ServerOptions::default()).await.unwrap();
    let server = servers().await.pop().unwrap();
    let mut on_redis = RedisOptions::new(Address::Unix(redis.socket().to_owned()));
    on_redis.operation_timeout = DEADLINE;
    on_redis.breaker.slow_call = Duration::ZERO;
    let cache = CacheOptions::on("redis").feed("main").feed_deadline(DEADLINE);
    let (one, two) = (builder(options(&server)), builder(options(&server)));
    let one = one.redis("redis", on_redis.clone()).cache::<Site>(cache.clone()).open().await.unwrap();
    let two = two.redis("redis", on_redis).cache::<Site>(cache).open().await.unwrap();
    let (writer, reader) = (opened(&one).await, opened(&two).await);
    fill(&writer, "a").await;
    assert!(reader.get(Site::ID, "a").await.is_some(), "they share it");
    session(&server).await.batch_execute("SELECT larder.invalidate('site', 'id', 'a')").await.unwrap();
    forgets(&reader, "a").await;
    forgets(&writer, "a").await;
    assert!(one.shutdown().await.is_clean());
}
