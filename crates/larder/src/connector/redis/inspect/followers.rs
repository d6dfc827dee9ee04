//! Which nodes keep a cache in their own memory, as the clock of the cache says it: its epoch, and the table behind its log (`lua/follow.lua`).

use crate::connector::redis::single::waiting::ENTRY;
use crate::contract::{Consistency, Following};
use std::time::Duration;

/// How nodes keep a cache in their own memory, and how far each of them knows the log of the cache's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Followers {
    /// What a change waits for.
    pub consistency: Consistency,
    /// How long a node may read its memory after it has last followed; a multiple of 25 ms.
    pub validity: Duration,
    /// The nodes that a change waits for. Empty unless the consistency is [strict](Consistency::Strict): otherwise a change waits for no node, and
    /// nodes do not say what they know.
    ///
    /// A node that has died stays here until a change has waited for it in vain.
    pub nodes: Vec<Follower>,
}

/// A node that keeps a cache in its own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Follower {
    /// A random number that the node has given itself. It stays the same until the node closes the cache.
    pub id: u64,
    /// How many marks the log has that the node had not applied when it last followed: its lag, in touched keys. `None`: the node follows an
    /// earlier epoch. It forgets everything when it follows next.
    pub behind: Option<u64>,
}

/// What the clock says of followers. `table` is everything behind the log. `None`: no node keeps the cache in its own memory.
pub(super) fn read(epoch: u64, sequence: u64, table: &[u8]) -> Option<Followers> {
    let following = Following::of(epoch)?;
    let (entries, _) = table.as_chunks::<ENTRY>();
    let nodes = entries.iter().filter_map(|entry| {
        let [id, follows, knows, _] = words(entry);
        // The head of the log may have been read before the table was, so a node may seem to be ahead of it.
        let behind = (follows == epoch).then(|| sequence.saturating_sub(knows));
        // An empty place is all zeros.
        (id != 0).then_some(Follower { id, behind })
    });
    Some(Followers { consistency: following.consistency, validity: following.validity(), nodes: nodes.collect() })
}

/// The four words of an entry: the follower, the epoch that it follows, up to which sequence it knows the log, and a counter.
fn words(entry: &[u8; ENTRY]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(entry.as_chunks::<8>().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(words: [u64; 4]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn each_follower_is_told_with_its_lag() {
        let following = Following::new(Consistency::Strict, Duration::from_millis(300)).unwrap();
        let (epoch, before) = (Following::new_epoch(Some(following)), Following::new_epoch(Some(following)));
        let table = [[7, epoch, 40, 1], [0, 0, 0, 0], [8, epoch, 37, 9], [9, before, 99, 2], [6, epoch, 41, 1]];
        let followers = read(epoch, 40, &table.map(entry).concat()).unwrap();
        assert_eq!((followers.consistency, followers.validity), (Consistency::Strict, Duration::from_millis(300)));
        let nodes: Vec<_> = followers.nodes.iter().map(|node| (node.id, node.behind)).collect();
        assert_eq!(nodes, [(7, Some(0)), (8, Some(3)), (9, None), (6, Some(0))]);
        assert_eq!(read(epoch, 40, &[]).unwrap().nodes, []);
        assert_eq!(read(Following::new_epoch(None), 40, &entry([7, 7, 7, 7])), None, "nobody follows");
    }
}
