//! C1 and C2: an object is found under its own keys only, and a new state replaces the earlier one under every key.

use super::trial::{Dice, Trial, keys_by_index, poll_once};
use super::{Subject, table};
use crate::entries::Site;
use larder::{AnyKey, Cache, Keys};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

table! {
    C1 {
        nothing_stored_is_a_miss,
        every_key_leads_to_the_object,
        filled_objects_are_found,
        the_last_stored_wins,
        an_index_is_a_world_of_its_own,
        a_value_comes_back_intact,
        one_among_many_is_found,
        a_random_walk_finds_nothing_wrong,
    }
    C2 {
        keys_that_a_set_drops_stop_resolving,
        keys_that_a_fill_drops_stop_resolving,
        forgotten_keys_do_not_come_back,
        a_set_invalidates_the_holder_of_its_key,
        a_fill_invalidates_the_holder_of_its_key,
        a_set_invalidates_many_holders,
        a_key_goes_back_and_forth,
        an_expired_predecessor_takes_nothing_along,
        nobody_reads_half_a_set,
        readers_beside_a_writer_never_go_back,
    }
}

async fn nothing_stored_is_a_miss<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    nodes.lack(&Site::new("1", &["a.example"], "Acme")).await;
    nodes.near.stores(&Site::new("1", &["a.example"], "Acme")).await;
    nodes.lack(&Site::new("2", &["b.example"], "Bolt")).await;
    nodes.lack(&Site::new("", &["a.exampl", "a.example.", "A.example"], "")).await;
}

async fn every_key_leads_to_the_object<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let acme = Site::new("1", &["a.example", "b.example", "c.example"], "Acme");
    nodes.near.stores(&acme).await;
    nodes.serve(&acme).await;
    let bare = Site::new("2", &[], "an object without secondary keys");
    nodes.far.stores(&bare).await;
    nodes.serve(&bare).await;
    let hosts: Vec<_> = (0..200).map(|n| format!("{n}.example")).collect();
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let large = Site::new("3", &hosts, "an object with many keys");
    nodes.near.stores(&large).await;
    nodes.serve(&large).await;
    nodes.serve(&acme).await;
}

async fn filled_objects_are_found<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let acme = Site::new("1", &["a.example", "b.example"], "Acme");
    let ticket = nodes.near.begins(Site::HOST, "a.example").await;
    nodes.near.fills(&acme, ticket).await;
    nodes.serve(&acme).await;
    // Two loads of the same state, one after the other.
    let bolt = Site::new("2", &["c.example"], "Bolt");
    let by_host = nodes.near.begins(Site::HOST, "c.example").await;
    let by_id = nodes.far.begins(Site::ID, "2").await;
    nodes.far.fills(&bolt, by_id).await;
    nodes.near.fills(&bolt, by_host).await;
    nodes.serve(&bolt).await;
    nodes.serve(&acme).await;
}

async fn the_last_stored_wins<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for round in 0..10 {
        let acme = Site::new("1", &["a.example"], &format!("Acme {round}"));
        let writer = if round % 2 == 0 { &nodes.near } else { &nodes.far };
        if round % 3 == 2 {
            writer.fills(&acme, writer.ticket().await).await;
        } else {
            writer.stores(&acme).await;
        }
        nodes.serve(&acme).await;
    }
}

async fn an_index_is_a_world_of_its_own<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // The id of each is the host of the other.
    let acme = Site::new("a", &["b"], "Acme");
    let bolt = Site::new("b", &["a"], "Bolt");
    nodes.near.stores(&acme).await;
    nodes.lack(&bolt).await;
    nodes.near.stores(&bolt).await;
    nodes.serve(&acme).await;
    nodes.serve(&bolt).await;
    let same = Site::new("c", &["c"], "one key in both indexes");
    nodes.near.stores(&same).await;
    nodes.serve(&same).await;
}

async fn a_value_comes_back_intact<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let long = "0123456789abcdef".repeat(8 * 1024);
    let names = ["", "\0", "Ünïcödé 🥫", "\r\n$5\r\nhello", "{\"name\":1}", long.as_str()];
    for (round, name) in names.into_iter().enumerate() {
        let site = Site::new(&format!("{round}"), &[&format!("{round}.example")], name);
        nodes.near.stores(&site).await;
        nodes.serve(&site).await;
    }
}

async fn one_among_many_is_found<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let sites: Vec<_> =
        (0..300).map(|n| Site::new(&format!("{n}"), &[&format!("{n}.example")], &format!("{n}"))).collect();
    for site in &sites {
        nodes.near.stores(site).await;
    }
    for site in &sites {
        nodes.serve(site).await;
    }
}

/// An object, and its keys that have not been deleted.
type Expected = (Site, Vec<AnyKey<Site>>);

