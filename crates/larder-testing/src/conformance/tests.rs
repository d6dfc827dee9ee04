//! Tests of the suite: it must accept connectors that keep the contract. It must reject each connector that has one flaw, and name the
//! broken promise. The flaws are mistakes that other caches made, or that are easily made.

use super::Ability::{No, Yes};
use super::{Nature, Promise, Subject, check};
use crate::reference::Shelf;
use flawed::{Flaw, Flawed};
use larder::clock::{Clock, ManualClock};
use larder::{Connector, Schema};
use paper::{Mistake, Paper, Sheets};
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod flawed;
mod paper;

/// The abilities of the reference.
const PLAIN: Nature = Nature {
    shared: Yes,
    exact_time: Yes,
    bytes: No("objects are kept as they are"),
    evicts: No("there is always room"),
    leases: No("everybody may load"),
    absences: No("nothing is remembered of what does not exist"),
    expired: No("an object is gone when its max age is over"),
    outages: No("the shelf is in this process"),
    at_once: Yes,
};

/// The reference, with one flaw or without.
pub(crate) struct Shelved {
    shelf: Shelf,
    hand: ManualClock,
    flaw: Option<Flaw>,
}

impl Shelved {
    pub(crate) fn new(flaw: Option<Flaw>) -> Self {
        let (clock, hand) = Clock::manual();
        Self { shelf: Shelf::new(clock), hand, flaw }
    }
}

impl Subject for Shelved {
    fn nature(&self) -> Nature {
        Nature { evicts: Yes, ..PLAIN }
    }

    async fn open(&self, _node: usize, schema: Schema) -> Arc<dyn Connector> {
        Arc::new(Flawed::open(schema, &self.shelf, self.flaw))
    }

    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
    }

    async fn evict(&self, cache: &str) {
        self.shelf.caches(|caches| {
            if let Some(store) = caches.get_mut(cache) {
                store.objects.clear();
                if self.flaw == Some(Flaw::FenceEndsWithEviction) {
                    store.fences.clear();
                }
            }
        });
    }
}

/// The reference with its objects stored as bytes, with one mistake in the handling of the bytes or without.
struct Papers {
    sheets: Sheets,
    shelf: Shelf,
    hand: ManualClock,
    mistake: Option<Mistake>,
}

impl Papers {
    fn new(mistake: Option<Mistake>) -> Self {
        let (clock, hand) = Clock::manual();
        Self { sheets: Sheets::default(), shelf: Shelf::new(clock), hand, mistake }
    }
}

impl Subject for Papers {
    fn nature(&self) -> Nature {
        Nature { bytes: Yes, ..PLAIN }
    }

    async fn open(&self, _node: usize, schema: Schema) -> Arc<dyn Connector> {
        Arc::new(Paper::open(schema, &self.shelf, &self.sheets, self.mistake))
    }

    async fn pass(&self, time: Duration) {
        self.hand.advance(time);
    }

    async fn rewrite(&self, cache: &str, edit: &mut (dyn FnMut(&mut Vec<u8>) + Send)) {
        self.sheets.rewrite(cache, edit);
    }
}

/// The reference, declared with abilities that it does not have.
struct Claimed {
    nature: Nature,
    /// One for each node, which is wrong if the nature says that nodes share their objects.
    shelves: [Shelf; 2],
}

impl Claimed {
    fn new(nature: Nature) -> Self {
        Self { nature, shelves: [(); 2].map(|()| Shelf::new(Clock::manual().0)) }
    }
}

impl Subject for Claimed {
    fn nature(&self) -> Nature {
        self.nature
    }

    async fn open(&self, node: usize, schema: Schema) -> Arc<dyn Connector> {
        let own = if self.nature.shared.is_there() { node } else { 0 };
        Arc::new(Flawed::open(schema, &self.shelves[own], None))
    }

    async fn pass(&self, _time: Duration) {}
}

mod accepts {
    use super::{Papers, Shelved};

    mod reference {
        use super::Shelved;

        crate::conformance! { Shelved::new(None) }
    }

    mod reference_on_paper {
        use super::Papers;

        crate::conformance! { Papers::new(None) }
    }
}

/// Checks that the suite panics, and that its report names this promise.
async fn is_rejected<S: Subject + 'static>(subject: S, promise: Promise, flaw: impl std::fmt::Debug) {
    let Err(error) = tokio::spawn(async move { check(promise, &subject).await }).await else {
        panic!("{promise} is broken by {flaw:?}, and the suite does not see it");
    };
    let report = error.into_panic();
    let report = report.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
    let blame = format!("{promise} is broken: {}", promise.text());
    assert!(report.starts_with(&blame), "{flaw:?} was not reported as what it is, but: {report}");
}

