//! The postgres connector in a configuration.

use super::zitadel::zitadel;
use super::{SECOND, ZITADEL, load, on, refusal, yaml};
use larder::connector::postgres::PostgresOptions;
use larder::{Config, ConnectorKind, ConnectorOptions};
use std::fs;
use std::time::Duration;

fn on_postgres(settings: &str) -> String {
    format!("connectors: {{ postgres: {{ {settings} }} }}")
}

fn variables(given: &[(&str, &str)]) -> Result<Config, String> {
    Config::from_variables(given.iter().copied()).map_err(|error| error.to_string())
}

#[test]
fn a_url_says_where_the_database_is_and_who_we_are() {
    for (settings, place, user, password) in [
        ("url: 'postgres://db.internal/shop'", "db.internal/shop", None, None),
        ("url: 'postgresql://ann:b%2Frley@[::1]:7000/shop'", "::1:7000/shop", Some("ann"), Some("b/rley")),
        ("url: 'postgres://ann@h', password: barley", "h/ann", Some("ann"), Some("barley")),
        ("url: 'host=/run/postgresql user=ann dbname=shop'", "/run/postgresql/shop", Some("ann"), None),
        ("url: \"host=h user=ann password='bar ley'\"", "h/ann", Some("ann"), Some("bar ley")),
    ] {
        let config = yaml(&on_postgres(settings));
        let postgres = config.postgres().unwrap();
        assert_eq!((postgres.place().as_str(), postgres.user()), (place, user), "{settings}");
        assert_eq!(postgres.password.as_ref().map(|secret| secret.expose()), password, "{settings}");
    }
}

/// Code gives the same options as a file.
#[test]
fn a_file_and_code_give_the_same_options() {
    let file = yaml(&on_postgres("url: 'postgres://ann:barley@h/shop', connections: 2, create: false"));
    let code = PostgresOptions::from_url("host=h port=5432 user=ann dbname=shop").unwrap();
    let code = code.password("barley").connections(2).create(false);
    let file = file.postgres().unwrap();
    assert_eq!((file.place(), file.user(), file.connections), (code.place(), code.user(), code.connections));
    assert_eq!((&file.password, file.create), (&code.password, code.create));
    let same = "postgres://ann:barley@h/shop";
    let plain = yaml(&on_postgres(&format!("url: '{same}'")));
    assert_eq!(plain.postgres(), Some(&PostgresOptions::from_url(same).unwrap()));
}

