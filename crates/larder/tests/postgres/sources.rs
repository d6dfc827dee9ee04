//! Declared sources: every way to change a row tells the feed of the right keys, and what cannot be told is refused before anything is installed.

use crate::node::{Node, servers, session};
use larder::connector::postgres::PostgresOptions;
use larder::feed::{Done, Finding, Source, Sources};
use larder_testing::postgres::PostgresServer;

const TABLES: &str = "CREATE SCHEMA app;
    CREATE TYPE app.color AS ENUM ('red', 'green');
    CREATE TABLE app.instances (id text PRIMARY KEY, name text, seen int);
    CREATE TABLE app.domains (domain text PRIMARY KEY, instance_id text REFERENCES app.instances ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE app.members (org int, usr uuid, role json, PRIMARY KEY (org, usr));
    CREATE TABLE app.generated (a text, b text GENERATED ALWAYS AS (lower(a)) STORED, c app.color);
    CREATE TABLE app.part (id bigint, tenant text, v int) PARTITION BY LIST (tenant);
    CREATE TABLE app.part_a PARTITION OF app.part FOR VALUES IN ('a');
    CREATE TABLE app.part_b PARTITION OF app.part FOR VALUES IN ('b');
    CREATE TABLE app.\"Odd name\" (\"the \"\"key\" bytea);
    CREATE VIEW app.seen AS SELECT * FROM app.instances;
    CREATE TABLE app.money (amount numeric)";

fn sources() -> Sources {
    Sources::new()
        .of("instance", Source::new("app.instances", ["id"], "id").columns(["name"]))
        .of("instance", Source::new("app.domains", ["instance_id"], "id"))
        .of("user", Source::new("app.members", ["org", "usr"], "org_user").columns(["role"]))
        .of("gen", Source::new("app.generated", ["b"], "b"))
        .of("color", Source::new("app.generated", ["c"], "c"))
        .of("part", Source::new("app.part", ["id"], "id").columns(["v"]))
        .of("odd", Source::new("app.\"Odd name\"", ["the \"key"], "k"))
}

fn database(server: &PostgresServer) -> PostgresOptions {
    PostgresOptions::from_url(&server.dsn()).unwrap()
}

/// A server with the tables, and larder's.
async fn prepared(server: &PostgresServer) {
    Node::on(server).await;
    server.psql(TABLES).unwrap();
}

/// What was told by these statements.
fn told(server: &PostgresServer, sql: &str) -> String {
    server.psql("DELETE FROM larder.changes").unwrap();
    server.psql(sql).unwrap();
    let keys = "SELECT coalesce(string_agg(cache || ' ' || coalesce(index || ' ' || (SELECT string_agg(encode(k, 'escape'), ' ' ORDER BY k) FROM unnest(keys) k), 'EVERYTHING'), ', ' \
        ORDER BY cache, index, keys), 'nothing') FROM larder.changes";
    server.psql(keys).unwrap()
}

#[tokio::test]
async fn every_way_to_change_a_row_tells_of_its_keys() {
    for server in servers().await {
        prepared(&server).await;
        sources().apply(&database(&server)).await.unwrap();
        for (what, sql, expected) in [
            ("two rows", "INSERT INTO app.instances VALUES ('1', 'a'), ('2', 'größe')", "instance id 1 2"),
            ("no row", "INSERT INTO app.instances SELECT 'x', 'y' WHERE false", "nothing"),
            ("a declared column", "UPDATE app.instances SET name = 'b' WHERE id = '1'", "instance id 1"),
            ("another column", "UPDATE app.instances SET seen = 1", "nothing"),
            ("to itself", "UPDATE app.instances SET name = name", "nothing"),
            (
                "children, one of nobody",
                "INSERT INTO app.domains VALUES ('d1', '1'), ('d2', '1'), ('d3', '2'), ('d0', NULL)",
                "instance id 1 2",
            ),
            ("a key that moves", "UPDATE app.domains SET instance_id = '2' WHERE domain = 'd1'", "instance id 1 2"),
            ("a key that goes", "UPDATE app.domains SET instance_id = NULL WHERE domain = 'd1'", "instance id 2"),
            (
                "a cascade of an update",
                "UPDATE app.instances SET id = '3' WHERE id = '2'",
                "instance id 2 3, instance id 2 3",
            ),
            ("a cascade of a delete", "DELETE FROM app.instances WHERE id = '3'", "instance id 3, instance id 3"),
            (
                "on conflict do update",
                "INSERT INTO app.instances VALUES ('1', 'c'), ('4', 'd') ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                "instance id 1, instance id 4",
            ),
            ("on conflict do nothing", "INSERT INTO app.instances VALUES ('1', 'c') ON CONFLICT DO NOTHING", "nothing"),
            (
                "merge",
                "MERGE INTO app.instances i USING (VALUES ('4'), ('5')) v(id) ON i.id = v.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'm')",
                "instance id 4, instance id 5",
            ),
            ("copy", "COPY app.instances FROM stdin;\n7\tx\t\\N\n8\ty\t\\N\n\\.\n", "instance id 7 8"),
            (
                "several parts",
                "INSERT INTO app.members VALUES (7, 'A1A2A3A4-B1B2-C1C2-D1D2-D3D4D5D6D7D8', '{}')",
                "user org_user 1:7,36:a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8,",
            ),
            ("json is compared as text", "UPDATE app.members SET role = '{}'", "nothing"),
            (
                "json that differs",
                "UPDATE app.members SET role = '{ }'",
                "user org_user 1:7,36:a1a2a3a4-b1b2-c1c2-d1d2-d3d4d5d6d7d8,",
            ),
            (
                "generated, and an enum",
                "INSERT INTO app.generated VALUES ('ABC', DEFAULT, 'red')",
                "color c red, gen b abc",
            ),
            ("of a generated column", "UPDATE app.generated SET a = 'DEF'", "color c red, gen b abc def"),
            ("truncate, with children", "TRUNCATE app.instances CASCADE", "instance EVERYTHING, instance EVERYTHING"),
            (
                "two tables at once",
                "WITH a AS (INSERT INTO app.instances VALUES ('9', 'z') RETURNING id) INSERT INTO app.domains SELECT 'd9', id FROM a",
                "instance id 9, instance id 9",
            ),
            ("through the parent", "INSERT INTO app.part VALUES (1, 'a', 1), (2, 'b', 1)", "part id 1, part id 2"),
            ("to another partition", "UPDATE app.part SET tenant = 'b' WHERE id = 1", "part id 1, part id 1"),
            ("directly into a partition", "INSERT INTO app.part_a VALUES (3, 'a', 1)", "part id 3"),
            ("an undeclared column", "UPDATE app.part SET tenant = tenant", "nothing"),
            (
                "a partition of later",
                "CREATE TABLE app.part_c (id bigint, tenant text, v int); ALTER TABLE app.part ATTACH PARTITION app.part_c FOR VALUES IN ('c'); INSERT INTO app.part_c VALUES (4, 'c', 1)",
                "part id 4",
            ),
            ("odd names", "INSERT INTO app.\"Odd name\" VALUES ('\\x6162')", "odd k ab"),
            (
                "rolled back",
                "BEGIN; SAVEPOINT s; INSERT INTO app.instances VALUES ('q', 'q'); ROLLBACK TO s; COMMIT",
                "nothing",
            ),
            (
                "more than anybody wants to be told",
                "INSERT INTO app.instances SELECT g::text, '' FROM generate_series(1000, 11001) g",
                "instance EVERYTHING",
            ),
        ] {
            assert_eq!(told(&server, sql), expected, "{what}");
        }
    }
}

/// Whoever may write to the table needs no right on anything of larder's.
#[tokio::test]
async fn a_writer_needs_a_right_on_its_table_only() {
    for server in servers().await {
        prepared(&server).await;
        sources().apply(&database(&server)).await.unwrap();
        server
            .psql("CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA app TO clerk; GRANT INSERT ON app.instances TO clerk")
            .unwrap();
        assert_eq!(told(&server, "SET ROLE clerk; INSERT INTO app.instances VALUES ('1', 'a')"), "instance id 1");
    }
}

/// A column that is dropped later makes no write of the application fail, and nothing is missed.
#[tokio::test]
async fn a_column_that_is_dropped_later_fails_no_write() {
    for server in servers().await {
        prepared(&server).await;
        sources().apply(&database(&server)).await.unwrap();
        server.psql("ALTER TABLE app.instances DROP COLUMN name CASCADE; ALTER TABLE app.part RENAME v TO w").unwrap();
        assert_eq!(told(&server, "INSERT INTO app.instances VALUES ('1', 1)"), "instance EVERYTHING");
        assert_eq!(told(&server, "INSERT INTO app.part VALUES (1, 'a', 1)"), "part EVERYTHING");
        server.psql("ALTER TABLE app.\"Odd name\" ALTER \"the \"\"key\" TYPE text USING 'x'; ALTER TABLE app.members ALTER role TYPE point USING NULL").unwrap();
        assert_eq!(told(&server, "INSERT INTO app.\"Odd name\" VALUES ('ab')"), "odd EVERYTHING");
        assert_eq!(
            told(&server, "INSERT INTO app.members VALUES (7, gen_random_uuid(), '(1,2)')").split(' ').next(),
            Some("user")
        );
        server.psql("UPDATE app.members SET role = '(1,3)'").unwrap();
        let found = sources().check(&database(&server)).await.unwrap();
        for (table, said) in [("app.instances", "no column `name`"), ("app.part", "no column `v`")] {
            let named = |found: &&Finding| matches!(found, Finding::Unusable { table: of, what, told: true, .. } if of == table && what.contains(said));
            assert_eq!(found.iter().filter(named).count(), 1, "{found:?}");
        }
        let other = |found: &&Finding| matches!(found, Finding::Other { cache, .. } if cache == "odd");
        assert_eq!(found.iter().filter(other).count(), 3, "{found:?}");
        assert_eq!(found.len(), 5, "{found:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_by_name_before_anything_is_installed() {
    for server in servers().await {
        prepared(&server).await;
        for (source, words) in [
            (Source::new("app.nothing", ["id"], "id"), "no such table"),
            (Source::new("app.seen", ["id"], "id"), "a view"),
            (Source::new("app.instances", ["ident"], "id"), "no column `ident`; its columns are id, name, seen"),
            (Source::new("app.money", ["amount"], "id"), "`amount` is of type numeric"),
            (Source::new("app.instances", Vec::<String>::new(), "id"), "no column is declared"),
            (Source::new("app.instances", ["id"], "id").columns(["colour"]), "no column `colour`"),
        ] {
            let table = source.table.clone();
            let refused = sources().of("more", source).apply(&database(&server)).await.unwrap_err();
            let said = refused.to_string();
            assert!(said.contains(&table) && said.contains(words), "{said}");
        }
        let twice =
            sources().of("instance", Source::new("app.instances", ["id"], "id")).apply(&database(&server)).await;
        assert!(twice.unwrap_err().to_string().contains("declared twice"));
        assert_eq!(server.psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'larder%'").unwrap(), "0");
    }
}

#[tokio::test]
async fn what_is_in_force_is_compared_with_what_is_declared() {
    for server in servers().await {
        prepared(&server).await;
        let (database, declared) = (database(&server), sources());
        let missing = declared.check(&database).await.unwrap();
        assert!(!missing.is_empty() && missing.iter().all(|found| matches!(found, Finding::Missing { .. })));
        declared.apply(&database).await.unwrap();
        declared.apply(&database).await.unwrap();
        assert_eq!(declared.check(&database).await.unwrap(), []);
        server.psql("ALTER TABLE app.instances DISABLE TRIGGER USER").unwrap();
        let found = declared.check(&database).await.unwrap();
        assert!(found.len() == 4 && found.iter().all(|found| matches!(found, Finding::Disabled { .. })), "{found:?}");
        declared.apply(&database).await.unwrap();
        assert_eq!(declared.check(&database).await.unwrap(), []);
        let other = Sources::new().of("instance", Source::new("app.instances", ["id"], "id"));
        let found = other.check(&database).await.unwrap();
        assert!(
            found.iter().any(|found| matches!(found, Finding::Other { trigger, .. } if trigger.ends_with("update")))
        );
        assert!(
            found.iter().any(|found| matches!(found, Finding::Undeclared { table, .. } if table.contains("domains")))
        );
        let applied = other.apply(&database).await.unwrap();
        let count = |done| applied.triggers.iter().filter(|change| change.done == done).count();
        assert_eq!([Done::Made, Done::Mended, Done::Kept, Done::Removed, Done::Left].map(count), [0, 3, 1, 4, 20]);
        // Triggers of other caches may be another service's.
        assert!(other.check(&database).await.unwrap().iter().all(|found| !found.misses()));
        other.remove_undeclared(&database).await.unwrap();
        assert_eq!(other.check(&database).await.unwrap(), []);
        other.remove(&database).await.unwrap();
        assert_eq!(server.psql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'larder%'").unwrap(), "0");
        assert_eq!(server.psql("SELECT count(*) FROM pg_proc WHERE prorettype = 'trigger'::regtype AND pronamespace = 'larder'::regnamespace").unwrap(), "0");
    }
}

/// Triggers that always fire, where a subscriber of logical replication applies changes.
#[tokio::test]
async fn replicated_changes_are_told_where_that_is_declared() {
    for server in servers().await {
        prepared(&server).await;
        let (database, writes) =
            (database(&server), "SET session_replication_role = replica; INSERT INTO app.instances VALUES ('1', 'a')");
        let source = Source::new("app.instances", ["id"], "id");
        Sources::new().of("instance", source.clone()).apply(&database).await.unwrap();
        assert_eq!(told(&server, writes), "nothing");
        let always = Sources::new().of("instance", source.always());
        always.apply(&database).await.unwrap();
        assert_eq!(told(&server, &writes.replace("'1'", "'2'")), "instance id 2");
        assert_eq!(told(&server, "UPDATE app.instances SET name = name"), "nothing");
        assert_eq!(always.check(&database).await.unwrap(), []);
    }
}

/// A missed invalidation: a projection changed rows that a cached object was built from, and nobody told the cache (the restrictions projection in
/// zitadel). Here the database tells: a row that is changed by plain SQL, by nobody's code path, is gone from the memory, redis and postgres caches of two
/// nodes.
#[tokio::test]
async fn a_projection_changed_rows_that_a_cached_object_was_built_from_and_nobody_told_the_cache() {
    use crate::feed::FedNode;
    for server in servers().await {
        let (stored, client) = ([Node::on(&server).await, Node::on(&server).await], session(&server).await);
        client
            .batch_execute("CREATE TABLE restrictions (instance_id text PRIMARY KEY, disallow_public bool)")
            .await
            .unwrap();
        let sources = Sources::new().of("site", Source::new("restrictions", ["instance_id"], "id"));
        sources.apply(&database(&server)).await.unwrap();
        let memory = [FedNode::on(&server).await, FedNode::on(&server).await];
        #[cfg(feature = "redis")]
        let (redis, _redis_server) = on_redis(&server).await;
        let site = larder_testing::entries::Site::new("1", &["a.example"], "without restrictions");
        stored[0].cache.set(site.clone()).await;
        for node in &memory {
            node.fill("1", &["a.example"], "without restrictions").await;
        }
        for change in ["INSERT INTO restrictions VALUES ('1', true)", "UPDATE restrictions SET disallow_public = false"]
        {
            #[cfg(feature = "redis")]
            {
                redis[0].set("1", "without restrictions").await;
                assert!(redis[1].has("1").await);
            }
            client.batch_execute(change).await.unwrap();
            for node in &stored {
                assert!(node.name_by_host("a.example").await.is_none(), "at once");
            }
            for node in &memory {
                node.forgets("1").await;
            }
            #[cfg(feature = "redis")]
            for node in &redis {
                node.forgets("1").await;
            }
        }
    }
}

/// Two nodes whose cache is on the same Redis server, and the server.
#[cfg(feature = "redis")]
async fn on_redis(
    database: &larder_testing::postgres::PostgresServer,
) -> ([crate::feed_on_redis::RedisNode; 2], larder_testing::server::Server) {
    use crate::feed_on_redis::RedisNode;
    use larder_testing::server::{Server, ServerOptions, required};
    let binary = required().unwrap().remove(0);
    let redis = Server::start(&binary, ServerOptions::default()).await.unwrap();
    let begin = || RedisNode::begin(database, &redis, std::time::Duration::from_secs(50), |redis| redis);
    let nodes = [begin(), begin()];
    for node in &nodes {
        node.readable().await;
    }
    (nodes, redis)
}
