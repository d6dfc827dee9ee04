//! C8: the object of a load that a change has overtaken is never stored.
//!
//! The rule: every key remembers the sequence of its newest invalidation or set, whatever happens to the key afterwards. So each case
//! takes a ticket, changes something, and then fills the old object. The entry type has no version: a version would hide a missing fence.

use super::trial::{Node, Nodes, Trial, keys_by_index};
use super::{Subject, table};
use crate::entries::Site;
use larder::{Stored, Ticket};
use tokio::sync::oneshot;

table! {
    C8 {
        a_load_that_nothing_overtook_is_accepted,
        overtaken_by_an_invalidation_of_any_key,
        overtaken_through_a_key_that_nothing_was_stored_under,
        overtaken_by_a_set_of_the_same_object,
        overtaken_by_a_set_that_was_forgotten_since,
        overtaken_by_a_set_of_another_object_with_its_key,
        overtaken_by_a_set_that_displaced_the_object,
        overtaken_by_a_fill_that_displaced_the_object,
        overtaken_by_a_delete,
        overtaken_by_a_truncate,
        overtaken_by_a_set_that_was_not_stored,
        overtaken_on_another_node,
        overtaken_while_a_host_moved_there_and_back,
        one_ticket_does_not_serve_twice,
        hundreds_of_changes_do_not_wear_a_fence_out,
        a_fence_outlives_a_newer_object,
        a_fence_outlives_a_short_life,
        a_fence_outlives_a_short_last_use_age,
        a_fence_outlives_a_delete,
        a_fence_outlives_an_eviction if evicts,
        a_set_with_an_overtaken_ticket_only_invalidates,
        a_set_without_a_ticket_only_invalidates,
        an_update_that_was_overtaken_only_invalidates,
        an_update_that_nothing_overtook_is_stored,
    }
}

fn old() -> Site {
    Site::new("1", &["a.example", "b.example"], "old")
}

fn new() -> Site {
    Site { name: "new".into(), ..old() }
}

async fn a_load_that_nothing_overtook_is_accepted<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (round, (index, key)) in keys_by_index(&old()).into_iter().enumerate() {
        let site = Site { name: format!("round {round}"), ..old() };
        let mut stored = Stored::Overtaken;
        // A connector may share one fence among several keys, so an unrelated change may have the fill refused. That must not happen with
        // three other objects in a row.
        for other in ["2", "3", "4"] {
            // All keys of the object change before the load begins, and another object changes while the load runs.
            nodes.far.stores(&old()).await;
            nodes.far.deletes(Site::HOST, ["a.example"]).await;
            nodes.near.invalidates(Site::ID, ["1"]).await;
            nodes.far.invalidates(Site::HOST, ["a.example", "b.example"]).await;
            let ticket = nodes.near.begins(index, &key).await;
            nodes.near.stores(&Site::new(other, &[&format!("{other}.example")], "something else")).await;
            stored = nodes.near.fill(&site, ticket).await;
            if stored == Stored::Accepted {
                break;
            }
        }
        trial.history.require(stored == Stored::Accepted, "a fill that nothing has overtaken must be accepted");
        nodes.serve(&site).await;
    }
}

async fn overtaken_by_an_invalidation_of_any_key<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for stored in [false, true] {
        for (index, key) in keys_by_index(&old()) {
            for (changed, change) in keys_by_index(&old()) {
                let ticket = nodes.near.begins(index, &key).await;
                if stored {
                    nodes.near.fills(&old(), nodes.near.ticket().await).await;
                }
                nodes.near.invalidates(changed, [change]).await;
                late(&nodes, ticket).await;
            }
        }
    }
}

/// Both nodes try to fill the old object. Both fills must be refused.
async fn late(nodes: &Nodes<Site>, ticket: Ticket) {
    nodes.near.refuses(&old(), ticket).await;
    nodes.far.refuses(&old(), ticket).await;
    nodes.never_serve(&old()).await;
}

/// The load is for one key. The loaded object lists another key, under which nothing was stored when it was invalidated.
async fn overtaken_through_a_key_that_nothing_was_stored_under<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let before = Site::new("1", &["a.example"], "before it got its second host");
    nodes.near.stores(&before).await;
    nodes.near.invalidates(Site::ID, ["1"]).await;
    let ticket = nodes.near.begins(Site::ID, "1").await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    late(&nodes, ticket).await;
}

