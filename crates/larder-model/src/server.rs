//! One server: the clock of the cache, the objects, and the index key of h. Each [`Command`] is one atomic script, or one command.
//!
//! # What the server may observe
//!
//! Its own data and the command, and nothing else: not when the command was sent, nor whether anybody still waits for the answer. A store
//! names its connection. Commands come in any order.
//!
//! # What is simplified
//!
//! In place of the log of touched keys, the model keeps the newest sequence at which each key was touched, which says the same. The model
//! never overwrites it. The library's log is overwritten, and the library then refuses more.

use crate::protections::{Removable, Removed};
use crate::source::{Keys, OBJECTS, Object, Value};

/// Epoch and sequence of the clock before a load or write began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) epoch: u8,
    pub(crate) sequence: u8,
}

/// Whether everything from before the clock's epoch has been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum State {
    Settled,
    Clearing,
    /// Clearing, because there was no clock.
    Lost,
}

/// Epoch, sequence, state, history, and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Clock {
    pub(crate) epoch: u8,
    pub(crate) sequence: u8,
    pub(crate) state: State,
    /// Whether the clock belongs to the server's present history.
    pub(crate) known: bool,
    /// The sequence at which each key (P, Q, h) was last touched.
    pub(crate) touched: [u8; 3],
    /// The connection that has written last; 0 if the command does not name its connection.
    pub(crate) writer: u8,
    /// The sequence since which nobody but `writer` has written.
    pub(crate) alone_since: u8,
}

impl Clock {
    fn touch(&mut self, keys: Keys, writer: u8) {
        if !keys.is_empty() {
            if self.writer != writer {
                self.writer = writer;
                self.alone_since = if writer == 0 { 0 } else { self.sequence };
            }
            self.sequence += 1;
            keys.each().for_each(|(at, _)| self.touched[at] = self.sequence);
        }
    }
}

/// A stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    /// Whether h was deleted since.
    pub(crate) h_deleted: bool,
    /// How many truncates had begun when the object was loaded. Not part of the protocol; needed to check C5.
    pub(crate) born: u8,
    /// Whether one of its keys was touched between its load and its fill. Not part of the protocol; needed to check C8.
    pub(crate) overtaken: bool,
}

/// What kind of operation stores, and what happens if it is overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// A fill. If it is overtaken, nothing is done.
    Fill,
    /// Any other put, such as an update. If it is overtaken, its keys are invalidated.
    Put,
    /// The first attempt of a set. If it is overtaken, nothing is done.
    Set,
    /// The second attempt of a set. As [`Put`](Self::Put), but its check can be removed separately.
    SetAgain,
}

impl Mode {
    /// Whether the operation is a change, which must not be lost.
    pub(crate) fn is_put(self) -> bool {
        self != Self::Fill
    }
}

/// What a node sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Command {
    /// `store.lua`: a fill or a put.
    Store {
        /// A put fences its own keys.
        mode: Mode,
        /// What is to be stored.
        value: Value,
        /// The ticket from before the load or write.
        ticket: Ticket,
        /// As in [`Stored`].
        born: u8,
        /// As in [`Stored`].
        overtaken: bool,
        /// The connection on which the command is sent; 0 until it is sent.
        connection: u8,
    },
    /// `invalidate.lua`, perhaps with a lowest version for the primary keys.
    Invalidate {
        /// The keys to invalidate.
        keys: Keys,
        /// The lowest version that may be stored from now on.
        floor: u8,
    },
    /// `absent.lua` of h.
    FindNothing {
        /// The ticket from before the load that found nothing.
        ticket: Ticket,
        /// Whether the stored object that lists h, if any, is past its max age or due to be loaded anew.
        over: bool,
    },
    /// `delete.lua` of h.
    DeleteH,
    /// `clock.lua renew`.
    Renew {
        /// The new epoch, if one is needed.
        epoch: u8,
    },
    /// UNLINK of the keys that a SCAN has found.
    Remove {
        /// P and Q stand for the objects, h for its index key.
        keys: Keys,
        /// The epoch of the clearing.
        epoch: u8,
    },
    /// `clock.lua settle`.
    Settle {
        /// The epoch of the clearing.
        epoch: u8,
        /// Whether the history that the command names is the server's present history.
        known: bool,
    },
}

/// What the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Done,
    Overtaken,
    Outdated,
    /// There is no clock, or it does not know all releases.
    Lost,
    /// The clearing that the command belongs to is over: the clock is settled.
    Settled,
    /// The clock has another epoch, or is gone.
    Superseded,
    /// The clock's epoch after a renew.
    Epoch(u8),
}

