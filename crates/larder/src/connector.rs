//! The trait that every connector implements, and what passes through it.
//!
//! A connector knows bytes and keys, not the user's type: a [`Schema`] tells it how to turn a [`Value`] into bytes and
//! back, so a connector that stays in memory never serialises anything. Every operation returns an [`Answer`], which a
//! connector that already knows the result gives [at once](Answer::Now), without boxing a future: a memory hit
//! must not pay for the network that another connector needs.
//!
//! # Contract
//!
//! A connector keeps the promises C1–C14 of `ARCHITECTURE.md`; `larder_testing::conformance` checks them all. Those that
//! a signature cannot show:
//!
//! - every operation may be dropped at any await point without losing an invalidation that it had begun;
//! - nothing is returned after an invalidation, delete or truncate that had answered [`Delivery::Applied`] before the call;
//! - a [`Ticket`] taken before an invalidation or put of any key of an object never lets that object in.

use crate::key::KeyError;
#[cfg(doc)]
use crate::load::LoadOptions;
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use crate::options::OptionError;
pub use many::Looks;
pub use schema::Schema;
pub(crate) use schema::{MAX_OBJECT_SIZE, examine};

mod many;
pub mod memory;
pub mod noop;
#[cfg(feature = "redis")]
pub mod redis;
mod schema;

/// An object of a type that the connector does not know.
pub type Value = Arc<dyn Any + Send + Sync>;

