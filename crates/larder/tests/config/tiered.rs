//! Tiered connectors in a configuration.

use super::{load, refusal, yaml};
use larder::connector::tiered::{Consistency, TieredOptions};
use larder::{Config, ConnectorKind, TierOptions};
use std::time::Duration;

const WHOLE: &str = "
connectors:
  near: { kind: tiered, over: Main, max_objects: 7, max_bytes: 64 MiB, consistency: wait_only, validity: 250ms }
  main: { kind: redis, address: h }
  tiered: { over: redis }
  redis: { address: other }
caches:
  instance: { connector: near }
  session: { connector: tiered }
";

fn near() -> TierOptions {
    TieredOptions::new()
        .max_objects(7)
        .max_bytes(64 << 20)
        .consistency(Consistency::WaitOnly)
        .validity(Duration::from_millis(250))
        .over("main")
}

/// The error for these connectors, and a cache on the connector `near`.
fn refused(connectors: &str) -> String {
    refusal(&format!("{{ connectors: {{ {connectors} }}, caches: {{ x: {{ connector: near }} }} }}"))
}

/// The kind is `tiered`, and the connector it is over may come after it.
#[test]
fn a_file_and_code_give_the_same_tier() {
    let config = yaml(WHOLE);
    assert_eq!(config.connector("near"), Some(&near().into()));
    assert_eq!(config.connector("near").unwrap().kind(), ConnectorKind::Tiered);
    assert_eq!(config.tiered(), Some(&TieredOptions::new().over("redis")));
    assert_eq!(config.notes(), [], "a cache on a tier uses the connector below it");
    for (name, below) in [("near", "main"), ("tiered", "redis"), ("main", "main"), ("memory", "memory")] {
        assert_eq!(config.below(name).unwrap().0.as_str().to_lowercase(), below);
    }
    assert!(config.below("other").is_none());
}

#[test]
fn toml_says_the_same_as_yaml() {
    let toml = "
        connectors.near = { kind = 'tiered', over = 'Main', max_objects = 7, max_bytes = '64 MiB', consistency = 'wait-only', validity = '250ms' }
        connectors.main = { kind = 'redis', address = 'h' }
        connectors.tiered.over = 'redis'
        connectors.redis.address = 'other'
        caches.instance.connector = 'near'
        caches.session.connector = 'tiered'
        ";
    let (toml, yaml) = (Config::from_toml(toml).unwrap(), yaml(WHOLE));
    assert_eq!(toml.effective().to_string(), yaml.effective().to_string());
}

