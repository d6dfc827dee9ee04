//! Fills and sets of several objects.

use super::LOT;
use crate::connector::redis::scripts;
use crate::connector::redis::single::storing::{Mode, Sent, as_of, header, later, name_keys, stage, when_crowded};
use crate::connector::redis::single::{SingleServer, Store, milliseconds, outcome_in};
use crate::connector::redis::wire::parcel::Parcel;
use crate::connector::remote::envelope::MAX_KEYS;
use crate::connector::remote::{BATCH, Trouble, Undelivered, WhenCrowded};
use crate::contract::{Delivery, Fill, Object, Stored, Ticket};
use redis::Value as Reply;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// How many bytes the objects of one round trip have at most, unless a single object has more.
const LOT_SIZE: usize = 1024 * 1024;

/// How many bytes a script replies for each object.
const OUTCOME: usize = 17;

/// The payload of an object that is not stored. Its keys are invalidated instead.
const FORGET: &[u8] = b"-";

/// An object on its way.
#[derive(Clone, Copy)]
struct Parting<'a> {
    place: usize,
    object: &'a Object,
    /// `None`: the object is unfit, and its keys are invalidated instead.
    bytes: Option<&'a [u8]>,
    /// The name under which it is staged, if it is large.
    staged: Option<&'a str>,
}

impl Parting<'_> {
    fn keys(&self) -> usize {
        let more = usize::from(self.object.version.is_some()) + usize::from(self.staged.is_some());
        1 + self.object.secondary.len() + more
    }

    fn size(&self) -> usize {
        self.bytes.map_or(0, <[u8]>::len) + self.object.keys().map(|key| key.bytes.len()).sum::<usize>()
    }
}

/// What became of the objects of a call: the server's answer for each, if there is one.
struct Departed {
    sent: Vec<Result<Sent, Stored>>,
    timed_out: Option<Trouble>,
}

/// Of two states of the clock the later one. Where the epochs differ, nobody knows which one that is: the second.
fn later_of(first: Option<Ticket>, second: Option<Ticket>) -> Option<Ticket> {
    match (first, second) {
        (Some(first), Some(second)) if first.epoch == second.epoch && first.sequence > second.sequence => Some(first),
        (first, second) => second.or(first),
    }
}

/// How many of these objects, from the first on, go in one round trip; at least one.
fn lot(objects: &[Parting<'_>]) -> usize {
    let mut size = 0;
    let fits = objects.iter().take(LOT).take_while(|parting| {
        let first = size == 0;
        size += parting.size();
        first || size <= LOT_SIZE
    });
    fits.count().clamp(1, objects.len().max(1))
}

/// How many of these objects, from the first on, one script stores; at least one.
fn batch(objects: &[Parting<'_>]) -> usize {
    let mut keys = 0;
    let fits = objects.iter().take_while(|parting| {
        let first = keys == 0;
        keys += parting.keys();
        first || keys <= BATCH
    });
    fits.count().clamp(1, objects.len().max(1))
}

/// Whether one script stores all of these objects.
fn alone(objects: &[Parting<'_>]) -> bool {
    lot(objects) == objects.len() && batch(objects) == objects.len()
}

/// The objects of a call, each with its bytes and the name under which it is staged.
fn partings<'a>(
    objects: &'a [Object],
    encoded: &'a [Option<Vec<u8>>],
    staged: &'a [Option<String>],
) -> impl Iterator<Item = Parting<'a>> {
    objects.iter().zip(encoded).zip(staged).enumerate().map(|(place, ((object, bytes), staged))| Parting {
        place,
        object,
        bytes: bytes.as_deref(),
        staged: staged.as_deref(),
    })
}

/// The objects of a call that are sent a second time: those that were overtaken, and later objects that share a key with an object that is
/// sent again. Of the objects of a call that claim a key, the last one must have it.
fn again<'a>(objects: &[Parting<'a>], sent: &[Result<Sent, Stored>]) -> Vec<Parting<'a>> {
    let mut keys = HashSet::new();
    let mut again = Vec::new();
    for parting in objects {
        let overtaken = matches!(sent.get(parting.place), Some(Ok(sent)) if sent.fill.stored == Stored::Overtaken);
        if (overtaken && parting.bytes.is_some()) || parting.object.keys().any(|key| keys.contains(&key)) {
            keys.extend(parting.object.keys());
            again.push(*parting);
        }
    }
    again
}

