//! C3, C4 and C5: invalidate, delete and truncate make just the right keys miss, on every node.

use super::trial::{Trial, keys_by_index};
use super::{Subject, table};
use crate::entries::Site;

table! {
    C3 {
        any_key_forgets_the_object_under_all,
        a_node_need_not_have_seen_the_object,
        several_keys_of_several_objects,
        unknown_and_repeated_keys_are_fine,
        thousands_of_keys_at_once,
        other_objects_stay,
        an_invalidation_is_over_when_it_is_over,
        the_newest_holder_is_forgotten,
        reached_as_long_as_it_lives_after_a_second_set,
        reached_as_long_as_it_lives_while_in_use,
    }
    C4 {
        the_other_keys_stay,
        the_primary_key_can_be_deleted,
        all_keys_one_after_the_other,
        several_keys_and_unknown_ones,
        a_deleted_key_comes_back_with_a_new_state,
        a_deleted_key_can_be_taken_by_another,
        the_primary_key_invalidates_though_deleted,
        a_secondary_key_invalidates_though_deleted,
    }
    C5 {
        everything_is_gone,
        other_caches_stay,
        the_cache_works_afterwards,
        truncating_nothing_is_fine,
    }
}

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example", "c.example"], "Acme")
}

fn bolt() -> Site {
    Site::new("2", &["d.example", "e.example"], "Bolt")
}

async fn any_key_forgets_the_object_under_all<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (round, (index, key)) in keys_by_index(&acme()).into_iter().enumerate() {
        nodes.near.stores(&acme()).await;
        nodes.serve(&acme()).await;
        let node = if round % 2 == 0 { &nodes.far } else { &nodes.near };
        node.invalidates(index, [key]).await;
        nodes.lack(&acme()).await;
    }
    for (index, key) in keys_by_index(&acme()) {
        let ticket = nodes.near.begins(index, &key).await;
        nodes.near.fills(&acme(), ticket).await;
        nodes.serve(&acme()).await;
        nodes.near.invalidates(index, [key]).await;
        nodes.lack(&acme()).await;
    }
}

async fn a_node_need_not_have_seen_the_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (index, key) in keys_by_index(&acme()) {
        nodes.near.stores(&acme()).await;
        // The other node has neither stored nor read it.
        nodes.far.invalidates(index, [key]).await;
        nodes.lack(&acme()).await;
    }
}

async fn several_keys_of_several_objects<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (index, keys) in
        [(Site::ID, ["1", "2"]), (Site::HOST, ["b.example", "e.example"]), (Site::HOST, ["d.example", "c.example"])]
    {
        nodes.near.stores(&acme()).await;
        nodes.near.stores(&bolt()).await;
        nodes.serve(&acme()).await;
        nodes.serve(&bolt()).await;
        nodes.near.invalidates(index, keys).await;
        nodes.lack(&acme()).await;
        nodes.lack(&bolt()).await;
    }
}

async fn unknown_and_repeated_keys_are_fine<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.invalidates(Site::HOST, ["nobody.example"]).await;
    nodes.near.stores(&acme()).await;
    nodes.near.invalidates(Site::ID, ["3", "4"]).await;
    nodes.near.invalidates(Site::HOST, ["nobody.example"]).await;
    nodes.near.invalidates::<_, &str>(Site::HOST, []).await;
    nodes.serve(&acme()).await;
    nodes
        .near
        .invalidates(Site::HOST, ["nobody.example", "a.example", "a.example", "b.example", "nobody.example"])
        .await;
    nodes.lack(&acme()).await;
    nodes.far.invalidates(Site::HOST, ["a.example"]).await;
    nodes.near.invalidates(Site::ID, ["1", "1"]).await;
    nodes.lack(&acme()).await;
}

async fn thousands_of_keys_at_once<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let last = Site::new("last", &["2999.example"], "under the last key");
    nodes.near.stores(&acme()).await;
    nodes.near.stores(&last).await;
    nodes.serve(&last).await;
    nodes.near.invalidates(Site::HOST, (0..3000).map(|n| format!("{n}.example"))).await;
    nodes.lack(&last).await;
    nodes.near.invalidates(Site::ID, (0..3000).map(|n| n.to_string())).await;
    nodes.lack(&acme()).await;
}

