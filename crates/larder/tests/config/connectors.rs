//! Connectors by name: several of one kind, what they may be called, and how variables name them.

use super::{SECOND, load, on, refusal, yaml};
use larder::connector::memory::MemoryOptions;
use larder::connector::redis::RedisOptions;
use larder::{Config, ConnectorOptions};

const TWO_SERVERS: &str = "
connectors:
  redis: { address: main.internal }
  My-Sessions: { kind: redis, address: sessions.internal, prefix: shop, breaker: { min_calls: 3 } }
  small: { kind: memory, max_objects: 1000 }
  mine: { kind: own }
caches:
  instance: { connector: redis }
  session: { connector: my_sessions }
  color: { connector: SMALL }
  login: { connector: mine }
  plain: { connector: memory }
";

fn server<'a>(config: &'a Config, name: &str) -> &'a RedisOptions {
    match config.connector(name) {
        Some(ConnectorOptions::Redis(options)) => options,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_connector_is_a_named_instance_of_a_kind() {
    let config = yaml(TWO_SERVERS);
    let kinds: Vec<_> = config.connectors().map(|(name, options)| (name.as_str(), options.kind().name())).collect();
    assert_eq!(kinds, [("mine", "own"), ("My-Sessions", "redis"), ("redis", "redis"), ("small", "memory")]);
    assert_eq!(server(&config, "redis").address.to_string(), "main.internal:6379");
    let sessions = server(&config, "mysessions");
    assert_eq!((sessions.address.to_string().as_str(), sessions.prefix.as_str()), ("sessions.internal:6379", "shop"));
    assert_eq!(sessions.breaker.min_calls, 3);
    assert_eq!(server(&config, "redis").breaker.min_calls, 20, "each has its own");
    let small = MemoryOptions::new().max_objects(1000);
    assert_eq!(config.connector("small"), Some(&small.into()));
    assert_eq!(config.memory(), MemoryOptions::new());
    for (cache, kind) in [("instance", "redis"), ("session", "redis"), ("color", "memory"), ("login", "own")] {
        let connector = config.cache(cache).unwrap().connector;
        assert_eq!(config.connector(connector).unwrap().kind().name(), kind, "{cache}");
    }
    assert!(config.connector("sessions").is_none());
    assert!(config.notes().is_empty());
    let toml = Config::from_toml(
        "
        [connectors.redis]
        address = 'main.internal'
        [connectors.My-Sessions]
        kind = 'redis'
        address = 'sessions.internal'
        prefix = 'shop'
        breaker.min_calls = 3
        [connectors]
        small = { kind = 'memory', max_objects = 1000 }
        mine.kind = 'own'
        [caches]
        instance.connector = 'redis'
        session.connector = 'my_sessions'
        color.connector = 'SMALL'
        login.connector = 'mine'
        plain.connector = 'memory'
        ",
    );
    assert_eq!(toml.unwrap().effective().to_string(), config.effective().to_string());
}

/// What is called after its kind may say it all the same.
#[test]
fn a_connector_that_is_called_after_its_kind_needs_none() {
    for connectors in ["redis: { address: h }", "redis: { kind: redis, address: h }", "Redis: { address: h }"] {
        let config = yaml(&format!("connectors: {{ {connectors} }}\ncaches: {{ x: {{ connector: redis }} }}"));
        assert_eq!(config.redis().unwrap().address.to_string(), "h:6379", "{connectors}");
    }
}

#[test]
fn a_connector_of_a_name_of_its_own_that_no_cache_is_on_has_a_note() {
    let config = yaml("connectors: { redis: { address: h }, sessions: { kind: redis, address: h }, memory: {} }");
    let notes: Vec<String> = config.notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["connectors.sessions: no cache is on it, so nothing comes of it"]);
    let used = "connectors: { sessions: { kind: redis, address: h } }\ndefaults: { connector: sessions }";
    assert!(yaml(used).notes().is_empty(), "any cache that is not listed may be on it");
}

