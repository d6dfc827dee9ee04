//! Tests of the model: it must accept the reference, and reject each connector that has one flaw.

use super::{Settings, check, run};
use crate::conformance::Ability::{No, Yes};
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

/// The model must find a sequence of at most this many operations for each flaw.
const FEW: usize = 6;

async fn is_found_out(flaw: Flaw) {
    let settings = Settings { sequences: 3000, ..Settings::default() };
    let Err(broken) = check(&Shelved::new(Some(flaw)), &settings).await else {
        panic!("{flaw:?} is not found out");
    };
    assert!(broken.told.len() <= FEW, "{flaw:?} can be told in fewer words than these:\n{broken}");
}

macro_rules! finds_out {
    ($($test:ident: $flaw:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            is_found_out(Flaw::$flaw).await;
        }
    )*};
}

finds_out! {
    indexes_mixed_up: IndexesMixedUp;
    the_first_stored_instead_of_the_last: KeepsTheFirst;
    dropped_keys_that_stay: DroppedKeysStay;
    a_holder_that_stays: HolderStays;
    a_holder_that_loses_one_key_only: HolderLosesTheKeyOnly;
    an_invalidation_of_the_asked_key_only: InvalidatesAskedKeyOnly;
    an_invalidation_of_the_first_key_only: InvalidatesFirstKeyOnly;
    a_node_that_hears_of_nothing: RemembersWhatItGot;
    a_delete_that_invalidates: DeleteInvalidates;
    a_delete_of_the_first_key_only: DeletesFirstKeyOnly;
    a_truncate_that_leaves_something: TruncateLeavesOne;
    ages_in_whole_seconds: WholeSeconds;
    a_life_that_gets_lengthen: GetRenewsMaxAge;
    a_last_use_that_is_not_counted: UseNotCounted;
    a_fill_without_a_look_at_its_ticket: FillIgnoresTicket;
    fences_on_stored_objects_only: FencesWhatIsStoredOnly;
    a_put_that_leaves_no_fence: PutLeavesNoFence;
    a_displaced_object_without_a_fence: DisplacedWithoutFence;
    a_fence_that_ends_with_the_object: FenceEndsWithLife;
    a_fence_that_ends_with_a_delete: FenceEndsWithDelete;
    a_fence_that_ends_with_a_newer_object: FenceEndsWithNewerObject;
    an_epoch_that_stays: EpochStays;
    versions_without_meaning: VersionIgnored;
    a_lowest_version_without_meaning: FloorIgnored;
}

#[tokio::test]
async fn a_broken_contract_is_told_in_few_words() {
    let broken = check(&Shelved::new(Some(Flaw::DeletesFirstKeyOnly)), &Settings::default()).await.unwrap_err();
    let (Some(first), Some(last)) = (broken.told.first(), broken.told.last()) else { panic!("{broken}") };
    assert!(first.starts_with("node 1 ") && first.contains("as state 1"), "{broken}");
    assert!(broken.told.iter().any(|step| step.contains(" deletes ")), "{broken}");
    assert!(last.contains(": finds id "), "{broken}");
    let end = format!("{:4}. {last}\nthe last of these must be a miss", broken.told.len());
    assert!(broken.to_string().ends_with(&end), "{broken}");
}

/// A connector that stores nothing.
struct Nowhere;

impl Subject for Nowhere {
    fn nature(&self) -> Nature {
        let no = No("nothing is ever stored");
        Nature {
            shared: no,
            exact_time: Yes,
            bytes: no,
            evicts: no,
            leases: no,
            absences: no,
            expired: no,
            outages: no,
            at_once: Yes,
        }
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
