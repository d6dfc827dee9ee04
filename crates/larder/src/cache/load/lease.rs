//! One load per key among all nodes: the lease.
//!
//! The node that is granted the lease of a key loads it. The others ask again, with growing pauses, until the object is there, they are
//! granted the lease, or they have waited for as long as the lease setting says. A lease only protects the source. It proves nothing: the
//! ticket alone decides whether a fill is accepted. So a lease that ends too early costs a second load, and no more.
//!
//! # What each node can observe
//!
//! The server first answers the request for the lease and then looks. So the node that is granted the lease sees what the holder before it
//! had stored when it gave the lease back. A load that fails, is refused or panics gives the lease back as well, and the next node loads. A
//! node that dies does not give its lease back; the lease ends by itself.

use crate::cache::Cache;
use crate::contract::{KeyBuf, Lease, LeaseToken, Lookup, Miss, Ticket};
use crate::entry::Entry;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The pauses between two requests. They double from the first to the longest; each is shortened by up to half at random.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a load may do next.
pub(super) enum Turn<E: Entry> {
    /// Load, and fill with this ticket. The lease is held until it is dropped.
    Load(Option<Ticket>, Option<Held<E>>),
    /// Do not load: another node has loaded the object, or is loading it anew.
    Loaded(Option<Arc<E>>),
}

/// Waits for the lease, or for another node's load. With `refresh` there is an object already, which is to be loaded anew.
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

/// A lease that is given back when this is dropped.
pub(super) struct Held<E: Entry> {
    cache: Cache<E>,
    key: KeyBuf,
    token: LeaseToken,
}

impl<E: Entry> Drop for Held<E> {
    fn drop(&mut self) {
        // Without a runtime the lease ends by itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (cache, key, token) = (self.cache.clone(), self.key.clone(), self.token);
        runtime.spawn(async move { cache.inner.connector.release(key.as_ref(), token).await });
    }
}
