//! Plays one sequence on the connector and on the reference, and compares the answers step by step.

use super::operation::{Act, Forget, Key, Sequence, State};
use super::{Broken, Operation, Tally};
use crate::conformance::Subject;
use crate::entries::{Instance, Site};
use crate::reference::{Held, Reference, Shelf, Store};
use larder::clock::{Clock, ManualClock};
use larder::contract::issue_ticket;
use larder::{Cache, Connector, Delivery, Entry, Error, Index, Lookup, Schema, Stored, Ticket};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

/// An entry type that states can be made of.
pub(super) trait Modelled: Entry + Clone + PartialEq + Debug {
    const ID: Index<Self, String>;
    const HOST: Index<Self, String>;

    /// The schema. It is computed once, because that takes longer than a sequence.
    fn schema() -> Schema;
    fn of(state: &State, name: &str) -> Self;
    fn id(&self) -> &str;
    fn shown(&self) -> String;
}

fn shown(id: &str, hosts: &[String], name: &str) -> String {
    let hosts = if hosts.is_empty() { "without a host".to_owned() } else { format!("with {}", hosts.join(" and ")) };
    format!("id {id} {hosts}, {name}")
}

impl Modelled for Site {
    const ID: Index<Self, String> = Self::ID;
    const HOST: Index<Self, String> = Self::HOST;

    fn schema() -> Schema {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Site>);
        SCHEMA.clone()
    }

    fn of(state: &State, name: &str) -> Self {
        Self::new(state.id, &state.hosts, name)
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn shown(&self) -> String {
        shown(&self.id, &self.hosts, &self.name)
    }
}

impl Modelled for Instance {
    const ID: Index<Self, String> = Self::ID;
    const HOST: Index<Self, String> = Self::HOST;

    fn schema() -> Schema {
        static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Instance>);
        SCHEMA.clone()
    }

    fn of(state: &State, name: &str) -> Self {
        Self::new(state.id, &state.hosts, name, state.version)
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn shown(&self) -> String {
        shown(&self.id, &self.hosts, &self.name)
    }
}

/// The answer to an operation.
#[derive(Clone, Debug, PartialEq)]
enum Seen<E> {
    Object(Option<Arc<E>>),
    Stored(Stored),
    /// One answer for each of several objects.
    Each(Vec<Seen<E>>),
    Applied,
    Trouble(String),
    /// No answer, for example to a fill whose load has not begun.
    Nothing,
}

impl<E: Modelled> Seen<E> {
    fn words(&self) -> String {
        match self {
            Self::Object(Some(object)) => format!(": finds {}", object.shown()),
            Self::Object(None) => ": a miss".to_owned(),
            Self::Stored(stored) => format!(": {}", stored.name()),
            Self::Each(seen) => seen.iter().map(Self::words).collect(),
            Self::Applied => ": done".to_owned(),
            Self::Trouble(text) => format!(": {text}"),
            Self::Nothing => String::new(),
        }
    }

    fn of_delivery(delivery: Result<Delivery, Error>) -> Self {
        match delivery {
            Ok(Delivery::Applied) => Self::Applied,
            other => Self::Trouble(format!("{other:?}")),
        }
    }
}

/// One of the two sides: the connector or the reference.
struct Side<E: Entry> {
    nodes: Vec<Cache<E>>,
    tickets: [Option<Ticket>; 2],
}

impl<E: Modelled> Side<E> {
    fn index(host: bool) -> Index<E, String> {
        if host { E::HOST } else { E::ID }
    }

