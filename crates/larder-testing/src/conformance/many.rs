//! Several objects in one call: C1, C2, C3, C8, C10 and C13 hold for each object and for all of them together, and one call of a loader
//! can load them all.

use super::trial::{Node, Nodes, Trial, brief, key_ref, keys_by_index, keys_of, polled};
use super::{Subject, table};
use crate::entries::Site;
use larder::contract::{Fill, KeyRef, Lookups};
use larder::{Delivery, Index, Miss, Stored, Ticket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

table! {
    C1 {
        many_are_found_in_the_order_of_their_keys,
        many_are_found_by_keys_that_a_node_has_never_seen,
        hundreds_are_found_in_one_call,
    }
    C2 {
        many_that_are_set_replace_their_earlier_states,
        the_last_of_many_that_claim_a_key_has_it,
        the_last_of_many_filled_that_claim_a_key_has_it,
    }
    C3 {
        many_are_forgotten_through_keys_of_several_indexes,
    }
    C8 {
        many_loads_have_one_ticket,
        many_loads_are_overtaken_by_a_set_of_many,
        many_that_were_touched_are_not_filled,
    }
    C10 {
        none_is_as_good_as_many,
        a_misfit_among_many_leaves_nothing_older,
        one_too_large_among_many_leaves_nothing_older,
    }
    C13 {
        a_dropped_get_of_many_disturbs_nobody,
        a_dropped_set_of_many_leaves_nothing_older,
        a_dropped_fill_of_many_leaves_no_halves,
    }
    Loading {
        many_are_loaded_by_one_call,
        a_load_of_many_that_was_overtaken_is_not_cached,
    }
}

/// This many sites, each with an id and two hosts.
fn sites(count: usize, name: &str) -> Vec<Site> {
    (0..count).map(|n| Site::new(&n.to_string(), &[&format!("a.{n}"), &format!("b.{n}")], name)).collect()
}

impl Node<Site> {
    async fn gets_many<K: AsRef<[u8]>>(&self, index: Index<Site, String>, keys: &[K]) -> Vec<Option<Arc<Site>>> {
        let found = self.cache.get_many(index.encoded(), keys.iter().map(AsRef::as_ref)).await;
        self.history.step(format!("{}: get {} by {} -> {}", self.name, keys.len(), index.name(), brief(&found)));
        self.history.require(found.len() == keys.len(), "there must be an answer for each key");
        found
    }

    /// Checks that a get and a lookup of several keys find these names, in this order.
    async fn finds_many<K: AsRef<[u8]>>(&self, index: Index<Site, String>, keys: &[K], names: &[Option<&str>]) {
        let found = self.gets_many(index, keys).await;
        let found: Vec<_> = found.iter().map(|site| site.as_deref().map(|site| &*site.name)).collect();
        self.history.require(found == names, format!("expected {names:?}"));
        let keys: Vec<_> = keys.iter().map(|key| key_ref(index, key.as_ref())).collect();
        let Lookups { found, ticket } = self.looks_up_many(&keys).await;
        let found: Vec<_> = found.into_iter().map(|found| found.ok()?.downcast::<Site>().ok()).collect();
        let found: Vec<_> = found.iter().map(|site| site.as_deref().map(|site| &*site.name)).collect();
        self.history.require(found == names, "the get found them, the lookup must find the same");
        let missing = names.iter().any(Option::is_none);
        self.history.require(!missing || ticket.is_some(), "a miss of a healthy connector must come with a ticket");
    }

    async fn looks_up_many(&self, keys: &[KeyRef<'_>]) -> Lookups {
        let looks = self.connector.lookup_many(keys).await;
        self.history.step(format!("{}: lookup of {} -> {}", self.name, keys.len(), brief(&looks.ticket)));
        self.history.require(looks.found.len() == keys.len(), "there must be an answer for each key");
        looks
    }

    /// Sets several objects, and checks that all were accepted.
    async fn stores_many(&self, sites: &[Site]) {
        let stored = self.cache.set_many(sites.iter().cloned()).await;
        self.history.step(format!("{}: set {} -> {}", self.name, brief(&sites), brief(&stored)));
        let all = stored.len() == sites.len() && stored.iter().all(|stored| *stored == Stored::Accepted);
        self.history.require(all, "a set that nothing hinders must store its objects");
    }

    async fn fill_many(&self, sites: &[Site], ticket: Ticket) -> Vec<Fill> {
        let objects = sites.iter().map(|site| self.object(site)).collect();
        let filled = self.connector.fill_many(objects, ticket).await;
        self.history.step(format!("{}: fill {} with {ticket:?} -> {}", self.name, brief(&sites), brief(&filled)));
        self.history.require(filled.len() == sites.len(), "there must be an answer for each object");
        filled
    }

    /// Begins the load of several objects: a lookup that must miss all of them, and whose ticket is returned.
    async fn begins_many(&self, sites: &[Site]) -> Ticket {
        let keys: Vec<_> = sites.iter().map(|site| key_ref(Site::ID, site.id.as_bytes())).collect();
        let Lookups { found, ticket } = self.looks_up_many(&keys).await;
        self.history.require(found.iter().all(Result::is_err), "expected misses");
        ticket.unwrap_or_else(|| self.history.fail("a miss of a healthy connector must come with a ticket"))
    }
}

impl Nodes<Site> {
    async fn serve_all(&self, sites: &[Site]) {
        for site in sites {
            self.serve(site).await;
        }
    }
}

async fn many_are_found_in_the_order_of_their_keys<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&Site::new("1", &["a.example", "b.example"], "Acme")).await;
    nodes.far.stores(&Site::new("2", &["c.example"], "Bolt")).await;
    for node in [&nodes.near, &nodes.far] {
        let hosts = ["nobody.example", "c.example", "b.example", "a.example", "c.example"];
        node.finds_many(Site::HOST, &hosts, &[None, Some("Bolt"), Some("Acme"), Some("Acme"), Some("Bolt")]).await;
        node.finds_many(Site::ID, &["2", "3", "1"], &[Some("Bolt"), None, Some("Acme")]).await;
        node.finds_many(Site::HOST, &["1", "2"], &[None, None]).await;
        let found = node.gets_many(Site::ID, &["2", "", "1"]).await;
        let there: Vec<_> = found.iter().map(Option::is_some).collect();
        node.history.require(there == [true, false, true], "a key that cannot exist is a miss of its own");
        let invalid = [KeyRef { index: 1, bytes: b"" }, key_ref(Site::ID, b"1")];
        let looks = node.looks_up_many(&invalid).await;
        let right = matches!(looks.found[..], [Err(Miss::InvalidKey | Miss::Absent), Ok(_)]);
        node.history.require(right, "to the connector as well");
    }
}

