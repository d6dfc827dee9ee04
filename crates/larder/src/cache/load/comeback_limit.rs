//! The comeback limit: after a cache was emptied, loads are limited for a while, so that they do not overload the database.
//!
//! # When
//!
//! A cache that was emptied has a new epoch, whatever emptied it: a truncate on any node, a server that came back with another history, a
//! lost clock. Every ticket carries the epoch, so a load that is about to begin sees the change. The first epoch that a node sees says
//! nothing: a process that starts may find a warm cache.
//!
//! A load without a ticket, as during an outage, is not limited: there is no cache then that could be refilled gently. If the epoch is the
//! same after an outage, nothing was lost, and the database has carried the whole load already.
//!
//! # How much
//!
//! The setting says how many loads may run at once. The limit doubles after each second, and ends after [`RAMP`] doublings. A load that has
//! waited for [`PATIENCE`] goes anyway: a late object is better than none, and a loader that calls `get_or_load` while it holds a place
//! cannot block itself for good.
//!
//! # Cancellation
//!
//! Dropping the future of [`admit`](ComebackLimit::admit), or the [`Admission`], gives the place back.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The default limit: how many loads may run at once after a cache was emptied.
pub(crate) const COMEBACK_LOADS: usize = 32;

/// How many times the limit doubles before it ends.
const RAMP: u32 = 10;

/// How long the limit stays the same.
const STEP: Duration = Duration::from_secs(1);

/// How long a load is held back at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Limits the loads of one cache on this node.
#[derive(Debug)]
pub(crate) struct ComebackLimit {
    /// How many loads may run at once at the beginning. 0: there is never a limit.
    loads: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<u64>,
    /// The comeback that is going on, if any.
    comeback: Option<Arc<Comeback>>,
}

#[derive(Debug)]
struct Comeback {
    begun: Instant,
    loads: usize,
    places: Arc<Semaphore>,
    /// How many times the places were doubled.
    doubled: Mutex<u32>,
}

/// A load's place. Dropping it gives the place back.
#[derive(Debug)]
#[must_use = "the place is given back when it is dropped"]
pub(crate) struct Admission {
    _place: Option<OwnedSemaphorePermit>,
    /// Whether the load had to wait.
    pub(crate) held_back: bool,
}

impl ComebackLimit {
    pub(crate) fn new(loads: usize) -> Self {
        Self { loads, state: Mutex::default() }
    }

    /// Gets a place for a load. `epoch` is that of the ticket of the load's miss, `None` if it had no ticket. If the cache was emptied
    /// lately and too many other loads run, waits for [`PATIENCE`] at most.
    pub(crate) async fn admit(&self, epoch: Option<u64>) -> Admission {
        let at_once = Admission { _place: None, held_back: false };
        let Some(comeback) = self.comeback(epoch) else { return at_once };
        if let Ok(place) = comeback.places.clone().try_acquire_owned() {
            return Admission { _place: Some(place), held_back: false };
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Wake up at the next step: perhaps no other load comes that would add the new places.
            let wake = comeback.next_step().min(deadline);
            match timeout_at(wake, comeback.places.clone().acquire_owned()).await {
                Ok(place) => return Admission { _place: place.ok(), held_back: true },
                Err(_) if wake == deadline || comeback.over() => return Admission { _place: None, held_back: true },
                Err(_) => comeback.widen(),
            }
        }
    }

    /// The comeback that a load with this epoch belongs to.
    fn comeback(&self, epoch: Option<u64>) -> Option<Arc<Comeback>> {
        let epoch = epoch.filter(|_| self.loads > 0)?;
        let mut state = self.state.lock();
        match state.epoch.replace(epoch) {
            Some(known) if known != epoch => state.comeback = Some(Arc::new(Comeback::begin(self.loads))),
            _ if state.comeback.as_ref().is_some_and(|comeback| comeback.over()) => state.comeback = None,
            _ => {}
        }
        let comeback = state.comeback.clone()?;
        drop(state);
        comeback.widen();
        Some(comeback)
    }
}

