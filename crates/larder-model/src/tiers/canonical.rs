//! Makes states that differ only in names equal. Names are: the counters in the table, of which only equality matters; the order of nodes with
//! the same role.

use super::node::Node;
use super::{Tiers, World};

impl Node {
    /// The counters that the server's table, the replica's and an observer have of this node.
    pub(super) fn counters(&self) -> [Option<u8>; 3] {
        [self.entry_in_table, self.entry_saved, self.seen.map(|(entry, _)| entry)]
            .map(|entry| entry.map(|it| it.counter))
    }

    fn rename_counters(&mut self) {
        let counters = self.counters();
        let entries = [&mut self.entry_in_table, &mut self.entry_saved].into_iter().filter_map(Option::as_mut);
        for entry in entries.chain(self.seen.as_mut().map(|(entry, _)| entry)) {
            let place = counters.iter().position(|counter| *counter == Some(entry.counter));
            entry.counter = place.and_then(|place| u8::try_from(place).ok()).unwrap_or(entry.counter);
        }
    }
}

impl Tiers {
    pub(super) fn rename(&self, world: &mut World) {
        world.nodes.iter_mut().for_each(Node::rename_counters);
        if !self.canonical {
            return;
        }
        let mut from = 0;
        for of_one_role in self.scene.nodes.chunk_by(PartialEq::eq) {
            let to = from + of_one_role.len();
            world.nodes[from..to].sort_unstable();
            from = to;
        }
    }
}
