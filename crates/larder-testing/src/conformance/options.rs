//! What [`LoadOptions`] need from a connector that has the ability: one load per key among all nodes (a lease), a note that the source does
//! not have a key (an absence), and an object that is kept after its max age while its successor is loaded.

use super::trial::{Node, Nodes, Trial, brief, key_ref, keys_by_index};
use super::{Subject, table};
use crate::entries::Site;
use larder::contract::{Fill, Lease, LeaseToken};
use larder::{Index, LoadOptions, Lookup, Miss, Schema, Stored, Ticket};
use std::time::Duration;

table! {
    Loading {
        a_lease_is_one_nodes_at_a_time if leases,
        whoever_is_granted_a_lease_sees_what_was_stored_before if leases,
        a_lease_that_nobody_gives_back_ends if leases,
        an_absence_is_known_until_its_key_is_touched if absences,
        an_absence_that_a_change_has_overtaken_is_not_noted if absences,
        an_absence_ends if absences,
        an_absence_is_known_although_an_expired_object_lies_there if absences,
        an_absence_is_noted_under_each_key_of_what_was_invalidated if absences,
        what_is_fresh_does_not_end_with_a_load_that_finds_nothing if absences,
        what_is_to_be_loaded_anew_ends_with_a_load_that_finds_nothing if absences,
        an_expired_object_is_kept_until_it_is_invalidated if expired,
        an_expired_object_ends_with_a_load_that_finds_nothing if expired,
        an_expired_object_stays_where_the_load_was_overtaken if expired,
    }
}

/// An age in milliseconds that is never over during a case.
const LONG: u64 = 3_600_000;
/// An age in milliseconds that a case waits for.
const SHORT: u64 = 40;

fn acme() -> Site {
    Site::new("1", &["a.example", "b.example"], "Acme")
}

async fn loading<S: Subject>(trial: &Trial<'_, S>, options: LoadOptions) -> Nodes<Site> {
    trial.nodes_with(trial.schema::<Site>().loading(options)).await
}

impl Node<Site> {
    async fn leases(&self, key: &str) -> (Lease, Lookup) {
        let (lease, look) = self.connector.lease(key_ref(Site::HOST, key.as_bytes())).await;
        self.history.step(format!("{}: lease host {key} -> {lease:?}, {}", self.name, brief(&look)));
        (lease, look)
    }

    async fn is_granted(&self, key: &str) -> LeaseToken {
        match self.leases(key).await {
            (Lease::Granted(token), _) => token,
            _ => self.history.fail("nobody has the lease of this key, so it must be granted"),
        }
    }

    async fn is_refused(&self, key: &str) {
        let (lease, _) = self.leases(key).await;
        self.history.require(lease == Lease::Taken, "another load has the lease of this key");
    }

    async fn gives_back(&self, key: &str, token: LeaseToken) {
        self.connector.release(key_ref(Site::HOST, key.as_bytes()), token).await;
        self.history.step(format!("{}: release host {key}, {token:?}", self.name));
    }

    async fn notes_absence(&self, index: Index<Site, String>, key: &str, ticket: Ticket) -> Stored {
        let Fill { stored, .. } = self.connector.fill_absent(key_ref(index, key.as_bytes()), ticket).await;
        self.history.step(format!("{}: fill_absent {index:?} {key} with {ticket:?} -> {stored:?}", self.name));
        stored
    }

    /// Whether a lookup answers that the source has nothing under this key, so that no load is needed.
    async fn knows_of_absence(&self, index: Index<Site, String>, key: &str) -> bool {
        matches!(self.lookup(index, key).await, Lookup::Miss { cause: Miss::KnownAbsent, .. })
    }