async fn overtaken_by_a_set_of_the_same_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for (index, key) in keys_by_index(&old()) {
        let ticket = nodes.near.begins(index, key).await;
        nodes.far.stores(&new()).await;
        late(&nodes, ticket).await;
        nodes.serve(&new()).await;
        nodes.near.invalidates(Site::ID, ["1"]).await;
    }
    // The two states have only the id in common.
    let moved = Site::new("1", &["c.example"], "moved");
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.stores(&moved).await;
    late(&nodes, ticket).await;
    nodes.serve(&moved).await;
}

async fn overtaken_by_a_set_that_was_forgotten_since<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.stores(&new()).await;
    // Through a key that the old state does not list.
    nodes.far.stores(&Site::new("2", &["b.example"], "taker")).await;
    nodes.far.stores(&Site::new("2", &[], "gave it back")).await;
    late(&nodes, ticket).await;
}

async fn overtaken_by_a_set_of_another_object_with_its_key<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let taker = Site::new("2", &["b.example"], "taker");
    for (index, key) in [(Site::ID, "1"), (Site::HOST, "a.example"), (Site::HOST, "b.example")] {
        let ticket = nodes.near.begins(index, key).await;
        nodes.far.stores(&taker).await;
        late(&nodes, ticket).await;
        nodes.serve(&taker).await;
        nodes.far.invalidates(Site::ID, ["2"]).await;
        // Still overtaken after no object has the key any more.
        late(&nodes, ticket).await;
    }
}

/// When an object takes over a key, C2 invalidates the earlier holder. So every earlier load of the holder is overtaken, even a load whose
/// state does not list the key.
async fn overtaken_by_a_set_that_displaced_the_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let holder = Site::new("1", &["moves.example", "a.example"], "holder");
    let taker = Site::new("2", &["moves.example"], "taker");
    nodes.near.stores(&holder).await;
    let ticket = nodes.near.ticket().await;
    nodes.far.stores(&taker).await;
    late(&nodes, ticket).await;
    nodes.near.refuses(&holder, ticket).await;
    nodes.serve(&taker).await;
    nodes.lack_key(Site::ID, "1").await;
}

async fn overtaken_by_a_fill_that_displaced_the_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let holder = Site::new("1", &["moves.example", "a.example"], "holder");
    let taker = Site::new("2", &["moves.example"], "taker");
    nodes.near.stores(&holder).await;
    let ticket = nodes.near.ticket().await;
    nodes.far.fills(&taker, nodes.far.ticket().await).await;
    late(&nodes, ticket).await;
    nodes.near.refuses(&holder, ticket).await;
    nodes.serve(&taker).await;
    nodes.lack_key(Site::ID, "1").await;
}

async fn overtaken_by_a_delete<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for stored in [false, true] {
        for (index, key) in keys_by_index(&old()) {
            let ticket = nodes.near.begins(Site::HOST, "a.example").await;
            if stored {
                nodes.near.fills(&new(), nodes.near.ticket().await).await;
            }
            nodes.far.deletes(index, [&key]).await;
            nodes.near.fill(&old(), ticket).await;
            nodes.lack_key(index, &key).await;
            nodes.near.invalidates(Site::HOST, ["a.example", "b.example"]).await;
            nodes.near.invalidates(Site::ID, ["1"]).await;
        }
    }
}

async fn overtaken_by_a_truncate<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.truncates().await;
    late(&nodes, ticket).await;
    nodes.near.stores(&new()).await;
    late(&nodes, ticket).await;
    nodes.serve(&new()).await;
    // No later truncate makes the ticket valid again.
    for _ in 0..3 {
        nodes.near.truncates().await;
        late(&nodes, ticket).await;
    }
    let between = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.near.invalidates(Site::HOST, ["a.example"]).await;
    nodes.near.truncates().await;
    late(&nodes, between).await;
    nodes.near.fills(&new(), nodes.near.begins(Site::ID, "1").await).await;
    nodes.serve(&new()).await;
}

async fn overtaken_by_a_set_that_was_not_stored<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let stale = nodes.near.ticket().await;
    nodes.near.invalidates(Site::ID, ["1"]).await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    let put = nodes.far.put(&new(), Some(stale)).await;
    trial.history.require(put != Stored::Accepted, "its ticket was overtaken");
    late(&nodes, ticket).await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.put(&Site::new("2", &["b.example"], "taker"), None).await;
    late(&nodes, ticket).await;
}

