//! C9: versions. The pairs of versions compare wrongly as text, as doubles (Lua's numbers) or as 32-bit numbers.

use super::trial::{Nodes, Trial, keys_by_index};
use super::{Subject, table};
use crate::entries::{Instance, Site};
use larder::Stored;

table! {
    C9 {
        a_set_of_a_lower_version_is_not_stored,
        a_fill_of_a_lower_version_is_not_stored,
        a_higher_version_is_stored,
        the_same_version_is_stored_again,
        a_set_of_a_lower_version_is_a_set_all_the_same,
        an_invalidation_demands_a_lowest_version,
        it_demands_it_through_any_key,
        it_demands_it_of_what_is_not_stored,
        the_highest_demand_counts,
        a_demand_survives_what_happens_meanwhile,
        a_lower_version_takes_no_key_from_another,
        without_a_version_there_is_no_order,
    }
}

/// The lower and the higher version.
const PAIRS: [(u64, u64); 9] = [
    (0, 1),
    (4, 5),
    (9, 10),
    (99, 100),
    (1, u32::MAX as u64 + 1),
    (u32::MAX as u64, u32::MAX as u64 + 1),
    ((1 << 53), (1 << 53) + 1),
    (0, i64::MAX as u64),
    (i64::MAX as u64 - 1, i64::MAX as u64),
];

fn acme(version: u64) -> Instance {
    Instance::new("1", &["a.example", "b.example"], &format!("version {version}"), version)
}

/// Empties the cache between two rounds. A truncate also forgets the lowest versions that were demanded.
async fn forget(nodes: &Nodes<Instance>) {
    nodes.near.truncates().await;
}

async fn a_set_of_a_lower_version_is_not_stored<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (low, high) in PAIRS {
        nodes.near.stores(&acme(high)).await;
        let stored = nodes.far.set(&acme(low)).await;
        trial.history.require(stored == Stored::Outdated, "a higher version is stored");
        nodes.never_serve(&acme(low)).await;
        nodes.whole_or_gone(&acme(high)).await;
        forget(&nodes).await;
    }
}

async fn a_fill_of_a_lower_version_is_not_stored<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (low, high) in PAIRS {
        nodes.near.stores(&acme(high)).await;
        nodes.far.refuses(&acme(low), nodes.far.ticket().await).await;
        nodes.serve(&acme(high)).await;
        forget(&nodes).await;
        nodes.near.fills(&acme(high), nodes.near.ticket().await).await;
        nodes.far.refuses(&acme(low), nodes.far.ticket().await).await;
        nodes.serve(&acme(high)).await;
        forget(&nodes).await;
    }
}

async fn a_higher_version_is_stored<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (low, high) in PAIRS {
        nodes.near.stores(&acme(low)).await;
        nodes.serve(&acme(low)).await;
        nodes.far.stores(&acme(high)).await;
        nodes.serve(&acme(high)).await;
        forget(&nodes).await;
        nodes.near.fills(&acme(low), nodes.near.ticket().await).await;
        nodes.far.fills(&acme(high), nodes.far.ticket().await).await;
        nodes.serve(&acme(high)).await;
        forget(&nodes).await;
    }
}

async fn the_same_version_is_stored_again<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for version in [0, 5, (1 << 53) + 1, i64::MAX as u64] {
        let renamed = Instance { name: "renamed".into(), ..acme(version) };
        nodes.near.stores(&acme(version)).await;
        nodes.far.stores(&renamed).await;
        nodes.serve(&renamed).await;
        nodes.near.fills(&acme(version), nodes.near.ticket().await).await;
        nodes.serve(&acme(version)).await;
        forget(&nodes).await;
    }
}

/// A set fences its keys even if it is not stored: an earlier load must be refused after the higher version has expired.
async fn a_set_of_a_lower_version_is_a_set_all_the_same<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(30, 0).await;
    nodes.near.stores(&acme(5)).await;
    let ticket = nodes.near.ticket().await;
    nodes.far.set(&acme(4)).await;
    trial.pass(31).await;
    nodes.lack(&acme(5)).await;
    nodes.near.refuses(&acme(3), ticket).await;
    nodes.lack(&acme(3)).await;
}

async fn an_invalidation_demands_a_lowest_version<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (low, high) in PAIRS {
        nodes.near.stores(&acme(low)).await;
        nodes.far.invalidates_below(Instance::ID, ["1"], high).await;
        nodes.lack(&acme(low)).await;
        // As a load from a lagging replica does.
        let ticket = nodes.near.begins(Instance::HOST, "a.example").await;
        nodes.near.refuses(&acme(low), ticket).await;
        let stored = nodes.far.set(&acme(low)).await;
        trial.history.require(stored == Stored::Outdated, "a higher version is demanded");
        nodes.lack(&acme(low)).await;
        let ticket = nodes.near.begins(Instance::HOST, "a.example").await;
        nodes.near.fills(&acme(high), ticket).await;
        nodes.serve(&acme(high)).await;
        forget(&nodes).await;
        nodes.far.invalidates_below(Instance::ID, ["1"], high).await;
        nodes.near.stores(&acme(high)).await;
        nodes.serve(&acme(high)).await;
        nodes.near.truncates().await;
        nodes.near.stores(&Instance::new("other", &["c.example"], "not asked of others", 0)).await;
    }
}

