//! `larder check` and `larder postgres setup` on PostgreSQL servers.

use crate::service::{Run, larder, on, with_file, yaml};
use larder_testing::postgres::{PostgresServer, required};
use serde_json::Value;
use tokio::runtime::Runtime;

const THERE: &str = "SELECT to_regclass('larder.clock') IS NOT NULL";

fn servers() -> Vec<PostgresServer> {
    let runtime = Runtime::new().unwrap();
    let start = |binaries| runtime.block_on(PostgresServer::start(&binaries, &[])).unwrap();
    required().unwrap().into_iter().map(start).collect()
}

/// What `larder check` finds: topic, level, text, and what to do.
fn check(url: &str, more: &str) -> (Run, Vec<[String; 4]>) {
    let run = with_file(&yaml(url, more), &["check", "--json"]);
    let report: Value = serde_json::from_str(&run.told).unwrap_or_else(|error| panic!("{error}: {run:?}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["connectors"][0]["findings"].as_array().unwrap().clone();
    let findings = findings.iter().map(|one| ["topic", "level", "text", "do"].map(|name| text(one, name)));
    (run, findings.collect())
}

fn only_problem(url: &str, more: &str, topic: &str, says: &str, to_do: &str) {
    let (run, findings) = check(url, more);
    let problems: Vec<_> = findings.iter().filter(|[_, level, ..]| level == "problem").collect();
    assert_eq!((run.code, run.logged.as_str()), (Some(1), "larder: 1 problem\n"), "{findings:?}");
    let [[found, _, text, what]] = problems.as_slice() else { panic!("not one problem: {findings:?}") };
    assert!(found == topic && text.contains(says) && what.contains(to_do), "{problems:?}");
}

#[test]
fn setup_makes_the_tables_once_and_says_what_it_did() {
    for server in servers() {
        let url = server.dsn();
        let (run, findings) = check(&url, "");
        assert_eq!(run.code, Some(0), "{findings:?}");
        assert!(findings.iter().any(|[topic, level, ..]| topic == "tables" && level == "note"), "{findings:?}");
        assert_eq!(server.psql(THERE).unwrap(), "f", "check makes nothing");

        let made = larder(&["postgres", "setup", &url]);
        assert_eq!((made.code, made.logged.as_str()), (Some(0), ""), "{made:?}");
        assert!(made.told.starts_with("made the schema larder with its tables, of version 1, in /"), "{made:?}");
        assert_eq!(server.psql(THERE).unwrap(), "t");
        server.psql("INSERT INTO larder.fences (mark) VALUES (42)").unwrap();
        let again = larder(&["postgres", "setup", &url]);
        assert_eq!(again.code, Some(0), "{again:?}");
        assert!(again.told.contains("already, of version 1"), "{again:?}");
        assert_eq!(server.psql("SELECT count(*) FROM larder.fences").unwrap(), "1", "nothing is removed");

        let by_file = with_file(&yaml(&url, ""), &["postgres", "setup", "--json"]);
        let report: Value = serde_json::from_str(&by_file.told).unwrap();
        assert_eq!((&report["made"], &report["version"]), (&false.into(), &1.into()));

        let (run, findings) = check(&url, "");
        let topics: Vec<_> = findings.iter().map(|[topic, level, ..]| (topic.as_str(), level.as_str())).collect();
        let expected = ["reachable", "version", "role", "latency", "tables", "rights"];
        assert_eq!(topics, expected.map(|topic| (topic, "ok")), "{findings:?}");
        assert_eq!((run.code, run.logged.as_str()), (Some(0), ""));
        let report: Value = serde_json::from_str(&run.told).unwrap();
        assert_eq!((&report["connectors"][0]["server"]["tables"], &report["ok"]), (&1.into(), &true.into()));
        assert!(report["connectors"][0]["server"]["name"].as_str().unwrap().starts_with("PostgreSQL "), "{report}");
    }
}

#[test]
fn what_is_printed_makes_the_same() {
    let printed = larder(&["postgres", "setup", "--print"]);
    assert_eq!((printed.code, printed.logged.as_str()), (Some(0), ""));
    for server in servers() {
        server.psql(&printed.told).unwrap();
        let again = larder(&["postgres", "setup", &server.dsn()]);
        assert!(again.code == Some(0) && again.told.contains("already"), "{again:?}");
    }
}

/// The words in errors are statements that can be run, and then larder works.
#[test]
fn a_right_that_is_missing_is_named_and_what_is_told_helps() {
    for server in servers() {
        server.psql("CREATE ROLE ann LOGIN").unwrap();
        let ann = on(&server, "ann");
        let refused = larder(&["postgres", "setup", &ann]);
        assert_eq!((refused.code, refused.told.as_str()), (Some(1), ""), "{refused:?}");
        assert!(refused.logged.contains("the user ann lacks the right CREATE on the database larder; "), "{refused:?}");
        assert!(refused.logged.contains("`GRANT CREATE ON DATABASE larder TO ann`"), "{refused:?}");
        only_problem(
            &ann,
            "",
            "tables",
            "lacks the right CREATE on the database larder",
            "larder postgres setup --print",
        );
        only_problem(&ann, ", create: false", "tables", "`create` is false", "run `larder postgres setup`");

        // A DBA makes the tables.
        assert_eq!(larder(&["postgres", "setup", &server.dsn()]).code, Some(0));
        only_problem(
            &ann,
            "",
            "rights",
            "USAGE on the schema larder, DELETE on larder.caches",
            "GRANT USAGE ON SCHEMA larder TO ann; ",
        );
        let (_, findings) = check(&ann, "");
        let [.., grants] = findings.iter().find(|[topic, ..]| topic == "rights").unwrap();
        server.psql(grants).unwrap();
        assert_eq!(check(&ann, "").0.code, Some(0), "{:?}", check(&ann, "").1);
        let refused = larder(&["postgres", "setup", &ann]);
        assert!(refused.logged.contains("lacks the right CREATE on the schema larder"), "{refused:?}");

        // The rights are enough for a service.
        server.psql("SET ROLE ann; SELECT larder.register(); SELECT larder.turn_if_due(); SELECT larder.invalidate('a', 'b', 'c')").unwrap();
        // A right that goes is seen.
        server
            .psql("REVOKE INSERT ON larder.fences FROM ann; REVOKE EXECUTE ON FUNCTION larder.version() FROM PUBLIC")
            .unwrap();
        server.psql("GRANT EXECUTE ON FUNCTION larder.version() TO ann").unwrap();
        only_problem(&ann, "", "rights", "the user ann lacks INSERT on larder.fences", "GRANT SELECT, INSERT");
        server.psql("ALTER ROLE larder SET default_transaction_isolation = serializable").unwrap();
        only_problem(&server.dsn(), "", "isolation", "begin as serializable", "read committed");
    }
}

/// A schema that somebody made by hand for the user is enough.
#[test]
fn in_a_schema_of_its_own_a_user_needs_no_right_to_make_one() {
    for server in servers() {
        server.psql("CREATE ROLE ann LOGIN; CREATE SCHEMA larder AUTHORIZATION ann").unwrap();
        let made = larder(&["postgres", "setup", &on(&server, "ann")]);
        assert_eq!((made.code, made.logged.as_str()), (Some(0), ""), "{made:?}");
        assert_eq!(check(&on(&server, "ann"), "").0.code, Some(0));
    }
}

#[test]
fn tables_of_a_newer_larder_are_left_alone() {
    for server in servers() {
        assert_eq!(larder(&["postgres", "setup", &server.dsn()]).code, Some(0));
        server.psql("CREATE OR REPLACE FUNCTION larder.version() RETURNS int4 LANGUAGE sql AS 'SELECT 9'").unwrap();
        let refused = larder(&["postgres", "setup", &server.dsn()]);
        assert!(refused.code == Some(1) && refused.logged.contains("of version 9"), "{refused:?}");
        assert_eq!(server.psql("SELECT larder.version()").unwrap(), "9");
        only_problem(&server.dsn(), "", "tables", "of version 9", "use a larder of the services' version");
    }
}

#[test]
fn nobody_there_and_nobody_who_is_let_in() {
    only_problem("host=/nowhere user=ann", "", "reachable", "/nowhere", "start the server");
    let refused = larder(&["postgres", "setup", "host=/nowhere user=ann"]);
    assert!(refused.code == Some(1) && refused.logged.contains("cannot be reached"), "{refused:?}");
    for server in servers() {
        only_problem(&on(&server, "nobody"), "", "login", "nobody", "correct the url");
        only_problem(
            &server.dsn().replace("dbname=larder", "dbname=other"),
            "",
            "login",
            "\"other\" does not exist",
            "database",
        );
    }
}

#[test]
fn a_command_line_that_cannot_be_used() {
    for (arguments, why) in [
        (&["postgres", "setup"][..], "required"),
        (&["postgres", "setup", "mysql://ann:barley@h"], "larder: the URL is neither a URL of a database nor"),
        (&["postgres", "setup", "--print", "--json"], "cannot be used with"),
        (&["postgres", "setup", "host=h", "--connector", "a"], "cannot be used with"),
    ] {
        let run = larder(arguments);
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.logged.contains(why) && !run.logged.contains("barley"), "{run:?}");
    }
    let two = "connectors: { postgres: { url: 'host=a' }, b: { kind: postgres, url: 'host=b' } }";
    let which = with_file(two, &["postgres", "setup"]);
    assert_eq!(
        which.logged,
        "larder: the configuration has several databases: say --connector b or --connector postgres\n"
    );
    let no_such = with_file(two, &["postgres", "setup", "--connector", "c"]);
    assert!(no_such.code == Some(2) && no_such.logged.contains("no database called `c`"), "{no_such:?}");
    let none = with_file("caches: {}", &["postgres", "setup"]);
    assert!(none.code == Some(2) && none.logged.contains("give connectors.postgres its url"), "{none:?}");
}
