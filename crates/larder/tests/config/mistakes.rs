//! Mistakes in a file: each is refused with its place and with what would be right, and all of them at once.

use super::refusal;
use larder::Config;

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