async fn many_are_found_by_keys_that_a_node_has_never_seen<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // A connector may treat a large object differently.
    let large = "x".repeat(20_000);
    nodes.near.stores(&Site::new("1", &["a.example", "b.example"], &large)).await;
    nodes.near.stores(&Site::new("2", &["c.example"], "Bolt")).await;
    let hosts = ["a.example", "c.example", "b.example", "nobody.example"];
    for _ in 0..2 {
        nodes.far.finds_many(Site::HOST, &hosts, &[Some(&large), Some("Bolt"), Some(&large), None]).await;
    }
    // Now the hints of the far node are wrong.
    nodes.near.stores(&Site::new("3", &["c.example", "b.example"], "Core")).await;
    nodes.near.stores(&Site::new("1", &["a.example"], "moved")).await;
    nodes.far.finds_many(Site::HOST, &hosts, &[Some("moved"), Some("Core"), Some("Core"), None]).await;
    nodes.far.finds_many(Site::ID, &["1", "2", "3"], &[Some("moved"), None, Some("Core")]).await;
}

async fn hundreds_are_found_in_one_call<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let sites: Vec<_> =
        (0..700).map(|n| Site::new(&n.to_string(), &[&format!("{n}.example")], &format!("{n}"))).collect();
    nodes.near.stores_many(&sites).await;
    let ids: Vec<_> = sites.iter().rev().map(|site| site.id.clone()).collect();
    let hosts: Vec<_> = sites.iter().map(|site| site.hosts[0].clone()).collect();
    let names: Vec<_> = sites.iter().map(|site| Some(&*site.name)).collect();
    for node in [&nodes.near, &nodes.far] {
        node.finds_many(Site::HOST, &hosts, &names).await;
        node.finds_many(Site::ID, &ids, &names.iter().rev().copied().collect::<Vec<_>>()).await;
    }
}

async fn many_that_are_set_replace_their_earlier_states<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores_many(&sites(20, "old")).await;
    nodes.serve_all(&sites(20, "old")).await;
    let new: Vec<_> =
        (0..20).map(|n| Site::new(&n.to_string(), &[&format!("b.{n}"), &format!("c.{n}")], "new")).collect();
    nodes.far.stores_many(&new).await;
    nodes.serve_all(&new).await;
    for n in 0..20 {
        nodes.lack_key(Site::HOST, format!("a.{n}")).await;
    }
}

