//! What becomes of a key whose load has found nothing.

use super::*;
use crate::{LoadOptions, clock::ManualClock};

const MAX_AGE: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(600);

fn aging(loading: LoadOptions) -> (Memory, ManualClock) {
    let (clock, hand) = Clock::manual();
    let schema = Schema::of::<Item>().ages(MAX_AGE, Duration::ZERO).loading(loading);
    (Memory::on_clock(schema, MemoryOptions::new(), clock).unwrap(), hand)
}

const ID: KeyRef<'_> = KeyRef { index: 0, bytes: b"1" };
const HOST: KeyRef<'_> = KeyRef { index: 1, bytes: b"1.example" };

/// Looks a key up, and stores that the load has found nothing.
fn loads_nothing(memory: &Memory, key: KeyRef<'_>) -> Stored {
    let ticket = memory.take_ticket();
    memory.store_absence(key, ticket).stored
}

fn at_once<T: Unpin>(mut answer: Answer<'_, T>) -> T {
    match Pin::new(&mut answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it does not answer at once"),
    }
}

/// Why a key misses, as told by each way in which a caller that loads can look.
fn causes(memory: &Memory, key: KeyRef<'_>) -> [Miss; 3] {
    let cause = |look| match look {
        Lookup::Miss { cause, .. } => cause,
        Lookup::Hit { .. } => panic!("a hit"),
    };
    let many = at_once(memory.lookup_many(&[key])).found.remove(0).unwrap_err();
    [cause(at_once(memory.lookup(key))), many, cause(at_once(memory.lease(key)).1)]
}

#[test]
fn an_expired_object_ends_with_a_load_of_nothing_and_the_note_counts() {
    for serve_expired in [Duration::ZERO, LONG] {
        let (memory, hand) = aging(LoadOptions { negative_age: LONG, serve_expired, ..LoadOptions::default() });
        fill(&memory, 1);
        hand.advance(MAX_AGE);
        let kept = matches!(memory.look(HOST), Lookup::Miss { expired: Some(_), .. });
        assert_eq!(kept, !serve_expired.is_zero());
        assert_eq!(loads_nothing(&memory, HOST), Stored::Accepted);
        check(&memory);
        assert_eq!(causes(&memory, HOST), [Miss::KnownAbsent; 3]);
        assert!(matches!(memory.look(ID), Lookup::Miss { cause: Miss::Absent, ticket: Some(_), expired: None }));
        fill(&memory, 1);
        assert!(holds(&memory, 1));
    }
}

/// No order of changes leads to this state today. But a look must not depend on that.
#[test]
fn a_note_counts_although_an_expired_object_lies_there() {
    let (memory, hand) = aging(LoadOptions { negative_age: LONG, serve_expired: LONG, ..LoadOptions::default() });
    fill(&memory, 1);
    hand.advance(MAX_AGE);
    let now = memory.clock.now();
    let room = absent::Room { notes: 1, bytes: u64::MAX };
    assert!(memory.writer.lock().absent.note(memory.table.hash(HOST), HOST, now, now + 1, room));
    assert_eq!(causes(&memory, HOST), [Miss::KnownAbsent; 3]);
    assert_eq!(causes(&memory, ID), [Miss::Expired; 3]);
}

#[test]
fn an_object_that_was_not_used_in_time_ends_too() {
    let (clock, hand) = Clock::manual();
    let loading = LoadOptions { negative_age: LONG, ..LoadOptions::default() };
    let schema = Schema::of::<Item>().ages(Duration::ZERO, MAX_AGE).loading(loading);
    let memory = Memory::on_clock(schema, MemoryOptions::new(), clock).unwrap();
    fill(&memory, 1);
    hand.advance(MAX_AGE);
    assert_eq!(loads_nothing(&memory, ID), Stored::Accepted);
    assert_eq!(causes(&memory, ID), [Miss::KnownAbsent; 3]);
}

