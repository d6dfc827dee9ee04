//! Tiered connectors by their names: from a builder and from a file, opened beside others on the same server.

use crate::node::{config, servers, until};
use larder::connector::memory::MemoryOptions;
use larder::connector::redis::RedisOptions;
use larder::connector::redis::inspect::Inspector;
use larder::connector::tiered::{Consistency, TieredOptions};
use larder::{Cache, CacheOptions, Caches, CachesBuilder, Delivery, Entry, Stored};
use larder_testing::server::{Server, ServerOptions};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// No test waits for so long.
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "color")]
struct Color {
    #[key(primary)]
    name: String,
    #[key(index = "shade")]
    shades: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Entry)]
#[entry(cache = "plain")]
struct Plain {
    #[key(primary)]
    id: u32,
}

fn color(name: &str, shade: &str) -> Color {
    Color { name: name.to_owned(), shades: vec![shade.to_owned()] }
}

fn patient(socket: &Path) -> RedisOptions {
    config(socket).connect_timeout(LONG).operation_timeout(LONG)
}

fn tier() -> TieredOptions {
    TieredOptions::new().validity(Duration::from_millis(200))
}

async fn refusal(builder: CachesBuilder) -> String {
    builder.open().await.err().unwrap().to_string()
}

#[tokio::test]
async fn a_tier_that_cannot_be_is_told_before_anything_is_opened() {
    let main = || Caches::builder().redis("main", RedisOptions::new("h"));
    for (builder, said) in [
        (
            main().tiered("near", tier().over("mein")),
            "the connector `near` is over the connector `mein`, which is no connector (did you mean `main`?): give a connector of the kind redis or \
             postgres: main",
        ),
        (
            Caches::builder().tiered("near", tier().over("redis")),
            "the connector `near` is over the connector `redis`, which is no connector: give a connector of the kind redis or postgres, of which there is none",
        ),
        (
            main().memory("small", MemoryOptions::new()).tiered("near", tier().over("small")),
            "the connector `near` is over the connector `small`, of the kind memory: give a connector of the kind redis or postgres: main",
        ),
        (
            main().tiered("near", tier().over("near")),
            "the connector `near` is over the connector `near`, of the kind tiered: give a connector of the kind redis or postgres: main",
        ),
        (
            main().tiered("near", tier().over("postgres")),
            "the connector `near` is over the connector `postgres`, of the kind postgres, and is strict: over a database a tier can only be \
             bounded, since nodes hear of a change from the feed, within `feed_deadline`; give `consistency: bounded`",
        ),
        (
            main().tiered("near", tier().validity(LONG).over("main")),
            "the connector `near` cannot be opened: validity is `1m`: give a time from 25 ms to 10 s, such as 1 s",
        ),
        (
            main().tiered("redis", tier().over("main")),
            "the connector `redis` is the name of a connector of the kind redis, and not tiered: give another name",
        ),
    ] {
        assert_eq!(refusal(builder).await, said);
    }
}

/// The cache on the tier and the one directly on its server share one connection, which is that of the connector below.
#[tokio::test]
async fn a_tier_is_over_the_server_that_other_caches_are_on() {
    for server in servers(ServerOptions::default()).await {
        let caches = Caches::builder()
            .redis("main", patient(server.socket()).client_name("shared"))
            .tiered("near", tier().max_objects(2).over("Main"))
            .cache::<Color>(CacheOptions::on("near"))
            .cache::<Plain>(CacheOptions::on("main"))
            .open()
            .await
            .unwrap();
        let colors: Cache<Color> = caches.open().unwrap();
        let plain: Cache<Plain> = caches.open().unwrap();
        assert!(caches.ready(LONG).await.is_ready());
        until("the memory can be read", || colors.status().valid_for_ms.is_some_and(|left| left > 0)).await;
        assert_eq!(plain.status().valid_for_ms, None, "there is no memory in front of it");
        for name in ["a", "b", "c"] {
            assert_eq!(colors.set(color(name, name)).await, Stored::Accepted);
        }
        assert_eq!(plain.set(Plain { id: 1 }).await, Stored::Accepted);
        for name in ["a", "b", "c"] {
            assert!(colors.get(Color::NAME, name).await.is_some(), "the server has all of them");
        }
        assert_eq!(colors.status().objects, Some(2), "the memory has as many as the tier's options say");
        assert!(std::ptr::eq(caches.redis("near").unwrap(), caches.redis("main").unwrap()));
        let clients = format!("{:?}", server.command(&["CLIENT", "LIST", "TYPE", "normal"]).await.unwrap());
        assert_eq!(clients.matches("name=shared").count(), 1, "{clients}");
        assert!(caches.shutdown().await.is_clean());
    }
}

