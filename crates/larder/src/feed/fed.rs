//! [`Fed`]: a memory connector that follows a feed.

use super::{Feed, Follower};
use crate::clock::Clock;
use crate::connector::postgres::Telling;
use crate::contract::{
    Answer, Connector, Delivery, Error, Fill, KeyBuf, KeyRef, Lookup, Miss, Object, Pruned, Status, Stored, Ticket,
    Transactions, Value,
};
use std::sync::Arc;

/// A cache in the memory of this process that follows a [`Feed`]. It keeps the whole contract on its own node. On other nodes what is changed here is
/// gone within the feed's deadline.
///
/// An invalidation, a delete, a truncate and a set are told to the database, which tells the other nodes. Where the database cannot be reached
/// they are *deferred*: this node has applied them, and tells the database when it is back.
///
/// A set stores the object here, and makes the other nodes forget theirs.
pub struct Fed {
    follower: Arc<Follower>,
    told: Telling,
    clock: Clock,
    feed: Feed,
}

impl std::fmt::Debug for Fed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fed")
            .field("cache", &self.follower.schema.cache())
            .field("feed", &self.feed)
            .finish_non_exhaustive()
    }
}

impl Fed {
    pub(super) fn new(follower: Arc<Follower>, told: Telling, feed: Feed) -> Self {
        Self { follower, told, clock: Clock::system(), feed }
    }

    fn may_read(&self) -> bool {
        self.follower.may_read(&self.clock)
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
        if self.may_read() { self.follower.memory.get_hit(key) } else { None }
    }

    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        if self.may_read() { self.follower.memory.get(key) } else { Answer::now(Err(Miss::Distrusted)) }
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        if self.may_read() {
            return self.follower.memory.lookup(key);
        }
        // What is loaded meanwhile may be stored: a change that this node has not heard of yet makes it forget the object before anybody reads it.
        Answer::later(async move { Lookup::miss(Miss::Distrusted, self.follower.memory.ticket().await) })
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.follower.memory.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.follower.memory.fill(object, ticket)
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        self.follower.memory.fill_absent(key, ticket)
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        Answer::later(async move {
            let told = self.told.invalidate(Self::keys(&object));
            let stored = self.follower.memory.put(object, ticket).await;
            match told.await {
                Ok(Delivery::Applied) => stored,
                _ => Stored::Unavailable,
            }
        })
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        let told = self.told.invalidate(keys.clone());
        Answer::later(async move { self.both(self.follower.memory.invalidate(keys, floor), told).await })
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        // Whether another node forgets the key or the whole object makes no difference to what it may serve.
        let told = self.told.invalidate(keys.clone());
        Answer::later(async move { self.both(self.follower.memory.delete(keys), told).await })
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        Answer::later(async move { self.both(self.follower.memory.truncate(), self.told.truncate()).await })
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.follower.memory.prune()
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.follower.memory.untouched(keys, since)
    }

    fn transactions(&self) -> Transactions<'_> {
        Transactions::Followed
    }

    fn status(&self) -> Status {
        let here = self.follower.memory.status();
        Status { readable: here.readable && self.may_read(), ..self.told.status(here) }
    }

    fn publish(&self) {
        self.told.publish();
    }
}
