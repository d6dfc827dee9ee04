//! A configuration of several servers: which one a command goes to.

use crate::service::{Service, command, run, run_with, servers};
use larder_testing::entries::{Instance, Site};
use larder_testing::server::ServerOptions;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_finds_the_server_of_its_cache() {
    let (mut main, mut other) = (servers(ServerOptions::default()).await, servers(ServerOptions::default()).await);
    let (main, other) = (main.remove(0), other.remove(0));
    let (instances, sites) = (Service::<Instance>::on(&main).await, Service::<Site>::on(&other).await);
    instances.set(Instance::new("1", &["a"], "x", 1)).await;
    sites.set(Site::new("2", &["b"], "x")).await;
    let configuration = format!(
        "
        connectors:
          redis: {{ socket: '{}' }}
          sites: {{ kind: redis, socket: '{}' }}
        caches: {{ instance: {{ connector: redis }}, site: {{ connector: sites }}, local: {{ connector: memory }} }}
        ",
        main.socket().display(),
        other.socket().display()
    );
    let on = async |arguments: &[&str]| run_with(command(&[arguments, &["-c", "-"]].concat()), &configuration).await;
    on(&["get", "instance", "host", "a", "--json"]).await.done();
    on(&["get", "site", "host", "b", "--json"]).await.done();
    on(&["invalidate", "site", "host", "b"]).await.done();
    assert_eq!(on(&["get", "site", "host", "b"]).await.code, Some(1));
    on(&["get", "instance", "host", "a", "--json"]).await.done();

    let stats = on(&["stats", "--json"]).await.done().json();
    let of: Vec<_> = stats.as_array().unwrap().iter().map(|one| one["caches"][0]["cache"].as_str().unwrap()).collect();
    assert_eq!(of, ["instance", "site"]);
    let stats = on(&["stats", "site", "--json"]).await.done().json();
    assert_eq!(stats["address"], other.socket().display().to_string());
    let stats = on(&["stats", "--connector", "Sites", "--json"]).await.done().json();
    assert_eq!(stats["address"], other.socket().display().to_string());
    let told = on(&["stats"]).await.done().told;
    assert!(told.contains("instance") && told.contains("site"), "{told}");

    let both = "say --connector redis or --connector sites";
    on(&["get", "unheard", "id", "1"]).await.refused(
        2,
        &format!("the configuration has several servers, and does not say which the cache `unheard` is on: {both}"),
    );
    on(&["bench"]).await.refused(2, &format!("the configuration has several servers: {both}"));
    on(&["stats", "--connector", "site"]).await.refused(2, &format!("has no server called `site`: {both}"));
    on(&["get", "local", "id", "1"]).await.refused(2, "is on the memory connector");
    let both_given = run(command(&["stats", "--redis", "redis://h", "--connector", "x"])).await;
    assert!(both_given.code == Some(2) && both_given.logged.contains("cannot be used with"), "{both_given:?}");
}

/// A cache that a configuration of one server does not list is on that server.
#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_cache_is_on_the_only_server() {
    for server in servers(ServerOptions::default()).await {
        let sites = Service::<Site>::on(&server).await;
        sites.set(Site::new("2", &["b"], "x")).await;
        let configuration =
            format!("connectors: {{ main: {{ kind: redis, socket: '{}' }} }}", server.socket().display());
        run_with(command(&["get", "-c", "-", "site", "host", "b", "--json"]), &configuration).await.done();
    }
}
