//! One load per key among all nodes: the lease.
//!
//! Who is granted the lease of a key loads it; the others ask again, with growing pauses, until the object is there, the lease is
//! theirs, or they have waited as long as they may. A lease proves nothing and protects nothing but the source: whether a fill is
//! accepted its ticket decides, whoever held what. So a lease that ends too early costs a second load, and no more.
//!
//! # What each side may observe
//!
//! The server answers the request for the lease first and looks afterwards, so whoever is granted it sees what the one before him
//! had stored when he gave it back. A load that fails, is refused or panics gives the lease back as well, and the next one loads.
//! A node that dies does not; its lease ends by itself.

use crate::cache::Cache;
use crate::contract::{KeyBuf, Lease, LeaseToken, Lookup, Miss, Ticket};
use crate::entry::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The pauses between two questions: they double from one to the other, less up to half of it at random.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a load may do.
pub(super) enum Turn<E: Entry> {
    /// Load, and fill with this ticket; the lease is held until it is dropped.
    Load(Option<Ticket>, Option<Held<E>>),
    /// Nothing: another node has loaded it, or is about to.
    Loaded(Option<Arc<E>>),
}

/// Waits for the lease, or for another node's load. `refresh`: there is an object, which only has to be loaded anew.
pub(super) async fn turn<E: Entry>(cache: &Cache<E>, key: &KeyBuf, ticket: Ticket, refresh: bool) -> Turn<E> {
    let until = crate::cache::load::from_now(cache.inner.schema.loading.lease);
    let mut pause = FIRST_PAUSE;
    loop {
        let (lease, lookup) = cache.lease(key).await;
        let (held, taken) = match lease {
            Lease::Granted(token) => (Some(Held { cache: cache.clone(), key: key.clone(), token }), false),
            Lease::Taken => (None, true),
            Lease::Free => (None, false),
        };
        match lookup {
            Lookup::Hit { due: true, .. } if refresh && !taken => {
                return Turn::Load(cache.inner.connector.ticket().await, held);
            }
            Lookup::Hit { value, .. } => return Turn::Loaded(Some(value)),
            Lookup::Miss { cause: Miss::KnownAbsent, .. } => return Turn::Loaded(None),
            Lookup::Miss { ticket: newer, .. } => {
                if !taken || Instant::now() >= until {
                    return Turn::Load(newer.or(Some(ticket)), held);
                }
            }
        }
        if pause == FIRST_PAUSE {
            cache.stats().lease_waits.increment();
        }
        tokio::time::sleep(
            pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(until.saturating_duration_since(Instant::now())),
        )
        .await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A lease, which is given back when it is dropped.
pub(super) struct Held<E: Entry> {
    cache: Cache<E>,
    key: KeyBuf,
    token: LeaseToken,
}

impl<E: Entry> Drop for Held<E> {
    fn drop(&mut self) {
        // Without a runtime it ends by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (cache, key, token) = (self.cache.clone(), self.key.clone(), self.token);
        runtime.spawn(async move { cache.inner.connector.release(key.as_ref(), token).await });
    }
}