macro_rules! rejects {
    ($($test:ident: $subject:ident, $flaw:path, $($promise:ident)+;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $(is_rejected($subject::new(Some($flaw)), Promise::$promise, $flaw).await;)+
        }
    )*};
}

rejects! {
    rejects_indexes_mixed_up: Shelved, Flaw::IndexesMixedUp, C1 C14;
    rejects_the_first_stored_instead_of_the_last: Shelved, Flaw::KeepsTheFirst, C1;
    rejects_dropped_keys_that_stay: Shelved, Flaw::DroppedKeysStay, C2;
    rejects_a_holder_that_stays: Shelved, Flaw::HolderStays, C2;
    rejects_a_set_that_takes_effect_twice: Shelved, Flaw::SetsTwice, C2;
    rejects_a_holder_that_loses_one_key_only: Shelved, Flaw::HolderLosesTheKeyOnly, C2;
    rejects_an_invalidation_of_the_asked_key_only: Shelved, Flaw::InvalidatesAskedKeyOnly, C3;
    rejects_an_invalidation_of_the_first_key_only: Shelved, Flaw::InvalidatesFirstKeyOnly, C3;
    rejects_a_node_that_hears_of_nothing: Shelved, Flaw::RemembersWhatItGot, C3;
    rejects_a_delete_that_invalidates: Shelved, Flaw::DeleteInvalidates, C4;
    rejects_a_delete_of_the_first_key_only: Shelved, Flaw::DeletesFirstKeyOnly, C4;
    rejects_a_truncate_that_leaves_something: Shelved, Flaw::TruncateLeavesOne, C5;
    rejects_a_truncate_of_everything: Shelved, Flaw::TruncatesAllCaches, C5;
    rejects_a_truncate_by_the_beginning_of_the_name: Shelved, Flaw::TruncatesByPrefix, C5 C14;
    rejects_ages_in_whole_seconds: Shelved, Flaw::WholeSeconds, C6 C7;
    rejects_a_life_that_gets_lengthen: Shelved, Flaw::GetRenewsMaxAge, C6;
    rejects_a_last_use_that_is_not_counted: Shelved, Flaw::UseNotCounted, C7;
    rejects_a_prune_that_counts_as_use: Shelved, Flaw::PruneIsUse, C7;
    rejects_a_fill_without_a_look_at_its_ticket: Shelved, Flaw::FillIgnoresTicket, C8 Loading;
    rejects_fences_on_stored_objects_only: Shelved, Flaw::FencesWhatIsStoredOnly, C8 Loading;
    rejects_a_put_that_leaves_no_fence: Shelved, Flaw::PutLeavesNoFence, C8;
    rejects_a_displaced_object_without_a_fence: Shelved, Flaw::DisplacedWithoutFence, C8;
    rejects_a_fence_that_ends_with_the_object: Shelved, Flaw::FenceEndsWithLife, C8;
    rejects_a_fence_that_ends_with_a_delete: Shelved, Flaw::FenceEndsWithDelete, C8;
    rejects_a_fence_that_ends_with_an_eviction: Shelved, Flaw::FenceEndsWithEviction, C8;
    rejects_a_fence_that_ends_with_a_newer_object: Shelved, Flaw::FenceEndsWithNewerObject, C8;
    rejects_an_epoch_that_stays: Shelved, Flaw::EpochStays, C8;
    rejects_a_put_without_a_ticket_that_stores: Shelved, Flaw::PutNeedsNoTicket, C8;
    rejects_versions_without_meaning: Shelved, Flaw::VersionIgnored, C9;
    rejects_versions_compared_as_text: Shelved, Flaw::VersionAsText, C9;
    rejects_versions_compared_as_doubles: Shelved, Flaw::VersionAsDouble, C9;
    rejects_a_lowest_version_without_meaning: Shelved, Flaw::FloorIgnored, C9;
    rejects_an_unfit_object_that_leaves_the_older_one: Shelved, Flaw::UnfitKeepsOlder, C10;
    rejects_an_object_that_is_said_to_be_stored_and_cannot_be_read: Shelved, Flaw::TakesWhatCannotBeRead, C10 C11;
    rejects_a_panic: Papers, Mistake::Panics, C11;
    rejects_damaged_bytes_that_stay: Papers, Mistake::LeavesDamage, C11;
    rejects_damaged_bytes_that_nobody_hears_of: Papers, Mistake::TellsNobody, C11;
    rejects_bytes_that_are_believed: Papers, Mistake::BelievesTheKey, C11;
    rejects_a_change_that_damage_hinders: Papers, Mistake::DamageHinders, C11;
    rejects_an_invalidation_of_the_own_release_only: Shelved, Flaw::InvalidatesOwnRelease, C12;
    rejects_a_fill_that_evicts_the_other_release: Shelved, Flaw::FillEvictsOtherRelease, C12;
    rejects_the_bytes_of_the_other_release: Shelved, Flaw::ReadsOtherRelease, C12;
    rejects_an_invalidation_lost_with_its_caller: Shelved, Flaw::LosesDroppedInvalidation, C13;
    rejects_the_rest_of_many_lost_with_their_caller: Shelved, Flaw::LosesTheRestOfDroppedSets, C13;
    rejects_half_a_put: Shelved, Flaw::PutsByHalves, C13;
    rejects_a_permit_that_leaks: Shelved, Flaw::LeaksPermits, C13;
    rejects_keys_cut_at_a_zero: Shelved, Flaw::KeysEndAtZero, C14;
    rejects_keys_without_case: Shelved, Flaw::KeysWithoutCase, C14;
    rejects_long_keys_cut: Shelved, Flaw::LongKeysCut, C14;
    rejects_keys_that_are_patterns: Shelved, Flaw::KeysArePatterns, C14;
    rejects_keys_run_together_with_their_index: Shelved, Flaw::KeysJoinTheirIndex, C14;
    rejects_a_key_that_is_trimmed: Shelved, Flaw::KeysTrimmed, C14;
    rejects_many_answered_in_another_order: Shelved, Flaw::ManyAnsweredInReverse, C1;
    rejects_many_set_in_another_order: Shelved, Flaw::ManySetInReverse, C2;
    rejects_many_filled_by_the_ticket_of_the_first: Shelved, Flaw::ManyFilledByTheFirst, C8;
}