#[test]
fn the_effective_configuration_can_be_loaded_again() {
    for text in [WHOLE, "connectors: { tiered: { max_objects: 3 } }", ""] {
        let effective = yaml(text).effective().to_string();
        assert_eq!(yaml(&effective).effective().to_string(), effective);
    }
    let shown = yaml(WHOLE).effective().to_string();
    for part in [
        "  tiered:\n    over: redis\n    max_objects: 10000\n    max_bytes: 0\n    consistency: strict\n    validity: 1s\n",
        "  near:\n    kind: tiered\n    over: Main\n    max_objects: 7\n    max_bytes: 64 MiB\n    consistency: wait-only\n    validity: 250ms\n",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    let unused = yaml("connectors: { tiered: { max_objects: 3 } }").effective().to_string();
    assert!(unused.contains("  tiered:\n    max_objects: 3\n"), "{unused}");
}

#[test]
fn variables_outrank_the_file_and_make_tiers() {
    let variables = [
        ("LARDER_CONNECTORS_NEAR_OVER", "redis"),
        ("LARDER_CONNECTORS_NEAR_CONSISTENCY", "Bounded"),
        ("LARDER_CONNECTORS_TIERED_VALIDITY", "100ms"),
        ("LARDER_CONNECTORS_ANOTHER_KIND", "tiered"),
        ("LARDER_CONNECTORS_ANOTHER_OVER", "main"),
    ];
    let config = load("a.yaml", WHOLE, &variables).unwrap();
    let near = near().options.consistency(Consistency::Bounded).over("redis");
    assert_eq!(config.connector("near"), Some(&near.into()));
    assert_eq!(config.tiered(), Some(&TieredOptions::new().validity(Duration::from_millis(100)).over("redis")));
    assert_eq!(config.connector("another"), Some(&TieredOptions::new().over("main").into()));

    let alone = Config::from_variables([
        ("LARDER_CONNECTORS_REDIS_ADDRESS", "h"),
        ("LARDER_CONNECTORS_TIERED_OVER", "redis"),
        ("LARDER_DEFAULTS_CONNECTOR", "tiered"),
    ]);
    assert_eq!(alone.unwrap().cache("any").unwrap().connector.as_str(), "tiered");
    let said = load("a.yaml", WHOLE, &[("LARDER_CONNECTORS_NEAR_OVER", "memory")]).unwrap_err();
    assert_eq!(
        said,
        "environment variable LARDER_CONNECTORS_NEAR_OVER: connectors.near.over is `memory`, of the kind memory: give a connector of the kind \
         redis or postgres: main or redis"
    );
}

#[test]
fn a_connector_over_which_there_can_be_no_tier_is_refused() {
    let with = |over: &str| {
        refused(&format!(
            "near: {{ kind: tiered, over: {over} }}, far: {{ kind: tiered, over: main }}, main: {{ kind: redis, address: h }}, \
             db: {{ kind: postgres, url: 'host=h' }}, mine: {{ kind: own }}"
        ))
    };
    let postgres = "of the kind postgres, and is strict: over a database a tier can only be bounded, since nodes hear of a change from the feed, within \
                    `feed_deadline`; give `consistency: bounded`";
    for (over, problem) in [
        ("mein", "which is no connector (did you mean `main`?): give a connector of the kind redis or postgres: db or main".to_owned()),
        ("barley", "which is no connector: give a connector of the kind redis or postgres: db or main".to_owned()),
        ("memory", "of the kind memory: give a connector of the kind redis or postgres: db or main".to_owned()),
        ("none", "of the kind none: give a connector of the kind redis or postgres: db or main".to_owned()),
        ("mine", "of the kind own: give a connector of the kind redis or postgres: db or main".to_owned()),
        ("far", "of the kind tiered: give a connector of the kind redis or postgres: db or main".to_owned()),
        ("near", "of the kind tiered: give a connector of the kind redis or postgres: db or main".to_owned()),
        ("db", postgres.to_owned()),
        ("postgres", postgres.to_owned()),
        (
            "redis",
            "but `connectors.redis` does not say where the server is: give `url`, `address`, `socket` or `sentinel` there".to_owned(),
        ),
    ] {
        assert_eq!(with(over), format!("line 1: connectors.near.over is `{over}`, {problem}"));
    }
    let none = refused("near: { kind: tiered, over: barley }");
    let problem = "which is no connector: give a connector of the kind redis or postgres, of which there is none";
    assert_eq!(none, format!("line 1: connectors.near.over is `barley`, {problem}"));
}

#[test]
fn what_is_wrong_with_a_tier_is_told() {
    let with = |setting: &str| {
        refused(&format!("main: {{ kind: redis, address: h }}, near: {{ kind: tiered, over: main, {setting} }}"))
    };
    let validity = "give a time from 25 ms to 10 s, such as 1 s";
    for (setting, said) in [
        ("consistency: strong", "consistency is `strong`: give strict, bounded or wait-only".to_owned()),
        ("consistency: 5", "consistency is a number, not text (put it in quotes): give strict, bounded or wait-only".to_owned()),
        ("validity: 24ms", format!("validity is `24ms`: {validity}")),
        ("validity: 11s", format!("validity is `11s`: {validity}")),
        ("validity: 5", format!("validity is `5`, which has no unit: {validity}")),
        ("max_objects: 0", "max_objects is `0`: give a number, 1 or more".to_owned()),
        (
            "validty: 1s",
            "validty is no setting; did you mean `validity`? Accepted here: over, max_objects, max_bytes, consistency, validity, kind".to_owned(),
        ),
    ] {
        assert_eq!(with(setting), format!("line 1: connectors.near.{said}"));
    }
    let no_over =
        "does not say which connector it is over: give `over`, the name of a connector of the kind redis or postgres";
    assert!(refused("near: { kind: tiered }").contains(&format!("connectors.near {no_over}")));
    let said = refusal("caches: { x: { connector: tiered } }");
    assert_eq!(said, format!("line 1: caches.x.connector is tiered, but `connectors.tiered` {no_over} there"));
    let said = refusal("connectors: { tiered: { kind: memory } }");
    assert!(said.contains("tiered is the name of a connector of the kind tiered, and not memory"), "{said}");
    // What is wrong with the connector below is told once.
    let said = refused("near: { kind: tiered, over: main }, main: { kind: redis }");
    assert!(!said.contains("connectors.near.over"), "{said}");
}

#[test]
fn a_tier_that_no_cache_is_on_has_a_note() {
    let unused =
        "connectors: { redis: { address: h }, near: { kind: tiered, over: main }, main: { kind: redis, address: h } }";
    let notes: Vec<String> = yaml(unused).notes().iter().map(ToString::to_string).collect();
    let said = "no cache is on it, so nothing comes of it";
    assert_eq!(notes, [format!("connectors.near: {said}"), format!("connectors.main: {said}")]);
}

/// The feed of the database keeps the memory right, so a cache there has to follow it.
#[test]
fn a_tier_over_a_database_needs_its_feed() {
    let with = |cache: &str| {
        format!(
            "
connectors:
  near: {{ kind: tiered, over: db, consistency: bounded }}
  db: {{ kind: postgres, url: 'host=h' }}
  other: {{ kind: postgres, url: 'host=h' }}
feed: {{ main: {{ connector: db }}, far: {{ connector: other }} }}
caches:
  instance: {{ connector: near{cache} }}
"
        )
    };
    let config = yaml(&with(", feed: main, feed_deadline: 500ms"));
    assert_eq!(config.below("near").unwrap().0.as_str(), "db");
    assert_eq!(yaml(&config.effective().to_string()).effective().to_string(), config.effective().to_string());
    let why = "line 8: caches.instance.connector is `near`, a tier over the database of `db`, which only a feed of that database keeps right, and";
    let to_do = "give the cache `feed: main`";
    assert_eq!(refusal(&with("")), format!("{why} the cache follows none: {to_do}"));
    assert_eq!(refusal(&with(", feed: far")), format!("{why} `far` is the feed of another one: {to_do}"));
    let without = with("").replace("main: { connector: db }, ", "");
    let add = "add a feed with `connector: db`, and give the cache its name as `feed`";
    assert_eq!(refusal(&without), format!("{why} the cache follows none: {add}"));
}
