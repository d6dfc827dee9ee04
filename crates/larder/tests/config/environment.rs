//! Environment variables: beside a file, which they outrank, and without one.

use super::{HOUR, SECOND, load, on, on_redis};
use larder::Config;
use larder::breaker::HalfOpen;

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
