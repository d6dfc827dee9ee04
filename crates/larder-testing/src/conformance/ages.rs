//! C6 and C7: no object outlives its ages. Under a manual clock, no object leaves a millisecond early either.
//!
//! Where time is real, only the first can be checked: once the age has passed since the set returned, a get must miss. On a slow machine
//! an object may expire before a check that expects to find it.

use super::trial::{Nodes, Trial};
use super::{Subject, table};
use crate::entries::Site;
use std::time::Duration;

table! {
    C6 {
        gone_when_its_max_age_has_passed,
        a_filled_object_ages_too,
        gets_do_not_lengthen_a_life,
        a_refused_fill_does_not_lengthen_a_life,
        a_new_state_has_a_life_of_its_own,
        each_object_ages_by_itself,
        an_age_below_a_millisecond_is_not_endless,
        zero_is_no_limit,
        an_endless_age_is_endless,
    }
    C7 {
        gone_when_unused_for_its_last_use_age,
        use_keeps_an_object,
        use_through_one_key_keeps_it_under_all,
        what_is_no_use_does_not_keep_it,
        max_age_ends_what_is_in_use,
        last_use_age_ends_what_is_young,
        a_last_use_age_below_a_millisecond_is_not_endless,
    }
}

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example"], "Acme")
}

/// In milliseconds. The last age is too long for a real wait.
const AGES: [u64; 4] = [1, 30, 250, 40_000_000_000];

fn ages<S: Subject>(trial: &Trial<'_, S>) -> impl Iterator<Item = u64> + use<S> {
    let all = if trial.exact_time() { AGES.len() } else { AGES.len() - 1 };
    AGES.into_iter().take(all)
}

/// Checks that an object that was just stored is served until its age is over, and not after.
async fn end_of<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Site>, age: u64) {
    trial.pass(age - 1).await;
    trial.serve_if_exact(nodes, &acme()).await;
    trial.pass(2).await;
    nodes.lack(&acme()).await;
}

async fn gone_when_its_max_age_has_passed<S: Subject>(mut trial: Trial<'_, S>) {
    for age in ages(&trial) {
        trial.next_cache();
        let nodes = trial.aging(age, 0).await;
        nodes.near.stores(&acme()).await;
        end_of(&trial, &nodes, age).await;
    }
}

async fn a_filled_object_ages_too<S: Subject>(mut trial: Trial<'_, S>) {
    for age in ages(&trial) {
        trial.next_cache();
        let nodes = trial.aging(age, 0).await;
        let ticket = nodes.near.begins(Site::HOST, "b.example").await;
        nodes.near.fills(&acme(), ticket).await;
        end_of(&trial, &nodes, age).await;
    }
}

async fn gets_do_not_lengthen_a_life<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(100, 0).await;
    nodes.near.stores(&acme()).await;
    for _ in 0..3 {
        trial.pass(30).await;
        nodes.near.get(Site::ID, "1").await;
        nodes.far.get(Site::HOST, "a.example").await;
        trial.serve_if_exact(&nodes, &acme()).await;
        nodes.near.prunes().await;
    }
    trial.pass(11).await;
    nodes.lack(&acme()).await;
}

async fn a_refused_fill_does_not_lengthen_a_life<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(100, 0).await;
    let ticket = nodes.near.ticket().await;
    nodes.near.stores(&acme()).await;
    trial.pass(80).await;
    nodes.near.refuses(&acme(), ticket).await;
    trial.pass(21).await;
    nodes.lack(&acme()).await;
}

async fn a_new_state_has_a_life_of_its_own<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(100, 0).await;
    for fill in [false, true] {
        nodes.near.stores(&acme()).await;
        trial.pass(80).await;
        if fill {
            nodes.near.fills(&acme(), nodes.near.ticket().await).await;
        } else {
            nodes.near.stores(&acme()).await;
        }
        trial.pass(80).await;
        trial.serve_if_exact(&nodes, &acme()).await;
        trial.pass(21).await;
        nodes.lack(&acme()).await;
    }
}

async fn each_object_ages_by_itself<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(100, 0).await;
    let bolt = Site::new("2", &["c.example"], "Bolt");
    nodes.near.stores(&acme()).await;
    trial.pass(60).await;
    nodes.near.stores(&bolt).await;
    trial.pass(41).await;
    nodes.lack(&acme()).await;
    nodes.near.prunes().await;
    trial.serve_if_exact(&nodes, &bolt).await;
    trial.pass(60).await;
    nodes.lack(&bolt).await;
}

