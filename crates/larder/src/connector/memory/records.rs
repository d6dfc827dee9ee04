//! What only changes need to know of each object, found by the place of its pulse; and the pulses themselves.

use super::pulse::{BLOCK, Block, Pulse};
use super::table::Id;
use std::sync::Arc;

/// What a writer knows of one object.
#[derive(Debug)]
pub(super) struct Record {
    /// The hash of each key, the primary key first. With these hashes the table finds the object's places again.
    pub(super) hashes: Box<[u64]>,
    pub(super) version: Option<u64>,
    /// In bytes.
    pub(super) weight: u64,
    /// When the max age of the object is over, in ms of the clock.
    pub(super) deadline: u64,
    /// How many keys have not been deleted.
    pub(super) keys: u32,
}

impl Record {
    pub(super) fn primary(&self) -> u64 {
        self.hashes.first().copied().unwrap_or_default()
    }
}

/// Names one object for ever. When the object has left and its place belongs to another object, the name leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) id: Id,
    /// The object is the owner of its place with this number, counted from 1.
    owner: u32,
}

#[derive(Debug, Default)]
pub(super) struct Records {
    blocks: Vec<Arc<Block>>,
    /// One for each pulse: how many owners the place has had, and the object that owns it now.
    slots: Vec<(u32, Option<Record>)>,
    free: Vec<Id>,
}

impl Records {
    /// Gives a new object a place.
    pub(super) fn add(&mut self, record: Record) -> Name {
        let id = self.free.pop().unwrap_or_else(|| {
            let first = self.slots.len() as Id;
            self.blocks.push(Arc::new(Block::new(first / BLOCK as Id)));
            self.slots.extend((0..BLOCK).map(|_| (0, None)));
            self.free.extend((first + 1..first + BLOCK as Id).rev());
            first
        });
        let mut owner = 0;
        if let Some(slot) = self.slots.get_mut(id as usize) {
            slot.0 = slot.0.wrapping_add(1);
            owner = slot.0;
            slot.1 = Some(record);
        }
        Name { id, owner }
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Record> {
        let record = self.slots.get_mut(id as usize)?.1.take()?;
        self.free.push(id);
        Some(record)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Record> {
        self.slots.get(id as usize)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Record> {
        self.slots.get_mut(id as usize)?.1.as_mut()
    }

    /// The object with this name, if it has not left.
    pub(super) fn named(&self, name: Name) -> Option<&Record> {
        let (owner, record) = self.slots.get(name.id as usize)?;
        record.as_ref().filter(|_| *owner == name.owner)
    }

    /// How many places there are, empty ones included.
    pub(super) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn block(&self, id: Id) -> Option<(&Arc<Block>, u8)> {
        let block = self.blocks.get(id as usize / BLOCK)?;
        Some((block, (id as usize % BLOCK) as u8))
    }

    pub(super) fn pulse(&self, id: Id) -> Option<&Pulse> {
        self.block(id).map(|(block, place)| block.pulse(place))
    }
}
