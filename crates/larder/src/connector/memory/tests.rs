use super::*;
use crate::{Entry, Index, Keys};
use serde::{Deserialize, Serialize};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

mod bounds;
mod nothing;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    id: u32,
    hosts: Vec<String>,
}

impl Item {
    const ID: Index<Self, u32> = Index::at::<0>();
    const HOST: Index<Self, String> = Index::at::<1>();
}

impl Entry for Item {
    const CACHE: &'static str = "item";
    const INDEXES: &'static [&'static str] = &["id", "host"];

    fn keys(&self, keys: &mut Keys<Self>) {
        keys.add(Self::ID, self.id);
        self.hosts.iter().for_each(|host| keys.add(Self::HOST, host));
    }

    fn weight(&self) -> Option<u64> {
        Some(1000)
    }
}

fn memory(max_objects: u64, max_bytes: u64) -> Memory {
    Memory::open(Schema::of::<Item>(), MemoryOptions { max_objects, max_bytes, ..MemoryOptions::default() }).unwrap()
}

fn object(id: u32) -> Object {
    let item = Item { id, hosts: vec![format!("{id}.example")] };
    let host = KeyBuf { index: 1, bytes: item.hosts[0].as_bytes().into() };
    let primary = id.to_string().into_bytes().into();
    Object { primary, secondary: vec![host], version: None, value: Arc::new(item) }
}

fn fill(memory: &Memory, id: u32) {
    assert_eq!(memory.store(object(id), Some(memory.take_ticket()), false).stored, Stored::Accepted);
}

fn holds(memory: &Memory, id: u32) -> bool {
    let (id_key, host) = (id.to_string(), format!("{id}.example"));
    let by_id = memory.find(KeyRef { index: 0, bytes: id_key.as_bytes() }).is_ok();
    let by_host = memory.find(KeyRef { index: 1, bytes: host.as_bytes() }).is_ok();
    assert_eq!(by_id, by_host, "an object is there under all of its keys or under none");
    by_id
}

/// Checks what must be true of the whole cache after every operation.
fn check(memory: &Memory) {
    let writer = memory.writer.lock();
    let records: Vec<_> =
        (0..writer.records.places()).filter_map(|place| writer.records.get(u32::try_from(place).unwrap())).collect();
    assert_eq!(records.len() as u64, writer.objects);
    assert_eq!(records.iter().map(|record| record.weight).sum::<u64>(), writer.bytes);
    assert!(records.len() as u64 <= memory.max_objects);
    assert!(memory.max_bytes == 0 || writer.bytes + writer.absent.bytes() <= memory.max_bytes);
    assert_eq!(memory.table.len(), records.iter().map(|record| record.hashes.len()).sum::<usize>());
    assert!(writer.gone.is_empty());
}

/// The coarse clock lags further than one tick where the processor that sets it is kept from it.
#[test]
fn an_object_is_not_served_after_its_end_however_the_coarse_clock_lags() {
    for (max_age, last_use_age) in [(5_000, 0), (0, 5_000)] {
        let (clock, hand) = Clock::manual();
        let ms = Duration::from_millis;
        let schema = Schema::of::<Item>().ages(ms(max_age), ms(last_use_age));
        let memory = Memory::on_clock(schema, MemoryOptions::default(), clock).unwrap();
        fill(&memory, 1);
        hand.lag(ms(900));
        hand.advance(ms(5_000));
        assert!(!holds(&memory, 1), "{max_age} {last_use_age}");
    }
}

#[test]
fn never_more_objects_than_it_may_hold_and_each_leaves_with_all_of_its_keys() {
    let memory = memory(100, 0);
    for id in 0..1000 {
        fill(&memory, id);
        check(&memory);
    }
    assert_eq!((0..1000).filter(|id| holds(&memory, *id)).count(), 100);
    assert_eq!(memory.schema.stats.evicted.get(), 900);
}

#[test]
fn never_more_bytes_than_it_may_hold() {
    let memory = memory(u64::MAX, 20_000);
    for id in 0..100 {
        fill(&memory, id);
        check(&memory);
        assert!(memory.status().bytes <= Some(20_000));
    }
    assert!(memory.status().objects >= Some(10));
}

#[test]
fn an_object_heavier_than_all_there_is_room_for_is_not_stored_and_pushes_out_nothing() {
    let memory = memory(u64::MAX, 5_000);
    fill(&memory, 1);
    let heavy = Object { secondary: (0..100).map(|n| KeyBuf { index: 1, bytes: [n].into() }).collect(), ..object(2) };
    assert_eq!(memory.store(heavy, Some(memory.take_ticket()), false).stored, Stored::Unfit);
    assert!(holds(&memory, 1));
}

