//! What goes wrong, and what is told of it.

use crate::service::{Service, command, larder, run, run_with, servers};
use larder_testing::entries::Site;
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

/// A program that has asked for JSON gets one object whatever happens, and people are told all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_an_object_too() {
    for server in servers(ServerOptions::default()).await {
        let _service = Service::<Site>::on(&server).await;
        let unreachable = ["--redis", "redis://127.0.0.1:1"];
        for arguments in COMMANDS {
            let told = run(command(&[arguments, &unreachable[..], &["--json"]].concat())).await;
            told.refused(1, "cannot connect to 127.0.0.1:1");
            assert_eq!(told.json()["exit_code"], 1);
            assert!(told.json()["error"].as_str().unwrap().starts_with("cannot connect to 127.0.0.1:1"), "{told:?}");
        }
        for (arguments, code, why) in [
            (&["get", "site", "hosts", "a", "--json"][..], 1, "has no index `hosts`"),
            (&["invalidate", "site", "hosts", "a", "--json"], 1, "has no index `hosts`"),
            (&["stats", "nowhere", "--json"], 1, "there is no cache `nowhere`"),
            (&["truncate", "site", "--json"], 2, "say --yes"),
            (&["get", "site", "--json"], 2, "required arguments were not provided"),
            (&["get", "--json", "--jsn"], 2, "unexpected argument '--jsn'"),
        ] {
            let told = larder(&server, arguments).await;
            assert_eq!((told.code, &told.json()["exit_code"]), (Some(code), &code.into()), "{told:?}");
            assert!(told.json()["error"].as_str().unwrap().contains(why) && told.logged.contains(why), "{told:?}");
        }
        let told = run(command(&["get", "--redis", "redis://127.0.0.1:1", "site", "id", "--", "--json"])).await;
        assert_eq!((told.code, told.told.as_str()), (Some(1), ""), "a key that is called so");
    }
    let told = run(command(&["check", "-c", "/nowhere/caches.yaml", "--json"])).await;
    assert!(told.code == Some(2) && told.json()["errors"][0].as_str().unwrap().contains("/nowhere"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_colours_where_nobody_looks() {
    for server in servers(ServerOptions::default()).await {
        let mut bench = command(&["bench", "--redis", &server.url(), "--objects", "100", "--rounds", "1"]);
        bench.env("RUST_LOG", "info");
        let told = run(bench).await;
        assert!(told.code == Some(0) && told.logged.contains("INFO"), "{told:?}");
        assert!(!told.logged.contains('\u{1b}') && !told.told.contains('\u{1b}'), "{told:?}");
    }
}

/// The same configuration as a file and on stdin, in both languages.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_on_stdin() {
    for server in servers(ServerOptions::default()).await {
        let service = Service::<Site>::on(&server).await;
        service.set(Site::new("1", &["a"], "x")).await;
        let socket = server.socket().display();
        let yaml =
            format!("connectors: {{ redis: {{ socket: '{socket}' }} }}\ncaches: {{ site: {{ connector: redis }} }}\n");
        let toml = format!("[connectors.redis]\nsocket = '{socket}'\n[caches.site]\nconnector = 'redis'\n");
        for text in [&yaml, &toml] {
            run_with(command(&["get", "-c", "-", "Site", "host", "a", "--json"]), text).await.done();
            let told = run_with(command(&["check", "-c", "-", "--json"]), text).await;
            assert_eq!((told.code, &told.json()["connectors"][0]["caches"][0]), (Some(0), &"site".into()));
        }
        let mut overlaid = command(&["stats", "-c", "-", "--json"]);
        overlaid.env("LARDER_CONNECTORS_REDIS_PREFIX", "another");
        assert_eq!(run_with(overlaid, &yaml).await.done().json()["prefix"], "another");
        run_with(command(&["stats", "-c", "-"]), "caches: { site: { conector: redis } }")
            .await
            .refused_with_more(2, "stdin: line 1: ");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_manual() {
    for (shell, sign) in [("bash", "complete -F _larder"), ("zsh", "#compdef larder"), ("fish", "complete -c larder")] {
        let told = run(command(&["completions", shell])).await.done().told;
        assert!(told.contains(sign) && told.contains("invalidate"), "{shell}");
    }
    let told = run(command(&["man"])).await.done().told;
    assert!(told.contains(".TH larder 1") && told.contains("invalidate"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    run(command(&["man", &pages.display().to_string()])).await.done();
    let get = std::fs::read_to_string(pages.join("larder-get.1")).unwrap();
    assert!(get.contains("this does not count as use"), "{get}");
    run(command(&["man", "/dev/null/man"])).await.refused(1, "the manual cannot be written");
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
        assert!(service.cache.get(Site::HOST, "a").await.is_some());
        let told = larder(&server, &["get", "site", "host", "a", "--json"]).await.told;
        assert!(told.contains("being cleared"), "{told}");
        larder(&server, &["truncate", "site", "--yes"]).await.done();
        assert!(service.cache.get(Site::HOST, "a").await.is_none());
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
        (&["get", "--redis", "redis://127.0.0.1:1", "site", "id", "acme", "u 1"], "say --part acme --part 'u 1'"),
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
