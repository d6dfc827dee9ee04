//! What a case works with: two nodes that record each operation and its answer, and checks that report them.

use super::{Ability, Promise, Subject, nature};
use larder::contract::{KeyBuf, KeyRef, Object, Status};
use larder::{AnyKey, Cache, Connector, Delivery, Entry, Error, Index, Keys, Lookup, Schema, Stored, Ticket};
use std::any::Any;
use std::fmt::{Debug, Display};
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// An entry type that can be compared and shown.
pub(super) trait Sample: Entry + Clone + PartialEq + Debug {}

impl<E: Entry + Clone + PartialEq + Debug> Sample for E {}

/// One run of a case.
pub(super) struct Trial<'a, S> {
    pub(super) subject: &'a S,
    /// The name of the cache that the case works in. No other case or earlier run uses it.
    pub(super) cache: String,
    pub(super) history: History,
}

impl<'a, S: Subject> Trial<'a, S> {
    pub(super) fn begin(subject: &'a S, promise: Promise, case: &'static str) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let history = History(Arc::new(Record { promise, case, steps: Mutex::default() }));
        Self { subject, cache: format!("{case}.{run}"), history }
    }

    /// Whether a case may expect that an object is still there after time has passed. Where time is real it may not. Then this part of the
    /// case is left out, which is printed.
    pub(super) fn exact_time(&self) -> bool {
        self.checks("that nothing ends before its time", self.subject.nature().exact_time)
    }

    /// Whether who has seen a change may expect to see nothing older, also before the change has returned. If not, this part of the case is left out, which is
    /// printed.
    pub(super) fn at_once(&self) -> bool {
        self.checks("that nobody goes back during a change", self.subject.nature().at_once)
    }

    /// Whether this part of the case, which needs the ability, is run. If not, that is printed.
    fn checks(&self, part: &str, ability: Ability) -> bool {
        let Ability::No(reason) = ability else { return true };
        nature::leave_out::<S>(self.history.0.promise, self.history.0.case, Some(part), reason);
        false
    }

    /// Goes on in a cache that has not been used yet.
    pub(super) fn next_cache(&mut self) {
        self.cache.push('n');
    }

    /// The schema of an entry type in the cache of this case.
    pub(super) fn schema<E: Entry>(&self) -> Schema {
        Schema::of::<E>().named(self.cache.as_str())
    }

    /// Two nodes without age limits.
    pub(super) async fn nodes<E: Sample>(&self) -> Nodes<E> {
        self.nodes_with(self.schema::<E>()).await
    }

    /// Two nodes with these age limits, in milliseconds.
    pub(super) async fn aging<E: Sample>(&self, max_age: u64, last_use_age: u64) -> Nodes<E> {
        let [max_age, last_use_age] = [max_age, last_use_age].map(Duration::from_millis);
        self.nodes_with(self.schema::<E>().ages(max_age, last_use_age)).await
    }

    pub(super) async fn nodes_with<E: Sample>(&self, schema: Schema) -> Nodes<E> {
        let near = self.node("near", 0, schema.clone()).await;
        let far = self.node("far", 1, schema.counted_alone()).await;
        Nodes { near, far }
    }

    async fn node<E: Sample>(&self, name: &'static str, number: usize, schema: Schema) -> Node<E> {
        let connector = self.subject.open(number, schema.clone()).await;
        if !connector.status().readable {
            self.history.fail("the subject opened a connector that may not be read yet; it has to wait until it may");
        }
        let cache = match Cache::new(connector.clone(), schema) {
            Ok(cache) => cache,
            Err(error) => self.history.fail(error),
        };
        Node { name, cache, connector, history: self.history.clone() }
    }

    /// Lets this many milliseconds pass.
    pub(super) async fn pass(&self, milliseconds: u64) {
        self.history.step(format!("{milliseconds} ms pass"));
        self.subject.pass(Duration::from_millis(milliseconds)).await;
    }

    /// Checks that both nodes still serve an object whose age is not over. Checks nothing where time is real: more time may have passed
    /// than the case asked for.
    pub(super) async fn serve_if_exact<E: Sample>(&self, nodes: &Nodes<E>, object: &E) {
        if self.exact_time() {
            nodes.serve(object).await;
        }
    }

    /// Begins an outage, and waits until both nodes have noticed.
    pub(super) async fn interrupt<E: Sample>(&self, nodes: &Nodes<E>) {
        self.history.step("what stores the objects is away");
        self.subject.interrupt().await;
        self.until(nodes, "it does not notice that what stores its objects is away", |status| !status.readable).await;
    }

    /// Ends an outage, and waits as [`settle`](Self::settle) does.
    pub(super) async fn mend<E: Sample>(&self, nodes: &Nodes<E>) {
        self.history.step("what stores the objects is back");
        self.subject.mend().await;
        self.settle(nodes).await;
    }

    /// Waits until the journals of both nodes are empty and both can be read.
    pub(super) async fn settle<E: Sample>(&self, nodes: &Nodes<E>) {
        let settled = |status: &Status| status.journal == 0 && status.readable;
        self.until(nodes, "its journal is not delivered", settled).await;
    }

    /// Waits until the journals of both nodes are empty, and what stores the objects has handled everything that was sent: a dropped operation may still
    /// be under way, and so may a replay that was begun again. Where nodes hear of a change one after the other, each has heard of the dropped ones then.
    pub(super) async fn calm<E: Sample>(&self, nodes: &Nodes<E>) {
        self.settle(nodes).await;
        for node in [&nodes.near, &nodes.far] {
            let ticket = || node.connector.ticket();
            // An answer comes after everything that was sent before on the same connection. Eight at once reach each connection of a node.
            tokio::join!(ticket(), ticket(), ticket(), ticket(), ticket(), ticket(), ticket(), ticket());
        }
        if !self.subject.nature().at_once.is_there() {
            // Nobody waits for a dropped change. This one comes after it, and returns when every node has heard of it.
            let unused = KeyBuf { index: 0, bytes: b"a key that no case uses".as_slice().into() };
            let told = nodes.near.connector.invalidate(vec![unused], None).await;
            self.history.require(told.is_ok(), format!("an invalidation fails: {told:?}"));
        }
        self.settle(nodes).await;
    }

    async fn until<E: Sample>(&self, nodes: &Nodes<E>, in_vain: &str, condition: impl Fn(&Status) -> bool) {
        for node in [&nodes.near, &nodes.far] {
            for patience in (0..10_000).rev() {
                let status = node.connector.status();
                if condition(&status) {
                    break;
                }
                if patience == 0 {
                    self.history.fail(format!("{}: {in_vain}: {status:?}", node.name));
                }
                self.subject.pass(Duration::from_millis(10)).await;
            }
        }
    }
}