#[test]
fn without_a_negative_age_it_ends_and_nothing_is_noted() {
    let (memory, hand) = aging(LoadOptions { serve_expired: LONG, ..LoadOptions::default() });
    fill(&memory, 1);
    hand.advance(MAX_AGE);
    assert_eq!(loads_nothing(&memory, ID), Stored::Accepted);
    assert!(matches!(memory.look(HOST), Lookup::Miss { cause: Miss::Absent, ticket: Some(_), expired: None }));
    assert_eq!(memory.status().bytes, Some(0));
}

#[test]
fn a_refresh_that_finds_nothing_ends_what_it_was_to_renew() {
    let ahead = Duration::from_millis(20);
    let (memory, hand) = aging(LoadOptions { refresh_ahead: ahead, ..LoadOptions::default() });
    fill(&memory, 1);
    hand.advance(MAX_AGE - ahead - Duration::from_millis(1));
    assert_eq!(loads_nothing(&memory, HOST), Stored::Overtaken, "it is fresh: somebody has stored it meanwhile");
    assert!(holds(&memory, 1));
    hand.advance(Duration::from_millis(1));
    assert!(matches!(memory.look(HOST), Lookup::Hit { due: true, .. }));
    assert_eq!(loads_nothing(&memory, HOST), Stored::Accepted);
    assert!(!holds(&memory, 1));
    check(&memory);
}

#[test]
fn a_load_of_nothing_that_was_overtaken_ends_and_notes_nothing() {
    let (memory, hand) = aging(LoadOptions { negative_age: LONG, serve_expired: LONG, ..LoadOptions::default() });
    let touches: [fn(&Memory); 3] = [
        |memory| assert_eq!(memory.store(object(1), Some(memory.take_ticket()), true).stored, Stored::Accepted),
        |memory| drop(memory.delete(vec![ID.to_buf()])),
        |memory| drop(memory.truncate()),
    ];
    for touch in touches {
        fill(&memory, 1);
        hand.advance(MAX_AGE);
        let ticket = memory.take_ticket();
        touch(&memory);
        let before = memory.status().objects;
        assert_eq!(memory.store_absence(ID, ticket).stored, Stored::Overtaken);
        assert_eq!(memory.status().objects, before);
        assert!(!matches!(memory.look(ID), Lookup::Miss { cause: Miss::KnownAbsent, .. }));
    }
}

/// A key was deleted, and its object is still served under its other keys. The object does not hinder the note.
#[test]
fn a_key_that_was_deleted_is_noted_while_its_object_lives() {
    let (memory, _hand) = aging(LoadOptions { negative_age: LONG, ..LoadOptions::default() });
    fill(&memory, 1);
    drop(memory.delete(vec![HOST.to_buf()]));
    assert_eq!(loads_nothing(&memory, HOST), Stored::Accepted);
    assert_eq!(causes(&memory, HOST), [Miss::KnownAbsent; 3]);
    assert!(memory.find(ID).is_ok());
    drop(memory.invalidate(vec![HOST.to_buf()], None));
    assert_eq!(causes(&memory, HOST), [Miss::Absent; 3]);
    assert!(memory.find(ID).is_err(), "its key leads an invalidation to it all the same");
}

#[test]
fn a_key_too_long_to_be_noted_ends_its_expired_object_all_the_same() {
    let (memory, hand) = aging(LoadOptions { negative_age: LONG, serve_expired: LONG, ..LoadOptions::default() });
    let long = KeyRef { index: 1, bytes: &[b'x'; 300] };
    let object = Object { secondary: vec![long.to_buf()], ..object(1) };
    assert_eq!(memory.store(object, Some(memory.take_ticket()), false).stored, Stored::Accepted);
    hand.advance(MAX_AGE);
    assert_eq!(loads_nothing(&memory, long), Stored::Unfit);
    assert!(matches!(memory.look(ID), Lookup::Miss { cause: Miss::Absent, expired: None, .. }));
}