#[test]
fn a_second_database_has_a_name_and_a_kind() {
    let config = yaml(
        "
        connectors:
          postgres: { url: 'host=main' }
          Replies: { kind: postgres, url: 'host=replies', connections: 2, breaker: { min_calls: 3 } }
        caches: { instance: { connector: postgres }, reply: { connector: replies } }
        ",
    );
    assert_eq!(config.cache("reply").unwrap().connector, on("replies"));
    let Some(ConnectorOptions::Postgres(replies)) = config.connector("replies") else { panic!("no such connector") };
    assert_eq!((replies.place().as_str(), replies.connections, replies.breaker.min_calls), ("replies/?", 2, 3));
    assert_eq!(config.connector("replies").unwrap().kind(), ConnectorKind::Postgres);
    let effective = config.effective().to_string();
    assert_eq!(yaml(&effective).effective().to_string(), effective);
    assert!(effective.contains("  Replies:\n    kind: postgres\n    url: \"host=replies\"\n"), "{effective}");
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_would_be_right() {
    let at = |settings: &str| refusal(&on_postgres(&format!("url: 'host=h', {settings}")));
    for (settings, expected) in [
        ("connections: 0", "connections is `0`: give a number, 1 to 100"),
        ("connections: 101", "connections is `101`: give a number, 1 to 100"),
        ("connections: many", "connections is `many`: give a number, 1 to 100"),
        ("prepared: 1", "prepared is `1`: give true, or false behind a pooler that knows no prepared statements"),
        ("create: maybe", "create is `maybe`: give true, or false where `larder postgres setup` makes the tables"),
        ("connect_timeout: 0", "connect_timeout is `0`: give a duration above 0 and up to 1h, such as 2s"),
        ("operation_timeout: 2h", "operation_timeout is `2h`: give a duration above 0 and up to 1h, such as 250ms"),
        (
            "operation_timeout: 5",
            "operation_timeout is `5`, which has no unit: give a duration above 0 and up to 1h, such as 250ms",
        ),
        ("journal_limit: 0", "journal_limit is `0`: give a number, 1 or more"),
        ("journal_bytes: 0", "journal_bytes is `0`: give a size of 1 B or more, such as 16 MiB"),
        ("hints: 0", "hints is `0`: give a number, 1 to 100000000"),
        ("password: ''", "password is empty: give text"),
        (
            "password: a, password_file: b",
            "password_file contradicts `connectors.postgres.password`: give one of the two",
        ),
        ("breaker: { min_calls: 0 }", "breaker.min_calls is `0`: give a number, 1 or more"),
        (
            "operation_timout: 1s",
            "operation_timout is no setting; did you mean `operation_timeout`? Accepted here: url, password,",
        ),
        ("address: h", "address is no setting; `connectors.redis.address` is one. Accepted here: url"),
    ] {
        let said = at(settings);
        let said = said.lines().find(|line| line.contains(settings.split(':').next().unwrap())).unwrap();
        assert!(said.starts_with(&format!("line 1: connectors.postgres.{expected}")), "{settings}: {said}");
    }
    for (text, expected) in [
        (
            "caches: { x: { connector: postgres } }",
            "line 1: caches.x.connector is postgres, but `connectors.postgres` does not say where the database is: give `url` there",
        ),
        (
            "{ connectors: { postgres: { connections: 1 } }, defaults: { connector: postgres } }",
            "line 1: defaults.connector is postgres, but `connectors.postgres` does not say where the database is: give `url` there",
        ),
        (
            "connectors: { other: { kind: postgres, connections: 1 } }",
            "line 1: connectors.other does not say where the database is: give `url`",
        ),
        (
            "connectors: { postgres: { url: 'user=ann' } }",
            "line 1: connectors.postgres.url cannot be used: its `host` is missing: give a host, or the folder of a Unix socket: give postgres://user:password@host:port/database, or keys and values such as `host=… user=… dbname=…`",
        ),
    ] {
        assert_eq!(refusal(text), expected);
    }
    assert!(yaml("connectors: { postgres: { connections: 1 } }").postgres().is_none(), "no cache is on it");
}

#[test]
fn no_secret_is_ever_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "ba rley'\\\n").unwrap();
    for settings in [
        "url: 'host=h', password: \"ba rley'\\\\\"".to_owned(),
        format!("url: 'host=h', password_file: {}", file.display()),
        "url: 'postgres://ann:ba%20rley%27%5C@h/shop'".to_owned(),
        "url: 'postgres://h/shop?password=ba%20rley%27%5C'".to_owned(),
        "url: \"host=h password='ba rley\\\\'\\\\\\\\'\"".to_owned(),
    ] {
        let config = yaml(&format!("{}\ncaches: {{ x: {{ connector: postgres }} }}", on_postgres(&settings)));
        let postgres = config.postgres().unwrap();
        assert_eq!(postgres.password.as_ref().unwrap().expose(), "ba rley'\\", "{settings}");
        let effective = config.effective().to_string();
        for shown in [format!("{config:?}"), format!("{config:#?}"), format!("{postgres:?}"), effective.clone()] {
            assert!(!shown.contains("rley") && shown.contains("***") || shown.contains("password_file: "), "{shown}");
        }
        assert!(!effective.contains("rley"));
        let again = yaml(&effective);
        assert_eq!(again.effective().to_string(), effective, "{settings}");
        assert_eq!(again.postgres().unwrap().place(), postgres.place());
        let masked = again.notes().iter().any(|note| note.path() == "connectors.postgres.password");
        assert_eq!(masked, !settings.contains("password_file"), "{settings}");
    }
}

/// A password is easily put where it does not belong.
#[test]
fn no_error_shows_a_password() {
    for settings in [
        "password: { barley: 1 }",
        "password: [barley]",
        "password:barley",
        "url: 'mysql://ann:barley@h'",
        "url: 'redis://ann:barley@h'",
        "url: 'barley'",
        "url: 'host=h barley'",
        "url: 'host=h sslpassword=barley'",
        "url: 'postgres://ann:barley@h:port'",
        "url: 'postgres://ann:barley@h?barley=1'",
        "url: 'postgres://ann:barley@h', password: barley",
        "url: 'postgres://ann:barley@h', password_file: /nowhere",
        "url: { barley: 1 }",
        "connections: 'postgres://ann:barley@h', url: 'barley'",
    ] {
        let said = refusal(&on_postgres(settings));
        let shown = if settings.starts_with("connections") { said.lines().nth(1).unwrap_or_default() } else { &said };
        assert!(!shown.contains("barley"), "{settings}: {said}");
    }
    let said = variables(&[("LARDER_CONNECTORS_POSTGRES_URL", "http://ann:barley@h")]).unwrap_err();
    assert!(!said.contains("barley"), "{said}");
}