    /// Notes an absence that nothing has overtaken, and checks that both nodes find it by a lookup, a lookup of many and a lease.
    async fn finds_nothing(&self, nodes: &Nodes<Site>, index: Index<Site, String>, key: &str, ticket: Ticket) {
        let noted = self.notes_absence(index, key, ticket).await;
        self.history.require(noted == Stored::Accepted, "nothing has touched the key since the ticket");
        for node in [&nodes.near, &nodes.far] {
            let known = node.knows_of_absence(index, key).await;
            node.history.require(known, "it was noted that nothing has this key");
            let asked = [key_ref(index, key.as_bytes())];
            let found = node.connector.lookup_many(&asked).await.found;
            node.history.step(format!("{}: lookup_many {index:?} {key} -> {}", node.name, brief(&found)));
            let known = matches!(found.first(), Some(Err(Miss::KnownAbsent)));
            node.history.require(known, "a lookup of several keys must know what a lookup of one knows");
            let (_, look) = node.connector.lease(asked[0]).await;
            node.history.step(format!("{}: lease {index:?} {key} -> {}", node.name, brief(&look)));
            let known = matches!(look, Lookup::Miss { cause: Miss::KnownAbsent, .. });
            node.history.require(known, "who asks for the lease must know what a lookup knows");
        }
    }

    /// The expired object that is kept under this host.
    async fn keeps(&self, key: &str) -> Option<Site> {
        let look = self.connector.lookup(key_ref(Site::HOST, key.as_bytes())).await;
        self.history.step(format!("{}: lookup host {key} -> {}", self.name, brief(&look)));
        let Lookup::Miss { expired: Some(kept), .. } = look else { return None };
        let kept = kept.downcast_ref::<Site>().cloned();
        Some(kept.unwrap_or_else(|| self.history.fail("what is kept is no object of this cache")))
    }
}

async fn a_lease_is_one_nodes_at_a_time<S: Subject>(trial: Trial<'_, S>) {
    let nodes = loading(&trial, LoadOptions::new().lease(Duration::from_millis(LONG))).await;
    let token = nodes.near.is_granted("a.example").await;
    nodes.far.is_refused("a.example").await;
    nodes.near.is_refused("a.example").await;
    // Another key has a lease of its own.
    nodes.far.is_granted("b.example").await;
    nodes.far.gives_back("a.example", LeaseToken::new(token.number() ^ 1)).await;
    nodes.far.is_refused("a.example").await;
    nodes.near.gives_back("a.example", token).await;
    nodes.far.is_granted("a.example").await;
    nodes.near.gives_back("a.example", token).await;
    nodes.near.is_refused("a.example").await;
}

async fn whoever_is_granted_a_lease_sees_what_was_stored_before<S: Subject>(trial: Trial<'_, S>) {
    let nodes = loading(&trial, LoadOptions::new().lease(Duration::from_millis(LONG))).await;
    for (round, key) in ["a.example", "b.example"].into_iter().enumerate() {
        let site = Site { name: format!("round {round}"), ..acme() };
        let (lease, look) = nodes.near.leases(key).await;
        let (Lease::Granted(token), Lookup::Miss { ticket: Some(ticket), .. }) = (lease, look) else {
            trial.history.fail("expected the lease, and a miss with a ticket");
        };
        nodes.near.fills(&site, ticket).await;
        nodes.near.gives_back(key, token).await;
        let (lease, look) = nodes.far.leases(key).await;
        let seen = match look {
            Lookup::Hit { value, .. } => value.downcast_ref::<Site>() == Some(&site),
            Lookup::Miss { .. } => false,
        };
        let seen = seen && matches!(lease, Lease::Granted(_));
        trial.history.require(seen, "the one before had stored the object before it gave the lease back");
        nodes.far.invalidates(Site::ID, ["1"]).await;
    }
}

async fn a_lease_that_nobody_gives_back_ends<S: Subject>(trial: Trial<'_, S>) {
    let nodes = loading(&trial, LoadOptions::new().lease(Duration::from_millis(SHORT))).await;
    for _ in 0..3 {
        nodes.near.is_granted("a.example").await;
        trial.pass(SHORT + 2).await;
    }
    nodes.far.is_granted("a.example").await;
}