#[test]
fn a_scan_does_not_push_out_what_is_in_use() {
    let memory = memory(100, 0);
    for id in 0..50 {
        fill(&memory, id);
        assert!(holds(&memory, id));
    }
    for id in 1000..5000 {
        fill(&memory, id);
    }
    assert_eq!((0..50).filter(|id| holds(&memory, *id)).count(), 50);
}

#[test]
fn setting_one_object_again_and_again_leaks_nothing() {
    let memory = memory(100, 0);
    let values: Vec<_> = (0..10_000)
        .map(|_| {
            let object = object(1);
            let value = Arc::downgrade(&object.value);
            memory.store(object, Some(memory.take_ticket()), true);
            value
        })
        .collect();
    check(&memory);
    assert_eq!(values.iter().filter(|value| value.strong_count() > 0).count(), 1);
    assert!(memory.writer.lock().queues.len() < 100);
}

#[test]
fn pruning_removes_what_has_expired_and_is_no_use() {
    let (clock, hand) = Clock::manual();
    let schema = Schema::of::<Item>().ages(Duration::from_millis(100), Duration::from_millis(40));
    let memory = Memory::on_clock(schema, MemoryOptions::new(), clock).unwrap();
    fill(&memory, 1);
    hand.advance(Duration::from_millis(39));
    assert_eq!(pruned(&memory), 0);
    hand.advance(Duration::from_millis(1));
    assert_eq!(pruned(&memory), 1, "the first prune did not count as use");
    check(&memory);
}

#[test]
fn an_age_under_a_millisecond_is_one_and_not_none() {
    let (clock, hand) = Clock::manual();
    let schema = Schema::of::<Item>().ages(Duration::from_micros(1), Duration::ZERO);
    let memory = Memory::on_clock(schema, MemoryOptions::new(), clock).unwrap();
    fill(&memory, 1);
    assert!(holds(&memory, 1));
    hand.advance(Duration::from_millis(1));
    assert!(!holds(&memory, 1));
}

#[test]
fn threads_that_move_hosts_between_objects_never_show_half_a_set() {
    let memory = memory(64, 0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2_u32 {
            let (memory, stop) = (&memory, &stop);
            scope.spawn(move || {
                let mut seen = reader;
                while !stop.load(Ordering::Relaxed) {
                    seen = (seen + 1) % 32;
                    let host = format!("{seen}.example");
                    if let Ok(value) = memory.find(KeyRef { index: 1, bytes: host.as_bytes() }) {
                        let item = value.downcast::<Item>().unwrap();
                        assert!(item.hosts.contains(&host), "{item:?} does not list {host}");
                    }
                }
            });
        }
        for round in 0..20_000_u32 {
            let id = round % 8;
            let hosts: Vec<_> = (0..4).map(|n| format!("{}.example", (round * 7 + n * 5) % 32)).collect();
            let secondary = hosts.iter().map(|host| KeyBuf { index: 1, bytes: host.as_bytes().into() }).collect();
            let primary = id.to_string().into_bytes().into();
            let object = Object { primary, secondary, version: None, value: Arc::new(Item { id, hosts }) };
            memory.store(object, Some(memory.take_ticket()), true);
            if round % 97 == 0 {
                drop(memory.truncate());
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    check(&memory);
}

/// What a prune removes. With few objects a prune is done when it is first polled.
fn pruned(memory: &Memory) -> u64 {
    match Pin::new(&mut memory.prune()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(pruned)) => pruned.objects,
        other => panic!("{other:?}"),
    }
}

/// A value may do anything when it is dropped: here it calls the cache that it leaves.
#[test]
fn a_value_that_asks_the_cache_when_it_is_dropped_hangs_nobody() {
    struct Nosy(std::sync::Weak<Memory>);

    impl Drop for Nosy {
        fn drop(&mut self) {
            if let Some(memory) = self.0.upgrade() {
                let _ = memory.find(KeyRef { index: 1, bytes: b"1.example" });
                drop(memory.invalidate(vec![KeyBuf { index: 0, bytes: b"7".as_slice().into() }], None));
            }
        }
    }

    let memory = Arc::new(memory(2, 0));
    let nosy = |id| Object { value: Arc::new(Nosy(Arc::downgrade(&memory))), ..object(id) };
    for id in 1..10 {
        assert_eq!(memory.store(nosy(id), Some(memory.take_ticket()), true).stored, Stored::Accepted);
        memory.store(nosy(id), Some(memory.take_ticket()), true);
    }
    drop(memory.delete(vec![KeyBuf { index: 0, bytes: b"9".as_slice().into() }]));
    drop(memory.invalidate(vec![KeyBuf { index: 1, bytes: b"9.example".as_slice().into() }], None));
    memory.store(nosy(1), Some(memory.take_ticket()), true);
    drop(memory.truncate());
    check(&memory);
}