/// A short age must not be rounded down to zero, which means that an object never expires.
async fn an_age_below_a_millisecond_is_not_endless<S: Subject>(mut trial: Trial<'_, S>) {
    for age in [Duration::from_nanos(1), Duration::from_micros(500)] {
        trial.next_cache();
        let nodes = trial.nodes_with(trial.schema::<Site>().ages(age, Duration::ZERO)).await;
        nodes.near.set(&acme()).await;
        trial.pass(2).await;
        nodes.lack(&acme()).await;
    }
}

async fn zero_is_no_limit<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(0, 0).await;
    nodes.near.stores(&acme()).await;
    nodes.serve(&acme()).await;
    nodes.near.prunes().await;
    nodes.serve(&acme()).await;
    if trial.exact_time() {
        trial.pass(40_000_000_000).await;
        nodes.near.prunes().await;
        nodes.serve(&acme()).await;
    }
}

async fn an_endless_age_is_endless<S: Subject>(mut trial: Trial<'_, S>) {
    for age in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 50)] {
        trial.next_cache();
        let nodes = trial.nodes_with(trial.schema::<Site>().ages(age, age)).await;
        nodes.near.stores(&acme()).await;
        nodes.serve(&acme()).await;
        nodes.near.prunes().await;
        nodes.serve(&acme()).await;
        nodes.far.invalidates(Site::HOST, ["a.example"]).await;
        nodes.lack(&acme()).await;
    }
}

async fn gone_when_unused_for_its_last_use_age<S: Subject>(mut trial: Trial<'_, S>) {
    for age in ages(&trial) {
        trial.next_cache();
        let nodes = trial.aging(0, age).await;
        nodes.near.stores(&acme()).await;
        trial.pass(age - 1).await;
        // A hit counts as a use.
        trial.serve_if_exact(&nodes, &acme()).await;
        trial.pass(age + 1).await;
        nodes.lack(&acme()).await;
        nodes.near.stores(&acme()).await;
        trial.pass(age + 1).await;
        nodes.lack(&acme()).await;
    }
}

async fn use_keeps_an_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(0, 100).await;
    nodes.near.stores(&acme()).await;
    for wait in [99, 1, 10, 99, 50, 99, 99] {
        trial.pass(wait).await;
        nodes.near.get(Site::ID, "1").await;
        trial.serve_if_exact(&nodes, &acme()).await;
    }
    trial.pass(101).await;
    nodes.lack(&acme()).await;
}

async fn use_through_one_key_keeps_it_under_all<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(0, 100).await;
    nodes.near.stores(&acme()).await;
    trial.pass(99).await;
    nodes.near.lookup(Site::ID, "1").await;
    trial.pass(99).await;
    nodes.far.get(Site::HOST, "a.example").await;
    trial.pass(99).await;
    nodes.near.get(Site::HOST, "b.example").await;
    trial.pass(99).await;
    trial.serve_if_exact(&nodes, &acme()).await;
    trial.pass(101).await;
    nodes.lack(&acme()).await;
}

/// Pruning, tickets, refused fills, misses and changes of other keys do not count as use.
async fn what_is_no_use_does_not_keep_it<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(0, 200).await;
    let ticket = nodes.near.ticket().await;
    nodes.near.stores(&acme()).await;
    for _ in 0..4 {
        trial.pass(40).await;
        nodes.near.prunes().await;
        nodes.far.ticket().await;
        nodes.near.refuses(&acme(), ticket).await;
        nodes.far.misses(Site::ID, "a.example").await;
        nodes.far.invalidates(Site::HOST, ["nobody.example"]).await;
        nodes.far.deletes(Site::HOST, ["b.example"]).await;
        nodes.near.stores(&Site::new("2", &[], "another")).await;
    }
    trial.pass(41).await;
    nodes.lack(&acme()).await;
}

async fn max_age_ends_what_is_in_use<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(250, 100).await;
    nodes.near.stores(&acme()).await;
    for wait in [90, 90, 69] {
        trial.pass(wait).await;
        nodes.near.get(Site::HOST, "a.example").await;
        trial.serve_if_exact(&nodes, &acme()).await;
    }
    trial.pass(2).await;
    nodes.lack(&acme()).await;
}

async fn last_use_age_ends_what_is_young<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(10_000, 100).await;
    nodes.near.stores(&acme()).await;
    trial.pass(99).await;
    nodes.near.get(Site::ID, "1").await;
    trial.serve_if_exact(&nodes, &acme()).await;
    trial.pass(101).await;
    nodes.lack(&acme()).await;
}

async fn a_last_use_age_below_a_millisecond_is_not_endless<S: Subject>(mut trial: Trial<'_, S>) {
    for age in [Duration::from_nanos(1), Duration::from_micros(500)] {
        trial.next_cache();
        let nodes = trial.nodes_with(trial.schema::<Site>().ages(Duration::ZERO, age)).await;
        nodes.near.set(&acme()).await;
        trial.pass(2).await;
        nodes.lack(&acme()).await;
    }
}
