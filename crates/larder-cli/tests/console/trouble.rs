//! What goes wrong, and what is told of it.

use crate::service::{Service, command, larder, run, servers};
use larder_testing::entries::{Site, SiteIndex};
use larder_testing::server::ServerOptions;

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
async fn a_dead_server_and_a_wrong_password() {
    for server in servers(ServerOptions::default().config("requirepass opensesame")).await {
        for arguments in COMMANDS {
            larder(&server, arguments).await.refused(1, "the server wants a password");
            let url = server.url().replace("redis+unix://", "redis+unix://:barley@");
            let wrong = run(command(&[arguments, &["--redis", &url]].concat())).await;
            wrong.refused(1, "refuses the password");
            assert!(!format!("{wrong:?}").contains("barley"), "{wrong:?}");
            let dead = run(command(&[arguments, &["--redis", "redis://:barley@127.0.0.1:1"]].concat())).await;
            dead.refused(1, "cannot connect to 127.0.0.1:1");
            assert!(!format!("{dead:?}").contains("barley"), "{dead:?}");
        }
        // Out of the environment, a password is in no list of processes.
        let mut stats = command(&["stats", "--redis", &server.url()]);
        stats.env("LARDER_CONNECTORS_REDIS_PASSWORD", "opensesame");
        run(stats).await.done();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_answered_is_an_error() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        // The script is let in, and what it does is not.
        server.command(&["ACL", "SETUSER", "op", "on", ">pass", "~*", "+@all", "-unlink"]).await.unwrap();
        let url = server.url().replace("redis+unix://", "redis+unix://op:pass@");
        let told = run(command(&["invalidate", "site", "host", "a", "--redis", &url])).await;
        told.refused(1, "0 of 1 keys were handled, the others perhaps; repeat it");
        let told = run(command(&["truncate", "site", "--yes", "--redis", &url])).await;
        told.refused(1, "Repeat it");
        // The truncate has begun, and ends later: nobody fills from before it.
        assert!(service.cache.get(SiteIndex::Host, "a").await.is_some());
        let told = larder(&server, &["get", "site", "host", "a", "--json"]).await.told;
        assert!(told.contains("being cleared"), "{told}");
        larder(&server, &["truncate", "site", "--yes"]).await.done();
        assert!(service.cache.get(SiteIndex::Host, "a").await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let memory = file(
        "memory.yaml",
        "connectors: { redis: { address: '127.0.0.1:1' } }\ncaches: { site: { connector: memory } }\n",
    );
    let serverless = file("none.yaml", "defaults: { connector: memory }\n");
    let wrong = file("wrong.yaml", "connectors: { redis: { adress: x } }\n");
    for (arguments, why) in [
        (&["get", "-c", &memory, "site", "id", "1"][..], "on the memory connector"),
        (&["truncate", "-c", &memory, "site", "--yes"], "on the memory connector"),
        (&["stats", "-c", &serverless], "the configuration has no server"),
        (&["stats", "-c", &wrong], "did you mean `address`?"),
        (&["stats", "--redis", "http://user:barley@host"], "--redis has a scheme"),
        (&["stats", "--redis", "redis://host", "--prefix", "a:b"], "--prefix"),
        (&["get", "--redis", "redis://127.0.0.1:1", "site", "id"], "no key was given"),
        (&["get", "--redis", "redis://127.0.0.1:1", "site", "id", "--hex", "abc"], "hexadecimal"),
        (&["get", "--redis", "redis://127.0.0.1:1", "site", "id", "x", "--part", "y"], "either KEY or --part"),
    ] {
        let told = run(command(arguments)).await;
        told.refused(2, why);
        assert!(!told.logged.contains("barley"), "{told:?}");
    }
    for arguments in [&["get", "site", "id", "1"][..], &["stats", "-c", &memory, "--redis", "redis://host"]] {
        assert_eq!(run(command(arguments)).await.code, Some(2));
    }
    assert_eq!(
        run(command(&["get", "--redis", "redis://127.0.0.1:1", "site", "id", ""])).await.code,
        Some(1),
        "no server"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_a_service_are_enough() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let rights = "+get +mget +getrange +set +setrange +bitfield +unlink +exists +rename +persist +pexpire +time +scan +eval \
                      +evalsha +ping +hello +auth +select";
        let user = ["ACL", "SETUSER", "op", "on", ">pass", "~larder:*"].into_iter().chain(rights.split_whitespace());
        server.command(&user.collect::<Vec<_>>()).await.unwrap();
        let url = server.url().replace("redis+unix://", "redis+unix://op:pass@");
        let told = run(command(&["get", "site", "host", "a", "--json", "--redis", &url])).await.done().json();
        assert_eq!(told["copies"][0]["expiry_known"], false);
        for arguments in &COMMANDS[1..6] {
            run(command(&[arguments, &["--redis", &url][..]].concat())).await.done();
        }
        let told = run(command(&["bench", "--redis", &url])).await;
        assert_eq!(told.code, Some(1), "{told:?}");
        assert!(server.keys("*bench*").await.unwrap().is_empty());
    }
}