impl Comeback {
    fn begin(loads: usize) -> Self {
        let loads = loads.min(Semaphore::MAX_PERMITS >> (RAMP + 1));
        Self { begun: Instant::now(), loads, places: Arc::new(Semaphore::new(loads)), doubled: Mutex::new(0) }
    }

    fn steps(&self) -> u32 {
        u32::try_from(self.begun.elapsed().as_millis() / STEP.as_millis()).unwrap_or(u32::MAX)
    }

    fn over(&self) -> bool {
        self.steps() >= RAMP
    }

    fn next_step(&self) -> Instant {
        self.begun + STEP * (self.steps().min(RAMP) + 1)
    }

    /// Adds places until there are as many as there should be now.
    fn widen(&self) {
        let mut doubled = self.doubled.lock();
        while *doubled < self.steps().min(RAMP) {
            self.places.add_permits(self.loads << *doubled);
            *doubled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use tokio::time::advance;

    fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// How many loads begin without waiting.
    fn room(limit: &ComebackLimit, epoch: u64) -> usize {
        std::iter::from_fn(|| at_once(limit.admit(Some(epoch)))).take(1000).collect::<Vec<_>>().len()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_limited_until_the_cache_was_emptied() {
        let limit = ComebackLimit::new(2);
        assert_eq!(room(&limit, 1), 1000, "the first epoch says nothing");
        assert_eq!(room(&limit, 1), 1000);
        assert_eq!(room(&limit, 2), 2);
        assert!(at_once(limit.admit(None)).is_some(), "there is no cache to be refilled");
        assert_eq!(room(&limit, 2), 2, "an outage does not end it");
        assert_eq!(room(&ComebackLimit::new(0), 1), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_doubles_every_second_and_goes() {
        let limit = ComebackLimit::new(2);
        room(&limit, 1);
        for second in 0..8 {
            assert_eq!(room(&limit, 2), (2 << second).min(1000), "after {second} s");
            advance(STEP).await;
        }
        advance(STEP * 2).await;
        assert_eq!(room(&limit, 2), 1000);
        assert!(limit.state.lock().comeback.is_none());
        assert_eq!(room(&limit, 3), 2, "and begins anew with the next emptying");
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_waits_for_a_place_and_no_longer_than_a_second() {
        let limit = Arc::new(ComebackLimit::new(1));
        room(&limit, 1);
        let first = limit.admit(Some(2)).await;
        assert!(!first.held_back);
        let begun = Instant::now();
        let waiting = tokio::spawn({
            let limit = limit.clone();
            async move { limit.admit(Some(2)).await }
        });
        advance(STEP / 2).await;
        drop(first);
        let second = waiting.await.unwrap();
        assert!(second.held_back);
        assert_eq!(begun.elapsed(), STEP / 2);
        // No load ends. Places are added after a second, and loads that find none then go without.
        let all: Vec<_> = (0..5)
            .map(|_| {
                let limit = limit.clone();
                tokio::spawn(async move { (limit.admit(Some(2)).await, Instant::now()) })
            })
            .collect();
        for one in all {
            let (admission, when) = one.await.unwrap();
            assert!(admission.held_back);
            assert!(when - begun <= STEP / 2 + PATIENCE, "{:?}", when - begun);
        }
    }

    /// C13: neither a load that waits nor one that runs keeps its place when it is dropped.
    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_gives_its_place_back() {
        let limit = ComebackLimit::new(1);
        room(&limit, 1);
        let place = limit.admit(Some(2)).await;
        for _ in 0..10 {
            assert!(at_once(limit.admit(Some(2))).is_none());
        }
        drop(place);
        for _ in 0..10 {
            assert!(at_once(limit.admit(Some(2))).is_some());
        }
    }

    /// Two loads of a node may come in this order: one that missed after the truncate, then one that missed before it.
    #[tokio::test(start_paused = true)]
    async fn an_older_epoch_begins_another_comeback_and_locks_nobody_out() {
        let limit = ComebackLimit::new(1);
        room(&limit, 1);
        assert_eq!((room(&limit, 2), room(&limit, 1), room(&limit, 2)), (1, 1, 1));
        advance(STEP * (RAMP + 1)).await;
        assert_eq!(room(&limit, 2), 1000);
    }
}
