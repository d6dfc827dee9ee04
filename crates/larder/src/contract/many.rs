//! Several objects in one call, for connectors that can only handle one after the other.

use crate::contract::{Answer, Connector, Fill, KeyBuf, KeyRef, Lookups, Miss, Object, Stored, Ticket, Value};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Waker};

pub(super) async fn get_each<C: Connector + ?Sized>(connector: &C, keys: &[KeyRef<'_>]) -> Vec<Result<Value, Miss>> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.push(connector.get(*key).await);
    }
    found
}

pub(super) async fn lookup_each<C: Connector + ?Sized>(connector: &C, keys: &[KeyRef<'_>]) -> Lookups {
    let mut lookups = Vec::with_capacity(keys.len());
    for key in keys {
        lookups.push(connector.lookup(*key).await);
    }
    lookups.into_iter().collect()
}

pub(super) async fn fill_each<C: Connector + ?Sized>(connector: &C, objects: Vec<Object>, ticket: Ticket) -> Vec<Fill> {
    let mut filled = Vec::with_capacity(objects.len());
    for object in objects {
        filled.push(connector.fill(object, ticket).await);
    }
    filled
}

pub(crate) async fn set_each<C: Connector + ?Sized>(connector: &C, objects: Vec<Object>) -> Vec<Stored> {
    let mut stored = Vec::with_capacity(objects.len());
    let mut unset = Unset { connector, objects: objects.into() };
    // The object that is being set is guarded by its own set.
    while let Some(object) = unset.objects.pop_front() {
        stored.push(connector.set(object).await);
    }
    stored
}

/// Objects whose turn has not come. If the caller goes away before, their keys are invalidated, because the source has the new state
/// already.
struct Unset<'a, C: Connector + ?Sized> {
    connector: &'a C,
    objects: VecDeque<Object>,
}

impl<C: Connector + ?Sized> Drop for Unset<'_, C> {
    fn drop(&mut self) {
        let keys: Vec<KeyBuf> = self.objects.iter().flat_map(|object| object.keys().map(KeyRef::to_buf)).collect();
        if !keys.is_empty() {
            let mut invalidation = self.connector.invalidate(keys, None);
            // Polling an invalidation once begins it, and one that has begun is not lost when it is dropped.
            let _ = Pin::new(&mut invalidation).poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// An answer that is known at once if there is nothing to do.
pub(super) fn unless_empty<'a, T, R: Default>(
    asked: &[T],
    answer: impl Future<Output = R> + Send + 'a,
) -> Answer<'a, R> {
    if asked.is_empty() { Answer::now(R::default()) } else { Answer::later(answer) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Schema;
    use crate::connector::memory::{Memory, MemoryOptions};
    use crate::contract::{Delivery, Error, Lookup, Pruned, Status};
    use crate::entry::color::Color;
    use std::sync::Arc;
    use tokio::task::yield_now;

    /// A connector that makes callers of `set` and `get` wait, and uses the default implementations for several objects.
    struct Slow(Memory);

    impl Connector for Slow {
        fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
            Answer::later(async move {
                yield_now().await;
                self.0.get(key).await
            })
        }

        fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
            self.0.lookup(key)
        }

        fn ticket(&self) -> Answer<'_, Option<Ticket>> {
            self.0.ticket()
        }

        fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
            self.0.fill(object, ticket)
        }

        fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
            let put = self.0.put(object, ticket);
            Answer::later(async move {
                yield_now().await;
                put.await
            })
        }

        fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
            self.0.invalidate(keys, floor)
        }

        fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
            self.0.delete(keys)
        }

        fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
            self.0.truncate()
        }

        fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
            self.0.prune()
        }

        fn status(&self) -> Status {
            self.0.status()
        }
    }

    fn object(name: u8) -> Object {
        Object { primary: [name].into(), secondary: Vec::new(), version: None, value: Arc::new(Color) }
    }

    async fn there(connector: &Slow, names: &[u8]) -> Vec<bool> {
        let keys: Vec<_> = names.iter().map(|name| KeyRef { index: 0, bytes: std::slice::from_ref(name) }).collect();
        connector.get_many(&keys).await.iter().map(Result::is_ok).collect()
    }

    #[tokio::test]
    async fn one_after_the_other_is_right_for_any_connector() {
        let slow = Slow(Memory::open(Schema::of::<Color>(), MemoryOptions::default()).unwrap());
        assert_eq!(slow.set_many(vec![object(b'1'), object(b'2')]).await, [Stored::Accepted; 2]);
        assert_eq!(there(&slow, b"231").await, [true, false, true]);
    }

    #[tokio::test]
    async fn a_set_of_many_that_is_dropped_invalidates_those_whose_turn_has_not_come() {
        let slow = Slow(Memory::open(Schema::of::<Color>(), MemoryOptions::default()).unwrap());
        slow.set_many(b"123".map(object).to_vec()).await;
        assert_eq!(there(&slow, b"123").await, [true; 3]);
        let mut set = slow.set_many(b"123".map(object).to_vec());
        assert!(Pin::new(&mut set).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(set);
        assert_eq!(there(&slow, b"123").await, [true, false, false], "the first was on its way");
    }

    #[tokio::test]
    async fn loads_of_several_keys_have_the_ticket_of_the_first_lookup() {
        let slow = Slow(Memory::open(Schema::of::<Color>(), MemoryOptions::default()).unwrap());
        slow.set_many(vec![object(b'1')]).await;
        let before = slow.ticket().await;
        let keys = [KeyRef { index: 0, bytes: b"1" }, KeyRef { index: 0, bytes: b"2" }];
        let Lookups { found, ticket } = slow.lookup_many(&keys).await;
        assert!(found[0].is_ok() && found[1].is_err());
        assert_eq!(ticket, before);
        let filled =
            slow.fill_many(vec![object(b'2'), object(b'3')], ticket.unwrap_or(Ticket { epoch: 0, sequence: 0 }));
        assert!(filled.await.iter().all(|fill| fill.stored == Stored::Accepted));
        assert_eq!(slow.lookup_many(&keys).await.ticket, None, "nothing is to be loaded");
    }
}
