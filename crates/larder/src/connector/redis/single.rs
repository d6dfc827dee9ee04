//! The protocol on one server: what is sent for each operation, and what its reply means.
//!
//! # What a reader may observe
//!
//! A get reads one object and believes only what the object itself says. It returns an object only while this node's journal is empty and
//! the cache was recovered on the connection in use. Otherwise it is a miss, and nothing is sent.

use crate::clock::Clock;
use crate::connector::near::{Near, Rounds};
use crate::connector::redis::layout::Layout;
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::route::Route;
use crate::connector::redis::topology::Topology;
use crate::connector::redis::wire::connection::Connection;
use crate::connector::redis::wire::parcel::{Parcel, Wire};
use crate::connector::redis::wire::replies::{bytes, field, text};
use crate::connector::redis::wire::rights::{Missing, Rights};
use crate::connector::remote::hints::Hints;
use crate::connector::remote::{Batch, Channel, Clearing, Clocked, Connected, Link, RemoteCache, ServerKind, Trouble};
use crate::contract::{Following, Schema, Ticket};
use crate::telemetry::WarningLimit;
use redis::{Pipeline, Value as Reply};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(crate) mod clearing;
pub(crate) mod following;
pub(crate) mod forgetting;
mod leasing;
mod many;
mod placing;
mod pruning;
mod reading;
pub(crate) mod storing;
mod tickets;
pub(crate) mod waiting;

/// One cache on one server, as this node sees it.
pub(crate) type Store = RemoteCache<SingleServer>;

/// One Redis or Valkey server: the configured one, or the primary of one slot of a cluster, whichever node that is.
pub(crate) struct SingleServer {
    pub(crate) config: RedisOptions,
    pub(crate) route: Route,
    name: String,
    pub(crate) rights: Rights,
}

impl SingleServer {
    pub(crate) fn new(config: RedisOptions) -> Self {
        let name = config.place();
        let route = Route::new(&config);
        let rights = Rights::new(name.clone(), route.spare());
        Self { route, config, name, rights }
    }

    /// The primary of the slot in which this cache is, whichever node of the cluster that is.
    pub(crate) fn in_cluster(config: RedisOptions, topology: Arc<Topology>, cache: &str) -> Self {
        let name = format!("{}/{cache}", config.place());
        let route = Route::to_slot(&config, topology, cache);
        let rights = Rights::new(name.clone(), route.spare());
        Self { route, config, name, rights }
    }

    /// What is kept on this node for one cache.
    pub(crate) fn local(&self, schema: &Schema, clock: &Clock) -> Local {
        Local {
            layout: Layout::new(self.route.base(&schema.cache), schema),
            hints: Hints::new(self.config.hints, schema.last_use_age, clock.clone()),
            unsettled_since: AtomicU64::new(0),
            sets: AtomicBool::new(false),
            undecodable: WarningLimit::default(),
            tier: OnceLock::new(),
            table: tokio::sync::Mutex::default(),
        }
    }
}

/// What is kept on this node for one cache.
pub(crate) struct Local {
    pub(crate) layout: Layout,
    hints: Hints,
    /// Since when this node has found the clock unsettled, in ms. 0: it was settled when this node last looked.
    unsettled_since: AtomicU64,
    /// Whether this node has set objects in this cache. Then the heartbeat keeps a new ticket at hand.
    sets: AtomicBool,
    undecodable: WarningLimit,
    /// `None`: this node keeps no objects of the cache in its own memory.
    pub(crate) tier: OnceLock<Tier>,
    /// The table of followers, as it was read last. Locked while it is read.
    table: tokio::sync::Mutex<Option<waiting::Table>>,
}

/// What this node has of the cache in its own memory, and how it follows the cache.
pub(crate) struct Tier {
    pub(crate) near: Arc<Near>,
    pub(crate) following: Following,
    /// What this node is called in the table of followers.
    pub(crate) follower: [u8; 8],
    pub(crate) rounds: Rounds,
}

impl Local {
    /// What this node has of the cache in its own memory.
    pub(crate) fn near(&self) -> Option<&Near> {
        self.tier.get().map(|tier| &*tier.near)
    }

    /// How this node is to follow the cache.
    fn following(&self) -> Option<Following> {
        self.tier.get().map(|tier| tier.following)
    }
}

