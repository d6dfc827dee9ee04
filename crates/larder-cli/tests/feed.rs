//! `larder feed` and what `larder check` says of feeds, on PostgreSQL servers, as a user runs them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use larder_testing::pgbouncer::PgBouncer;
use larder_testing::postgres::{PostgresServer, required};
use serde_json::Value;
use std::fs;
use std::process::Command;
use tokio::runtime::Runtime;

const TABLES: &str = "CREATE SCHEMA app;
    CREATE TABLE app.instances (id text PRIMARY KEY, name text);
    CREATE TABLE app.domains (domain text, instance_id text);
    CREATE TABLE app.accounts (id int, data json);
    CREATE TABLE app.parts (id int, tenant text) PARTITION BY LIST (tenant);
    CREATE TABLE app.parts_a PARTITION OF app.parts FOR VALUES IN ('a');
    CREATE VIEW app.seen AS SELECT * FROM app.instances;
    CREATE TABLE app.money (amount numeric, at timestamptz)";

const INSTANCES: &str = "{ table: app.instances, key: id, index: id, columns: [name] }";
const DOMAINS: &str = "{ table: app.domains, key: [instance_id], index: id }";
const PARTS: &str = "{ table: app.parts, key: id, index: id }";

#[derive(Debug)]
struct Run {
    code: Option<i32>,
    told: String,
    logged: String,
}

