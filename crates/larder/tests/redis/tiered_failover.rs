//! Memory of each node in front of servers that take each other's place. The new server may know nothing of those who followed the old one: while their
//! memories may be valid, no change counts as applied.

use crate::cluster::{INSTANCES, clusters, options};
use crate::instance::{Instance, instance};
use crate::sentinel::watching_all;
use crate::tier_node::TierNode;
use larder::connector::redis::RedisOptions;
use larder::connector::tiered::TieredOptions;
use larder::{Delivery, Stored};
use larder_testing::server::{ServerOptions, Watched, required};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Longer than it takes until another server serves, so that a memory that was valid before still is.
const VALIDITY: Duration = Duration::from_secs(3);

/// Begins a node of one kind.
type Begin = fn(RedisOptions, &TieredOptions) -> TierNode;

/// Two nodes that follow. The reader has a thread of its own, which can be made to stand still.
struct Nodes {
    writer: TierNode,
    reader: TierNode,
    thread: Runtime,
}

impl Nodes {
    async fn on(begin: Begin, config: RedisOptions) -> Self {
        let options = TieredOptions::new().validity(VALIDITY);
        let thread = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (settings, terms) = (config.clone(), options.clone());
        let reader = thread.spawn(async move { begin(settings, &terms) }).await.unwrap();
        let writer = begin(config, &options);
        writer.follows().await;
        reader.follows().await;
        Self { writer, reader, thread }
    }

    /// While the reader stands still, with an object in its memory, the servers change places. When a change is applied then, the memory is valid no more.
    async fn outlive(&self, change_places: impl AsyncFnOnce()) {
        let Self { writer, reader, thread } = self;
        self.stores("old").await;
        reader.has("a").await;
        let (go_on, stands) = mpsc::channel::<()>();
        let (standing, stands_still) = mpsc::channel();
        thread.spawn(async move {
            standing.send(()).unwrap();
            stands.recv().unwrap_err()
        });
        stands_still.recv().unwrap();
        change_places().await;
        self.applied().await;
        assert!(reader.here("a").is_none(), "its memory is valid no more");
        drop(go_on);
        reader.follows().await;
        assert!(reader.by_host("a").await.is_none());
        // Both go on as before.
        self.stores("new").await;
        reader.has("a").await;
        assert_eq!(reader.here("a").unwrap().name, "new");
        writer.invalidate("a").await;
        assert!(reader.here("a").is_none());
    }

    async fn stores(&self, name: &str) {
        assert_eq!(self.writer.cache.set(instance("1", &["a"], name)).await, Stored::Accepted);
    }

    /// Invalidates until that is applied, and everything that was deferred is applied as well.
    async fn applied(&self) {
        let begun = Instant::now();
        loop {
            let delivery = self.writer.cache.invalidate(Instance::HOST, ["a"]).await.unwrap();
            if delivery == Delivery::Applied && self.writer.cache.status().journal == 0 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is applied: {:?}", self.writer.cache.status());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.writer.follows().await;
    }

    async fn end(self) {
        tokio::task::spawn_blocking(move || drop(self)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_leaves_no_memory_behind() {
    for cluster in clusters(0).await {
        let nodes = Nodes::on(TierNode::begin_in_cluster, options(&cluster)).await;
        nodes.outlive(async || cluster.move_slot(INSTANCES, 0, 2).await.unwrap()).await;
        nodes.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_over_waits_for_the_memories_of_those_who_followed_its_primary() {
    for cluster in clusters(1).await {
        let nodes = Nodes::on(TierNode::begin_in_cluster, options(&cluster)).await;
        let dies = async || {
            cluster.nodes()[0].kill();
            cluster.promoted(3).await.unwrap();
        };
        nodes.outlive(dies).await;
        nodes.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_the_sentinels_name_waits_for_the_memories_of_those_who_followed_the_one_before() {
    for binary in required().unwrap() {
        let watched = Watched::start(&binary, ServerOptions::default(), 3).await.unwrap();
        let nodes = Nodes::on(TierNode::begin, watching_all(&watched)).await;
        let fails_over = async || {
            watched.fail_over().await.unwrap();
            // Who still follows it when it goes on would read on from it until the Sentinels have told it.
            watched.master.kill();
        };
        nodes.outlive(fails_over).await;
        nodes.end().await;
    }
}
