//! Notes: keys for which a load has found that the source has nothing.

use super::expiring::{Expiring, STEPS};
use crate::contract::{KeyBuf, KeyRef};

/// Longer keys, in bytes, are not noted. So a note takes little room, even when an attacker makes up the keys.
const MAX_KEY: usize = 256;

/// What a note costs beyond its key, in bytes: the place in the table, the place in the order, and the allocation.
const OVERHEAD: u64 = 128;

/// How many notes there may be, and how many bytes all notes may take together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) notes: u64,
    pub(super) bytes: u64,
}

/// All notes, found by the hash of their key. When two keys have the same hash, the note of the later key replaces the note of the
/// earlier key. A note that is forgotten too early costs one load.
#[derive(Debug, Default)]
pub(super) struct Absent {
    notes: Expiring<KeyBuf>,
    bytes: u64,
}

fn weight(key: KeyRef<'_>) -> u64 {
    key.bytes.len() as u64 + OVERHEAD
}

impl Absent {
    /// What all notes take, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes a key, and forgets the oldest notes when there is no more room. An attacker who asks for ever more missing keys so gains
    /// nothing. Returns whether the key was noted.
    pub(super) fn note(&mut self, hash: u64, key: KeyRef<'_>, now: u64, until: u64, room: Room) -> bool {
        if key.bytes.len() > MAX_KEY || weight(key) > room.bytes {
            return false;
        }
        self.expire(now, STEPS);
        self.bytes += weight(key);
        if let Some(earlier) = self.notes.put(hash, until, key.to_buf()) {
            self.bytes -= weight(earlier.as_ref());
        }
        while self.notes.places() as u64 > room.notes.max(1) {
            self.forget_oldest();
        }
        self.shrink(room.bytes);
        true
    }

    /// Forgets the oldest notes until the rest takes no more than `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        while self.bytes > bytes && self.notes.places() > 0 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.notes.drop_oldest() {
            self.bytes -= weight(oldest.value.as_ref());
        }
    }

    pub(super) fn knows(&self, hash: u64, key: KeyRef<'_>, now: u64) -> bool {
        self.notes.get(hash, now).is_some_and(|noted| noted.as_ref() == key)
    }

    pub(super) fn forget(&mut self, hash: u64) {
        if let Some(noted) = self.notes.remove(hash) {
            self.bytes -= weight(noted.as_ref());
        }
    }

    /// Forgets notes that are over, in at most `steps` steps. Returns the number of steps taken.
    pub(super) fn expire(&mut self, now: u64, steps: usize) -> usize {
        let Self { notes, bytes } = self;
        notes.expire(now, steps, |noted| *bytes -= weight(noted.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> KeyRef<'_> {
        KeyRef { index: 0, bytes }
    }

    /// Notes a key of one letter, whose hash is the letter, for 10 ms.
    fn note(absent: &mut Absent, letter: u8, now: u64, room: Room) -> bool {
        absent.note(letter.into(), key(&[letter]), now, now + 10, room)
    }

    fn known(absent: &Absent, now: u64) -> String {
        (b'a'..=b'z').filter(|letter| absent.knows((*letter).into(), key(&[*letter]), now)).map(char::from).collect()
    }

    #[test]
    fn a_note_is_of_one_key_of_one_index_for_so_long() {
        let mut absent = Absent::default();
        let room = Room { notes: 3, bytes: u64::MAX };
        assert!(note(&mut absent, b'a', 0, room));
        assert!(absent.knows(u64::from(b'a'), key(b"a"), 9));
        assert!(!absent.knows(u64::from(b'a'), key(b"a"), 10));
        assert!(!absent.knows(u64::from(b'a'), KeyRef { index: 1, bytes: b"a" }, 9), "of another index");
        absent.forget(u64::from(b'a'));
        assert_eq!((known(&absent, 0), absent.bytes()), (String::new(), 0));
    }

    #[test]
    fn the_oldest_notes_make_room_for_new_ones() {
        let mut absent = Absent::default();
        let room = Room { notes: 3, bytes: u64::MAX };
        (b'a'..=b'e').for_each(|letter| assert!(note(&mut absent, letter, 0, room)));
        assert_eq!((known(&absent, 0).as_str(), absent.bytes()), ("cde", 3 * 129));

        let room = Room { notes: u64::MAX, bytes: 2 * 129 };
        assert!(note(&mut absent, b'f', 1, room));
        assert_eq!((known(&absent, 1).as_str(), absent.bytes()), ("ef", 2 * 129));
        assert!(!absent.note(7, key(b"long"), 1, 11, Room { notes: 9, bytes: 131 }), "there is room for less");
        assert!(!absent.note(7, key(&[b'x'; MAX_KEY + 1]), 1, 11, Room { notes: 9, bytes: u64::MAX }));
        assert_eq!(known(&absent, 1), "ef", "what is not noted pushes out nothing");
    }

    #[test]
    fn notes_that_come_and_go_take_no_more_and_no_more_room() {
        let mut absent = Absent::default();
        let room = Room { notes: 3, bytes: u64::MAX };
        for now in 0..1000 {
            assert!(note(&mut absent, b'a', now, room));
            absent.forget(u64::from(b'a'));
            assert!(absent.notes.places() <= 3);
        }
        assert_eq!(absent.bytes(), 0);
    }

    #[test]
    fn notes_that_are_over_leave_without_being_asked_for() {
        let mut absent = Absent::default();
        let room = Room { notes: u64::MAX, bytes: u64::MAX };
        (b'a'..=b'e').for_each(|letter| assert!(note(&mut absent, letter, 0, room)));
        for letter in [b'x', b'y', b'z'] {
            note(&mut absent, letter, 10, room);
        }
        assert_eq!((absent.bytes(), absent.notes.places()), (3 * 129, 3));
        assert_eq!(absent.expire(20, 2), 2);
        assert_eq!(absent.expire(20, 2), 1);
        assert_eq!(absent.bytes(), 0);
    }
}
