//! C10 with a healthy server: every operation answers, and a set that cannot be stored leaves no older state behind. For outages see
//! [`outage`](super::outage).

use super::trial::{Nodes, Trial, keys_by_index};
use super::{Subject, table};
use crate::entries::{Body, Misfit, Site};
use larder::{Error, Lookup, MAX_KEY_LEN, Miss, Stored};

table! {
    C10 {
        an_empty_cache_answers_everything,
        a_key_that_cannot_exist_is_a_miss,
        one_bad_key_does_not_spare_the_others,
        an_object_without_one_id_leaves_nothing_older,
        an_object_with_a_bad_key_leaves_nothing_older,
        an_object_too_large_leaves_nothing_older,
        an_object_that_cannot_be_written_leaves_nothing_older,
        an_object_that_cannot_be_read_leaves_nothing_older,
        a_misfit_is_not_filled,
        hundreds_at_once_are_answered,
    }
}

async fn an_empty_cache_answers_everything<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    for node in [&nodes.near, &nodes.far] {
        node.prunes().await;
        node.invalidates(Site::ID, ["1"]).await;
        node.deletes(Site::HOST, ["a.example"]).await;
        node.truncates().await;
        node.prunes().await;
        node.ticket().await;
        node.begins(Site::ID, "1").await;
        let status = node.connector.status();
        let healthy = status.readable && status.journal == 0;
        trial.history.require(healthy, format!("not the status of a healthy connector: {status:?}"));
    }
}

async fn a_key_that_cannot_exist_is_a_miss<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let site = Site::new("1", &["a.example"], "Acme");
    nodes.near.stores(&site).await;
    for key in [Vec::new(), vec![b'k'; MAX_KEY_LEN + 1], vec![0; 1024 * 1024]] {
        for index in [Site::ID, Site::HOST] {
            nodes.near.misses(index, &key).await;
            let found = nodes.near.lookup(index, &key).await;
            let told = matches!(found, Lookup::Miss { cause: Miss::InvalidKey, .. });
            trial.history.require(told, "the miss must tell that there can be no such key");
        }
    }
    nodes.serve(&site).await;
}

async fn one_bad_key_does_not_spare_the_others<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let site = Site::new("1", &["a.example"], "Acme");
    let long = "k".repeat(MAX_KEY_LEN + 1);
    for bad in ["", &long] {
        for keys in [[bad, "a.example"], ["a.example", bad]] {
            nodes.near.stores(&site).await;
            let answer = nodes.far.cache.invalidate(Site::HOST, keys).await;
            trial.history.step(format!("far: invalidate a host and a key that cannot exist -> {answer:?}"));
            trial.history.require(matches!(answer, Err(Error::Key { .. })), "the key must be complained about");
            nodes.lack(&site).await;
            nodes.near.stores(&site).await;
            let answer = nodes.far.cache.delete(Site::HOST, keys).await;
            trial.history.step(format!("far: delete a host and a key that cannot exist -> {answer:?}"));
            trial.history.require(matches!(answer, Err(Error::Key { .. })), "the key must be complained about");
            nodes.lack_key(Site::HOST, "a.example").await;
        }
    }
}

fn fine(body: &str) -> Misfit {
    Misfit::new(&["1"], &["a.example", "b.example"], Body::Text(body.into()))
}

/// Sets an unfit object over a stored one, and checks that the older state is not served any more. A connector that keeps objects as they
/// are may accept the unfit object. Then it must serve it.
async fn replaces<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Misfit>, misfit: &Misfit) {
    let old = fine("old");
    let other = Misfit::new(&["2"], &["c.example"], Body::Text("holder of another of its keys".into()));
    nodes.near.stores(&old).await;
    nodes.near.stores(&other).await;
    nodes.serve(&old).await;
    nodes.serve(&other).await;
    let stored = nodes.far.set(misfit).await;
    trial.history.require(stored == Stored::Accepted || stored == Stored::Unfit, "either it is stored or it is unfit");
    nodes.never_serve(&old).await;
    if stored == Stored::Accepted {
        nodes.serve(misfit).await;
    } else {
        for (index, key) in keys_by_index(misfit).into_iter().filter(|(_, key)| (1..=MAX_KEY_LEN).contains(&key.len()))
        {
            nodes.lack_key(index, key).await;
        }
    }
    nodes.near.invalidates(Misfit::ID, ["1", "2"]).await;
}

