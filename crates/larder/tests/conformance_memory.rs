//! The memory connector keeps larder's contract.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use larder::clock::{Clock, ManualClock};
use larder::connector::memory::{Memory, MemoryOptions};
use larder::contract::{KeyRef, Object};
use larder::{Connector, Schema};
use larder_testing::conformance::Ability::{No, Yes};
use larder_testing::conformance::{Nature, Subject};
use larder_testing::entries::Site;
use larder_testing::model::{self, Settings};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

larder_testing::conformance! { Private::new(MAX_OBJECTS) }

#[tokio::test]
async fn random_operations() {
    model::run(&Private::new(MAX_OBJECTS), &Settings::default()).await;
}

#[tokio::test]
async fn random_operations_with_room_for_two_objects() {
    model::run(&Private::new(2), &Settings { may_forget: true, ..Settings::default() }).await;
}

/// More than any case stores.
const MAX_OBJECTS: u64 = 2000;

/// The name of the cache, and the fingerprint of the entry.
type Name = (Arc<str>, u64);

/// One process, whose nodes are all the same.
struct Private {
    opened: Mutex<HashMap<Name, Arc<Memory>>>,
    max_objects: u64,
    clock: Clock,
    hand: ManualClock,
}

impl Private {
    fn new(max_objects: u64) -> Self {
        let (clock, hand) = Clock::manual();
        Self { opened: Mutex::default(), max_objects, clock, hand }
    }

    fn all_of(&self, cache: &str) -> Vec<Arc<Memory>> {
        let opened = self.opened.lock().unwrap();
        opened.iter().filter(|(name, _)| *name.0 == *cache).map(|(_, memory)| memory.clone()).collect()
    }
}

impl Subject for Private {
    fn nature(&self) -> Nature {
        Nature {
            shared: No("the memory connector keeps what one process stores, and a process is one release"),
            exact_time: Yes,
            bytes: No("the memory connector keeps objects as they are"),
            evicts: Yes,
            leases: No("the memory connector has no other node whose load could be waited for"),
            absences: Yes,
            expired: Yes,
            outages: No("the memory connector has no server that could be away"),
            at_once: Yes,
        }
    }

    async fn open(&self, _node: usize, schema: Schema) -> Arc<dyn Connector> {
        let options = MemoryOptions::new().max_objects(self.max_objects);
        let mut opened = self.opened.lock().unwrap();
        let name = (schema.cache().into(), schema.fingerprint());
        let open = || Arc::new(Memory::on_clock(schema, options, self.clock.clone()).unwrap());
        opened.entry(name).or_insert_with(open).clone()
    }

    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
    }

    /// Fills it with so many other objects that are in use that nothing else can stay, however often it was used.
    async fn evict(&self, cache: &str) {
        for memory in self.all_of(cache) {
            for n in 0..MAX_OBJECTS * 5 {
                let id = format!("in the way {n}");
                let object = Object::new(id.as_bytes(), Vec::new(), None, Arc::new(Site::new(&id, &[], "")));
                let ticket = memory.ticket().await.unwrap();
                memory.fill(object, ticket).await;
                for _ in 0..2 {
                    let _ = memory.get(KeyRef { index: 0, bytes: id.as_bytes() }).await;
                }
            }
        }
    }
}
