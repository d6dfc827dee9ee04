//! `larder get`.

use crate::service::{Service, int, larder, servers};
use larder_testing::entries::{Account, Blob, Instance, Site, next};
use larder_testing::server::ServerOptions;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_by_every_key() {
    for server in servers(ServerOptions::default()).await {
        let ages = (Duration::from_secs(3600), Duration::from_secs(600));
        let service = Service::<Instance>::with_ages(&server, ages.0, ages.1).await;
        service.set(Instance::new("1", &["acme.example", "www.acme.example"], "Acme", u64::MAX >> 1)).await;
        let object = json!({ "id": "1", "hosts": ["acme.example", "www.acme.example"], "name": "Acme", "sequence": u64::MAX >> 1 });

        for (index, key) in [("id", "1"), ("host", "acme.example"), ("host", "www.acme.example")] {
            let told = larder(&server, &["get", "instance", index, key, "--json"]).await.done().json();
            let [copy] = &told["copies"].as_array().unwrap()[..] else { panic!("{told}") };
            assert_eq!(
                (&told["found"], &told["index_exists"], &told["primary_key"]),
                (&json!(true), &json!(true), &json!("1"))
            );
            assert_eq!((&copy["served"], &copy["reason"], &copy["object"]), (&json!(true), &Value::Null, &object));
            assert_eq!(copy["version"], u64::MAX >> 1);
            assert_eq!(copy["fingerprint"], format!("{:016x}", service.cache.schema().fingerprint()));
            let left = copy["expires_in_ms"].as_u64().unwrap();
            assert!((1..=600_000).contains(&left), "{told}");
            assert!(copy["max_age_ends_at_ms"].as_u64().is_some_and(|at| at > 1_600_000_000_000), "{told}");
            let host = |key: &str| json!({ "index": "host", "primary": false, "key": key, "deleted": false });
            let id = json!({ "index": "id", "primary": true, "key": "1", "deleted": false });
            assert_eq!(copy["keys"], json!([id, host("acme.example"), host("www.acme.example")]));
        }

        // For people: the object to stdout, and nothing else, with its fields in their order.
        let told = larder(&server, &["get", "instance", "host", "acme.example"]).await;
        assert_eq!((told.code, told.json()), (Some(0), object));
        assert!(told.told.find("\"id\"") < told.told.find("\"hosts\""), "{told:?}");
        assert!(told.logged.contains("version 9223372036854775807, expires in 5"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_is_no_use_and_removes_nothing() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Instance>::with_ages(&server, Duration::ZERO, Duration::from_secs(600)).await;
        service.set(Instance::new("1", &["a"], "x", 1)).await;
        service.set(Instance::new("2", &["b"], "x", 1)).await;
        // A service that got it now would touch it: a good part of the age has passed.
        int(&server, &["PEXPIRE", &service.object("1"), "60000"]).await;
        for key in [["id", "1"], ["host", "a"]] {
            larder(&server, &["get", "instance", key[0], key[1], "--json"]).await.done();
            assert!((1..=60_000).contains(&int(&server, &["PTTL", &service.object("1")]).await));
        }

        int(&server, &["SETRANGE", &service.object("2"), "60", "!!!!"]).await;
        let told = larder(&server, &["get", "instance", "host", "b", "--json"]).await;
        let reason = told.json()["copies"][0]["reason"].as_str().unwrap().to_owned();
        assert!(told.code == Some(1) && reason.contains("the checksum does not match"), "{told:?}");
        assert_eq!(int(&server, &["EXISTS", &service.object("2")]).await, 1);

        server.command(&["DEL", &service.object("2")]).await.unwrap();
        server.command(&["LPUSH", &service.object("2"), "x"]).await.unwrap();
        let told = larder(&server, &["get", "instance", "id", "2", "--json"]).await.told;
        assert!(told.contains("another Redis type"), "{told}");
        assert_eq!(int(&server, &["EXISTS", &service.object("2")]).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_says_why() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Instance>::on(&server).await;
        service.set(Instance::new("1", &["a", "b", "c"], "x", 1)).await;
        service.set(Instance::new("2", &["d"], "x", 1)).await;
        service.cache.delete(Instance::HOST, ["b"]).await.unwrap();
        // A host that moves away leaves an index key that nobody believes.
        service.set(Instance::new("1", &["a", "b"], "x", 2)).await;
        service.cache.delete(Instance::HOST, ["b"]).await.unwrap();
        server.command(&["DEL", &service.object("2")]).await.unwrap();
        for (index, key, why) in [
            ("id", "3", "nothing there: no release has stored"),
            ("host", "z", "nothing there: no index key leads from it"),
            ("host", "d", "nothing there: its index key leads to an object that is gone"),
        ] {
            let told = larder(&server, &["get", "instance", index, key]).await;
            told.refused(1, why);
            assert_eq!(told.told, "");
        }
        for (key, why) in [("b", "was deleted from it"), ("c", "does not list it")] {
            let told = larder(&server, &["get", "instance", "host", key, "--json"]).await;
            assert_eq!((told.code, &told.json()["found"]), (Some(1), &json!(false)));
            assert!(told.json()["reason"].as_str().unwrap().contains(why), "{told:?}");
        }
        larder(&server, &["get", "instance", "hosts", "a"])
            .await
            .refused(1, "the cache `instance` has no index `hosts`; it has `host`, `id`; did you mean `host`?");
        larder(&server, &["get", "instance", "id", "nobody"]).await.refused(1, "no release has stored an object");
        // Where the server has evicted the names, what is there has to show the index.
        let names = server.keys("larder:instance:n*").await.unwrap();
        server.command(&[b"DEL".to_vec(), names[0].clone()]).await.unwrap();
        larder(&server, &["get", "instance", "hosts", "a"])
            .await
            .refused(1, "shows an index `hosts`; it has `host`; did you mean `host`?");
        let told = larder(&server, &["get", "instance", "hosts", "a", "--json"]).await.json();
        assert_eq!((&told["index_exists"], &told["found"]), (&Value::Null, &json!(false)));
        larder(&server, &["get", "instance", "id", "1", "--json"]).await.done();
        larder(&server, &["get", "instances", "host", "a"]).await.refused(1, "which has `instance`");

        server.command(&["DEL", "larder:instance:c"]).await.unwrap();
        larder(&server, &["get", "instance", "host", "a"]).await.refused(1, "the clock of the cache is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_came_back_with_old_data_is_not_trusted() {
    for server in servers(ServerOptions::default().persistent()).await {
        let service = Service::<Instance>::on(&server).await;
        service.set(Instance::new("1", &["a"], "x", 1)).await;
        drop(service);
        server.restart().await.unwrap();
        let told = larder(&server, &["get", "instance", "host", "a", "--json"]).await;
        assert_eq!((told.code, told.json()["copies"].as_array().unwrap().len()), (Some(1), 1));
        assert!(told.json()["reason"].as_str().unwrap().contains("restarted"), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_release_has_its_copy() {
    for server in servers(ServerOptions::default()).await {
        let (old, new) = (Service::<Site>::on(&server).await, Service::<next::Site>::on(&server).await);
        let fill = new.ticket(next::Site::ID).await;
        assert_eq!(
            old.cache.fill(Site::new("1", &["a"], "x"), old.ticket(larder_testing::entries::Site::ID).await).await,
            larder::Stored::Accepted
        );
        let told = larder(&server, &["get", "site", "host", "a", "--json"]).await.done().json();
        assert_eq!(told["not_stored_by"], json!([format!("{:016x}", new.cache.schema().fingerprint())]));

        assert_eq!(new.cache.fill(next::Site::new("1", &["a"], "x"), fill).await, larder::Stored::Accepted);
        let told = larder(&server, &["get", "site", "host", "a", "--json"]).await.done().json();
        assert_eq!((told["copies"].as_array().unwrap().len(), &told["not_stored_by"]), (2, &json!([])));
        let regions: Vec<_> = told["copies"].as_array().unwrap().iter().map(|copy| &copy["object"]["region"]).collect();
        assert!(regions.contains(&&json!(7)) && regions.contains(&&Value::Null), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_parts_and_of_bytes() {
    for server in servers(ServerOptions::default()).await {
        let accounts = Service::<Account>::on(&server).await;
        accounts.set(Account::new("acme", 7, &[("acme", "jo")])).await;
        let told = larder(&server, &["get", "account", "login", "--part", "acme", "--part", "jo"]).await;
        assert_eq!((told.code, told.json()["id"].clone()), (Some(0), json!(["acme", 7])));
        assert!(told.logged.contains("login: \"4:acme,2:jo,\", of the parts [\"acme\",\"jo\"]"), "{told:?}");
        let told =
            larder(&server, &["get", "account", "id", "--part", "acme", "--part", "7", "--json"]).await.done().json();
        assert_eq!(told["copies"][0]["keys"][0]["parts"], json!(["acme", "7"]));
        larder(&server, &["get", "account", "login", "acme,jo"]).await.refused(1, "nothing there");

        let blobs = Service::<Blob>::on(&server).await;
        blobs.set(Blob::new([0, 0xff, b':'], Some(b"\xfe"), None)).await;
        let told = larder(&server, &["get", "blob", "id", "--hex", "fe", "--json"]).await.done().json();
        assert_eq!(told["primary_key"], json!({ "$bytes": "00ff3a" }));
        larder(&server, &["get", "blob", "i", "--hex", "00ff3a", "--json"]).await.done();
        larder(&server, &["get", "blob", "id2", "--hex", "fe"]).await.refused(1, "no index key leads from it");
        larder(&server, &["get", "blob", "id3", "--hex", "fe"]).await.refused(1, "has no index `id3`");
    }
}