/// The scripts of one call. Each must know which part of the call it is: see store_many.lua.
struct Course {
    mode: Mode,
    /// Of the whole call.
    ticket: Ticket,
    /// The key in which each script leaves for the next what others have touched. `None`: the call has one script.
    record: Option<String>,
    begun: bool,
}

impl Course {
    /// Which script of the call the next one is.
    fn next(&mut self, last: bool) -> u8 {
        let begun = std::mem::replace(&mut self.begun, true);
        match (&self.record, begun, last) {
            (None, ..) => 0,
            (Some(_), false, _) => 1,
            (Some(_), true, false) => 2,
            (Some(_), true, true) => 3,
        }
    }
}

impl Store {
    /// For each object the name under which it is staged, if it is large.
    fn places_for(&self, encoded: &[Option<Vec<u8>>]) -> Vec<Option<String>> {
        encoded.iter().map(|bytes| self.place_for(bytes.as_deref()?)).collect()
    }

    pub(crate) async fn fill_objects(&self, objects: Vec<Object>, ticket: Ticket) -> Vec<Fill> {
        let encoded: Vec<_> = objects.iter().map(|object| self.encoded(object)).collect();
        if self.is_full() {
            let stored = encoded.iter().map(|bytes| if bytes.is_some() { Stored::Full } else { Stored::Unfit });
            return stored.map(Fill::undated).collect();
        }
        let staged = self.places_for(&encoded);
        let fit = partings(&objects, &encoded, &staged).filter(|parting| parting.bytes.is_some());
        let departed = self.send_objects(Mode::Fill, objects.len(), fit.collect(), ticket).await;
        let replaced = departed.sent.iter().filter_map(|sent| sent.as_ref().ok().filter(|sent| sent.replaced)?.fill.at);
        if let Some(at) = replaced.fold(None, |first, second| later_of(first, Some(second))) {
            self.wait_for_followers(at).await;
        }
        let filled = departed.sent.into_iter().zip(&encoded).map(|(sent, bytes)| match sent {
            Ok(sent) => sent.fill,
            Err(_) if bytes.is_none() => Fill::undated(Stored::Unfit),
            Err(stored) => Fill::undated(stored),
        });
        filled.collect()
    }

