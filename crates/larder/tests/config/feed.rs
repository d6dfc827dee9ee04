//! Feeds in a configuration.

use super::{load, refusal, yaml};
use larder::feed::{FeedOptions, Source, Sources, Wake};
use larder::{CacheOptions, Config};
use std::time::Duration;

const WHOLE: &str = "
connectors:
  db: { kind: postgres, url: 'host=h' }
feed:
  main:
    connector: db
    poll: 25ms
    wake: Listen
    sources:
      instance:
        - { table: projections.instances, key: id, index: id }
        - table: projections.instance_domains
          key: [instance_id]
          index: id
          columns: [domain, is_primary]
        - { table: projections.restrictions, key: [tenant, instance_id], index: both, always: true }
      user_grant:
        - { table: 'app.\"Grants\"', key: 'the id', index: id }
caches:
  instance: { connector: memory, feed: Main, feed_deadline: 2s }
  user_grant: { connector: db, feed: main }
";

/// The whole with one text in place of another.
fn with(text: &str, instead: &str) -> String {
    assert!(WHOLE.contains(text), "{text}");
    WHOLE.replace(text, instead)
}

#[test]
fn a_file_and_code_give_the_same_feed() {
    let config = yaml(WHOLE);
    let sources = Sources::new()
        .of("instance", Source::new("projections.instances", ["id"], "id"))
        .of(
            "instance",
            Source::new("projections.instance_domains", ["instance_id"], "id").columns(["domain", "is_primary"]),
        )
        .of("instance", Source::new("projections.restrictions", ["tenant", "instance_id"], "both").always())
        .of("user_grant", Source::new("app.\"Grants\"", ["the id"], "id"));
    let code = FeedOptions::new().poll(Duration::from_millis(25)).wake(Wake::Listen).on("db").sources(sources);
    assert_eq!(config.feeds().collect::<Vec<_>>(), [("main", &code)]);
    assert_eq!(config.feed("MAIN").unwrap().0, "main");
    assert!(config.feed("other").is_none());
    let instance = CacheOptions::on("memory").feed("Main").feed_deadline(Duration::from_secs(2));
    assert_eq!(config.cache("instance").unwrap(), instance);
    assert_eq!(config.notes(), []);

    let plain = yaml("{ connectors: { db: { kind: postgres, url: 'host=h' } }, feed: { a: { connector: db } } }");
    assert_eq!(plain.feeds().collect::<Vec<_>>(), [("a", &FeedOptions::new().on("db"))]);
    assert_eq!(plain.notes(), [], "a feed that no cache follows is fine");
}

#[test]
fn toml_says_the_same_as_yaml() {
    let toml = "
        [connectors.db]
        kind = 'postgres'
        url = 'host=h'
        [feed.main]
        connector = 'db'
        poll = '25ms'
        wake = 'listen'
        [[feed.main.sources.instance]]
        table = 'projections.instances'
        key = 'id'
        index = 'id'
        [[feed.main.sources.instance]]
        table = 'projections.instance_domains'
        key = ['instance_id']
        index = 'id'
        columns = ['domain', 'is_primary']
        [[feed.main.sources.instance]]
        table = 'projections.restrictions'
        key = ['tenant', 'instance_id']
        index = 'both'
        always = true
        [[feed.main.sources.user_grant]]
        table = 'app.\"Grants\"'
        key = 'the id'
        index = 'id'
        [caches.instance]
        connector = 'memory'
        feed = 'Main'
        feed_deadline = '2s'
        [caches.user_grant]
        connector = 'db'
        feed = 'main'
        ";
    let (toml, yaml) = (Config::from_toml(toml).unwrap(), yaml(WHOLE));
    assert_eq!(toml.feeds().collect::<Vec<_>>(), yaml.feeds().collect::<Vec<_>>());
    assert_eq!(toml.effective().to_string(), yaml.effective().to_string());
    let wrong = "[connectors.db]\nkind = 'postgres'\nurl = 'host=h'\n[feed.main]\nconnector = 'db'\n\
        sources.a = [\n  { table = 't', key = 'k', index = 'i' },\n  { table = 't', key = 'k', index = 'j', colums = [] },\n  7,\n]\n";
    let said = Config::from_toml(wrong).unwrap_err().to_string();
    let begins: Vec<&str> = said.lines().map(|line| line.get(..40).unwrap_or(line)).collect();
    assert_eq!(
        begins,
        ["line 8: feed.main.sources.a[1].colums is", "line 9: feed.main.sources.a[2] is a numb"],
        "{said}"
    );
}

