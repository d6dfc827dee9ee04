//! Gets and lookups of several keys: what is asked in each round trip, and what is known after it.

use crate::connector::redis::layout::Layout;
use crate::connector::redis::scripts;
use crate::connector::redis::single::clearing::unexpected;
use crate::connector::redis::single::forgetting::BATCH;
use crate::connector::redis::single::many::LOT;
use crate::connector::redis::single::reading::Age;
use crate::connector::redis::single::storing::STAGE_ABOVE;
use crate::connector::redis::single::{Store, milliseconds};
use crate::connector::redis::wire::link::WhenCrowded;
use crate::connector::redis::wire::parcel::{Parcel, Wire};
use crate::connector::redis::wire::trouble::Trouble;
use crate::connector::remote::envelope::{self, DecodeError};
use crate::connector::remote::hints::Hint;
use crate::contract::{KeyRef, Lookups, Miss, Value};
use crate::key;
use redis::{Cmd, RedisError, Value as Reply};
use std::collections::HashMap;
use std::sync::Arc;

/// Objects that one MGET asks for: it holds up everybody else meanwhile.
const AT_ONCE: usize = 64;

impl Store {
    pub(crate) async fn find_many(&self, keys: &[KeyRef<'_>]) -> Vec<Result<Value, Miss>> {
        self.look_many(keys, false).await.found
    }

    pub(crate) async fn find_many_or_ticket(&self, keys: &[KeyRef<'_>]) -> Lookups {
        self.look_many(keys, true).await
    }

    async fn look_many(&self, keys: &[KeyRef<'_>], with_ticket: bool) -> Lookups {
        let admitted = self.may_read().and_then(|()| self.trusted().ok_or(Miss::Distrusted));
        let admitted = admitted.and_then(|on| if self.link.breaker.ramp_admits() { Ok(on) } else { Err(Miss::Shed) });
        let connection = match admitted {
            Ok(connection) => connection,
            Err(miss) => {
                let each = keys.iter().map(|key| Err(key::check(key.bytes).map_or(Miss::InvalidKey, |()| miss)));
                return Lookups { found: each.collect(), ticket: None };
            }
        };
        let newest = self.newest();
        let (mut search, places) = Search::of(self, keys);
        let mut cause = None;
        if !search.asked.is_empty() {
            let talk = &mut search;
            let talk = |wire| async move { talk.run(&wire, with_ticket).await };
            let sent = self.link.converse(WhenCrowded::Shed, talk).await;
            cause = sent.err().map(|trouble| self.miss(&trouble));
        }
        let clock = search.clock.take();
        search.date().await;
        let (found, damaged) = search.end(cause);
        self.discard_all(damaged).await;
        // Some of it may have been sent on a later connection than the one that was looked at.
        let believed = self.trusted() == Some(connection);
        let each = places.into_iter().map(|place| match place.map(|place| found.get(place)) {
            Ok(Some(found)) if believed => found.clone(),
            Ok(_) => Err(Miss::Distrusted),
            Err(miss) => Err(miss),
        });
        let found: Vec<_> = each.collect();
        let loadable = found.iter().any(|found| found.as_ref().is_err_and(|miss| miss.is_loadable()));
        let ticket = match clock.filter(|_| loadable) {
            Some(clock) => self.ticket_from(clock, newest).await,
            None => None,
        };
        Lookups { found, ticket }
    }

    /// Reports and removes what cannot be decoded (C11).
    async fn discard_all(&self, damaged: Vec<Damaged>) {
        for some in damaged.chunks(AT_ONCE) {
            let mut parcel = Parcel::new();
            for Damaged { name, bytes, why } in some {
                self.report_undecodable(bytes.len(), why);
                parcel.script(&scripts::DISCARD, |call| {
                    call.arg(1).arg(name).arg(bytes);
                });
            }
            if let Err(trouble) = self.link.parcel(WhenCrowded::Shed, &parcel, &mut Vec::new()).await {
                self.miss(&trouble);
            }
        }
    }
}

/// An object that cannot be read.
struct Damaged {
    name: Vec<u8>,
    bytes: Vec<u8>,
    why: DecodeError,
}

/// What is known so far of what was asked for.
struct Search<'a> {
    store: &'a Store,
    asked: Vec<Asked<'a>>,
    targets: Vec<Target>,
    by_name: HashMap<Vec<u8>, usize>,
    clock: Option<Reply>,
}

/// A key, once however often it was asked for.
struct Asked<'a> {
    key: KeyRef<'a>,
    way: Way,
}

/// Where a key leads: to one of the targets.
#[derive(Clone, Copy)]
enum Way {
    Known(usize),
    /// As this node remembers, which may be wrong.
    Remembered(usize),
    /// Its index key has to say it; not to the one that was tried in vain.
    Unknown(Option<usize>),
    Nowhere(Miss),
}

/// An object, for all keys that lead to it.
struct Target {
    name: Vec<u8>,
    hint: Option<Arc<Hint>>,
    /// A touch was taken to be due, and is not known to have been done.
    touching: bool,
    /// Its max age is over.
    expired: bool,
    found: Found,
}

enum Found {
    Unread,
    Nothing,
    Object(Vec<u8>),
    Missed(Miss),
}

/// What a command of a parcel was sent for: targets, or keys, by their places.
enum Step {
    Clock,
    Read(Vec<usize>),
    Touch(Vec<usize>),
    Ask(Vec<usize>),
    TouchAsked(Vec<usize>),
}

impl<'a> Search<'a> {
    /// The search, and for each key its place among those that are asked for.
    fn of(store: &'a Store, keys: &[KeyRef<'a>]) -> (Self, Vec<Result<usize, Miss>>) {
        let mut search = Self { store, asked: Vec::new(), targets: Vec::new(), by_name: HashMap::new(), clock: None };
        let mut known: HashMap<KeyRef<'a>, usize> = HashMap::with_capacity(keys.len());
        let places = keys.iter().map(|key| {
            key::check(key.bytes).map_err(|_| Miss::InvalidKey)?;
            Ok(*known.entry(*key).or_insert_with(|| {
                search.ask(*key);
                search.asked.len() - 1
            }))
        });
        let places = places.collect();
        (search, places)
    }

