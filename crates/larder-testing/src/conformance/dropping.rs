//! C13: a caller drops the future of an operation. Each operation is dropped after each number of polls that it can take. Then the
//! operation must have taken effect as a whole or not at all, and the cache must work as before.

use super::trial::{Dice, Nodes, Trial, keys_by_index, polled};
use super::{Subject, table};
use crate::entries::Site;
use larder::{Cache, Stored};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::oneshot;
use tokio::task::yield_now;

table! {
    C13 {
        a_dropped_get_disturbs_nobody,
        a_dropped_store_is_whole_or_nothing,
        an_update_whose_caller_goes_away_is_done,
        a_dropped_store_leaves_nothing_older,
        a_dropped_change_of_keys_is_whole_or_nothing,
        an_invalidation_that_had_begun_is_done,
        a_long_invalidation_that_had_begun_is_done,
        a_delete_that_had_begun_is_done,
        a_truncate_that_had_begun_is_done,
        a_dropped_prune_takes_nothing_along,
        thousands_of_dropped_calls_use_nothing_up,
        callers_torn_down_in_the_middle,
    }
}

/// No operation needs more polls than this.
const POLLS: usize = 8;

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example"], "Acme")
}

fn renamed(name: impl ToString) -> Site {
    Site { name: name.to_string(), ..acme() }
}

/// Checks that the cache works as if nothing had been dropped.
async fn works<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Site>) {
    trial.calm(nodes).await;
    let site = renamed("afterwards");
    nodes.near.stores(&site).await;
    nodes.serve(&site).await;
    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
    nodes.lack(&site).await;
    nodes.far.fills(&site, nodes.far.begins(Site::HOST, "a.example").await).await;
    nodes.serve(&site).await;
}

fn told<T: std::fmt::Debug>(outcome: &Option<T>, polls: usize) -> String {
    match outcome {
        Some(outcome) => format!("done before poll {}: {outcome:?}", polls + 1),
        None => format!("dropped after {polls} polls"),
    }
}

async fn a_dropped_get_disturbs_nobody<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    for polls in 0..POLLS {
        for (index, key) in keys_by_index(&Site::new("1", &["a.example", "nobody.example"], "")) {
            polled(nodes.near.cache.get(index, &key), polls).await;
            polled(nodes.near.cache.lookup(index, &key), polls).await;
            polled(nodes.near.connector.ticket(), polls).await;
            trial.history.step(format!("near: get, lookup and ticket dropped after {polls} polls"));
            // A late answer must not be taken for the answer of the next call.
            nodes.near.serves(Site::HOST, "b.example", &acme()).await;
            nodes.near.misses(Site::HOST, "nobody.example").await;
        }
    }
    works(&trial, &nodes).await;
}

/// Checks that both nodes find one of the states as a whole, or nothing.
async fn one_state(nodes: &Nodes<Site>, states: &[Site]) {
    let mut found = None;
    for node in [&nodes.near, &nodes.far] {
        for state in states {
            for (index, key) in keys_by_index(state) {
                if let Some(site) = node.get(index, &key).await {
                    found = Some(site);
                }
            }
        }
    }
    let Some(found) = found else { return };
    nodes.near.history.require(states.contains(&found), "a state that nobody has set");
    nodes.serve(&found).await;
    for state in states {
        for (index, key) in keys_by_index(state) {
            if !keys_by_index(&*found).contains(&(index, key.clone())) {
                nodes.lack_key(index, &key).await;
            }
        }
    }
}

/// Drops an update after this many polls, and waits until everything that it began has ended.
async fn dropped_update(cache: &Cache<Site>, site: Site, polls: usize) -> Option<Stored> {
    let puts = || Stored::ALL.iter().map(|outcome| cache.stats().put(*outcome).get()).sum::<u64>();
    let before = puts();
    let (alive, written) = (Arc::new(()), Arc::new(AtomicBool::new(false)));
    let (life, write) = (alive.clone(), written.clone());
    let update = cache.update(async move {
        let _life = life;
        write.store(true, Ordering::SeqCst);
        Ok::<_, &str>(site)
    });
    let outcome = polled(update, polls).await;
    while Arc::strong_count(&alive) > 1 || written.load(Ordering::SeqCst) && puts() == before {
        yield_now().await;
    }
    outcome.map(|_| Stored::Accepted)
}

