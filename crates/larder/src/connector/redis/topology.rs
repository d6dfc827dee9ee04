//! [`Topology`]: which node of a cluster has which slots, as far as this process knows.
//!
//! Nobody tells a client that a slot has moved: whoever asks the wrong node is answered MOVED. So what is known here is only where to try
//! first. A connection is used for a cache only after the node has answered for the cache's slot on that connection (`cluster.rs`).
//!
//! The slots are asked for when the process starts, and when no connection to a primary can be made. All caches share one question, and questions
//! are at least 100 ms apart, so that a failover does not make every node ask at once.

use super::options::{Address, RedisOptions};
use super::slots::{Node, Slots};
use super::wire::connect;
use super::wire::dial::Dialer;
use crate::connector::remote::{Trouble, What};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// The shortest pause between two questions; up to as much is added at random.
const PAUSE: Duration = Duration::from_millis(100);

/// After this time without an answer, the next node is asked as well.
const PATIENCE: Duration = Duration::from_millis(50);

/// The nodes of one cluster.
pub(crate) struct Topology {
    config: RedisOptions,
    dialer: Dialer,
    known: Mutex<Known>,
    /// When the slots were asked for last. Locked while they are asked for.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Known {
    slots: Slots,
    /// How often `slots` was replaced.
    version: u64,
    /// Whether they are to be asked for before they are used again.
    doubted: bool,
}