async fn the_last_of_many_that_claim_a_key_has_it<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores(&Site::new("1", &["moves", "stays"], "old")).await;
    let all = [
        Site::new("2", &["moves"], "takes it"),
        Site::new("1", &["stays"], "has given it up"),
        Site::new("3", &["x"], "first state"),
        Site::new("3", &["y"], "second state"),
        Site::new("4", &["z"], "loses it"),
        Site::new("5", &["z"], "has it last"),
    ];
    nodes.far.stores_many(&all).await;
    nodes.serve_all(&[all[0].clone(), all[1].clone(), all[3].clone(), all[5].clone()]).await;
    nodes.lack_key(Site::HOST, "x").await;
    nodes.lack_key(Site::ID, "4").await;
}

async fn the_last_of_many_filled_that_claim_a_key_has_it<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    // A connector may share one fence among several keys, so a fill may be refused without reason. That must not happen three times.
    for round in 0..3 {
        let key = |key: &str| format!("{key} {round}");
        let (moves, stays, x) = (key("moves"), key("stays"), key("x"));
        let holder = Site::new(&key("1"), &[&moves, &stays], "holder");
        nodes.near.stores(&holder).await;
        let ticket = nodes.far.ticket().await;
        let all = [
            Site::new(&key("2"), &[&moves], "takes it"),
            Site::new(&key("3"), &[&x], "a state"),
            Site::new(&key("4"), &[&x], "has it last"),
        ];
        let filled = nodes.far.fill_many(&all, ticket).await;
        nodes.never_serve(&holder).await;
        nodes.lack_key(Site::HOST, &stays).await;
        if filled.iter().all(|fill| fill.stored == Stored::Accepted) {
            nodes.serve_all(&[all[0].clone(), all[2].clone()]).await;
            nodes.lack_key(Site::ID, key("3")).await;
            return;
        }
    }
    trial.history.fail("fills that nothing has overtaken must be accepted");
}

async fn many_are_forgotten_through_keys_of_several_indexes<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let sites = sites(400, "one");
    nodes.near.stores_many(&sites).await;
    // One key of each object but the first, from both indexes in turn, and some unknown and repeated keys.
    let keys = (1..400).map(|n| match n % 3 {
        0 => Site::ID.key(n.to_string()),
        1 => Site::HOST.key(format!("a.{n}")),
        _ => Site::HOST.key(format!("b.{n}")),
    });
    let others = [Site::ID.key("nobody"), Site::ID.key("3"), Site::HOST.key("a.3")];
    let delivery = nodes.far.cache.invalidate_many(keys.chain(others)).await;
    trial.history.step(format!("far: invalidate 399 objects through keys of both indexes -> {delivery:?}"));
    trial.history.require(matches!(delivery, Ok(Delivery::Applied)), "a healthy connector answers `Applied`");
    for site in sites.iter().skip(1).step_by(23) {
        nodes.lack(site).await;
    }
    for node in [&nodes.near, &nodes.far] {
        let hosts: Vec<_> = sites.iter().map(|site| &site.hosts[0]).collect();
        let there = node.gets_many(Site::HOST, &hosts).await.iter().flatten().count();
        trial.history.require(there == 1, "all but one were invalidated");
    }
    nodes.serve(&sites[0]).await;
    let bad = nodes.near.cache.invalidate_many([Site::ID.key(""), Site::ID.key("0")]).await;
    trial.history.step(format!("near: invalidate a key that cannot exist, and another -> {bad:?}"));
    trial.history.require(bad.is_err(), "a key that cannot exist is an error");
    nodes.lack(&sites[0]).await;
}

async fn many_loads_have_one_ticket<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let sites = sites(10, "loaded");
    for (index, key) in keys_by_index(&sites[7]) {
        let ticket = nodes.near.begins_many(&sites).await;
        nodes.far.invalidates(index, [key]).await;
        let filled = nodes.near.fill_many(&sites, ticket).await;
        for (n, (site, fill)) in sites.iter().zip(&filled).enumerate() {
            if n == 7 {
                trial.history.require(fill.stored != Stored::Accepted, "it was invalidated while it was loaded");
                nodes.lack(site).await;
            }
        }
        // A connector may share one fence among several keys, so a few of the others may be refused.
        let accepted = filled.iter().filter(|fill| fill.stored == Stored::Accepted).count();
        trial.history.require(accepted >= 7, "nothing has overtaken the others");
        nodes.near.invalidates(Site::ID, sites.iter().map(|site| &site.id)).await;
    }
}