async fn other_objects_stay<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // Its id is a host of the invalidated object. Its hosts begin or end like those of the invalidated object.
    let neighbour =
        Site::new("a.example", &["1", "a.example.org", "a.exampl", "A.EXAMPLE", "x.a.example"], "neighbour");
    nodes.near.stores(&acme()).await;
    nodes.near.stores(&neighbour).await;
    nodes.near.invalidates(Site::HOST, ["a.example"]).await;
    nodes.lack(&acme()).await;
    nodes.serve(&neighbour).await;
    nodes.near.stores(&acme()).await;
    nodes.near.invalidates(Site::ID, ["1"]).await;
    nodes.lack(&acme()).await;
    nodes.serve(&neighbour).await;
}

async fn an_invalidation_is_over_when_it_is_over<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for round in 0..5 {
        let acme = Site { name: format!("round {round}"), ..acme() };
        if round % 2 == 0 {
            nodes.near.stores(&acme).await;
        } else {
            let ticket = nodes.near.begins(Site::HOST, "a.example").await;
            nodes.near.fills(&acme, ticket).await;
        }
        nodes.serve(&acme).await;
        nodes.far.invalidates(Site::HOST, ["a.example"]).await;
        nodes.lack(&acme).await;
    }
}

async fn the_newest_holder_is_forgotten<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let first = Site::new("1", &["moves.example"], "first");
    let second = Site::new("2", &["moves.example", "stays.example"], "second");
    nodes.near.stores(&first).await;
    nodes.serve(&first).await;
    nodes.far.stores(&second).await;
    nodes.near.invalidates(Site::HOST, ["moves.example"]).await;
    nodes.lack(&first).await;
    nodes.lack(&second).await;
}

/// What leads from a secondary key to an object must not expire before the object: not when a second set lengthens the object's life …
async fn reached_as_long_as_it_lives_after_a_second_set<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(400, 0).await;
    for fill in [false, true] {
        nodes.near.stores(&acme()).await;
        trial.pass(300).await;
        if fill {
            nodes.near.fills(&acme(), nodes.near.ticket().await).await;
        } else {
            nodes.near.stores(&acme()).await;
        }
        trial.pass(200).await;
        trial.serve_if_exact(&nodes, &acme()).await;
        nodes.far.invalidates(Site::HOST, ["b.example"]).await;
        nodes.lack(&acme()).await;
    }
}

/// … and not when gets through another key keep the object alive.
async fn reached_as_long_as_it_lives_while_in_use<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(0, 300).await;
    nodes.near.stores(&acme()).await;
    for _ in 0..4 {
        trial.pass(200).await;
        nodes.near.get(Site::ID, "1").await;
    }
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.lack(&acme()).await;
}

async fn the_other_keys_stay<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    nodes.near.stores(&bolt()).await;
    nodes.serve(&acme()).await;
    nodes.far.deletes(Site::HOST, ["b.example"]).await;
    nodes.lack_key(Site::HOST, "b.example").await;
    for (index, key) in [(Site::ID, "1"), (Site::HOST, "a.example"), (Site::HOST, "c.example")] {
        nodes.serve_key(index, key, &acme()).await;
    }
    nodes.serve(&bolt()).await;
    // The same bytes are another key in another index.
    nodes.far.deletes(Site::ID, ["a.example"]).await;
    nodes.serve_key(Site::HOST, "a.example", &acme()).await;
}

async fn the_primary_key_can_be_deleted<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    nodes.near.deletes(Site::ID, ["1"]).await;
    nodes.lack_key(Site::ID, "1").await;
    for host in &acme().hosts {
        nodes.serve_key(Site::HOST, host, &acme()).await;
    }
    nodes.far.invalidates(Site::HOST, ["a.example"]).await;
    nodes.lack(&acme()).await;
}

async fn all_keys_one_after_the_other<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    let mut keys = keys_by_index(&acme());
    while let Some((index, key)) = keys.pop() {
        nodes.near.deletes(index, [&key]).await;
        nodes.lack_key(index, &key).await;
        for (index, key) in &keys {
            nodes.serve_key(*index, key, &acme()).await;
        }
    }
    nodes.lack(&acme()).await;
}

async fn several_keys_and_unknown_ones<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.deletes(Site::HOST, ["a.example"]).await;
    nodes.near.stores(&acme()).await;
    nodes.near.stores(&bolt()).await;
    nodes.serve(&acme()).await;
    nodes.near.deletes::<_, &str>(Site::HOST, []).await;
    nodes.near.deletes(Site::ID, ["nobody"]).await;
    nodes.serve(&acme()).await;
    nodes.near.deletes(Site::HOST, ["nobody.example", "a.example", "d.example", "c.example", "a.example"]).await;
    for host in ["a.example", "c.example", "d.example"] {
        nodes.lack_key(Site::HOST, host).await;
    }
    for (index, key, site) in [
        (Site::ID, "1", acme()),
        (Site::HOST, "b.example", acme()),
        (Site::ID, "2", bolt()),
        (Site::HOST, "e.example", bolt()),
    ] {
        nodes.serve_key(index, key, &site).await;
    }
    nodes.near.deletes(Site::HOST, ["a.example"]).await;
    nodes.near.serves(Site::ID, "1", &acme()).await;
}

