//! How an object ends: it is invalidated, deleted, pruned, or replaced by another object.

use super::table::Id;
use super::{Memory, Writer};
use crate::contract::{KeyBuf, KeyRef, Pruned};

/// How much a prune does before it releases the lock: places of objects looked at, keys removed, notes and floors forgotten.
const PRUNED_AT_ONCE: usize = 512;

/// How many marks are applied before the lock is released.
#[allow(dead_code, reason = "only what has a server behind it needs this")]
const MARKS_AT_ONCE: usize = 256;

impl Memory {
    /// Whether the object has expired for every reader, also for those that accept an object past its max age.
    pub(super) fn expired(&self, writer: &Writer, id: Id, now: u64) -> bool {
        let (Some(record), Some(pulse)) = (writer.records.get(id), writer.records.pulse(id)) else { return true };
        let end = record.deadline.saturating_add(self.ages.kept);
        now >= end.min(pulse.used().saturating_add(self.ages.last_use))
    }

    /// Ends an object under all of its keys: first for readers, by its pulse, then in the table.
    pub(super) fn retire(&self, writer: &mut Writer, id: Id) {
        if let Some(pulse) = writer.records.pulse(id) {
            pulse.end();
        }
        // From here on the place of the pulse is free. Only a holder of the writer's lock can give it to another object, and by then
        // no reader can reach the pulse by the old keys.
        if let Some(record) = writer.records.remove(id) {
            writer.gone.extend(self.table.remove(id, &record.hashes));
            writer.objects -= 1;
            writer.bytes -= record.weight;
        }
    }

    /// Fences the object's primary key, and ends the object. Returns the hash of the primary key.
    pub(super) fn fence_and_retire(&self, writer: &mut Writer, id: Id, sequence: u64) -> Option<u64> {
        let primary = writer.records.get(id)?.primary();
        writer.raise_fence(primary, sequence);
        self.retire(writer, id);
        Some(primary)
    }

    /// Fences the keys. Ends every object that a key leads to, and fences its primary key.
    pub(super) fn forget<'a>(
        &self,
        writer: &mut Writer,
        hashes: &[u64],
        keys: impl Iterator<Item = KeyRef<'a>>,
        floor: Option<u64>,
    ) {
        let sequence = self.next_sequence();
        for (key, hash) in keys.zip(hashes) {
            writer.raise_fence(*hash, sequence);
            writer.absent.forget(*hash);
            let found = self.table.find(key).and_then(|id| self.fence_and_retire(writer, id, sequence));
            let primary = found.or((key.index == 0).then_some(*hash));
            if let (Some(floor), Some(primary)) = (floor, primary) {
                writer.floors.raise(primary, floor, self.clock.now());
            }
        }
    }

    /// As [`forget`](Self::forget) for keys of which only the marks are known.
    #[allow(dead_code, reason = "only what has a server behind it needs this")]
    pub(crate) fn forget_marks(&self, marks: &[u64]) {
        for some in marks.chunks(MARKS_AT_ONCE) {
            self.change(|writer| {
                let sequence = self.next_sequence();
                for mark in some {
                    writer.raise_fence(*mark, sequence);
                    writer.absent.forget(*mark);
                    for id in self.table.with_hash(*mark) {
                        self.retire(writer, id);
                    }
                }
            });
        }
    }

    /// Makes just these keys miss. An object whose last key was deleted ends.
    pub(super) fn delete_keys(&self, writer: &mut Writer, keys: &[KeyBuf]) {
        let sequence = self.next_sequence();
        for key in keys {
            let hash = self.table.hash(key.as_ref());
            writer.absent.forget(hash);
            writer.raise_fence(hash, sequence);
            let Some(id) = self.table.delete(key.as_ref()) else { continue };
            let Some(record) = writer.records.get_mut(id) else { continue };
            record.keys -= 1;
            if record.keys == 0 {
                self.retire(writer, id);
            }
        }
    }

    /// Cleans up a part of what has expired: objects from the place `next` on, notes, floors. Returns whether there may be more.
    pub(super) fn prune_some(&self, next: &mut Id, pruned: &mut Pruned) -> bool {
        self.change(|writer| {
            let now = self.clock.now();
            let mut left = PRUNED_AT_ONCE;
            left -= writer.absent.expire(now, left);
            left -= writer.floors.expire(now, left);
            while left > 0 && (*next as usize) < writer.records.places() {
                let id = *next;
                *next += 1;
                left -= 1;
                let Some(keys) = writer.records.get(id).map(|record| record.hashes.len()) else { continue };
                if self.expired(writer, id, now) {
                    self.retire(writer, id);
                    pruned.objects += 1;
                    left = left.saturating_sub(keys);
                }
            }
            left == 0
        })
    }
}