async fn a_dropped_store_is_whole_or_nothing<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // A connector may treat a large object differently.
    let large = "x".repeat(20_000);
    for polls in 0..POLLS {
        for (way, name) in ["set", "fill", "update", "set of a large object"].into_iter().enumerate() {
            nodes.near.invalidates(Site::ID, ["1"]).await;
            let site = renamed(if way == 3 { &large } else { name });
            let outcome = match way {
                1 => polled(nodes.near.cache.fill(site.clone(), nodes.near.ticket().await), polls).await,
                2 => dropped_update(&nodes.near.cache, site.clone(), polls).await,
                _ => polled(nodes.near.cache.set(site.clone()), polls).await,
            };
            trial.history.step(format!("near: {name} {}", told(&outcome, polls)));
            trial.calm(&nodes).await;
            nodes.whole_or_gone(&site).await;
            if outcome.is_some() {
                nodes.serve(&site).await;
            }
        }
    }
    works(&trial, &nodes).await;
}

/// A caller goes away while its update writes the source. The written state must reach the cache all the same.
async fn an_update_whose_caller_goes_away_is_done<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&renamed("older")).await;
    let (begun, has_begun) = oneshot::channel();
    let (written, is_written) = oneshot::channel();
    let cache = nodes.near.cache.clone();
    let caller = tokio::spawn(async move {
        let write = async move {
            let _ = begun.send(());
            let _ = is_written.await;
            Ok::<_, &str>(renamed("newer"))
        };
        cache.update(write).await.map(|_| ())
    });
    let _ = has_begun.await;
    caller.abort();
    let _ = caller.await;
    trial.history.step("near: an update is dropped while its write is under way; then the row is written");
    let _ = written.send(());
    while nodes.near.cache.stats().put(Stored::Accepted).get() < 2 {
        yield_now().await;
    }
    nodes.serve(&renamed("newer")).await;
}

/// As soon as the new state was sent, dropping the put invalidates its keys through the journal.
async fn a_dropped_store_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for polls in 0..POLLS {
        nodes.near.stores(&renamed("older")).await;
        nodes.serve(&renamed("older")).await;
        let ticket = nodes.near.ticket().await;
        let put = nodes.near.connector.put(nodes.near.object(&renamed("newer")), Some(ticket));
        let outcome = polled(put, polls).await;
        trial.history.step(format!("near: put {}", told(&outcome, polls)));
        trial.calm(&nodes).await;
        if polls > 0 {
            nodes.never_serve(&renamed("older")).await;
            nodes.near.refuses(&renamed("older"), ticket).await;
        }
        one_state(&nodes, &[renamed("older"), renamed("newer")]).await;
    }
    works(&trial, &nodes).await;
}

async fn a_dropped_change_of_keys_is_whole_or_nothing<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let old = Site::new("1", &["kept.example", "old.example"], "old");
    let new = Site::new("1", &["new.example", "kept.example"], "new");
    let taker = Site::new("2", &["kept.example"], "taker");
    let states = [old.clone(), new.clone(), taker.clone()];
    for polls in 0..POLLS {
        nodes.near.stores(&old).await;
        for site in [&new, &taker] {
            let outcome = polled(nodes.near.cache.set(site.clone()), polls).await;
            trial.history.step(format!("near: set of {} {}", site.name, told(&outcome, polls)));
            trial.calm(&nodes).await;
            // All three states list the same key, so at most one of them can be stored.
            one_state(&nodes, &states).await;
        }
        nodes.near.invalidates(Site::ID, ["2"]).await;
    }
    works(&trial, &nodes).await;
}

async fn an_invalidation_that_had_begun_is_done<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for polls in 0..POLLS {
        for (index, key) in keys_by_index(&acme()) {
            nodes.near.stores(&acme()).await;
            nodes.far.get(Site::HOST, "a.example").await;
            let ticket = nodes.far.ticket().await;
            let outcome = polled(nodes.near.cache.invalidate(index, [&key]), polls).await;
            trial.history.step(format!("near: invalidate {index:?} {}", told(&outcome, polls)));
            trial.calm(&nodes).await;
            if polls > 0 {
                nodes.lack(&acme()).await;
                nodes.far.refuses(&acme(), ticket).await;
            } else {
                nodes.whole_or_gone(&acme()).await;
            }
        }
    }
    works(&trial, &nodes).await;
}

async fn a_long_invalidation_that_had_begun_is_done<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let sites: Vec<_> =
        (0..1000).step_by(111).map(|n| Site::new(&n.to_string(), &[&format!("{n}.example")], "one")).collect();
    for polls in 0..POLLS {
        for site in &sites {
            nodes.near.stores(site).await;
        }
        let hosts = (0..1000).map(|n| format!("{n}.example"));
        let outcome = polled(nodes.near.cache.invalidate(Site::HOST, hosts), polls).await;
        trial.history.step(format!("near: invalidate 1,000 hosts {}", told(&outcome, polls)));
        trial.calm(&nodes).await;
        for site in &sites {
            if polls > 0 {
                nodes.lack(site).await;
            } else {
                nodes.whole_or_gone(site).await;
            }
        }
    }
    works(&trial, &nodes).await;
}

