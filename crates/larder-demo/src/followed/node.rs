//! One node: its memory, its feed, and the proxy through which the feed is heard.

use super::FollowedError;
use super::instance::Instance;
use super::tables::{SqlError, Tables};
use super::watch::Watch;
use crate::instance::InstanceKey;
use crate::own_server::OwnServer;
use larder::connector::memory::MemoryOptions;
use larder::connector::postgres::{Postgres, PostgresOptions};
use larder::feed::{Feed, FeedOptions, FollowOptions};
use larder::{Cache, Lookup, Miss, Schema};
use larder_testing::postgres::USER;
use larder_testing::proxy::{Fault, Proxy};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// A node with a cache, a feed and connections of its own.
pub(super) struct Node {
    cache: Cache<Instance>,
    proxy: Proxy,
    cut: AtomicBool,
    /// For loads. It does not go through the proxy.
    tables: Tables,
    lookups: AtomicU64,
    hits: AtomicU64,
    checked: AtomicU64,
    stale: AtomicU64,
}

/// What a node would answer for an instance, of what it has in memory.
pub(super) enum Known {
    /// The user limit of the instance in memory.
    Limit(i64),
    /// It is not in memory.
    Nothing,
    /// The node has heard nothing of the feed for so long that it does not read its memory.
    Unread,
}

/// The counters of a node.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Counts {
    pub(super) lookups: u64,
    pub(super) hits: u64,
    /// Answers that were judged: those of lookups, and those of watchers who asked for what is in memory.
    pub(super) checked: u64,
    pub(super) stale: u64,
}

impl Node {
    pub(super) async fn open(server: &OwnServer, dsn: &str) -> Result<Self, FollowedError> {
        let OwnServer::Postgres(server) = server else {
            return Err(crate::own_server::OwnServerError::NoPostgres.into());
        };
        let socket: PathBuf = server.socket().join(format!(".s.PGSQL.{}", server.port()));
        let proxy = Proxy::start(&*socket).await.map_err(FollowedError::Proxy)?;
        let through = format!("host=127.0.0.1 port={} user={USER} dbname={USER} sslmode=disable", proxy.port());
        let database = Postgres::open(PostgresOptions::from_url(&through)?)?;
        let feed = Feed::open(&database, FeedOptions::new())?;
        // Counters of its own: the other node has the same cache.
        let schema = Schema::of::<Instance>().counted_alone();
        let connector = feed.memory(schema.clone(), MemoryOptions::new(), FollowOptions::new())?;
        Ok(Self {
            cache: Cache::new(Arc::new(connector), schema)?,
            proxy,
            cut: AtomicBool::new(false),
            tables: Tables::connect(dsn).await?,
            lookups: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            stale: AtomicU64::new(0),
        })
    }

    /// Cuts the node off from the feed: what passes waits until the node is connected again, and then arrives.
    pub(super) fn cut_off(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
        self.proxy.set_both(if cut { Fault::Hold } else { Fault::Pass });
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether the node reads its memory.
    pub(super) fn reads(&self) -> bool {
        self.cache.status().readable
    }

    /// Looks an instance up, and loads it if it is not in memory. The answer is judged.
    pub(super) async fn look_up(&self, key: &InstanceKey, watch: &Watch) -> Result<Option<Arc<Instance>>, SqlError> {
        let began = Instant::now();
        let lookup = if key.is_id() {
            self.cache.lookup(Instance::ID, &key.text).await
        } else {
            self.cache.lookup(Instance::HOST, &key.text).await
        };
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let answer = match lookup {
            Lookup::Hit { value, .. } => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                Some(value)
            }
            Lookup::Miss { ticket, .. } => {
                let loaded = self.tables.find(key).await?.map(Arc::new);
                if let (Some(loaded), Some(ticket)) = (&loaded, ticket) {
                    self.cache.fill(loaded.clone(), ticket).await;
                }
                loaded
            }
        };
        if let Some(answer) = &answer {
            self.judge(&answer.id, answer.user_limit, began, watch);
        }
        Ok(answer)
    }

    /// What the node would answer from its memory. Nothing is loaded. The answer is judged as any other.
    pub(super) async fn known(&self, id: &str, watch: &Watch) -> Known {
        let began = Instant::now();
        match self.cache.lookup(Instance::ID, id).await {
            Lookup::Hit { value, .. } => {
                self.judge(id, value.user_limit, began, watch);
                Known::Limit(value.user_limit)
            }
            Lookup::Miss { cause: Miss::Distrusted, .. } => Known::Unread,
            Lookup::Miss { .. } => Known::Nothing,
        }
    }

    fn judge(&self, id: &str, limit: i64, began: Instant, watch: &Watch) {
        self.checked.fetch_add(1, Ordering::Relaxed);
        self.stale.fetch_add(u64::from(watch.is_stale(id, limit, began)), Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            lookups: self.lookups.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            checked: self.checked.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
        }
    }
}
