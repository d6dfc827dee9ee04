//! C12: two releases of a service share a cache while one replaces the other. Their entries differ in shape.
//!
//! Each release stores its own copy of an object. A fill leaves the other release's copy alone: it does not prove that copy stale. A set,
//! like every change, makes the other release's copy stale (C8), and removes it.

use super::trial::{Nodes, Trial, keys_by_index};
use super::{Subject, table};
use crate::entries::Site as Old;
use crate::entries::next::Site as New;
use larder::{Miss, Stored, Ticket};

table! {
    C12 {
        neither_reads_the_others_bytes if shared,
        neither_evicts_the_others if shared,
        a_set_reaches_both if shared,
        a_key_that_moves_moves_in_both if shared,
        an_invalidation_from_either_reaches_both if shared,
        an_invalidation_through_a_key_that_only_the_other_knows if shared,
        a_delete_from_either_reaches_both if shared,
        a_truncate_from_either_reaches_both if shared,
        a_prune_spares_the_others if shared,
        loads_are_overtaken_by_changes_of_the_other if shared,
        a_set_is_overtaken_by_a_change_of_the_other if shared,
    }
}

const HOSTS: [&str; 2] = ["a.example", "b.example"];

fn old() -> Old {
    Old::new("1", &HOSTS, "as the old release sees it")
}

fn new() -> New {
    New::new("1", &HOSTS, "as the new release sees it")
}

/// Both releases of the cache of this case, each on two nodes.
async fn both<S: Subject>(trial: &Trial<'_, S>) -> (Nodes<Old>, Nodes<New>) {
    (trial.nodes().await, trial.nodes().await)
}

/// Each release has loaded the object and filled it.
async fn fill_both(olds: &Nodes<Old>, news: &Nodes<New>) {
    olds.near.fills(&old(), olds.near.ticket().await).await;
    news.far.fills(&new(), news.far.ticket().await).await;
    olds.serve(&old()).await;
    news.serve(&new()).await;
}

async fn lack_both(olds: &Nodes<Old>, news: &Nodes<New>) {
    olds.lack(&old()).await;
    news.lack(&new()).await;
}

async fn neither_reads_the_others_bytes<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    olds.near.stores(&old()).await;
    news.lack(&new()).await;
    olds.serve(&old()).await;
    olds.near.truncates().await;
    news.near.stores(&new()).await;
    olds.lack(&old()).await;
    news.serve(&new()).await;
    // A release that tries to read the other's bytes counts them as undecodable or as a fault, and removes them.
    let tried = [olds.near.cache.stats(), olds.far.cache.stats(), news.near.cache.stats(), news.far.cache.stats()];
    let tried: u64 = tried.iter().map(|stats| stats.miss(Miss::Undecodable).get() + stats.faults.get()).sum();
    trial.history.require(tried == 0, "a release has tried to read the other's bytes");
}

async fn neither_evicts_the_others<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    fill_both(&olds, &news).await;
    for round in 0..4 {
        let old = Old { name: format!("loaded again, {round}"), ..old() };
        olds.near.fills(&old, olds.near.ticket().await).await;
        olds.serve(&old).await;
        news.serve(&new()).await;
        let new = New { name: format!("loaded again, {round}"), ..new() };
        news.far.fills(&new, news.far.ticket().await).await;
        olds.serve(&old).await;
        news.serve(&new).await;
        fill_both(&olds, &news).await;
    }
    // Other objects do not evict it either.
    for n in 0..20 {
        olds.far.stores(&Old::new(&format!("other {n}"), &[&format!("{n}.example")], "another")).await;
        news.far.stores(&New::new(&format!("new {n}"), &[&format!("new.{n}.example")], "another")).await;
    }
    olds.serve(&old()).await;
    news.serve(&new()).await;
}

async fn a_set_reaches_both<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    for round in 0..2 {
        fill_both(&olds, &news).await;
        let renamed = Old { name: format!("renamed {round}"), ..old() };
        olds.far.stores(&renamed).await;
        news.never_serve(&new()).await;
        news.near.fills(&new(), news.near.ticket().await).await;
        olds.serve(&renamed).await;
        let renamed = New { name: format!("renamed again {round}"), ..new() };
        news.far.stores(&renamed).await;
        olds.never_serve(&Old { name: format!("renamed {round}"), ..old() }).await;
        news.serve(&renamed).await;
    }
}

async fn a_key_that_moves_moves_in_both<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    for fill in [false, true] {
        fill_both(&olds, &news).await;
        let taker = New::new("2", &["b.example"], "taker");
        if fill {
            news.near.fills(&taker, news.near.ticket().await).await;
        } else {
            news.near.stores(&taker).await;
        }
        news.serve(&taker).await;
        lack_but(&olds, &news).await;
        olds.near.invalidates(Old::ID, ["2"]).await;
        news.lack(&taker).await;
    }
}

