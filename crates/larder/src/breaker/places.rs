//! The places for calls under way, and the queue of the callers that wait for a place.
//!
//! One word counts the places that are taken. Its highest bit says that a caller waits. While no caller waits, a caller takes a place
//! by one compare-and-exchange on this word and gives it back by one subtraction: no lock.
//!
//! # Invariants
//!
//! 1. The bit is set and cleared under the queue's lock. It is set exactly while a caller is in the queue.
//! 2. While the bit is set, only the holder of the lock takes places. With the bit the word is above any limit, so every other caller
//!    finds all places taken. So no caller overtakes the queue.
//! 3. A thread that gives a place back and sees the bit then locks the queue, and hands free places to the callers that have waited
//!    longest. A thread that gives a place back and does not see the bit did so before the bit was set; the thread that sets the bit
//!    then finds that place free. So no place stays free while a caller waits.
//! 4. A thread that opens the breaker begins the new state first, and then turns away the queue under the lock. A caller that joins the
//!    queue looks at the state under the lock. So no caller stays in the queue of a breaker that lets no call through.
//!
//! The first three are decided on one word, whose modifications have one order, so `Relaxed` is enough. The fourth rests on the lock.
//!
//! # Cancellation
//!
//! A waiting caller is a future. A future that is dropped leaves the queue; if it was handed a place already, the place goes to the
//! next caller in the queue. The queue has no limit of its own: it holds one number and one waker for each waiting caller.

use super::gate::Gate;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

/// The bit that says that a caller waits.
const WAITING: usize = 1 << (usize::BITS - 1);

pub(super) struct Places {
    /// 0: there is no limit, and places are not counted.
    limit: usize,
    taken: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    joined: u64,
    /// The callers that wait, by their number. The lowest number has waited longest.
    waiting: BTreeMap<u64, Waker>,
    /// The callers that were handed a place and do not know it yet.
    served: BTreeSet<u64>,
}

/// What a caller that wants a place finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The caller has a place.
    Served,
    /// The caller is in the queue, under this number.
    Waits(u64),
    /// The breaker lets no call through.
    TurnedAway,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.min(WAITING - 1), taken: AtomicUsize::new(0), queue: Mutex::default() }
    }

    pub(super) fn are_limited(&self) -> bool {
        self.limit > 0
    }

    /// Takes a place, if one is free and no caller waits.
    #[inline]
    pub(super) fn take(&self) -> bool {
        let one_more = |taken| (taken < self.limit).then(|| taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    #[inline]
    pub(super) fn give_back(&self) {
        if self.taken.fetch_sub(1, Ordering::Relaxed) & WAITING != 0 {
            self.hand_over();
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed) & !WAITING
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Takes a free place, or joins the queue.
    #[cold]
    pub(super) fn join(&self, gate: &Gate, waker: &Waker) -> Turn {
        let mut queue = self.queue.lock();
        if !gate.read().state().admits() {
            return Turn::TurnedAway;
        }
        // From here on, a thread that gives a place back takes the lock and serves the queue. A place that was given back before is
        // free, and is taken below.
        self.taken.fetch_or(WAITING, Ordering::Relaxed);
        let turn = if queue.waiting.is_empty() && self.take_as_first() {
            Turn::Served
        } else {
            queue.joined += 1;
            let number = queue.joined;
            queue.waiting.insert(number, waker.clone());
            Turn::Waits(number)
        };
        self.unset_if_nobody_waits(&queue);
        turn
    }

    /// What has become of the caller that waits under this number. A caller that is served or turned away is no longer in the queue.
    pub(super) fn look(&self, number: u64, waker: &Waker) -> Turn {
        let (turn, _dropped_without_the_lock) = {
            let mut queue = self.queue.lock();
            let Queue { waiting, served, .. } = &mut *queue;
            match waiting.get_mut(&number) {
                Some(known) if known.will_wake(waker) => (Turn::Waits(number), None),
                Some(known) => (Turn::Waits(number), Some(std::mem::replace(known, waker.clone()))),
                None if served.remove(&number) => (Turn::Served, None),
                None => (Turn::TurnedAway, None),
            }
        };
        turn
    }

    /// Takes the caller with this number out of the queue. If the caller was handed a place, the place goes to the next caller.
    pub(super) fn leave(&self, number: u64) {
        let (woken, _dropped_without_the_lock) = {
            let mut queue = self.queue.lock();
            let waited = queue.waiting.remove(&number);
            if queue.served.remove(&number) {
                self.taken.fetch_sub(1, Ordering::Relaxed);
            }
            (self.serve(&mut queue), waited)
        };
        woken.into_iter().for_each(Waker::wake);
    }

    /// If the breaker lets no call through, empties the queue and wakes every caller in it.
    pub(super) fn turn_away(&self, gate: &Gate) {
        let turned_away = {
            let mut queue = self.queue.lock();
            if gate.read().state().admits() {
                return;
            }
            let turned_away = std::mem::take(&mut queue.waiting);
            self.unset_if_nobody_waits(&queue);
            turned_away
        };
        turned_away.into_values().for_each(Waker::wake);
    }

    #[cold]
    fn hand_over(&self) {
        let woken = self.serve(&mut self.queue.lock());
        woken.into_iter().for_each(Waker::wake);
    }

    /// Hands free places to the callers that have waited longest. Returns their wakers, to be woken once the lock is released.
    fn serve(&self, queue: &mut Queue) -> Vec<Waker> {
        let mut woken = Vec::new();
        while !queue.waiting.is_empty() && self.take_as_first() {
            if let Some((number, waker)) = queue.waiting.pop_first() {
                queue.served.insert(number);
                woken.push(waker);
            }
        }
        self.unset_if_nobody_waits(queue);
        woken
    }

    /// Under the lock. Takes a free place, also while a caller waits.
    fn take_as_first(&self) -> bool {
        let one_more = |word: usize| (word & !WAITING < self.limit).then(|| word + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn unset_if_nobody_waits(&self, queue: &Queue) {
        if queue.waiting.is_empty() {
            self.taken.fetch_and(!WAITING, Ordering::Relaxed);
        }
    }
}