async fn a_delete_that_had_begun_is_done<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for polls in 1..POLLS {
        for (index, key) in keys_by_index(&acme()) {
            nodes.near.stores(&acme()).await;
            let outcome = polled(nodes.near.cache.delete(index, [&key]), polls).await;
            trial.history.step(format!("near: delete {index:?} {}", told(&outcome, polls)));
            trial.calm(&nodes).await;
            nodes.lack_key(index, &key).await;
            if outcome.is_some() {
                for (other, key) in keys_by_index(&acme()).into_iter().filter(|other| *other != (index, key.clone())) {
                    nodes.serve_key(other, key, &acme()).await;
                }
            }
        }
    }
    works(&trial, &nodes).await;
}

async fn a_truncate_that_had_begun_is_done<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for polls in 0..POLLS {
        nodes.near.stores(&acme()).await;
        let ticket = nodes.far.ticket().await;
        let outcome = polled(nodes.near.cache.truncate(), polls).await;
        trial.history.step(format!("near: truncate {}", told(&outcome, polls)));
        trial.calm(&nodes).await;
        if polls > 0 {
            nodes.lack(&acme()).await;
            nodes.far.refuses(&acme(), ticket).await;
        } else {
            nodes.whole_or_gone(&acme()).await;
        }
    }
    works(&trial, &nodes).await;
}

async fn a_dropped_prune_takes_nothing_along<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    for polls in 0..POLLS {
        polled(nodes.near.cache.prune(), polls).await;
        trial.history.step(format!("near: prune dropped after {polls} polls"));
        trial.calm(&nodes).await;
        nodes.serve(&acme()).await;
    }
    works(&trial, &nodes).await;
}

async fn thousands_of_dropped_calls_use_nothing_up<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    let ticket = nodes.near.ticket().await;
    for round in 0..1200 {
        let (cache, polls) = (&nodes.near.cache, 1 + round % 2);
        polled(cache.get(Site::HOST, "a.example"), polls).await;
        polled(cache.lookup(Site::HOST, "nobody.example"), polls).await;
        polled(nodes.near.connector.ticket(), polls).await;
        if round % 10 == 0 {
            polled(cache.fill(renamed(round), ticket), polls).await;
            polled(cache.prune(), polls).await;
        }
        if round % 100 == 0 {
            polled(cache.set(renamed(round)), polls).await;
            polled(cache.delete(Site::HOST, ["nobody.example"]), polls).await;
            polled(cache.invalidate(Site::HOST, ["nobody.example"]), polls).await;
        }
    }
    trial.history.step("near: thousands of calls dropped after one poll or two");
    works(&trial, &nodes).await;
    for _ in 0..300 {
        nodes.near.serves(Site::HOST, "a.example", &renamed("afterwards")).await;
    }
    works(&trial, &nodes).await;
}

/// Several tasks are aborted at once, each wherever it is.
async fn callers_torn_down_in_the_middle<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let mut dice = Dice::new(13);
    for round in 0..30 {
        let begun = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..8)
            .map(|n| {
                let cache = if n % 2 == 0 { &nodes.near.cache } else { &nodes.far.cache }.clone();
                let begun = begun.clone();
                tokio::spawn(async move {
                    for step in n.. {
                        match step % 5 {
                            0 => drop(cache.set(renamed(format!("{round}.{n}"))).await),
                            1 => drop(cache.invalidate(Site::HOST, ["a.example"]).await),
                            2 => drop(cache.delete(Site::HOST, ["b.example"]).await),
                            3 => drop(cache.get_or_load(Site::ID, "1", async |_| Ok::<_, &str>(Some(acme()))).await),
                            _ => drop(cache.get(Site::HOST, "a.example").await),
                        }
                        begun.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let enough = 1 + dice.throw(60);
        while begun.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        for caller in &callers {
            caller.abort();
        }
        for caller in callers {
            let ended = caller.await;
            let aborted = ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled);
            trial.history.require(aborted, format!("a caller has ended by itself: {ended:?}"));
        }
        trial.history.step(format!("round {round}: 8 callers torn down after {enough} calls"));
        if round % 5 == 0 {
            works(&trial, &nodes).await;
        }
    }
    works(&trial, &nodes).await;
}