async fn it_demands_it_through_any_key<S: Subject>(trial: Trial<'_, S>) {
    let mut demanded = 10;
    let nodes = trial.nodes().await;
    for (index, key) in keys_by_index(&acme(0)) {
        nodes.near.stores(&acme(demanded)).await;
        demanded += 10;
        nodes.far.invalidates_below(index, [key], demanded).await;
        nodes.lack(&acme(0)).await;
        nodes.near.refuses(&acme(demanded - 1), nodes.near.begins(Instance::ID, "1").await).await;
        nodes.far.refuses(&acme(demanded - 1), nodes.far.begins(Instance::HOST, "b.example").await).await;
        nodes.lack(&acme(0)).await;
        nodes.near.fills(&acme(demanded), nodes.near.begins(Instance::ID, "1").await).await;
        nodes.serve(&acme(demanded)).await;
    }
}

async fn it_demands_it_of_what_is_not_stored<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.invalidates_below(Instance::ID, ["0", "1", "2"], 7).await;
    nodes.far.refuses(&acme(6), nodes.far.begins(Instance::HOST, "a.example").await).await;
    nodes.lack(&acme(6)).await;
    nodes.far.fills(&acme(7), nodes.far.begins(Instance::HOST, "a.example").await).await;
    nodes.serve(&acme(7)).await;
}

async fn the_highest_demand_counts<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (first, second) in [(7, 3), (3, 7), (10, 9), (9, 10)] {
        nodes.near.invalidates_below(Instance::ID, ["1"], first).await;
        nodes.far.invalidates_below(Instance::ID, ["1"], second).await;
        let highest = first.max(second);
        nodes.near.refuses(&acme(highest - 1), nodes.near.begins(Instance::ID, "1").await).await;
        nodes.near.fills(&acme(highest), nodes.near.begins(Instance::ID, "1").await).await;
        nodes.serve(&acme(highest)).await;
    }
}

async fn a_demand_survives_what_happens_meanwhile<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(30, 0).await;
    nodes.near.invalidates_below(Instance::ID, ["1"], 7).await;
    nodes.near.invalidates(Instance::ID, ["1"]).await;
    nodes.near.refuses(&acme(6), nodes.near.begins(Instance::ID, "1").await).await;
    nodes.far.stores(&acme(8)).await;
    nodes.far.deletes(Instance::ID, ["1"]).await;
    nodes.far.invalidates(Instance::HOST, ["a.example"]).await;
    nodes.near.refuses(&acme(6), nodes.near.begins(Instance::ID, "1").await).await;
    nodes.far.stores(&acme(8)).await;
    trial.pass(31).await;
    nodes.near.prunes().await;
    nodes.near.refuses(&acme(6), nodes.near.begins(Instance::ID, "1").await).await;
    nodes.lack(&acme(6)).await;
}

async fn a_lower_version_takes_no_key_from_another<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let other = Instance::new("2", &["c.example"], "holds a host that the old state of the first had", 1);
    let lagging = Instance::new("1", &["a.example", "c.example"], "lagging", 4);
    nodes.near.stores(&acme(5)).await;
    nodes.near.stores(&other).await;
    nodes.far.refuses(&lagging, nodes.far.ticket().await).await;
    nodes.serve(&acme(5)).await;
    nodes.serve(&other).await;
    // Versions of two different objects are not compared: the new holder of a key may have a lower version.
    let taker = Instance::new("2", &["a.example"], "taker", 0);
    forget(&nodes).await;
    nodes.near.stores(&acme(5)).await;
    nodes.far.stores(&taker).await;
    nodes.serve(&taker).await;
    nodes.lack_key(Instance::ID, "1").await;
    nodes.lack_key(Instance::HOST, "b.example").await;
}

async fn without_a_version_there_is_no_order<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let [first, second] = ["first", "second"].map(|name| Site::new("1", &["a.example"], name));
    nodes.near.stores(&first).await;
    nodes.near.stores(&second).await;
    nodes.near.stores(&first).await;
    nodes.serve(&first).await;
    nodes.far.invalidates_below(Site::ID, ["1"], 7).await;
    nodes.near.fills(&second, nodes.near.begins(Site::ID, "1").await).await;
    nodes.serve(&second).await;
}
