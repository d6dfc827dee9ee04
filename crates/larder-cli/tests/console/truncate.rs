//! `larder truncate` and `larder prune`.

use crate::service::{Service, int, larder, servers};
use larder::Stored;
use larder_testing::entries::{Instance, Site};
use larder_testing::server::ServerOptions;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_one_cache_and_nothing_else() {
    for server in servers(ServerOptions::default()).await {
        let (instances, sites) = (Service::<Instance>::on(&server).await, Service::<Site>::on(&server).await);
        instances.set(Instance::new("1", &["a", "b"], "x", 1)).await;
        instances.set(Instance::new("2", &[], &"x".repeat(10_000), 1)).await;
        sites.set(Site::new("1", &["a"], "x")).await;
        for foreign in [
            "larder:instances:oops",
            "larder:instance:nobody's",
            "larder:instance",
            "instance:o",
            "larder2:instance:ihost:a",
        ] {
            server.command(&["SET", foreign, "x"]).await.unwrap();
        }
        let ticket = instances.ticket(Instance::ID).await;
        let before = server.keys("*").await.unwrap();

        larder(&server, &["truncate", "instance"]).await.refused(2, "say --yes");
        assert_eq!(server.keys("*").await.unwrap(), before);
        let told = larder(&server, &["truncate", "instance", "--yes", "--json"]).await.done();
        assert_eq!(told.json(), json!({ "cache": "instance", "truncated": true, "keys_removed": 4 }));
        let after = server.keys("*").await.unwrap();
        let gone: Vec<_> = before.iter().filter(|key| !after.contains(key)).collect();
        assert!(gone.len() == 4 && gone.iter().all(|key| key.starts_with(b"larder:instance:")), "{gone:?}");

        assert!(instances.cache.get(Instance::ID, "1").await.is_none());
        assert!(sites.cache.get(Site::HOST, "a").await.is_some());
        let fill = instances.cache.fill(Instance::new("1", &["a"], "x", 1), ticket).await;
        assert_eq!(fill, Stored::Overtaken, "loaded before");
        // The service goes on at once, without clearing anything a second time.
        let ticket = instances.ticket(Instance::ID).await;
        assert_eq!(instances.cache.fill(Instance::new("1", &["a"], "x", 1), ticket).await, Stored::Accepted);
        assert_eq!(instances.cache.stats().resets.get(), 0);
        let listed = larder(&server, &["stats", "instance", "--json"]).await.done().json();
        assert_eq!(
            listed["caches"][0]["objects"].as_array().unwrap().len(),
            1,
            "no release but the service's: {listed}"
        );

        larder(&server, &["truncate", "instance2", "--yes"]).await.refused(1, "which has `instance`, `site`");
        assert!(server.keys("larder:instance2:*").await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_clock_is_made_anew() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        server.command(&["DEL", "larder:site:c"]).await.unwrap();
        larder(&server, &["invalidate", "site", "host", "a"]).await.refused(1, "truncate the cache");
        larder(&server, &["prune", "site"]).await.refused(1, "truncate the cache");
        larder(&server, &["truncate", "site", "--yes"]).await.done();
        assert!(service.cache.get(Site::HOST, "a").await.is_none());
        let ticket = service.ticket(Site::ID).await;
        assert_eq!(service.cache.fill(Site::new("1", &["a"], "x"), ticket).await, Stored::Accepted);
        larder(&server, &["invalidate", "site", "host", "a"]).await.done();
        assert!(service.cache.get(Site::ID, "1").await.is_none());
    }
}

/// Two releases that have other indexes: an index key that either needs stays.
mod renumbered {
    use larder::Entry;
    use serde::{Deserialize, Serialize};

    #[derive(Clone, Debug, Serialize, Deserialize, Entry)]
    #[entry(cache = "site")]
    pub(super) struct Site {
        #[key(primary)]
        pub(super) id: String,
        #[key(index = "alias")]
        pub(super) alias: Option<String>,
        #[key(index = "host")]
        pub(super) hosts: Vec<String>,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leads_nowhere() {
    for server in servers(ServerOptions::default()).await {
        let (old, new) = (Service::<Site>::on(&server).await, Service::<renumbered::Site>::on(&server).await);
        old.set(Site::new("1", &["a", "b"], "x")).await;
        old.set(Site::new("2", &["c"], "x")).await;
        old.set(Site::new("2", &[], "x")).await;
        old.set(Site::new("3", &["d"], "x")).await;
        new.set(renumbered::Site { id: "4".into(), alias: Some("c".into()), hosts: vec!["e".into()] }).await;
        server.command(&["DEL", &old.object("3")]).await.unwrap();
        server.command(&["SET", "larder:site:not ours", "x"]).await.unwrap();

        let told = larder(&server, &["prune", "site", "--json"]).await.done();
        assert_eq!(told.json(), json!({ "cache": "site", "index_keys": 6, "keys_removed": 2 }));
        let left = server.keys("larder:site:i*").await.unwrap();
        let expected =
            ["ialias:c", "ihost:a", "ihost:b", "ihost:e"].map(|key| format!("larder:site:{key}").into_bytes());
        assert_eq!(left, expected);
        assert_eq!(int(&server, &["EXISTS", "larder:site:not ours"]).await, 1);
        assert!(old.cache.get(Site::HOST, "a").await.is_some());
        larder(&server, &["invalidate", "site", "host", "e"]).await.done();
        assert!(new.cache.get(renumbered::Site::ID, "4").await.is_none());
    }
}
