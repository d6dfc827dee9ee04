//! What goes wrong, and what is told of it: each error says which command mends it.

use crate::service::{Service, at, command, on, run, servers, with, with_file, yaml};
use larder_testing::entries::Site;
use larder_testing::server::{Server, ServerOptions};

const COMMANDS: [&[&str]; 7] = [
    &["get", "site", "host", "a"],
    &["invalidate", "site", "host", "a"],
    &["delete", "site", "host", "a"],
    &["truncate", "site", "--yes"],
    &["prune", "site"],
    &["stats"],
    &["bench"],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_and_a_database_that_is_not_there() {
    for server in servers().await {
        for arguments in COMMANDS {
            with("host=/nowhere user=ann", arguments).await.refused(1, "see `larder check`");
            let no_database = server.dsn().replace("dbname=larder", "dbname=other");
            with(&no_database, arguments).await.refused(1, "create the database, or correct `dbname`");
            let told = with("host=/nowhere user=ann", &[arguments, &["--json"]].concat()).await;
            assert_eq!(told.json()["exit_code"], 1, "{told:?}");
            assert!(told.json()["error"].as_str().unwrap().contains("cannot be reached"), "{told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_larders_tables() {
    for server in servers().await {
        for arguments in COMMANDS {
            at(&server, arguments).await.refused(1, "run `larder postgres setup`");
        }
        assert_eq!(server.psql("SELECT to_regnamespace('larder') IS NULL").unwrap(), "t", "nothing was made");
        assert_eq!(crate::service::larder(&["postgres", "setup", &server.dsn()]).code, Some(0));
        at(&server, &["get", "site", "host", "a"]).await.refused(1, "which has none");
        let told = at(&server, &["stats"]).await.done().told;
        assert!(
            told.contains("no caches here") && told.contains("nothing is cached until a service connects"),
            "{told}"
        );
        server.psql("CREATE OR REPLACE FUNCTION larder.version() RETURNS int4 LANGUAGE sql AS 'SELECT 9'").unwrap();
        at(&server, &["stats"]).await.refused(1, "of version 9, and this larder knows version 1: use a larder of");
    }
}

/// The statements in the errors can be run, and then the command works.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        server.psql("CREATE ROLE ann LOGIN").unwrap();
        for arguments in COMMANDS {
            let told = with(&on(&server, "ann"), arguments).await;
            told.refused(1, "the user ann may not use the schema larder; GRANT USAGE ON SCHEMA larder TO ann; ");
        }
        server.psql("GRANT USAGE ON SCHEMA larder TO ann").unwrap();
        for arguments in &COMMANDS[..6] {
            let told = with(&on(&server, "ann"), arguments).await;
            told.refused(1, "permission denied for table ");
            let (_, grants) = told.logged.split_once("; ").unwrap();
            assert!(grants.starts_with("GRANT USAGE ON SCHEMA larder TO ann; GRANT SELECT"), "{told:?}");
        }
        let told = with(&on(&server, "ann"), COMMANDS[0]).await;
        server.psql(told.logged.split_once("; ").unwrap().1).unwrap();
        for arguments in &COMMANDS[1..6] {
            with(&on(&server, "ann"), arguments).await.done();
        }
        // Only what changes something needs a right to change it.
        server.psql("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA larder FROM ann").unwrap();
        service.set(Site::new("1", &["a"], "x")).await;
        for arguments in [COMMANDS[0], COMMANDS[1], COMMANDS[3], COMMANDS[5]] {
            let told = with(&on(&server, "ann"), arguments).await;
            service.set(Site::new("1", &["a"], "x")).await;
            assert_eq!(told.code, Some(0), "{told:?}");
        }
        for arguments in [COMMANDS[2], COMMANDS[4]] {
            with(&on(&server, "ann"), arguments).await.refused(1, "permission denied for ");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby() {
    for server in servers().await {
        let _service = Service::<Site>::on(&server).await;
        let standby = server.standby().await.unwrap();
        for arguments in COMMANDS {
            at(&standby, arguments).await.refused(1, "target_session_attrs=read-write");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_by_its_url() {
    for server in servers().await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let url = server.dsn();
        let told = tokio::task::spawn_blocking(move || {
            run(command(&["get", "--postgres", &url, "site", "host", "a", "--json"]))
        });
        assert_eq!(told.await.unwrap().done().json()["found"], true);
    }
    for (arguments, why) in [
        (&["stats", "--postgres", "mysql://ann:barley@h"][..], "--postgres is neither a URL of a database nor"),
        (&["stats", "--postgres", ""], "the URL is empty"),
        (&["stats", "--postgres", "host=h", "--redis", "redis://h"], "cannot be used with"),
        (&["stats", "--postgres", "host=h", "--connector", "x"], "cannot be used with"),
    ] {
        let told = run(command(arguments));
        assert!(told.code == Some(2) && told.logged.contains(why) && !told.logged.contains("barley"), "{told:?}");
    }
}

/// A configuration of a Redis server and a database: a command goes where its cache is.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_redis_server() {
    for server in servers().await {
        let redis =
            Server::start(&larder_testing::server::required().unwrap()[0], ServerOptions::default()).await.unwrap();
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let configuration = format!(
            "connectors: {{ redis: {{ socket: '{}' }}, db: {{ kind: postgres, url: '{}', connect_timeout: 20s }} }}\n\
             caches: {{ site: {{ connector: db }}, other: {{ connector: redis }} }}\n",
            redis.socket().display(),
            server.dsn()
        );
        let told = tokio::task::spawn_blocking(move || {
            with_file(&configuration, &["get", "site", "host", "a", "--json"]).done();
            with_file(&configuration, &["get", "other", "host", "a"])
                .refused(1, "there is no cache `other` under the prefix");
            with_file(&configuration, &["get", "unheard", "host", "a"])
                .refused(2, "say --connector db or --connector redis");
            with_file(&configuration, &["bench"])
                .refused(2, "several servers: say --connector db or --connector redis");
            with_file(&configuration, &["stats", "--connector", "DB", "--json"]).done();
            with_file(&configuration, &["stats", "--json"]).done().json()
        });
        let told = told.await.unwrap();
        let caches: Vec<_> = told.as_array().unwrap().iter().map(|one| &one["caches"]).collect();
        assert_eq!((caches[0][0]["cache"].as_str(), caches[1].as_array().unwrap().len()), (Some("site"), 0));
    }
    let nowhere = "caches: { site: { connector: postgres } }";
    let told = with_file(nowhere, &["get", "site", "host", "a"]);
    assert_eq!(told.code, Some(2), "{told:?}");
    assert!(yaml("host=h", "").contains("postgres"));
}
