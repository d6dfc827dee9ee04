//! Which node of a cluster has which keys: [`slot_of`] a key, and the primary of each slot ([`Slots`]).

use super::options::Address;
use redis::Value;

/// How many slots a cluster has.
const COUNT: u16 = 16_384;

/// The slot of a key. Keys with the same hash tag, which is what stands between the first `{` and the next `}`, are in one slot.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % COUNT
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}')?;
    // An empty tag is none.
    rest.get(..close).filter(|tag| !tag.is_empty())
}

/// CRC-16/XMODEM, as the cluster specification asks.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    })
}

/// A node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) address: Address,
    /// The name that its certificate may bear, where the address is a number.
    pub(crate) name: Option<String>,
}

/// The primaries of the slots, as a node has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// First and last slot, and who has them. What is found first holds.
    ranges: Vec<(u16, u16, Node)>,
    /// How many replicas the primaries have in all.
    pub(crate) replicas: usize,
}

impl Slots {
    /// Reads the reply to CLUSTER SLOTS of the node that was asked at this host. `None`: the reply has not the expected shape.
    pub(crate) fn read(reply: &Value, asked: &str) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let mut slots = Self::default();
        for range in ranges {
            let Value::Array(parts) = range else { return None };
            let [first, last, primary, replicas @ ..] = parts.as_slice() else { return None };
            let number = |value: &Value| match value {
                Value::Int(number) => u16::try_from(*number).ok().filter(|slot| *slot < COUNT),
                _ => None,
            };
            // A node whose address nobody knows yet is left out: its slots have no primary for now.
            if let Some(primary) = node(primary, asked)? {
                if slots.primaries().iter().all(|known| known.address != primary.address) {
                    slots.replicas += replicas.len();
                }
                slots.ranges.push((number(first)?, number(last)?, primary));
            }
        }
        Some(slots)
    }

    pub(crate) fn primary(&self, slot: u16) -> Option<&Node> {
        self.ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&slot)).map(|(.., node)| node)
    }

    /// How many slots nobody serves.
    pub(crate) fn unserved(&self) -> usize {
        (0..COUNT).filter(|slot| self.primary(*slot).is_none()).count()
    }

    /// A hash tag whose slot this node has. `None`: it has no slot, or next to none.
    pub(crate) fn tag_of(&self, address: &Address) -> Option<String> {
        let is_there =
            |tag: &String| self.primary(slot_of(tag.as_bytes())).is_some_and(|node| node.address == *address);
        (0..10 * u32::from(COUNT)).map(|number| number.to_string()).find(is_there)
    }

    /// Each primary once.
    pub(crate) fn primaries(&self) -> Vec<&Node> {
        let mut primaries: Vec<&Node> = Vec::new();
        for (.., node) in &self.ranges {
            if !primaries.iter().any(|known| known.address == node.address) {
                primaries.push(node);
            }
        }
        primaries
    }

    /// The same, but this slot has moved to this address.
    #[must_use]
    pub(crate) fn moved(&self, slot: u16, to: &Address) -> Self {
        let known = self.primaries().into_iter().find(|node| node.address == *to).cloned();
        let node = known.unwrap_or_else(|| Node { address: to.clone(), name: None });
        let rest = self.ranges.iter().filter(|(first, last, _)| (*first, *last) != (slot, slot)).cloned();
        Self { ranges: std::iter::once((slot, slot, node)).chain(rest).collect(), replicas: self.replicas }
    }
}

/// A node of the reply: host, port, id, and in newer servers a list of names and values. `Some(None)`: its address is not known. `None`: the
/// node has not the expected shape.
fn node(reply: &Value, asked: &str) -> Option<Option<Node>> {
    let Value::Array(parts) = reply else { return None };
    let [host, Value::Int(port), rest @ ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::Nil => asked.to_owned(),
        host => match text(host)? {
            "" => asked.to_owned(),
            "?" => return Some(None),
            host => host.to_owned(),
        },
    };
    let port = u16::try_from(*port).ok()?;
    if port == 0 {
        return Some(None);
    }
    let name = rest.get(1).and_then(hostname);
    Some(Some(Node { address: Address::Tcp { host, port }, name }))
}