#[test]
fn the_effective_configuration_can_be_loaded_again() {
    let whole = yaml(WHOLE);
    let effective = whole.effective().to_string();
    let again = yaml(&effective);
    assert_eq!(again.effective().to_string(), effective);
    assert_eq!(again.feeds().collect::<Vec<_>>(), whole.feeds().collect::<Vec<_>>());
    for line in [
        "feed:\n  main:\n    connector: db\n    poll: 25ms\n    wake: listen\n    sources:\n      instance:\n        -\n          table: projections.instances\n          key: id\n          index: id\n        -\n",
        "          columns: [domain, is_primary]\n",
        "          key: [tenant, instance_id]\n          index: both\n          always: true\n",
        "    feed: Main\n    feed_deadline: 2s\n",
    ] {
        assert!(effective.contains(line), "{effective}");
    }
    // What is not used is not shown.
    assert!(!yaml("caches: { a: { connector: memory } }").effective().to_string().contains("feed"));
    let inherits = with(
        "caches:",
        "defaults: { connector: memory, feed: main, feed_deadline: 3s }\ncaches:\n  off: { feed: none }\n  other: {}",
    );
    let config = yaml(&inherits);
    assert_eq!((config.cache("off").unwrap().feed, config.cache("other").unwrap().feed), (None, Some("main".into())));
    assert_eq!(config.unlisted().unwrap().feed_deadline, Duration::from_secs(3));
    let effective = config.effective().to_string();
    let again = yaml(&effective);
    assert_eq!(again.cache("off"), config.cache("off"), "{effective}");
    assert_eq!((again.cache("nobody"), again.cache("other")), (config.cache("nobody"), config.cache("other")));
}

