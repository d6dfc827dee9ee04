//! Fills and sets of several objects.

use crate::connector::redis::scripts;
use crate::connector::redis::single::many::LOT;
use crate::connector::redis::single::storing::{MAX_KEYS, STAGE_ABOVE, Sent, as_of, stage, when_crowded};
use crate::connector::redis::single::{SingleServer, Store, milliseconds, verdict_in};
use crate::connector::redis::wire::parcel::Parcel;
use crate::connector::remote::BATCH;
use crate::connector::remote::Trouble;
use crate::connector::remote::Undelivered;
use crate::connector::remote::WhenCrowded;
use crate::contract::{Delivery, Fill, Object, Stored, Ticket};
use redis::Value as Reply;

/// What the objects of one round trip take, in bytes, unless one alone takes more.
const LOT_SIZE: usize = 1024 * 1024;

/// How many bytes of a script's reply are those of one object.
const VERDICT: usize = 17;

/// Stands for the payload of an object that is not stored, whose keys are invalidated instead.
const FORGET: &[u8] = b"-";

/// An object on its way.
struct Parting<'a> {
    place: usize,
    object: &'a Object,
    /// None: it is unfit, and whatever is stored must go.
    bytes: Option<&'a [u8]>,
}

impl Parting<'_> {
    fn staged(&self) -> Option<&[u8]> {
        self.bytes.filter(|bytes| bytes.len() > STAGE_ABOVE)
    }

    fn keys(&self) -> usize {
        let more = usize::from(self.object.version.is_some()) + usize::from(self.staged().is_some());
        1 + self.object.secondary.len() + more
    }

    fn size(&self) -> usize {
        self.bytes.map_or(0, <[u8]>::len) + self.object.keys().map(|key| key.bytes.len()).sum::<usize>()
    }
}

/// What became of some objects: for each what the server has said, if it has.
struct Departed {
    sent: Vec<Result<Sent, Stored>>,
    timed_out: Option<Trouble>,
}