#[test]
fn a_password_file_that_cannot_be_used_is_named() {
    let settings = "url: 'host=h', password_file: /nowhere/password";
    let said = refusal(&on_postgres(settings));
    let expected = "line 1: connectors.postgres.password_file names /nowhere/password, which cannot be read: ";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn variables_outrank_the_file() {
    let file = "
        connectors:
          postgres: { url: 'postgres://ann:rye@h/shop', connections: 3 }
          replies: { kind: postgres, url: 'host=h', password_file: /nowhere }
        caches: { instance: { connector: postgres }, reply: { connector: replies } }
        ";
    let given = [
        ("LARDER_CONNECTORS_POSTGRES_PASSWORD", "barley"),
        ("LARDER_CONNECTORS_POSTGRES_PREPARED", "false"),
        ("LARDER_CONNECTORS_POSTGRES_OPERATION_TIMEOUT", "1s"),
        ("LARDER_CONNECTORS_POSTGRES_BREAKER_MIN_CALLS", "7"),
        ("LARDER_CONNECTORS_REPLIES_URL", "postgres://bob:barley@other/replies"),
    ];
    let config = load("a.yaml", file, &given).unwrap();
    let postgres = config.postgres().unwrap();
    assert_eq!((postgres.user(), postgres.connections, postgres.prepared), (Some("ann"), 3, false));
    assert_eq!((postgres.operation_timeout, postgres.breaker.min_calls), (SECOND, 7));
    assert_eq!(postgres.password.as_ref().unwrap().expose(), "barley");
    let Some(ConnectorOptions::Postgres(replies)) = config.connector("replies") else { panic!("no such connector") };
    assert_eq!((replies.place().as_str(), replies.user()), ("other/replies", Some("bob")));
    assert_eq!(replies.password.as_ref().unwrap().expose(), "barley");

    let alone = variables(&[
        ("LARDER_CONNECTORS_POSTGRES_URL", "host=h"),
        ("LARDER_CONNECTORS_MINE_KIND", "postgres"),
        ("LARDER_CONNECTORS_MINE_URL", "host=mine"),
        ("LARDER_DEFAULTS_CONNECTOR", "mine"),
    ]);
    assert_eq!(alone.unwrap().connectors().count(), 2);
    assert_eq!(
        variables(&[("LARDER_CONNECTORS_POSTGRES_URI", "host=h")]).unwrap_err(),
        "environment variable LARDER_CONNECTORS_POSTGRES_URI: names no setting; did you mean LARDER_CONNECTORS_POSTGRES_URL?"
    );
}

#[test]
fn toml_says_the_same_as_yaml() {
    let toml = "[connectors.postgres]\nurl = 'postgres://ann@h/shop'\nprepared = false\nconnections = 2\n";
    let yaml = yaml(&on_postgres("url: 'postgres://ann@h/shop', prepared: false, connections: 2"));
    assert_eq!(Config::from_toml(toml).unwrap().postgres(), yaml.postgres());
}

// Zitadel

/// Zitadel's block has no URL: its caches are in its own database. The block loads all the same.
#[test]
fn zitadels_database_is_given_by_a_variable_or_in_the_block() {
    let note = |config: &Config| {
        let path = "Caches.Connectors.Postgres";
        config.notes().iter().find(|note| note.path() == path).map(|note| note.text().to_owned())
    };
    let unaddressed = yaml(ZITADEL);
    assert!(unaddressed.postgres().is_none());
    assert!(note(&unaddressed).unwrap().contains("LARDER_CONNECTORS_POSTGRES_URL"), "{:?}", unaddressed.notes());

    let url = "postgres://zitadel:barley@db.internal/zitadel";
    let given = zitadel(&[("LARDER_CONNECTORS_POSTGRES_URL", url)]);
    let postgres = given.postgres().unwrap();
    assert_eq!((postgres.place().as_str(), postgres.prune_interval), ("db.internal/zitadel", 900 * SECOND));
    assert_eq!(postgres.operation_timeout, Duration::from_millis(250));
    assert_eq!(note(&given), None);
    let effective = given.effective().to_string();
    assert_eq!(yaml(&effective).effective().to_string(), effective);
    assert_eq!(zitadel(&[("ZITADEL_CACHES_CONNECTORS_POSTGRES_URL", url)]).postgres(), given.postgres());

    let in_block = "Caches: { Connectors: { Postgres: { URL: 'host=h', AutoPrune: { Interval: 0 } } }, Instance: { Connector: postgres } }";
    let postgres = yaml(in_block).postgres().unwrap().clone();
    assert_eq!((postgres.place().as_str(), postgres.prune_interval), ("h/?", Duration::ZERO));
    let timeout = "Caches.Connectors.Postgres.AutoPrune.TimeOut: larder prunes in small steps, and `operation_timeout` limits each of them";
    assert!(given.notes().iter().any(|note| note.to_string() == timeout), "{:?}", given.notes());
}

#[test]
fn zitadels_database_may_be_switched_off() {
    let off = "Caches: { Connectors: { Postgres: { Enabled: false } }, Instance: { Connector: '' } }";
    assert!(yaml(off).notes().is_empty(), "{:?}", yaml(off).notes());
    let used = off.replace("Connector: ''", "Connector: postgres");
    for given in [&[][..], &[("LARDER_CONNECTORS_POSTGRES_URL", "host=h")]] {
        let said = load("a.yaml", &used, given).unwrap_err();
        assert!(said.contains("`Caches.Connectors.Postgres.Enabled` is false"), "{said}");
    }
}