#[test]
fn a_connector_that_cannot_be_is_refused() {
    let row = |connectors: &str| refusal(&format!("connectors: {{ {connectors} }}"));
    let cache = |connector: &str| {
        refusal(&format!(
            "{{ connectors: {{ sessions: {{ kind: redis, address: h }} }}, caches: {{ x: {{ connector: {connector} }} }} }}"
        ))
    };
    for (said, expected) in [
        (row("sessions: {}"), "sessions has no `kind`: give memory, redis, tiered, postgres or own"),
        (row("sessions: ~"), "sessions has no `kind`: give memory, redis, tiered, postgres or own"),
        (
            row("rediss: {}"),
            "rediss has no `kind` (did you mean `redis`?): give memory, redis, tiered, postgres or own",
        ),
        (row("a: { kind: Redis }"), "a.kind is `Redis`: give memory, redis, tiered, postgres or own"),
        (row("a: { kind: 5 }"), "a.kind is `5`: give memory, redis, tiered, postgres or own"),
        (row("a: { kind: none }"), "a.kind is `none`: give memory, redis, tiered, postgres or own"),
        (
            row("a: { kind: redis }"),
            "a does not say where the server is: give `url`, `address`, `socket` or `sentinel`",
        ),
        (
            row("redis: { kind: memory }"),
            "redis is the name of a connector of the kind redis, and not memory: give another name",
        ),
        (
            row("none: { kind: memory }"),
            "none cannot be the name of a connector: a cache on it is switched off; give another name",
        ),
        (
            row("no-op: { kind: memory }"),
            "no-op cannot be the name of a connector: a cache on it is switched off; give another name",
        ),
        (
            row("my-own: { kind: memory }, MyOwn: { kind: own }"),
            "MyOwn names the same connector as `my-own`: case, `_` and `-` make no difference; give one of the two",
        ),
        (
            row("'a b': { kind: memory }"),
            "a… is no name for a connector: give 1 to 128 letters, digits, `_`, `-` or `.`",
        ),
        (row("a: { kind: own, url: x }"), "a.url is no setting; `connectors.redis.url` is one. Accepted here: kind"),
        (
            row("a: { kind: memory, url: x }"),
            "a.url is no setting; `connectors.redis.url` is one. Accepted here: max_objects, max_bytes, prune_interval, kind",
        ),
        (row("a: { kind: redis, address: h, hints: 0 }"), "a.hints is `0`: give a number, 1 to 100000000"),
        (row("a: { kind: memory, max_objects: 0 }"), "a.max_objects is `0`: give a number, 1 or more"),
    ] {
        assert_eq!(said, format!("line 1: connectors.{expected}"));
    }
    for (connector, expected) in [
        (
            "session",
            "is `session`, which is no connector (did you mean `sessions`?): give none, memory, redis, tiered, postgres or sessions",
        ),
        ("memcached", "is `memcached`: give none, memory, redis, tiered, postgres or sessions"),
        (
            "redis",
            "is redis, but `connectors.redis` does not say where the server is: give `url`, `address`, `socket` or `sentinel` there",
        ),
    ] {
        assert_eq!(cache(connector), format!("line 1: caches.x.connector {expected}"));
    }
}

#[test]
fn variables_name_connectors_too() {
    let config = load(
        "a.yaml",
        TWO_SERVERS,
        &[
            ("LARDER_CONNECTORS_REDIS_URL", "redis://ann:barley@other/3"),
            ("LARDER_CONNECTORS_MY_SESSIONS_URL", "redis://bob:rye@another/4"),
            ("LARDER_CONNECTORS_MY_SESSIONS_BREAKER_OPEN_MAX", "2m"),
            ("LARDER_CONNECTORS_SMALL_MAX_OBJECTS", "7"),
            ("LARDER_CONNECTORS_MEMORY_MAX_OBJECTS", "8"),
            // A new one.
            ("LARDER_CONNECTORS_THIRD_ONE_SOCKET", "/run/third.sock"),
            ("LARDER_CONNECTORS_THIRD_ONE_KIND", "redis"),
            ("LARDER_CACHES_PLAIN_CONNECTOR", "third_one"),
        ],
    )
    .unwrap();
    assert_eq!(server(&config, "redis").address.to_string(), "other:6379");
    let sessions = server(&config, "my-sessions");
    assert_eq!((sessions.address.to_string().as_str(), sessions.database), ("another:6379", 4));
    assert_eq!(sessions.password.as_ref().unwrap().expose(), "rye");
    assert_eq!((sessions.breaker.open_max, sessions.breaker.min_calls), (120 * SECOND, 3));
    assert_eq!(config.connector("small"), Some(&MemoryOptions::new().max_objects(7).into()));
    assert_eq!(config.memory().max_objects, 8);
    assert_eq!(server(&config, "third-one").address.to_string(), "/run/third.sock");
    assert_eq!(config.cache("plain").unwrap().connector, on("third_one"));
    for (variable, expected) in [
        ("LARDER_CONNECTORS_MYSESSION_URL", "names no setting; did you mean LARDER_CONNECTORS_MY_SESSIONS_URL?"),
        (
            "LARDER_CONNECTORS_SMALL_URL",
            "names no setting of a connector that is there: a new one needs its kind, as LARDER_CONNECTORS_<NAME>_KIND",
        ),
        (
            "LARDER_CONNECTORS_BARLEY_HINTS",
            "names no setting of a connector that is there: a new one needs its kind, as LARDER_CONNECTORS_<NAME>_KIND",
        ),
        ("LARDER_CONNECTORS_SMALL_KIND", "connectors.small.kind is `1`: give memory, redis, tiered, postgres or own"),
        ("LARDER_CONNECTORS__KIND", "names no setting"),
    ] {
        let said = load("a.yaml", TWO_SERVERS, &[(variable, "1")]).unwrap_err();
        let expected = format!("environment variable {variable}: {expected}");
        assert!(said.lines().any(|line| line == expected), "{said}");
    }
}
