//! Files as a whole: YAML and TOML, an empty file, the example file, and the effective configuration, which can be loaded again.

use super::{EXAMPLE, load, on, yaml};
use larder::Config;

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