async fn a_random_walk_finds_nothing_wrong<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let mut dice = Dice::new(1);
    let mut expected: Vec<Expected> = Vec::new();
    let universe = Site::new("", &["0", "1", "2", "3", "4", "5"], "");
    let hosts: Vec<_> = universe.hosts.iter().map(String::as_str).collect();
    let ids = ["0", "1", "2", "3"];
    for round in 0..400 {
        let node = if dice.throw(2) == 0 { &nodes.near } else { &nodes.far };
        let (index, key) =
            if dice.throw(3) == 0 { (Site::ID, ids[dice.throw(4)]) } else { (Site::HOST, hosts[dice.throw(6)]) };
        match dice.throw(6) {
            0 => {
                node.invalidates(index, [key]).await;
                let leads =
                    |(site, live): &Expected| live.contains(&index.key(key)) || index == Site::ID && site.id == key;
                expected.retain(|one| !leads(one));
            }
            1 => {
                node.deletes(index, [key]).await;
                expected.iter_mut().for_each(|(_, live)| live.retain(|live| *live != index.key(key)));
            }
            choice => {
                let of_it: Vec<_> = hosts.iter().copied().filter(|_| dice.throw(3) == 0).collect();
                let site = Site::new(ids[dice.throw(4)], &of_it, &format!("round {round}"));
                if choice < 5 {
                    node.stores(&site).await;
                } else {
                    node.fills(&site, node.ticket().await).await;
                }
                nodes.serve(&site).await;
                let keys = Keys::of(&site);
                let holds = |one: &Expected| one.0.id == site.id || keys.iter().any(|key| one.1.contains(key));
                expected.retain(|one| !holds(one));
                expected.push((site, keys));
            }
        }
        // Every key finds the expected object, or nothing: a connector may forget more than it must.
        let mut found = vec![0; expected.len()];
        for (index, key) in ids.iter().map(|id| (Site::ID, *id)).chain(hosts.iter().map(|host| (Site::HOST, *host))) {
            let place = expected.iter().position(|(_, live)| live.contains(&index.key(key)));
            let Some(site) = node.get(index, key).await else { continue };
            let right = place.is_some_and(|place| expected[place].0 == *site);
            trial.history.require(right, format!("expected {:?}", place.map(|place| &expected[place].0)));
            if let Some(place) = place {
                found[place] += 1;
            }
        }
        for ((site, live), found) in expected.iter().zip(found) {
            trial.history.require(found == 0 || found == live.len(), format!("half of this is there: {site:?}"));
        }
    }
}

async fn keys_that_a_set_drops_stop_resolving<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let old = Site::new("1", &["old.example", "kept.example"], "old");
    let new = Site::new("1", &["kept.example", "new.example"], "new");
    nodes.near.stores(&old).await;
    nodes.serve(&old).await;
    nodes.far.stores(&new).await;
    nodes.serve(&new).await;
    nodes.lack_key(Site::HOST, "old.example").await;
    let bare = Site::new("1", &[], "bare");
    nodes.near.stores(&bare).await;
    nodes.serve(&bare).await;
    nodes.lack_key(Site::HOST, "kept.example").await;
    nodes.lack_key(Site::HOST, "new.example").await;
}

async fn keys_that_a_fill_drops_stop_resolving<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let old = Site::new("1", &["old.example", "kept.example"], "old");
    let new = Site::new("1", &["kept.example", "new.example"], "new");
    nodes.near.stores(&old).await;
    nodes.serve(&old).await;
    let ticket = nodes.far.begins(Site::HOST, "new.example").await;
    nodes.far.fills(&new, ticket).await;
    nodes.serve(&new).await;
    nodes.lack_key(Site::HOST, "old.example").await;
}

async fn forgotten_keys_do_not_come_back<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let wide = Site::new("1", &["a.example", "b.example"], "wide");
    let narrow = Site::new("1", &["a.example"], "narrow");
    for forget in 0..3 {
        nodes.near.stores(&wide).await;
        nodes.serve(&wide).await;
        match forget {
            0 => nodes.near.invalidates(Site::ID, ["1"]).await,
            1 => nodes.near.deletes(Site::HOST, ["a.example", "b.example"]).await,
            _ => nodes.near.truncates().await,
        }
        // The key led to the earlier state. The new state does not list it, so the key must not lead there.
        nodes.far.stores(&narrow).await;
        nodes.serve(&narrow).await;
        nodes.lack_key(Site::HOST, "b.example").await;
    }
}

async fn a_set_invalidates_the_holder_of_its_key<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let holder = Site::new("1", &["moves.example", "stays.example"], "holder");
    let taker = Site::new("2", &["moves.example"], "taker");
    nodes.near.stores(&holder).await;
    nodes.serve(&holder).await;
    nodes.far.stores(&taker).await;
    nodes.serve(&taker).await;
    nodes.never_serve(&holder).await;
    nodes.lack_key(Site::ID, "1").await;
    nodes.lack_key(Site::HOST, "stays.example").await;
}

async fn a_fill_invalidates_the_holder_of_its_key<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let holder = Site::new("1", &["moves.example", "stays.example"], "holder");
    let taker = Site::new("2", &["moves.example"], "taker");
    nodes.near.stores(&holder).await;
    nodes.serve(&holder).await;
    let ticket = nodes.far.begins(Site::ID, "2").await;
    nodes.far.fills(&taker, ticket).await;
    nodes.serve(&taker).await;
    nodes.lack_key(Site::ID, "1").await;
    nodes.lack_key(Site::HOST, "stays.example").await;
}