/// What a shutdown waits for, and what is said of a cache that cannot be read, are those of the server below.
#[tokio::test]
async fn a_tier_whose_server_is_away_is_as_a_cache_on_that_server() {
    for server in servers(ServerOptions::default()).await {
        server.kill();
        let caches = Caches::builder()
            .redis("main", patient(server.socket()).shutdown_timeout(LONG))
            .tiered("near", tier().over("main"))
            .defaults(CacheOptions::on("near"))
            .open()
            .await
            .unwrap();
        let colors: Cache<Color> = caches.open().unwrap();
        assert_eq!(colors.invalidate(Color::NAME, ["a"]).await.unwrap(), Delivery::Deferred);
        let readiness = caches.ready(Duration::ZERO).await.to_string();
        assert!(readiness.contains(&server.socket().display().to_string()), "{readiness}");
        let back = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.restart().await.unwrap();
        };
        let (shutdown, ()) = tokio::join!(caches.shutdown(), back);
        assert!(shutdown.is_clean(), "{shutdown}");
    }
}

/// A process that ends gives its place up, so no change waits for it. Its caches work on, without their memory.
#[tokio::test]
async fn a_shutdown_leaves_the_followers() {
    for server in servers(ServerOptions::default()).await {
        let builder = || Caches::builder().redis("main", patient(server.socket())).tiered("near", tier().over("main"));
        let caches = builder().cache::<Color>(CacheOptions::on("near")).open().await.unwrap();
        let colors: Cache<Color> = caches.open().unwrap();
        until("the memory can be read", || colors.status().valid_for_ms.is_some_and(|left| left > 0)).await;
        colors.set(color("a", "mint")).await;
        assert!(colors.get(Color::NAME, "a").await.is_some());
        let inspector = Inspector::open(RedisOptions::new(server.socket())).await.unwrap();
        let inspected = inspector.cache("color").await.unwrap();
        let followers = || async { inspected.clock().await.unwrap().unwrap().followers.unwrap().nodes.len() };
        assert_eq!(followers().await, 1);
        assert!(caches.shutdown().await.is_clean());
        assert_eq!(followers().await, 0);
        assert_eq!(colors.status().valid_for_ms, Some(0));
        assert!(colors.get(Color::NAME, "a").await.is_some(), "the server has it");
        assert_eq!(colors.invalidate(Color::NAME, ["a"]).await.unwrap(), Delivery::Applied);
        assert!(colors.get(Color::NAME, "a").await.is_none());
    }
}

#[cfg(feature = "yaml")]
mod file {
    use super::*;
    use larder::Config;

    async fn node(server: &Server, tier: &str) -> (Caches, Cache<Color>) {
        let yaml = format!(
            "
            connectors:
              redis: {{ socket: '{}', connect_timeout: 60s, operation_timeout: 60s, breaker: {{ slow_call: 0, ramp: 0 }} }}
              near: {{ kind: tiered, over: redis{tier} }}
            caches: {{ color: {{ connector: near }} }}
            ",
            server.socket().display()
        );
        let caches = Caches::from_config(Config::from_yaml(&yaml).unwrap()).await.unwrap();
        let colors: Cache<Color> = caches.open().unwrap();
        assert!(caches.ready(LONG).await.is_ready());
        until("the memory can be read", || colors.status().valid_for_ms.is_some_and(|left| left > 0)).await;
        (caches, colors)
    }

    /// Gets the object until it comes from the memory of the node, which asks no server.
    async fn comes_from_memory(server: &Server, colors: &Cache<Color>) {
        assert!(colors.get(Color::SHADE, "mint").await.is_some());
        until("the object is in memory", || colors.status().objects == Some(1)).await;
        server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
        for _ in 0..20 {
            assert!(colors.get(Color::SHADE, "mint").await.is_some());
        }
        // The node may ask once what was touched, and then the one get that comes meanwhile is the server's.
        assert!(crate::node::calls(server, "get").await < 20);
    }

    #[tokio::test]
    async fn what_one_node_invalidates_the_other_does_not_serve_from_its_memory() {
        for server in servers(ServerOptions::default()).await {
            // A new cache is read from memory after a validity.
            let tier = ", validity: 2s";
            let ((one, here), (other, there)) = (node(&server, tier).await, node(&server, tier).await);
            for _ in 0..10 {
                assert_eq!(here.set(color("green", "mint")).await, Stored::Accepted);
                comes_from_memory(&server, &there).await;
                assert_eq!(here.invalidate(Color::SHADE, ["mint"]).await.unwrap(), Delivery::Applied);
                assert!(
                    there.get(Color::SHADE, "mint").await.is_none() && there.get(Color::NAME, "green").await.is_none()
                );
            }
            for caches in [one, other] {
                assert!(caches.shutdown().await.is_clean());
            }
        }
    }

    /// A file and code open the same tier.
    #[tokio::test]
    async fn a_file_and_code_make_the_same_tier() {
        let file = Config::from_yaml(
            "connectors: { main: { kind: redis, address: h }, near: { kind: tiered, over: main, max_objects: 3, max_bytes: 1 kB, \
             consistency: bounded, validity: 2s } }",
        )
        .unwrap();
        let code = TieredOptions::new()
            .max_objects(3)
            .max_bytes(1000)
            .consistency(Consistency::Bounded)
            .validity(Duration::from_secs(2))
            .over("main");
        assert_eq!(file.connector("near"), Some(&code.into()));
    }
}