/// How many of these objects, from the first on, go in one round trip: one at least.
fn lot(objects: &[Parting<'_>]) -> usize {
    let mut size = 0;
    let fits = objects.iter().take(LOT).take_while(|parting| {
        let first = size == 0;
        size += parting.size();
        first || size <= LOT_SIZE
    });
    fits.count().clamp(1, objects.len().max(1))
}

/// How many of these objects, from the first on, one script stores: one at least.
fn batch(objects: &[Parting<'_>]) -> usize {
    let mut keys = 0;
    let fits = objects.iter().take_while(|parting| {
        let first = keys == 0;
        keys += parting.keys();
        first || keys <= BATCH
    });
    fits.count().clamp(1, objects.len().max(1))
}

/// The scripts that one call takes, as each is told of those before it: see store_many.lua.
struct Course {
    put: bool,
    /// Of the whole call.
    ticket: Ticket,
    /// The name of the key by which each script tells the next what others have touched; none where one script does it all.
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
    pub(crate) async fn fill_objects(&self, objects: Vec<Object>, ticket: Ticket) -> Vec<Fill> {
        let encoded: Vec<_> = objects.iter().map(|object| self.encoded(object)).collect();
        if self.is_full() {
            let stored = encoded.iter().map(|bytes| if bytes.is_some() { Stored::Full } else { Stored::Unfit });
            return stored.map(Fill::undated).collect();
        }
        let fit = objects
            .iter()
            .zip(&encoded)
            .enumerate()
            .filter_map(|(place, (object, bytes))| Some(Parting { place, object, bytes: Some(bytes.as_deref()?) }));
        let departed = self.send_objects(false, objects.len(), fit.collect(), ticket).await;
        let filled = departed.sent.into_iter().zip(&encoded).map(|(sent, bytes)| match sent {
            Ok(sent) => sent.fill,
            Err(_) if bytes.is_none() => Fill::undated(Stored::Unfit),
            Err(stored) => Fill::undated(stored),
        });
        filled.collect()
    }

    /// All keys are guarded from the first moment, and all objects have one ticket.
    pub(crate) async fn set_objects(&self, objects: Vec<Object>) -> Vec<Stored> {
        let undelivered: Vec<Vec<Undelivered<'_, SingleServer>>> =
            objects.iter().map(|object| self.guards(object)).collect();
        let encoded: Vec<_> = objects.iter().map(|object| self.encoded(object)).collect();
        let connection = self.link.generation();
        let ticket = match self.ask_for_ticket(WhenCrowded::Wait).await {
            Ok(ticket) => ticket,
            // Whoever waits in vain waits once.
            Err(trouble @ Trouble::TimedOut(_)) => {
                undelivered.into_iter().flatten().for_each(|guard| guard.deferred(&trouble));
                return vec![Stored::Unavailable; objects.len()];
            }
            Err(_) => None,
        };
        let departed = match ticket {
            Some(ticket) => {
                let all = objects.iter().zip(&encoded).enumerate().map(|(place, (object, bytes))| Parting {
                    place,
                    object,
                    bytes: bytes.as_deref(),
                });
                // A script handles all keys of an object at once.
                let all = all.filter(|parting| parting.object.secondary.len() < MAX_KEYS);
                self.send_objects(true, objects.len(), all.collect(), ticket).await
            }
            None => Departed { sent: objects.iter().map(|_| Err(Stored::Unavailable)).collect(), timed_out: None },
        };
        let (mut stored, mut left, mut not_stored) = (Vec::with_capacity(objects.len()), Vec::new(), Vec::new());
        let (mut sent_guards, mut done) = (Vec::new(), Vec::new());
        for ((sent, guards), bytes) in departed.sent.into_iter().zip(undelivered).zip(&encoded) {
            let unfit = bytes.is_none().then_some(Stored::Unfit);
            match sent {
                Ok(sent) if sent.done => {
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
        if !self.delivered(connection, sent_guards).await {
            for place in done {
                if let Some(stored) = stored.get_mut(place) {
                    *stored = Stored::Unavailable;
                }
            }
        }
        if left.is_empty() {
            return stored;
        }
        // Not stored: the earlier states must go all the same. Where somebody has waited in vain they are deferred without waiting more.
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
                    Delivery::Applied if ticket.is_none() => Stored::Overtaken,
                    Delivery::Applied => *stored,
                    Delivery::Deferred => Stored::Unavailable,
                };
            }
        }
        stored
    }

    /// Sends objects in lots, each of which is an operation of its own. After one that failed, no other is sent.
    async fn send_objects(&self, put: bool, count: usize, mut objects: Vec<Parting<'_>>, ticket: Ticket) -> Departed {
        let mut departed = Departed { sent: (0..count).map(|_| Err(Stored::Unavailable)).collect(), timed_out: None };
        let alone = lot(&objects) == objects.len() && batch(&objects) == objects.len();
        let mut course = Course { put, ticket, record: (!alone).then(|| self.local.layout.staged()), begun: false };
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

    /// Sends objects in one round trip; what the server has said of each is in `answers`, in their order, as far as it has.
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
        // For each command the objects that its reply is about.
        let mut steps: Vec<&[Parting<'_>]> = Vec::new();
        let mut rest = objects;
        while !rest.is_empty() {
            let (some, others) = rest.split_at(batch(rest));
            rest = others;
            let staged: Vec<Option<String>> = some
                .iter()
                .map(|parting| {
                    let (name, bytes) = (self.local.layout.staged(), parting.staged()?);
                    parcel.command(stage(&name, bytes));
                    steps.push(&[]);
                    Some(name)
                })
                .collect();
            let part = course.next(last_lot && rest.is_empty());
            parcel.script(&scripts::STORE_MANY, |call| {
                let keys = some.iter().map(Parting::keys).sum::<usize>() + usize::from(course.record.is_some());
                call.arg(1 + keys).arg(&clock).arg(&course.record);
                for (parting, staged) in some.iter().zip(&staged) {
                    self.name_keys(call, parting.object, staged.as_deref());
                }
                call.arg(&ticket[..]).arg(kept).arg(part);
                for (parting, staged) in some.iter().zip(&staged) {
                    let payload = if staged.is_some() { &[] } else { parting.bytes.unwrap_or(FORGET) };
                    let terms = self.terms(course.put, parting.object);
                    call.arg(terms.header).arg(payload).arg(terms.life);
                }
            });
            steps.push(some);
        }
        let mut replies = Vec::with_capacity(steps.len());
        let sent = self.link.parcel(when_crowded(course.put), &parcel, &mut replies).await;
        for (some, reply) in steps.into_iter().zip(replies).filter(|(some, _)| !some.is_empty()) {
            match reply {
                Reply::BulkString(verdicts) if verdicts.len() == VERDICT * some.len() => {
                    for (parting, verdict) in some.iter().zip(verdicts.chunks(VERDICT)) {
                        let size = parting.bytes.map_or(0, <[u8]>::len);
                        let sent = verdict_in(verdict).map(|verdict| self.judge_store(parting.object, size, verdict));
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