/// What stores the objects of one cache.
pub trait Connector: Send + Sync + 'static {
    /// A hit that needs no waiting, as in memory; `None` where [`get`](Self::get) has to be asked, be it for a miss. It fits into two
    /// registers: whatever goes through memory on the way of a hit has to wait for the value's count of references.
    fn get_hit(&self, _key: KeyRef<'_>) -> Option<Value> {
        None
    }

    /// Looks an object up. Touches it, where a last-use age is set.
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>>;

    /// Looks an object up for somebody who loads it where it is missing: with a ticket for that, and with what may be served all the
    /// same or has to be loaded anew soon, as [`LoadOptions`] say.
    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Look>;

    /// A ticket for a load, or a write, that begins after this returns.
    fn ticket(&self) -> Answer<'_, Option<Ticket>>;

    /// Stores what a load that began after `ticket` was taken has read, unless something has overtaken it.
    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill>;

    /// Tells the connector that a load has found nothing under this key. The load began after `ticket` was taken. The connector decides
    /// in one step, in this order:
    ///
    /// 1. Something has touched the key since the ticket was taken, or the cache was truncated: [`Stored::Overtaken`]. Nothing happens.
    /// 2. The key leads to an object that a get may serve, and that does not have to be loaded anew within
    ///    [`LoadOptions::refresh_ahead`]: [`Stored::Overtaken`]. Nothing happens: the object was stored while the load was under way,
    ///    so there is something now.
    /// 3. Otherwise [`Stored::Yes`]. If the key leads to an object, that object has expired, or was about to be loaded anew: the
    ///    connector ends it under all of its keys, so that nobody is served it any more. And where [`LoadOptions::negative_age`] is
    ///    not zero, the connector leaves a note of this key.
    ///
    /// For [`LoadOptions::negative_age`] each lookup of a noted key is [`Miss::KnownAbsent`], whatever else lies there. The note is
    /// forgotten earlier when something touches the key, when an object that lists the key is stored, or for want of room. A key
    /// that was deleted leads to no object here, even if one lists it. (A connector may end that object: it was stored before the delete,
    /// and so before the load.)
    ///
    /// A connector that cannot leave a note of this key, as it is too long, answers [`Stored::Unfit`]; it has ended the object all the
    /// same. What is here by default does nothing and answers [`Stored::Off`]: it is right only for a connector that never
    /// returns an expired object from [`lookup`](Self::lookup), and no object that is due.
    fn fill_absent<'a>(&'a self, _key: KeyRef<'a>, _ticket: Ticket) -> Answer<'a, Fill> {
        Answer::now(Fill::undated(Stored::Off))
    }

    /// Asks to be the one, among all nodes, who loads what is missing under this key, and then looks it up: so whoever is granted
    /// the lease has seen what the one before him has stored. What is here by default grants everybody his own load.
    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Look)> {
        match self.lookup(key) {
            Answer::Now(look) => Answer::Now(look.map(|look| (Lease::Free, look))),
            Answer::Later(look) => Answer::later(async move { (Lease::Free, look.await) }),
        }
    }

    /// Gives a lease back, if it still is this one. A lease that nobody gives back ends by itself, after [`LoadOptions::lease`].
    fn release<'a>(&'a self, _key: KeyRef<'a>, _token: LeaseToken) -> Answer<'a, ()> {
        Answer::now(())
    }

    /// Stores what is known to have been current when `ticket` was taken or written after; the object's keys are
    /// fenced whether it is stored or not. Where the ticket was overtaken, or is missing, its keys are invalidated instead.
    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored>;

    /// A put of what is known to be current now, and takes the ticket for it. Dropped while it waits for one, it must invalidate
    /// the object's keys: the source has the new state already. What is here by default waits for [`ticket`](Self::ticket) without
    /// that, which is right where that answers at once.
    fn set(&self, object: Object) -> Answer<'_, Stored> {
        match self.ticket() {
            Answer::Now(ticket) => self.put(object, ticket.flatten()),
            Answer::Later(ticket) => Answer::later(async move { self.put(object, ticket.await).await }),
        }
    }

    /// Looks several objects up, each as [`get`](Self::get) does; the answers are in the order of the keys.
    ///
    /// This and the three that follow do by default one after the other, which is right for any connector. One with a server does
    /// better to ask it once.
    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        many::unless_empty(keys, many::get_each(self, keys))
    }

    /// Looks several objects up for somebody who loads those that are missing, with one ticket for all of them.
    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Looks> {
        many::unless_empty(keys, many::lookup_each(self, keys))
    }

    /// Stores what loads that began after `ticket` was taken have read, each as [`fill`](Self::fill) does, in this order.
    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(many::fill_each(self, objects, ticket)) }
    }

    /// Sets several objects, each as [`set`](Self::set) does, in this order. Dropped half-way, it must invalidate the keys of those
    /// whose turn has not come.
    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(many::set_each(self, objects)) }
    }

    /// Forgets every object that one of `keys` leads to. With a `floor`, a version lower than it is not stored
    /// for those objects until the fence has passed (for versioned entries).
    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>>;

    /// Makes just these keys miss.
    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>>;

    /// Forgets everything in this cache.
    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>>;

    /// Cleans up what has expired or dangles.
    fn prune(&self) -> Answer<'_, Result<Pruned, Error>>;

    /// Whether nothing has touched any of `keys` since `since` was taken: no invalidation, delete, truncate or put. `None` where it
    /// cannot be told now. What is here by default asks whether anything at all was touched.
    fn untouched(&self, _keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        match self.ticket() {
            Answer::Now(ticket) => Answer::now(ticket.flatten().map(|ticket| ticket == since)),
            Answer::Later(ticket) => Answer::later(async move { ticket.await.map(|ticket| ticket == since) }),
        }
    }

    /// How the connector is doing.
    fn status(&self) -> Status;

    /// Hands what belongs to the connector, rather than to the cache, to the `metrics` recorder that is installed.
    fn publish(&self) {}
}

/// A key of a known index, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyRef<'a> {
    /// The position of the index in [`Schema::indexes`]; 0 is the primary index.
    pub index: u8,
    /// The encoded key.
    pub bytes: &'a [u8],
}

/// A key of a known index.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyBuf {
    /// The position of the index in [`Schema::indexes`]; 0 is the primary index.
    pub index: u8,
    /// The encoded key.
    pub bytes: Box<[u8]>,
}

impl KeyBuf {
    /// The same key, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { index: self.index, bytes: &self.bytes }
    }
}

impl KeyRef<'_> {
    /// The same key, owned.
    #[must_use]
    pub fn to_buf(self) -> KeyBuf {
        KeyBuf { index: self.index, bytes: self.bytes.into() }
    }
}

