//! The places for calls under way, and the queue of those who wait for one.
//!
//! One word counts the places that are taken. Its highest bit says that somebody waits. While nobody waits, taking a place is one
//! compare-and-exchange on this word, and giving it back is one subtraction: no lock.
//!
//! # Invariants
//!
//! 1. The bit is set and cleared under the queue's lock. It is set exactly while somebody is in the queue.
//! 2. While the bit is set, only the holder of the lock takes places: with the bit, the word is above any limit, so that everybody else
//!    finds all places taken. So nobody overtakes the queue.
//! 3. Whoever gives a place back and sees the bit then locks the queue and hands free places to those who have waited longest.
//!    Whoever gives a place back and does not see the bit did so before the bit was set; whoever sets the bit then finds that place
//!    free. So no place stays free while somebody waits.
//! 4. Whoever shuts the breaker begins the new state first, and turns away the queue under its lock afterwards. Whoever joins the queue
//!    looks at the state under the lock. So nobody stays in the queue of a breaker that lets no call through.
//!
//! The first three are decided on one word, whose modifications have one order, so `Relaxed` is enough. The fourth rests on the lock.
//!
//! # Cancellation
//!
//! Who waits is a future. Dropping the future leaves the queue; a place that was handed over already goes to the next in the queue.
//! The queue has no limit of its own: it holds one number and one waker for each caller who waits.

use super::gate::Gate;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

/// Somebody waits.
const WAITING: usize = 1 << (usize::BITS - 1);

pub(super) struct Places {
    /// 0: there is no limit, and nothing is counted.
    limit: usize,
    taken: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    joined: u64,
    /// Those who wait. The lowest number has waited longest.
    waiting: BTreeMap<u64, Waker>,
    /// Those who were handed a place and have not looked since.
    served: BTreeSet<u64>,
}

/// What somebody who wants a place finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A place is theirs.
    Served,
    /// They are in the queue, under this number.
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

    /// Takes a place, if one is free and nobody waits.
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
        // From here on, whoever gives a place back comes for the lock; who gave one back before left it free.
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

    /// Looks what has become of the one who waits under this number. Who is told that a place is theirs, or that they are turned away, is
    /// in the queue no longer.
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

    /// Takes the one who waits under this number out of the queue. A place that they were handed goes to the next.
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

    /// Where the breaker lets no call through, tells so to everybody in the queue.
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

    /// Hands free places to those who have waited longest. They are to be woken once the lock is released.
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

    /// Under the lock. Takes a free place though somebody waits.
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
