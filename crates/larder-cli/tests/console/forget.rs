//! `larder invalidate` and `larder delete`.

use crate::service::{Service, larder, servers};
use larder::Stored;
use larder_testing::entries::{Account, Blob, Instance, Site, next};
use larder_testing::server::{Server, ServerOptions};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_forgets_the_object_under_every_key() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Instance>::on(&server).await;
        for id in ["1", "2", "3", "4"] {
            service.set(Instance::new(id, &[&format!("a{id}"), &format!("b{id}")], "x", 1)).await;
        }
        let told = larder(&server, &["invalidate", "instance", "host", "a1", "nobody", "--json"]).await.done();
        assert_eq!(
            told.json(),
            json!({ "cache": "instance", "index": "host", "invalidated": 2, "led_to_an_object": 1 })
        );
        larder(&server, &["invalidate", "instance", "id", "2", "3"]).await.done();
        for (id, there) in [("1", false), ("2", false), ("3", false), ("4", true)] {
            assert_eq!(service.cache.get(Instance::ID, id).await.is_some(), there, "{id}");
            assert_eq!(service.cache.get(Instance::HOST, format!("b{id}")).await.is_some(), there, "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_began_before_is_refused() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("shows the indexes", &["x"], "")).await;
        let site = || Site::new("1", &["a", "b"], "old");
        for (command, index, key) in
            [("invalidate", "id", "1"), ("invalidate", "host", "a"), ("delete", "id", "1"), ("delete", "host", "b")]
        {
            let ticket = service.ticket(Site::ID).await;
            larder(&server, &[command, "site", index, key]).await.done();
            assert_eq!(service.cache.fill(site(), ticket).await, Stored::Overtaken, "{command} {index}");
        }
        // Another key is none of its business.
        let ticket = service.ticket(Site::ID).await;
        larder(&server, &["invalidate", "site", "id", "a"]).await.done();
        larder(&server, &["invalidate", "site", "host", "1"]).await.done();
        assert_eq!(service.cache.fill(site(), ticket).await, Stored::Accepted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_releases_are_reached() {
    for server in servers(ServerOptions::default()).await {
        let (old, new) = (Service::<Site>::on(&server).await, Service::<next::Site>::on(&server).await);
        for (command, index, key, whole) in
            [("invalidate", "id", "1", true), ("invalidate", "host", "a", true), ("delete", "host", "a", false)]
        {
            let (one, other) = (old.ticket(Site::ID).await, new.ticket(next::Site::ID).await);
            assert_eq!(old.cache.fill(Site::new("1", &["a", "b"], "x"), one).await, Stored::Accepted);
            assert_eq!(new.cache.fill(next::Site::new("1", &["a", "b"], "x"), other).await, Stored::Accepted);
            larder(&server, &[command, "site", index, key]).await.done();
            assert!(old.cache.get(Site::HOST, "a").await.is_none());
            assert!(new.cache.get(next::Site::HOST, "a").await.is_none());
            assert_eq!(old.cache.get(Site::HOST, "b").await.is_none(), whole);
            assert_eq!(new.cache.get(next::Site::ID, "1").await.is_none(), whole);
        }
    }
}

/// As a server does that evicts.
async fn evict_names(server: &Server) {
    for key in server.keys("larder:*:n*").await.unwrap() {
        server.command(&[b"DEL".to_vec(), key]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_there_is_not() {
    for server in servers(ServerOptions::default()).await {
        let accounts = Service::<Account>::on(&server).await;
        for command in ["invalidate", "delete"] {
            larder(&server, &[command, "account", "idd", "x"])
                .await
                .refused(1, "the cache `account` has no index `idd`; it has `id`, `login`; did you mean `id`?");
            larder(&server, &[command, "account", "host", "x"])
                .await
                .refused(1, "has no index `host`; it has `id`, `login`. Nothing was done");
            // An index that has no key yet is one.
            larder(&server, &[command, "account", "login", "--part", "acme", "--part", "jo"]).await.done();
            larder(&server, &[command, "account", "id", "--part", "acme", "--part", "7"]).await.done();
        }
        larder(&server, &["truncate", "account", "--yes"]).await.done();
        let ticket = accounts.ticket(Account::ID).await;
        larder(&server, &["invalidate", "account", "id", "--part", "acme", "--part", "7"]).await.done();
        assert_eq!(accounts.cache.fill(Account::new("acme", 7, &[]), ticket).await, Stored::Overtaken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_nothing_shows() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        let site = || Site::new("1", &["a"], "old");
        for command in ["invalidate", "delete"] {
            for (index, key) in [("id", "1"), ("host", "a")] {
                larder(&server, &["truncate", "site", "--yes"]).await.done();
                evict_names(&server).await;
                larder(&server, &[command, "site", index, key]).await.refused(1, "say --unseen");
                // Whether it is the primary index or not, the load is refused.
                let ticket = service.ticket(Site::ID).await;
                larder(&server, &[command, "site", index, key, "--unseen"]).await.done();
                assert_eq!(service.cache.fill(site(), ticket).await, Stored::Overtaken, "{command} {index}");
                // Objects show it, those that are asked for or any other.
                service.set(Site::new("2", &["b"], "")).await;
                evict_names(&server).await;
                larder(&server, &[command, "site", index, key]).await.done();
            }
        }
        service.set(site()).await;
        evict_names(&server).await;
        for wrong in ["name", "hosts", "ids"] {
            larder(&server, &["invalidate", "site", wrong, "a"]).await.refused(1, "; it has `host`");
        }
        assert!(service.cache.get(Site::HOST, "a").await.is_some());
        let ticket = service.ticket(Site::ID).await;
        larder(&server, &["invalidate", "site", "alias", "a", "--unseen"]).await.done();
        assert_eq!(
            service.cache.fill(site(), ticket).await,
            Stored::Accepted,
            "there is no such index, and nothing was done"
        );
    }
}

/// A primary index that has not the name of a field.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_index_that_objects_do_not_show() {
    for server in servers(ServerOptions::default()).await {
        let accounts = Service::<Account>::on(&server).await;
        accounts.set(Account::new("acme", 7, &[])).await;
        let account = ["account", "id", "--part", "acme", "--part", "8"];
        larder(&server, &[&["get"], &account[..]].concat()).await.refused(1, "no release has stored an object");
        evict_names(&server).await;
        larder(&server, &[&["invalidate"], &account[..]].concat()).await.refused(1, "say --unseen");
        larder(&server, &[&["get"], &account[..]].concat()).await.refused(1, "no object has this primary key");
        let account = ["account", "id", "--part", "acme", "--part", "7"];
        let told = larder(&server, &[&["get", "--json"], &account[..]].concat()).await.done().json();
        assert_eq!((&told["index_exists"], &told["copies"][0]["keys"][0]["index"]), (&json!(null), &json!(null)));
        let ticket = accounts.ticket(Account::ID).await;
        larder(&server, &[&["invalidate"], &account[..]].concat()).await.done();
        assert!(accounts.cache.get(Account::ID, ("acme", 7)).await.is_none());
        assert_eq!(accounts.cache.fill(Account::new("acme", 7, &[]), ticket).await, Stored::Overtaken);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn just_one_key() {
    for server in servers(ServerOptions::default()).await {
        let accounts = Service::<Account>::on(&server).await;
        accounts.set(Account::new("acme", 7, &[("acme", "jo"), ("acme", "root")])).await;
        larder(&server, &["delete", "account", "login", "--part", "acme", "--part", "jo"]).await.done();
        assert!(accounts.cache.get(Account::LOGIN, ("acme", "jo")).await.is_none());
        assert!(accounts.cache.get(Account::LOGIN, ("acme", "root")).await.is_some());
        larder(&server, &["delete", "account", "id", "--part", "acme", "--part", "7"]).await.done();
        assert!(accounts.cache.get(Account::ID, ("acme", 7)).await.is_none());
        assert!(accounts.cache.get(Account::LOGIN, ("acme", "root")).await.is_some());

        let blobs = Service::<Blob>::on(&server).await;
        // The same key in two indexes, of which one has the beginning of the other's name.
        blobs.set(Blob::new("c", Some(b"c"), Some(b"c"))).await;
        larder(&server, &["delete", "blob", "id", "c"]).await.done();
        assert!(blobs.cache.get(Blob::ID, &b"c"[..]).await.is_none());
        assert!(blobs.cache.get(Blob::ID2, &b"c"[..]).await.is_some());
        assert!(blobs.cache.get(Blob::I, &b"c"[..]).await.is_some());
        larder(&server, &["get", "blob", "id", "c"]).await.refused_with_more(1, "was deleted from it");
        larder(&server, &["get", "blob", "id2", "c", "--json"]).await.done();
    }
}

/// The parts of a key, given as if each were a key, forget nothing; that is told.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_lead_to_nothing() {
    for server in servers(ServerOptions::default()).await {
        let accounts = Service::<Account>::on(&server).await;
        accounts.set(Account::new("acme", 7, &[("acme", "jo")])).await;
        let told = larder(&server, &["invalidate", "account", "login", "acme", "jo"]).await.done().told;
        assert!(told.contains("no object was there under any of them") && told.contains("--part"), "{told}");
        let told = larder(&server, &["delete", "account", "id", "7"]).await.done().told;
        assert_eq!(told, "deleted 1 key of the index id in the cache account; no object was there under it\n");
        for key in [["login", "acme", "jo"], ["id", "acme", "7"]] {
            accounts.set(Account::new("acme", 7, &[("acme", "jo")])).await;
            let [index, a, b] = key;
            let told = larder(&server, &["invalidate", "account", index, "--part", a, "--part", b]).await.done().told;
            assert_eq!(told, format!("invalidated 1 key of the index {index} in the cache account\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowest_version() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Instance>::on(&server).await;
        service.set(Instance::new("1", &["a"], "x", 3)).await;
        larder(&server, &["invalidate", "instance", "host", "a", "--below", "7"]).await.done();
        let ticket = service.ticket(Instance::ID).await;
        assert_eq!(service.cache.fill(Instance::new("1", &["a"], "x", 6), ticket).await, Stored::Outdated);
        assert_eq!(service.cache.fill(Instance::new("1", &["a"], "x", 7), ticket).await, Stored::Accepted);
    }
}