/// Two nodes that remember absences for this many milliseconds.
async fn remembering<S: Subject>(trial: &Trial<'_, S>, age: u64) -> Nodes<Site> {
    loading(trial, LoadOptions::new().negative_age(Duration::from_millis(age))).await
}

async fn an_absence_is_known_until_its_key_is_touched<S: Subject>(mut trial: Trial<'_, S>) {
    for change in 0..6 {
        for (index, key) in [(Site::ID, "1"), (Site::HOST, "a.example")] {
            trial.next_cache();
            let nodes = remembering(&trial, LONG).await;
            let ticket = nodes.near.begins(index, key).await;
            let noted = nodes.near.notes_absence(index, key, ticket).await;
            trial.history.require(noted == Stored::Accepted, "nothing has touched the key since the ticket");
            for node in [&nodes.near, &nodes.far] {
                let known = node.knows_of_absence(index, key).await;
                trial.history.require(known, "it was noted that nothing has this key");
                trial.history.require(node.get(index, key).await.is_none(), "expected a miss");
            }
            match change {
                0 => nodes.far.stores(&acme()).await,
                1 => nodes.far.fills(&acme(), nodes.far.ticket().await).await,
                2 => nodes.far.invalidates(index, [key]).await,
                3 => nodes.far.deletes(index, [key]).await,
                4 => nodes.far.truncates().await,
                _ => {
                    let stored = nodes.far.put(&acme(), None).await;
                    trial.history.require(stored != Stored::Accepted, "a put without a ticket only invalidates");
                }
            }
            for node in [&nodes.near, &nodes.far] {
                let known = node.knows_of_absence(index, key).await;
                trial.history.require(!known, "the key was touched, so the note is no longer true");
            }
            if change < 2 {
                nodes.serve(&acme()).await;
            }
        }
    }
}

async fn an_absence_that_a_change_has_overtaken_is_not_noted<S: Subject>(mut trial: Trial<'_, S>) {
    for change in 0..4 {
        for (index, key) in [(Site::ID, "1"), (Site::HOST, "a.example")] {
            trial.next_cache();
            let nodes = remembering(&trial, LONG).await;
            let ticket = nodes.near.begins(index, key).await;
            match change {
                0 => nodes.far.stores(&acme()).await,
                1 => nodes.far.invalidates(index, [key]).await,
                2 => {
                    nodes.far.stores(&acme()).await;
                    nodes.far.invalidates(Site::HOST, ["b.example"]).await;
                }
                _ => nodes.far.truncates().await,
            }
            let noted = nodes.near.notes_absence(index, key, ticket).await;
            trial.history.require(noted != Stored::Accepted, "the load that found nothing began before the change");
            for node in [&nodes.near, &nodes.far] {
                let known = node.knows_of_absence(index, key).await;
                trial.history.require(!known, "what was not noted cannot be known");
            }
            if change == 0 {
                nodes.serve(&acme()).await;
            }
        }
    }
}

async fn an_absence_ends<S: Subject>(trial: Trial<'_, S>) {
    let nodes = remembering(&trial, SHORT).await;
    for (index, key) in [(Site::ID, "1"), (Site::HOST, "a.example")] {
        let ticket = nodes.near.begins(index, key).await;
        let noted = nodes.near.notes_absence(index, key, ticket).await;
        trial.history.require(noted == Stored::Accepted, "nothing has touched the key since the ticket");
        trial.pass(SHORT + 2).await;
        nodes.near.begins(index, key).await;
        nodes.far.begins(index, key).await;
    }
    nodes.far.fills(&acme(), nodes.far.ticket().await).await;
    nodes.serve(&acme()).await;
}

