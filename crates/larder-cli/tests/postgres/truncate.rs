//! `larder truncate` and `larder prune`.

use crate::service::{Service, at, servers};
use larder::Stored;
use larder_testing::entries::{Instance, Site};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_one_cache_and_nothing_else() {
    for server in servers().await {
        let (instances, sites) = (Service::<Instance>::on(&server).await, Service::<Site>::on(&server).await);
        instances.set(Instance::new("1", &["a", "b"], "x", 1)).await;
        sites.set(Site::new("1", &["a"], "x")).await;
        let ticket = instances.ticket(Instance::ID).await;

        at(&server, &["truncate", "instance"]).await.refused(2, "say --yes");
        assert!(instances.cache.get(Instance::ID, "1").await.is_some());
        let told = at(&server, &["truncate", "instance", "--yes", "--json"]).await.done();
        assert_eq!(told.json(), json!({ "cache": "instance", "truncated": true, "keys_removed": 0 }));
        assert!(instances.cache.get(Instance::ID, "1").await.is_none());
        assert!(sites.cache.get(Site::HOST, "a").await.is_some());
        let fill = instances.cache.fill(Instance::new("1", &["a"], "x", 1), ticket).await;
        assert_eq!(fill, Stored::Overtaken, "loaded before");
        let ticket = instances.ticket(Instance::ID).await;
        assert_eq!(instances.cache.fill(Instance::new("1", &["a"], "x", 1), ticket).await, Stored::Accepted);
        at(&server, &["truncate", "instance2", "--yes"]).await.refused(1, "which has `instance`, `site`");
    }
}

/// The caches of a database share its tables, and a prune is for all of them: the output says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_in_all_caches() {
    for server in servers().await {
        let instances = Service::<Instance>::with_ages(&server, Duration::from_secs(3600), Duration::ZERO).await;
        let sites = Service::<Site>::with_ages(&server, Duration::from_secs(3600), Duration::ZERO).await;
        for id in ["1", "2"] {
            instances.set(Instance::new(id, &[&format!("i{id}")], "x", 1)).await;
            sites.set(Site::new(id, &[&format!("s{id}")], "x")).await;
        }
        let first = "mark IN (larder.mark('instance', 'id', '1'), larder.mark('site', 'id', '1'))";
        server.psql(&format!("UPDATE larder.objects SET expires = now(), until = now() WHERE {first}")).unwrap();
        // So that the keys of objects that are gone are of a generation that has ended.
        for _ in 0..2 {
            server.psql("SELECT larder.turn()").unwrap();
            while server.psql("SELECT done FROM larder.sweep(10000)").unwrap() == "f" {}
        }
        let told = at(&server, &["prune", "site", "--json"]).await.done().json();
        assert_eq!(told, json!({ "cache": "site", "all_caches": true, "objects_removed": 2, "keys_removed": 2 }));
        assert!(instances.cache.get(Instance::HOST, "i2").await.is_some());
        assert!(sites.cache.get(Site::HOST, "s2").await.is_some());
        let told = at(&server, &["prune", "site"]).await.done().told;
        assert!(
            told.starts_with("pruned all caches in the database ") && told.contains(": 0 objects and 0 index keys"),
            "{told}"
        );
        at(&server, &["prune", "nowhere"]).await.refused(1, "there is no cache `nowhere`");
    }
}
