//! What each setting means: under which name it is read, and what it does to the options.

use super::{HOUR, SECOND, on, yaml};
use larder::CacheOptions;
use larder::breaker::HalfOpen;
use larder::connector::postgres::PostgresOptions;
use larder::connector::redis::Address;
use std::time::Duration;

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
fn a_breaker_that_is_told_only_how_long_it_stays_open_stays_open_for_so_long() {
    let config = yaml("connectors:\n  redis:\n    address: h:1\n    breaker:\n      open: 1m\n");
    let breaker = &config.redis().unwrap().breaker;
    assert_eq!((breaker.open, breaker.open_max), (60 * SECOND, 60 * SECOND));
}
