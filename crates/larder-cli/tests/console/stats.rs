//! `larder stats`.

use crate::service::{Service, larder, servers};
use larder_testing::entries::{Instance, Site, next};
use larder_testing::server::ServerOptions;
use serde_json::{Value, json};

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