async fn many_loads_are_overtaken_by_a_set_of_many<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.begins_many(&sites(10, "old")).await;
    nodes.far.stores_many(&sites(10, "new")).await;
    let filled = nodes.near.fill_many(&sites(10, "old"), ticket).await;
    trial.history.require(filled.iter().all(|fill| fill.stored != Stored::Accepted), "all of them must be refused");
    nodes.serve_all(&sites(10, "new")).await;
    nodes.far.invalidates(Site::ID, (0..10).map(|n| n.to_string())).await;
    nodes.near.fill_many(&sites(10, "old"), ticket).await;
    for site in sites(10, "old") {
        nodes.lack(&site).await;
    }
}

/// A truncate overtakes the whole fill. A delete of one key overtakes one object.
async fn many_that_were_touched_are_not_filled<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    let ticket = nodes.near.ticket().await;
    nodes.far.truncates().await;
    let filled = nodes.near.fill_many(&sites(3, "old"), ticket).await;
    trial.history.require(filled.iter().all(|fill| fill.stored != Stored::Accepted), "a truncate has overtaken them");
    for site in sites(3, "old") {
        nodes.lack(&site).await;
    }
    let ticket = nodes.near.ticket().await;
    nodes.far.deletes(Site::HOST, ["a.1"]).await;
    nodes.near.fill_many(&sites(3, "old"), ticket).await;
    nodes.lack_key(Site::HOST, "a.1").await;
}

async fn none_is_as_good_as_many<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let none: [&str; 0] = [];
    nodes.near.finds_many(Site::ID, &none, &[]).await;
    nodes.near.stores_many(&[]).await;
    let ticket = nodes.near.ticket().await;
    nodes.near.fill_many(&[], ticket).await;
    let delivery = nodes.near.cache.invalidate_many([]).await;
    trial.history.require(matches!(delivery, Ok(Delivery::Applied)), "nothing to do is done");
}

async fn a_misfit_among_many_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores_many(&sites(3, "old")).await;
    let mut new = sites(3, "new");
    // A key that cannot exist.
    new[1].hosts.push(String::new());
    let stored = nodes.far.cache.set_many(new.iter().cloned()).await;
    trial.history.step(format!("far: set three, of which one has an empty host -> {stored:?}"));
    trial.history.require(stored == [Stored::Accepted, Stored::Unfit, Stored::Accepted], "the others are stored");
    nodes.serve_all(&[new[0].clone(), new[2].clone()]).await;
    nodes.lack(&sites(3, "old")[1]).await;
}

async fn one_too_large_among_many_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes_with::<Site>(trial.schema::<Site>().max_object_size(10_000)).await;
    nodes.near.stores_many(&sites(4, "old")).await;
    let mut new = sites(4, "new");
    new[1].name = "x".repeat(20_000);
    // The last object has a key of the object that is too large.
    new[3].hosts.push("a.1".into());
    let stored = nodes.far.cache.set_many(new.iter().cloned()).await;
    trial.history.step(format!("far: set four, of which the second is too large -> {stored:?}"));
    let expected = [Stored::Accepted, Stored::Unfit, Stored::Accepted, Stored::Accepted];
    trial.history.require(stored == expected, "the others are stored");
    nodes.serve_all(&[new[0].clone(), new[2].clone(), new[3].clone()]).await;
    nodes.lack_key(Site::ID, "1").await;
    nodes.lack_key(Site::HOST, "b.1").await;
    let ticket = nodes.near.ticket().await;
    let filled = nodes.near.fill_many(&new, ticket).await;
    let filled: Vec<_> = filled.iter().map(|fill| fill.stored).collect();
    trial.history.require(filled == expected, "filled like set");
}

/// No call needs more polls than this.
const POLLS: usize = 10;

async fn a_dropped_get_of_many_disturbs_nobody<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.near.stores_many(&sites(3, "one")).await;
    for polls in 0..POLLS {
        let hosts = ["a.0", "nobody.example", "b.2"];
        polled(nodes.far.cache.get_many(Site::HOST, hosts), polls).await;
        let keys = hosts.map(|host| key_ref(Site::HOST, host.as_bytes()));
        polled(nodes.far.connector.lookup_many(&keys), polls).await;
        trial.history.step(format!("far: get and lookup of many dropped after {polls} polls"));
        nodes.far.finds_many(Site::HOST, &["b.1", "nobody.example"], &[Some("one"), None]).await;
    }
    nodes.serve_all(&sites(3, "one")).await;
}

