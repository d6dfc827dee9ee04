//! The journal, while some threads defer, one thread replays, and others ask whether they may read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use larder_interleavings::{Waits, explore};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use std::sync::Arc;

/// Replays once, and tells which of these entries the replay covered.
fn replay<const N: usize>(journal: &Waits, deferred: [(&str, u64); N]) -> [bool; N] {
    let Some(replay) = journal.waiting() else { return [false; N] };
    let covered = deferred.map(|(key, version)| replay.covers(key, version));
    thread::yield_now();
    journal.replayed(&replay);
    covered
}

/// Checks that each deferred entry was replayed or still waits.
fn nothing_is_lost<const N: usize>(journal: &Waits, deferred: [(&str, u64); N], replayed: [bool; N]) {
    let waiting = journal.waiting();
    for ((key, version), replayed) in deferred.into_iter().zip(replayed) {
        let waits = waiting.as_ref().is_some_and(|waiting| waiting.covers(key, version));
        assert!(waits || replayed, "{key} below version {version} was crossed out and never replayed");
    }
    assert_eq!(journal.is_empty(), waiting.is_none());
}

#[test]
fn what_is_deferred_while_a_replay_runs_is_not_crossed_out_by_it() {
    explore(|| {
        let journal = Arc::new(Waits::new(10));
        journal.defer("a", 1);
        let deferring = thread::spawn({
            let journal = journal.clone();
            move || {
                journal.defer("a", 2);
                journal.defer("b", 3);
            }
        });
        let deferred = [("a", 1), ("a", 2), ("b", 3)];
        let replayed = replay(&journal, deferred);
        deferring.join().unwrap();
        nothing_is_lost(&journal, deferred, replayed);
    });
}

#[test]
fn an_overflow_while_a_replay_runs_loses_nothing() {
    explore(|| {
        let journal = Arc::new(Waits::new(1));
        journal.defer("a", 1);
        let deferring = thread::spawn({
            let journal = journal.clone();
            move || {
                journal.defer("b", 2);
                journal.defer("c", 3);
            }
        });
        let deferred = [("a", 1), ("b", 2), ("c", 3)];
        let [first, second] = [replay(&journal, deferred), replay(&journal, deferred)];
        deferring.join().unwrap();
        nothing_is_lost(&journal, deferred, [0, 1, 2].map(|n| first[n] || second[n]));
    });
}

#[test]
fn a_truncate_that_is_deferred_while_another_is_replayed_stays() {
    explore(|| {
        let journal = Arc::new(Waits::new(10));
        let begun = Arc::new(AtomicBool::new(false));
        journal.defer_truncate();
        let deferring = thread::spawn({
            let (journal, begun) = (journal.clone(), begun.clone());
            move || {
                begun.store(true, Ordering::SeqCst);
                journal.defer("a", 1);
                journal.defer_truncate();
            }
        });
        let taken = journal.waiting().unwrap();
        let before = !begun.load(Ordering::SeqCst);
        deferring.join().unwrap();
        journal.replayed(&taken);
        let waits = journal.waiting().is_some_and(|waiting| waiting.covers("a", 1));
        assert!(waits || !before, "its truncate was thought done by one that came before it");
    });
}

#[test]
fn who_finds_the_journal_empty_sees_what_was_replayed() {
    explore(|| {
        let journal = Arc::new(Waits::new(10));
        let applied = Arc::new(AtomicBool::new(false));
        journal.defer("a", 1);
        let replaying = thread::spawn({
            let (journal, applied) = (journal.clone(), applied.clone());
            move || {
                let taken = journal.waiting().unwrap();
                applied.store(true, Ordering::Relaxed);
                journal.replayed(&taken);
            }
        });
        if journal.is_empty() {
            assert!(applied.load(Ordering::Relaxed), "read what the invalidation was about to remove");
        }
        replaying.join().unwrap();
    });
}