    /// Runs an operation on this side and returns its answer. `Pass` is handled by the caller.
    async fn act(&mut self, node: usize, act: &Act, name: &str) -> Seen<E> {
        let Some(cache) = self.nodes.get(node % self.nodes.len()).cloned() else { return Seen::Nothing };
        match act {
            Act::Get(key) => Seen::Object(cache.get(Self::index(key.host), key.name).await),
            Act::GetMany { host, names } => {
                let found = cache.get_many(Self::index(*host), names).await;
                Seen::Each(found.into_iter().map(Seen::Object).collect())
            }
            Act::SetMany(states) => {
                let objects = states.iter().zip(1..).map(|(state, place)| E::of(state, &format!("{name}.{place}")));
                Seen::Each(cache.set_many(objects).await.into_iter().map(Seen::Stored).collect())
            }
            Act::Begin(key, place) => {
                let (found, ticket) = match cache.lookup(Self::index(key.host), key.name).await {
                    Lookup::Hit { value: object, .. } => (Some(object), None),
                    Lookup::Miss { ticket, .. } => (None, ticket),
                };
                if let Some(kept) = self.tickets.get_mut(*place) {
                    *kept = ticket;
                }
                Seen::Object(found)
            }
            Act::Fill(state, place) => match self.tickets.get(*place).copied().flatten() {
                Some(ticket) => Seen::Stored(cache.fill(E::of(state, name), ticket).await),
                None => Seen::Nothing,
            },
            Act::Update(state, meanwhile) => {
                let other = self.nodes.get((node + 1) % self.nodes.len()).unwrap_or(&cache).clone();
                let (object, meanwhile) = (E::of(state, name), meanwhile.clone());
                let between = format!("{name}, between");
                let write = async move {
                    if let Some(act) = meanwhile {
                        change(&other, &act, &between).await;
                    }
                    Ok::<_, Infallible>(object)
                };
                match cache.update(write).await {
                    // Whether it was stored an update does not say.
                    Ok(_) => Seen::Object(cache.get(E::ID, state.id).await),
                    Err(error) => Seen::Trouble(error.to_string()),
                }
            }
            Act::Prune => match cache.prune().await {
                Ok(_) => Seen::Applied,
                Err(error) => Seen::Trouble(error.to_string()),
            },
            Act::Set(_) | Act::Forget(_) => change(&cache, act, name).await,
            Act::Pass(_) => Seen::Nothing,
        }
    }
}

/// What can also happen in the middle of another operation.
fn change<'a, E: Modelled>(
    cache: &'a Cache<E>,
    act: &'a Act,
    name: &'a str,
) -> Pin<Box<dyn Future<Output = Seen<E>> + Send + 'a>> {
    let index = Side::<E>::index;
    Box::pin(async move {
        match act {
            Act::Set(state) => Seen::Stored(cache.set(E::of(state, name)).await),
            Act::Forget(forget) => Seen::of_delivery(match forget {
                Forget::Invalidate { host, names } => cache.invalidate(index(*host), names).await,
                Forget::InvalidateMany(keys) => {
                    cache.invalidate_many(keys.iter().map(|key| index(key.host).key(key.name))).await
                }
                Forget::InvalidateBelow { names, version } => cache.invalidate_below(E::ID, names, *version).await,
                Forget::Delete { host, names } => cache.delete(index(*host), names).await,
                Forget::Truncate => cache.truncate().await,
            }),
            _ => Seen::Nothing,
        }
    })
}

pub(super) struct Play<'a, E: Entry> {
    connector: Side<E>,
    reference: Side<E>,
    /// The reference's store, which is adjusted where the contract leaves the connector a choice.
    shelved: Reference,
    forgetful: bool,
    /// Whether several nodes share what is stored.
    shared: bool,
    /// For each object, all hosts that any of its states had.
    hosts: HashMap<&'static str, HashSet<&'static str>>,
    /// Objects that were perhaps forgotten because one of their *earlier* hosts was invalidated. An index key on a server may still lead
    /// to an object that no longer lists the key. The contract neither demands nor forbids that the object is then forgotten.
    doubtful: HashSet<&'static str>,
    tally: &'a mut Tally,
    told: Vec<String>,
}

/// A cache over a connector that was opened for this schema of `E`.
fn own_cache<E: Entry>(connector: Arc<dyn Connector>, schema: Schema) -> Cache<E> {
    match Cache::new(connector, schema) {
        Ok(cache) => cache,
        Err(error) => unreachable!("{error}"),
    }
}

/// What the connector should have answered, in words.
type Wanted = String;

