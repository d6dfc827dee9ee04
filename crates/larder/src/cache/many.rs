//! Several objects in one call: `get_many`, `set_many`, `invalidate_many`.

use super::{Cache, of_this_type};
use crate::contract::{Delivery, Error, Fill, KeyBuf, KeyRef, Lookups, Miss, Stored, Ticket};
use crate::entry::{AnyKey, Entry, Index};
use crate::key::KeyFor;
use std::sync::Arc;

impl<E: Entry> Cache<E> {
    /// Looks several objects up by keys of one index, in as few round trips as the connector can: one, where it is a server and knows
    /// or remembers where the keys lead. What comes back has the order of the keys, with a `None` for each miss; a key that is asked
    /// for twice is answered twice, and keys of one object share its `Arc`. Each key counts as a get in [`stats`](Self::stats).
    ///
    /// ```
    /// # use larder::{Cache, Entry, Schema, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, #[key(index = "host")] hosts: Vec<String> }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// instances.set(Instance { id: "42".into(), hosts: vec!["acme.example".into()] }).await;
    /// let found = instances.get_many(Instance::HOST, ["acme.example", "bolt.example"]).await;
    /// assert_eq!(found[0].as_ref().unwrap().id, "42");
    /// assert!(found[1].is_none());
    /// # }
    /// ```
    ///
    /// # Round trips to Redis
    ///
    /// One for up to 512 keys, and one more for each further 512, all of them together within the operation time-out: what was not
    /// answered by then is a miss. A second one where a secondary key is not remembered and leads to an object over 4 KiB, or where
    /// one that is remembered leads there no more.
    pub async fn get_many<T, K: KeyFor<T>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Option<Arc<E>>> {
        // Nothing that the caller has given is held while waiting, so that the future can be sent whatever it was.
        let checked =
            |key: K| self.checked(KeyRef { index: index.position(), bytes: &key.encode() }).map(KeyRef::to_buf);
        let keys: Vec<Result<KeyBuf, Miss>> = keys.into_iter().map(checked).collect();
        let valid: Vec<KeyRef<'_>> = keys.iter().flatten().map(KeyBuf::as_ref).collect();
        let bypassed = self.inner.sampling.bypasses();
        let got = if bypassed { Vec::new() } else { self.inner.connector.get_many(&valid).await };
        let mut got = got.into_iter();
        let each = keys.iter().map(|key| match key {
            Ok(_) if bypassed => self.counted(Err(Miss::Bypassed)).ok(),
            // There is an answer for each key.
            Ok(key) => self.sampled(key.as_ref(), self.counted(got.next().unwrap_or(Err(Miss::Fault)))).ok(),
            Err(miss) => self.counted(Err(*miss)).ok(),
        });
        each.collect()
    }