    fn ask(&mut self, key: KeyRef<'a>) {
        let way = if key.index == 0 {
            Way::Known(self.target(key.bytes, self.store.hints.of_primary(key)))
        } else {
            match self.store.hints.get(key) {
                Some(hint) => Way::Remembered(self.target(&hint.primary, Some(hint.clone()))),
                None => Way::Unknown(None),
            }
        };
        self.asked.push(Asked { key, way });
    }

    fn target(&mut self, primary: &[u8], hint: Option<Arc<Hint>>) -> usize {
        let name = self.store.layout.object(primary);
        if let Some(place) = self.by_name.get(&name) {
            return *place;
        }
        self.by_name.insert(name.clone(), self.targets.len());
        self.targets.push(Target { name, hint, touching: false, expired: false, found: Found::Unread });
        self.targets.len() - 1
    }

    async fn run(&mut self, wire: &Wire, mut with_clock: bool) -> Result<(), Trouble> {
        while let Some((parcel, steps)) = self.lot(std::mem::take(&mut with_clock)) {
            let mut replies = Vec::with_capacity(steps.len());
            let sent = wire.send(&parcel, &mut replies).await;
            for (step, reply) in steps.into_iter().zip(replies) {
                self.learn(step, reply);
            }
            self.reconsider();
            sent?;
        }
        Ok(())
    }

    /// What is to be sent next, if anything. Whatever is sent is known, in one way or another, once it was answered.
    fn lot(&mut self, with_clock: bool) -> Option<(Parcel, Vec<Step>)> {
        let unread = self.targets.iter().enumerate().filter(|(_, target)| matches!(target.found, Found::Unread));
        let unread: Vec<usize> = unread.map(|(place, _)| place).take(LOT).collect();
        let unknown = self.asked.iter().enumerate().filter(|(_, asked)| matches!(asked.way, Way::Unknown(_)));
        let unknown: Vec<usize> = unknown.map(|(place, _)| place).take(LOT - unread.len()).collect();
        if unread.is_empty() && unknown.is_empty() {
            return None;
        }
        let (mut parcel, mut steps) = (Parcel::new(), Vec::new());
        let (age, kept) = (milliseconds(self.store.schema.last_use_age), milliseconds(self.store.schema.kept_after()));
        if with_clock {
            parcel.command(self.store.read_clock());
            steps.push(Step::Clock);
        }
        for some in unread.chunks(AT_ONCE) {
            let mut get = redis::cmd("MGET");
            let mut due = Vec::new();
            for place in some {
                let Some(target) = self.targets.get_mut(*place) else { continue };
                get.arg(&target.name);
                let is_due = |hint| self.store.may_touch() && self.store.hints.touch_is_due(hint);
                target.touching = target.hint.as_deref().is_some_and(is_due);
                if target.touching {
                    due.push(*place);
                }
            }
            parcel.command(get);
            steps.push(Step::Read(some.to_vec()));
            if !due.is_empty() {
                let names = due.iter().filter_map(|place| Some(&self.targets.get(*place)?.name));
                parcel.script(&scripts::TOUCH, |call| {
                    call.arg(due.len());
                    for name in names {
                        call.arg(name);
                    }
                    call.arg(age).arg(kept);
                });
                steps.push(Step::Touch(due));
            }
        }
        for some in unknown.chunks(BATCH) {
            let prefix = self.store.layout.object(&[]);
            let keys = |call: &mut Cmd| {
                call.arg(some.len());
                for asked in some.iter().filter_map(|place| self.asked.get(*place)) {
                    call.arg(self.store.layout.index(asked.key));
                }
            };
            parcel.script(&scripts::GET_MANY, |call| {
                keys(call);
                call.arg(&prefix).arg(STAGE_ABOVE);
            });
            steps.push(Step::Ask(some.to_vec()));
            if !self.store.schema.last_use_age.is_zero() && self.store.may_touch() {
                // A script of its own, since a server that takes no writes still answers the other.
                parcel.script(&scripts::TOUCH, |call| {
                    keys(call);
                    call.arg(age).arg(kept).arg(&prefix);
                });
                steps.push(Step::TouchAsked(some.to_vec()));
            }
        }
        Some((parcel, steps))
    }

