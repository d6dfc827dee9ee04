//! The model is itself put to the test: it accepts the reference, and finds out whoever differs from it in one place.

use super::{Settings, check, run};
use crate::conformance::tests::Shelved;
use crate::conformance::tests::flawed::Flaw;
use crate::conformance::{Nature, Subject};
use larder::connector::noop::Noop;
use larder::{Connector, Schema};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn accepts_the_reference() {
    run(&Shelved::new(None), &Settings::default()).await;
}

/// What is found out, and in how many operations it can be told.
async fn found_out(flaw: Flaw, operations: usize) {
    let settings = Settings { sequences: 3000, ..Settings::default() };
    let Err(broken) = check(&Shelved::new(Some(flaw)), &settings).await else {
        panic!("{flaw:?} is not found out");
    };
    assert!(broken.told.len() <= operations, "{flaw:?} can be told in {operations} operations\n{broken}");
}

macro_rules! finds_out {
    ($($test:ident: $flaw:ident in $operations:literal;)*) => {$(
        #[tokio::test]
        async fn $test() {
            found_out(Flaw::$flaw, $operations).await;
        }
    )*};
}

finds_out! {
    indexes_mixed_up: IndexesMixedUp in 2;
    the_first_stored_instead_of_the_last: KeepsTheFirst in 3;
    dropped_keys_that_stay: DroppedKeysStay in 3;
    a_holder_that_stays: HolderStays in 3;
    a_holder_that_loses_one_key_only: HolderLosesTheKeyOnly in 3;
    an_invalidation_of_the_asked_key_only: InvalidatesAskedKeyOnly in 3;
    an_invalidation_of_the_first_key_only: InvalidatesFirstKeyOnly in 3;
    a_node_that_hears_of_nothing: RemembersWhatItGot in 4;
    a_delete_that_invalidates: DeleteInvalidates in 3;
    a_delete_of_the_first_key_only: DeletesFirstKeyOnly in 3;
    a_truncate_that_leaves_something: TruncateLeavesOne in 3;
    ages_in_whole_seconds: WholeSeconds in 3;
    a_life_that_gets_lengthen: GetRenewsMaxAge in 5;
    a_last_use_that_is_not_counted: UseNotCounted in 5;
    a_fill_without_a_look_at_its_ticket: FillIgnoresTicket in 4;
    fences_on_stored_objects_only: FencesWhatIsStoredOnly in 4;
    a_put_that_leaves_no_fence: PutLeavesNoFence in 5;
    a_displaced_object_without_a_fence: DisplacedWithoutFence in 6;
    a_fence_that_ends_with_the_object: FenceEndsWithLife in 6;
    a_fence_that_ends_with_a_delete: FenceEndsWithDelete in 6;
    a_fence_that_ends_with_a_newer_object: FenceEndsWithNewerObject in 6;
    an_epoch_that_stays: EpochStays in 4;
    versions_without_meaning: VersionIgnored in 3;
    a_lowest_version_without_meaning: FloorIgnored in 3;
}

#[tokio::test]
async fn a_broken_contract_is_told_in_few_words() {
    let broken = check(&Shelved::new(Some(Flaw::DeletesFirstKeyOnly)), &Settings::default()).await.unwrap_err();
    let [stored, deleted, got] = broken.told.as_slice() else { panic!("{broken}") };
    assert!(stored.starts_with("node 1 ") && stored.contains("as state 1"), "{broken}");
    assert!(deleted.starts_with("node 1 deletes ") && deleted.ends_with(": done"), "{broken}");
    assert!(got.starts_with("node 1 gets ") && got.ends_with(", state 1"), "{broken}");
    assert!(broken.to_string().ends_with(&format!("   3. {got}\nthe last of these must be a miss")), "{broken}");
}

/// Nothing is ever there.
struct Nowhere;

impl Subject for Nowhere {
    fn nature(&self) -> Nature {
        Nature { exact_time: true, ..Nature::default() }
    }

    async fn open(&self, _node: usize, _schema: Schema) -> Arc<dyn Connector> {
        Arc::new(Noop)
    }

    async fn pass(&self, _time: Duration) {}
}

#[tokio::test]
async fn a_connector_that_stores_nothing_passes_only_where_it_may() {
    let settings = Settings { sequences: 50, ..Settings::default() };
    run(&Nowhere, &Settings { may_forget: true, ..settings.clone() }).await;
    assert!(check(&Nowhere, &settings).await.is_err());
}