async fn a_deleted_key_comes_back_with_a_new_state<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (index, key) in [(Site::HOST, "b.example"), (Site::ID, "1")] {
        nodes.near.stores(&acme()).await;
        nodes.far.deletes(index, [key]).await;
        nodes.near.stores(&acme()).await;
        nodes.serve(&acme()).await;
        nodes.far.deletes(index, [key]).await;
        let ticket = nodes.near.begins(index, key).await;
        nodes.near.fills(&acme(), ticket).await;
        nodes.serve(&acme()).await;
    }
}

async fn a_deleted_key_can_be_taken_by_another<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let taker = Site::new("3", &["b.example"], "taker");
    nodes.near.stores(&acme()).await;
    nodes.near.deletes(Site::HOST, ["b.example"]).await;
    nodes.far.stores(&taker).await;
    nodes.serve(&taker).await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.lack(&taker).await;
}

/// A primary key identifies its object for the object's whole life, even if the key was deleted.
async fn the_primary_key_invalidates_though_deleted<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    nodes.near.deletes(Site::ID, ["1"]).await;
    nodes.far.invalidates(Site::ID, ["1"]).await;
    nodes.lack(&acme()).await;
}

/// A caller that changes an object may know no other key of it than the deleted one.
async fn a_secondary_key_invalidates_though_deleted<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    nodes.near.deletes(Site::HOST, ["b.example"]).await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.lack(&acme()).await;
}

async fn everything_is_gone<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let sites: Vec<_> =
        (0..1500).map(|n| Site::new(&n.to_string(), &[&format!("{n}.example")], "one of many")).collect();
    for site in &sites {
        nodes.near.stores(site).await;
    }
    for site in sites.iter().step_by(50) {
        nodes.serve(site).await;
    }
    nodes.far.truncates().await;
    for site in &sites {
        nodes.lack(site).await;
    }
}

async fn other_caches_stay<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let names = ["x", ".x", "-x", "_x", "..", ".id", ".host"].map(|end| format!("{}{end}", trial.cache));
    let shorter = trial.cache.split('.').next().unwrap_or_default().to_owned();
    let mut others = Vec::new();
    for name in names.into_iter().chain([shorter, format!("x{}", trial.cache), trial.cache.to_uppercase()]) {
        let schema = trial.schema::<Site>().named(name.as_str());
        let other = trial.nodes_with(schema).await;
        let site = Site { name, ..acme() };
        other.near.stores(&site).await;
        others.push((other, site));
    }
    nodes.near.stores(&acme()).await;
    nodes.serve(&acme()).await;
    nodes.near.truncates().await;
    nodes.lack(&acme()).await;
    for (other, site) in &others {
        other.serve(site).await;
    }
    // Invalidate, delete and prune do not reach the other caches either.
    nodes.near.stores(&acme()).await;
    nodes.near.invalidates(Site::ID, ["1"]).await;
    nodes.near.deletes(Site::HOST, ["a.example"]).await;
    nodes.near.prunes().await;
    for (other, site) in &others {
        other.serve(site).await;
    }
}

async fn the_cache_works_afterwards<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for round in 0..4 {
        let node = if round % 2 == 0 { &nodes.near } else { &nodes.far };
        nodes.near.stores(&acme()).await;
        node.truncates().await;
        nodes.lack(&acme()).await;
        let ticket = nodes.near.begins(Site::HOST, "a.example").await;
        nodes.near.fills(&acme(), ticket).await;
        nodes.serve(&acme()).await;
        node.truncates().await;
        nodes.far.stores(&bolt()).await;
        nodes.serve(&bolt()).await;
        nodes.lack(&acme()).await;
        nodes.near.invalidates(Site::HOST, ["d.example"]).await;
        nodes.lack(&bolt()).await;
    }
}

async fn truncating_nothing_is_fine<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.truncates().await;
    nodes.near.truncates().await;
    nodes.far.truncates().await;
    nodes.lack(&acme()).await;
    nodes.near.stores(&acme()).await;
    nodes.serve(&acme()).await;
}
