//! The objects that are stored on servers: one primary and three secondary keys, and a payload of a known size.

use larder::Entry;
use serde::{Deserialize, Serialize};

/// The number of an object's secondary keys, except in measurements that vary it.
pub(crate) const HOSTS: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Entry)]
#[entry(cache = "sample")]
pub(crate) struct Sample {
    #[key(primary)]
    id: String,
    #[key(index = "host")]
    hosts: Vec<String>,
    content: String,
}

/// The size of an object and the number of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The size of the object as MessagePack, in bytes.
    pub(crate) payload: usize,
    /// The number of secondary keys.
    pub(crate) hosts: u32,
}

impl Shape {
    pub(crate) fn of(payload: usize) -> Self {
        Self { payload, hosts: HOSTS }
    }

    /// The object with this number. If its keys alone are larger than the payload, it has no content.
    pub(crate) fn object(self, number: u32) -> Sample {
        let hosts = (0..self.hosts).map(|which| host(number, which)).collect();
        let mut sample = Sample { id: id(number), hosts, content: String::new() };
        let missing = |sample: &Sample| self.payload.saturating_sub(packed(sample).len());
        sample.content = "x".repeat(missing(&sample));
        // MessagePack needs more bytes for the length of a longer text.
        let excess = packed(&sample).len().saturating_sub(self.payload);
        let length = sample.content.len().saturating_sub(excess);
        sample.content.truncate(length);
        sample
    }
}

/// Eighteen digits, as ids often are.
pub(crate) fn id(number: u32) -> String {
    format!("{:018}", u64::from(number) * 2_147_483_647 + 100_000_000_000_000_000)
}

/// About as long as an id.
pub(crate) fn host(number: u32, which: u32) -> String {
    format!("h{which:02}-{number:08}.test")
}

/// MessagePack with named fields, as larder encodes it.
pub(crate) fn packed(sample: &Sample) -> Vec<u8> {
    // Serialising text into memory cannot fail.
    rmp_serde::to_vec_named(sample).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_as_large_as_asked_for() {
        for payload in [300, 2_000, 20_000, 1_000_000] {
            let length = packed(&Shape::of(payload).object(7)).len();
            assert!((payload - 2..=payload).contains(&length), "{length} for {payload}");
        }
        assert_eq!(packed(&Shape { payload: 100, hosts: 0 }.object(7)).len(), 100);
        assert!(packed(&Shape::of(10).object(7)).len() > 10);
    }

    #[test]
    fn keys_are_equally_long_whatever_the_number() {
        for number in [0, 99_999_999] {
            assert_eq!((id(number).len(), host(number, 63).len()), (18, 17));
        }
    }
}