/// An object on its way into a connector.
#[derive(Clone, Debug)]
pub struct Object {
    /// The one key of the primary index.
    pub primary: Box<[u8]>,
    /// All other keys, without duplicates.
    pub secondary: Vec<KeyBuf>,
    /// Its version, where the entry has one.
    pub version: Option<u64>,
    /// The object itself.
    pub value: Value,
}

impl Object {
    /// All keys, the primary one first.
    pub fn keys(&self) -> impl Iterator<Item = KeyRef<'_>> {
        std::iter::once(KeyRef { index: 0, bytes: &self.primary }).chain(self.secondary.iter().map(KeyBuf::as_ref))
    }
}

/// Proof of when a load began: the clock's epoch and the newest sequence then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Identifies the clock; it is renewed when the clock is lost or the cache truncated.
    pub epoch: u64,
    /// The newest sequence that had been given out.
    pub sequence: u64,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Look {
    /// The object.
    Hit {
        /// The object itself.
        value: Value,
        /// Whether its max age is over within [`LoadOptions::refresh_ahead`]: it is time to load it anew.
        due: bool,
    },
    /// Nothing that a get would return.
    Miss {
        /// Why.
        cause: Miss,
        /// For the load that follows. `None`: nothing can be filled now, or nothing needs to be loaded.
        ticket: Option<Ticket>,
        /// An object whose max age is over, for no longer than [`LoadOptions::serve_expired`]; never one that was invalidated.
        expired: Option<Value>,
    },
}

impl Look {
    /// A hit, fresh for long.
    #[must_use]
    pub fn hit(value: Value) -> Self {
        Self::Hit { value, due: false }
    }

    /// What a get has found, and on a miss a ticket that was taken after it, for a connector that keeps no ages of its own.
    #[must_use]
    pub fn of(found: Result<Value, Miss>, ticket: Option<Ticket>) -> Self {
        found.map_or_else(|cause| Self::miss(cause, ticket), Self::hit)
    }

    /// A miss without anything that could be served.
    #[must_use]
    pub fn miss(cause: Miss, ticket: Option<Ticket>) -> Self {
        Self::Miss { cause, ticket, expired: None }
    }
}

/// Whether a load is this node's to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It is, until the lease is given back or ends.
    Granted(LeaseToken),
    /// Another load of the key is under way.
    Taken,
    /// There is nobody to ask, or the connector is no other node's: whoever wants to load may.
    Free,
}

/// Distinguishes a lease from all others, before and after it, of the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseToken(pub u128);

/// Why a get found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Miss {
    /// Nothing is stored under this key.
    Absent,
    /// What is stored has outlived one of its ages.
    Expired,
    /// Its source was found to have nothing under this key, a short while ago.
    KnownAbsent,
    /// The server is not reachable, or the breaker is open.
    Unavailable,
    /// Too many operations were in flight; this one was not sent.
    Shed,
    /// The server did not answer within the operation time-out.
    TimedOut,
    /// What is stored may not be read until the journal has been replayed and the server's history checked.
    Distrusted,
    /// The stored bytes are damaged, or not an object; they were removed.
    Undecodable,
    /// The server answered with an error that is no sign of its health.
    Fault,
    /// The key can not be looked up: empty, or too long.
    InvalidKey,
    /// The cache is switched off.
    Off,
    /// An auditor has found the cache to serve what is stale, and it is not read for a while.
    Bypassed,
}

impl Miss {
    /// Every cause, in the order of their counters.
    pub const ALL: [Self; 12] = [
        Self::Absent,
        Self::Expired,
        Self::KnownAbsent,
        Self::Unavailable,
        Self::Shed,
        Self::TimedOut,
        Self::Distrusted,
        Self::Undecodable,
        Self::Fault,
        Self::InvalidKey,
        Self::Off,
        Self::Bypassed,
    ];

    /// The cause as it stands in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::KnownAbsent => "known_absent",
            Self::Unavailable => "unavailable",
            Self::Shed => "shed",
            Self::TimedOut => "timed_out",
            Self::Distrusted => "distrusted",
            Self::Undecodable => "undecodable",
            Self::Fault => "fault",
            Self::InvalidKey => "invalid_key",
            Self::Off => "off",
            Self::Bypassed => "bypassed",
        }
    }
}