    /// Looks several valid keys up for somebody who loads what is missing. This is not counted: a call may look several times.
    pub(crate) async fn look_many(&self, keys: &[KeyRef<'_>]) -> Lookups<Arc<E>> {
        if self.inner.sampling.bypasses() {
            let found = keys.iter().map(|_| Err(Miss::Bypassed)).collect();
            return Lookups { found, ticket: self.inner.connector.ticket().await };
        }
        let Lookups { found, ticket } = self.inner.connector.lookup_many(keys).await;
        let found = keys.iter().zip(found).map(|(key, found)| self.sampled(*key, of_this_type(found))).collect();
        Lookups { found, ticket }
    }

    /// What was got by a key, which an auditor may want to see.
    fn sampled(&self, key: KeyRef<'_>, got: Result<Arc<E>, Miss>) -> Result<Arc<E>, Miss> {
        got.inspect(|object| self.inner.sampling.offer(key, object))
    }

    /// Stores what loads that began after `ticket` was taken have read; for each when it was stored, if it was.
    pub(crate) async fn fill_many(&self, objects: &[Arc<E>], ticket: Ticket) -> Vec<Option<Ticket>> {
        let objects: Vec<_> = objects.iter().map(|object| self.object(object.clone()).ok()).collect();
        let fit = objects.iter().flatten().cloned().collect();
        let mut filled = self.inner.connector.fill_many(fit, ticket).await.into_iter();
        let each = objects.iter().map(|object| match object {
            // There is an answer for each object.
            Some(_) => filled.next().unwrap_or(Fill::undated(Stored::Unavailable)),
            None => Fill::undated(Stored::Unfit),
        });
        each.inspect(|fill| self.inner.schema.stats.fill(fill.stored).increment()).map(Fill::accepted).collect()
    }

    /// Stores several objects that the caller knows to be current, each as [`set`](Self::set) does, in this order: of two that claim
    /// the same key the later one has it, and the earlier one is gone. What became of each comes back in the order of the objects.
    ///
    /// ```
    /// # use larder::{Cache, Entry, Schema, Stored, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: u32, name: String }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// let renamed = ["Acme", "Bolt"].into_iter().zip(1..).map(|(name, id)| Instance { id, name: name.into() });
    /// assert_eq!(instances.set_many(renamed).await, [Stored::Accepted, Stored::Accepted]);
    /// # }
    /// ```
    ///
    /// # Round trips to Redis
    ///
    /// Two, as for one object: the ticket, then up to 512 objects or 1 MiB, and one more for each further lot of them. A lot is one
    /// operation, with the operation time-out for itself; after one that timed out no other is sent, and what was not stored is
    /// invalidated through the journal. An object one of whose keys somebody else touches between the ticket and the object's turn is
    /// invalidated instead of stored ([`Stored::Overtaken`]), and only that object.
    ///
    /// # Cancellation
    ///
    /// Dropped at any await point, each object is stored or its keys are invalidated.
    pub async fn set_many(&self, objects: impl IntoIterator<Item = impl Into<Arc<E>>>) -> Vec<Stored> {
        let mut stored = Vec::new();
        let (mut fit, mut unfit) = (Vec::new(), Vec::new());
        for object in objects {
            match self.object(object.into()) {
                Ok(object) => {
                    stored.push(None);
                    fit.push(object);
                }
                Err(valid) => {
                    stored.push(Some(Stored::Unfit));
                    unfit.extend(valid);
                }
            }
        }
        let connector = &self.inner.connector;
        let outcomes = if unfit.is_empty() {
            connector.set_many(fit).await
        } else {
            // Their earlier states must go all the same, and whoever drops this drops it after both have begun.
            tokio::join!(connector.set_many(fit), connector.invalidate(unfit, None)).0
        };
        let mut outcomes = outcomes.into_iter();
        let each = stored.into_iter().map(|unfit| unfit.or_else(|| outcomes.next()).unwrap_or(Stored::Unavailable));
        each.inspect(|stored| self.inner.schema.stats.put(*stored).increment()).collect()
    }

    /// Forgets every object that one of the keys leads to, as [`invalidate`](Self::invalidate) does, through keys of several indexes in
    /// one call.
    ///
    /// ```
    /// # use larder::{Cache, Delivery, Entry, Schema, connector::memory::{Memory, MemoryOptions}};
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Clone, Serialize, Deserialize, Entry)]
    /// # #[entry(cache = "instance")]
    /// # struct Instance { #[key(primary)] id: String, #[key(index = "host")] hosts: Vec<String> }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let schema = Schema::of::<Instance>();
    /// # let instances: Cache<Instance> =
    /// #     Cache::new(std::sync::Arc::new(Memory::open(schema.clone(), MemoryOptions::default()).unwrap()), schema).unwrap();
    /// let delivery = instances.invalidate_many([Instance::ID.key("42"), Instance::HOST.key("acme.example")]).await;
    /// assert_eq!(delivery.unwrap(), Delivery::Applied);
    /// # }
    /// ```
    ///
    /// # Round trips to Redis
    ///
    /// One for up to 2,048 keys, and one more for each further 2,048, each an operation with a time-out of its own. All are guarded
    /// before the first is sent: what was not delivered is in the journal, and the answer is [`Delivery::Deferred`].
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate): a key that cannot exist; the others are handled first.
    pub async fn invalidate_many(&self, keys: impl IntoIterator<Item = AnyKey<E>>) -> Result<Delivery, Error> {
        self.invalidate_keys(self.valid(keys), None).await
    }
}