/// The steps of a case so far.
#[derive(Clone)]
pub(super) struct History(Arc<Record>);

struct Record {
    promise: Promise,
    case: &'static str,
    steps: Mutex<Vec<String>>,
}

impl History {
    /// How many steps a report shows.
    const SHOWN: usize = 40;

    pub(super) fn step(&self, step: impl Into<String>) {
        self.steps().push(step.into());
    }

    /// Passes on a panic of the suite itself. Reports any other panic as a broken promise of the connector.
    pub(super) fn panicked(&self, panic: Box<dyn Any + Send>) -> ! {
        let Record { promise, .. } = &*self.0;
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        match text {
            Some(text) if text.starts_with(&format!("{promise} is broken: ")) => resume_unwind(panic),
            Some(text) => self.fail(format!("the next step panics: {text}")),
            None => self.fail("the next step panics"),
        }
    }

    /// Panics: the promise is broken.
    pub(super) fn fail(&self, seen: impl Display) -> ! {
        let steps = self.steps();
        let skipped = steps.len().saturating_sub(Self::SHOWN);
        let mut told: String =
            steps.iter().enumerate().skip(skipped).map(|(n, s)| format!("\n{:4}. {s}", n + 1)).collect();
        if skipped > 0 {
            told.insert_str(0, &format!("\n      ({skipped} earlier steps)"));
        }
        drop(steps);
        let Record { promise, case, .. } = &*self.0;
        panic!("{promise} is broken: {}\n{case}: {seen}\nwhat was done:{told}", promise.text());
    }

    pub(super) fn require(&self, kept: bool, seen: impl Display) {
        if !kept {
            self.fail(seen);
        }
    }

    fn steps(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's access to the cache of a case.
pub(super) struct Node<E: Entry> {
    pub(super) name: &'static str,
    pub(super) cache: Cache<E>,
    pub(super) connector: Arc<dyn Connector>,
    pub(super) history: History,
}

impl<E: Sample> Node<E> {
    fn step(&self, what: &str, told: impl Display, answer: impl Debug) {
        self.history.step(format!("{}: {what} {told} -> {}", self.name, brief(&answer)));
    }

    pub(super) async fn set(&self, object: &E) -> Stored {
        let stored = self.cache.set(object.clone()).await;
        self.step("set", brief(object), stored);
        stored
    }

    /// Sets an object, and checks that the set was accepted.
    pub(super) async fn stores(&self, object: &E) {
        let stored = self.set(object).await;
        self.history.require(stored == Stored::Accepted, "a set that nothing hinders must store its object");
    }

    pub(super) async fn get<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>) -> Option<Arc<E>> {
        let found = self.cache.get(index.encoded(), key.as_ref()).await;
        self.step("get", show(index.name(), key.as_ref()), &found);
        found
    }

    /// Checks that both a get and a lookup find this object.
    pub(super) async fn serves<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>, object: &E) {
        let found = self.get(index, key.as_ref()).await;
        self.history.require(found.as_deref() == Some(object), format!("expected {}", brief(object)));
        let found = self.lookup(index, key.as_ref()).await;
        let hit = matches!(&found, Lookup::Hit { value: found, .. } if **found == *object);
        self.history.require(hit, format!("the get found it, the lookup must find it too: {}", brief(object)));
    }

