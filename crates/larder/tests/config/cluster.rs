//! The nodes of a cluster: how a file, a URL, variables and code give them.

use super::{load, refusal, yaml};
use larder::connector::redis::{Address, RedisOptions};
use larder::{ConnectorName, ConnectorOptions};

fn options(text: &str, variables: &[(&str, &str)]) -> RedisOptions {
    let config = load("caches.yaml", text, variables).unwrap_or_else(|error| panic!("{error}\n{text}"));
    match config.connector(ConnectorName::from("redis")) {
        Some(ConnectorOptions::Redis(options)) => (**options).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_a_url_variables_and_code_give_the_same_nodes() {
    let meant = RedisOptions::new("10.0.0.1:7000").cluster(["10.0.0.2:7000", "10.0.0.3:7000"]);
    let of_file = r#"connectors: { redis: { address: "10.0.0.1:7000", cluster: ["10.0.0.2:7000", "10.0.0.3:7000"] } }"#;
    assert_eq!(options(of_file, &[]), meant);
    let of_url = r#"connectors: { redis: { url: "redis-cluster://10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000" } }"#;
    assert_eq!(options(of_url, &[]), meant);
    let variables = [("LARDER_CONNECTORS_REDIS_CLUSTER", "10.0.0.2:7000, 10.0.0.3:7000")];
    assert_eq!(options(r#"connectors: { redis: { address: "10.0.0.1:7000" } }"#, &variables), meant);
    // The variable wins over the file.
    let other = r#"connectors: { redis: { address: "10.0.0.1:7000", cluster: ["h:1"] } }"#;
    assert_eq!(options(other, &variables), meant);

    let alone = options(r#"connectors: { redis: { address: "10.0.0.1:7000", cluster: [] } }"#, &[]);
    assert_eq!(alone.cluster, Some(Vec::<Address>::new()), "one node is enough");
    let single = options(r#"connectors: { redis: { address: "10.0.0.1:7000" } }"#, &[]);
    assert_eq!(single.cluster, None);
}

#[test]
fn what_is_effective_can_be_loaded_again() {
    let config = yaml(r#"connectors: { redis: { url: "redis-cluster://10.0.0.1:7000,10.0.0.2:7000" } }"#);
    let effective = config.effective().to_string();
    assert!(effective.contains("cluster:") && effective.contains("10.0.0.2:7000"), "{effective}");
    assert_eq!(yaml(&effective).effective().to_string(), effective);
}

#[test]
fn what_is_wrong_is_told() {
    for (text, wrong) in [
        (r#"{ address: "h:1", cluster: ["redis://h"] }"#, "cluster has one that is no host and port"),
        (r#"{ address: "h:1", cluster: [], database: 3 }"#, "because a cluster has no other"),
        (r#"{ url: "redis-cluster://h", cluster: [] }"#, "url"),
        (r#"{ cluster: ["h:1"] }"#, "does not say where the server is"),
    ] {
        let said = refusal(&format!("connectors: {{ redis: {text} }}\ncaches: {{ instance: {{ connector: redis }} }}"));
        assert!(said.contains(wrong), "{text}: {said}");
    }
}
