//! What is not larder's, in larder's places: keys of another Redis type, names that only look alike, and damaged clocks.

use crate::service::{Service, larder, servers};
use larder_testing::entries::Site;
use larder_testing::server::ServerOptions;
use serde_json::{Value, json};

/// Every command that reads the clock of the cache.
const ON_OTHER: [&[&str]; 5] = [
    &["get", "other", "host", "a"],
    &["invalidate", "other", "host", "a"],
    &["delete", "other", "host", "a"],
    &["prune", "other"],
    &["truncate", "other", "--yes"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_where_a_clock_should_be() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        server.command(&["XADD", "larder:other:c", "*", "field", "value"]).await.unwrap();

        let told = larder(&server, &["stats", "--json"]).await.done().json();
        let [other, site] = &told["caches"].as_array().unwrap()[..] else { panic!("{told}") };
        assert_eq!((&other["cache"], &other["clock"], &site["cache"]), (&json!("other"), &Value::Null, &json!("site")));
        assert!(other["trouble"].as_str().unwrap().contains("a key of the Redis type stream"), "{told}");
        assert_eq!((&site["trouble"], &site["objects"][0]["keys"]), (&Value::Null, &json!(1)));
        let told = larder(&server, &["stats"]).await.done().told;
        assert!(told.contains("TROUBLE    `larder:other:c`") && told.contains("index keys 1, "), "{told}");
        larder(&server, &["stats", "other"]).await.done();

        for arguments in ON_OTHER {
            larder(&server, arguments).await.refused(1, "is a key of the Redis type stream, which is not larder's");
        }
        assert_eq!(server.command(&["EXISTS", "larder:other:c"]).await.unwrap().int(), Some(1), "it is not ours");
        larder(&server, &["get", "site", "host", "a", "--json"]).await.done();
        larder(&server, &["truncate", "site", "--yes"]).await.done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_damaged() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        for (damage, why) in [
            (&["SET", "larder:site:c", "somebody else's"][..], "it has not the length of a clock"),
            (&["APPEND", "larder:site:c", "x"], "it has not the length of a clock"),
            (&["SETRANGE", "larder:site:c", "0", "\u{7f}"], "its epoch or its sequence is out of range"),
            (&["SETRANGE", "larder:site:c", "23", "x"], "its state is none that there is"),
            (&["SETRANGE", "larder:site:c", "48", "x"], "its list of releases cannot be read"),
        ] {
            server.command(damage).await.unwrap();
            let told = larder(&server, &["stats", "--json"]).await.done().json();
            assert!(told["caches"][0]["trouble"].as_str().unwrap().contains(why), "{damage:?}: {told}");
            for arguments in
                [&["get", "site", "host", "a"][..], &["invalidate", "site", "host", "a"], &["prune", "site"]]
            {
                larder(&server, arguments).await.refused(1, why);
            }
            larder(&server, &["truncate", "site", "--yes"]).await.done();
            let told = larder(&server, &["stats", "--json"]).await.done().json();
            assert_eq!(
                (&told["caches"][0]["trouble"], &told["caches"][0]["clock"]["state"]),
                (&Value::Null, &json!("settled"))
            );
        }
        // The service goes on with the new one.
        let ticket = service.ticket(Site::ID).await;
        assert_eq!(service.cache.fill(Site::new("1", &["a"], "x"), ticket).await, larder::Stored::Accepted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_type_and_names_that_only_look_alike() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let mut foreign = vec![];
        for name in [
            "larder:foreign",
            "larder:session:v1",
            "larder:session:secret",
            "larder:no name:c",
            "larder:site:irrelevant",
        ] {
            server.command(&["LPUSH", name, "x"]).await.unwrap();
            foreign.push(name);
        }
        for name in [service.object("2"), "larder:site:ihost:b".to_owned(), "larder:site:v3".to_owned()] {
            server.command(&["LPUSH", &name, "x"]).await.unwrap();
        }
        let told = larder(&server, &["stats", "--json"]).await.done().json();
        let caches: Vec<_> = told["caches"].as_array().unwrap().iter().map(|cache| cache["cache"].clone()).collect();
        assert_eq!(caches, [json!("site")], "{told}");
        larder(&server, &["get", "nowhere", "id", "1"]).await.refused(1, "which has `site`");
        larder(&server, &["get", "site", "id", "2"]).await.refused_with_more(1, "a value of another Redis type");
        larder(&server, &["get", "site", "host", "b"]).await.refused(1, "no index key leads from it");
        larder(&server, &["invalidate", "site", "host", "b", "a"]).await.done();
        assert!(service.cache.get(Site::ID, "1").await.is_none());
        larder(&server, &["invalidate", "site", "id", "2", "--below", "3"]).await.done();
        larder(&server, &["delete", "site", "host", "b"]).await.done();
        larder(&server, &["prune", "site"]).await.done();
        for name in foreign {
            assert_eq!(server.command(&["EXISTS", name]).await.unwrap().int(), Some(1), "{name}");
        }
        larder(&server, &["truncate", "site", "--yes"]).await.done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_may_not_be_read() {
    for server in servers(ServerOptions::default()).await {
        let _service = Service::<Site>::on(&server).await;
        server.command(&["SET", "larder:other:c", "x"]).await.unwrap();
        server.command(&["ACL", "SETUSER", "op", "on", ">pass", "~larder:site:*", "+@all"]).await.unwrap();
        let url = server.url().replace("redis+unix://", "redis+unix://op:pass@");
        let told =
            crate::service::run(crate::service::command(&["stats", "--redis", &url, "--json"])).await.done().json();
        let [other, site] = &told["caches"].as_array().unwrap()[..] else { panic!("{told}") };
        assert!(other["trouble"].as_str().unwrap().contains("may not be read"), "{told}");
        assert_eq!(site["clock"]["state"], "settled");
    }
}

/// The names of caches are compared as in a configuration.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_by_a_name_that_is_spelt_otherwise() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        for name in ["site", "Site", "SITE", "s_i-t_e"] {
            service.set(Site::new("1", &["a"], "x")).await;
            let told = larder(&server, &["get", name, "host", "a", "--json"]).await.done().json();
            assert_eq!(told["cache"], "site");
            let told = larder(&server, &["stats", name, "--json"]).await.done().json();
            assert_eq!(told["caches"][0]["cache"], "site");
            let told = larder(&server, &["invalidate", name, "id", "1", "--json"]).await.done().json();
            assert_eq!(told["cache"], "site");
            assert!(service.cache.get(Site::HOST, "a").await.is_none());
            for command in [&["prune", name, "--json"][..], &["truncate", name, "--yes", "--json"]] {
                assert_eq!(larder(&server, command).await.done().json()["cache"], "site");
            }
        }
        larder(&server, &["get", "sites", "id", "1"]).await.refused(1, "did you mean `site`?");
        // One that is there exactly is meant; others are asked about.
        server.command(&["COPY", "larder:site:c", "larder:SITE:c"]).await.unwrap();
        let told = larder(&server, &["stats", "SITE", "--json"]).await.done().json();
        assert_eq!(told["caches"][0]["cache"], "SITE");
        larder(&server, &["stats", "Site"]).await.refused(1, "`Site` names several caches: `SITE`, `site`");
    }
}
