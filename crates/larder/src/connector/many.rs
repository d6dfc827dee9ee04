//! Several objects in one call, for connectors that have no better way than one after the other.

use super::{Answer, Connector, Fill, KeyBuf, KeyRef, Look, Miss, Object, Stored, Ticket, Value};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Waker};

/// What a lookup of several keys has found.
#[derive(Debug, Default)]
pub struct Looks {
    /// For each key its object, or why there is none.
    pub found: Vec<Result<Value, Miss>>,
    /// For all loads that follow. `None`: nothing can be filled now, or nothing needs to be loaded.
    pub ticket: Option<Ticket>,
}

/// The first ticket is that of all: a load that begins after all of them begins after it.
impl FromIterator<Look> for Looks {
    fn from_iter<I: IntoIterator<Item = Look>>(looks: I) -> Self {
        let mut all = Self::default();
        for look in looks {
            all.found.push(match look {
                Look::Hit { value, .. } => Ok(value),
                Look::Miss { cause, ticket, .. } => {
                    all.ticket = all.ticket.or(ticket);
                    Err(cause)
                }
            });
        }
        all
    }
}

impl Miss {
    /// Whether what was missed is worth a ticket: it was looked for, and is not there.
    #[cfg(feature = "redis")]
    pub(crate) fn is_loadable(self) -> bool {
        matches!(self, Self::Absent | Self::Expired | Self::Undecodable)
    }
}

pub(super) async fn get_each<C: Connector + ?Sized>(connector: &C, keys: &[KeyRef<'_>]) -> Vec<Result<Value, Miss>> {
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        found.push(connector.get(*key).await);
    }
    found
}

pub(super) async fn lookup_each<C: Connector + ?Sized>(connector: &C, keys: &[KeyRef<'_>]) -> Looks {
    let mut looks = Vec::with_capacity(keys.len());
    for key in keys {
        looks.push(connector.lookup(*key).await);
    }
    looks.into_iter().collect()
}

pub(super) async fn fill_each<C: Connector + ?Sized>(connector: &C, objects: Vec<Object>, ticket: Ticket) -> Vec<Fill> {
    let mut filled = Vec::with_capacity(objects.len());
    for object in objects {
        filled.push(connector.fill(object, ticket).await);
    }
    filled
}

pub(super) async fn set_each<C: Connector + ?Sized>(connector: &C, objects: Vec<Object>) -> Vec<Stored> {
    let mut stored = Vec::with_capacity(objects.len());
    let mut unset = Unset { connector, objects: objects.into() };
    // The one on its way is guarded by its own set.
    while let Some(object) = unset.objects.pop_front() {
        stored.push(connector.set(object).await);
    }
    stored
}

/// Objects whose turn has not come. If it never comes, since the caller has gone away, their keys are invalidated: the source has
/// the new state already.
struct Unset<'a, C: Connector + ?Sized> {
    connector: &'a C,
    objects: VecDeque<Object>,
}

impl<C: Connector + ?Sized> Drop for Unset<'_, C> {
    fn drop(&mut self) {
        let keys: Vec<KeyBuf> = self.objects.iter().flat_map(|object| object.keys().map(KeyRef::to_buf)).collect();
        if !keys.is_empty() {
            let mut invalidation = self.connector.invalidate(keys, None);
            // An invalidation that has begun is not lost when it is dropped; polling it once begins it.
            let _ = Pin::new(&mut invalidation).poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

/// An answer that is there at once where there is nothing to do.
pub(super) fn unless_empty<'a, T, R: Default>(
    asked: &[T],
    answer: impl Future<Output = R> + Send + 'a,
) -> Answer<'a, R> {
    if asked.is_empty() { Answer::now(R::default()) } else { Answer::later(answer) }
}
