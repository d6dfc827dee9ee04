//! Keys under which the source is known to have nothing.

use crate::connector::{KeyBuf, KeyRef};
use std::collections::HashMap;

/// Longer keys, in bytes, are not remembered: so the whole takes no more memory than so many objects would.
const MAX_KEY: usize = 256;

/// Until when each is known; never more of them than a limit.
#[derive(Debug, Default)]
pub(super) struct Absent {
    until: HashMap<KeyBuf, u64>,
}

impl Absent {
    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }

    /// Whether it was remembered.
    pub(super) fn remember(&mut self, key: KeyRef<'_>, now: u64, until: u64, limit: u64) -> bool {
        if key.bytes.len() > MAX_KEY {
            return false;
        }
        if self.until.len() as u64 >= limit {
            self.until.retain(|_, until| *until > now);
        }
        // All of them new: who asks for so much that is not there gains nothing by asking for more.
        if self.until.len() as u64 >= limit {
            self.until.clear();
        }
        self.until.insert(key.to_buf(), until);
        true
    }

    pub(super) fn knows(&self, key: KeyRef<'_>, now: u64) -> bool {
        !self.is_empty() && self.until.get(&key.to_buf()).is_some_and(|until| now < *until)
    }

    pub(super) fn forget<'a>(&mut self, keys: impl Iterator<Item = KeyRef<'a>>) {
        if !self.is_empty() {
            keys.for_each(|key| {
                self.until.remove(&key.to_buf());
            });
        }
    }

    pub(super) fn prune(&mut self, now: u64) {
        self.until.retain(|_, until| *until > now);
    }

    pub(super) fn clear(&mut self) {
        self.until.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut absent = Absent::default();
        let remember =
            |absent: &mut Absent, bytes: &[u8], now| absent.remember(KeyRef { index: 0, bytes }, now, now + 10, 3);
        for key in [b"a", b"b", b"c"] {
            assert!(remember(&mut absent, key, 0));
        }
        assert!(remember(&mut absent, b"d", 10), "the others are over");
        assert!(absent.knows(KeyRef { index: 0, bytes: b"d" }, 19));
        assert!(!absent.knows(KeyRef { index: 0, bytes: b"d" }, 20));
        assert!(!absent.knows(KeyRef { index: 1, bytes: b"d" }, 10), "of another index");
        for key in [b"e", b"f", b"g"] {
            assert!(remember(&mut absent, key, 10));
            assert!(absent.until.len() <= 3);
        }
        assert!(!remember(&mut absent, &[b'x'; MAX_KEY + 1], 10));
    }
}
