//! `larder stats`.

use crate::service::{Service, at, on, servers, with};
use larder_testing::entries::{Instance, Site, next};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is() {
    for server in servers().await {
        let instances = Service::<Instance>::with_ages(&server, Duration::from_secs(3600), Duration::ZERO).await;
        let (sites, new) = (Service::<Site>::on(&server).await, Service::<next::Site>::on(&server).await);
        for number in 0..300 {
            instances
                .set(Instance::new(&number.to_string(), &[&format!("a{number}"), &format!("b{number}")], "x", 1))
                .await;
        }
        sites.set(Site::new("1", &["a"], "x")).await;
        server.psql("UPDATE larder.objects SET until = now() WHERE mark = larder.mark('instance', 'id', '7')").unwrap();
        server.psql("SELECT larder.invalidate('instance', 'id', '8')").unwrap();

        let told = at(&server, &["stats", "--json"]).await.done().json();
        assert!(told["server"]["name"].as_str().unwrap().starts_with("PostgreSQL 1"), "{told}");
        assert_eq!(
            (&told["server"]["larder_clients"], &told["server"]["sees_all_sessions"]),
            (&json!(12), &json!(true))
        );
        let clock = &told["clock"];
        assert_eq!((&clock["generation"], &clock["of_this_database"]), (&json!(1), &json!(true)));
        // 300 sets of three keys, one of two, one invalidation.
        assert_eq!(told["fences"], json!({ "rows": 903, "estimated": false }));
        assert_eq!(told["changes"], json!({ "rows": 1, "estimated": false }));
        assert_eq!(told["prepared_transactions"], json!([]));
        let tables: Vec<&str> =
            told["tables"].as_array().unwrap().iter().map(|one| one["table"].as_str().unwrap()).collect();
        assert!(
            ["objects", "keys", "fences", "changes", "caches"].iter().all(|table| tables.contains(table)),
            "{told}"
        );
        let bytes = |value: &Value| value["bytes"].as_u64().unwrap();
        assert!(told["tables"].as_array().unwrap().iter().any(|one| one["table"] == "objects" && bytes(one) > 50_000));

        let [instance, site] = &told["caches"].as_array().unwrap()[..] else { panic!("{told}") };
        assert_eq!((&instance["cache"], &site["cache"]), (&json!("instance"), &json!("site")));
        assert_eq!(
            (&instance["objects"][0]["keys"], &instance["objects"][0]["over"], &instance["estimated"]),
            (&json!(300), &json!(1), &json!(false))
        );
        assert_eq!(instance["objects"][0]["indexes"], json!(["id", "host"]));
        assert_eq!(instance["index_keys"], json!([{ "index": null, "keys": 600 }]));
        assert!(bytes(instance) / 300 > 200 && bytes(instance) / 300 < 2_000, "{told}");
        let releases: Vec<_> =
            site["objects"].as_array().unwrap().iter().map(|one| (&one["fingerprint"], &one["keys"])).collect();
        assert!(releases.contains(&(&json!(sites.release()), &json!(1))), "{told}");
        assert!(releases.contains(&(&json!(new.release()), &json!(0))), "a release without objects is one: {told}");

        let told = at(&server, &["stats", "site", "--json"]).await.done().json();
        assert_eq!((told["caches"].as_array().unwrap().len(), &told["caches"][0]["cache"]), (1, &json!("site")));
        let told = at(&server, &["stats"]).await.done().told;
        assert!(told.contains("cache instance, about ") && told.contains("index keys 600 in all indexes"), "{told}");
        at(&server, &["stats", "nowhere"]).await.refused(1, "there is no cache `nowhere`");
    }
}

/// Who holds back vacuum, and what keeps the cache from being used.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_are_in_the_way() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let (client, connection) = tokio_postgres::connect(&server.dsn(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("BEGIN; SELECT pg_current_xact_id(), 'a secret'").await.unwrap();
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let told = at(&server, &["stats", "--json"]).await.done();
        let oldest = &told.json()["oldest_transaction"];
        assert_eq!((&oldest["pid"], &oldest["state"]), (&json!(pid), &json!("idle in transaction")), "{told:?}");
        assert!(!told.told.contains("secret"), "{told:?}");
        client.batch_execute("PREPARE TRANSACTION 'gid'").await.unwrap();
        // As after a crash: the tables are empty, and the first node looks for what is prepared.
        drop(service);
        server.psql("TRUNCATE larder.clock, larder.prepared, larder.caches; SELECT larder.register()").unwrap();
        let told = at(&server, &["stats", "--json"]).await.done().json();
        assert_eq!((&told["clock"], &told["prepared_transactions"][0]["gid"]), (&Value::Null, &json!("gid")));
        assert_eq!(told["prepared_transactions"][0]["keeps_the_clock_away"], json!(true));
        let told = at(&server, &["stats"]).await.done().told;
        assert!(
            told.contains("transaction gid, for") && told.contains("nothing is cached until it has ended"),
            "{told}"
        );
        server.psql("ROLLBACK PREPARED 'gid'").unwrap();
    }
}

/// Of a large table a part is read, and what is estimated is marked.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_is_estimated() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let many = "INSERT INTO larder.objects (mark, shape, writer, expires, idle, until, seen, marks, payload) \
                    SELECT n, o.shape, o.writer, o.expires, o.idle, o.until, o.seen, o.marks, convert_to(repeat('x', 1500), 'UTF8') \
                    FROM larder.objects o, generate_series(1, 45000) n";
        server.psql(many).unwrap();
        let told = at(&server, &["stats", "--json"]).await.done().json();
        let site = &told["caches"][0];
        let (objects, bytes) = (site["objects"][0]["keys"].as_u64().unwrap(), site["bytes"].as_u64().unwrap());
        assert_eq!(site["estimated"], json!(true));
        assert!((44_000..46_000).contains(&objects) && (66_000_000..90_000_000).contains(&bytes), "{site}");
        let told = at(&server, &["stats"]).await.done().told;
        assert!(told.contains("objects    ~4"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_all_sessions_is_told() {
    for server in servers().await {
        let _service = Service::<Site>::on(&server).await;
        server.psql("CREATE ROLE ann LOGIN; GRANT USAGE ON SCHEMA larder TO ann; GRANT SELECT ON ALL TABLES IN SCHEMA larder TO ann").unwrap();
        let told = with(&on(&server, "ann"), &["stats"]).await.done().told;
        assert!(told.contains("GRANT pg_read_all_stats"), "{told}");
    }
}
