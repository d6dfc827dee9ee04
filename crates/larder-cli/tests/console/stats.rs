//! `larder stats`.

use crate::service::{Service, larder, servers};
use larder::connector::redis::{Address, Redis, RedisOptions};
use larder::connector::tiered::{Consistency, TieredOptions};
use larder::{Cache, Entry, Schema, Stored};
use larder_testing::entries::{Instance, Site, next};
use larder_testing::server::{Server, ServerOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is() {
    for server in servers(ServerOptions::default().config("maxmemory 100mb")).await {
        let told = larder(&server, &["stats", "--json"]).await.done().json();
        assert_eq!(told["caches"], json!([]));

        let instances = Service::<Instance>::on(&server).await;
        let (sites, _next) = (Service::<Site>::on(&server).await, Service::<next::Site>::on(&server).await);
        for number in 0..300 {
            instances
                .set(Instance::new(&number.to_string(), &[&format!("a{number}"), &format!("b{number}")], "x", 1))
                .await;
        }
        sites.set(Site::new("1", &["a"], "x")).await;
        instances.cache.invalidate_below(Instance::ID, ["0"], 5).await.unwrap();
        server.command(&["SET", "larder:foreign", "x"]).await.unwrap();

        let told = larder(&server, &["stats", "--json"]).await.done().json();
        let server_facts = &told["server"];
        assert!(server_facts["name"].as_str().unwrap().contains('.'), "{told}");
        assert_eq!((&server_facts["maxmemory"], &server_facts["evicted_keys"]), (&json!(104_857_600), &json!(0)));
        assert!(server_facts["used_memory"].as_u64().unwrap() > 100_000);
        // Redis tells from 7.2 on whose connections they are.
        let clients = &server_facts["larder_clients"];
        assert!(*clients == json!({ "service": 3 }) || clients.is_null(), "{told}");
        assert_eq!(clients.is_null(), server.binary().version < (7, 2, 0), "{told}");

        let [instance, site] = &told["caches"].as_array().unwrap()[..] else { panic!("{told}") };
        assert_eq!((&instance["cache"], &site["cache"]), (&json!("instance"), &json!("site")));
        assert_eq!(
            (&instance["objects"][0]["keys"], &instance["objects"][0]["registered"]),
            (&json!(299), &json!(true))
        );
        assert_eq!(
            (&instance["index_keys"][0]["index"], &instance["index_keys"][0]["keys"]),
            (&json!("host"), &json!(600))
        );
        assert_eq!(instance["objects"][0]["indexes"], json!(["id", "host"]));
        assert_eq!((&instance["floors"]["keys"], &instance["staged"]["keys"]), (&json!(1), &json!(0)));
        let clock = &instance["clock"];
        assert_eq!((&clock["state"], &clock["of_this_history"]), (&json!("settled"), &json!(true)));
        assert_eq!(
            (&clock["sequence"], &clock["fences"]),
            (&json!(901), &json!(901)),
            "marks of 300 sets and one invalidation"
        );
        let bytes = |value: &Value| value["bytes"].as_u64().unwrap();
        let parts = [&instance["objects"][0], &instance["index_keys"][0], &instance["floors"], clock].map(bytes);
        assert!(bytes(&instance["objects"][0]) / 299 > 100 && bytes(&instance["index_keys"][0]) / 600 > 40, "{told}");
        assert_eq!(parts.iter().sum::<u64>(), bytes(instance));
        let keys: Vec<_> = site["objects"].as_array().unwrap().iter().map(|release| &release["keys"]).collect();
        assert!(keys.contains(&&json!(1)) && keys.contains(&&json!(0)), "a release without objects is one: {told}");

        let told = larder(&server, &["stats", "site", "--json"]).await.done().json();
        assert_eq!((told["caches"].as_array().unwrap().len(), &told["caches"][0]["cache"]), (1, &json!("site")));
        let told = larder(&server, &["stats"]).await.done().told;
        assert!(told.contains("cache instance, about ") && told.contains("index keys 600, "), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_asked_is_missing() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let rights =
            ["ACL", "SETUSER", "op", "on", ">pass", "~larder:*", "+@read", "-info", "+eval", "+ping", "+select"];
        server.command(&rights).await.unwrap();
        let url = server.url().replace("redis+unix://", "redis+unix://op:pass@");
        let told =
            crate::service::run(crate::service::command(&["stats", "--redis", &url, "--json"])).await.done().json();
        assert_eq!((&told["server"]["name"], &told["server"]["larder_clients"]), (&json!(""), &json!(null)));
        assert_eq!(told["caches"][0]["clock"]["of_this_history"], json!(null));
        assert_eq!((&told["caches"][0]["objects"][0]["keys"]), (&json!(1)));
    }
}

/// A node that keeps instances in its own memory.
struct Node {
    cache: Cache<Instance>,
    _redis: Redis,
}

impl Node {
    async fn on(server: &Server, consistency: Consistency) -> Self {
        let redis = Redis::open(RedisOptions::new(Address::Unix(server.socket().to_owned()))).unwrap();
        let schema = Schema::of::<Instance>();
        // The longest validity: no entry is given up while the test runs, on however slow a machine.
        let options = TieredOptions::new().consistency(consistency).validity(Duration::from_secs(10));
        let connector = redis.tiered(schema.clone(), &options).unwrap();
        let cache = Cache::new(Arc::new(connector), schema).unwrap();
        while !(cache.status().readable && cache.status().valid_for_ms > Some(0)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { cache, _redis: redis }
    }
}

/// The followers of the only cache: their names, and how far each is behind.
async fn followers(server: &Server) -> (Value, Vec<(String, Value)>) {
    let told = larder(server, &["stats", "--json"]).await.done().json();
    let followed = told["caches"][0]["clock"]["followed"].clone();
    let nodes = followed["followers"].as_array().unwrap().iter();
    let nodes = nodes.map(|node| (node["id"].as_str().unwrap().to_owned(), node["behind"].clone())).collect();
    (followed, nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_a_cache_in_memory_and_how_far_each_is_behind() {
    for server in servers(ServerOptions::default()).await {
        let (one, other) = (Node::on(&server, Consistency::Strict).await, Node::on(&server, Consistency::Strict).await);
        // A change is answered when each node has said that it knows of it.
        assert_eq!(one.cache.set(Instance::new("1", &["a"], "x", 1)).await, Stored::Accepted);
        let (followed, nodes) = followers(&server).await;
        assert_eq!((&followed["consistency"], &followed["validity_ms"]), (&json!("strict"), &json!(10_000)));
        assert_eq!(nodes.len(), 2, "{followed}");
        assert!(nodes.iter().any(|(_, behind)| *behind == json!(0)), "the other node has acknowledged: {followed}");

        // What a node that is stopped leaves behind: an entry as it was, while the log goes on.
        let clock = format!("larder:{}:c", Instance::CACHE);
        let table = 512 + 8 * 16_384;
        let entry = server.command(&["GETRANGE", &clock, &table.to_string(), &(table + 31).to_string()]).await.unwrap();
        let mut entry = entry.bytes().unwrap().to_vec();
        entry[..8].copy_from_slice(&7_u64.to_be_bytes());
        let known = u64::from_be_bytes(entry[16..24].try_into().unwrap());
        entry[16..24].copy_from_slice(&(known - 2).to_be_bytes());
        let third = (table + 64).to_string();
        server.command(&[b"SETRANGE", clock.as_bytes(), third.as_bytes(), &entry]).await.unwrap();
        let (followed, nodes) = followers(&server).await;
        let behind = nodes.iter().find(|(id, _)| id == "0000000000000007").map(|(_, behind)| behind.clone());
        assert_eq!((nodes.len(), behind), (3, Some(json!(2))), "{followed}");
        let told = larder(&server, &["stats"]).await.done().told;
        assert!(told.contains("  followers  3 (strict, validity 10000 ms): "), "{told}");
        assert!(told.contains("0000000000000007 is 2 marks behind"), "{told}");

        // A node that leaves takes its entry with it.
        drop(other);
        let begun = Instant::now();
        while followers(&server).await.1.len() > 2 {
            assert!(begun.elapsed() < Duration::from_secs(120), "the node has not left");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_no_change_waits_for_are_not_counted() {
    for server in servers(ServerOptions::default()).await {
        let _node = Node::on(&server, Consistency::Bounded).await;
        let (followed, nodes) = followers(&server).await;
        assert_eq!((&followed["consistency"], nodes.len()), (&json!("bounded"), 0));
        let told = larder(&server, &["stats"]).await.done().told;
        assert!(told.contains("  followers  not counted (bounded, validity 10000 ms): "), "{told}");
    }
}