async fn an_object_without_one_id_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for ids in [&[][..], &["1", "2"], &["1", ""]] {
        let misfit = Misfit::new(ids, &["a.example", "c.example"], Body::Text("no single id".into()));
        replaces(&trial, &nodes, &misfit).await;
    }
}

async fn an_object_with_a_bad_key_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let long = "k".repeat(MAX_KEY_LEN + 1);
    for bad in ["", &long] {
        let misfit = Misfit::new(&["1"], &["c.example", bad, "b.example"], Body::Text("a bad host".into()));
        replaces(&trial, &nodes, &misfit).await;
    }
}

async fn an_object_too_large_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes_with(trial.schema::<Misfit>().max_object_size(4096)).await;
    let large = Misfit::new(&["1"], &["b.example", "c.example"], Body::Text("x".repeat(4096)));
    replaces(&trial, &nodes, &large).await;
    // A smaller state of the same object is stored afterwards.
    nodes.near.stores(&fine("new")).await;
    nodes.serve(&fine("new")).await;
}

async fn an_object_that_cannot_be_written_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    replaces(&trial, &nodes, &Misfit::new(&["1"], &["b.example", "c.example"], Body::Unwritable)).await;
}

/// A set must not be accepted if the object can never be found.
async fn an_object_that_cannot_be_read_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    replaces(&trial, &nodes, &Misfit::new(&["1"], &["b.example", "c.example"], Body::Unreadable)).await;
}

async fn a_misfit_is_not_filled<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes_with(trial.schema::<Misfit>().max_object_size(4096)).await;
    let text = |text: &str| Body::Text(text.into());
    for misfit in [
        Misfit::new(&[], &["b.example"], text("no id")),
        Misfit::new(&["1", "2"], &["b.example"], text("two ids")),
        Misfit::new(&["1"], &["", "b.example"], text("an empty host")),
        Misfit::new(&["1"], &["b.example"], text(&"x".repeat(4096))),
        Misfit::new(&["1"], &["b.example"], Body::Unwritable),
        Misfit::new(&["1"], &["b.example"], Body::Unreadable),
    ] {
        let ticket = nodes.near.begins(Misfit::HOST, "b.example").await;
        if nodes.near.fill(&misfit, ticket).await == Stored::Accepted {
            nodes.serve(&misfit).await;
            nodes.near.invalidates(Misfit::ID, ["1"]).await;
        }
        nodes.lack_key(Misfit::HOST, "b.example").await;
        nodes.lack_key(Misfit::ID, "1").await;
        nodes.near.stores(&fine("fits")).await;
        nodes.serve(&fine("fits")).await;
        nodes.near.invalidates(Misfit::ID, ["1"]).await;
    }
}

async fn hundreds_at_once_are_answered<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let tasks: Vec<_> = (0..300)
        .map(|n| {
            let cache = if n % 2 == 0 { &nodes.near.cache } else { &nodes.far.cache }.clone();
            tokio::spawn(async move {
                let site = Site::new(&format!("{}", n % 20), &[&format!("{}.example", n % 20)], &format!("{n}"));
                let stored = cache.set(site.clone()).await;
                let found = cache.get(Site::HOST, &site.hosts[0]).await;
                if n % 7 == 0 {
                    let _ = cache.invalidate(Site::ID, [&site.id]).await;
                }
                (site, stored, found)
            })
        })
        .collect();
    for task in tasks {
        let Ok((site, stored, found)) = task.await else { trial.history.fail("an operation panicked") };
        trial.history.step(format!("set {site:?} -> {stored:?}, get -> {found:?}"));
        let right = found.is_none_or(|found| found.id == site.id && found.hosts == site.hosts);
        trial.history.require(right, "a get found another object");
    }
    let site = Site::new("0", &["0.example"], "afterwards");
    nodes.near.stores(&site).await;
    nodes.serve(&site).await;
}
