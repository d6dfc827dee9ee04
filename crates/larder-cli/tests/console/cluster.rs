//! The operator's commands on a cluster, where each cache is on the primary of its slot.

use crate::service::{Run, command, run};
use larder::connector::redis::{RedisCluster, RedisOptions};
use larder::{Cache, Entry, Schema, Stored};
use larder_testing::cluster::Cluster;
use larder_testing::entries::{Instance, Site};
use larder_testing::server::{ServerOptions, required};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What CLUSTER KEYSLOT says of `instance`, which is on the first of three primaries, and of `site`, which is on the second.
const INSTANCES: u16 = 1_961;
const SITES: u16 = 9_421;

async fn clusters(replicas: u16) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for binary in required().unwrap() {
        let options = ServerOptions::default().config("cluster-require-full-coverage no");
        clusters.push(Cluster::start(&binary, options, 3, replicas).await.unwrap());
    }
    clusters
}

/// `larder get …` with the cluster as target.
async fn larder(cluster: &Cluster, arguments: &[&str]) -> Run {
    let (task, rest) = arguments.split_first().unwrap();
    let url = format!("redis-cluster://{},{}", cluster.address(0), cluster.address(1));
    run(command(&[&[*task, "--redis", &url], rest].concat())).await
}

/// A cache of a service.
async fn service<E: Entry>(cluster: &Cluster) -> Cache<E> {
    let address = cluster.address(0);
    let options = RedisOptions::new(address.as_str()).cluster([cluster.address(1)]);
    // A cluster of six processes on a small machine.
    let options = options.operation_timeout(Duration::from_secs(5)).connect_timeout(Duration::from_secs(10));
    let schema = Schema::of::<E>();
    let connector = RedisCluster::open(options).unwrap().connector(schema.clone()).unwrap();
    let cache = Cache::new(Arc::new(connector), schema).unwrap();
    let begun = Instant::now();
    while !cache.status().readable {
        assert!(begun.elapsed() < Duration::from_secs(120), "the cache does not become readable");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cache
}

async fn set<E: Entry>(cache: &Cache<E>, object: E) {
    assert_eq!(cache.set(object).await, Stored::Accepted);
}

fn placed(cache: &Value) -> (&Value, &Value, &Value) {
    (&cache["cache"], &cache["slot"], &cache["primary"])
}

#[tokio::test(flavor = "multi_thread")]
async fn each_command_goes_to_the_primary_of_the_slot() {
    for cluster in clusters(1).await {
        let told = larder(&cluster, &["stats", "--json"]).await.done().json();
        assert_eq!((&told["caches"], &told["not_counted"]), (&json!([]), &json!([])));

        let (instances, sites) = (service::<Instance>(&cluster).await, service::<Site>(&cluster).await);
        for (id, hosts) in [("1", &["a", "b"][..]), ("2", &["c"]), ("3", &["d"])] {
            set(&instances, Instance::new(id, hosts, "x", 1)).await;
        }
        set(&sites, Site::new("1", &["a"], "x")).await;

        let told = larder(&cluster, &["stats", "--json"]).await.done().json();
        assert_eq!((told["primaries"].as_array().unwrap().len(), &told["server"]), (3, &Value::Null), "{told}");
        assert!(told["primaries"][2]["server"]["name"].as_str().unwrap().contains('.'), "{told}");
        let [instance, site] = &told["caches"].as_array().unwrap()[..] else { panic!("{told}") };
        let expected = [("instance", INSTANCES, 0), ("site", SITES, 1)];
        for (cache, (name, slot, node)) in [instance, site].into_iter().zip(expected) {
            assert_eq!(placed(cache), (&json!(name), &json!(slot), &json!(cluster.address(node))));
            assert_eq!(
                (&cache["clock"]["state"], &cache["clock"]["of_this_history"]),
                (&json!("settled"), &json!(true))
            );
        }
        assert_eq!((&instance["objects"][0]["keys"], &instance["index_keys"][0]["keys"]), (&json!(3), &json!(4)));
        assert!(instance["bytes"].as_u64().unwrap() > 131_000, "{told}");
        let told = larder(&cluster, &["stats", "Site", "--json"]).await.done().json();
        assert_eq!((told["caches"].as_array().unwrap().len(), told["primaries"].as_array().unwrap().len()), (1, 1));
        assert_eq!(told["primaries"][0]["address"], json!(cluster.address(1)));
        let told = larder(&cluster, &["stats"]).await.done().told;
        assert!(told.contains(&format!("  slot       1961, on {}\n", cluster.address(0))), "{told}");

        let told = larder(&cluster, &["get", "instance", "host", "a", "--json"]).await.done().json();
        assert_eq!((&told["found"], &told["primary_key"]), (&json!(true), &json!("1")));
        larder(&cluster, &["delete", "instance", "host", "b"]).await.done();
        assert!(instances.get(Instance::HOST, "b").await.is_none());
        assert!(instances.get(Instance::HOST, "a").await.is_some());
        let told = larder(&cluster, &["invalidate", "Instance", "host", "a", "--json"]).await.done().json();
        assert_eq!((&told["invalidated"], &told["led_to_an_object"]), (&json!(1), &json!(1)));
        assert!(instances.get(Instance::ID, "1").await.is_none());
        larder(&cluster, &["get", "instance", "host", "a"]).await.refused(1, "leads to an object that is gone");

        let object = format!("larder:{{instance}}:o{:016x}:3", instances.schema().fingerprint());
        assert_eq!(cluster.nodes()[0].command(&["DEL", &object]).await.unwrap().int(), Some(1));
        let told = larder(&cluster, &["prune", "instance", "--json"]).await.done().json();
        assert_eq!((&told["cache"], &told["keys_removed"]), (&json!("instance"), &json!(3)), "a, b and d: {told}");

        let told = larder(&cluster, &["truncate", "instance", "--yes", "--json"]).await.done().json();
        assert_eq!(told, json!({ "cache": "instance", "truncated": true, "keys_removed": 2 }));
        assert!(instances.get(Instance::HOST, "c").await.is_none() && sites.get(Site::HOST, "a").await.is_some());
        set(&instances, Instance::new("2", &["c"], "x", 1)).await;
        assert_eq!(instances.stats().resets.get(), 0, "the service clears nothing a second time");

        larder(&cluster, &["get", "instances", "id", "1"]).await.refused(1, "did you mean `instance`?");
        larder(&cluster, &["truncate", "nosuch", "--yes"]).await.refused(1, "which has `instance`, `site`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_away_is_named_and_the_rest_is_told() {
    for cluster in clusters(0).await {
        let (instances, sites) = (service::<Instance>(&cluster).await, service::<Site>(&cluster).await);
        set(&instances, Instance::new("1", &["a"], "x", 1)).await;
        set(&sites, Site::new("1", &["a"], "x")).await;
        cluster.nodes()[1].kill();
        let away = cluster.address(1);

        let counted = larder(&cluster, &["stats", "--json"]).await;
        counted.refused(1, &format!("not counted: the server at {away}: "));
        let told = counted.json();
        assert_eq!(told["caches"].as_array().unwrap().len(), 1, "{told}");
        assert_eq!(told["caches"][0]["objects"][0]["keys"], json!(1));
        assert!(told["not_counted"][0].as_str().unwrap().contains(&away), "{told}");
        assert!(told["primaries"][1]["trouble"].as_str().unwrap().contains(&away), "{told}");

        let site = format!("the server at {away}: ");
        for arguments in [&["get", "site", "host", "a"][..], &["invalidate", "site", "host", "a"], &["prune", "site"]] {
            larder(&cluster, arguments).await.refused(1, &site);
        }
        let told = larder(&cluster, &["truncate", "site", "--yes"]).await;
        told.refused(1, "(the primary of slot 9421)");
        // Nobody knows whether it is there.
        larder(&cluster, &["get", "other", "id", "1"]).await.refused(1, "the rest of the cluster has `instance`");
        larder(&cluster, &["invalidate", "instance", "host", "a"]).await.done();
        assert!(instances.get(Instance::ID, "1").await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operation_costs_one_primary() {
    for cluster in clusters(0).await {
        let run = larder(&cluster, &["bench", "--objects", "200", "--rounds", "1", "--json"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.logged.contains(", the primary of the slot of their cache"), "{run:?}");
        let told = run.json();
        assert_eq!(told["rows"].as_array().unwrap().len(), 6);
        let measured = told["address"].as_str().unwrap();
        assert!((0..3).any(|node| cluster.address(node) == measured), "{told}");
        for node in cluster.nodes() {
            assert!(node.keys("*").await.unwrap().is_empty(), "nothing is left behind");
        }
    }
}
