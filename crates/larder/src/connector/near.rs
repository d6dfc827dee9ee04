//! [`Near`]: objects of a server in the memory of this node, and until when they may be read.
//!
//! # What a reader may observe
//!
//! A hit looks at the time first, and then for the object. One task moves the time on (`tiered/following.rs`), after it has forgotten everything that was
//! touched. So a hit that finds the memory valid finds no object that was touched before the last answer to that task was made.
//!
//! What is on its way into the memory has [noted](Near::note) a ticket before the server was asked. If one of the object's keys was touched since, or
//! everything was forgotten, it is not taken in. It makes no difference in which order the answer and the news of the touch arrive.

use crate::clock::Clock;
use crate::connector::memory::{MarksOf, Memory, MemoryOptions};
use crate::contract::{KeyRef, Object, OptionError, Schema, Status, Ticket, Value};
use crate::protection::{Protection, holds};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) mod rounds;

pub(crate) use rounds::Rounds;

/// Objects of a server in the memory of this node.
#[derive(Debug)]
pub(crate) struct Near {
    memory: Memory,
    clock: Clock,
    /// Until when they may be read, in ms of the clock.
    until: AtomicU64,
}

/// When the server was asked for an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    ticket: Ticket,
    /// In ms of the clock.
    pub(crate) at: u64,
}

impl Near {
    /// Nothing is read before [`extend`](Self::extend). `marks`: as the server makes them.
    pub(crate) fn open(
        schema: &Schema,
        options: MemoryOptions,
        clock: Clock,
        marks: MarksOf,
    ) -> Result<Self, OptionError> {
        let memory = Memory::of_copies(schema.clone(), options, clock.clone(), marks)?;
        Ok(Self { memory, clock, until: AtomicU64::new(0) })
    }

    /// The object of this key, if it is here and may be read now.
    #[inline]
    pub(crate) fn get(&self, key: KeyRef<'_>) -> Option<Value> {
        let now = self.clock.now();
        if self.is_valid_at(now) { self.memory.find_at(key, now).ok() } else { None }
    }

    /// Whether anything may be read now.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        self.is_valid_at(self.clock.now())
    }

    /// By the precise clock: nobody knows how far the coarse one lags.
    #[inline]
    fn is_valid_at(&self, now: u64) -> bool {
        let until = self.until.load(Ordering::Acquire);
        now < until || (!holds(Protection::Validity) && until > 0)
    }

    /// Lets it be read until then. Call this only after everything was forgotten that was touched.
    pub(crate) fn extend(&self, until: u64) {
        self.until.store(until, Ordering::Release);
    }

    /// For how long it may still be read, in ms.
    pub(crate) fn valid_for(&self) -> u64 {
        self.until.load(Ordering::Acquire).saturating_sub(self.clock.now())
    }

    /// Call this before the server is asked for what will be [taken in](Self::take), and before it is checked that nothing is deferred.
    pub(crate) fn note(&self) -> Noted {
        Noted { ticket: self.memory.take_ticket(), at: self.clock.now() }
    }

    /// Takes in an object that the server has answered, or stored, unless one of its keys was touched since `noted`. `ends`: when its max age is over, in ms of
    /// the clock; `None`: never.
    pub(crate) fn take(&self, object: Object, noted: Noted, ends: Option<u64>) {
        let ticket = if holds(Protection::Ring) { noted.ticket } else { self.memory.take_ticket() };
        let _ = self.memory.store_copy(object, ticket, ends);
    }

    /// Forgets every object that has a key with one of these marks.
    pub(crate) fn forget(&self, marks: &[u64]) {
        self.memory.forget_marks(marks);
    }

    /// Forgets everything, also what is on its way.
    pub(crate) fn clear(&self) {
        self.memory.clear();
    }

    /// How much there is.
    pub(crate) fn status(&self) -> Status {
        use crate::contract::Connector;
        self.memory.status()
    }

    /// Removes what has expired.
    pub(crate) async fn prune(&self) {
        use crate::contract::Connector;
        let _ = self.memory.prune().await;
    }
}