    fn learn(&mut self, step: Step, reply: Reply) {
        match step {
            Step::Clock => self.clock = Some(reply),
            Step::Read(places) => match self.answers(reply, places.len(), "MGET") {
                Ok(objects) => {
                    for (place, object) in places.into_iter().zip(objects) {
                        self.found(
                            place,
                            match object {
                                Reply::BulkString(object) => Found::Object(object),
                                _ => Found::Nothing,
                            },
                        );
                    }
                }
                Err(miss) => places.into_iter().for_each(|place| self.found(place, Found::Missed(miss))),
            },
            Step::Ask(places) => match self.hints_and_objects(reply, places.len()) {
                Ok((hints, objects)) => {
                    for (place, (hint, object)) in places.into_iter().zip(hints.into_iter().zip(objects)) {
                        self.led(place, &hint, object);
                    }
                }
                Err(miss) => places.into_iter().for_each(|place| self.set_way(place, Way::Nowhere(miss))),
            },
            Step::Touch(places) => self.touched(&reply, places),
            Step::TouchAsked(places) => {
                let targets = places.iter().filter_map(|place| match self.asked.get(*place)?.way {
                    Way::Known(target) => Some(target),
                    _ => None,
                });
                let targets = targets.collect();
                self.touched(&reply, targets);
            }
        }
    }

    fn answers(&self, reply: Reply, count: usize, to: &str) -> Result<Vec<Reply>, Miss> {
        match reply {
            Reply::Array(replies) if replies.len() == count => Ok(replies),
            Reply::ServerError(error) => Err(self.store.miss(&RedisError::from(error).into())),
            _ => Err(self.store.miss(&unexpected(to))),
        }
    }

    fn hints_and_objects(&self, reply: Reply, count: usize) -> Result<(Vec<Reply>, Vec<Reply>), Miss> {
        let mut both = self.answers(reply, 2, "get_many.lua")?.into_iter();
        let mut next = || self.answers(both.next().unwrap_or(Reply::Nil), count, "get_many.lua");
        Ok((next()?, next()?))
    }

    fn found(&mut self, place: usize, found: Found) {
        if let Some(target) = self.targets.get_mut(place) {
            target.found = found;
        }
    }

    fn set_way(&mut self, place: usize, way: Way) {
        if let Some(asked) = self.asked.get_mut(place) {
            asked.way = way;
        }
    }