    /// All keys are guarded before anything is sent, and all objects have one ticket. If one script can store all objects, they are sent as
    /// [`set_object`](Store::set_object) describes. A call of several scripts asks for its ticket first: all scripts need one from before
    /// the first of them, and the call takes several round trips, or much of the server's time, anyway.
    pub(crate) async fn set_objects(&self, objects: Vec<Object>) -> Vec<Stored> {
        let undelivered: Vec<Vec<Undelivered<'_, SingleServer>>> =
            objects.iter().map(|object| self.guards(object)).collect();
        self.local.sets.store(true, Ordering::Relaxed);
        let encoded: Vec<_> = objects.iter().map(|object| self.encoded(object)).collect();
        let connection = self.link.generation();
        let staged = self.places_for(&encoded);
        // An object with too many keys is not sent: a script handles all keys of an object at once.
        let all = partings(&objects, &encoded, &staged).filter(|parting| parting.object.secondary.len() < MAX_KEYS);
        let mut all: Vec<_> = all.collect();
        let mut departed =
            Departed { sent: objects.iter().map(|_| Err(Stored::Unavailable)).collect(), timed_out: None };
        let (mut ticket, mut mode) = (self.seen_ticket().filter(|_| alone(&all)), Mode::Put);
        if let Some(seen) = ticket {
            mode = Mode::SetAgain;
            departed = self.send_objects(Mode::Set, objects.len(), all.clone(), seen).await;
            all = again(&all, &departed.sent);
            // The new ticket is from the end of the script, so what this call has touched does not overtake the objects that are sent again.
            let ends = departed.sent.iter().filter_map(|sent| sent.as_ref().ok()?.fill.at);
            ticket = later(seen, ends.max_by_key(|at| at.sequence));
        }
        let mut asked = true;
        if !all.is_empty() && departed.timed_out.is_none() {
            if ticket.is_none() {
                ticket = match self.ask_for_ticket(WhenCrowded::Wait).await {
                    Ok(ticket) => ticket,
                    // A caller waits for one time-out only: the keys are deferred without being sent.
                    Err(trouble @ Trouble::TimedOut(_)) => {
                        undelivered.into_iter().flatten().for_each(|guard| guard.deferred(&trouble));
                        return vec![Stored::Unavailable; objects.len()];
                    }
                    Err(_) => None,
                };
            }
            asked = ticket.is_some();
            for parting in &all {
                if let Some(place) = departed.sent.get_mut(parting.place) {
                    *place = Err(Stored::Unavailable);
                }
            }
            if let Some(ticket) = ticket {
                let places: Vec<_> = all.iter().map(|parting| parting.place).collect();
                let Departed { mut sent, timed_out } = self.send_objects(mode, objects.len(), all, ticket).await;
                for place in places {
                    if let (Some(place), Some(sent)) = (departed.sent.get_mut(place), sent.get_mut(place)) {
                        *place = *sent;
                    }
                }
                departed.timed_out = timed_out;
            }
        }
        let (mut stored, mut left, mut not_stored) = (Vec::with_capacity(objects.len()), Vec::new(), Vec::new());
        let (mut sent_guards, mut done) = (Vec::new(), Vec::new());
        let mut changed = None;
        for ((sent, guards), bytes) in departed.sent.into_iter().zip(undelivered).zip(&encoded) {
            let unfit = bytes.is_none().then_some(Stored::Unfit);
            match sent {
                Ok(sent) if sent.done => {
                    changed = later_of(changed, sent.fill.at);
                    sent_guards.extend(guards);
                    done.push(stored.len());
                    stored.push(unfit.unwrap_or(sent.fill.stored));
                }
                sent => {
                    not_stored.push(stored.len());
                    stored.push(unfit.unwrap_or_else(|| sent.map_or_else(|stored| stored, |sent| sent.fill.stored)));
                    left.extend(guards);
                }
            }
        }
        if !self.delivered(connection, sent_guards, changed).await {
            for place in done {
                if let Some(stored) = stored.get_mut(place) {
                    *stored = Stored::Unavailable;
                }
            }
        }
        if left.is_empty() {
            return stored;
        }
        // These objects were not stored, but their earlier states must go. After a time-out the keys are deferred without being sent.
        let delivery = match departed.timed_out {
            Some(trouble) => {
                left.into_iter().for_each(|guard| guard.deferred(&trouble));
                Delivery::Deferred
            }
            None => self.send_all(left).await,
        };
        for place in not_stored {
            if let Some(stored) = stored.get_mut(place) {
                *stored = match delivery {
                    Delivery::Applied if !asked => Stored::Overtaken,
                    Delivery::Applied => *stored,
                    Delivery::Deferred => Stored::Unavailable,
                };
            }
        }
        stored
    }

