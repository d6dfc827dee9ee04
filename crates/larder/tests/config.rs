//! The configuration as a user meets it: what is accepted, what is refused and in which words, and what is never shown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests end where what they expect does not hold")]

use larder::breaker::HalfOpen;
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::PostgresOptions;
use larder::connector::redis::{Address, RedisOptions, TlsOptions};
use larder::{CacheOptions, Config, ConnectorName, ConnectorOptions};
use proptest::prelude::*;
use std::fs;
use std::time::Duration;

#[path = "config/cluster.rs"]
mod cluster;
#[path = "config/feed.rs"]
mod feed;
#[path = "config/postgres.rs"]
mod postgres;
#[path = "config/sentinel.rs"]
mod sentinel;
#[path = "config/tiered.rs"]
mod tiered;

const EXAMPLE: &str = include_str!("../../../caches.example.yaml");
const ZITADEL: &str = include_str!("config/zitadel-caches.yaml");

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn yaml(text: &str) -> Config {
    Config::from_yaml(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What is said of a text that is refused.
fn refusal(text: &str) -> String {
    Config::from_yaml(text).map_or_else(|error| error.to_string(), |_| panic!("accepted: {text}"))
}

/// Loads a file of this name with these environment variables.
fn load(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, text).unwrap();
    let place = format!("{}/", folder.path().display());
    Config::load_with(&file, variables.iter().copied()).map_err(|error| error.to_string().replace(&place, ""))
}

fn on(connector: &str) -> ConnectorName {
    connector.into()
}

fn on_redis(settings: &str) -> String {
    format!("connectors: {{ redis: {{ {settings} }} }}")
}

// What is accepted

#[test]
fn every_setting_is_read() {
    let config = yaml(
        "
        connectors:
          memory: { max_objects: 500, max_bytes: 64 MiB, prune_interval: 30s }
          redis:
            address: cache.internal:7000
            username: ann
            password: barley
            database: 3
            client_name: checkout
            prefix: shop
            connect_timeout: 2s
            operation_timeout: 50ms
            wait_replicas: 2
            wait_timeout: 20ms
            max_in_flight: 0
            journal_limit: 5
            journal_bytes: 1 MiB
            shutdown_timeout: 0
            hints: 6
            prune_interval: 0
            breaker:
              window: 20s
              min_calls: 1
              consecutive_failures: 2
              failure_ratio: 0.25
              slow_call: 40ms
              slow_ratio: 1
              open: 2s
              open_max: 1m
              healthy_after: 2m
              half_open: 4
              half_open_successes: 5
              ramp: 0
          postgres:
            url: postgres://ann@db.internal:6543/shop?sslmode=disable
            password: barley
            connections: 3
            prepared: false
            create: false
            connect_timeout: 3s
            operation_timeout: 70ms
            max_in_flight: 7
            journal_limit: 8
            journal_bytes: 2 MiB
            shutdown_timeout: 9s
            hints: 10
            prune_interval: 11m
            breaker: { min_calls: 12 }
        defaults: { connector: redis, max_age: 1h30m, max_object_size: 10 kB, comeback_loads: 0 }
        caches:
          instance: { last_use_age: 10m }
          session: { connector: memory, max_age: 0, last_use_age: 100ms, max_object_size: 2 MiB, comeback_loads: 3, audit_share: 0.01, audit_grace: 2s, audit_bypass: 1m }
          off: { connector: none }
          also.off: { connector: noop }
          kept: { connector: postgres }
        ",
    );
    assert_eq!(config.memory().max_objects, 500);
    assert_eq!(config.memory().max_bytes, 64 << 20);
    assert_eq!(config.memory().prune_interval, 30 * SECOND);
    let redis = config.redis().unwrap();
    assert_eq!(redis.address, Address::Tcp { host: "cache.internal".into(), port: 7000 });
    assert_eq!(redis.username.as_deref(), Some("ann"));
    assert_eq!(redis.password.as_ref().unwrap().expose(), "barley");
    assert_eq!(redis.database, 3);
    assert_eq!(redis.client_name.as_deref(), Some("checkout"));
    assert_eq!(redis.prefix, "shop");
    assert_eq!(redis.connect_timeout, 2 * SECOND);
    assert_eq!(redis.operation_timeout, Duration::from_millis(50));
    assert_eq!((redis.max_in_flight, redis.journal_limit, redis.hints), (0, 5, 6));
    assert_eq!((redis.wait_replicas, redis.wait_timeout), (2, Duration::from_millis(20)));
    assert_eq!((redis.journal_bytes, redis.shutdown_timeout), (1 << 20, Duration::ZERO));
    assert_eq!(redis.prune_interval, Duration::ZERO);
    let breaker = &redis.breaker;
    assert_eq!((breaker.window, breaker.min_calls), (20 * SECOND, 1));
    assert_eq!((breaker.consecutive_failures, breaker.failure_ratio), (2, 0.25));
    assert_eq!((breaker.slow_call, breaker.slow_ratio), (Duration::from_millis(40), 1.0));
    assert_eq!((breaker.open, breaker.open_max, breaker.healthy_after), (2 * SECOND, 60 * SECOND, 120 * SECOND));
    assert_eq!((breaker.half_open, breaker.half_open_successes), (HalfOpen::Requests(4), 5));
    assert_eq!(breaker.ramp, Duration::ZERO);
    let postgres = config.postgres().unwrap();
    let expected =
        PostgresOptions::from_url("host=db.internal port=6543 user=ann dbname=shop sslmode=disable").unwrap();
    assert_eq!((postgres.place(), postgres.user()), ("db.internal:6543/shop".to_owned(), Some("ann")));
    assert_eq!(postgres.password.as_ref().unwrap().expose(), "barley");
    assert_eq!((postgres.connections, postgres.prepared, postgres.create), (3, false, false));
    assert_eq!((postgres.connect_timeout, postgres.operation_timeout), (3 * SECOND, Duration::from_millis(70)));
    assert_eq!((postgres.max_in_flight, postgres.journal_limit, postgres.journal_bytes), (7, 8, 2 << 20));
    assert_eq!((postgres.shutdown_timeout, postgres.hints, postgres.prune_interval), (9 * SECOND, 10, 660 * SECOND));
    assert_eq!(postgres.breaker, expected.breaker.clone().min_calls(12));
    let instance = CacheOptions::on("redis")
        .max_age(3 * HOUR / 2)
        .last_use_age(600 * SECOND)
        .max_object_size(10_000)
        .comeback_loads(0);
    assert_eq!(config.cache("instance"), Some(instance));
    let session = config.cache("session").unwrap();
    assert_eq!((session.connector, session.max_age), (on("memory"), Duration::ZERO));
    assert_eq!((session.last_use_age, session.max_object_size), (Duration::from_millis(100), 2 << 20));
    assert_eq!(session.comeback_loads, 3);
    assert_eq!((session.audit_share, session.audit_grace, session.audit_bypass), (0.01, 2 * SECOND, 60 * SECOND));
    let connectors: Vec<_> = config.caches().map(|(name, cache)| (name, cache.connector.as_str())).collect();
    assert_eq!(
        connectors,
        [("also.off", "none"), ("instance", "redis"), ("kept", "postgres"), ("off", "none"), ("session", "memory")]
    );
    assert!(config.notes().is_empty());
}

#[test]
fn toml_says_the_same_as_yaml() {
    let toml = Config::from_toml(
        r#"
        [connectors.memory]
        max_objects = 1_000
        [connectors.redis]
        url = "redis://ann:barley@cache.internal/3"
        operation_timeout = "50ms"
        [connectors.redis.breaker]
        failure_ratio = 0.25
        slow_ratio = 0
        half_open = 2
        [defaults]
        connector = "redis"
        max_age = 0
        [caches]
        instance = { last_use_age = "10m" }
        "#,
    );
    let yaml = yaml(
        "
        connectors:
          memory: { max_objects: 1_000 }
          redis:
            url: redis://ann:barley@cache.internal/3
            operation_timeout: 50ms
            breaker: { failure_ratio: 0.25, slow_ratio: 0, half_open: 2 }
        defaults: { connector: redis, max_age: 0 }
        caches: { instance: { last_use_age: 10m } }
        ",
    );
    let toml = toml.unwrap();
    assert_eq!(toml.effective().to_string(), yaml.effective().to_string());
    assert_eq!(toml.redis(), yaml.redis());
}

#[test]
fn an_empty_file_has_no_caches_and_a_program_without_one_has_every_cache_in_memory() {
    for text in ["", "\n\n", "# nothing\n", "---\n", "caches:\n", "{}", "connectors: ~\ndefaults: ~"] {
        let config = yaml(text);
        assert_eq!(config.cache("instance"), None, "{text:?}");
        assert!(config.redis().is_none());
    }
    assert_eq!(Config::from_toml("").unwrap().caches().count(), 0);
    assert_eq!(Config::default().cache("instance").unwrap().connector, on("memory"));
}

#[test]
fn the_example_file_shows_every_setting_with_its_default() {
    let config = yaml(EXAMPLE);
    assert_eq!(config.effective().to_string(), Config::default().effective().to_string());
    let full = yaml(
        "
        connectors:
          redis: { address: a, username: u, password: p, client_name: c, wait_replicas: 1 }
          watched: { kind: redis, sentinel: { master: m, hosts: [h] } }
          tiered: { over: redis }
          postgres: { url: 'host=h' }
        feed: { main: { connector: postgres, sources: { x: [ { table: t, key: k, index: i, columns: [c], always: true } ] } } }
        caches: { x: { connector: redis, feed: main } }
        ",
    );
    let names = full.effective().to_string();
    let names = names.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name);
    for name in names.chain(["url", "socket", "password_file", "ca_file", "cert_file", "key_file", "server_name"]) {
        assert!(EXAMPLE.contains(&format!(" {name}:")), "{name} is missing");
    }
    // What is commented out must be right as well.
    let complete = EXAMPLE
        .replace("# url:", "url:")
        .replace("# breaker:", "breaker:")
        .replace("# username:", "username:")
        .replace("    tls: false\n", "")
        .replace("# tls:", "tls:")
        .replace("# password:", "password:")
        .replace("# client_name:", "client_name:")
        .replace("wait_replicas: 0", "wait_replicas: 1")
        .replace("# wait_timeout:", "wait_timeout:")
        .replace("  # main:", "  main:")
        .replace("  # sessions:", "  sessions:")
        .replace("  # watched:", "  watched:")
        .replace("  # near:", "  near:")
        .replace("# over:", "over:")
        .replace("  # small:", "  small:")
        .replace("  # mine:", "  mine:")
        .replace("  # instance:", "  instance:")
        .replace("  # session:", "  session:")
        .replace("  #   ", "    ")
        .replace("redis://user:password@", "redis://");
    let complete = yaml(&complete.replace("localhost:6379/0", "localhost:6379"));
    assert_eq!(complete.redis().unwrap().tls.as_ref().unwrap().server_name.as_deref(), Some("cache.internal"));
    assert_eq!(complete.cache("instance").unwrap().connector, on("redis"));
    let (_, feed) = complete.feed("main").unwrap();
    let sources: Vec<_> =
        feed.sources.all().map(|(cache, source)| (cache, source.key.len(), source.columns.len())).collect();
    assert_eq!((&feed.connector, sources), (&on("postgres"), vec![("instance", 1, 0), ("instance", 1, 2)]));
    let kinds: Vec<_> = complete.connectors().map(|(name, options)| (name.as_str(), options.kind().name())).collect();
    let expected = [
        ("memory", "memory"),
        ("mine", "own"),
        ("near", "tiered"),
        ("postgres", "postgres"),
        ("redis", "redis"),
        ("sessions", "redis"),
        ("small", "memory"),
        ("tiered", "tiered"),
        ("watched", "redis"),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_effective_configuration_can_be_loaded_again() {
    for text in [
        "",
        EXAMPLE,
        "connectors: { redis: { url: 'unix://ann:barley@/run/a b\"\\.sock?db=2', client_name: \"true\", prefix: \"007\" } }
caches: { on: { connector: redis, max_age: 0.5ms }, '12': { connector: none } }",
        "connectors: { redis: { address: h, tls: true }, b: { kind: redis, address: h, tls: { ca_file: '/a b', server_name: n } } }",
        "connectors: { redis: { address: '[::1]:7', breaker: { half_open: 3, failure_ratio: 0 } } }
defaults: { connector: redis, max_object_size: 1023 }",
        "connectors: { memory: { max_objects: 3 }, 'true': { kind: redis, address: 'h:1', breaker: { min_calls: 3 } }, small: { kind: memory, max_bytes: 1 kB }, mine: { kind: own } }
caches: { a: { connector: 'true' }, b: { connector: Small }, c: { connector: mine } }",
    ] {
        let config = yaml(text);
        let effective = config.effective().to_string();
        let again = yaml(&effective);
        assert_eq!(again.effective().to_string(), effective);
        assert_eq!(again.redis().map(|redis| &redis.address), config.redis().map(|redis| &redis.address));
        assert_eq!(again.redis().map(|redis| &redis.tls), config.redis().map(|redis| &redis.tls));
        assert_eq!(again.caches().collect::<Vec<_>>(), config.caches().collect::<Vec<_>>());
    }
}

#[test]
fn cache_names_match_whatever_their_case_and_separators() {
    let config = yaml("caches: { IdPForm-Callbacks: { connector: memory, max_age: 1h } }");
    for name in ["IdPForm-Callbacks", "idpformcallbacks", "idp_form_callbacks", "IDP-FORM-CALLBACKS"] {
        assert_eq!(config.cache(name).unwrap().max_age, HOUR, "{name}");
    }
    assert_eq!(config.cache("idp.form.callbacks"), None);
}

/// Ages under a second were truncated to zero, which means "never expires".
#[test]
fn an_age_below_a_millisecond_is_kept() {
    let cache = yaml("caches: { x: { connector: memory, max_age: 500us, last_use_age: 1ns } }").cache("x").unwrap();
    assert_eq!((cache.max_age, cache.last_use_age), (Duration::from_micros(500), Duration::from_nanos(1)));
    let cache = yaml("Caches: { x: { Connector: '', MaxAge: 500µs, LastUseAge: 0.4ns } }").cache("x").unwrap();
    assert_eq!((cache.max_age, cache.last_use_age), (Duration::from_micros(500), Duration::from_nanos(1)));
}

#[test]
fn a_url_says_where_the_server_is_and_who_we_are() {
    for (settings, address, username, password, database) in [
        ("url: 'redis://localhost'", "localhost:6379", None, None, 0),
        ("url: 'redis://ann:b%2Frley@[::1]:7000/5'", "[::1]:7000", Some("ann"), Some("b/rley"), 5),
        ("url: 'redis://:barley@h'", "h:6379", None, Some("barley"), 0),
        ("url: 'redis://ann@h', password: barley, database: 2", "h:6379", Some("ann"), Some("barley"), 2),
        ("url: 'redis+unix:///run/redis.sock?db=4'", "/run/redis.sock", None, None, 4),
        ("url: 'unix:///run/redis.sock'", "/run/redis.sock", None, None, 0),
        ("socket: /run/redis.sock", "/run/redis.sock", None, None, 0),
        ("address: h", "h:6379", None, None, 0),
        ("address: '[fe80::1]:1'", "[fe80::1]:1", None, None, 0),
    ] {
        let config = yaml(&on_redis(settings));
        let redis = config.redis().unwrap();
        assert_eq!(redis.address.to_string(), address, "{settings}");
        assert_eq!(redis.username.as_deref(), username, "{settings}");
        assert_eq!(redis.password.as_ref().map(|secret| secret.expose()), password, "{settings}");
        assert_eq!(redis.database, database, "{settings}");
    }
}

// Connectors by name

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

// What is refused

/// Each row: a configuration, and the whole text of its error.
#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_would_be_right() {
    let redis_settings = "url, address, socket, cluster, username, password, password_file, database, client_name, prefix, connect_timeout, \
        operation_timeout, wait_replicas, wait_timeout, max_in_flight, journal_limit, journal_bytes, shutdown_timeout, hints, \
        prune_interval, breaker, kind, sentinel, tls";
    let breaker_settings = "window, min_calls, consecutive_failures, failure_ratio, slow_call, slow_ratio, open, open_max, \
        open_refused, healthy_after, half_open, half_open_successes, trial_timeout, ramp";
    let rows: Vec<(&str, String)> = vec![
        // Unknown.
        ("connector: {}", "connector is no setting; did you mean `connectors`? Accepted here: connectors, feed, defaults, caches".into()),
        ("barley: 1", "barley is no setting. Accepted here: connectors, feed, defaults, caches".into()),
        (
            "connectors: { redis: { operation_timout: 1s } }",
            format!("connectors.redis.operation_timout is no setting; did you mean `operation_timeout`? Accepted here: {redis_settings}"),
        ),
        (
            "connectors: { redis: { max_age: 1s } }",
            format!("connectors.redis.max_age is no setting; `defaults.max_age` is one. Accepted here: {redis_settings}"),
        ),
        (
            "connectors: { redis: { breaker: { max_in_flight: 1 } } }",
            format!(
                "connectors.redis.breaker.max_in_flight is no setting; `connectors.redis.max_in_flight` is one. Accepted here: {breaker_settings}"
            ),
        ),
        ("connectors: { memcached: {} }", "connectors.memcached has no `kind`: give memory, redis, tiered, postgres or own".into()),
        (
            "connectors: { memory: { max_object: 1 } }",
            "connectors.memory.max_object is no setting; did you mean `max_objects`? Accepted here: max_objects, max_bytes, prune_interval, kind"
                .into(),
        ),
        (
            "caches: { x: { connector: none, maxAge: 1h } }",
            "caches.x.maxAge is no setting; did you mean `max_age`? Accepted here: connector, max_age, last_use_age, max_object_size, comeback_loads, audit_share, audit_grace, audit_bypass, feed, feed_deadline, lease, refresh_ahead, serve_expired, soft_timeout, hard_timeout, negative_age, jitter".into(),
        ),
        // No mapping where one must be.
        ("- 1", "the configuration is a list: give a mapping of settings (connectors, feed, defaults, caches)".into()),
        ("connectors: redis", "connectors is text: give a mapping of connectors by name".into()),
        ("caches: [instance]", "caches is a list: give a mapping of caches by name".into()),
        (
            "caches: { x: redis }",
            "caches.x is text: give a mapping of settings (connector, max_age, last_use_age, max_object_size, comeback_loads, audit_share, audit_grace, audit_bypass, feed, feed_deadline, lease, refresh_ahead, serve_expired, soft_timeout, hard_timeout, negative_age, jitter)"
                .into(),
        ),
        // Durations.
        ("defaults: { max_age: 60 }", "defaults.max_age is `60`, which has no unit: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { max_age: '60' }", "defaults.max_age is `60`, which has no unit: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { max_age: 0.5 }", "defaults.max_age is `0.5`, which has no unit: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { max_age: -1 }", "defaults.max_age is `-1`, which is negative: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { max_age: -1s }", "defaults.max_age is `-1s`, which is negative: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { max_age: soon }", "defaults.max_age is `soon`, which is no duration: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { max_age: true }", "defaults.max_age is `true`: give a duration such as 1h30m, or 0 for no limit".into()),
        ("defaults: { last_use_age: {} }", "defaults.last_use_age is a mapping: give a duration such as 10m, or 0 for no limit".into()),
        (
            "defaults: { max_age: 900000h }",
            "defaults.max_age is `900000h`, which is more than a hundred years: give a duration such as 1h30m, or 0 for no limit".into(),
        ),
        // Numbers and sizes.
        ("connectors: { memory: { max_objects: 0 } }", "connectors.memory.max_objects is `0`: give a number, 1 or more".into()),
        ("connectors: { memory: { max_objects: many } }", "connectors.memory.max_objects is `many`: give a number, 1 or more".into()),
        ("connectors: { memory: { max_objects: 1.5 } }", "connectors.memory.max_objects is `1.5`: give a number, 1 or more".into()),
        (
            "connectors: { memory: { max_bytes: 64 pages } }",
            "connectors.memory.max_bytes is `64 pages`: give a size such as 64 MiB, or 0 for no limit".into(),
        ),
        (
            "defaults: { max_object_size: 0 }",
            "defaults.max_object_size is `0`: give a size of 1 B or more, such as 1 MiB".into(),
        ),
        // Redis.
        (
            "connectors: { redis: { operation_timeout: 0 } }",
            "connectors.redis.operation_timeout is `0`: give a duration above 0 and up to 1h, such as 100ms".into(),
        ),
        ("connectors: { redis: { connect_timeout: 0s } }", "connectors.redis.connect_timeout is `0s`: give a duration above 0 and up to 1h, such as 1s".into()),
        ("connectors: { redis: { database: -1 } }", "connectors.redis.database is `-1`: give a number, 0 to 2147483647".into()),
        ("connectors: { redis: { database: 2147483648 } }", "connectors.redis.database is `2147483648`: give a number, 0 to 2147483647".into()),
        ("connectors: { redis: { max_in_flight: lots } }", "connectors.redis.max_in_flight is `lots`: give a number, 0 for no limit".into()),
        ("connectors: { redis: { journal_limit: 0 } }", "connectors.redis.journal_limit is `0`: give a number, 1 or more".into()),
        ("connectors: { redis: { journal_bytes: 0 } }", "connectors.redis.journal_bytes is `0`: give a size of 1 B or more, such as 16 MiB".into()),
        (
            "connectors: { redis: { wait_replicas: 1, wait_timeout: 0 } }",
            "connectors.redis.wait_timeout is `0`: give a duration above 0 and up to 1h, such as 50ms".into(),
        ),
        (
            "connectors: { redis: { wait_replicas: -1 } }",
            "connectors.redis.wait_replicas is `-1`: give a number of replicas up to 1000, 0 for none".into(),
        ),
        (
            "connectors: { redis: { wait_timeout: 50ms } }",
            "connectors.redis.wait_timeout says how long to wait for no replica: give `wait_replicas` too, or neither".into(),
        ),
        ("connectors: { redis: { hints: 0 } }", "connectors.redis.hints is `0`: give a number, 1 to 100000000".into()),
        ("connectors: { redis: { prefix: 'a:b' } }", "connectors.redis.prefix is `a:b`: give 1 to 128 letters, digits, `_`, `-` or `.`".into()),
        ("connectors: { redis: { prefix: 'a*' } }", "connectors.redis.prefix is `a*`: give 1 to 128 letters, digits, `_`, `-` or `.`".into()),
        ("connectors: { redis: { prefix: '' } }", "connectors.redis.prefix is empty: give 1 to 128 letters, digits, `_`, `-` or `.`".into()),
        (
            "connectors: { redis: { client_name: my shop } }",
            "connectors.redis.client_name is `my shop`: give letters, digits and signs, without spaces".into(),
        ),
        ("connectors: { redis: { address: 'h:p' } }", "connectors.redis.address is no host and port: give host:port".into()),
        ("connectors: { redis: { socket: 'unix:///s' } }", "connectors.redis.socket is a URL, not a path: give the path of a Unix socket".into()),
        (
            "connectors: { redis: { url: 'redix://h' } }",
            "connectors.redis.url has a scheme that is none of redis, rediss, redis+unix, unix, and redis or rediss with -sentinel or -cluster: give \
             redis://user:password@host:port/database, rediss:// for TLS, redis+unix:///path?db=database, \
             redis-sentinel://host:port,host:port/database#master, or redis-cluster://host:port,host:port"
                .into(),
        ),
        ("connectors: { redis: { password: 1234 } }", "connectors.redis.password is a number, not text (put it in quotes): give text".into()),
        ("connectors: { redis: { password: [barley] } }", "connectors.redis.password is a list: give text".into()),
        (
            "connectors: { redis: { password_file: /nowhere/barley } }",
            "connectors.redis.password_file names /nowhere/barley, which cannot be read: No such file or directory (os error 2)".into(),
        ),
        (
            "connectors: { redis: { username: ann } }",
            "connectors.redis.username has a user name and no password: give `password` or `password_file` too".into(),
        ),
        // The breaker.
        ("connectors: { redis: { breaker: { failure_ratio: 50 } } }", "connectors.redis.breaker.failure_ratio is `50`: give 0 (never) to 1".into()),
        ("connectors: { redis: { breaker: { slow_ratio: .nan } } }", "connectors.redis.breaker.slow_ratio is `NaN`: give 0 (never) to 1".into()),
        ("connectors: { redis: { breaker: { min_calls: 0 } } }", "connectors.redis.breaker.min_calls is `0`: give a number, 1 or more".into()),
        (
            "connectors: { redis: { breaker: { open: 0 } } }",
            "connectors.redis.breaker.open is `0`: give a duration above 0, such as 1s".into(),
        ),
        (
            "connectors: { redis: { breaker: { half_open: everybody } } }",
            "connectors.redis.breaker.half_open is `everybody`: give probes, or a number of requests, 1 to 16777215".into(),
        ),
        (
            "connectors: { redis: { breaker: { half_open: 0 } } }",
            "connectors.redis.breaker.half_open is `0`: give probes, or a number of requests, 1 to 16777215".into(),
        ),
        (
            "connectors: { redis: { breaker: { window: 5ms } } }",
            "connectors.redis.breaker.window is `5ms`: give 0 (never forgets) or at least 10 ms".into(),
        ),
        // Contradictions.
        (
            "connectors: { redis: { url: 'redis://h', address: h } }",
            "connectors.redis.address contradicts `connectors.redis.url`: give one of the two".into(),
        ),
        (
            "connectors: { redis: { socket: /s, address: h } }",
            "connectors.redis.socket contradicts `connectors.redis.address`: give one of the two".into(),
        ),
        (
            "connectors: { redis: { url: 'redis://:barley@h', password: barley } }",
            "connectors.redis.password contradicts `connectors.redis.url`: give one of the two".into(),
        ),
        (
            "connectors: { redis: { url: 'redis://h/1', database: 2 } }",
            "connectors.redis.database contradicts `connectors.redis.url`: give one of the two".into(),
        ),
        (
            "connectors: { redis: { breaker: { open: 1m, open_max: 30s } } }",
            "connectors.redis.breaker.open_max is `30s`: give `open` or more".into(),
        ),
        (
            "caches: { x: { connector: none, max_age: 1h, last_use_age: 2h } }",
            "caches.x.last_use_age contradicts `caches.x.max_age`: a last-use age of 2h is longer than the max age, 1h: give one of at most the \
             max age, or 0 for either"
                .into(),
        ),
        (
            "{ defaults: { connector: none, max_age: 1h }, caches: { x: { last_use_age: 2h } } }",
            "caches.x.last_use_age contradicts `defaults.max_age`: a last-use age of 2h is longer than the max age, 1h: give one of at most the \
             max age, or 0 for either"
                .into(),
        ),
        (
            "{ defaults: { connector: none, last_use_age: 2h }, caches: { x: { max_age: 1h } } }",
            "caches.x.max_age contradicts `defaults.last_use_age`: a last-use age of 2h is longer than the max age, 1h: give one of at most the \
             max age, or 0 for either"
                .into(),
        ),
        (
            "{ defaults: { connector: none, last_use_age: 2h, max_age: 1h }, caches: { x: {} } }",
            "defaults.last_use_age contradicts `defaults.max_age`: a last-use age of 2h is longer than the max age, 1h: give one of at most the \
             max age, or 0 for either"
                .into(),
        ),
        // Caches.
        ("caches: { x: { connector: memcached } }", "caches.x.connector is `memcached`: give none, memory, redis, tiered or postgres".into()),
        ("caches: { x: { connector: '' } }", "caches.x.connector is ``: give none, memory, redis, tiered or postgres".into()),
        (
            "caches: { x: { max_age: 1h } }",
            "caches.x has no connector: give `connector` here or in `defaults` (none, memory, redis, tiered or postgres)".into(),
        ),
        (
            "caches: { 'a:b': { connector: none } }",
            "caches.a… is no name for a cache: give 1 to 128 letters, digits, `_`, `-` or `.`".into(),
        ),
        (
            "caches: { my-cache: { connector: none }, MyCache: { connector: memory } }",
            "caches.MyCache names the same cache as `my-cache`: case, `_` and `-` make no difference; give one of the two".into(),
        ),
        (
            "caches: { x: { connector: redis } }",
            "caches.x.connector is redis, but `connectors.redis` does not say where the server is: give `url`, `address`, `socket` or `sentinel` there".into(),
        ),
        (
            "{ connectors: { redis: { operation_timeout: 1s } }, defaults: { connector: redis } }",
            "defaults.connector is redis, but `connectors.redis` does not say where the server is: give `url`, `address`, `socket` or `sentinel` there".into(),
        ),
        // The text itself.
        ("{ caches: {}, caches: {} }", "cannot be read as YAML: `caches` is given twice".into()),
        ("a: !secret b", "cannot be read as YAML: a tag (`!…`) has no meaning here".into()),
        ("? [a]\n: b", "cannot be read as YAML: the name of a setting must be text".into()),
        ("caches: *x", "cannot be read as YAML: unknown anchor".into()),
    ];
    for (text, expected) in rows {
        let expected = if expected.starts_with("the conf") { expected } else { format!("line 1: {expected}") };
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn a_breaker_that_is_told_only_how_long_it_stays_open_stays_open_for_so_long() {
    let config = yaml("connectors:\n  redis:\n    address: h:1\n    breaker:\n      open: 1m\n");
    let breaker = &config.redis().unwrap().breaker;
    assert_eq!((breaker.open, breaker.open_max), (60 * SECOND, 60 * SECOND));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let text = "
connectors:
  redis:
    operation_timout: 1s
    breaker:
      failure_ratio: 50

caches:
  instance:
    connector: memory
    max_age: 1h
    last_use_age: 2h
";
    let error = Config::from_yaml(text).unwrap_err();
    let places: Vec<_> = error.problems().iter().map(|problem| (problem.line(), problem.path())).collect();
    let expected = [
        (Some(4), "connectors.redis.operation_timout"),
        (Some(6), "connectors.redis.breaker.failure_ratio"),
        (Some(12), "caches.instance.last_use_age"),
    ];
    assert_eq!(places, expected);

    let toml = "[connectors.redis]\noperation_timout = '1s'\nbreaker.failure_ratio = 50\n\n[caches]\n[caches.x]\nconnector = 1\n";
    let error = Config::from_toml(toml).unwrap_err();
    let places: Vec<_> = error.problems().iter().map(|problem| (problem.line(), problem.path())).collect();
    let expected = [
        (Some(2), "connectors.redis.operation_timout"),
        (Some(3), "connectors.redis.breaker.failure_ratio"),
        (Some(7), "caches.x.connector"),
    ];
    assert_eq!(places, expected);
    assert_eq!(
        Config::from_toml("a = 1\na = 2").unwrap_err().to_string(),
        "line 2: cannot be read as TOML: duplicate key"
    );
}

#[test]
fn the_file_is_named() {
    assert_eq!(
        load("caches.yaml", "defaults:\n  max_age: 60", &[]).unwrap_err(),
        "caches.yaml: line 2: defaults.max_age is `60`, which has no unit: give a duration such as 1h30m, or 0 for no limit"
    );
    assert_eq!(
        load("caches.json", "{}", &[]).unwrap_err(),
        "caches.json: is neither YAML nor TOML by its name: call it .yaml, .yml or .toml"
    );
    let error = Config::load("nowhere/caches.yaml").unwrap_err().to_string();
    assert_eq!(error, "nowhere/caches.yaml: cannot be read: No such file or directory (os error 2)");
    for (name, text) in [
        ("a.yml", "defaults: { max_age: 1s }"),
        ("a.YAML", "defaults: { max_age: 1s }"),
        ("a.toml", "defaults.max_age = '1s'"),
    ] {
        let text = load(name, text, &[("LARDER_DEFAULTS_CONNECTOR", "memory")]).unwrap().effective().to_string();
        assert!(text.contains("defaults:\n  connector: memory\n  max_age: 1s\n"), "{name}: {text}");
    }
}

// Secrets

const BARLEY: &str = "ba%rley:@#/";

#[test]
fn no_secret_is_ever_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, format!("{BARLEY}\n")).unwrap();
    let in_url = "ba%25rley%3A%40%23%2F";
    for settings in [
        format!("address: h, username: ann, password: '{BARLEY}'"),
        format!("address: h, password_file: {}", file.display()),
        format!("url: 'redis://ann:{in_url}@h/1'"),
        format!("url: 'unix://:{in_url}@/run/redis.sock'"),
    ] {
        let config = yaml(&format!("{}\ncaches: {{ x: {{ connector: redis }} }}", on_redis(&settings)));
        let redis = config.redis().unwrap();
        let password = redis.password.as_ref().unwrap();
        assert_eq!(password.expose(), BARLEY);
        for shown in [
            format!("{config:?}"),
            format!("{config:#?}"),
            format!("{redis:?}"),
            format!("{password} {password:?}"),
            config.effective().to_string(),
            format!("{:?}", config.effective()),
        ] {
            assert!(!shown.contains("rley") && shown.contains("***") || shown.contains("password_file: /"), "{shown}");
        }
        assert!(!config.effective().to_string().contains("rley"));
    }
}

/// A password is easily put where it does not belong.
#[test]
fn no_error_shows_a_password() {
    for settings in [
        "password: { barley: 1 }",
        "password: [barley]",
        "password:barley",
        "password barley: 1",
        "password: !!int barley",
        "password: !barley barley",
        "password: *barley",
        "password: \"barley",
        "password: barley, password: barley",
        "address: 'redis://ann:barley@h'",
        "address: 'ann:barley@h'",
        "socket: 'unix://ann:barley@/s'",
        "url: 'redis://ann:bar/barley@h'",
        "url: 'rediss://ann:barley@h/#insecure'",
        "url: 'rediss://ann:barley@h?barley=1'",
        "url: 'redis://ann:barley@h', password: barley",
        "url: 'redis://ann:barley@h?barley=1'",
        "url: 'barley'",
        "username: ann, password: '', address: h",
        "breaker: { password:barley: { a: 1, a: 2 } }",
    ] {
        let said = refusal(&on_redis(settings));
        assert!(!said.contains("barley"), "{settings}: {said}");
    }
    for toml in [
        "connectors.redis.password = \"barley",
        "connectors.redis.password = barley",
        "connectors.redis.password = \"barley\"\nconnectors.redis.password = \"barley\"",
        "connectors.redis.\"password barley\" = 1",
    ] {
        let said = Config::from_toml(toml).unwrap_err().to_string();
        assert!(!said.contains("barley"), "{toml}: {said}");
    }
    let said = load("a.yaml", "", &[("LARDER_CONNECTORS_REDIS_URL", "http://ann:barley@h")]).unwrap_err();
    assert!(!said.contains("barley"), "{said}");
}

#[test]
fn a_password_file_loses_its_last_line_break_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let config = on_redis(&format!("address: h, password_file: {}", file.display()));
    for (content, password) in
        [("barley", "barley"), ("barley\n", "barley"), ("barley\r\n", "barley"), (" ba\nrley \n", " ba\nrley ")]
    {
        fs::write(&file, content).unwrap();
        assert_eq!(yaml(&config).redis().unwrap().password.as_ref().unwrap().expose(), password);
    }
    let effective = yaml(&config).effective().to_string();
    assert!(
        effective.contains(&format!("password_file: {}\n", file.display())) || effective.contains("password_file: \"")
    );
    assert!(!effective.contains("password:"));
    for (content, reason) in [
        (&b"\n"[..], "is empty"),
        (b"\xff", "is not UTF-8 text"),
        (&[b'x'; 70_000], "is longer than 64 KiB, and no password"),
    ] {
        fs::write(&file, content).unwrap();
        let expected = format!("line 1: connectors.redis.password_file names {}, which {reason}", file.display());
        assert_eq!(refusal(&config), expected);
    }
}