impl<'a, E: Modelled> Play<'a, E> {
    pub(super) async fn of<S: Subject>(
        subject: &S,
        forgetful: bool,
        sequence: &Sequence,
        tally: &'a mut Tally,
    ) -> Result<(), Box<Broken>> {
        let schema = Self::schema(sequence);
        let (clock, hand) = Clock::manual();
        let shelved = Reference::open(schema.clone(), &Shelf::new(clock));
        let shelf = Arc::new(shelved.clone());
        let nodes = super::nodes(subject.nature());
        let mut opened = Vec::new();
        for node in 0..nodes {
            let schema = schema.clone().counted_alone();
            // If connectors are private to a node, there is one node only: another connector would be another cache.
            opened.push(own_cache(subject.open(node, schema.clone()).await, schema));
        }
        let mut play = Self {
            connector: Side { nodes: opened, tickets: [None; 2] },
            reference: Side { nodes: vec![own_cache(shelf, schema); nodes], tickets: [None; 2] },
            shelved,
            forgetful,
            shared: nodes > 1,
            hosts: HashMap::new(),
            doubtful: HashSet::new(),
            tally,
            told: Vec::new(),
        };
        match play.whole(subject, &hand, sequence).await {
            Ok(()) => Ok(()),
            Err(wanted) => Err(Box::new(Broken {
                cache: Self::cache(sequence),
                told: play.told,
                wanted,
                found_in: Default::default(),
            })),
        }
    }

    fn schema(sequence: &Sequence) -> Schema {
        static PLAYS: AtomicU64 = AtomicU64::new(0);
        let cache = format!("model.{}", PLAYS.fetch_add(1, Ordering::Relaxed));
        E::schema().named(cache).ages(sequence.max_age, sequence.last_use_age)
    }

    /// The cache and its ages, in words.
    fn cache(sequence: &Sequence) -> String {
        let mut words = E::CACHE.to_owned();
        for (name, age) in [("max age", sequence.max_age), ("last-use age", sequence.last_use_age)] {
            if !age.is_zero() {
                words += &format!(", {name} {} ms", age.as_millis());
            }
        }
        words
    }

    async fn whole<S: Subject>(&mut self, subject: &S, hand: &ManualClock, sequence: &Sequence) -> Result<(), Wanted> {
        for (number, Operation { node, act }) in sequence.operations.iter().enumerate() {
            if let Act::Pass(time) = act {
                self.told.push(act.words(number, false));
                // In this order, never less time has passed for the connector than for the reference.
                hand.advance(*time);
                subject.pass(*time).await;
                continue;
            }
            self.step(*node, act, number + 1).await?;
        }
        for node in 0..self.connector.nodes.len() {
            for key in Key::all() {
                let told = self.told.len();
                self.step(node, &Act::Get(key), 0).await?;
                // These gets follow the sequence. Only one that fails is part of the report.
                self.told.truncate(told);
            }
        }
        Ok(())
    }

    async fn step(&mut self, node: usize, act: &Act, number: usize) -> Result<(), Wanted> {
        let name = format!("state {number}");
        let before = self.shelved.store(|store, _| store.clone());
        let expected = self.reference.act(node, act, &name).await;
        let seen = self.connector.act(node, act, &name).await;
        let who = if self.connector.nodes.len() > 1 { format!("node {} ", node + 1) } else { String::new() };
        if let Seen::Stored(Stored::Accepted) = seen {
            let stored: Vec<_> = act.states().iter().map(|state| state.id).collect();
            self.doubtful.retain(|id| !stored.contains(id));
        }
        let versioned = self.connector.nodes.first().is_some_and(|cache| cache.schema().is_versioned());
        self.told.push(format!("{who}{}{}", act.words(number, versioned), seen.words()));
        self.doubt(act);
        match act {
            Act::Get(_) => self.found(&expected, &seen),
            Act::GetMany { .. } => pairs(&expected, &seen)?.try_for_each(|(expected, seen)| self.found(expected, seen)),
            Act::SetMany(states) => pairs(&expected, &seen)?
                .zip(states)
                .try_for_each(|((expected, seen), state)| self.set(expected, seen, state)),
            Act::Begin(_, place) => self.begun(&expected, &seen, *place),
            Act::Fill(..) => self.filled(before, &expected, &seen),
            Act::Set(state) => self.set(&expected, &seen, state),
            Act::Update(state, _) => self.updated(&expected, &seen, state, &name),
            Act::Forget(_) | Act::Prune => same(&expected, &seen),
            Act::Pass(_) => Ok(()),
        }
    }