impl Topology {
    /// Nothing is asked yet. `config` names the nodes that are asked first.
    pub(crate) fn new(config: RedisOptions) -> Self {
        let dialer = Dialer::new(config.place(), config.tls.as_ref(), config.connect_timeout);
        Self { config, dialer, known: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// What makes sockets to the nodes.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The primary of a slot, as this process knows. Asks the cluster if it does not know, or if what it knew was [doubted](Self::doubt).
    ///
    /// # Cancellation
    ///
    /// If the future is dropped, the question may go unanswered, and the next caller asks again.
    pub(crate) async fn primary(self: &Arc<Self>, slot: u16) -> Result<Node, Trouble> {
        let (known, version) = {
            let known = self.known.lock();
            (known.slots.primary(slot).filter(|_| !known.doubted).cloned(), known.version)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        self.ask(version).await?;
        let known = self.known.lock().slots.primary(slot).cloned();
        known.ok_or_else(|| {
            not_serving(format!("nobody serves slot {slot} of the cluster: `CLUSTER SLOTS` has no address for it"))
        })
    }

    /// The primary of a slot, as this process knows. Nobody is asked.
    pub(crate) fn known(&self, slot: u16) -> Option<Node> {
        self.known.lock().slots.primary(slot).cloned()
    }

    /// The slot is at this address: a node has said so (MOVED).
    pub(crate) fn moved(&self, slot: u16, to: &Address) -> Node {
        let mut known = self.known.lock();
        known.slots = known.slots.moved(slot, to);
        known.version += 1;
        known.slots.primary(slot).cloned().unwrap_or_else(|| Node { address: to.clone(), name: None })
    }

    /// No connection to a primary could be made. The next caller asks for the slots.
    pub(crate) fn doubt(&self) {
        self.known.lock().doubted = true;
    }

    #[cfg(test)]
    pub(crate) fn is_doubted(&self) -> bool {
        self.known.lock().doubted
    }

    /// Asks the cluster for its slots, whatever is known already.
    pub(crate) async fn slots(self: &Arc<Self>) -> Result<Slots, Trouble> {
        self.doubt();
        let version = self.known.lock().version;
        self.ask(version).await?;
        Ok(self.known.lock().slots.clone())
    }

    /// Each primary that is known.
    pub(crate) fn primaries(&self) -> Vec<Node> {
        self.known.lock().slots.primaries().into_iter().cloned().collect()
    }

    /// Asks for the slots, unless somebody else has replaced what was known as `version`.
    async fn ask(self: &Arc<Self>, version: u64) -> Result<(), Trouble> {
        let mut asked = self.asked.lock().await;
        if let known = self.known.lock()
            && known.version != version
            && !known.doubted
        {
            return Ok(());
        }
        if let Some(asked) = *asked {
            sleep_until(asked + PAUSE + PAUSE.mul_f64(fastrand::f64())).await;
        }
        *asked = Some(Instant::now());
        let slots = self.answer_of_any().await?;
        let mut known = self.known.lock();
        *known = Known { slots, version: known.version + 1, doubted: false };
        Ok(())
    }

    /// The first answer of any node. A node that hangs costs [`PATIENCE`].
    pub(crate) async fn answer_of_any(self: &Arc<Self>) -> Result<Slots, Trouble> {
        let mut nodes = self.primaries();
        fastrand::shuffle(&mut nodes);
        let configured = std::iter::once(&self.config.address).chain(self.config.cluster.iter().flatten());
        for address in configured {
            if !nodes.iter().any(|node| node.address == *address) {
                nodes.push(Node { address: address.clone(), name: None });
            }
        }
        let mut asking = JoinSet::new();
        for (place, node) in (0..).zip(nodes) {
            let topology = self.clone();
            asking.spawn(async move {
                sleep(PATIENCE * place).await;
                let answer = topology.answer_of(&node).await;
                (node, answer)
            });
        }
        let mut troubles = Vec::new();
        while let Some(ended) = asking.join_next().await {
            match ended {
                Ok((_, Ok(slots))) => return Ok(slots),
                Ok((node, Err(trouble))) => troubles.push((node, trouble)),
                Err(_) => {}
            }
        }
        // What a person must change is told first.
        troubles.sort_by_key(|(_, trouble)| trouble.what() != Some(What::Refused));
        let texts: Vec<_> = troubles.iter().map(|(node, trouble)| format!("{}: {trouble}", node.address)).collect();
        let what = troubles.first().and_then(|(_, trouble)| trouble.what()).unwrap_or(What::Broken);
        Err(Trouble::Error { what, text: format!("no node tells the slots of the cluster: {}", texts.join("; ")) })
    }

    async fn answer_of(&self, node: &Node) -> Result<Slots, Trouble> {
        let mut question = redis::cmd("CLUSTER");
        question.arg("SLOTS");
        let config = self.config.clone().address(node.address.clone());
        let reply = connect::ask(&config, &self.dialer.named(node.name.as_deref()), &question).await;
        let reply = reply.map_err(|trouble| match trouble.to_string() {
            text if text.contains("cluster support disabled") => {
                Trouble::Error { what: What::Refused, text: connect::NO_CLUSTER.to_owned() }
            }
            _ => trouble,
        })?;
        let host = match &node.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "127.0.0.1",
        };
        let slots = Slots::read(&reply, host);
        slots.ok_or_else(|| Trouble::fault("the reply to CLUSTER SLOTS has not the expected shape"))
    }
}

fn not_serving(text: String) -> Trouble {
    Trouble::Error { what: What::NotServing, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_testing::server::{Reply, ScriptedServer};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A cluster of one node that serves every slot, and how often it was asked for them.
    async fn cluster() -> (Arc<Topology>, Arc<AtomicU64>, ScriptedServer) {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = asked.clone();
        let server = ScriptedServer::start(move |words| {
            if words[0].eq_ignore_ascii_case(b"CLUSTER") {
                counted.fetch_add(1, Ordering::SeqCst);
                let node = Reply::Array(vec![Reply::Bulk(b"h".to_vec()), Reply::Int(7_000)]);
                return Reply::Array(vec![Reply::Array(vec![Reply::Int(0), Reply::Int(16_383), node])]).encode();
            }
            Reply::Error("ERR unknown command".to_owned()).encode()
        });
        let server = server.await.unwrap();
        let none: [&str; 0] = [];
        let config = RedisOptions::new(format!("127.0.0.1:{}", server.port()).as_str()).cluster(none);
        (Arc::new(Topology::new(config)), asked, server)
    }

    /// A failover: each cache finds at the same moment that its primary is gone.
    #[tokio::test]
    async fn many_caches_that_lose_their_primary_ask_for_the_slots_once() {
        let (topology, asked, _server) = cluster().await;
        for questions in 1..=2 {
            topology.doubt();
            let mut callers = JoinSet::new();
            for slot in 0..200 {
                let topology = topology.clone();
                callers.spawn(async move { topology.primary(slot).await.unwrap() });
            }
            while let Some(ended) = callers.join_next().await {
                ended.unwrap();
            }
            assert_eq!(asked.load(Ordering::SeqCst), questions);
        }
    }

    #[tokio::test]
    async fn questions_are_some_time_apart() {
        let (topology, asked, _server) = cluster().await;
        let begun = Instant::now();
        for _ in 0..3 {
            topology.slots().await.unwrap();
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert!(begun.elapsed() >= 2 * PAUSE, "{:?}", begun.elapsed());
    }
}
