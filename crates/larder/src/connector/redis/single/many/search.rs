//! What is known so far about the keys that were asked for: where each leads, and what was found there.

use super::round_trip::Step;
use crate::connector::redis::layout::Layout;
use crate::connector::redis::single::Store;
use crate::connector::redis::single::reading::{Age, ReadObject};
use crate::connector::redis::wire::replies::unexpected;
use crate::connector::remote::envelope::{self, DecodeError};
use crate::connector::remote::hints::Hint;
use crate::contract::{KeyRef, Miss, Value};
use redis::{RedisError, Value as Reply};
use std::collections::HashMap;
use std::sync::Arc;

/// How a search has ended.
pub(super) struct Ended {
    pub(super) found: Vec<Result<Value, Miss>>,
    /// The objects that may be served, and their bytes.
    pub(super) objects: Vec<(ReadObject, Vec<u8>)>,
    pub(super) damaged: Vec<Damaged>,
}

/// An object that cannot be read.
pub(super) struct Damaged {
    pub(super) name: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) why: DecodeError,
}

/// What is known so far about the keys of one call.
pub(super) struct Search<'a> {
    pub(super) store: &'a Store,
    pub(super) asked: Vec<Asked<'a>>,
    pub(super) targets: Vec<Target>,
    pub(super) by_name: HashMap<Vec<u8>, usize>,
    pub(super) clock: Option<Reply>,
}

/// A key that was asked for. It is here once, however often it was asked for.
pub(super) struct Asked<'a> {
    pub(super) key: KeyRef<'a>,
    pub(super) way: Way,
}

/// Where a key leads: to one of the targets.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Known(usize),
    /// A hint says so, which may be wrong.
    Remembered(usize),
    /// The index key must be asked. If a hint was wrong: the target of that hint.
    Unknown(Option<usize>),
    Nowhere(Miss),
}

/// An object to be read, for all keys that lead to it.
pub(super) struct Target {
    pub(super) name: Vec<u8>,
    pub(super) hint: Option<Arc<Hint>>,
    /// A touch is due, and the server has not confirmed it yet.
    pub(super) touching: bool,
    /// Its max age is over.
    pub(super) expired: bool,
    pub(super) content: Content,
}

pub(super) enum Content {
    Unread,
    Nothing,
    Object(Vec<u8>),
    Missed(Miss),
}