fn larder(arguments: &[&str], text: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("caches.yaml");
    fs::write(&path, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(arguments).args(["-c", path.to_str().unwrap()]).env_remove("RUST_LOG");
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        told: String::from_utf8(output.stdout).unwrap(),
        logged: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json(arguments: &[&str], text: &str) -> (Run, Value) {
    let run = larder(&[arguments, &["--json"]].concat(), text);
    let report = serde_json::from_str(&run.told).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    (run, report)
}

fn servers() -> Vec<PostgresServer> {
    let runtime = Runtime::new().unwrap();
    let start = |binaries| runtime.block_on(PostgresServer::start(&binaries, &[])).unwrap();
    let servers: Vec<_> = required().unwrap().into_iter().map(start).collect();
    servers.iter().for_each(|server| drop(server.psql(TABLES).unwrap()));
    servers
}

/// A configuration with these sources, for this user.
fn yaml_as(server: &PostgresServer, user: &str, sources: &str, more: &str) -> String {
    let url = server.dsn().replace("user=larder", &format!("user={user}"));
    format!(
        "connectors: {{ db: {{ kind: postgres, url: '{url}', connect_timeout: 20s, operation_timeout: 20s{more} }} }}\n\
         feed: {{ main: {{ connector: db, sources: {{ {sources} }} }} }}\n\
         caches: {{ instance: {{ connector: memory, feed: main }} }}\n"
    )
}

fn yaml(server: &PostgresServer, sources: &str) -> String {
    yaml_as(server, "larder", sources, "")
}

fn installed(server: &PostgresServer) -> String {
    let asked = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'larder %' AND tgparentid = 0";
    server.psql(asked).unwrap()
}

/// What `larder check` finds of the feed: topic, level, text, and what to do.
fn check(text: &str) -> (Run, Vec<[String; 4]>) {
    let (run, report) = json(&["check"], text);
    let of = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["feeds"][0]["findings"].as_array().unwrap_or_else(|| panic!("{report}")).clone();
    (run, findings.iter().map(|one| ["topic", "level", "text", "do"].map(|name| of(one, name))).collect())
}

fn problems(text: &str) -> Vec<[String; 4]> {
    check(text).1.into_iter().filter(|[_, level, ..]| level == "problem").collect()
}

#[test]
fn apply_installs_once_and_says_what_it_did() {
    for server in servers() {
        let text = yaml(&server, &format!("instance: [ {INSTANCES}, {DOMAINS} ]"));
        let place = format!("{}/larder", server.socket().display());
        let made = larder(&["feed", "apply"], &text);
        assert_eq!((made.code, made.logged.as_str()), (Some(0), ""), "{made:?}");
        let expected = format!(
            "the feed main, in {place}:\n  made the schema larder with its tables\n  app.domains: made 4 triggers of the cache instance\n  \
             app.instances: made 4 triggers of the cache instance\n  \
             forgot everything in the cache instance: what changed before was not told\n  \
             whether the cache `instance` has the index `id` is not checked: no service has registered it\n"
        );
        assert_eq!(made.told, expected);
        assert_eq!(installed(&server), "8");
        let told = "SELECT cache || coalesce(index || encode(keys[1], 'escape'), '') FROM larder.changes";
        assert_eq!(server.psql(told).unwrap(), "instance", "what was cached before is forgotten");
        server.psql("DELETE FROM larder.changes; INSERT INTO app.instances VALUES ('1', 'a')").unwrap();
        assert_eq!(server.psql(told).unwrap(), "instanceid1");

        let again = larder(&["feed", "apply"], &text);
        assert!(
            again.told.contains("app.domains: 4 triggers as declared, not touched of the cache instance"),
            "{again:?}"
        );
        assert!(!again.told.contains("made") && !again.told.contains("forgot"), "{again:?}");
        assert_eq!(server.psql(told).unwrap(), "instanceid1", "nothing is forgotten where no trigger was missing");

        // Another service, with another cache, leaves these as they are; the first removes what it declares no longer.
        let other = yaml(&server, "account: [ { table: app.accounts, key: id, index: id } ]");
        let applied = larder(&["feed", "apply"], &other);
        assert!(applied.told.contains("  app.domains: left 4 triggers of the cache instance as it was"), "{applied:?}");
        let fewer = yaml(&server, &format!("instance: [ {INSTANCES} ]"));
        let (run, report) = json(&["feed", "apply", "--feed", "MAIN"], &fewer);
        assert_eq!(run.code, Some(0), "{run:?}");
        let done = |done: &str| {
            let triggers = report["feeds"][0]["triggers"].as_array().unwrap();
            triggers.iter().filter(|trigger| trigger["done"] == done).count()
        };
        assert_eq!([done("kept"), done("removed"), done("left"), done("made")], [4, 4, 4, 0], "{report}");
        assert_eq!(installed(&server), "8");
    }
}

/// What is printed is for a person, and does the same.
#[test]
fn the_sql_that_is_printed_does_the_same() {
    for server in servers() {
        let text = yaml(&server, &format!("instance: [ {INSTANCES} ], part: [ {PARTS} ]"));
        let printed = larder(&["feed", "sql"], &text);
        assert_eq!((printed.code, printed.logged.as_str()), (Some(0), ""), "{printed:?}");
        assert_eq!(installed(&server), "0", "nothing is changed");
        for line in [
            "-- The feed main, in ",
            "BEGIN;",
            "-- \"app\".\"instances\": tells the cache instance of the keys of its index id",
            "-- \"app\".\"instances\": tells the cache instance of everything",
            "CREATE OR REPLACE TRIGGER \"larder instance id by id update\" AFTER UPDATE ON \"app\".\"instances\"",
            "COMMIT;",
        ] {
            assert!(printed.told.lines().any(|printed| printed.starts_with(line)), "{line}: {printed:?}");
        }
        // Larder's own tables have to be there.
        assert!(server.psql(&printed.told).is_err());
        assert_eq!(larder(&["feed", "apply"], &yaml(&server, "")).code, Some(0));
        server.psql(&printed.told).unwrap();
        server
            .psql("ALTER TABLE app.instances DISABLE TRIGGER USER; ALTER TABLE app.parts DISABLE TRIGGER USER")
            .unwrap();
        server.psql(&printed.told).unwrap();
        let (run, findings) = check(&text);
        assert!(run.code == Some(0) && findings[0][1] == "ok", "{findings:?}");
        let (_, report) = json(&["feed", "sql"], &text);
        assert!(report["feeds"][0]["sql"].as_str().unwrap().contains("CREATE OR REPLACE FUNCTION"), "{report}");
    }
}

#[test]
fn remove_takes_away_what_is_declared_or_what_is_not() {
    for server in servers() {
        let ours = yaml(&server, &format!("instance: [ {INSTANCES} ], part: [ {PARTS} ]"));
        let other = yaml(&server, "account: [ { table: app.accounts, key: id, index: id } ]");
        assert_eq!(larder(&["feed", "apply"], &ours).code, Some(0));
        assert_eq!(larder(&["feed", "apply"], &other).code, Some(0));
        assert_eq!(installed(&server), "11");
        let removed = larder(&["feed", "remove"], &ours);
        assert_eq!((removed.code, installed(&server).as_str()), (Some(0), "4"), "{removed:?}");
        assert!(removed.told.contains("  app.parts: removed 2 triggers of the cache part"), "{removed:?}");
        assert!(removed.told.contains("  app.parts_a: removed 1 trigger of the cache part"), "{removed:?}");
        assert_eq!(larder(&["feed", "apply"], &ours).code, Some(0));
        let removed = larder(&["feed", "remove", "--undeclared"], &ours);
        assert_eq!((removed.code, installed(&server).as_str()), (Some(0), "7"), "{removed:?}");
        assert!(removed.told.contains("app.accounts: removed 4 triggers of the cache account"), "{removed:?}");
        assert_eq!(larder(&["feed", "remove"], &ours).code, Some(0));
        let functions = "SELECT count(*) FROM pg_proc WHERE prorettype = 'trigger'::regtype AND pronamespace = 'larder'::regnamespace";
        assert_eq!(server.psql(functions).unwrap(), "0");
        assert!(larder(&["feed", "remove"], &ours).told.contains("nothing to do"));
    }
}

#[test]
fn check_finds_every_difference_and_names_the_command_that_mends_it() {
    for server in servers() {
        let text = yaml(&server, &format!("instance: [ {INSTANCES}, {DOMAINS} ], part: [ {PARTS} ]"));
        let missing = problems(&text);
        assert_eq!(missing.len(), 11, "{missing:?}");
        let [topic, _, said, to_do] = &missing[0];
        assert_eq!(topic, "triggers");
        assert_eq!(
            said,
            "\"app\".\"instances\": the trigger `larder instance id by id insert` is missing: the cache `instance` is not told of its changes"
        );
        assert!(to_do.contains("larder feed apply") && to_do.contains("forgets"), "{to_do}");
        assert_eq!(installed(&server), "0", "check changes nothing");
        assert_eq!(larder(&["feed", "apply"], &text).code, Some(0));
        let (run, findings) = check(&text);
        assert_eq!((run.code, problems(&text).len()), (Some(0), 0), "{findings:?}");
        assert_eq!(findings[0][2], "the triggers of 3 tables are as declared");
        assert!(larder(&["check"], &text).told.contains("\nfeed main (db): "));
        assert!(larder(&["check"], &text).told.contains("\n  followed by: instance\n"));

        let one_problem = |does: &str, topic: &str, says: &str, to_do: &str| {
            server.psql(does).unwrap();
            let found = problems(&text);
            assert!(!found.is_empty(), "{does}");
            for [found, _, said, what] in &found {
                assert!(found == topic && said.contains(says) && what.contains(to_do), "{does}: {said}: {what}");
            }
            assert_eq!(check(&text).0.code, Some(1));
            let text = larder(&["check"], &text);
            assert!(text.code == Some(1) && text.told.contains("PROBLEM"), "{text:?}");
        };
        let mended = || {
            assert_eq!(larder(&["feed", "apply"], &text).code, Some(0));
            assert_eq!(problems(&text), Vec::<[String; 4]>::new());
        };
        one_problem("ALTER TABLE app.instances DISABLE TRIGGER USER", "triggers", "is disabled", "larder feed apply");
        mended();
        one_problem(
            "ALTER TABLE app.parts_a DISABLE TRIGGER \"larder part id by id row\"",
            "triggers",
            "is disabled",
            "larder feed apply",
        );
        mended();
        one_problem(
            "DROP TRIGGER \"larder instance id by instance_id delete\" ON app.domains",
            "triggers",
            "is missing",
            "larder feed apply",
        );
        mended();
        one_problem(
            "CREATE OR REPLACE FUNCTION larder.\"app.instances instance id by id update\"() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "triggers",
            "is not what is declared",
            "larder feed apply",
        );
        mended();
        one_problem(
            "CREATE TABLE app.parts_b PARTITION OF app.parts FOR VALUES IN ('b')",
            "partition",
            "\"app\".\"parts_b\" is a new partition: the cache `part` is not told of a TRUNCATE of it",
            "larder feed apply",
        );
        mended();
        server.psql("DELETE FROM larder.changes; TRUNCATE app.parts_b").unwrap();
        assert_eq!(server.psql("SELECT cache FROM larder.changes").unwrap(), "part");
        one_problem(
            "ALTER TABLE app.domains ALTER instance_id TYPE bytea USING 'x'",
            "triggers",
            "is not what is declared",
            "larder feed apply",
        );
        mended();
        one_problem(
            "ALTER TABLE app.domains ALTER instance_id TYPE numeric USING 1",
            "sources",
            "is of type numeric",
            "correct the source",
        );
        one_problem(
            "ALTER TABLE app.domains ALTER instance_id TYPE text",
            "triggers",
            "is not what is declared",
            "larder feed apply",
        );
        mended();
        one_problem(
            "ALTER TABLE app.domains DROP instance_id CASCADE",
            "sources",
            "it has no column `instance_id`; its columns are domain",
            "correct the source",
        );
        one_problem("DROP TABLE app.domains", "sources", "there is no such table", "correct the source");

        // What nobody declares any more is no problem: nothing is missed.
        let fewer = yaml(&server, &format!("instance: [ {INSTANCES} ]"));
        let (run, findings) = check(&fewer);
        assert_eq!(run.code, Some(0), "{findings:?}");
        let undeclared =
            |[_, level, text, _]: &&[String; 4]| level == "note" && text.contains("nothing declares the trigger");
        assert_eq!(findings.iter().filter(undeclared).count(), 4, "{findings:?}");
    }
}

#[test]
fn what_cannot_be_told_is_named_and_nothing_is_installed() {
    for server in servers() {
        server
            .psql(
                "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
                 CREATE FOREIGN TABLE app.far (id text) SERVER nowhere;
                 CREATE TABLE app.split (id int, tenant text) PARTITION BY LIST (tenant);
                 CREATE FOREIGN TABLE app.split_far PARTITION OF app.split FOR VALUES IN ('a') SERVER nowhere;
                 CREATE TABLE app.parent (id int); CREATE TABLE app.child () INHERITS (app.parent)",
            )
            .unwrap();
        for (source, expected) in [
            ("{ table: app.nothing, key: id, index: id }", "the source `app.nothing`: there is no such table"),
            ("{ table: 'app.\"x', key: id, index: id }", "the source `app.\"x`: "),
            (
                "{ table: app.seen, key: id, index: id }",
                "the source `app.seen`: it is a view: declare the tables that it is made of",
            ),
            ("{ table: app.far, key: id, index: id }", "the source `app.far`: it is a foreign table"),
            ("{ table: app.split, key: id, index: id }", "its partition \"app\".\"split_far\" is a foreign table"),
            ("{ table: app.parent, key: id, index: id }", "the table \"app\".\"child\" inherits from it"),
            (
                "{ table: app.domains, key: ident, index: id }",
                "it has no column `ident`; its columns are domain, instance_id",
            ),
            ("{ table: app.domains, key: domain, index: id, columns: [colour] }", "it has no column `colour`"),
            (
                "{ table: app.money, key: amount, index: id }",
                "`amount` is of type numeric, whose text is not what larder's keys are",
            ),
            ("{ table: app.money, key: at, index: id }", "`at` is of type timestamp with time zone"),
        ] {
            let text = yaml(&server, &format!("instance: [ {INSTANCES}, {source} ]"));
            for command in ["apply", "sql"] {
                let run = larder(&["feed", command], &text);
                assert_eq!((run.code, run.told.as_str()), (Some(1), ""), "{run:?}");
                assert!(
                    run.logged.starts_with("larder: the feed main, in ") && run.logged.contains(expected),
                    "{run:?}"
                );
            }
            let (found, reason) = (problems(&text), expected.rsplit("`: ").next().unwrap());
            let said = |[topic, _, said, _]: &&[String; 4]| topic == "sources" && said.contains(reason);
            assert_eq!(found.iter().filter(said).count(), 1, "{reason}: {found:?}");
        }
        // All of them at once.
        let both = yaml(
            &server,
            "instance: [ { table: app.no, key: id, index: id }, { table: app.neither, key: id, index: id } ]",
        );
        let (run, report) = json(&["feed", "apply"], &both);
        assert_eq!((run.code, run.logged.lines().count()), (Some(1), 2), "{run:?}");
        assert!(report["error"].as_str().unwrap().contains("app.neither") && report["exit_code"] == 1, "{report}");
        assert_eq!(installed(&server), "0");
    }
}

#[test]
fn an_index_that_no_service_has_is_refused_unless_it_is_new() {
    for server in servers() {
        assert_eq!(larder(&["feed", "apply"], &yaml(&server, "")).code, Some(0));
        server
            .psql(
                "CREATE TABLE IF NOT EXISTS larder.caches (cache text NOT NULL, shape int8 NOT NULL, followed bool NOT NULL, mark int8 NOT NULL, indexes text[] NOT NULL);
                 INSERT INTO larder.caches (cache, shape, followed, mark, indexes) VALUES ('instance', 1, true, 1, '{id,host}'), ('user_grant', 2, false, 2, '{id}')",
            )
            .unwrap();
        let known = larder(&["feed", "apply"], &yaml(&server, &format!("instance: [ {INSTANCES} ]")));
        assert!(known.code == Some(0) && !known.told.contains("not checked"), "{known:?}");
        for (sources, expected) in [
            (
                "instance: [ { table: app.domains, key: domain, index: hosts } ]",
                "the source `app.domains` names the index `hosts`, which no release of `instance` has (did you mean `host`?): give host or id",
            ),
            (
                "userGrant: [ { table: app.domains, key: domain, index: id } ]",
                "the source `app.domains` calls the cache `userGrant`, which its services call `user_grant`: give that name",
            ),
        ] {
            let text = yaml(&server, sources);
            let refused = larder(&["feed", "apply"], &text);
            assert_eq!((refused.code, refused.told.as_str()), (Some(1), ""), "{refused:?}");
            assert_eq!(refused.logged, format!("larder: {expected}; --new-names takes it as it is\n"));
            assert_eq!(installed(&server), "4", "nothing is installed");
            assert_eq!(larder(&["feed", "sql"], &text).code, Some(1));
            let found = problems(&text);
            assert!(found.iter().any(|[topic, _, said, _]| topic == "sources" && said.contains(expected)), "{found:?}");
            assert_eq!(larder(&["feed", "apply", "--new-names"], &text).code, Some(0));
            assert_eq!(larder(&["feed", "remove"], &text).code, Some(0));
            assert_eq!(larder(&["feed", "apply"], &yaml(&server, &format!("instance: [ {INSTANCES} ]"))).code, Some(0));
        }
    }
}

/// Services on Redis register there.
#[test]
fn an_index_of_a_cache_on_redis_is_looked_up_there() {
    use larder_testing::entries::Site;
    use larder_testing::server::{Server, ServerOptions, required};
    use std::time::Duration;
    let runtime = Runtime::new().unwrap();
    let redis = required().unwrap().pop().unwrap();
    let redis = runtime.block_on(Server::start(&redis, ServerOptions::default())).unwrap();
    for server in servers().into_iter().take(1) {
        let text = |index: &str| {
            let at = server.dsn();
            format!(
                "connectors: {{ db: {{ kind: postgres, url: '{at}' }}, redis: {{ socket: '{}' }} }}\n\
                 feed: {{ main: {{ connector: db, sources: {{ site: [ {{ table: app.domains, key: domain, index: {index} }} ] }} }} }}\n\
                 caches: {{ site: {{ connector: redis, feed: main }} }}\n",
                redis.socket().display()
            )
        };
        let before = larder(&["feed", "apply"], &text("hosts"));
        assert!(before.code == Some(0) && before.told.contains("has the index `hosts` is not checked"), "{before:?}");
        let plain = text("host").replace(", feed: main", "");
        let caches = runtime.block_on(async {
            let caches = larder::Caches::from_config(larder::Config::from_yaml(&plain).unwrap()).await.unwrap();
            let cache = caches.open::<Site>().unwrap();
            assert!(caches.ready(Duration::from_secs(60)).await.is_ready());
            cache.set(Site::new("1", &["h"], "there")).await;
            caches
        });
        let refused = larder(&["feed", "apply"], &text("hosts"));
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(
            refused.logged.contains("the source `app.domains` names the index `hosts`, which no release of `site` has"),
            "{refused:?}"
        );
        let applied = larder(&["feed", "apply"], &text("host"));
        assert!(applied.code == Some(0) && !applied.told.contains("not checked"), "{applied:?}");
        drop(caches);
    }
}

#[test]
fn a_right_that_is_missing_is_named_and_what_is_told_helps() {
    for server in servers() {
        server.psql("CREATE ROLE ann LOGIN; GRANT USAGE ON SCHEMA app TO ann").unwrap();
        let sources = format!("instance: [ {INSTANCES} ]");
        let text = yaml_as(&server, "ann", &sources, "");
        let refused = |text: &str, expected: &str| {
            let run = larder(&["feed", "apply"], text);
            assert_eq!((run.code, run.told.as_str()), (Some(1), ""), "{run:?}");
            assert!(run.logged.contains(expected), "{expected}: {run:?}");
            assert_eq!(installed(&server), "0");
        };
        refused(
            &text,
            "the user ann lacks the right TRIGGER on it: have larder run `GRANT TRIGGER ON \"app\".\"instances\" TO \"ann\"`",
        );
        server.psql("GRANT TRIGGER ON \"app\".\"instances\" TO \"ann\"").unwrap();
        refused(
            &text,
            "larder's tables are not there, and the user ann lacks the right CREATE on the database larder: have an administrator run `larder postgres setup`",
        );
        refused(
            &yaml_as(&server, "ann", &sources, ", create: false"),
            "`create` is false: run `larder postgres setup`",
        );
        assert_eq!(larder(&["postgres", "setup"], &yaml(&server, "")).code, Some(0));
        refused(&text, "GRANT CREATE, USAGE ON SCHEMA larder TO \"ann\"");
        server.psql("GRANT CREATE, USAGE ON SCHEMA larder TO \"ann\"").unwrap();
        refused(&text, "GRANT INSERT ON larder.changes, larder.fences TO \"ann\"");
        server.psql("GRANT INSERT ON larder.changes, larder.fences TO \"ann\"").unwrap();
        let always =
            yaml_as(&server, "ann", "instance: [ { table: app.instances, key: id, index: id, always: true } ]", "");
        refused(
            &always,
            "only its owner may have triggers fire always, and the user ann is not larder: run this as larder",
        );
        let applied = larder(&["feed", "apply"], &text);
        assert_eq!(applied.code, Some(0), "{applied:?}");
        // The writer needs no right of larder's, and what ann has is enough for the triggers.
        server.psql("INSERT INTO app.instances VALUES ('1', 'a')").unwrap();
        assert_eq!(server.psql("SELECT count(*) FROM larder.changes WHERE index = 'id'").unwrap(), "1");
        // A table in a schema that the user may not see.
        server.psql("REVOKE USAGE ON SCHEMA app FROM ann").unwrap();
        let run = larder(&["feed", "sql"], &text);
        assert!(run.code == Some(1) && run.logged.contains("permission denied for schema app"), "{run:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used() {
    for (text, expected) in [
        ("caches: {}", "the configuration has no feed: give it one below `feed`, with its `connector` and `sources`"),
        (
            "feed: { main: { connector: db } }",
            "feed.main.connector is `db`, which is no connector: give a connector of the kind postgres, of which there is none",
        ),
        (
            "{ connectors: { redis: { address: h } }, feed: { main: { connector: redis } } }",
            "feed.main.connector is `redis`, of the kind redis: give a connector of the kind postgres, of which there is none",
        ),
        (
            "feed: { main: { connector: postgres } }",
            "feed.main.connector is `postgres`, but `connectors.postgres` does not say where the database is: give `url` there",
        ),
    ] {
        for command in ["sql", "apply", "remove"] {
            let run = larder(&["feed", command], text);
            assert!(run.code == Some(2) && run.logged.contains(expected), "{run:?}");
        }
        assert!(text == "caches: {}" || larder(&["check"], text).logged.contains(expected));
    }
    let two = "{ connectors: { postgres: { url: 'host=/nowhere' }, b: { kind: postgres, url: 'host=b' } }, feed: { x: { connector: postgres }, y: { connector: b } } }";
    let run = larder(&["feed", "apply", "--feed", "z"], two);
    assert_eq!(run.code, Some(2));
    assert_eq!(run.logged, "larder: the configuration has no feed called `z`: say --feed x or --feed y\n");
    let away = larder(&["feed", "apply", "--feed", "x"], two);
    assert!(away.code == Some(1) && away.logged.starts_with("larder: the feed x, in /nowhere/"), "{away:?}");
}

/// A pooler in transaction mode takes a LISTEN, and no notification ever arrives.
#[test]
fn check_says_whether_nodes_are_notified() {
    for server in servers() {
        let listen = |text: String| text.replace("connector: db, sources", "connector: db, wake: listen, sources");
        let of_wake = |text: &str| {
            let (run, findings) = check(text);
            assert_eq!(run.code, Some(0), "{run:?}");
            findings.into_iter().find(|[topic, ..]| topic == "wake")
        };
        let text = yaml(&server, "");
        assert_eq!(larder(&["postgres", "setup"], &text).code, Some(0));
        assert_eq!(of_wake(&text), None, "nobody asked for it");
        let heard = of_wake(&listen(text.clone())).unwrap();
        assert_eq!(heard[1..3], ["ok", "nodes are notified of changes"]);
        let pooler = Runtime::new().unwrap().block_on(PgBouncer::start(&server)).unwrap();
        let through = listen(text).replace(&server.dsn(), &pooler.dsn());
        let unheard = of_wake(&through).unwrap();
        assert!(unheard[1] == "note" && unheard[2].contains("with the next poll, within 50ms"), "{unheard:?}");
    }
}