impl ServerKind for SingleServer {
    type Connection = Connection;
    type Local = Local;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&self, clock: &Clock) -> Result<Connected<Connection>, Trouble> {
        let (connection, mut driver) = self.route.reach(clock).await?;
        if let Some(missing) = connection.identity.missing {
            self.rights.learn(missing);
        }
        let history = connection.identity.history;
        let another_master = self.route.another_master(&connection);
        let ended = Box::pin(async move {
            tokio::select! {
                () = driver.ended() => "the server closed it",
                why = another_master => why,
            }
        });
        Ok(Connected { connection, history, ended })
    }

    async fn heartbeat(
        &self,
        link: &Link<Self>,
        connection: &Connection,
        caches: &[Arc<Store>],
    ) -> Option<&'static str> {
        if connection.login_has_ended() {
            return Some("its credentials have ended, and there were no new ones");
        }
        for renewal in self.route.renewals() {
            renewal.look_if_due(link.clock().now());
        }
        link.keep_time(connection).await;
        if self.rights.are_due(link.clock().now()) {
            let reply = link.beat_command(&self.rights.question()).await;
            self.rights.answered(reply.ok().as_ref().and_then(Missing::told_by), link.clock());
        }
        if let Some(look) = self.route.look() {
            // If the slot has moved, the reply says so, and the connection is given up.
            let _ = link.beat_command(&look).await;
        }
        keep_tickets(link, caches).await;
        let Some(known) = &connection.identity.replication else {
            let _ = link.beat_command(&redis::cmd("PING")).await;
            return None;
        };
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let replication = text(link.beat_command(&info).await.ok()?)?;
        if field(&replication, "role") == Some("slave") {
            Some("the server has become a replica")
        } else if field(&replication, "master_replid") != Some(known) {
            Some("the server's replication history has changed")
        } else {
            None
        }
    }

    async fn read_clock(&self, channel: &Channel<'_, Self>, local: &Local) -> Result<Clocked, Trouble> {
        // The clock is read before anything is read, applied or stored in a cache, so waiting here is enough.
        if let Channel::Private { connection, .. } = channel {
            connection.is_alone().await;
        }
        clearing::register(channel, &local.layout).await
    }

    async fn clear(
        &self,
        channel: &Channel<'_, Self>,
        local: &Local,
        history: u64,
        clearing: Clearing,
    ) -> Result<Option<Clocked>, Trouble> {
        clearing::clear(channel, &local.layout, history, clearing, local.following(), |_| ()).await
    }

    fn accepts(&self, local: &Local, clock: Clocked) -> bool {
        local.following().is_none() || Following::of(clock.epoch).is_some()
    }

    async fn elsewhere(&self, cache: &Store, changed: Ticket) {
        cache.wait_for_followers(changed).await;
    }

    async fn forget(
        &self,
        channel: &Channel<'_, Self>,
        local: &Local,
        batches: &[Batch<'_>],
        answers: &mut Vec<Result<Option<Ticket>, Trouble>>,
    ) -> Result<(), Trouble> {
        let mut parcel = Parcel::new();
        for batch in batches {
            parcel.script(forgetting::script(batch), |call| forgetting::tell(batch, &local.layout, call));
        }
        let mut replies = Vec::with_capacity(batches.len());
        let (parcel, received) = (&parcel, &mut replies);
        let sent = channel.run(|connection| async move { Wire(connection).send(parcel, received).await }).await;
        answers.extend(
            replies.into_iter().map(|reply| reply.extract_error().map_err(Trouble::from).and_then(forgetting::answer)),
        );
        sent
    }

    fn confirms(&self) -> bool {
        self.config.wait_replicas > 0
    }

    async fn confirm(&self, connection: &Connection, patient: bool) -> Result<(), Trouble> {
        match &connection.confirming {
            Some(confirming) => confirming.confirm(patient).await,
            None => Ok(()),
        }
    }

    fn lacks_right(&self, cache: &str, error: &str) {
        self.rights.doubt(cache, error);
    }
}

/// Takes a new ticket for each cache in which this node sets objects, unless a reply has brought one since the last heartbeat.
async fn keep_tickets(link: &Link<SingleServer>, caches: &[Arc<Store>]) {
    let mut asked = Vec::new();
    let mut commands = Pipeline::new();
    for cache in caches {
        if let Some((command, newest)) = cache.ask_clock() {
            commands.add_command(command);
            asked.push((cache, newest));
        }
    }
    if asked.is_empty() {
        return;
    }
    // The breaker counts an error. The old ticket stays, and may cost a set a second round trip.
    let Ok(clocks) = link.beat_all(&commands).await else { return };
    for ((cache, newest), clock) in asked.into_iter().zip(clocks) {
        cache.ticket_from(clock, newest).await;
    }
}

/// Reads the reply of a script that ends with write_marks.lua: the outcome, and the clock after it.
pub(crate) fn outcome_of(reply: Reply) -> Option<(u8, Ticket)> {
    outcome_in(&bytes(reply)?)
}

fn outcome_in(reply: &[u8]) -> Option<(u8, Ticket)> {
    let number = |at: usize| reply.get(at..)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Some((*reply.first()?, Ticket { epoch: number(1)?, sequence: number(9)? }))
}

/// The longest time that is sent to the server, in ms: 70,000 years. The scripts compute in doubles, which are exact up to 2⁵³. A script
/// may add two such times, a max age and how long an object is kept beyond it, and the time of day.
const ENDLESS: u64 = 1 << 51;

/// A time in milliseconds, rounded up: a lifetime of less than a millisecond must not become 0, which means none.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).map_or(ENDLESS, |time| time.min(ENDLESS))
}
