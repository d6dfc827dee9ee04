//! How an object is stored: it is checked, it replaces the objects that hold its keys, and other objects are evicted to give it room.

use super::expiring::STEPS;
use super::records::Record;
use super::table::Common;
use super::{Memory, Writer};
use crate::contract::{Fill, KeyRef, Object, Stored, Ticket};
use crate::protection::{Protection, holds};
use crate::sync::atomic::Ordering;

/// What an object costs beyond its own weight, in bytes: once for the object, and again for each key. Places in the table, counters.
const OVERHEAD: u64 = 128;
const OVERHEAD_PER_KEY: u64 = 96;

impl Memory {
    /// Stores an object that a server has, unless one of its keys was touched since the ticket. `ends`: when its max age is over, in ms of the clock.
    #[allow(dead_code, reason = "only what has a server behind it needs this")]
    pub(crate) fn store_copy(&self, object: Object, ticket: Ticket, ends: Option<u64>) -> Stored {
        self.store_until(object, Some(ticket), false, ends).stored
    }

    pub(super) fn store(&self, object: Object, ticket: Option<Ticket>, put: bool) -> Fill {
        self.store_until(object, ticket, put, None)
    }

    fn store_until(&self, object: Object, ticket: Option<Ticket>, put: bool, ends: Option<u64>) -> Fill {
        let weight = self.weigh(&object);
        let hashes: Box<[u64]> = object.keys().map(|key| self.table.hash(key)).collect();
        let mut displaced = 0;
        let fill = self.change(|writer| {
            let Some(weight) = weight else {
                if put {
                    self.forget(writer, &hashes, object.keys(), None);
                }
                return Fill::undated(Stored::Unfit);
            };
            let overtaken = ticket.is_none_or(|ticket| self.overtaken(writer, &hashes, ticket));
            let outdated = self.outdated(writer, &object, &hashes) && holds(Protection::Version);
            if put {
                let sequence = self.next_sequence();
                for hash in &hashes {
                    writer.absent.forget(*hash);
                    writer.raise_fence(*hash, sequence);
                }
            }
            let stored = match (overtaken, outdated) {
                (true, _) => {
                    if put {
                        self.forget(writer, &hashes, object.keys(), None);
                    }
                    Stored::Overtaken
                }
                (false, true) => Stored::Outdated,
                (false, false) => {
                    displaced = self.insert(writer, &object, hashes, weight, ends);
                    self.schema.stats().stored_bytes.add(weight);
                    Stored::Accepted
                }
            };
            // The writer's lock is still held, so nothing is changed between the fill and its ticket.
            Fill::at(stored, self.take_ticket())
        });
        // An event may be written to a file, which takes time. So it is told only now, when no lock is held.
        if displaced > 0 {
            self.schema.stats().displace(self.schema.cache(), &object.primary, displaced);
        }
        fill
    }

    /// What the object weighs, in bytes. `None` if that is too much.
    fn weigh(&self, object: &Object) -> Option<u64> {
        let own = self.schema.codec().weigh(&object.value);
        if own > self.schema.largest_object() {
            let limit = self.schema.largest_object();
            let details = format_args!("{own} bytes, and {limit} at most");
            self.schema.stats().unfit(self.schema.cache(), "it is too large", details);
            return None;
        }
        let keys: u64 = object.keys().map(|key| key.bytes.len() as u64 + OVERHEAD_PER_KEY).sum();
        let weight = own + keys + OVERHEAD;
        (self.max_bytes == 0 || weight <= self.max_bytes).then_some(weight)
    }

    /// Whether a truncate, or a change of one of these keys, has come after the ticket.
    pub(super) fn overtaken(&self, writer: &Writer, hashes: &[u64], ticket: Ticket) -> bool {
        ticket.epoch() != self.epoch.load(Ordering::Acquire)
            || (holds(Protection::Fence) && hashes.iter().any(|hash| writer.fence(*hash) > ticket.sequence()))
    }

    fn outdated(&self, writer: &mut Writer, object: &Object, hashes: &[u64]) -> bool {
        let (Some(version), Some(primary)) = (object.version, hashes.first()) else { return false };
        let now = self.clock.now();
        writer.floors.expire(now, STEPS);
        if writer.floors.lowest(*primary, now) > version {
            return true;
        }
        let stored = self.table.find(KeyRef { index: 0, bytes: &object.primary });
        stored.is_some_and(|id| {
            let newer = writer.records.get(id).is_some_and(|record| record.version > Some(version));
            newer && !self.expired(writer, id, now)
        })
    }

    /// Stores an object. Its earlier state ends, and so does every other object that holds one of its keys. Returns how many of these
    /// other objects had not expired.
    fn insert(&self, writer: &mut Writer, object: &Object, hashes: Box<[u64]>, weight: u64, ends: Option<u64>) -> u64 {
        let now = if self.ages.none() { 0 } else { self.clock.now() };
        let mut displaced = 0;
        let earlier = self.table.find(KeyRef { index: 0, bytes: &object.primary });
        let uses = earlier.and_then(|id| Some(writer.records.pulse(id)?.uses())).unwrap_or(0);
        if let Some(earlier) = earlier {
            self.retire(writer, earlier);
        }
        for key in &object.secondary {
            // The earlier state is gone from the table, so an object that is found here is another one.
            if let Some(other) = self.table.find(key.as_ref()) {
                displaced += u64::from(!self.expired(writer, other, now));
                self.fence_and_retire(writer, other, self.next_sequence());
            }
        }
        let primary = hashes.first().copied().unwrap_or_default();
        let keys = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        hashes.iter().for_each(|hash| writer.absent.forget(*hash));
        if self.max_bytes > 0 {
            // Notes must leave before the object comes. Otherwise an object that needs their room would be evicted at once.
            writer.absent.shrink(self.max_bytes.saturating_sub(weight));
        }
        let deadline = ends.unwrap_or_else(|| now.saturating_add(self.ages.lifetime(&self.schema)));
        let name = writer.records.add(Record { hashes, version: object.version, weight, deadline, keys });
        let Some((block, pulse)) = writer.records.block(name.id) else { return displaced };
        let common = Common { value: object.value.clone(), block: block.clone(), pulse, deadline };
        for key in object.keys() {
            self.table.insert(key, common.clone());
        }
        block.pulse(pulse).begin(now, uses);
        writer.objects += 1;
        writer.bytes += weight;
        writer.queues.admit(name, primary, writer.objects, &writer.records);
        self.make_room(writer);
        displaced
    }

    /// Evicts objects until the remaining objects and the notes fit into the limits.
    pub(super) fn make_room(&self, writer: &mut Writer) {
        while writer.objects > self.max_objects || (self.max_bytes > 0 && writer.weighs() > self.max_bytes) {
            let Some(victim) = writer.queues.victim(&writer.records) else { return };
            self.retire(writer, victim.id);
            self.evictions.evicted.increment();
        }
    }
}
