//! What somebody who loads is told of a key, and what becomes of the key when the load has found nothing.

use super::absent::Room;
use super::table::Id;
use super::{Memory, Writer};
use crate::contract::{Fill, KeyRef, Lookup, Miss, Stored, Ticket};

/// Notes take at most this part of the bytes: one in so many. A cache that is full of objects has room for notes so, and a flood of keys
/// that do not exist takes no more than this from the objects.
const NOTES: u64 = 10;

impl Memory {
    /// The ticket is taken after the look: whatever is changed in between is older than it, and older than the load.
    pub(super) fn look(&self, key: KeyRef<'_>) -> Lookup {
        let cause = match self.find(key) {
            Ok(value) => return Lookup::Hit { value, due: self.is_due(key) },
            Err(cause) => cause,
        };
        // Also where an object has expired: that there is nothing any more is the newer word.
        if self.notes_absence() {
            let hash = self.table.hash(key);
            if self.writer.lock().absent.knows(hash, key, self.clock.now()) {
                return Lookup::miss(Miss::KnownAbsent, None);
            }
        }
        let expired =
            (cause == Miss::Expired && self.ages.kept > 0).then(|| self.table.kept(key, self.ages, &self.clock));
        Lookup::Miss { cause, ticket: Some(self.take_ticket()), expired: expired.flatten() }
    }

    fn notes_absence(&self) -> bool {
        !self.schema.load_options().negative_age.is_zero()
    }

    fn is_due(&self, key: KeyRef<'_>) -> bool {
        let ahead = self.refresh_ahead();
        ahead > 0 && self.table.deadline(key).is_some_and(|deadline| self.clock.now().saturating_add(ahead) >= deadline)
    }

    /// In ms.
    fn refresh_ahead(&self) -> u64 {
        u64::try_from(self.schema.refresh_ahead().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// A load that began when the ticket was taken has found nothing under this key. An object that has expired, or was to be loaded
    /// anew, ends with that, under all of its keys. A fresh object was stored while the load was under way: it exists.
    pub(super) fn store_absence(&self, key: KeyRef<'_>, ticket: Ticket) -> Fill {
        let hash = self.table.hash(key);
        self.change(|writer| {
            let now = self.clock.now();
            let stored = match self.table.leads(key) {
                _ if self.overtaken(writer, &[hash], ticket) => Stored::Overtaken,
                Some(id) if self.is_fresh(writer, id, now) => Stored::Overtaken,
                held => {
                    if let Some(id) = held {
                        self.retire(writer, id);
                    }
                    self.note(writer, hash, key, now)
                }
            };
            // The writer's lock is still held: nothing is touched in between.
            Fill::at(stored, self.take_ticket())
        })
    }

    /// Whether an object is served, and need not be loaded anew yet.
    fn is_fresh(&self, writer: &Writer, id: Id, now: u64) -> bool {
        let (Some(record), Some(pulse)) = (writer.records.get(id), writer.records.pulse(id)) else { return false };
        let due = now.saturating_add(self.refresh_ahead()) >= record.deadline;
        !due && now < pulse.used().saturating_add(self.ages.last_use)
    }

    /// Notes that the source has nothing under this key, where that is wanted.
    fn note(&self, writer: &mut Writer, hash: u64, key: KeyRef<'_>, now: u64) -> Stored {
        if !self.notes_absence() {
            return Stored::Accepted;
        }
        let life = u64::try_from(self.schema.load_options().negative_age.as_millis()).unwrap_or(u64::MAX).max(1);
        let bytes = if self.max_bytes > 0 { self.max_bytes / NOTES } else { u64::MAX };
        let room = Room { notes: self.max_objects, bytes };
        if !writer.absent.note(hash, key, now, now.saturating_add(life), room) {
            return Stored::Unfit;
        }
        self.make_room(writer);
        Stored::Accepted
    }
}