async fn an_expired_object_is_kept_until_it_is_invalidated<S: Subject>(mut trial: Trial<'_, S>) {
    for (index, key) in keys_by_index(&acme()) {
        trial.next_cache();
        let options = LoadOptions::new().serve_expired(Duration::from_millis(LONG));
        let schema: Schema = trial.schema::<Site>().ages(Duration::from_millis(SHORT), Duration::ZERO);
        let nodes = trial.nodes_with::<Site>(schema.loading(options)).await;
        nodes.near.stores(&acme()).await;
        trial.pass(SHORT + 2).await;
        for node in [&nodes.near, &nodes.far] {
            let found = node.get(Site::HOST, "a.example").await;
            trial.history.require(found.is_none(), "its max age is over, and a get does not ask for old objects");
            let kept = node.keeps("a.example").await;
            trial.history.require(kept == Some(acme()), "it is kept for those who load its successor");
        }
        nodes.far.invalidates(index, [key]).await;
        for node in [&nodes.near, &nodes.far] {
            let kept = node.keeps("a.example").await;
            trial.history.require(kept.is_none(), "what was invalidated is not kept");
        }
    }
}

/// Keys of the object, with their indexes.
const KEYS: [(Index<Site, String>, &str); 3] = [(Site::ID, "1"), (Site::HOST, "a.example"), (Site::HOST, "b.example")];

async fn an_absence_is_known_although_an_expired_object_lies_there<S: Subject>(mut trial: Trial<'_, S>) {
    for serve_expired in [0, LONG] {
        for (index, key) in KEYS {
            trial.next_cache();
            let [negative_age, lease] = [LONG; 2].map(Duration::from_millis);
            let serve_expired = Duration::from_millis(serve_expired);
            let options = LoadOptions::new().negative_age(negative_age).lease(lease).serve_expired(serve_expired);
            let schema = trial.schema::<Site>().ages(Duration::from_millis(SHORT), Duration::ZERO);
            let nodes = trial.nodes_with(schema.loading(options)).await;
            nodes.near.stores(&acme()).await;
            trial.pass(SHORT + 2).await;
            let ticket = nodes.near.begins(index, key).await;
            nodes.near.finds_nothing(&nodes, index, key, ticket).await;
            nodes.far.stores(&acme()).await;
            for node in [&nodes.near, &nodes.far] {
                let known = node.knows_of_absence(index, key).await;
                trial.history.require(!known, "an object that has the key was stored");
            }
        }
    }
}

/// The keys of an invalidated object lead nowhere, so absences can be noted under all of them.
async fn an_absence_is_noted_under_each_key_of_what_was_invalidated<S: Subject>(mut trial: Trial<'_, S>) {
    for (through, known) in KEYS {
        trial.next_cache();
        let [negative_age, lease] = [LONG; 2].map(Duration::from_millis);
        let nodes = loading(&trial, LoadOptions::new().negative_age(negative_age).lease(lease)).await;
        nodes.near.stores(&acme()).await;
        nodes.far.invalidates(through, [known]).await;
        for (index, key) in KEYS {
            let ticket = nodes.near.begins(index, key).await;
            nodes.near.finds_nothing(&nodes, index, key, ticket).await;
        }
    }
}

async fn what_is_fresh_does_not_end_with_a_load_that_finds_nothing<S: Subject>(mut trial: Trial<'_, S>) {
    for (index, key) in KEYS {
        for filled in [false, true] {
            trial.next_cache();
            let [negative_age, max_age, refresh_ahead] = [LONG, LONG, SHORT].map(Duration::from_millis);
            let options = LoadOptions::new().negative_age(negative_age).refresh_ahead(refresh_ahead);
            let schema = trial.schema::<Site>().ages(max_age, Duration::ZERO).loading(options);
            let nodes = trial.nodes_with(schema).await;
            let ticket = nodes.near.begins(index, key).await;
            let ticket = if filled {
                // A fill by another load touches no key.
                nodes.far.fills(&acme(), nodes.far.ticket().await).await;
                ticket
            } else {
                nodes.far.stores(&acme()).await;
                nodes.near.ticket().await
            };
            let noted = nodes.near.notes_absence(index, key, ticket).await;
            trial.history.require(noted != Stored::Accepted, "an object with this key was stored, so there is one");
            nodes.serve(&acme()).await;
        }
    }
}