async fn a_set_invalidates_many_holders<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let holders: Vec<_> = (0..20)
        .map(|n| Site::new(&format!("{n}"), &[&format!("moves.{n}"), &format!("stays.{n}")], &format!("holder {n}")))
        .collect();
    for holder in &holders {
        nodes.near.stores(holder).await;
        nodes.serve(holder).await;
    }
    let moves: Vec<_> = holders.iter().skip(1).map(|holder| holder.hosts[0].as_str()).collect();
    let taker = Site::new("taker", &moves, "taker");
    nodes.far.stores(&taker).await;
    nodes.serve(&taker).await;
    for holder in &holders[1..] {
        nodes.lack_key(Site::ID, &holder.id).await;
        nodes.lack_key(Site::HOST, &holder.hosts[1]).await;
    }
    nodes.serve(&holders[0]).await;
}

async fn a_key_goes_back_and_forth<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for round in 0..6 {
        let (with, without) = if round % 2 == 0 { ("1", "2") } else { ("2", "1") };
        let with = Site::new(with, &["moves.example"], &format!("{round}, with it"));
        let without = Site::new(without, &[], &format!("{round}, without it"));
        // The two sets may reach the cache in either order.
        if round % 3 == 0 {
            nodes.near.stores(&without).await;
            nodes.far.stores(&with).await;
        } else {
            nodes.far.stores(&with).await;
            nodes.near.stores(&without).await;
        }
        nodes.serve(&with).await;
        nodes.serve(&without).await;
    }
}

/// Removing an expired object must not remove the index keys of the object that came after it.
async fn an_expired_predecessor_takes_nothing_along<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.aging(200, 0).await;
    let first = Site::new("1", &["moves.example", "stays.example"], "first");
    let second = Site::new("2", &["moves.example"], "second");
    nodes.near.stores(&first).await;
    trial.serve_if_exact(&nodes, &first).await;
    trial.pass(201).await;
    nodes.far.stores(&second).await;
    nodes.lack_key(Site::ID, "1").await;
    nodes.lack_key(Site::HOST, "stays.example").await;
    nodes.far.prunes().await;
    trial.serve_if_exact(&nodes, &second).await;
    nodes.near.invalidates(Site::HOST, ["moves.example"]).await;
    nodes.lack(&second).await;
}

async fn nobody_reads_half_a_set<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let old = Site::new("1", &["old.example", "kept.example"], "old");
    let new = Site::new("1", &["kept.example", "new.example"], "new");
    let every = Site::new("1", &["old.example", "kept.example", "new.example"], "");
    nodes.near.stores(&old).await;
    nodes.serve(&old).await;
    let at_once = trial.at_once();
    let mut set = pin!(nodes.near.set(&new));
    let mut seen_new = false;
    while poll_once(&mut set).await.is_none() {
        for (index, key) in keys_by_index(&every) {
            for node in [&nodes.near, &nodes.far] {
                let Some(found) = node.get(index, &key).await else { continue };
                let lists = keys_by_index(&*found).contains(&(index, key.clone()));
                trial.history.require(lists, "it does not list the key it was found by");
                trial.history.require(*found == new || *found == old, "neither the old state nor the new one");
                trial.history.require(*found == new || !seen_new, "the old state, after the new one was seen");
                seen_new |= at_once && *found == new;
            }
        }
    }
    nodes.serve(&new).await;
    nodes.lack_key(Site::HOST, "old.example").await;
}

async fn readers_beside_a_writer_never_go_back<S: Subject>(trial: Trial<'_, S>) {
    const ROUNDS: u64 = 200;
    let nodes = trial.nodes::<Site>().await;
    let written = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..4)
        .map(|n| {
            let node = if n % 2 == 0 { &nodes.near } else { &nodes.far };
            tokio::spawn(read_until(node.cache.clone(), written.clone(), ROUNDS, n))
        })
        .collect();
    for round in 1..=ROUNDS {
        let (node, host) = if round % 2 == 0 { (&nodes.near, "even") } else { (&nodes.far, "odd") };
        node.stores(&Site::new("1", &["any", host], &round.to_string())).await;
        written.store(round, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    for reader in readers {
        match reader.await {
            Ok(Ok(())) => {}
            Ok(Err(seen)) => trial.history.fail(seen),
            Err(error) => trial.history.fail(format!("a reader ended: {error}")),
        }
    }
}

async fn read_until(cache: Cache<Site>, written: Arc<AtomicU64>, last: u64, seed: u64) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    loop {
        let floor = written.load(Ordering::SeqCst);
        let (index, key) =
            [(Site::ID, "1"), (Site::HOST, "any"), (Site::HOST, "even"), (Site::HOST, "odd")][dice.throw(4)];
        if let Some(site) = cache.get(index, key).await {
            if !Keys::of(&*site).contains(&index.key(key)) {
                return Err(format!("a reader found {site:?} under {key:?}"));
            }
            if site.name.parse::<u64>().is_ok_and(|round| round < floor) {
                return Err(format!("a reader found {site:?} after round {floor} had been set"));
            }
        }
        if floor == last {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}
