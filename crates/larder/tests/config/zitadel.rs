//! Zitadel's `Caches:` block in the place of a configuration: what its settings mean to larder, and what is told in its words.

use super::{HOUR, SECOND, ZITADEL, load, on, refusal, yaml};
use larder::Config;
use larder::breaker::HalfOpen;
use larder::connector::redis::TlsOptions;
use std::time::Duration;

/// Zitadel's block with these environment variables.
pub(super) fn zitadel(variables: &[(&str, &str)]) -> Config {
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

/// Zitadel's block with another value for a setting of its Redis section, which is switched on.
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