/// What became of a fill, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// What became of it.
    pub stored: Stored,
    /// What a ticket would have been at the moment that was decided: of all that had touched the object's keys by then, nothing had
    /// overtaken the fill where it was stored. `None` where the connector cannot tell.
    pub at: Option<Ticket>,
}

impl Fill {
    /// A fill of which it is not known when it was decided, as where it was not sent at all.
    #[must_use]
    pub fn undated(stored: Stored) -> Self {
        Self { stored, at: None }
    }

    /// When it was stored, if it was.
    #[must_use]
    pub fn accepted(self) -> Option<Ticket> {
        self.at.filter(|_| self.stored == Stored::Yes)
    }
}

/// What became of a fill or a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// The object can be looked up now.
    Yes,
    /// An invalidation or put of one of its keys has overtaken the ticket. (A put has invalidated its keys.)
    Overtaken,
    /// A higher version is stored, or demanded by an invalidation.
    Outdated,
    /// The object, or one of its keys, can not be cached: too large, no or several primary keys, an empty key, or its bytes would not
    /// be read back as the same object (see "What can be stored" at [`Entry`](crate::Entry)). (A put has invalidated its keys.)
    Unfit,
    /// The server is full. (A put has invalidated its keys.)
    Full,
    /// The connector could not be reached. (For a put, an invalidation of its keys is in the journal.)
    Unavailable,
    /// The cache is switched off.
    Off,
}

impl Stored {
    /// Every outcome, in the order of their counters.
    pub const ALL: [Self; 7] =
        [Self::Yes, Self::Overtaken, Self::Outdated, Self::Unfit, Self::Full, Self::Unavailable, Self::Off];

    /// The outcome as it stands in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "stored",
            Self::Overtaken => "overtaken",
            Self::Outdated => "outdated",
            Self::Unfit => "unfit",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Off => "off",
        }
    }
}

/// How far an invalidation, delete or truncate has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// No get on any node that starts from now on returns what was stored before.
    Applied,
    /// It is in this node's journal: this node reads nothing from the connector until it has been applied.
    Deferred,
}

/// Why an invalidation, delete, truncate or prune was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// One of the keys can not exist; the others were handled.
    #[error("cache `{cache}`, index `{index}`: {reason}")]
    Key {
        /// The cache.
        cache: Arc<str>,
        /// The index.
        index: &'static str,
        /// What is wrong with the key.
        reason: KeyError,
    },
    /// The connector can not do it at all now (only prune answers this; everything else is deferred).
    #[error("cache `{cache}`: {reason}")]
    Unavailable {
        /// The cache.
        cache: Arc<str>,
        /// What stands in the way.
        reason: String,
    },
}

/// What a prune has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Objects that had expired.
    pub objects: u64,
    /// Keys that led nowhere.
    pub keys: u64,
}

/// How a connector is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Objects held, where the connector knows.
    pub objects: Option<u64>,
    /// What they weigh, in bytes, where the connector knows.
    pub bytes: Option<u64>,
    /// Invalidations that wait in the journal.
    pub journal: u64,
    /// Invalidations, deletes, truncates and sets that are neither answered nor in the journal yet.
    pub under_way: u64,
    /// Whether what is stored may be read.
    pub readable: bool,
    /// The breaker, where there is one.
    pub breaker: Option<crate::breaker::State>,
}

/// The result of a connector's operation: there at once, or later.
pub enum Answer<'a, T> {
    /// The result.
    Now(Option<T>),
    /// A future that yields it.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Answer<'a, T> {
    /// An answer that is there already.
    pub fn now(result: T) -> Self {
        Self::Now(Some(result))
    }

    /// An answer that has to be waited for.
    pub fn later(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self::Later(Box::pin(future))
    }
}

impl<T: Unpin> Future for Answer<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            // A future is not polled again after it was ready, so the result is there.
            Self::Now(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(context),
        }
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Answer<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(result) => f.debug_tuple("Now").field(result).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}