/// No ability.
const NONE: Nature = Nature {
    shared: No("not tried here"),
    exact_time: No("not tried here"),
    bytes: No("not tried here"),
    evicts: No("not tried here"),
    leases: No("not tried here"),
    absences: No("not tried here"),
    expired: No("not tried here"),
    outages: No("not tried here"),
    at_once: No("not tried here"),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_every_ability_that_is_claimed_and_not_there() {
    for (claimed, promise) in [
        (Nature { shared: Yes, ..NONE }, Promise::C12),
        (Nature { exact_time: Yes, ..NONE }, Promise::C6),
        (Nature { bytes: Yes, ..NONE }, Promise::C11),
        (Nature { evicts: Yes, ..NONE }, Promise::C8),
        (Nature { leases: Yes, ..NONE }, Promise::Loading),
        (Nature { absences: Yes, ..NONE }, Promise::Loading),
        (Nature { expired: Yes, ..NONE }, Promise::Loading),
        (Nature { outages: Yes, ..NONE }, Promise::C10),
    ] {
        is_rejected(Claimed::new(claimed), promise, claimed).await;
    }
}

#[tokio::test]
#[should_panic(expected = "does not say why")]
async fn rejects_an_ability_that_is_denied_without_a_reason() {
    check(Promise::C12, &Claimed::new(Nature { shared: No(" "), ..NONE })).await;
}

/// Runs a test as a user does. The test passes, so the harness hides what it prints with `println!`.
#[test]
fn what_is_left_out_is_printed_with_its_reason_although_the_test_passes() {
    let test = "conformance::tests::accepts::reference::c11_any_bytes";
    let output = std::process::Command::new(std::env::current_exe().unwrap()).args(["--exact", test]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
    let left_out: Vec<_> = told.lines().filter_map(|line| Some(line.split_once("left out: ")?.1)).collect();
    assert_eq!(left_out.len(), 9, "each case once: {told}");
    let first = format!("{}: C11 cut_short: objects are kept as they are", std::any::type_name::<Shelved>());
    assert_eq!(left_out.first(), Some(&&*first), "{told}");
}

#[test]
fn every_promise_has_cases_for_every_kind_of_connector_but_the_ones_that_need_a_nature() {
    let cases = super::suite::<Shelved>();
    for promise in Promise::ALL {
        let plain = cases.iter().any(|case| case.promise == *promise && (case.needs)(NONE).is_there());
        assert!(plain || *promise == Promise::C12, "{promise}");
    }
    let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "the name of a case names its cache");
}