/// The data of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Server {
    pub(crate) clock: Option<Clock>,
    pub(crate) objects: [Option<Stored>; 2],
    /// Where the index key of h leads.
    pub(crate) index: Option<Object>,
    /// The lowest version that may be stored.
    pub(crate) floors: [u8; 2],
    pub(crate) versioned: bool,
}

impl Server {
    /// A server with a settled clock and nothing stored.
    pub(crate) fn new(versioned: bool) -> Self {
        let clock = Clock {
            epoch: 1,
            sequence: 0,
            state: State::Settled,
            known: true,
            touched: [0; 3],
            writer: 0,
            alone_since: 0,
        };
        Self { clock: Some(clock), objects: [None; 2], index: None, floors: [0; 2], versioned }
    }

    pub(crate) fn empty(&mut self) {
        *self = Self { clock: None, ..Self::new(self.versioned) };
    }

    /// `GETRANGE` of the clock, as a lookup sends it.
    pub(crate) fn ticket(&self) -> Option<Ticket> {
        let clock = self.clock.filter(|clock| clock.state == State::Settled)?;
        Some(Ticket { epoch: clock.epoch, sequence: clock.sequence })
    }

    /// The ticket that a node remembers as the newest from the answers to its commands.
    pub(crate) fn seen(&self, removed: Removed) -> Option<Ticket> {
        let believed = |clock: &Clock| clock.state == State::Settled || !removed.keeps(Removable::SettledOnly);
        self.clock.filter(believed).map(|clock| Ticket { epoch: clock.epoch, sequence: clock.sequence })
    }

    /// Runs one command. Returns the answer, and the keys that the command has touched.
    pub(crate) fn execute(&mut self, command: Command, removed: Removed) -> (Reply, Keys) {
        match command {
            Command::Store { mode, value, ticket, born, overtaken, connection } => {
                let verdict = self.judge(mode, value, ticket, connection, removed);
                let leaves_nothing = match mode {
                    Mode::Fill => verdict != Reply::Done,
                    Mode::Set => verdict == Reply::Overtaken,
                    Mode::Put | Mode::SetAgain => false,
                };
                if verdict == Reply::Lost || leaves_nothing {
                    return (verdict, Keys::NONE);
                }
                let touched = self.store(mode.is_put(), Stored { value, h_deleted: false, born, overtaken }, verdict);
                self.touch(touched, connection);
                (verdict, touched)
            }
            Command::Invalidate { .. } | Command::DeleteH if self.is_lost() => (Reply::Lost, Keys::NONE),
            Command::Invalidate { keys, floor } => {
                let touched = self.invalidate(keys, floor);
                self.touch(touched, 0);
                (Reply::Done, touched)
            }
            Command::FindNothing { ticket, over } => (self.find_nothing(ticket, over, removed), Keys::NONE),
            Command::DeleteH => {
                if let Some(stored) = self.index.and_then(|leads_to| self.objects[leads_to.at()].as_mut())
                    && stored.value.lists_h
                {
                    stored.h_deleted = true;
                }
                self.touch(Keys::H, 0);
                (Reply::Done, Keys::H)
            }
            Command::Renew { epoch } => (Reply::Epoch(self.renew(epoch, removed)), Keys::NONE),
            Command::Remove { keys, epoch } => (self.remove(keys, epoch, removed), Keys::NONE),
            Command::Settle { epoch, known } => {
                if let Some(clock) = self.clock.as_mut().filter(|clock| clock.epoch == epoch) {
                    clock.state = State::Settled;
                    clock.known = known;
                }
                (Reply::Done, Keys::NONE)
            }
        }
    }

    fn is_lost(&self) -> bool {
        self.clock.is_none_or(|clock| clock.state == State::Lost)
    }

    fn touch(&mut self, keys: Keys, writer: u8) {
        if let Some(clock) = &mut self.clock {
            clock.touch(keys, writer);
        }
    }

