//! [`Fed`]: a connector that follows a feed.

use super::Feed;
use super::follower::Follower;
use crate::clock::Clock;
use crate::connector::memory::Memory;
use crate::connector::postgres::Telling;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Place,
    Pruned, Status, Stored, Ticket, Transactions, Value, set_each,
};
use std::sync::Arc;
use tokio::task::AbortHandle;

/// A cache that follows a [`Feed`], in the memory of this process or on a connector that nodes share.
///
/// It keeps the whole contract. What the database is told by others is gone within the [deadline](super::FollowOptions::deadline).
///
/// *In memory*, an invalidation, a delete, a truncate and a set are told to the database, which tells the other nodes within the deadline. Where the
/// database cannot be reached they are *deferred*: this node has applied them, and tells the database when it is back. A set stores the object
/// here, and makes the other nodes forget theirs.
///
/// *On a shared connector* everything is forwarded. Only what reads an object asks first whether the feed is new enough.
pub struct Fed {
    follower: Arc<Follower>,
    objects: Objects,
    clock: Clock,
    /// What applies changes to the cache.
    task: AbortHandle,
    feed: Feed,
}

/// Where the objects are.
enum Objects {
    /// The memory is the follower's connector, too. Hits call it directly.
    Here {
        memory: Arc<Memory>,
        told: Telling,
    },
    Shared,
}

impl std::fmt::Debug for Fed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fed")
            .field("cache", &self.follower.schema.cache())
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fed {
    pub(super) fn in_memory(
        (follower, task): (Arc<Follower>, AbortHandle),
        memory: Arc<Memory>,
        told: Telling,
        feed: Feed,
    ) -> Self {
        Self { follower, objects: Objects::Here { memory, told }, clock: Clock::system(), task, feed }
    }

    pub(super) fn shared((follower, task): (Arc<Follower>, AbortHandle), feed: Feed) -> Self {
        Self { follower, objects: Objects::Shared, clock: Clock::system(), task, feed }
    }

    fn connector(&self) -> &dyn Connector {
        &*self.follower.connector
    }

    /// Whether the feed is new enough for the connector to be read on the connection that it has now. Without a connection the connector reads
    /// nothing, and says why.
    fn may_read(&self) -> bool {
        let known_on = self.follower.gate.connection();
        self.follower.gate.in_time(&self.clock) && [known_on, 0].contains(&self.connector().connection())
    }

    /// Whether what was read is still to be believed: the connector may have found another server after [`may_read`](Self::may_read).
    fn believes(&self) -> bool {
        self.follower.gate.connection() == self.connector().connection()
    }

    fn believed(&self, found: Result<Value, Miss>) -> Result<Value, Miss> {
        found.and_then(|value| if self.believes() { Ok(value) } else { Err(Miss::Distrusted) })
    }

    fn believed_lookup(&self, lookup: Lookup) -> Lookup {
        match lookup {
            Lookup::Miss { expired: None, .. } => lookup,
            _ if self.believes() => lookup,
            _ => Lookup::miss(Miss::Distrusted, None),
        }
    }

    /// A miss while the feed is too old. What is loaded may be stored. In memory, a change that this node has not heard of yet makes it forget the object before
    /// anybody reads it. On a shared connector, whoever applies the change does that; and a change that was applied before the ticket was
    /// taken had committed before the load began.
    async fn too_old(&self) -> Lookup {
        Lookup::miss(Miss::Distrusted, self.connector().ticket().await)
    }

    /// Both answers: applied here, and told or deferred.
    async fn both(
        &self,
        here: Answer<'_, Result<Delivery, Error>>,
        told: Answer<'_, Result<Delivery, Error>>,
    ) -> Result<Delivery, Error> {
        match (here.await?, told.await?) {
            (Delivery::Applied, told) => Ok(told),
            (deferred, _) => Ok(deferred),
        }
    }

    fn keys(object: &Object) -> Vec<KeyBuf> {
        object.keys().map(KeyRef::to_buf).collect()
    }
}