#[test]
fn a_hidden_password_that_was_loaded_again_is_pointed_out() {
    let config = yaml(&on_redis("address: h, password: barley"));
    let again = yaml(&config.effective().to_string());
    let notes: Vec<String> = again.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        ["connectors.redis.password: `***` is what larder shows in place of a password; give the password itself"]
    );
}

// Environment

#[test]
fn environment_variables_outrank_the_file() {
    let file = "
        connectors:
          memory: { max_objects: 5 }
          redis: { address: h, password_file: /nowhere, database: 1 }
        caches:
          IdPForm-Callbacks: { connector: redis, max_age: 1h }
        ";
    let config = load(
        "a.yaml",
        file,
        &[
            ("LARDER_CONNECTORS_MEMORY_MAX_OBJECTS", "7"),
            ("LARDER_CONNECTORS_MEMORY_MAX_BYTES", "1 MiB"),
            ("LARDER_CONNECTORS_REDIS_URL", "redis://ann:barley@other/3"),
            ("LARDER_CONNECTORS_REDIS_BREAKER_OPEN_MAX", "2m"),
            ("LARDER_CONNECTORS_REDIS_BREAKER_FAILURE_RATIO", "0.75"),
            ("LARDER_CONNECTORS_REDIS_BREAKER_HALF_OPEN", "2"),
            ("LARDER_DEFAULTS_MAX_OBJECT_SIZE", "2 MiB"),
            ("LARDER_CACHES_IDP_FORM_CALLBACKS_LAST_USE_AGE", "10m"),
            ("LARDER_CACHES_MY_SESSION_CONNECTOR", "memory"),
            ("LARDER_CACHES_MY_SESSION_MAX_AGE", "0"),
            // Not settings.
            ("LARDER_SERVERS", "somewhere"),
            ("LARDER_CONNECTORS_REDIS_PREFIX", ""),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!((config.memory().max_objects, config.memory().max_bytes), (7, 1 << 20));
    let redis = config.redis().unwrap();
    assert_eq!(redis.address.to_string(), "other:6379");
    assert_eq!((redis.username.as_deref(), redis.database, redis.prefix.as_str()), (Some("ann"), 3, "larder"));
    assert_eq!(redis.password.as_ref().unwrap().expose(), "barley");
    assert_eq!((redis.breaker.open_max, redis.breaker.failure_ratio), (120 * SECOND, 0.75));
    assert_eq!(redis.breaker.half_open, HalfOpen::Requests(2));
    let callbacks = config.cache("idp_form_callbacks").unwrap();
    assert_eq!((callbacks.max_age, callbacks.last_use_age), (HOUR, 600 * SECOND));
    assert_eq!(callbacks.max_object_size, 2 << 20);
    assert_eq!(config.cache("my_session").unwrap().connector, on("memory"));
    assert_eq!(config.caches().count(), 2);
}

#[test]
fn a_variable_outranks_what_a_url_in_the_file_says() {
    let config = load(
        "a.yaml",
        &on_redis("url: 'redis://ann:barley@h/1'"),
        &[("LARDER_CONNECTORS_REDIS_PASSWORD", "rye"), ("LARDER_CONNECTORS_REDIS_DATABASE", "2")],
    )
    .unwrap();
    let redis = config.redis().unwrap();
    assert_eq!((redis.username.as_deref(), redis.database), (Some("ann"), 2));
    assert_eq!(redis.password.as_ref().unwrap().expose(), "rye");
}

#[test]
fn tls_is_a_word_a_section_a_url_or_variables() {
    let tls = |file: &str, variables: &[(&str, &str)]| {
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (format!("LARDER_CONNECTORS_REDIS_{name}"), *value)).collect();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        load("a.yaml", &on_redis(file), &variables).map(|config| config.redis().unwrap().tls.clone())
    };
    let (plain, all) =
        (TlsOptions::new(), TlsOptions::new().ca_file("/ca").client_certificate("/c", "/k").server_name("n"));
    for (file, variables, expected) in [
        ("address: h", &[] as &[_], None),
        ("address: h, tls: false", &[], None),
        ("address: h, tls: true", &[], Some(&plain)),
        ("address: h, tls: {}", &[], Some(&plain)),
        ("address: h, tls: { ca_file: /ca, cert_file: /c, key_file: /k, server_name: n }", &[], Some(&all)),
        ("url: 'rediss://h'", &[], Some(&plain)),
        ("url: 'rediss://h?ca_file=/ca&server_name=n', tls: { cert_file: /c, key_file: /k }", &[], Some(&all)),
        ("url: 'redis://h', tls: true", &[], Some(&plain)),
        ("address: h", &[("TLS", "true")], Some(&plain)),
        ("address: h, tls: true", &[("TLS", "false")], None),
        (
            "address: h, tls: { ca_file: /ca, cert_file: /c, key_file: /k }",
            &[("TLS_SERVER_NAME", "n"), ("TLS", "true")],
            Some(&all),
        ),
        ("address: h, tls: { ca_file: /ca }", &[("TLS", "false")], None),
        ("address: h, tls: false", &[("URL", "rediss://h")], Some(&plain)),
        (
            "address: h, tls: true",
            &[("TLS_CA_FILE", "/ca"), ("TLS_CERT_FILE", "/c"), ("TLS_KEY_FILE", "/k"), ("TLS_SERVER_NAME", "n")],
            Some(&all),
        ),
    ] {
        assert_eq!(tls(file, variables), Ok(expected.cloned()), "{file} {variables:?}");
    }
    for (file, expected) in [
        (
            "address: h, tls: 3",
            "tls is `3`: give true, false, or a mapping of ca_file, cert_file, key_file and server_name",
        ),
        ("address: h, tls: { ca_fil: /ca }", "tls.ca_fil is no setting; did you mean `ca_file`?"),
        ("address: h, tls: { cert_file: /c }", "tls.cert_file has no key: give `key_file` too"),
        ("address: h, tls: { key_file: /k }", "tls.key_file has no certificate: give `cert_file` too"),
        ("address: h, tls: { server_name: 'a b' }", "tls.server_name is `a b`: give the name of a host"),
        ("socket: /run/redis.sock, tls: true", "tls is given, and there is none on a Unix socket"),
        ("url: 'rediss://h', tls: false", "tls is false, and contradicts `rediss://` of the URL"),
        (
            "url: 'rediss://h?ca_file=/ca', tls: { ca_file: /ca }",
            "tls.ca_file contradicts the same parameter of the URL",
        ),
        ("url: 'rediss://h?cert_file=/c'", "url has no key: give `key_file` too"),
    ] {
        let refused = tls(file, &[]).unwrap_err();
        assert!(refused.contains(&format!("connectors.redis.{expected}")), "{file}: {refused}");
    }
}

#[test]
fn variables_alone_make_a_configuration() {
    let config = Config::from_variables([
        ("LARDER_CONNECTORS_REDIS_SOCKET", "/run/redis.sock"),
        ("LARDER_DEFAULTS_CONNECTOR", "redis"),
    ])
    .unwrap();
    assert_eq!(config.cache("anything").unwrap().connector, on("redis"));
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    for (variable, value, expected) in [
        (
            "LARDER_CONNECTORS_REDIS_OPERATION_TIMOUT",
            "1s",
            "names no setting; did you mean LARDER_CONNECTORS_REDIS_OPERATION_TIMEOUT?",
        ),
        ("LARDER_CONNECTORS_BARLEY", "1", "names no setting"),
        ("LARDER_DEFAULTS_MAXAGE", "1h", "names no setting; did you mean LARDER_DEFAULTS_MAX_AGE?"),
        (
            "LARDER_CACHES_INSTANCE_MAXAGE",
            "1h",
            "names no setting of a cache: LARDER_CACHES_, the cache, and one of _CONNECTOR, _MAX_AGE, _LAST_USE_AGE, _MAX_OBJECT_SIZE, _COMEBACK_LOADS, _AUDIT_SHARE, _AUDIT_GRACE, _AUDIT_BYPASS, _FEED, _FEED_DEADLINE, _LEASE, _REFRESH_AHEAD, _SERVE_EXPIRED, _SOFT_TIMEOUT, _HARD_TIMEOUT, _NEGATIVE_AGE, _JITTER",
        ),
        (
            "LARDER_CACHES_MAX_AGE",
            "1h",
            "names no setting of a cache: LARDER_CACHES_, the cache, and one of _CONNECTOR, _MAX_AGE, _LAST_USE_AGE, _MAX_OBJECT_SIZE, _COMEBACK_LOADS, _AUDIT_SHARE, _AUDIT_GRACE, _AUDIT_BYPASS, _FEED, _FEED_DEADLINE, _LEASE, _REFRESH_AHEAD, _SERVE_EXPIRED, _SOFT_TIMEOUT, _HARD_TIMEOUT, _NEGATIVE_AGE, _JITTER",
        ),
        (
            "LARDER_DEFAULTS_MAX_AGE",
            "60",
            "defaults.max_age is `60`, which has no unit: give a duration such as 1h30m, or 0 for no limit",
        ),
        ("LARDER_CONNECTORS_REDIS_ADDRESS", "a:b:c", "connectors.redis.address is no host and port: give host:port"),
    ] {
        let said = load("a.yaml", "", &[(variable, value)]).unwrap_err();
        assert_eq!(said, format!("environment variable {variable}: {expected}"));
    }
    let both = [("LARDER_CONNECTORS_REDIS_PASSWORD", "a"), ("LARDER_CONNECTORS_REDIS_PASSWORD_FILE", "/b")];
    let said = load("a.yaml", "", &both).unwrap_err();
    let contradiction = "environment variable LARDER_CONNECTORS_REDIS_PASSWORD_FILE: connectors.redis.password_file contradicts the \
        environment variable LARDER_CONNECTORS_REDIS_PASSWORD: give one of the two";
    assert!(said.starts_with(contradiction), "{said}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let broken = OsStr::from_bytes(b"\xff");
    let error = Config::from_variables([(OsStr::new("LARDER_DEFAULTS_MAX_AGE"), broken)]).unwrap_err();
    assert_eq!(error.to_string(), "environment variable LARDER_DEFAULTS_MAX_AGE: is not UTF-8 text");
    assert!(Config::from_variables([(OsStr::new("OTHER"), broken), (broken, broken)]).is_ok());
}

// Zitadel

fn zitadel(variables: &[(&str, &str)]) -> Config {
    load("zitadel.yaml", ZITADEL, variables).unwrap_or_else(|error| panic!("{error}"))
}

const REDIS_ON: (&str, &str) = ("ZITADEL_CACHES_CONNECTORS_REDIS_ENABLED", "true");

#[test]
fn zitadels_block_loads_unchanged() {
    let config = yaml(ZITADEL);
    assert!(config.redis().is_none(), "it is switched off");
    let caches: Vec<_> = config.caches().map(|(name, cache)| (name, cache.connector.as_str())).collect();
    let (off, postgres) = ("none", "postgres");
    let expected = [
        ("FederatedLogouts", postgres),
        ("IdPFormCallbacks", postgres),
        ("Instance", off),
        ("Milestones", off),
        ("Organization", off),
    ];
    assert_eq!(caches, expected);
    for (name, cache) in config.caches() {
        assert_eq!((cache.max_age, cache.last_use_age), (HOUR, 600 * SECOND), "{name}");
    }
    assert_eq!(config.memory().prune_interval, 60 * SECOND);
}

#[test]
fn zitadels_settings_mean_what_they_mean_there() {
    let config = zitadel(&[REDIS_ON]);
    let redis = config.redis().unwrap();
    assert_eq!(redis.address.to_string(), "localhost:6379");
    assert_eq!((redis.username.as_ref(), redis.password.as_ref(), redis.client_name.as_ref()), (None, None, None));
    assert_eq!(redis.database, 10);
    assert_eq!((redis.connect_timeout, redis.operation_timeout), (SECOND, Duration::from_millis(100)));
    let breaker = &redis.breaker;
    assert_eq!(breaker.window, Duration::ZERO, "counters are reset only by opening");
    assert_eq!((breaker.consecutive_failures, breaker.failure_ratio), (5, 0.1));
    assert_eq!((breaker.open, breaker.open_max), (60 * SECOND, 60 * SECOND));
    assert_eq!((breaker.half_open, breaker.half_open_successes), (HalfOpen::Requests(1), 1));
}

/// zitadel 11483, 12092: 1 of 1 = 100 % > 10 % opened the breaker for ever.
#[test]
fn zitadels_failure_ratio_does_not_open_on_one_failure_of_one() {
    let config = zitadel(&[REDIS_ON]);
    assert_eq!(config.redis().unwrap().breaker.min_calls, 20);
    let note = config.notes().iter().find(|note| note.path() == "Caches.Connectors.Redis.CircuitBreaker").unwrap();
    assert!(note.text().contains("`min_calls`"), "{note}");
}

/// Every setting of the file is either understood or has a note.
#[test]
fn what_larder_does_instead_is_in_the_notes() {
    let config = yaml(ZITADEL);
    let noted: Vec<&str> = config.notes().iter().map(|note| note.path()).collect();
    let redis = |name: &str| format!("Caches.Connectors.Redis.{name}");
    for name in [
        "DBOffset",
        "MaxRetries",
        "MinRetryBackoff",
        "MaxRetryBackoff",
        "WriteTimeout",
        "PoolFIFO",
        "PoolSize",
        "PoolTimeout",
        "MinIdleConns",
        "MaxIdleConns",
        "MaxActiveConns",
        "ConnMaxIdleTime",
        "ConnMaxLifetime",
        "CircuitBreaker",
    ] {
        assert!(noted.contains(&redis(name).as_str()), "{name}: {noted:?}");
    }
    for path in ["Caches.Connectors.Memory.AutoPrune.TimeOut", "Caches.Connectors.Postgres", "Caches.Instance.Log"] {
        assert!(noted.contains(&path), "{path}: {noted:?}");
    }
    for name in
        ["Enabled", "URL", "Network", "Addr", "ClientName", "DialTimeout", "ReadTimeout", "EnableTLS", "IdentitySuffix"]
    {
        assert!(!noted.contains(&redis(name).as_str()), "{name}");
    }
    let offset = config.notes().iter().find(|note| note.path() == redis("DBOffset")).unwrap();
    assert_eq!(
        offset.to_string(),
        "Caches.Connectors.Redis.DBOffset: Zitadel adds a number of its own for each cache; larder keeps all caches in database 10, apart \
         by name, and never flushes it"
    );
}

/// `change` is a line of the block's Redis section.
fn with(setting: &str, value: &str) -> Result<Config, String> {
    let line = ZITADEL.lines().find(|line| line.trim().starts_with(&format!("{setting}:"))).unwrap();
    let indent = line.len() - line.trim_start().len();
    let changed = ZITADEL.replacen(line, &format!("{}{setting}: {value}", &line[..indent]), 1);
    load("zitadel.yaml", &changed, &[REDIS_ON])
}

#[test]
fn zitadels_zero_and_minus_one_mean_what_they_mean_there() {
    let redis = |setting, value| with(setting, value).unwrap().redis().unwrap().clone();
    let note = |setting: &str, value| {
        let config = with(setting, value).unwrap();
        let path = format!(".{setting}");
        config.notes().iter().find(|note| note.path().ends_with(&path)).map(|note| note.text().to_owned())
    };
    // Retries and back-offs: -1 is none, which is what larder does anyway.
    for setting in ["MaxRetries", "MinRetryBackoff", "MaxRetryBackoff"] {
        assert_eq!(note(setting, "-1"), None, "{setting}");
        assert!(note(setting, "0").unwrap().contains("does not repeat"), "{setting}");
    }
    // Time-outs: 0 is the default, -1 none.
    for value in ["0", "-1", "0s", "\"-1\"", "-2"] {
        assert_eq!(redis("ReadTimeout", value).operation_timeout, Duration::from_millis(100));
        assert_eq!(redis("DialTimeout", value).connect_timeout, SECOND);
        assert!(note("ReadTimeout", value).unwrap().contains("100ms"), "{value}");
    }
    assert_eq!(redis("ReadTimeout", "250ms").operation_timeout, Duration::from_millis(250));
    assert_eq!(note("ReadTimeout", "250ms"), None);
    // The breaker.
    assert_eq!(redis("Timeout", "0").breaker.open, 60 * SECOND);
    assert_eq!(redis("Timeout", "5s").breaker.open_max, 5 * SECOND);
    assert_eq!(redis("MaxRetryRequests", "0").breaker.half_open, HalfOpen::Requests(1));
    assert_eq!(redis("MaxRetryRequests", "3").breaker.half_open_successes, 3);
    assert_eq!(redis("MaxFailureRatio", "0").breaker.failure_ratio, 0.0);
    assert_eq!(redis("MaxConsecutiveFailures", "0").breaker.consecutive_failures, 0);
    // Ages and intervals: 0 and less is none.
    for age in ["0", "-1", "0s"] {
        let text = format!("Caches: {{ Instance: {{ Connector: '', MaxAge: {age}, LastUseAge: {age} }} }}");
        let instance = yaml(&text).cache("instance").unwrap();
        assert_eq!((instance.max_age, instance.last_use_age), (Duration::ZERO, Duration::ZERO));
    }
    let text = "Caches: { Connectors: { Memory: { AutoPrune: { Interval: 0 } }, Redis: { CircuitBreaker: { Interval: 1m } } } }";
    assert_eq!(yaml(text).memory().prune_interval, Duration::ZERO);
}

#[test]
fn zitadel_says_where_the_server_is_in_three_ways() {
    let redis = |settings: &str| {
        yaml(&format!("Caches: {{ Connectors: {{ Redis: {{ Enabled: true, {settings} }} }} }}"))
            .redis()
            .unwrap()
            .clone()
    };
    assert_eq!(redis("Addr: 'h:1'").address.to_string(), "h:1");
    assert_eq!(redis("Addr: ':1'").address.to_string(), "localhost:1");
    assert_eq!(redis("PoolSize: 1").address.to_string(), "localhost:6379");
    assert_eq!(redis("Network: unix, Addr: /run/redis.sock").address.to_string(), "/run/redis.sock");
    let by_url = redis("URL: 'redis://ann:barley@h:2/3', Addr: 'other:1', Username: bob, Password: rye, DBOffset: 10");
    assert_eq!(
        (by_url.address.to_string().as_str(), by_url.database, by_url.username.as_deref()),
        ("h:2", 3, Some("ann"))
    );
    assert_eq!(redis("URL: 'redis://h', DBOffset: 7").database, 7);
    assert_eq!(redis("PoolSize: 1").database, 10, "as Zitadel's defaults have it");
    assert_eq!(redis("Username: ann").username, None, "without a password nobody logs in");
    assert_eq!(redis("Username: ann, Password: barley").username.as_deref(), Some("ann"));
}

#[test]
fn zitadels_tls_is_that_of_the_system() {
    let tls = |setting, value| with(setting, value).unwrap().redis().unwrap().tls.clone();
    assert_eq!(tls("EnableTLS", "false"), None);
    assert_eq!(tls("EnableTLS", "true"), Some(TlsOptions::new()));
    assert_eq!(tls("URL", "'rediss://h'"), Some(TlsOptions::new()), "EnableTLS is false there");
}

#[test]
fn zitadels_own_defaults_hold_where_its_file_says_nothing() {
    let config = yaml("Caches: { Instance: { Connector: '' }, IdPFormCallbacks: {}, Session: { Connector: '' } }");
    let ages = |name| config.cache(name).map(|cache| (cache.max_age, cache.last_use_age)).unwrap();
    assert_eq!(ages("instance"), (HOUR, 600 * SECOND));
    assert_eq!(config.cache("IdPFormCallbacks").unwrap().connector, on("postgres"));
    assert_eq!(ages("session"), (Duration::ZERO, Duration::ZERO), "Zitadel knows no such cache");
    // The age that is given makes sense of the one that is not.
    let ages = |given: &str| {
        let config = yaml(&format!("Caches: {{ Instance: {{ Connector: '', {given} }} }}"));
        config.cache("instance").map(|cache| (cache.max_age, cache.last_use_age)).unwrap()
    };
    assert_eq!(ages("MaxAge: 5m"), (300 * SECOND, 300 * SECOND));
    assert_eq!(ages("MaxAge: 0"), (Duration::ZERO, 600 * SECOND));
    assert_eq!(ages("LastUseAge: 2h"), (HOUR, HOUR));
    // A breaker's block has Zitadel's defaults in it; without one the breaker is ours.
    let breaker = |settings: &str| {
        let config = yaml(&format!("Caches: {{ Connectors: {{ Redis: {{ Enabled: true, {settings} }} }} }}"));
        config.redis().unwrap().breaker.clone()
    };
    assert_eq!(breaker("CircuitBreaker: { Interval: 10s }").failure_ratio, 0.1);
    assert_eq!(breaker("PoolSize: 1"), larder::breaker::BreakerOptions::for_server());
}

#[test]
fn zitadels_words_are_matched_without_case() {
    for text in [
        "caches: { connectors: { redis: { enabled: true, addr: 'h:1' } }, instance: { connector: REDIS, maxage: 5m } }",
        "CACHES: { CONNECTORS: { REDIS: { ENABLED: TRUE, ADDR: 'h:1' } }, INSTANCE: { CONNECTOR: Redis, MAXAGE: 5m } }",
    ] {
        let config = yaml(text);
        assert_eq!(config.redis().unwrap().address.to_string(), "h:1");
        let instance = config.cache("instance").unwrap();
        assert_eq!((instance.connector, instance.max_age), (on("redis"), 300 * SECOND));
    }
    let toml = "[Caches.Connectors.Memory]\nEnabled = true\n[Caches.Instance]\nConnector = 'memory'\n";
    assert_eq!(Config::from_toml(toml).unwrap().cache("instance").unwrap().connector, on("memory"));
}

#[test]
fn the_rest_of_zitadels_file_is_left_alone() {
    let config =
        yaml(&format!("Log: {{ Level: info }}\nDatabase: {{ postgres: {{ Host: h }} }}\nPort: 8080\n{ZITADEL}"));
    let notes: Vec<String> = config.notes().iter().map(ToString::to_string).collect();
    let rest = "Log, Database, Port: not read: larder's settings are in the section `Caches`";
    assert_eq!(notes.iter().filter(|note| note.contains("not read")).collect::<Vec<_>>(), [rest]);
    assert_eq!(
        refusal("Caches: {}\nconnectors: {}"),
        "line 2: connectors stands beside Zitadel's `Caches`: give one or the other"
    );
}

#[test]
fn zitadels_environment_variables_are_read_for_its_file_only() {
    let variables = [
        REDIS_ON,
        ("ZITADEL_CACHES_CONNECTORS_REDIS_ADDR", "h:1"),
        ("ZITADEL_CACHES_CONNECTORS_REDIS_DBOFFSET", "3"),
        ("ZITADEL_CACHES_CONNECTORS_REDIS_CIRCUITBREAKER_MAXFAILURERATIO", "0.5"),
        ("ZITADEL_CACHES_CONNECTORS_REDIS_ENABLETLS", "false"),
        ("ZITADEL_CACHES_IDPFORMCALLBACKS_CONNECTOR", "redis"),
        ("ZITADEL_CACHES_INSTANCE_LOG_LEVEL", "debug"),
        ("ZITADEL_CACHES_MINE_CONNECTOR", "redis"),
        ("ZITADEL_PORT", "8080"),
        // Ours outrank theirs.
        ("LARDER_CACHES_ID_P_FORM_CALLBACKS_MAX_AGE", "20m"),
        ("LARDER_CONNECTORS_REDIS_PREFIX", "shop"),
    ];
    let config = zitadel(&variables);
    let redis = config.redis().unwrap();
    assert_eq!((redis.address.to_string().as_str(), redis.database, redis.prefix.as_str()), ("h:1", 3, "shop"));
    assert_eq!(redis.breaker.failure_ratio, 0.5);
    let callbacks = config.cache("IdPFormCallbacks").unwrap();
    assert_eq!((callbacks.connector, callbacks.max_age), (on("redis"), 1200 * SECOND));
    assert_eq!(config.cache("mine").unwrap().connector, on("redis"));
    let ours = load("a.yaml", "caches: { x: { connector: none } }", &[("ZITADEL_CACHES_X", "1")]);
    assert_eq!(ours.unwrap().caches().count(), 1);
}

#[test]
fn what_is_wrong_in_zitadels_block_is_told_in_its_words() {
    for (text, expected) in [
        (
            "Caches: { Connectors: { Redis: { Enabled: false } }, Instance: { Connector: redis } }",
            "Caches.Instance.Connector is redis, but `Caches.Connectors.Redis.Enabled` is false: set it to true, or give another connector",
        ),
        (
            "Caches: { Instance: { Connector: memory } }",
            "Caches.Instance.Connector is memory, but `Caches.Connectors.Memory.Enabled` is not given, which means false: set it to true, or \
             give another connector",
        ),
        (
            "Caches: { Connectors: { Postgres: { Enabled: false } }, Instance: { Connector: postgres } }",
            "Caches.Instance.Connector is postgres, but `Caches.Connectors.Postgres.Enabled` is false: set it to true, or give another connector",
        ),
        (
            "Caches: { Connectors: { Redis: { EnableTLS: perhaps } } }",
            "Caches.Connectors.Redis.EnableTLS is `perhaps`: give true or false",
        ),
        (
            "Caches: { Connectors: { Redis: { Enabled: true, Network: unix, Addr: /run/redis.sock, EnableTLS: true } } }",
            "Caches.Connectors.Redis.EnableTLS is given, and there is none on a Unix socket: give a host and a port, or no TLS",
        ),
        (
            "Caches: { Connectors: { Redis: { PoolSise: 3 } } }",
            "Caches.Connectors.Redis.PoolSise is no setting; did you mean `PoolSize`? Accepted here: Enabled, URL, Network, Addr, ClientName, \
             Username, Password, DBOffset, MaxRetries, MinRetryBackoff, MaxRetryBackoff, DialTimeout, ReadTimeout, WriteTimeout, PoolFIFO, \
             PoolSize, PoolTimeout, MinIdleConns, MaxIdleConns, MaxActiveConns, ConnMaxIdleTime, ConnMaxLifetime, EnableTLS, \
             DisableIndentity, IdentitySuffix, CircuitBreaker",
        ),
        (
            "Caches: { Connectors: { Redis: { PoolSize: many } } }",
            "Caches.Connectors.Redis.PoolSize is `many`: give a number",
        ),
        (
            "Caches: { Connectors: { Redis: { Enabled: perhaps } } }",
            "Caches.Connectors.Redis.Enabled is `perhaps`: give true or false",
        ),
        (
            "Caches: { Connectors: { Redis: { ReadTimeout: 100 } } }",
            "Caches.Connectors.Redis.ReadTimeout is `100`, which has no unit: give a duration such as 1h30m",
        ),
        (
            "Caches: { Connectors: { Redis: { Enabled: true, Network: udp } } }",
            "Caches.Connectors.Redis.Network is `udp`: give tcp or unix",
        ),
        (
            "Caches: { Connectors: { Redis: { CircuitBreaker: { MaxFailureRatio: 10 } } } }",
            "Caches.Connectors.Redis.CircuitBreaker.MaxFailureRatio is `10`: give 0 (never) to 1",
        ),
        (
            "Caches: { Instance: { Connector: memcached } }",
            "Caches.Instance.Connector is `memcached`: give memory, redis, postgres, or an empty text for none",
        ),
        (
            "Caches: { Instance: { Connector: '', MaxAge: 1h, LastUseAge: 2h } }",
            "Caches.Instance.LastUseAge contradicts `Caches.Instance.MaxAge`: a last-use age of 2h is longer than the max age, 1h: give one of at most the \
             max age, or 0 for either",
        ),
        (
            "Caches: { Instance: 5 }",
            "Caches.Instance is a number: give a mapping of Connector, MaxAge, LastUseAge, Log",
        ),
        (
            "Caches: { Instance: { Connector: '', connector: '' } }",
            "Caches.Instance.connector is given twice: case makes no difference here",
        ),
        ("Caches: [1]", "Caches is a list: give a mapping of `Connectors` and caches"),
    ] {
        assert_eq!(refusal(text), format!("line 1: {expected}"), "{text}");
    }
    assert_eq!(
        load("a.yaml", ZITADEL, &[("ZITADEL_CACHES_CONNECTORS_REDIS_ENABLE", "true")]).unwrap_err(),
        "environment variable ZITADEL_CACHES_CONNECTORS_REDIS_ENABLE: names no setting of Zitadel's caches; did you mean \
         ZITADEL_CACHES_CONNECTORS_REDIS_ENABLED?"
    );
}

// Whatever the bytes

/// Pieces that a configuration is made of, so that random texts get further than the parser.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "connectors",
        "redis",
        "memory",
        "breaker",
        "caches",
        "Caches",
        "Connectors",
        "Redis",
        "defaults",
        "url",
        "address",
        "max_age",
        "MaxAge",
        "CircuitBreaker",
        "Interval",
        "Timeout",
        "instance",
        "connector",
        "half_open",
        "prefix",
        "max_bytes",
        "Enabled",
        "DBOffset",
        "redis://u:p@h:1/2",
        "unix:///a?db=1",
        "1h30m",
        "-1",
        "0",
        "99999999999999999999",
        "1e300",
        ".nan",
        "~",
        "true",
        "{",
        "}",
        "[",
        "]",
        ": ",
        ", ",
        "\n",
        "  ",
        "- ",
        "!x ",
        "&a ",
        "*a",
        "<<",
        "'",
        "\"",
        "#",
        "---\n",
        "=",
        ".",
        "%",
        "µs",
        "\u{0}",
        "\u{1}",
    ];
    prop_oneof![8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_the_loader(pieces in proptest::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        for loaded in [Config::from_yaml(&text), Config::from_toml(&text)] {
            match loaded {
                Ok(config) => {
                    let effective = config.effective().to_string();
                    let again = Config::from_yaml(&effective);
                    prop_assert!(again.is_ok(), "{effective}\n{:?}", again.err());
                    prop_assert_eq!(again.unwrap().effective().to_string(), effective);
                }
                Err(error) => prop_assert!(!error.problems().is_empty() && !error.to_string().is_empty()),
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn no_value_panics_the_loader(value in "\\PC{0,20}", name in 0_usize..60, zitadel in any::<bool>()) {
        let names: Vec<&str> = EXAMPLE.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once(": ")).map(|(n, _)| n).collect();
        let name = names[name % names.len()].to_uppercase();
        let variables = [
            (format!("LARDER_CONNECTORS_REDIS_{name}"), value.clone()),
            (format!("LARDER_CONNECTORS_REDIS_BREAKER_{name}"), value.clone()),
            (format!("LARDER_CONNECTORS_MEMORY_{name}"), value.clone()),
            (format!("LARDER_CACHES_{name}_MAX_AGE"), value.clone()),
            (format!("ZITADEL_CACHES_CONNECTORS_REDIS_{name}"), value.clone()),
            (format!("LARDER_CACHES_X_{name}"), value),
        ];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, if zitadel { ZITADEL } else { EXAMPLE }).unwrap();
        for variable in variables {
            let _ = Config::load_with(&file, [variable]).map(|config| config.effective().to_string());
        }
    }
}
