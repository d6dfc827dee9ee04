//! What a caller that may load is told of a key, and what becomes of the key when its load has found nothing.

use super::absent::Room;
use super::table::Id;
use super::{Memory, Writer};
use crate::contract::{Fill, KeyRef, Lookup, Miss, Stored, Ticket};

/// Notes take at most a tenth of the bytes. So a cache that is full of objects still has room for notes, and a flood of keys that do not
/// exist takes no more room than that from the objects.
const NOTES: u64 = 10;

impl Memory {
    /// Looks a key up for a caller that may load it. The ticket is taken after the look: a change in between is older than the ticket,
    /// and the load that begins after it sees that change.
    pub(super) fn look(&self, key: KeyRef<'_>) -> Lookup {
        let cause = match self.find(key) {
            Ok(value) => return Lookup::Hit { value, due: self.is_due(key) },
            Err(cause) => cause,
        };
        // Ask for a note also when an expired object was found: the note is newer than the object.
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

    /// How long before its max age is over an object is to be loaded anew, in ms.
    fn refresh_ahead(&self) -> u64 {
        u64::try_from(self.schema.refresh_ahead().as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Stores that a load, which began when the ticket was taken, has found nothing under this key.
    ///
    /// If the key leads to an object that has expired, or that was to be loaded anew, the object ends under all of its keys. If the
    /// key leads to a fresh object, the object was stored while the load was under way: it stays, and the load is overtaken.
    pub(super) fn store_absence(&self, key: KeyRef<'_>, ticket: Ticket) -> Fill {
        let hash = self.table.hash(key);
        self.change(|writer| {
            let now = self.clock.now();
            let stored = match self.table.find_undeleted(key) {
                _ if self.overtaken(writer, &[hash], ticket) => Stored::Overtaken,
                Some(id) if self.is_fresh(writer, id, now) => Stored::Overtaken,
                held => {
                    if let Some(id) = held {
                        self.retire(writer, id);
                    }
                    self.note(writer, hash, key, now)
                }
            };
            // The writer's lock is still held, so nothing is changed between the fill and its ticket.
            Fill::at(stored, self.take_ticket())
        })
    }

    /// Whether an object may be served and is not yet due to be loaded anew.
    fn is_fresh(&self, writer: &Writer, id: Id, now: u64) -> bool {
        let (Some(record), Some(pulse)) = (writer.records.get(id), writer.records.pulse(id)) else { return false };
        let due = now.saturating_add(self.refresh_ahead()) >= record.deadline;
        !due && now < pulse.used().saturating_add(self.ages.last_use)
    }

    /// Notes that the source has nothing under this key, if the options ask for notes.
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
