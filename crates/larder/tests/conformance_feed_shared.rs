//! A cache on a connector that nodes share keeps larder's contract while it follows the feed: on Redis, and in another database.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::connector::redis::{Address, Redis, RedisOptions};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::postgres::{PostgresServer, required};
use larder_testing::server::{self, Reply, Server, ServerOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod on_redis {
    use super::{OnRedis, Shared};

    larder_testing::conformance! { each Shared::<OnRedis>::all().await }
}

mod on_postgres {
    use super::{OnPostgres, Shared};

    larder_testing::conformance! { each Shared::<OnPostgres>::all().await }
}

const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the objects are.
trait Place: Sized + Send + Sync + 'static {
    /// Two nodes on each server for objects, with a feed each. The database of the feed is there.
    async fn nodes(database: &PostgresServer) -> Vec<Self>;
    fn connector(&self, node: usize, schema: Schema) -> Arc<dyn Connector>;
    /// Lets the server for objects live on where no node finds it.
    fn interrupt(&self, database: &PostgresServer) -> impl Future<Output = ()> + Send;
    fn mend(&self, database: &PostgresServer);
}

/// Two nodes that share what they keep. Each follows the feed of the same database.
struct Shared<P> {
    database: Arc<PostgresServer>,
    place: P,
    feeds: [Feed; 2],
}

impl<P: Place> Shared<P> {
    async fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for binaries in required().unwrap() {
            let database = Arc::new(PostgresServer::start(&binaries, &["autovacuum = off"]).await.unwrap());
            for place in P::nodes(&database).await {
                let feed = || {
                    Feed::open(&postgres(&database.dsn()), FeedOptions::new().poll(Duration::from_millis(2))).unwrap()
                };
                all.push(Self { database: database.clone(), place, feeds: [feed(), feed()] });
            }
        }
        all
    }
}

/// Options whose time-outs are never met, however slow the machine is.
fn postgres(dsn: &str) -> Postgres {
    let mut options = PostgresOptions::from_url(dsn).unwrap();
    options = options.operation_timeout(TIMEOUT).connect_timeout(TIMEOUT);
    options.breaker.slow_call = TIMEOUT;
    Postgres::open(options).unwrap()
}

impl<P: Place> Subject for Shared<P> {
    fn nature(&self) -> Nature {
        Nature {
            shared: Yes,
            exact_time: No("ages are counted by the server, whose time is real"),
            bytes: No("the connector that it forwards to is asked that"),
            evicts: No("what a server evicts is its own choice"),
            leases: Yes,
            absences: Yes,
            expired: Yes,
            outages: Yes,
            at_once: Yes,
        }
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let shared = self.place.connector(node, schema.clone());
        // A deadline that is never met, however slow the machine is.
        let connector = self.feeds[node].follow(schema, shared, FollowOptions::new().deadline(TIMEOUT)).unwrap();
        let begun = Instant::now();
        while !connector.status().readable {
            let patient = begun.elapsed() < Duration::from_secs(30);
            assert!(patient, "{} cannot be read: {:?}", self.database.binaries(), connector.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Arc::new(connector)
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    async fn interrupt(&self) {
        self.place.interrupt(&self.database).await;
    }

    async fn mend(&self) {
        self.place.mend(&self.database);
    }
}

struct OnRedis {
    server: Server,
    nodes: [Redis; 2],
}

impl Place for OnRedis {
    async fn nodes(_: &PostgresServer) -> Vec<Self> {
        let mut all = Vec::new();
        for binary in server::required().unwrap() {
            let server = Server::start(&binary, ServerOptions::default()).await.unwrap();
            let node = || {
                let mut options =
                    RedisOptions::new(Address::Unix(server.socket().to_owned())).operation_timeout(TIMEOUT);
                options.breaker.slow_call = TIMEOUT;
                Redis::open(options).unwrap()
            };
            let nodes = [node(), node()];
            all.push(Self { server, nodes });
        }
        all
    }

    fn connector(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        Arc::new(self.nodes[node].connector(schema).unwrap())
    }

    async fn interrupt(&self, _: &PostgresServer) {
        let mut connection = self.server.connect().await.unwrap();
        std::fs::rename(self.server.socket(), self.server.socket().with_extension("away")).unwrap();
        let reply = connection.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.unwrap();
        assert!(matches!(reply, Reply::Int(_)), "{reply:?}");
    }

    fn mend(&self, _: &PostgresServer) {
        std::fs::rename(self.server.socket().with_extension("away"), self.server.socket()).unwrap();
    }
}

/// In another database of the same server.
struct OnPostgres {
    nodes: [Postgres; 2],
}

impl Place for OnPostgres {
    async fn nodes(database: &PostgresServer) -> Vec<Self> {
        database.psql("CREATE DATABASE objects").unwrap();
        let dsn = database.dsn().replace("dbname=larder", "dbname=objects");
        let node = || postgres(&dsn);
        vec![Self { nodes: [node(), node()] }]
    }

    fn connector(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        Arc::new(self.nodes[node].connector(schema).unwrap())
    }

    /// The feed cannot be reached either.
    async fn interrupt(&self, database: &PostgresServer) {
        let socket = database.socket().join(".s.PGSQL.5432");
        std::fs::rename(&socket, database.socket().join(".s.PGSQL.1")).unwrap();
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'larder'";
        database.psql_at(1, ended).unwrap();
    }

    fn mend(&self, database: &PostgresServer) {
        let socket = database.socket().join(".s.PGSQL.5432");
        std::fs::rename(database.socket().join(".s.PGSQL.1"), socket).unwrap();
    }
}
