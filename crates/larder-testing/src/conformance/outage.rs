//! C10 during an outage: every operation answers, and the changes of the outage are applied before anything is read again. Only for
//! connectors that can be cut off from what they store.

use super::trial::{Nodes, Trial, key_ref, keys_by_index};
use super::{Subject, table};
use crate::entries::Site;
use larder::{Delivery, Stored};

table! {
    C10 {
        what_changes_during_an_outage_is_applied_before_anything_is_read if outages,
        an_outage_without_changes_loses_nothing if outages,
    }
}

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example"], "Acme")
}

fn renamed() -> Site {
    Site { name: "renamed".into(), ..acme() }
}

/// How many kinds of change there are. After each of them, the earlier state must not be served any more.
const CHANGES: usize = 6;

/// Makes a change on the near node during the outage, and checks that the answer is *deferred*.
async fn change<S: Subject>(trial: &Trial<'_, S>, nodes: &Nodes<Site>, which: usize) {
    let cache = &nodes.near.cache;
    let (what, delivery) = match which {
        0 => ("invalidate id 1", cache.invalidate(Site::ID, ["1"]).await),
        1 => ("invalidate host b.example", cache.invalidate(Site::HOST, ["b.example"]).await),
        2 => ("delete all keys", {
            cache.delete(Site::ID, ["1"]).await.ok();
            cache.delete(Site::HOST, ["a.example", "b.example"]).await
        }),
        3 => ("truncate", cache.truncate().await),
        4 => ("set", {
            let stored = nodes.near.set(&renamed()).await;
            trial.history.require(stored != Stored::Accepted, "nothing can be stored during an outage");
            Ok(Delivery::Deferred)
        }),
        _ => ("set of another object with host b.example", {
            nodes.near.set(&Site::new("2", &["b.example"], "taker")).await;
            Ok(Delivery::Deferred)
        }),
    };
    trial.history.step(format!("near: {what} -> {delivery:?}"));
    let deferred = matches!(delivery, Ok(Delivery::Deferred));
    trial.history.require(deferred, "what cannot be told must be deferred, and must not fail");
}

async fn what_changes_during_an_outage_is_applied_before_anything_is_read<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for which in 0..CHANGES {
        nodes.near.stores(&acme()).await;
        nodes.serve(&acme()).await;
        let load = nodes.far.ticket().await;
        trial.interrupt(&nodes).await;
        change(&trial, &nodes, which).await;
        // The node that made the change must not serve the earlier state, outage or not.
        for (index, key) in keys_by_index(&acme()) {
            let found = nodes.near.get(index, &key).await;
            trial.history.require(found.as_deref() != Some(&acme()), "this node has changed the object itself");
            let waits = nodes.near.connector.status().journal > 0;
            trial.history.require(waits, "what was deferred waits in the journal");
            nodes.near.connector.lookup(key_ref(index, &key)).await;
        }
        trial.mend(&nodes).await;
        nodes.never_serve(&acme()).await;
        nodes.far.refuses(&acme(), load).await;
        nodes.far.stores(&renamed()).await;
        nodes.serve(&renamed()).await;
    }
}

async fn an_outage_without_changes_loses_nothing<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&acme()).await;
    trial.interrupt(&nodes).await;
    let found = nodes.far.get(Site::HOST, "a.example").await;
    trial.history.require(found.is_none_or(|found| *found == acme()), "another object's state");
    trial.mend(&nodes).await;
    nodes.serve(&acme()).await;
}