async fn overtaken_on_another_node<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let here = nodes.near.begins(Site::HOST, "a.example").await;
    let there = nodes.far.begins(Site::HOST, "b.example").await;
    nodes.near.invalidates(Site::ID, ["1"]).await;
    nodes.far.refuses(&old(), there).await;
    nodes.near.refuses(&old(), here).await;
    nodes.far.refuses(&old(), here).await;
    nodes.lack(&old()).await;
    nodes.far.fills(&new(), nodes.far.begins(Site::HOST, "b.example").await).await;
    nodes.near.refuses(&old(), there).await;
    nodes.serve(&new()).await;
}

async fn overtaken_while_a_host_moved_there_and_back<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let [first, second] = ["1", "2"].map(|id| Site::new(id, &["moves.example"], "with it"));
    let [bare, other] = ["1", "2"].map(|id| Site::new(id, &[], "without it"));
    let slow = nodes.near.begins(Site::HOST, "moves.example").await;
    // The host moves. Both objects change, but only the host is invalidated.
    nodes.far.invalidates(Site::HOST, ["moves.example"]).await;
    nodes.far.fills(&second, nodes.far.begins(Site::HOST, "moves.example").await).await;
    nodes.far.fills(&bare, nodes.far.begins(Site::ID, "1").await).await;
    nodes.near.refuses(&first, slow).await;
    nodes.serve(&second).await;
    nodes.serve(&bare).await;
    // The host moves back.
    let slower = nodes.near.ticket().await;
    nodes.far.invalidates(Site::HOST, ["moves.example"]).await;
    nodes.near.refuses(&second, slower).await;
    nodes.near.fills(&first, nodes.near.begins(Site::HOST, "moves.example").await).await;
    nodes.near.fills(&other, nodes.near.begins(Site::ID, "2").await).await;
    nodes.far.refuses(&second, slower).await;
    nodes.far.refuses(&first, slow).await;
    nodes.serve(&first).await;
    nodes.serve(&other).await;
}

/// A change overtakes a ticket even if a fill with that ticket was accepted before.
async fn one_ticket_does_not_serve_twice<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.near.fills(&old(), ticket).await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    late(&nodes, ticket).await;
}

async fn hundreds_of_changes_do_not_wear_a_fence_out<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    for _ in 0..260 {
        nodes.near.invalidates(Site::HOST, ["a.example"]).await;
    }
    late(&nodes, ticket).await;
    nodes.near.invalidates(Site::HOST, (0..3000).map(|n| format!("{n}.example"))).await;
    for n in 0..260 {
        nodes.far.stores(&Site::new(&format!("other {n}"), &[], "another")).await;
    }
    late(&nodes, ticket).await;
}

async fn a_fence_outlives_a_newer_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.invalidates(Site::ID, ["1"]).await;
    nodes.far.fills(&new(), nodes.far.begins(Site::HOST, "a.example").await).await;
    late(&nodes, ticket).await;
    nodes.serve(&new()).await;
    // The newer object is replaced by a state without hosts.
    nodes.far.deletes(Site::HOST, ["a.example", "b.example"]).await;
    nodes.far.fills(&Site::new("1", &[], "bare"), nodes.far.begins(Site::HOST, "a.example").await).await;
    late(&nodes, ticket).await;
}

async fn a_fence_outlives_a_short_life<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(20, 0).await;
    outlives_expiry(&trial, &nodes).await;
}

async fn a_fence_outlives_a_short_last_use_age<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(0, 20).await;
    outlives_expiry(&trial, &nodes).await;
}

async fn outlives_expiry<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Site>) {
    for clean_up in 0..3 {
        let ticket = nodes.near.ticket().await;
        nodes.far.stores(&new()).await;
        trial.pass(21).await;
        match clean_up {
            // The late fill itself finds the expired object.
            0 => {}
            1 => nodes.lack(&new()).await,
            _ => nodes.near.prunes().await,
        }
        nodes.near.refuses(&old(), ticket).await;
        late(nodes, ticket).await;
        let ticket = nodes.near.ticket().await;
        nodes.near.invalidates(Site::HOST, ["b.example"]).await;
        nodes.far.fills(&new(), nodes.far.ticket().await).await;
        trial.pass(21).await;
        if clean_up == 2 {
            nodes.near.prunes().await;
        }
        nodes.near.refuses(&old(), ticket).await;
        late(nodes, ticket).await;
    }
}

