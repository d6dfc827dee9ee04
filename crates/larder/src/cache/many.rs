//! Several objects in one call: `get_many`, `set_many`, `invalidate_many`.

use super::{Cache, of_this_type};
use crate::contract::{Delivery, Error, Fill, KeyBuf, KeyRef, Lookups, Miss, Stored, Ticket};
use crate::entry::{AnyKey, Entry, Index};
use crate::key::KeyFor;
use std::sync::Arc;

impl<E: Entry> Cache<E> {
    /// Looks several objects up by keys of one index, in as few round trips as the connector can, usually one. The result has the order of
    /// the keys, with a `None` for each miss. A key that is given twice is answered twice, and keys of one object share its `Arc`. Each key
    /// counts as a get in [`stats`](Self::stats).
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
    /// One for up to 512 keys, and one more for each further 512. All of them share one operation time-out; a key that is not answered by
    /// then is a miss. A second one is needed if this node does not remember where a secondary key leads and the object is over 4 KiB, or
    /// if what the node remembers is wrong.
    pub async fn get_many<T, K: KeyFor<T>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
    ) -> Vec<Option<Arc<E>>> {
        // Encode the keys now: the future then holds nothing of the caller's, and is `Send` whatever the caller has given.
        let checked =
            |key: K| self.checked(KeyRef { index: index.position(), bytes: &key.encode() }).map(KeyRef::to_buf);
        let keys: Vec<Result<KeyBuf, Miss>> = keys.into_iter().map(checked).collect();
        let valid: Vec<KeyRef<'_>> = keys.iter().flatten().map(KeyBuf::as_ref).collect();
        let bypassed = self.inner.sampling.bypasses();
        let got = if bypassed { Vec::new() } else { self.inner.connector.get_many(&valid).await };
        let mut got = got.into_iter();
        let each = keys.iter().map(|key| match key {
            Ok(_) if bypassed => self.counted(Err(Miss::Bypassed)).ok(),
            // The connector gives one answer for each key.
            Ok(key) => self.sampled(key.as_ref(), self.counted(got.next().unwrap_or(Err(Miss::Fault)))).ok(),
            Err(miss) => self.counted(Err(*miss)).ok(),
        });
        each.collect()
    }

    /// Looks several valid keys up for a load, without counting: a call may look several times.
    pub(crate) async fn look_many(&self, keys: &[KeyRef<'_>]) -> Lookups<Arc<E>> {
        if self.inner.sampling.bypasses() {
            let found = keys.iter().map(|_| Err(Miss::Bypassed)).collect();
            return Lookups { found, ticket: self.inner.connector.ticket().await };
        }
        let Lookups { found, ticket } = self.inner.connector.lookup_many(keys).await;
        let found = keys.iter().zip(found).map(|(key, found)| self.sampled(*key, of_this_type(found))).collect();
        Lookups { found, ticket }
    }

    /// Offers a hit to the auditor, if there is one.
    fn sampled(&self, key: KeyRef<'_>, got: Result<Arc<E>, Miss>) -> Result<Arc<E>, Miss> {
        got.inspect(|object| self.inner.sampling.offer(key, object))
    }

    /// Stores what loads have read that began after `ticket` was taken. For each object returns when it was stored, or `None` if it was
    /// not.
    pub(crate) async fn fill_many(&self, objects: &[Arc<E>], ticket: Ticket) -> Vec<Option<Ticket>> {
        let objects: Vec<_> = objects.iter().map(|object| self.object(object.clone()).ok()).collect();
        let fit = objects.iter().flatten().cloned().collect();
        let mut filled = self.inner.connector.fill_many(fit, ticket).await.into_iter();
        let each = objects.iter().map(|object| match object {
            // The connector gives one answer for each object.
            Some(_) => filled.next().unwrap_or(Fill::undated(Stored::Unavailable)),
            None => Fill::undated(Stored::Unfit),
        });
        each.inspect(|fill| self.inner.schema.stats.fill(fill.stored).increment()).map(Fill::accepted).collect()
    }

    /// Stores several objects that the caller knows to be current, one after the other, each as [`set`](Self::set) does. If two objects
    /// claim the same key, the later one gets the key and the earlier one is gone. The outcomes have the order of the objects.
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
    /// Usually one: the node has seen a ticket, one script can store all objects, and no other node has just touched one of their keys.
    /// Objects whose keys were touched are sent once more. One script stores up to 1 MiB and 128 keys; a version, and an object over 4 KiB,
    /// count as one more key. A larger call first asks for a ticket, and then takes one round trip for each lot of up to 512 objects or
    /// 1 MiB.
    ///
    /// Each lot is one operation, with an operation time-out of its own. After a lot that timed out no other is sent, and what was not
    /// stored is invalidated through the journal. An object is invalidated instead of stored ([`Stored::Overtaken`]) if another caller
    /// touches one of its keys between the ticket and the object's turn. The other objects of the call are not affected.
    ///
    /// # Cancellation
    ///
    /// If the future is dropped at any await point, each object is stored or its keys are invalidated.
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
            // The earlier states of the unfit objects must go even so. `join!` begins both, so dropping the future loses neither.
            tokio::join!(connector.set_many(fit), connector.invalidate(unfit, None)).0
        };
        let mut outcomes = outcomes.into_iter();
        let each = stored.into_iter().map(|unfit| unfit.or_else(|| outcomes.next()).unwrap_or(Stored::Unavailable));
        each.inspect(|stored| self.inner.schema.stats.put(*stored).increment()).collect()
    }

    /// Forgets every object that one of the keys leads to, as [`invalidate`](Self::invalidate) does, through keys of several indexes in one
    /// call.
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
    /// One for up to 2,048 keys, and one more for each further 2,048. Each is an operation with a time-out of its own. All keys are guarded
    /// before the first is sent. Keys that were not delivered are in the journal, and the answer is [`Delivery::Deferred`].
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate): a key that cannot exist. The other keys are handled first.
    pub async fn invalidate_many(&self, keys: impl IntoIterator<Item = AnyKey<E>>) -> Result<Delivery, Error> {
        self.invalidate_keys(self.valid(keys), None).await
    }
}