async fn a_dropped_set_of_many_leaves_nothing_older<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for polls in 0..POLLS {
        nodes.near.stores_many(&sites(5, "older")).await;
        let ticket = nodes.far.ticket().await;
        let outcome = polled(nodes.near.cache.set_many(sites(5, "newer")), polls).await;
        trial.history.step(format!("near: set of five, polled {polls} times -> {outcome:?}"));
        trial.calm(&nodes).await;
        for (older, newer) in sites(5, "older").iter().zip(&sites(5, "newer")) {
            if polls > 0 {
                nodes.never_serve(older).await;
                nodes.whole_or_gone(newer).await;
                nodes.far.refuses(older, ticket).await;
            } else {
                nodes.serve(older).await;
            }
            if outcome.is_some() {
                nodes.serve(newer).await;
            }
        }
    }
}

async fn a_dropped_fill_of_many_leaves_no_halves<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    for polls in 0..POLLS {
        let ticket = nodes.near.begins_many(&sites(5, "loaded")).await;
        let objects = sites(5, "loaded").iter().map(|site| nodes.near.object(site)).collect();
        let outcome = polled(nodes.near.connector.fill_many(objects, ticket), polls).await;
        trial.history.step(format!("near: fill of five, polled {polls} times -> {}", brief(&outcome)));
        trial.calm(&nodes).await;
        for site in &sites(5, "loaded") {
            nodes.whole_or_gone(site).await;
        }
        let all = sites(5, "loaded").iter().flat_map(keys_of).collect();
        let _ = nodes.near.connector.invalidate(all, None).await;
    }
}

async fn many_are_loaded_by_one_call<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes().await;
    nodes.far.stores(&Site::new("1", &["a.1", "b.1"], "stored")).await;
    let calls = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let called = calls.clone();
        let loader = move |hosts: Vec<String>| {
            called.fetch_add(1, Ordering::SeqCst);
            let wanted = |site: &Site| site.hosts.iter().any(|host| hosts.contains(host));
            // In another order than the keys were asked for.
            let found = sites(5, "loaded").into_iter().rev().filter(wanted).collect();
            async move { Ok::<Vec<Site>, &str>(found) }
        };
        let hosts = ["b.3", "a.1", "nobody", "a.2", "a.3", "b.3"];
        let loaded = nodes.near.cache.load_many(Site::HOST, hosts, loader).await;
        trial.history.step(format!("near: load of six keys -> {}", brief(&loaded)));
        let Ok(loaded) = loaded else { trial.history.fail("the loader has not failed") };
        let ids: Vec<_> = loaded.iter().map(|site| site.as_deref().map(|site| &*site.id)).collect();
        let expected = [Some("3"), Some("1"), None, Some("2"), Some("3"), Some("3")];
        trial.history.require(ids == expected, format!("expected {expected:?}"));
    }
    trial
        .history
        .require(calls.load(Ordering::SeqCst) == 2, "a call for what is missing, and one for what there is not");
    nodes.serve_all(&[sites(5, "loaded")[2].clone(), sites(5, "loaded")[3].clone()]).await;
    nodes.serve(&Site::new("1", &["a.1", "b.1"], "stored")).await;
}

async fn a_load_of_many_that_was_overtaken_is_not_cached<S: Subject>(trial: Trial<'_, S>) {
    let nodes = trial.nodes::<Site>().await;
    let change = Arc::new(nodes.far.cache.clone());
    let loader = move |_: Vec<String>| {
        let change = change.clone();
        async move {
            // One of the rows changes after the loader has read them.
            let _ = change.invalidate(Site::HOST, ["b.1"]).await;
            Ok::<_, &str>(sites(3, "old"))
        }
    };
    let ids = sites(3, "").into_iter().map(|site| site.id);
    let loaded = nodes.near.cache.load_many(Site::ID, ids, loader).await;
    trial.history.step(format!("near: load of three, one of which is invalidated meanwhile -> {}", brief(&loaded)));
    let all = loaded.is_ok_and(|loaded| loaded.iter().flatten().count() == 3);
    trial.history.require(all, "who was there before the load began is answered by it");
    nodes.lack(&sites(3, "old")[1]).await;
}