    /// Checks that both a get and a lookup find nothing.
    pub(super) async fn misses<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>) {
        let found = self.get(index, key.as_ref()).await;
        self.history.require(found.is_none(), "expected a miss");
        let found = self.lookup(index, key.as_ref()).await;
        self.history.require(matches!(found, Lookup::Miss { .. }), "the get was a miss, the lookup must be one too");
    }

    pub(super) async fn lookup<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>) -> Lookup<Arc<E>> {
        let found = self.cache.lookup(index.encoded(), key.as_ref()).await;
        self.step("lookup", show(index.name(), key.as_ref()), &found);
        found
    }

    /// Begins a load: a lookup that must miss, and whose ticket is returned.
    pub(super) async fn begins<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>) -> Ticket {
        match self.lookup(index, key).await {
            Lookup::Miss { ticket: Some(ticket), .. } => ticket,
            Lookup::Miss { ticket: None, .. } => {
                self.history.fail("a miss of a healthy connector must come with a ticket")
            }
            Lookup::Hit { .. } => self.history.fail("expected a miss"),
        }
    }

    /// A ticket for a load that begins now, whether something is stored or not.
    pub(super) async fn ticket(&self) -> Ticket {
        let ticket = self.connector.ticket().await;
        self.step("ticket", "", ticket);
        ticket.unwrap_or_else(|| self.history.fail("a healthy connector must give a ticket"))
    }

    pub(super) async fn fill(&self, object: &E, ticket: Ticket) -> Stored {
        let stored = self.cache.fill(object.clone(), ticket).await;
        self.step("fill", format!("{} with {ticket:?}", brief(object)), stored);
        stored
    }

    /// Fills an object, and checks that the fill was accepted.
    pub(super) async fn fills(&self, object: &E, ticket: Ticket) {
        let stored = self.fill(object, ticket).await;
        self.history.require(stored == Stored::Accepted, "a fill that nothing has overtaken must be accepted");
    }

    /// Tries a fill, and checks that it was refused.
    pub(super) async fn refuses(&self, object: &E, ticket: Ticket) {
        let stored = self.fill(object, ticket).await;
        self.history.require(stored != Stored::Accepted, "this fill must be refused");
    }

    /// Calls the connector's `put` with this ticket.
    pub(super) async fn put(&self, object: &E, ticket: Option<Ticket>) -> Stored {
        let stored = self.connector.put(self.object(object), ticket).await;
        self.step("put", format!("{} with {ticket:?}", brief(object)), stored);
        stored
    }

    pub(super) async fn invalidates<T, K: AsRef<[u8]>>(&self, index: Index<E, T>, keys: impl IntoIterator<Item = K>) {
        let keys = owned(keys);
        let delivery = self.cache.invalidate(index.encoded(), &keys).await;
        self.applied("invalidate", show_all(index.name(), &keys), delivery);
    }

    pub(super) async fn invalidates_below<T, K: AsRef<[u8]>>(
        &self,
        index: Index<E, T>,
        keys: impl IntoIterator<Item = K>,
        version: u64,
    ) {
        let keys = owned(keys);
        let delivery = self.cache.invalidate_below(index.encoded(), &keys, version).await;
        self.applied("invalidate", format!("{} below version {version}", show_all(index.name(), &keys)), delivery);
    }

    pub(super) async fn deletes<T, K: AsRef<[u8]>>(&self, index: Index<E, T>, keys: impl IntoIterator<Item = K>) {
        let keys = owned(keys);
        let delivery = self.cache.delete(index.encoded(), &keys).await;
        self.applied("delete", show_all(index.name(), &keys), delivery);
    }

    pub(super) async fn truncates(&self) {
        let delivery = self.cache.truncate().await;
        self.applied("truncate", "", delivery);
    }

    pub(super) async fn prunes(&self) {
        let pruned = self.cache.prune().await;
        self.step("prune", "", &pruned);
        self.history.require(pruned.is_ok(), "a healthy connector can prune");
    }

    fn applied(&self, what: &str, told: impl Display, delivery: Result<Delivery, Error>) {
        self.step(what, told, &delivery);
        self.history.require(matches!(delivery, Ok(Delivery::Applied)), "a healthy connector answers `Applied`");
    }

    /// The object in the form that connectors take.
    pub(super) fn object(&self, entry: &E) -> Object {
        let mut keys = keys_of(entry);
        let primary = keys.iter().position(|key| key.index == 0).map(|place| keys.remove(place).bytes);
        let primary = primary.unwrap_or_else(|| self.history.fail("the case has made an object without a primary key"));
        Object::new(primary, keys, entry.version(), Arc::new(entry.clone()))
    }
}

