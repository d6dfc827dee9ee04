//! The coordinator's side of the nodes: one process in each place, behind proxies of its own.

use super::faults::Failed;
use super::node::{MAX_AGE, SERVE_EXPIRED};
use super::protocol::{self, Order, Setup, now};
use super::way::Way;
use super::witness::News;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

/// How many reports of a node may wait to be judged. Then the node waits.
const REPORTS: usize = 4;

/// How many bytes of a node's stderr are kept.
const LAST_WORDS: usize = 2_000;

/// One node's process.
struct Member {
    child: Child,
    orders: ChildStdin,
}

/// All nodes.
pub(crate) struct Crew {
    setup: Setup,
    ways: Vec<Way>,
    members: Vec<AsyncMutex<Option<Member>>>,
    /// The number of the process that is in each place now.
    nodes: Vec<AtomicU32>,
    next: AtomicU32,
    news: UnboundedSender<News>,
    /// How often the server has begun to evict.
    evictions: AtomicU64,
    /// Whether nodes must invalidate by primary key only.
    by_primary: AtomicBool,
}

impl Crew {
    /// `setup` is common to all nodes. Number, place and the addresses of the servers are set for each.
    pub(crate) fn new(setup: Setup, ways: Vec<Way>, news: UnboundedSender<News>) -> Self {
        let places = ways.len();
        Self {
            setup,
            ways,
            members: (0..places).map(|_| AsyncMutex::new(None)).collect(),
            nodes: (0..places).map(|_| AtomicU32::new(0)).collect(),
            next: AtomicU32::new(1),
            news,
            evictions: AtomicU64::new(0),
            by_primary: AtomicBool::new(false),
        }
    }

    pub(crate) fn places(&self) -> usize {
        self.members.len()
    }

    /// The number of the process that is in a place.
    pub(crate) fn node_at(&self, place: usize) -> u32 {
        self.nodes.get(place).map_or(0, |node| node.load(Ordering::Relaxed))
    }

    /// The way of the node in each place.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (usize, &Way)> {
        self.ways.iter().enumerate()
    }

    pub(crate) fn news(&self, news: News) {
        // At the end of a run nobody receives any more.
        let _ = self.news.send(news);
    }

    pub(crate) async fn start(&self) -> Result<(), Failed> {
        for place in 0..self.places() {
            self.place(place).await?;
        }
        Ok(())
    }

    /// Puts a new process into a place.
    async fn place(&self, place: usize) -> Result<u32, Failed> {
        let (Some(seat), Some(number)) = (self.members.get(place), self.nodes.get(place)) else { return Ok(0) };
        let node = self.next.fetch_add(1, Ordering::Relaxed);
        let setup = self.setup.clone();
        let mut setup = self.ways.get(place).map_or_else(|| setup.clone(), |way| way.applied_to(setup.clone()));
        setup.node = node;
        setup.place = u32::try_from(place).unwrap_or(u32::MAX);
        let setup = serde_json::to_string(&setup).map_err(|error| Failed::Words(error.to_string()))?;
        self.news(News::Begins { node, at: now() });
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node", &setup])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C on the terminal is for the coordinator only, which ends the nodes.
            .process_group(0)
            .spawn()?;
        let missing = || Failed::Words("a node was started without pipes".to_owned());
        let mut stdout = child.stdout.take().ok_or_else(missing)?;
        let mut stderr = child.stderr.take().ok_or_else(missing)?;
        let orders = child.stdin.take().ok_or_else(missing)?;
        let words = Arc::new(Mutex::new(Vec::new()));
        let heard = words.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = stderr.read(&mut bytes).await {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.extend_from_slice(bytes.get(..length).unwrap_or_default());
                let excess = heard.len().saturating_sub(LAST_WORDS);
                heard.drain(..excess);
            }
        });
        let news = self.news.clone();
        tokio::spawn(async move {
            let turns = Arc::new(Semaphore::new(REPORTS));
            while let Ok(turn) = turns.clone().acquire_owned().await
                && let Some(report) = protocol::receive(&mut stdout).await
            {
                let _ = news.send(News::Report { node, report: Box::new(report), turn });
            }
            // The last bytes of stderr may arrive a moment after stdout has ended.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let words = words.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let _ = news.send(News::Ends { node, words: String::from_utf8_lossy(&words).trim().to_owned() });
        });
        number.store(node, Ordering::Relaxed);
        *seat.lock().await = Some(Member { child, orders });
        if self.by_primary.load(Ordering::Relaxed) {
            self.order(place, Order::ByPrimary(true)).await;
        }
        Ok(node)
    }

    /// Kills the node in a place, and starts another there after a pause. Returns the numbers of both.
    pub(crate) async fn replace(&self, place: usize, pause: Duration) -> Result<(u32, u32), Failed> {
        let old = self.node_at(place);
        let Some(seat) = self.members.get(place) else { return Ok((0, 0)) };
        self.news(News::Killed { node: old });
        if let Some(mut member) = seat.lock().await.take() {
            member.child.kill().await?;
        }
        tokio::time::sleep(pause).await;
        Ok((old, self.place(place).await?))
    }

    /// The process in a place, if there is one now.
    pub(crate) async fn pid(&self, place: usize) -> Option<u32> {
        self.members.get(place)?.lock().await.as_ref()?.child.id()
    }

    pub(crate) async fn order_all(&self, order: Order) {
        for place in 0..self.places() {
            self.order(place, order).await;
        }
    }

    /// Sends an order to the node in a place. A node that has ended does not get it, which is noticed elsewhere.
    pub(crate) async fn order(&self, place: usize, order: Order) {
        let Some(seat) = self.members.get(place) else { return };
        let (Ok(mut line), Some(member)) = (serde_json::to_string(&order), &mut *seat.lock().await) else { return };
        line.push('\n');
        let _ = member.orders.write_all(line.as_bytes()).await;
        let _ = member.orders.flush().await;
    }

    /// To be called before the server begins to evict: it may lose index keys. From now on nodes invalidate by primary key. Invalidations
    /// that are under way may miss their objects.
    pub(crate) async fn begin_evicting(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
        self.by_primary.store(true, Ordering::Relaxed);
        self.news(News::EvictingFrom(now()));
        self.order_all(Order::ByPrimary(true)).await;
    }

    /// To be called when the server has stopped to evict. Nodes invalidate by any key again once every object that was stored before has
    /// outlived its age.
    pub(crate) fn end_evicting(self: &Arc<Self>) {
        let crew = self.clone();
        let turn = self.evictions.load(Ordering::Relaxed);
        tokio::spawn(async move {
            tokio::time::sleep(MAX_AGE + SERVE_EXPIRED + Duration::from_millis(500)).await;
            if crew.evictions.load(Ordering::Relaxed) == turn {
                crew.by_primary.store(false, Ordering::Relaxed);
                crew.news(News::EvictingUntil(now()));
                crew.order_all(Order::ByPrimary(false)).await;
            }
        });
    }

    /// Kills every process.
    pub(crate) async fn dismiss(&self) {
        for (place, seat) in self.members.iter().enumerate() {
            self.news(News::Killed { node: self.node_at(place) });
            if let Some(mut member) = seat.lock().await.take() {
                let _ = member.child.kill().await;
            }
        }
    }
}
