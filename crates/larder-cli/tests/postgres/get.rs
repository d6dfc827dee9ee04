//! `larder get`: it finds what a service finds, and says why a service finds nothing.

use crate::service::{Service, at, servers};
use larder::{LoadOptions, Schema, Stored};
use larder_testing::entries::{Account, Instance, Site, next};
use larder_testing::postgres::PostgresServer;
use serde_json::{Value, json};
use std::time::Duration;

/// What `larder get` says of a host, and whether the service gets it.
async fn host(server: &PostgresServer, service: &Service<Site>, key: &str) -> (Value, bool) {
    let told = at(server, &["get", "site", "host", key, "--json"]).await.json();
    (told, service.cache.get(Site::HOST, key).await.is_some())
}

fn reason(told: &Value) -> &str {
    told["reason"].as_str().unwrap_or_else(|| panic!("{told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_by_every_key() {
    for server in servers().await {
        let ages = (Duration::from_secs(3600), Duration::from_secs(600));
        let service = Service::<Instance>::with_ages(&server, ages.0, ages.1).await;
        service.set(Instance::new("1", &["acme.example", "www.acme.example"], "Acme", u64::MAX >> 1)).await;
        let object = json!({ "id": "1", "hosts": ["acme.example", "www.acme.example"], "name": "Acme", "sequence": u64::MAX >> 1 });

        for (index, key) in [("id", "1"), ("host", "acme.example"), ("host", "www.acme.example")] {
            let told = at(&server, &["get", "instance", index, key, "--json"]).await.done().json();
            let [copy] = &told["copies"].as_array().unwrap()[..] else { panic!("{told}") };
            assert_eq!(
                (&told["found"], &told["index_exists"], &told["primary_key"]),
                (&json!(true), &json!(true), &json!("1"))
            );
            assert_eq!((&copy["served"], &copy["reason"], &copy["object"]), (&json!(true), &Value::Null, &object));
            assert_eq!(copy["version"], u64::MAX >> 1);
            assert_eq!(copy["fingerprint"], service.release());
            let left = copy["expires_in_ms"].as_u64().unwrap();
            assert!((1..=600_000).contains(&left), "{told}");
            assert!(copy["max_age_ends_at_ms"].as_u64().is_some_and(|at| at > 1_600_000_000_000), "{told}");
            let host = |key: &str| json!({ "index": "host", "primary": false, "key": key, "deleted": false });
            let id = json!({ "index": "id", "primary": true, "key": "1", "deleted": false });
            assert_eq!(copy["keys"], json!([id, host("acme.example"), host("www.acme.example")]));
        }

        // The name of a cache as in a configuration; for people the object on stdout, and nothing else.
        let told = at(&server, &["get", "Instance", "host", "acme.example"]).await;
        assert_eq!((told.code, told.json()), (Some(0), object));
        assert!(told.logged.contains("version 9223372036854775807, expires in 5"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_is_no_use() {
    for server in servers().await {
        let service = Service::<Site>::with_ages(&server, Duration::ZERO, Duration::from_secs(600)).await;
        service.set(Site::new("1", &["a"], "x")).await;
        // A service that got it now would touch it: a good part of the age has passed.
        server.psql("UPDATE larder.objects SET idle = now() + interval '1 minute'").unwrap();
        for key in [["id", "1"], ["host", "a"]] {
            at(&server, &["get", "site", key[0], key[1], "--json"]).await.done();
        }
        let touched = "SELECT idle > now() + interval '1 minute' FROM larder.objects";
        assert_eq!(server.psql(touched).unwrap(), "f");
    }
}

/// Each way in which an object is not served has its own words.
#[tokio::test(flavor = "multi_thread")]
async fn a_miss_says_why() {
    for server in servers().await {
        let service = Service::<Site>::with_ages(&server, Duration::from_secs(3600), Duration::from_secs(600)).await;
        for (id, key) in [("1", "stays"), ("2", "invalidated"), ("3", "expired"), ("4", "unused"), ("5", "damaged")] {
            service.set(Site::new(id, &[key], "x")).await;
        }
        service.set(Site::new("6", &["deleted", "kept"], "x")).await;
        service.set(Site::new("7", &["moved"], "x")).await;
        service.set(Site::new("7", &[], "x")).await;
        service.set(Site::new("8", &["swept away"], "x")).await;
        server.psql("SELECT larder.invalidate('site', 'host', 'invalidated')").unwrap();
        let id = |id: &str| format!("mark = larder.mark('site', 'id', '{id}')");
        server.psql(&format!("UPDATE larder.objects SET expires = now() WHERE {}", id("3"))).unwrap();
        server.psql(&format!("UPDATE larder.objects SET idle = now() WHERE {}", id("4"))).unwrap();
        server
            .psql(&format!("UPDATE larder.objects SET payload = set_byte(payload, 60, 33) WHERE {}", id("5")))
            .unwrap();
        server.psql(&format!("DELETE FROM larder.objects WHERE {}", id("8"))).unwrap();
        service.cache.delete(Site::HOST, ["deleted"]).await.unwrap();

        let (told, served) = host(&server, &service, "stays").await;
        assert!(served && told["found"] == true, "{told}");
        for (key, why, copies) in [
            ("invalidated", "it was invalidated", 1),
            ("expired", "its max age is over", 1),
            ("unused", "its last-use age is over", 1),
            ("damaged", "the checksum does not match", 1),
            ("deleted", "this key was deleted from it", 1),
            ("moved", "leads to an object that does not list it", 1),
            ("swept away", "leads to an object that is gone", 0),
            ("nobody", "no index key leads from it", 0),
        ] {
            // First the command: the service removes what it cannot read.
            let (told, served) = host(&server, &service, key).await;
            assert!(!served && told["found"] == false, "{key}: {told}");
            assert!(reason(&told).contains(why), "{key}: {told}");
            assert_eq!(told["copies"].as_array().unwrap().len(), copies, "{key}: {told}");
        }
        assert!(host(&server, &service, "kept").await.1);
        let told = at(&server, &["get", "site", "id", "9"]).await;
        told.refused(1, "nothing there: no release has stored an object with this primary key");
        let told = at(&server, &["get", "site", "id", "6", "--json"]).await.done().json();
        let deleted: Vec<_> = told["copies"][0]["keys"].as_array().unwrap().iter().map(|key| &key["deleted"]).collect();
        assert_eq!(deleted, [&json!(false), &json!(true), &json!(false)], "{told}");

        service.cache.truncate().await.unwrap();
        let (told, served) = host(&server, &service, "stays").await;
        assert!(!served && reason(&told).contains("truncated"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_nothing_in_the_source() {
    for server in servers().await {
        let loading = LoadOptions::default().negative_age(Duration::from_secs(600));
        let service = Service::of(&server, Schema::of::<Site>().loading(loading)).await;
        let nothing = |_| async { Ok::<Option<Site>, std::io::Error>(None) };
        assert!(service.cache.get_or_load(Site::HOST, "nobody", nothing).await.unwrap().is_none());
        let (told, served) = host(&server, &service, "nobody").await;
        assert!(!served && reason(&told).contains("a note says that the source has nothing"), "{told}");
    }
}

/// Two keys with one mark: what is there is of the other one, and the whole key decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_shared() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let mark = |host: &str| format!("larder.mark('site', 'host', '{host}')");
        // As if `a` and `b` had one mark.
        server
            .psql(&format!(
                "UPDATE larder.objects SET marks = array_replace(marks, {}, {b}); UPDATE larder.keys SET mark = {b}",
                mark("a"),
                b = mark("b")
            ))
            .unwrap();
        let (told, served) = host(&server, &service, "b").await;
        assert!(!served && reason(&told).contains("does not list it"), "{told}");
        assert_eq!(told["copies"][0]["object"]["id"], "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_release_has_its_copy() {
    for server in servers().await {
        let (old, new) = (Service::<Site>::on(&server).await, Service::<next::Site>::on(&server).await);
        old.set(Site::new("1", &["a"], "x")).await;
        let told = at(&server, &["get", "site", "host", "a", "--json"]).await.done().json();
        assert_eq!(told["not_stored_by"], json!([new.release()]));
        let ticket = new.ticket(next::Site::ID).await;
        assert_eq!(new.cache.fill(next::Site::new("1", &["a"], "x"), ticket).await, Stored::Accepted);
        let told = at(&server, &["get", "site", "host", "a", "--json"]).await.done().json();
        assert_eq!((told["copies"].as_array().unwrap().len(), &told["not_stored_by"]), (2, &json!([])));
        let regions: Vec<_> = told["copies"].as_array().unwrap().iter().map(|copy| &copy["object"]["region"]).collect();
        assert!(regions.contains(&&json!(7)) && regions.contains(&&Value::Null), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_parts() {
    for server in servers().await {
        let accounts = Service::<Account>::on(&server).await;
        accounts.set(Account::new("acme", 7, &[("acme", "jo")])).await;
        let told = at(&server, &["get", "account", "login", "--part", "acme", "--part", "jo"]).await;
        assert_eq!((told.code, told.json()["id"].clone()), (Some(0), json!(["acme", 7])));
        assert!(told.logged.contains("login: \"4:acme,2:jo,\", of the parts [\"acme\",\"jo\"]"), "{told:?}");
        at(&server, &["get", "account", "login", "--part", "acme"]).await.refused(1, "nothing there");
        at(&server, &["get", "account", "login", "acme", "jo"]).await.refused(2, "say --part acme --part jo");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_and_a_cache_that_there_are_not() {
    for server in servers().await {
        let _service = Service::<Instance>::on(&server).await;
        at(&server, &["get", "instance", "hosts", "a"])
            .await
            .refused(1, "the cache `instance` has no index `hosts`; it has `host`, `id`; did you mean `host`?");
        at(&server, &["get", "instances", "host", "a"])
            .await
            .refused(1, "which has `instance`; did you mean `instance`?");
    }
}

/// A database that was copied, and one whose tables were emptied.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_services_do_not_trust() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        drop(service);
        server.psql("UPDATE larder.clock SET home = 'elsewhere'").unwrap();
        let told = at(&server, &["get", "site", "host", "a", "--json"]).await;
        assert!(told.code == Some(1) && reason(&told.json()).contains("with a copy of another database"), "{told:?}");
        server.psql("DELETE FROM larder.clock").unwrap();
        let told = at(&server, &["get", "site", "host", "a", "--json"]).await;
        assert!(
            told.code == Some(1) && reason(&told.json()).contains("the clock of larder's tables is gone"),
            "{told:?}"
        );
    }
}