#[test]
fn variables_outrank_the_file_and_give_a_feed_alone() {
    let given = [
        ("LARDER_FEED_MAIN_POLL", "10ms"),
        ("LARDER_FEED_MAIN_WAKE", "poll"),
        ("LARDER_CACHES_INSTANCE_FEED", "none"),
        ("LARDER_CACHES_USER_GRANT_FEED_DEADLINE", "3s"),
    ];
    let config = load("a.yaml", WHOLE, &given).unwrap();
    let options = &config.feed("main").unwrap().1.options;
    assert_eq!((options.poll, options.wake), (Duration::from_millis(10), Wake::Poll));
    assert_eq!(config.feed("main").unwrap().1.sources.all().count(), 4);
    assert_eq!(config.cache("instance").unwrap().feed, None);
    assert_eq!(config.cache("user_grant").unwrap().feed_deadline, Duration::from_secs(3));
    let alone = [
        ("LARDER_CONNECTORS_POSTGRES_URL", "host=h"),
        ("LARDER_FEED_MAIN_CONNECTOR", "postgres"),
        ("LARDER_DEFAULTS_CONNECTOR", "memory"),
        ("LARDER_DEFAULTS_FEED", "main"),
    ];
    let alone = Config::from_variables(alone).unwrap();
    assert_eq!(alone.feeds().count(), 1);
    assert_eq!(alone.unlisted().unwrap().feed.as_deref(), Some("main"));
    for (name, value, expected) in [
        (
            "LARDER_FEED_MAIN_SOURCES",
            "x",
            "names no setting of a feed: LARDER_FEED_, the feed, and _CONNECTOR or _POLL or _WAKE; sources are given in a file",
        ),
        ("LARDER_FEED_MAIN_POLL", "1ns", "feed.main.poll is `1ns`: give a duration from 1ms to 30s, such as 50ms"),
        (
            "LARDER_CACHES_INSTANCE_FEED",
            "mainn",
            "caches.instance.feed is `mainn`, which is no feed (did you mean `main`?): give none or main",
        ),
    ] {
        let said = load("a.yaml", WHOLE, &[(name, value)]).unwrap_err();
        assert_eq!(said, format!("environment variable {name}: {expected}"));
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_would_be_right() {
    for (text, instead, expected) in [
        ("feed:\n  main:", "feed: 7\nfeeds:\n  main:", "line 4: feed is a number: give a mapping of feeds by name"),
        (
            "feed:\n  main:",
            "feed:\n  none:",
            "line 5: feed.none cannot be the name of a feed: a cache with it follows no feed; give another name",
        ),
        (
            "feed:\n  main:",
            "feed:\n  MAIN: { connector: other }\n  main:",
            "line 6: feed.main names the same feed as `MAIN`: case, `_` and `-` make no difference; give one of the two",
        ),
        (
            "feed:\n  main:",
            "feed:\n  'a b':",
            "feed.a… is no name for a feed: give 1 to 128 letters, digits, `_`, `-` or `.`",
        ),
        (
            "    connector: db\n",
            "",
            "line 5: feed.main has no connector: give `connector`, the name of a connector of the kind postgres",
        ),
        (
            "    connector: db\n",
            "    connector: dbb\n",
            "line 6: feed.main.connector is `dbb`, which is no connector (did you mean `db`?): give a connector of the kind postgres: db",
        ),
        (
            "    connector: db\n",
            "    connector: memory\n",
            "line 6: feed.main.connector is `memory`, of the kind memory: give a connector of the kind postgres: db",
        ),
        (
            "    connector: db\n",
            "    connector: none\n",
            "line 6: feed.main.connector is `none`, of the kind none: give a connector of the kind postgres: db",
        ),
        (
            "    connector: db\n",
            "    connector: postgres\n",
            "line 6: feed.main.connector is `postgres`, but `connectors.postgres` does not say where the database is: give `url` there",
        ),
        (
            "    connector: db\n",
            "    connector: [db]\n",
            "line 6: feed.main.connector is a list: give the name of a connector of the kind postgres",
        ),
        (
            "feed:\n",
            "feed:\n  also: { connector: db }\n",
            "line 7: feed.main.connector is `db`, whose database the feed `also` polls already: one feed is enough for all caches; put the sources there",
        ),
        ("poll: 25ms", "poll: 31s", "line 7: feed.main.poll is `31s`: give a duration from 1ms to 30s, such as 50ms"),
        ("wake: Listen", "wake: notify", "line 8: feed.main.wake is `notify`: give poll, or listen in a small fleet"),
        (
            "poll: 25ms",
            "pol: 25ms",
            "line 7: feed.main.pol is no setting; did you mean `poll`? Accepted here: connector, poll, wake, sources",
        ),
        (
            "feed: Main",
            "feed: mainn",
            "line 20: caches.instance.feed is `mainn`, which is no feed (did you mean `main`?): give none or main",
        ),
        ("feed: Main", "feed: 1", "line 20: caches.instance.feed is `1`: give none, or the name of a feed"),
        (
            "feed_deadline: 2s",
            "feed_deadline: 49ms",
            "line 20: caches.instance.feed_deadline is `49ms`: give a duration of at least two polls and at most 1m, such as 1s",
        ),
        (
            "feed_deadline: 2s",
            "feed_deadline: 61s",
            "line 20: caches.instance.feed_deadline is `61s`: give a duration of at least two polls and at most 1m, such as 1s",
        ),
        (
            "feed_deadline: 2s",
            "feed_deadline: 0",
            "line 20: caches.instance.feed_deadline is `0`: give a duration of at least two polls and at most 1m, such as 1s",
        ),
    ] {
        let said = refusal(&with(text, instead));
        assert!(said.lines().any(|line| line.ends_with(expected)), "{expected}\n{said}");
    }
}

#[test]
fn a_source_that_cannot_be_used_is_refused_with_its_place() {
    let first = "{ table: projections.instances, key: id, index: id }";
    let at = "feed.main.sources.instance[0]";
    for (instead, expected) in [
        (
            "{ key: id, index: id }",
            format!("{at} has no table: give `table`, a table with its schema, such as app.instances"),
        ),
        (
            "{ table: t, index: id }",
            format!(
                "{at} has no key: give `key`, the column whose value is the key, or a list of the columns of its parts"
            ),
        ),
        (
            "{ table: t, key: id }",
            format!("{at} has no index: give `index`, the index of the cache's entry type that the key is of"),
        ),
        (
            "{ table: '', key: id, index: id }",
            format!("{at}.table is empty: give a table with its schema, such as app.instances"),
        ),
        (
            "{ table: t, key: [], index: id }",
            format!(
                "{at}.key is a list: give the column whose value is the key, or a list of the columns of its parts"
            ),
        ),
        (
            "{ table: t, key: [a, a], index: id }",
            format!(
                "{at}.key is a list: give the column whose value is the key, or a list of the columns of its parts"
            ),
        ),
        (
            "{ table: t, key: [a, 1], index: id }",
            format!(
                "{at}.key is a number, not text (put it in quotes): give the column whose value is the key, or a list of the columns of its parts"
            ),
        ),
        (
            "{ table: t, key: id, index: 'a:b' }",
            format!("{at}.index is `a:b`: give 1 to 128 letters, digits, `_`, `-` or `.`"),
        ),
        (
            "{ table: t, key: id, index: id, columns: a }",
            format!("{at}.columns is text: give a list of the columns that objects are built from"),
        ),
        (
            "{ table: t, key: id, index: id, columns: [a, a] }",
            format!("{at}.columns is a list: give a list of the columns that objects are built from"),
        ),
        (
            "{ table: t, key: id, index: id, always: maybe }",
            format!("{at}.always is `maybe`: give true, for a subscriber of logical replication, or false"),
        ),
        (
            "{ table: t, key: id, index: id, colums: [] }",
            format!(
                "{at}.colums is no setting; did you mean `columns`? Accepted here: table, key, index, columns, always"
            ),
        ),
        ("text", format!("{at} is text: give a mapping of settings (table, key, index, columns, always)")),
        ("~", format!("{at} is empty: give a source, with table, key and index")),
    ] {
        let said = refusal(&with(first, instead));
        assert_eq!(said, format!("line 11: {expected}"));
    }
    let second = "        - { table: 'app.\"Grants\"', key: 'the id', index: id }\n";
    for (instead, expected) in [
        (
            "        { table: t }\n",
            "line 17: feed.main.sources.user_grant is a mapping: give a list of sources, each with table, key and index",
        ),
        (
            &format!("{second}{second}"),
            "line 19: feed.main.sources.user_grant[1] is there twice, with the same table, key and index: give it once",
        ),
        (
            &format!("{second}      User-Grant: []\n"),
            "line 19: feed.main.sources.User-Grant names the same cache as `user_grant`: give the name that its entry type has, once",
        ),
        (
            &format!("{second}      'a b': []\n"),
            "line 19: feed.main.sources.a… is no name for a cache: give 1 to 128 letters, digits, `_`, `-` or `.`",
        ),
    ] {
        assert_eq!(refusal(&with(second, instead)), expected);
    }
    let nothing = refusal(
        "{ connectors: { db: { kind: postgres, url: 'host=h' } }, feed: { a: { connector: db, sources: [1] } } }",
    );
    assert_eq!(
        nothing,
        "line 1: feed.a.sources is a list: give a mapping of caches by name, and a list of sources for each"
    );
}

/// The triggers tell a cache that does not listen.
#[test]
fn a_cache_that_hears_of_nothing_is_noted() {
    let config = yaml(&with("feed: Main, ", ""));
    let notes: Vec<String> = config.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "feed.main.sources.instance: the cache `instance` does not follow this feed, and hears of no change: give it `feed: main`"
        ]
    );
    assert_eq!(yaml(&with("connector: memory, feed: Main", "connector: none")).notes(), []);
    assert_eq!(yaml(&with("connector: memory, feed: Main", "connector: db")).notes(), []);
    let unused = yaml("{ connectors: { db: { kind: postgres, url: 'host=h' } } }");
    assert_eq!(unused.notes().len(), 1, "no cache is on it, and no feed");
}

#[test]
fn zitadels_block_may_not_have_a_feed_beside_it() {
    let said = refusal("{ Caches: { Instance: { Connector: memory } }, feed: { main: { connector: postgres } } }");
    assert!(said.contains("feed stands beside Zitadel's `Caches`"), "{said}");
}