/// Checks that both copies of the earlier holder are gone. Its key `b.example` belongs to another object now.
async fn lack_but(olds: &Nodes<Old>, news: &Nodes<New>) {
    olds.lack(&old()).await;
    news.lack_key(New::ID, "1").await;
    news.lack_key(New::HOST, "a.example").await;
}

async fn an_invalidation_from_either_reaches_both<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    for (index, key) in keys_by_index(&old()) {
        fill_both(&olds, &news).await;
        olds.near.invalidates(index, [key]).await;
        lack_both(&olds, &news).await;
    }
    for (index, key) in keys_by_index(&new()) {
        fill_both(&olds, &news).await;
        news.near.invalidates(index, [key]).await;
        lack_both(&olds, &news).await;
        // Also if only the other release has stored the object.
        olds.near.stores(&old()).await;
        news.far.invalidates(New::HOST, ["b.example"]).await;
        lack_both(&olds, &news).await;
    }
}

async fn an_invalidation_through_a_key_that_only_the_other_knows<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    let bare = Old::new("1", &[], "before it got its hosts");
    for invalidating in 0..2 {
        olds.near.fills(&bare, olds.near.ticket().await).await;
        news.near.fills(&new(), news.near.ticket().await).await;
        olds.serve(&bare).await;
        news.serve(&new()).await;
        // The key leads to the object, which is forgotten in every shape.
        if invalidating == 0 {
            olds.far.invalidates(Old::HOST, ["b.example"]).await;
        } else {
            news.far.invalidates(New::HOST, ["a.example"]).await;
        }
        olds.lack(&bare).await;
        lack_both(&olds, &news).await;
    }
}

async fn a_delete_from_either_reaches_both<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    for deleting in 0..2 {
        fill_both(&olds, &news).await;
        if deleting == 0 {
            olds.near.deletes(Old::HOST, ["b.example"]).await;
        } else {
            news.near.deletes(New::HOST, ["b.example"]).await;
        }
        olds.lack_key(Old::HOST, "b.example").await;
        news.lack_key(New::HOST, "b.example").await;
        for (by_old, by_new, key) in [(Old::ID, New::ID, "1"), (Old::HOST, New::HOST, "a.example")] {
            olds.serve_key(by_old, key, &old()).await;
            news.serve_key(by_new, key, &new()).await;
        }
    }
}

async fn a_truncate_from_either_reaches_both<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    for _ in 0..2 {
        fill_both(&olds, &news).await;
        olds.near.truncates().await;
        lack_both(&olds, &news).await;
        fill_both(&olds, &news).await;
        news.far.truncates().await;
        lack_both(&olds, &news).await;
    }
    fill_both(&olds, &news).await;
    // An invalidation reaches both releases after a truncate, too.
    olds.near.invalidates(Old::HOST, ["a.example"]).await;
    lack_both(&olds, &news).await;
}

async fn a_prune_spares_the_others<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    olds.near.stores(&old()).await;
    news.near.prunes().await;
    olds.serve(&old()).await;
    olds.near.truncates().await;
    news.near.stores(&new()).await;
    olds.far.prunes().await;
    news.serve(&new()).await;
    olds.near.invalidates(Old::HOST, ["b.example"]).await;
    news.lack(&new()).await;
}

async fn loads_are_overtaken_by_changes_of_the_other<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    for change in 0..6 {
        let [of_old, of_new] = [olds.near.ticket().await, news.near.ticket().await];
        match change {
            0 => news.far.invalidates(New::ID, ["1"]).await,
            1 => news.far.invalidates(New::HOST, ["b.example"]).await,
            2 => news.far.stores(&new()).await,
            3 => news.far.stores(&New::new("2", &["b.example"], "taker")).await,
            4 => news.far.truncates().await,
            _ => {
                olds.far.invalidates(Old::HOST, ["a.example"]).await;
            }
        }
        late(&olds, &news, of_old, of_new).await;
        olds.near.invalidates(Old::ID, ["1", "2"]).await;
    }
}

async fn late(olds: &Nodes<Old>, news: &Nodes<New>, of_old: Ticket, of_new: Ticket) {
    let stale = Old { name: "stale".into(), ..old() };
    olds.near.refuses(&stale, of_old).await;
    olds.never_serve(&stale).await;
    let stale = New { name: "stale".into(), ..new() };
    news.near.refuses(&stale, of_new).await;
    news.never_serve(&stale).await;
}

async fn a_set_is_overtaken_by_a_change_of_the_other<S: Subject>(trial: Trial<'_, S>) {
    let (olds, news) = both(&trial).await;
    fill_both(&olds, &news).await;
    let ticket = olds.near.ticket().await;
    news.far.invalidates(New::HOST, ["b.example"]).await;
    news.far.fills(&new(), news.far.ticket().await).await;
    // Neither copy is known to be the newer one, so neither may be served.
    let stored = olds.near.put(&old(), Some(ticket)).await;
    trial
        .history
        .require(stored != Stored::Accepted, "the put was overtaken by an invalidation from the other release");
    lack_both(&olds, &news).await;
}
