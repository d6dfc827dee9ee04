//! Fences without an expiry: a fixed table in which every key has a slot that remembers the newest sequence of any key
//! in that slot.
//!
//! The rule behind C8 is that *every key remembers the newest sequence that invalidated or put it, whatever happens
//! to the key meanwhile*. A fence per key must expire some time, or memory grows without bound; then a fill that is
//! older than the fence needs a second rule, based on time. A slot never expires. Two keys that share a slot are fenced
//! together, which can only refuse a fill that could have been accepted: with 2¹⁶ slots, and 100 keys changed
//! while a load runs, a fill of four keys is refused for nothing once in 160 times, and its caller has the object all the same.
//!
//! The table of a Redis cache lives on the server, in one string with the epoch and the sequence, so that the server
//! cannot lose a fence without losing the epoch too; the memory connector has one in the process.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The number of slots. Part of the stored layout.
pub(crate) const SLOTS: usize = 1 << 16;

/// The slot of a key. Part of the stored layout: every release must find the same slot for the same key.
pub(crate) fn slot(index_name: &str, key: &[u8]) -> u16 {
    let seed = xxh3_64_with_seed(index_name.as_bytes(), 0);
    // The lower 16 bits; any would do.
    (xxh3_64_with_seed(key, seed) & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_part_of_the_stored_layout() {
        assert_eq!(slot("id", b"42"), slot("id", b"42"));
        assert_ne!(slot("id", b"42"), slot("host", b"42"));
    }
}
