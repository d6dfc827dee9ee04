//! A hash of an object's MessagePack that depends on no order.
//!
//! Two encodings of the same object may differ in the order of a hash map or a hash set. In the bytes a hash set looks like any other
//! list, so the hash ignores the order of all lists and maps. Encodings that differ only in order have the same hash. The price: two
//! lists that differ only in their order have the same hash, too.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// How deep values may be nested. Only recursive types are deeper; the bytes of a deeper value are hashed as they are.
const DEPTH: u32 = 200;

/// The hash of a MessagePack value. Bytes that are no MessagePack are hashed as they are.
pub(crate) fn order_free_hash(bytes: &[u8]) -> u64 {
    match value(bytes, DEPTH) {
        Some((hash, [])) => hash,
        _ => xxh3_64(bytes),
    }
}

/// The hash of the first value in `bytes`, and the bytes after it.
fn value(bytes: &[u8], depth: u32) -> Option<(u64, &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    let length = |size: usize| -> Option<(usize, &[u8])> {
        let (digits, rest) = rest.split_at_checked(size)?;
        let length = digits.iter().fold(0_usize, |length, digit| (length << 8) | usize::from(*digit));
        Some((length, rest))
    };
    let (count, after, pairs) = match marker {
        0x80..=0x8f => (usize::from(marker & 0x0f), rest, true),
        0x90..=0x9f => (usize::from(marker & 0x0f), rest, false),
        0xdc | 0xdd => {
            let (count, rest) = length(if *marker == 0xdc { 2 } else { 4 })?;
            (count, rest, false)
        }
        0xde | 0xdf => {
            let (count, rest) = length(if *marker == 0xde { 2 } else { 4 })?;
            (count, rest, true)
        }
        _ => {
            let size = match marker {
                0x00..=0x7f | 0xe0..=0xff | 0xc0..=0xc3 => 0,
                0xa0..=0xbf => usize::from(marker & 0x1f),
                0xc4 | 0xd9 => 1 + length(1)?.0,
                0xc5 | 0xda => 2 + length(2)?.0,
                0xc6 | 0xdb => 4 + length(4)?.0,
                0xc7 => 2 + length(1)?.0,
                0xc8 => 3 + length(2)?.0,
                0xc9 => 5 + length(4)?.0,
                0xcc | 0xd0 => 1,
                0xcd | 0xd1 | 0xd4 => 2,
                0xd5 => 3,
                0xca | 0xce | 0xd2 => 4,
                0xd6 => 5,
                0xcb | 0xcf | 0xd3 => 8,
                0xd7 => 9,
                0xd8 => 17,
                _ => return None,
            };
            let (leaf, rest) = bytes.split_at_checked(1 + size)?;
            return Some((xxh3_64(leaf), rest));
        }
    };
    let mut rest = after;
    let mut sum = 0_u64;
    for _ in 0..count {
        let (mut item, next) = value(rest, depth.checked_sub(1)?)?;
        rest = next;
        if pairs {
            let (second, next) = value(rest, depth.checked_sub(1)?)?;
            rest = next;
            item = xxh3_64_with_seed(&second.to_be_bytes(), item);
        }
        sum = sum.wrapping_add(xxh3_64(&item.to_be_bytes()));
    }
    Some((xxh3_64_with_seed(&sum.to_be_bytes(), count as u64 * 2 + u64::from(pairs)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use std::collections::{BTreeMap, HashMap, HashSet};

    #[derive(Clone, Serialize)]
    struct Everything {
        text: String,
        long: String,
        bytes: Vec<u8>,
        numbers: (i8, u16, i32, u64, f32, f64, bool, Option<u8>),
        map: HashMap<String, u32>,
        set: HashSet<u32>,
        nested: Vec<BTreeMap<u8, Vec<&'static str>>>,
        many: Vec<u32>,
    }

    fn everything() -> Everything {
        Everything {
            text: "barley".into(),
            long: "x".repeat(70_000),
            bytes: vec![0, 1, 255],
            numbers: (-100, 60_000, -70_000, u64::MAX, 0.5, f64::MIN, true, None),
            map: (0..100).map(|n| (n.to_string(), n)).collect(),
            set: (0..100).collect(),
            nested: vec![BTreeMap::from([(1, vec!["a", "b"]), (2, vec![])])],
            many: (0..70_000).collect(),
        }
    }

    fn of(value: &impl Serialize) -> u64 {
        order_free_hash(&rmp_serde::to_vec_named(value).unwrap())
    }

    #[test]
    fn the_order_of_a_hash_map_or_set_counts_for_nothing() {
        let (one, other) = (everything(), everything());
        let encoded = |value| rmp_serde::to_vec_named(value).unwrap();
        assert_ne!(encoded(&one), encoded(&other), "they come in another order each time");
        assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn whatever_else_differs_is_noticed() {
        let known = of(&everything());
        let change = |change: fn(&mut Everything)| {
            let mut other = everything();
            change(&mut other);
            of(&other)
        };
        for other in [
            change(|other| other.text.push('x')),
            change(|other| other.long.push('x')),
            change(|other| other.bytes.push(1)),
            change(|other| other.numbers.0 += 1),
            change(|other| other.numbers.7 = Some(0)),
            change(|other| other.map.extend([("7".to_owned(), 8)])),
            change(|other| other.map.retain(|key, _| key != "7")),
            change(|other| other.set.retain(|item| *item != 7)),
            change(|other| other.nested.push(BTreeMap::new())),
            change(|other| other.nested[0].extend([(2, vec!["a", "a"])])),
            change(|other| other.many.push(7)),
        ] {
            assert_ne!(other, known);
        }
    }

    #[test]
    fn a_value_that_moves_to_another_name_is_noticed() {
        assert_ne!(of(&BTreeMap::from([("a", 1), ("b", 2)])), of(&BTreeMap::from([("a", 2), ("b", 1)])));
        assert_ne!(of(&vec![vec![1, 2], vec![3]]), of(&vec![vec![1], vec![2, 3]]));
        assert_ne!(of(&vec![1, 1]), of(&vec![1]));
    }

    #[test]
    fn bytes_that_are_no_message_pack_are_taken_as_they_are() {
        for bytes in [&b""[..], &[0xc1], &[0xa5, b'x'], &[0x91; 1000], &[0x01, 0x02], &[0xdf, 255, 255, 255, 255]] {
            assert_eq!(order_free_hash(bytes), xxh3_64(bytes));
        }
    }
}