    fn doubt(&mut self, act: &Act) {
        if !self.shared {
            return;
        }
        for state in act.states() {
            self.hosts.entry(state.id).or_default().extend(&state.hosts);
        }
        let hosts = act.invalidated_hosts();
        let had = self.hosts.iter().filter(|(_, had)| hosts.iter().any(|host| had.contains(host)));
        self.doubtful.extend(had.map(|(id, _)| id));
    }

    /// A get must find what the reference finds.
    fn found(&self, expected: &Seen<E>, seen: &Seen<E>) -> Result<(), Wanted> {
        match (expected, seen) {
            (Seen::Object(Some(gone)), Seen::Object(None)) if self.forgetful || self.doubtful.contains(gone.id()) => {
                // Then the reference forgets the whole object, too, and leaves no fence.
                let held = |held: &Held| held.object.value.downcast_ref::<E>() == Some(&**gone);
                self.shelved.store(|store, _| store.objects.retain(|object| !held(object)));
                Ok(())
            }
            _ => same(expected, seen),
        }
    }

    /// A miss must come with a ticket. A hit has no ticket, and then neither side begins a load.
    fn begun(&mut self, expected: &Seen<E>, seen: &Seen<E>, place: usize) -> Result<(), Wanted> {
        self.found(expected, seen)?;
        let now = self.shelved.store(|store, _| issue_ticket(store.epoch, store.sequence));
        let taken = self.connector.tickets.get(place).copied().flatten();
        if *seen == Seen::Object(None) && taken.is_none() && !self.forgetful {
            return Err("this miss must come with a ticket".to_owned());
        }
        if let Some(kept) = self.reference.tickets.get_mut(place) {
            *kept = taken.map(|_| now);
        }
        Ok(())
    }

    /// A fill that the reference refuses must be refused. A fill that the reference accepts may be refused: a fence may be shared by several
    /// keys.
    fn filled(&mut self, before: Store, expected: &Seen<E>, seen: &Seen<E>) -> Result<(), Wanted> {
        let stores = |seen: &Seen<E>| *seen == Seen::Stored(Stored::Accepted);
        self.tally.stored += u64::from(stores(expected));
        match (stores(expected), stores(seen)) {
            (true, false) => {
                self.tally.refused += 1;
                self.shelved.store(|store, _| *store = before);
                Ok(())
            }
            (false, true) => same(expected, seen),
            _ => Ok(()),
        }
    }

    fn set(&mut self, expected: &Seen<E>, seen: &Seen<E>, state: &State) -> Result<(), Wanted> {
        self.tally.stored += 1;
        if self.forgetful && expected != seen {
            self.tally.refused += 1;
            self.forget(&E::of(state, ""));
            return Ok(());
        }
        same(expected, seen)
    }

    /// An update whose object was not stored has invalidated the object.
    fn updated(&mut self, expected: &Seen<E>, seen: &Seen<E>, state: &State, name: &str) -> Result<(), Wanted> {
        let written = E::of(state, name);
        match (expected, seen) {
            (Seen::Object(Some(stored)), Seen::Object(None)) if **stored == written => {
                self.tally.stored += 1;
                self.tally.refused += 1;
                self.forget(&written);
                Ok(())
            }
            _ => self.found(expected, seen),
        }
    }

    /// Invalidates the object on the reference, because the connector's put became an invalidation.
    fn forget(&self, object: &E) {
        let keys = crate::conformance::keys_of(object);
        self.shelved.store(|store, now| store.invalidate(&keys, None, now));
    }
}

/// The answers of both sides, object by object.
fn pairs<'a, E: Modelled>(
    expected: &'a Seen<E>,
    seen: &'a Seen<E>,
) -> Result<impl Iterator<Item = (&'a Seen<E>, &'a Seen<E>)>, Wanted> {
    match (expected, seen) {
        (Seen::Each(expected), Seen::Each(seen)) if expected.len() == seen.len() => Ok(expected.iter().zip(seen)),
        _ => Err("the last of these must be answered for each".to_owned()),
    }
}

fn same<E: Modelled>(expected: &Seen<E>, seen: &Seen<E>) -> Result<(), Wanted> {
    if expected == seen {
        return Ok(());
    }
    Err(match expected {
        Seen::Object(None) => "the last of these must be a miss".to_owned(),
        Seen::Object(Some(object)) => format!("the last of these must find {}", object.shown()),
        other => format!("the last of these must be answered{}", other.words()),
    })
}