    /// Sends objects in lots, each of which is an operation of its own. After a lot that fails, no other is sent.
    async fn send_objects(&self, mode: Mode, count: usize, mut objects: Vec<Parting<'_>>, ticket: Ticket) -> Departed {
        let mut departed = Departed { sent: (0..count).map(|_| Err(Stored::Unavailable)).collect(), timed_out: None };
        let record = (!alone(&objects)).then(|| self.local.layout.staged());
        let mut course = Course { mode, ticket, record, begun: false };
        while !objects.is_empty() {
            let rest = objects.split_off(lot(&objects));
            let mut answers = Vec::with_capacity(objects.len());
            let sent = self.send_lot(&mut course, &objects, rest.is_empty(), &mut answers).await;
            let failed = sent.as_ref().err().map(|trouble| self.not_stored(trouble));
            let full = answers.contains(&Err(Stored::Full)).then_some(Stored::Full);
            let mut answers = answers.into_iter();
            for parting in &objects {
                if let Some(place) = departed.sent.get_mut(parting.place) {
                    *place = answers.next().unwrap_or(Err(failed.unwrap_or(Stored::Unavailable)));
                }
            }
            if let Some(stored) = failed.or(full) {
                departed.timed_out = sent.err().filter(|trouble| matches!(trouble, Trouble::TimedOut(_)));
                for parting in &rest {
                    if let Some(place) = departed.sent.get_mut(parting.place) {
                        *place = Err(stored);
                    }
                }
                return departed;
            }
            objects = rest;
        }
        departed
    }

    /// Sends objects in one round trip. `answers` gets the server's answers, in the order of the objects, as far as there are any.
    async fn send_lot(
        &self,
        course: &mut Course,
        objects: &[Parting<'_>],
        last_lot: bool,
        answers: &mut Vec<Result<Sent, Stored>>,
    ) -> Result<(), Trouble> {
        let (clock, ticket) = (self.local.layout.clock(), as_of(course.ticket));
        let kept = milliseconds(self.schema.kept_after());
        let mut parcel = Parcel::new();
        // For each command, the objects that its reply is about.
        let mut steps: Vec<&[Parting<'_>]> = Vec::new();
        let mut rest = objects;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(batch(rest));
            rest = others;
            for (staged, bytes) in some.iter().filter_map(|parting| parting.staged.zip(parting.bytes)) {
                if course.mode.stages() {
                    parcel.command(stage(staged, bytes));
                    steps.push(&[]);
                }
            }
            let part = course.next(last_lot && rest.is_empty());
            parcel.script(&scripts::STORE_MANY, |call| {
                let keys = some.iter().map(Parting::keys).sum::<usize>() + usize::from(course.record.is_some());
                call.arg(1 + keys).arg(&clock).arg(&course.record);
                for parting in some {
                    name_keys(call, &self.local.layout, parting.object, parting.staged);
                }
                call.arg(&ticket[..]).arg(kept).arg(part).arg(self.index_life());
                for parting in some {
                    let payload = if parting.staged.is_some() { &[] } else { parting.bytes.unwrap_or(FORGET) };
                    // An object without bytes is invalidated, and never sent again: so the mode is not that of a first attempt.
                    let mode = if parting.bytes.is_some() { course.mode } else { Mode::Put };
                    let terms = self.terms(mode, parting.object);
                    call.arg(header(&self.local.layout, parting.object, &terms, 0)).arg(payload).arg(terms.life);
                }
            });
            steps.push(some);
        }
        let mut replies = Vec::with_capacity(steps.len());
        let sent = self.link.parcel(when_crowded(course.mode), &parcel, &mut replies).await;
        for (some, reply) in steps.into_iter().zip(replies).filter(|(some, _)| !some.is_empty()) {
            match reply {
                Reply::BulkString(verdicts) if verdicts.len() == OUTCOME * some.len() => {
                    for (parting, verdict) in some.iter().zip(verdicts.chunks(OUTCOME)) {
                        let size = parting.bytes.map_or(0, <[u8]>::len);
                        let sent = outcome_in(verdict).map(|verdict| self.learn_stored(parting.object, size, verdict));
                        answers.push(sent.ok_or(Stored::Unavailable));
                    }
                }
                other => {
                    let trouble = other.extract_error().map_or_else(Trouble::from, |_| {
                        Trouble::fault("the server's reply to store_many.lua has not the expected shape")
                    });
                    let stored = self.not_stored(&trouble);
                    answers.extend(some.iter().map(|_| Err(stored)));
                }
            }
        }
        sent
    }
}
