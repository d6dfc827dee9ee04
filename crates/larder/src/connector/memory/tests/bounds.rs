//! Tests that notes and floors are bounded, and that a prune does only so much under the lock at once.

use super::*;
use crate::LoadOptions;

fn noting(max_objects: u64, max_bytes: u64) -> Memory {
    let loading = LoadOptions { negative_age: Duration::from_secs(600), ..LoadOptions::default() };
    let schema = Schema::of::<Item>().loading(loading);
    Memory::open(schema, MemoryOptions { max_objects, max_bytes, ..MemoryOptions::default() }).unwrap()
}

fn load_nothing(memory: &Memory, name: u32) -> Stored {
    let name = name.to_string();
    memory.store_absence(KeyRef { index: 1, bytes: name.as_bytes() }, memory.take_ticket()).stored
}

fn is_noted(memory: &Memory, name: u32) -> bool {
    let name = name.to_string();
    matches!(memory.look(KeyRef { index: 1, bytes: name.as_bytes() }), Lookup::Miss { cause: Miss::KnownAbsent, .. })
}

#[test]
fn notes_count_and_a_flood_of_them_leaves_the_objects_most_of_the_room() {
    let memory = noting(u64::MAX, 100_000);
    for id in 0..200 {
        fill(&memory, id);
    }
    check(&memory);
    let full = memory.status().objects.unwrap();
    assert_eq!(load_nothing(&memory, 1), Stored::Accepted);
    assert!(is_noted(&memory, 1), "also where objects take all the room there is");
    for name in 0..10_000 {
        assert_eq!(load_nothing(&memory, name), Stored::Accepted);
        assert!(is_noted(&memory, name));
        check(&memory);
    }
    assert!(!is_noted(&memory, 9_000), "older ones have left");
    let left = memory.status().objects.unwrap();
    assert!(left * 10 >= full * 9 - 10, "of {full} objects {left} are left");
    drop(memory.truncate());
    assert_eq!(memory.status().bytes, Some(0));
}

#[test]
fn there_are_no_more_notes_than_there_may_be_objects() {
    let memory = noting(100, 0);
    for name in 0..1000 {
        assert_eq!(load_nothing(&memory, name), Stored::Accepted);
    }
    assert_eq!((0..1000).filter(|name| is_noted(&memory, *name)).count(), 100);
}

#[test]
fn an_object_that_needs_the_room_of_the_notes_gets_it() {
    let memory = noting(u64::MAX, 1_400);
    assert_eq!(load_nothing(&memory, 1), Stored::Accepted);
    fill(&memory, 1);
    assert!(holds(&memory, 1));
    check(&memory);
    assert!(!is_noted(&memory, 1));
}

#[test]
fn a_versioned_object_is_refused_below_the_floor_of_its_key_and_of_no_other() {
    let (clock, hand) = Clock::manual();
    let memory = Memory::on_clock(Schema::of::<Item>(), MemoryOptions::new(), clock).unwrap();
    let store = |id, version| {
        let object = Object { version: Some(version), ..object(id) };
        memory.store(object, Some(memory.take_ticket()), false).stored
    };
    drop(memory.invalidate(vec![KeyBuf { index: 0, bytes: b"1".as_slice().into() }], Some(7)));
    assert_eq!((store(1, 6), store(2, 6), store(1, 7)), (Stored::Outdated, Stored::Accepted, Stored::Accepted));
    drop(memory.invalidate(vec![KeyBuf { index: 1, bytes: b"1.example".as_slice().into() }], Some(9)));
    assert_eq!(store(1, 8), Stored::Outdated);
    hand.advance(Duration::from_secs(60));
    assert_eq!(store(1, 8), Stored::Accepted);
}

/// Objects with few keys each, in large number; and one object with more keys than a prune removes at once.
#[test]
fn a_prune_lets_others_in_and_removes_everything_all_the_same() {
    let (clock, hand) = Clock::manual();
    let schema = Schema::of::<Item>().ages(Duration::from_millis(100), Duration::ZERO);
    let memory = Memory::on_clock(schema, MemoryOptions::new(), clock).unwrap();
    for id in 0..3_000 {
        fill(&memory, id);
    }
    let hosts = (0..2_000_u32).map(|n| KeyBuf { index: 1, bytes: n.to_be_bytes().into() }).collect();
    let many = Object { secondary: hosts, ..object(5_000) };
    assert_eq!(memory.store(many, Some(memory.take_ticket()), false).stored, Stored::Accepted);
    hand.advance(Duration::from_millis(100));

    let mut prune = memory.prune();
    let mut rounds = 0;
    let mut before = memory.status().objects.unwrap();
    let pruned = loop {
        match Pin::new(&mut prune).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(pruned) => break pruned.unwrap(),
            Poll::Pending => {
                rounds += 1;
                let now = memory.status().objects.unwrap();
                assert!(now <= before && before - now <= 512, "{} objects at once", before - now);
                // A change comes while the prune is half done.
                if rounds == 3 {
                    drop(memory.invalidate(vec![KeyBuf { index: 0, bytes: b"2999".as_slice().into() }], None));
                }
                before = memory.status().objects.unwrap();
            }
        }
    };
    assert!(rounds >= 10, "it let others in {rounds} times");
    assert_eq!(pruned.objects, 3_000);
    check(&memory);
    assert_eq!(memory.status().objects, Some(0));
}

#[test]
fn a_prune_forgets_notes_that_are_over() {
    let (clock, hand) = Clock::manual();
    let loading = LoadOptions { negative_age: Duration::from_millis(100), ..LoadOptions::default() };
    let schema = Schema::of::<Item>().loading(loading);
    let memory = Memory::on_clock(schema, MemoryOptions::new(), clock).unwrap();
    for name in 0..300 {
        assert_eq!(load_nothing(&memory, name), Stored::Accepted);
    }
    assert!(memory.status().bytes > Some(300 * 128));
    hand.advance(Duration::from_millis(100));
    assert_eq!(pruned(&memory), 0, "notes are no objects");
    assert_eq!(memory.status().bytes, Some(0));
}