fn hostname(metadata: &Value) -> Option<String> {
    let (names, found): (Vec<&Value>, Vec<&Value>) = match metadata {
        Value::Array(items) => (items.iter().step_by(2).collect(), items.iter().skip(1).step_by(2).collect()),
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).unzip(),
        _ => return None,
    };
    let (_, value) = names.into_iter().zip(found).find(|(name, _)| text(name) == Some("hostname"))?;
    text(value).filter(|name| !name.is_empty() && *name != "?").map(str::to_owned)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    /// The checksum and the tags are those of the cluster specification; the numbers were asked of a server (CLUSTER KEYSLOT).
    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"), "the tag is `{{bar`");
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_eq!((slot_of(b"foo"), slot_of(b"bar"), slot_of(b"")), (12_182, 5_061, 0));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"), "an empty tag is none");
    }

    fn reply() -> Value {
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(vec![])]);
        let range =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let named = Value::Array(vec![
            bulk("10.0.0.3"),
            Value::Int(7002),
            bulk("id"),
            Value::Array(vec![bulk("hostname"), bulk("c.internal")]),
        ]);
        Value::Array(vec![
            range(0, 5460, vec![node(bulk("10.0.0.1"), 7000), node(bulk("10.0.0.9"), 7009)]),
            range(5461, 10_922, vec![node(Value::Nil, 7001)]),
            range(10_923, 16_000, vec![named]),
            range(16_001, 16_383, vec![node(bulk("?"), 7003)]),
        ])
    }

    #[test]
    fn a_node_without_a_host_is_the_one_that_was_asked_and_one_without_an_address_is_none() {
        let slots = Slots::read(&reply(), "10.0.0.2").unwrap();
        assert_eq!(slots.primary(0).unwrap().address, at("10.0.0.1", 7000));
        assert_eq!(slots.primary(10_922).unwrap().address, at("10.0.0.2", 7001));
        assert_eq!(slots.primary(10_923).unwrap().name.as_deref(), Some("c.internal"));
        assert_eq!(slots.primary(16_001), None);
        assert_eq!((slots.primaries().len(), slots.replicas), (3, 1));
        assert_eq!(slots.unserved(), 383);
        let first = &slots.primaries()[0].address;
        assert!(slot_of(slots.tag_of(first).unwrap().as_bytes()) <= 5_460);
        assert_eq!(slots.tag_of(&at("10.0.0.9", 1)), None);
    }

    /// A server that has a port for TLS only says port 0 to a client without TLS.
    #[test]
    fn an_empty_host_is_that_of_the_one_that_was_asked_and_port_0_is_no_address() {
        let range = |first, last, host: &str, port| {
            let node = Value::Array(vec![bulk(host), Value::Int(port), bulk("id")]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node])
        };
        let reply = Value::Array(vec![range(0, 99, "", 7000), range(100, 16_383, "10.0.0.1", 0)]);
        let slots = Slots::read(&reply, "10.0.0.2").unwrap();
        assert_eq!(slots.primary(99).unwrap().address, at("10.0.0.2", 7000));
        assert_eq!((slots.primary(100), slots.unserved()), (None, 16_284));
    }

    #[test]
    fn a_slot_that_has_moved_is_elsewhere_and_the_others_are_not() {
        let slots = Slots::read(&reply(), "x").unwrap();
        let moved = slots.moved(7, &at("10.0.0.3", 7002));
        assert_eq!(moved.primary(7).unwrap().name.as_deref(), Some("c.internal"), "a node that is known");
        assert_eq!((moved.primary(6), moved.primary(8)), (slots.primary(6), slots.primary(8)));
        assert_eq!(moved.moved(7, &at("10.0.0.1", 7000)).primary(7).unwrap().address, at("10.0.0.1", 7000));
    }

    #[test]
    fn what_is_no_such_reply_is_none() {
        assert_eq!(Slots::read(&Value::Int(1), "x"), None);
        assert_eq!(Slots::read(&Value::Array(vec![Value::Array(vec![Value::Int(0)])]), "x"), None);
        let beyond = Value::Array(vec![
            Value::Int(0),
            Value::Int(16_384),
            Value::Array(vec![bulk("h"), Value::Int(1), bulk("id")]),
        ]);
        assert_eq!(Slots::read(&Value::Array(vec![beyond]), "x"), None);
    }
}