    /// Steps 1 and 2 of `store.lua`: whether the object may be stored.
    pub(crate) fn judge(&self, mode: Mode, value: Value, ticket: Ticket, connection: u8, removed: Removed) -> Reply {
        let Some(clock) = self.clock.filter(|_| !self.is_lost()) else { return Reply::Lost };
        if clock.state != State::Settled && removed.keeps(Removable::SettledOnly) {
            return Reply::Overtaken;
        }
        let checked = match mode {
            Mode::Fill | Mode::Put => true,
            // If only the command's own connection has written since the ticket, those commands were sent before this one.
            Mode::Set => {
                let alone = connection != 0 && clock.writer == connection && clock.alone_since <= ticket.sequence;
                removed.keeps(Removable::FirstCheck) && !alone
            }
            Mode::SetAgain => removed.keeps(Removable::SecondCheck),
        };
        let touched =
            clock.sequence < ticket.sequence || value.keys().each().any(|(at, _)| clock.touched[at] > ticket.sequence);
        if clock.epoch != ticket.epoch || (touched && checked && removed.keeps(Removable::Fence)) {
            return Reply::Overtaken;
        }
        if self.versioned && removed.keeps(Removable::Version) {
            let stored = self.objects[value.object.at()].map_or(0, |stored| stored.value.version);
            if value.version < stored.max(self.floors[value.object.at()]) {
                return Reply::Outdated;
            }
        }
        Reply::Done
    }

    /// Steps 3 to 5 of `store.lua`: keeps C2, and stores. Returns the keys that it has touched.
    fn store(&mut self, put: bool, new: Stored, verdict: Reply) -> Keys {
        let value = new.value;
        let mut touched = if put { value.keys() } else { Keys::NONE };
        if value.lists_h
            && verdict != Reply::Outdated
            && let Some(other) = self.index.filter(|leads_to| *leads_to != value.object)
        {
            let holds = self.objects[other.at()].is_some_and(|stored| stored.value.lists_h);
            if holds || verdict == Reply::Overtaken {
                self.objects[other.at()] = None;
                touched = touched.and(other.key());
            }
        }
        match verdict {
            Reply::Done => {
                self.objects[value.object.at()] = Some(new);
                if value.lists_h {
                    self.index = Some(value.object);
                }
            }
            Reply::Overtaken => self.objects[value.object.at()] = None,
            _ => {}
        }
        touched
    }

    /// The note itself is not modelled. What matters is that it replaces the index key.
    fn find_nothing(&mut self, ticket: Ticket, over: bool, removed: Removed) -> Reply {
        let Some(clock) = self.clock.filter(|_| !self.is_lost()) else { return Reply::Lost };
        let touched = clock.sequence < ticket.sequence || clock.touched[2] > ticket.sequence;
        if clock.epoch != ticket.epoch || touched {
            return Reply::Overtaken;
        }
        let leads_to = self.index.filter(|_| removed.keeps(Removable::NoteAfterObject));
        if let Some(held) = leads_to.map(|object| &mut self.objects[object.at()])
            && let Some(stored) = held.filter(|stored| stored.value.lists_h)
        {
            if !over && !stored.h_deleted {
                return Reply::Overtaken;
            }
            *held = None;
        }
        self.index = None;
        Reply::Done
    }

    fn invalidate(&mut self, keys: Keys, floor: u8) -> Keys {
        let mut touched = keys;
        for object in OBJECTS {
            let led_to = keys.meets(Keys::H) && self.index == Some(object);
            if led_to || keys.meets(object.key()) {
                self.objects[object.at()] = None;
                touched = touched.and(object.key());
                let lowest = &mut self.floors[object.at()];
                *lowest = floor.max(*lowest);
            }
        }
        touched
    }

    fn renew(&mut self, epoch: u8, removed: Removed) -> u8 {
        let fresh =
            Clock { epoch, sequence: 0, state: State::Lost, known: false, touched: [0; 3], writer: 0, alone_since: 0 };
        let clock = self.clock.get_or_insert(fresh);
        if clock.state == State::Settled || (!clock.known && removed.keeps(Removable::ClearingOfHistory)) {
            clock.epoch = epoch;
            if clock.state == State::Settled {
                clock.state = State::Clearing;
            }
        }
        clock.known = true;
        clock.epoch
    }

    fn remove(&mut self, keys: Keys, epoch: u8, removed: Removed) -> Reply {
        if removed.keeps(Removable::GuardedRemoval) {
            match self.clock {
                Some(clock) if clock.epoch == epoch && clock.state == State::Settled => return Reply::Settled,
                Some(clock) if clock.epoch == epoch => {}
                _ => return Reply::Superseded,
            }
        }
        for object in OBJECTS.into_iter().filter(|object| keys.meets(object.key())) {
            self.objects[object.at()] = None;
            if !removed.keeps(Removable::FloorsStay) {
                self.floors[object.at()] = 0;
            }
        }
        if keys.meets(Keys::H) {
            self.index = None;
        }
        Reply::Done
    }
}