impl Connector for Fed {
    #[inline]
    fn get_hit(&self, key: KeyRef<'_>) -> Option<Value> {
        match &self.objects {
            // Memory has no connection that could change.
            Objects::Here { memory, .. } if self.follower.gate.in_time(&self.clock) => memory.get_hit(key),
            Objects::Shared if self.may_read() => self.connector().get_hit(key).filter(|_| self.believes()),
            _ => None,
        }
    }

    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        if !self.may_read() {
            return Answer::now(Err(Miss::Distrusted));
        }
        match self.connector().get(key) {
            Answer::Now(found) => Answer::Now(found.map(|found| self.believed(found))),
            Answer::Later(found) => Answer::later(async move { self.believed(found.await) }),
        }
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        if !self.may_read() {
            return Answer::later(self.too_old());
        }
        match self.connector().lookup(key) {
            Answer::Now(lookup) => Answer::Now(lookup.map(|lookup| self.believed_lookup(lookup))),
            Answer::Later(lookup) => Answer::later(async move { self.believed_lookup(lookup.await) }),
        }
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        if !self.may_read() {
            // Whoever has the lease stores what this node could not read: it loads for itself.
            return Answer::later(async move { (Lease::Free, self.too_old().await) });
        }
        let asked = self.connector().lease(key);
        Answer::later(async move {
            let (lease, lookup) = asked.await;
            (lease, self.believed_lookup(lookup))
        })
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        self.connector().release(key, token)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.connector().ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.connector().fill(object, ticket)
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        self.connector().fill_absent(key, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        let Objects::Here { memory, told } = &self.objects else { return self.connector().put(object, ticket) };
        Answer::later(async move {
            let told = told.invalidate(Self::keys(&object));
            let stored = memory.put(object, ticket).await;
            match told.await {
                Ok(Delivery::Applied) => stored,
                _ => Stored::Unavailable,
            }
        })
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        match &self.objects {
            // Its ticket is there at once.
            Objects::Here { memory, .. } => Answer::later(async move { self.put(object, memory.ticket().await).await }),
            Objects::Shared => self.connector().set(object),
        }
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        if !self.may_read() {
            return Answer::now(vec![Err(Miss::Distrusted); keys.len()]);
        }
        let found = self.connector().get_many(keys);
        Answer::later(async move { found.await.into_iter().map(|found| self.believed(found)).collect() })
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        if keys.is_empty() {
            return Answer::now(Lookups::default());
        }
        if !self.may_read() {
            return Answer::later(async move {
                let found = vec![Err(Miss::Distrusted); keys.len()];
                Lookups { found, ticket: self.connector().ticket().await }
            });
        }
        let lookups = self.connector().lookup_many(keys);
        Answer::later(async move {
            let Lookups { found, ticket } = lookups.await;
            Lookups { found: found.into_iter().map(|found| self.believed(found)).collect(), ticket }
        })
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        self.connector().fill_many(objects, ticket)
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        match &self.objects {
            Objects::Here { .. } => Answer::later(set_each(self, objects)),
            Objects::Shared => self.connector().set_many(objects),
        }
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        let Objects::Here { memory, told } = &self.objects else { return self.connector().invalidate(keys, floor) };
        let told = told.invalidate(keys.clone());
        Answer::later(async move { self.both(memory.invalidate(keys, floor), told).await })
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        let Objects::Here { memory, told } = &self.objects else { return self.connector().delete(keys) };
        // Whether another node forgets the key or the whole object makes no difference to what it may serve.
        let told = told.invalidate(keys.clone());
        Answer::later(async move { self.both(memory.delete(keys), told).await })
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        let Objects::Here { memory, told } = &self.objects else { return self.connector().truncate() };
        Answer::later(async move { self.both(memory.truncate(), told.truncate()).await })
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.connector().prune()
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.connector().untouched(keys, since)
    }

    fn connection(&self) -> u64 {
        self.connector().connection()
    }

    fn place(&self) -> Answer<'_, Option<Place>> {
        self.connector().place()
    }

    fn set_place(&self, place: Vec<u8>, connection: u64) -> Answer<'_, ()> {
        self.connector().set_place(place, connection)
    }

    fn transactions(&self) -> Transactions<'_> {
        Transactions::Followed
    }

    fn leave(&self) -> Answer<'_, ()> {
        self.connector().leave()
    }

    fn status(&self) -> Status {
        let here = self.connector().status();
        let readable = here.readable && self.may_read();
        match &self.objects {
            Objects::Here { told, .. } => Status { readable, ..told.status(here) },
            Objects::Shared => Status { readable, ..here },
        }
    }

    fn publish(&self) {
        match &self.objects {
            Objects::Here { told, .. } => told.publish(),
            Objects::Shared => self.connector().publish(),
        }
    }
}