async fn what_is_to_be_loaded_anew_ends_with_a_load_that_finds_nothing<S: Subject>(mut trial: Trial<'_, S>) {
    for negative_age in [0, LONG] {
        for (index, key) in KEYS {
            trial.next_cache();
            let [negative_age, max_age, refresh_ahead] = [negative_age, LONG, LONG - SHORT].map(Duration::from_millis);
            let options = LoadOptions::new().negative_age(negative_age).refresh_ahead(refresh_ahead);
            let schema = trial.schema::<Site>().ages(max_age, Duration::ZERO).loading(options);
            let nodes = trial.nodes_with(schema).await;
            nodes.far.stores(&acme()).await;
            trial.pass(SHORT + 2).await;
            let look = nodes.near.connector.lookup(key_ref(index, key.as_bytes())).await;
            trial.history.step(format!("near: lookup {index:?} {key} -> {}", brief(&look)));
            // The connector does not refresh ahead: then there is nothing to check.
            if !matches!(look, Lookup::Hit { due: true, .. }) {
                continue;
            }
            let ticket = nodes.near.ticket().await;
            let noted = nodes.near.notes_absence(index, key, ticket).await;
            trial.history.require(noted == Stored::Accepted, "what was to be loaded anew was not found any more");
            nodes.lack(&acme()).await;
            let known = nodes.far.knows_of_absence(index, key).await;
            trial.history.require(known != negative_age.is_zero(), "it is noted for the negative age");
        }
    }
}

/// Two nodes that keep expired objects, and one object that has expired.
async fn keeping<S: Subject>(trial: &Trial<'_, S>) -> Nodes<Site> {
    let options = LoadOptions::new().serve_expired(Duration::from_millis(LONG));
    let schema = trial.schema::<Site>().ages(Duration::from_millis(SHORT), Duration::ZERO);
    let nodes = trial.nodes_with::<Site>(schema.loading(options)).await;
    nodes.near.stores(&acme()).await;
    trial.pass(SHORT + 2).await;
    nodes
}

async fn an_expired_object_ends_with_a_load_that_finds_nothing<S: Subject>(mut trial: Trial<'_, S>) {
    for (index, key) in KEYS {
        trial.next_cache();
        let nodes = keeping(&trial).await;
        let kept = nodes.far.keeps("a.example").await;
        trial.history.require(kept == Some(acme()), "it is kept for those who load its successor");
        let ticket = nodes.near.begins(index, key).await;
        let answer = nodes.near.notes_absence(index, key, ticket).await;
        trial.history.require(answer == Stored::Accepted, "nothing has touched the key since the ticket");
        for host in ["a.example", "b.example"] {
            for node in [&nodes.near, &nodes.far] {
                let kept = node.keeps(host).await;
                trial.history.require(kept.is_none(), "its source does not have it any more");
                trial
                    .history
                    .require(!node.knows_of_absence(Site::HOST, host).await, "without a negative age nothing is noted");
            }
        }
        nodes.lack(&acme()).await;
    }
}

async fn an_expired_object_stays_where_the_load_was_overtaken<S: Subject>(mut trial: Trial<'_, S>) {
    for (index, key) in KEYS {
        trial.next_cache();
        let nodes = keeping(&trial).await;
        let ticket = nodes.near.begins(index, key).await;
        nodes.far.stores(&acme()).await;
        trial.pass(SHORT + 2).await;
        let answer = nodes.near.notes_absence(index, key, ticket).await;
        trial.history.require(answer != Stored::Accepted, "the object was set after the load had begun");
        let kept = nodes.far.keeps("a.example").await;
        trial.history.require(kept == Some(acme()), "a load that was overtaken ends nothing");
    }
}