async fn a_fence_outlives_a_delete<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.far.fills(&new(), nodes.far.begins(Site::ID, "1").await).await;
    nodes.far.deletes(Site::HOST, ["b.example"]).await;
    late(&nodes, ticket).await;
    nodes.far.stores(&new()).await;
    nodes.far.deletes(Site::ID, ["1"]).await;
    nodes.far.deletes(Site::HOST, ["a.example", "b.example"]).await;
    late(&nodes, ticket).await;
    nodes.lack(&old()).await;
}

async fn a_fence_outlives_an_eviction<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.stores(&new()).await;
    trial.history.step("everything is evicted");
    trial.subject.evict(&trial.cache).await;
    nodes.lack(&new()).await;
    late(&nodes, ticket).await;
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.near.fills(&new(), nodes.near.begins(Site::HOST, "a.example").await).await;
    trial.history.step("everything is evicted");
    trial.subject.evict(&trial.cache).await;
    nodes.lack(&new()).await;
    late(&nodes, ticket).await;
}

async fn a_set_with_an_overtaken_ticket_only_invalidates<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let newest = Site { name: "newest".into(), ..old() };
    for newer in 0..3 {
        nodes.near.stores(&old()).await;
        let ticket = nodes.near.ticket().await;
        match newer {
            0 => nodes.far.invalidates(Site::HOST, ["b.example"]).await,
            1 => nodes.far.stores(&newest).await,
            _ => nodes.far.truncates().await,
        }
        // The put arrives late, as from the socket of a server that was stopped.
        overtaken(&nodes.near, Some(ticket)).await;
        nodes.lack(&old()).await;
    }
}

async fn a_set_without_a_ticket_only_invalidates<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let holder = Site::new("2", &["c.example"], "holder");
    let taker = Site::new("1", &["a.example", "b.example", "c.example"], "taker");
    nodes.near.stores(&old()).await;
    nodes.near.stores(&holder).await;
    nodes.serve(&holder).await;
    overtaken(&nodes.near, None).await;
    nodes.lack(&old()).await;
    nodes.serve(&holder).await;
    nodes.near.put(&taker, None).await;
    nodes.lack(&taker).await;
    nodes.lack(&holder).await;
}

/// Tries a put that must not store.
async fn overtaken(node: &Node<Site>, ticket: Option<Ticket>) {
    let stored = node.put(&new(), ticket).await;
    node.history.require(stored != Stored::Accepted, "a put with such a ticket must not store");
}

async fn an_update_that_was_overtaken_only_invalidates<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let newest = Site { name: "newest".into(), ..old() };
    for overtaking in 0..4 {
        nodes.near.stores(&old()).await;
        let (begun, has_begun) = oneshot::channel();
        let (written, is_written) = oneshot::channel();
        let update = nodes.near.cache.update(async move {
            let _ = begun.send(());
            let _ = is_written.await;
            Ok::<_, std::convert::Infallible>(new())
        });
        let change = async {
            let _ = has_begun.await;
            trial.history.step("near: an update has begun");
            match overtaking {
                0 => nodes.far.invalidates(Site::ID, ["1"]).await,
                1 => nodes.far.stores(&newest).await,
                2 => nodes.far.truncates().await,
                _ => nodes.far.stores(&Site::new("2", &["b.example"], "taker")).await,
            }
            let _ = written.send(());
        };
        let (updated, ()) = tokio::join!(update, change);
        trial.history.step(format!("near: the update ends -> {updated:?}"));
        trial.history.require(updated.is_ok_and(|site| *site == new()), "an update returns what was written");
        nodes.never_serve(&new()).await;
        nodes.never_serve(&old()).await;
        nodes.never_serve(&newest).await;
    }
}

async fn an_update_that_nothing_overtook_is_stored<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&old()).await;
    let ticket = nodes.far.ticket().await;
    let updated = nodes.near.cache.update(async { Ok::<_, &str>(new()) }).await;
    trial.history.step(format!("near: update -> {updated:?}"));
    nodes.serve(&new()).await;
    late(&nodes, ticket).await;
    let failed = nodes.near.cache.update(async { Err::<Site, _>("the write failed") }).await;
    trial.history.require(failed.is_err(), "an update answers with the error of the write");
    nodes.serve(&new()).await;
}
