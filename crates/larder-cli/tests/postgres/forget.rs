//! `larder invalidate` and `larder delete`.

use crate::service::{Service, at, options, servers, until};
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::Postgres;
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, Schema, Stored};
use larder_testing::entries::{Account, Instance, Site, next};
use serde_json::json;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_forgets_the_object_under_every_key() {
    for server in servers().await {
        let service = Service::<Instance>::on(&server).await;
        for id in ["1", "2", "3", "4"] {
            service.set(Instance::new(id, &[&format!("a{id}"), &format!("b{id}")], "x", 1)).await;
        }
        let told = at(&server, &["invalidate", "instance", "host", "a1", "nobody", "--json"]).await.done();
        assert_eq!(
            told.json(),
            json!({ "cache": "instance", "index": "host", "invalidated": 2, "led_to_an_object": 1 })
        );
        at(&server, &["invalidate", "instance", "id", "2", "3"]).await.done();
        for (id, there) in [("1", false), ("2", false), ("3", false), ("4", true)] {
            assert_eq!(service.cache.get(Instance::ID, id).await.is_some(), there, "{id}");
            assert_eq!(service.cache.get(Instance::HOST, format!("b{id}")).await.is_some(), there, "{id}");
        }
        let told = at(&server, &["invalidate", "instance", "host", "b1"]).await.done().told;
        assert_eq!(told, "invalidated 1 key of the index host in the cache instance; no object was there under it\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_began_before_is_refused() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        let site = || Site::new("1", &["a", "b"], "old");
        for (command, index, key) in
            [("invalidate", "id", "1"), ("invalidate", "host", "a"), ("delete", "id", "1"), ("delete", "host", "b")]
        {
            let ticket = service.ticket(Site::ID).await;
            at(&server, &[command, "site", index, key]).await.done();
            assert_eq!(service.cache.fill(site(), ticket).await, Stored::Overtaken, "{command} {index}");
        }
        // Another key is none of its business.
        let ticket = service.ticket(Site::ID).await;
        at(&server, &["invalidate", "site", "id", "a"]).await.done();
        at(&server, &["invalidate", "site", "host", "1"]).await.done();
        assert_eq!(service.cache.fill(site(), ticket).await, Stored::Accepted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_releases_are_reached() {
    for server in servers().await {
        let (old, new) = (Service::<Site>::on(&server).await, Service::<next::Site>::on(&server).await);
        for (command, index, key, whole) in
            [("invalidate", "id", "1", true), ("invalidate", "host", "a", true), ("delete", "host", "a", false)]
        {
            let (one, other) = (old.ticket(Site::ID).await, new.ticket(next::Site::ID).await);
            assert_eq!(old.cache.fill(Site::new("1", &["a", "b"], "x"), one).await, Stored::Accepted);
            assert_eq!(new.cache.fill(next::Site::new("1", &["a", "b"], "x"), other).await, Stored::Accepted);
            at(&server, &[command, "site", index, key]).await.done();
            assert!(old.cache.get(Site::HOST, "a").await.is_none());
            assert!(new.cache.get(next::Site::HOST, "a").await.is_none());
            assert_eq!(old.cache.get(Site::HOST, "b").await.is_none(), whole);
            assert_eq!(new.cache.get(next::Site::ID, "1").await.is_none(), whole);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_there_is_not() {
    for server in servers().await {
        let _accounts = Service::<Account>::on(&server).await;
        for command in ["invalidate", "delete"] {
            at(&server, &[command, "account", "idd", "x"])
                .await
                .refused(1, "the cache `account` has no index `idd`; it has `id`, `login`; did you mean `id`?");
            assert_eq!(server.psql("SELECT count(*) FROM larder.fences WHERE kind <> 'b'").unwrap(), "0");
            // An index that has no key yet is one.
            at(&server, &[command, "account", "login", "--part", "acme", "--part", "jo"]).await.done();
            at(&server, &[command, "account", "idd", "x", "--unseen"]).await.done();
            server.psql("DELETE FROM larder.fences").unwrap();
        }
        at(&server, &["invalidate", "nowhere", "id", "x"]).await.refused(1, "there is no cache `nowhere`");
    }
}

/// The parts of a key, given as if each were a key, forget nothing; that is told.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_parts() {
    for server in servers().await {
        let accounts = Service::<Account>::on(&server).await;
        accounts.set(Account::new("acme", 7, &[("acme", "jo"), ("acme", "root")])).await;
        let told = at(&server, &["invalidate", "account", "login", "acme", "jo"]).await.done().told;
        assert!(told.contains("no object was there under any of them") && told.contains("--part"), "{told}");
        let parts = ["a", "b", "c", "d", "e"].map(|part| ["--part", part]).concat();
        let five = [&["invalidate", "account", "login"], &parts[..]].concat();
        at(&server, &five).await.refused(2, "a composite key has at most four parts");

        at(&server, &["delete", "account", "login", "--part", "acme", "--part", "jo"]).await.done();
        assert!(accounts.cache.get(Account::LOGIN, ("acme", "jo")).await.is_none());
        assert!(accounts.cache.get(Account::LOGIN, ("acme", "root")).await.is_some());
        // A deleted key still leads to its object.
        let told = at(&server, &["invalidate", "account", "login", "--part", "acme", "--part", "jo"]).await.done().told;
        assert_eq!(told, "invalidated 1 key of the index login in the cache account\n");
        assert!(accounts.cache.get(Account::LOGIN, ("acme", "root")).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowest_version() {
    for server in servers().await {
        let service = Service::<Instance>::on(&server).await;
        for (id, index, key) in [("1", "host", "a1"), ("2", "id", "2")] {
            let instance = |version| Instance::new(id, &[&format!("a{id}")], "x", version);
            service.set(instance(3)).await;
            at(&server, &["invalidate", "instance", index, key, "--below", "7"]).await.done();
            assert!(service.cache.get(Instance::ID, id).await.is_none());
            let ticket = service.ticket(Instance::ID).await;
            assert_eq!(service.cache.fill(instance(6), ticket).await, Stored::Outdated, "{index}");
            assert_eq!(service.cache.fill(instance(7), ticket).await, Stored::Accepted, "{index}");
        }
    }
}

/// More keys than one statement takes. The function of the database would say the whole cache for so many at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_keys() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("stays", &[], "x")).await;
        service.set(Site::new("10999", &[], "x")).await;
        let keys: Vec<String> = (0..11_000).map(|number: u32| number.to_string()).collect();
        let arguments: Vec<&str> =
            ["invalidate", "site", "id", "--json"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let told = at(&server, &arguments).await.done().json();
        assert_eq!((&told["invalidated"], &told["led_to_an_object"]), (&json!(11_000), &json!(1)));
        assert!(service.cache.get(Site::ID, "10999").await.is_none());
        assert!(service.cache.get(Site::ID, "stays").await.is_some());
    }
}

/// A cache in the memory of each node: its names are known, and what is told reaches it.
#[tokio::test(flavor = "multi_thread")]
async fn caches_that_follow_the_feed() {
    for server in servers().await {
        let database = Postgres::open(options(&server.dsn())).unwrap();
        let feed = Feed::open(&database, FeedOptions::new()).unwrap();
        let schema = Schema::of::<Site>();
        let connector = feed.memory(schema.clone(), MemoryOptions::new(), FollowOptions::new()).unwrap();
        let cache: Cache<Site> = Cache::new(Arc::new(connector), schema).unwrap();
        until("the cache can be read", || cache.status().readable).await;
        let registered = || server.psql("SELECT followed FROM larder.caches").unwrap() == "t";
        until("the cache is registered", registered).await;
        for arguments in
            [&["invalidate", "site", "host", "a"][..], &["delete", "site", "host", "a"], &["truncate", "site", "--yes"]]
        {
            while cache.set(Site::new("1", &["a"], "x")).await != Stored::Accepted {}
            at(&server, arguments).await.done();
            let mut gone = false;
            for _ in 0..10_000 {
                gone |= cache.get(Site::ID, "1").await.is_none();
                if gone {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            assert!(gone, "{arguments:?}");
        }
        at(&server, &["get", "site", "host", "a"]).await.refused(1, "in the memory of each node");
        at(&server, &["invalidate", "site", "hosts", "a"]).await.refused(1, "did you mean `host`?");
        let told = at(&server, &["stats", "--json"]).await.done().json();
        assert_eq!((&told["caches"][0]["cache"], &told["caches"][0]["followed"]), (&json!("site"), &json!(true)));
    }
}