/// Two nodes that have opened the same cache.
pub(super) struct Nodes<E: Entry> {
    pub(super) near: Node<E>,
    pub(super) far: Node<E>,
}

impl<E: Sample> Nodes<E> {
    /// Checks that both nodes serve the object under each of its keys.
    pub(super) async fn serve(&self, object: &E) {
        for key in Keys::of(object) {
            self.serve_key(key.index(), key.bytes(), object).await;
        }
    }

    pub(super) async fn serve_key<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>, object: &E) {
        self.near.serves(index, key.as_ref(), object).await;
        self.far.serves(index, key.as_ref(), object).await;
    }

    /// Checks that both nodes find nothing under any key of the object.
    pub(super) async fn lack(&self, object: &E) {
        for key in Keys::of(object) {
            self.lack_key(key.index(), key.bytes()).await;
        }
    }

    pub(super) async fn lack_key<T>(&self, index: Index<E, T>, key: impl AsRef<[u8]>) {
        self.near.misses(index, key.as_ref()).await;
        self.far.misses(index, key.as_ref()).await;
    }

    /// Checks that neither node serves this state of the object under any of its keys. Another state is fine.
    pub(super) async fn never_serve(&self, object: &E) {
        for key in Keys::of(object) {
            for node in [&self.near, &self.far] {
                let found = node.get(key.index(), key.bytes()).await;
                node.history.require(found.as_deref() != Some(object), "this state must not be served any more");
            }
        }
    }

    /// Checks that the object is found under all of its keys, or under none. Returns whether it is found.
    pub(super) async fn whole_or_gone(&self, object: &E) -> bool {
        let mut there = Vec::new();
        for key in Keys::of(object) {
            for node in [&self.near, &self.far] {
                let found = node.get(key.index(), key.bytes()).await;
                node.history.require(found.as_deref().is_none_or(|found| found == object), "another object's state");
                there.push(found.is_some());
            }
        }
        let first = there.first().copied().unwrap_or_default();
        self.near.history.require(there.iter().all(|one| *one == first), "half of the object is there");
        first
    }
}

/// An index that takes its keys as bytes, and a key of that index.
type IndexAndKey<E> = (Index<E, Vec<u8>>, Vec<u8>);

/// The keys of an object, each with its index.
pub(super) fn keys_by_index<E: Entry>(entry: &E) -> Vec<IndexAndKey<E>> {
    Keys::of(entry).into_iter().map(|key| (key.index(), key.bytes().to_vec())).collect()
}

/// The keys of an object in the form that connectors take.
pub(crate) fn keys_of<E: Entry>(entry: &E) -> Vec<KeyBuf> {
    Keys::of(entry).into_iter().map(AnyKey::into_buf).collect()
}

/// A key in the form that connectors take.
pub(super) fn key_ref<E: Entry, T>(index: Index<E, T>, bytes: &[u8]) -> KeyRef<'_> {
    KeyRef { index: index.position(), bytes }
}

fn owned<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Vec<Vec<u8>> {
    keys.into_iter().map(|key| key.as_ref().to_vec()).collect()
}

fn show(index: &str, key: &[u8]) -> String {
    let text = key.escape_ascii().to_string();
    format!("{index} \"{}\"", cut(text, 60))
}

fn show_all(index: &str, keys: &[Vec<u8>]) -> String {
    let shown: Vec<_> = keys.iter().take(4).map(|key| show(index, key)).collect();
    let more = if keys.len() > 4 { format!(" and {} more", keys.len() - 4) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// The `Debug` form of a value, cut if it is long.
pub(super) fn brief(value: &impl Debug) -> String {
    cut(format!("{value:?}"), 240)
}

fn cut(mut text: String, length: usize) -> String {
    if text.len() > length {
        let whole = text.len();
        let end = (0..=length).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push_str(&format!("… ({whole} bytes)"));
    }
    text
}

/// Polls a future at most this many times, then drops it. Returns its output if it was ready by then.
pub(super) async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Polls a future once. Returns its output if it is ready.
pub(super) async fn poll_once<F: Future>(future: &mut Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Pseudo-random numbers that are the same in every run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`, which is not zero.
    pub(super) fn throw(&mut self, sides: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }
}