    /// A key's index key has said where it leads, and maybe the object was there.
    fn led(&mut self, place: usize, hint: &Reply, object: Reply) {
        let Some(Asked { key, way }) = self.asked.get(place) else { return };
        let (key, way) = (*key, *way);
        let hint = match hint {
            Reply::BulkString(hint) => hint,
            _ => {
                self.store.hints.forget(key);
                return self.set_way(place, Way::Nowhere(Miss::Absent));
            }
        };
        let Some(primary) = Layout::primary_of(hint) else {
            self.store.hints.forget(key);
            return self.set_way(place, Way::Nowhere(self.store.nothing(hint, key)));
        };
        let target = self.target(primary, None);
        if matches!(way, Way::Unknown(Some(tried)) if tried == target) {
            return self.set_way(place, Way::Nowhere(Miss::Absent));
        }
        self.set_way(place, Way::Known(target));
        let hint = self.store.hints.remember(key, primary);
        let Some(target) = self.targets.get_mut(target) else { return };
        match object {
            Reply::BulkString(object) if !object.is_empty() => target.found = Found::Object(object),
            // It is read natively, unless it is here already.
            Reply::BulkString(_) => {}
            _ if matches!(target.found, Found::Unread) => target.found = Found::Nothing,
            _ => {}
        }
        // Touched along with being asked for.
        target.touching |= self.store.may_touch() && self.store.hints.touch_is_due(&hint);
        target.hint = Some(hint);
    }

    fn touched(&mut self, reply: &Reply, targets: Vec<usize>) {
        // The server may take no writes and have answered the rest all the same.
        if let Reply::ServerError(error) = reply {
            self.store.miss(&RedisError::from(error.clone()).into());
            return;
        }
        for place in targets {
            if let Some(target) = self.targets.get_mut(place) {
                target.touching &= matches!(target.found, Found::Nothing);
            }
        }
    }

    /// What this node remembers may be wrong: then the index key is asked.
    fn reconsider(&mut self) {
        for asked in &mut self.asked {
            let Way::Remembered(place) = asked.way else { continue };
            let Some(target) = self.targets.get(place) else { continue };
            // A note says that the source has nothing under the primary key, which another key may have left since.
            let other = |bytes: &[u8]| {
                Layout::is_absence(bytes)
                    || envelope::payload(&self.store.schema, bytes, asked.key) == Err(DecodeError::OtherKey)
            };
            asked.way = match &target.found {
                Found::Unread => continue,
                Found::Nothing => Way::Unknown(Some(place)),
                Found::Object(bytes) if other(bytes) => Way::Unknown(Some(place)),
                Found::Object(_) | Found::Missed(_) => Way::Known(place),
            };
        }
    }

    /// Looks at the age of what was found, where that is anybody's business.
    async fn date(&mut self) {
        for target in &mut self.targets {
            if let Found::Object(bytes) = &target.found {
                target.expired = self.store.age(bytes).await == Age::Expired;
            }
        }
    }

    /// What was found for each key that was asked for; what was not answered is a miss with this cause. Each object is decoded once.
    fn end(self, cause: Option<Miss>) -> (Vec<Result<Value, Miss>>, Vec<Damaged>) {
        let cause = cause.unwrap_or(Miss::Unavailable);
        let mut values: Vec<Option<Result<Value, DecodeError>>> = self.targets.iter().map(|_| None).collect();
        let mut found = Vec::with_capacity(self.asked.len());
        for Asked { key, way } in &self.asked {
            let place = match way {
                Way::Known(place) | Way::Remembered(place) => *place,
                Way::Unknown(_) => {
                    found.push(Err(cause));
                    continue;
                }
                Way::Nowhere(miss) => {
                    found.push(Err(*miss));
                    continue;
                }
            };
            let (Some(target), Some(value)) = (self.targets.get(place), values.get_mut(place)) else { continue };
            found.push(match &target.found {
                Found::Unread => Err(cause),
                Found::Nothing => Err(Miss::Absent),
                Found::Missed(miss) => Err(*miss),
                Found::Object(bytes) => match envelope::payload(&self.store.schema, bytes, *key) {
                    Err(DecodeError::OtherKey) => Err(Miss::Absent),
                    Err(_) if key.index == 0 && *bytes == self.store.layout.absence(*key) => {
                        Err(self.store.nothing(bytes, *key))
                    }
                    Err(_) if Layout::is_absence(bytes) => Err(Miss::Absent),
                    Ok(_) if target.expired => Err(Miss::Expired),
                    payload => {
                        let decoded = value.get_or_insert_with(|| {
                            let payload = payload?;
                            self.store.schema.codec.decode(payload).map_err(DecodeError::Payload)
                        });
                        decoded.as_ref().map(Arc::clone).map_err(|_| Miss::Undecodable)
                    }
                },
            });
        }
        let mut damaged = Vec::new();
        for (target, value) in self.targets.into_iter().zip(values) {
            if target.touching
                && let Some(hint) = &target.hint
            {
                self.store.hints.touch_failed(hint);
            }
            if let (Found::Object(bytes), Some(Err(why))) = (target.found, value) {
                damaged.push(Damaged { name: target.name, bytes, why });
            }
        }
        (found, damaged)
    }
}