impl<'a> Search<'a> {
    /// Returns the search, and for each of `keys` its place in `asked`.
    pub(super) fn of(store: &'a Store, keys: &[KeyRef<'a>]) -> (Self, Vec<usize>) {
        let mut search = Self { store, asked: Vec::new(), targets: Vec::new(), by_name: HashMap::new(), clock: None };
        let mut known: HashMap<KeyRef<'a>, usize> = HashMap::with_capacity(keys.len());
        let places = keys.iter().map(|key| {
            *known.entry(*key).or_insert_with(|| {
                search.ask(*key);
                search.asked.len() - 1
            })
        });
        let places = places.collect();
        (search, places)
    }

    fn ask(&mut self, key: KeyRef<'a>) {
        let way = if key.index == 0 {
            Way::Known(self.target(key.bytes, self.store.local.hints.of_primary(key)))
        } else {
            match self.store.local.hints.get(key) {
                Some(hint) => Way::Remembered(self.target(&hint.primary, Some(hint.clone()))),
                None => Way::Unknown(None),
            }
        };
        self.asked.push(Asked { key, way });
    }

    fn target(&mut self, primary: &[u8], hint: Option<Arc<Hint>>) -> usize {
        let name = self.store.local.layout.object(primary);
        if let Some(place) = self.by_name.get(&name) {
            return *place;
        }
        self.by_name.insert(name.clone(), self.targets.len());
        self.targets.push(Target { name, hint, touching: false, expired: false, content: Content::Unread });
        self.targets.len() - 1
    }

    /// Notes the reply to a command.
    pub(super) fn learn(&mut self, step: Step, reply: Reply) {
        match step {
            Step::Clock => self.clock = Some(reply),
            Step::Read(places) => match self.answers(reply, places.len(), "MGET") {
                Ok(objects) => {
                    for (place, object) in places.into_iter().zip(objects) {
                        self.note(
                            place,
                            match object {
                                Reply::BulkString(object) => Content::Object(object),
                                _ => Content::Nothing,
                            },
                        );
                    }
                }
                Err(miss) => places.into_iter().for_each(|place| self.note(place, Content::Missed(miss))),
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

    fn note(&mut self, place: usize, content: Content) {
        if let Some(target) = self.targets.get_mut(place) {
            target.content = content;
        }
    }

    fn set_way(&mut self, place: usize, way: Way) {
        if let Some(asked) = self.asked.get_mut(place) {
            asked.way = way;
        }
    }

    /// Notes where the index key of a key leads, and the object, if the reply has it.
    fn led(&mut self, place: usize, hint: &Reply, object: Reply) {
        let Some(Asked { key, way }) = self.asked.get(place) else { return };
        let (key, way) = (*key, *way);
        let hint = match hint {
            Reply::BulkString(hint) => hint,
            _ => {
                self.store.local.hints.forget(key);
                return self.set_way(place, Way::Nowhere(Miss::Absent));
            }
        };
        let Some(primary) = Layout::primary_of(hint) else {
            self.store.local.hints.forget(key);
            return self.set_way(place, Way::Nowhere(self.store.nothing(hint, key)));
        };
        let target = self.target(primary, None);
        if matches!(way, Way::Unknown(Some(tried)) if tried == target) {
            return self.set_way(place, Way::Nowhere(Miss::Absent));
        }
        self.set_way(place, Way::Known(target));
        let hint = self.store.local.hints.remember(key, primary);
        let Some(target) = self.targets.get_mut(target) else { return };
        match object {
            Reply::BulkString(object) if !object.is_empty() => target.content = Content::Object(object),
            // An empty reply: the object is read by MGET, unless it was read already.
            Reply::BulkString(_) => {}
            _ if matches!(target.content, Content::Unread) => target.content = Content::Nothing,
            _ => {}
        }
        // The touch was sent together with the question (`Step::TouchAsked`).
        target.touching |= self.store.may_touch() && self.store.local.hints.touch_is_due(&hint);
        target.hint = Some(hint);
    }

    fn touched(&mut self, reply: &Reply, targets: Vec<usize>) {
        // A server that takes no writes may have answered the reads.
        if let Reply::ServerError(error) = reply {
            self.store.miss(&RedisError::from(error.clone()).into());
            return;
        }
        for place in targets {
            if let Some(target) = self.targets.get_mut(place) {
                target.touching &= matches!(target.content, Content::Nothing);
            }
        }
    }

    /// Finds hints that were wrong. Their index keys are asked next.
    pub(super) fn reconsider(&mut self) {
        for asked in &mut self.asked {
            let Way::Remembered(place) = asked.way else { continue };
            let Some(target) = self.targets.get(place) else { continue };
            // A note says that the source has nothing under the primary key. The secondary key may lead to another object since.
            let other = |bytes: &[u8]| {
                Layout::is_absence(bytes)
                    || envelope::payload(&self.store.schema, bytes, asked.key) == Err(DecodeError::OtherKey)
            };
            asked.way = match &target.content {
                Content::Unread => continue,
                Content::Nothing => Way::Unknown(Some(place)),
                Content::Object(bytes) if other(bytes) => Way::Unknown(Some(place)),
                Content::Object(_) | Content::Missed(_) => Way::Known(place),
            };
        }
    }

    /// Finds out which of the objects have expired.
    pub(super) async fn date(&mut self) {
        for target in &mut self.targets {
            if let Content::Object(bytes) = &target.content {
                target.expired = self.store.age(bytes).await == Age::Expired;
            }
        }
    }

    /// Returns what was found for each key, the objects, and those that are damaged. A key that was not answered is a miss with this cause. Each object is
    /// decoded once.
    pub(super) fn end(self, cause: Option<Miss>) -> Ended {
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
            found.push(match &target.content {
                Content::Unread => Err(cause),
                Content::Nothing => Err(Miss::Absent),
                Content::Missed(miss) => Err(*miss),
                Content::Object(bytes) => match envelope::payload(&self.store.schema, bytes, *key) {
                    Err(DecodeError::OtherKey) => Err(Miss::Absent),
                    Err(_) if key.index == 0 && *bytes == self.store.local.layout.absence(*key) => {
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
        let (mut objects, mut damaged) = (Vec::new(), Vec::new());
        for (target, value) in self.targets.into_iter().zip(values) {
            if target.touching
                && let Some(hint) = &target.hint
            {
                self.store.local.hints.touch_failed(hint);
            }
            match (target.content, value) {
                (Content::Object(bytes), Some(Err(why))) => damaged.push(Damaged { name: target.name, bytes, why }),
                (Content::Object(bytes), Some(Ok(value))) => {
                    objects.push((ReadObject { value, age: Age::Fresh }, bytes));
                }
                _ => {}
            }
        }
        Ended { found, objects, damaged }
    }
}
