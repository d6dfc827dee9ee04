//! [`CaughtUp`]: a node of a bounded tier that knows of every earlier change before it is asked.

use larder::Connector;
use larder::contract::{
    Answer, Delivery, Error, Fill, KeyBuf, KeyRef, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Pruned, Status,
    Stored, Ticket, Value,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A connector whose nodes may serve an earlier state for some time.
pub(crate) trait Bounded: Connector + 'static {
    /// What all nodes share. Reading it finds every change at once.
    fn far(&self) -> &dyn Connector;

    /// Waits until this node knows of every change that has ended before. Returns whether it does.
    fn catch_up(self: Arc<Self>) -> impl Future<Output = bool> + Send;
}

/// What was changed through all nodes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    ended: AtomicU64,
    /// Whether one was given up or deferred: nobody knows when it takes effect.
    some_open: AtomicBool,
}

/// A change that is under way.
struct Change<'a>(&'a Changes, bool);

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.some_open.fetch_or(!self.1, Ordering::SeqCst);
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// A node that has caught up before it is asked.
#[derive(Debug)]
pub(crate) struct CaughtUp<N> {
    node: Arc<N>,
    changes: Arc<Changes>,
    /// How many changes had ended when it caught up last.
    seen: AtomicU64,
}

impl<N: Bounded> CaughtUp<N> {
    pub(crate) fn new(node: N, changes: Arc<Changes>) -> Self {
        Self { node: Arc::new(node), changes, seen: AtomicU64::new(0) }
    }

    /// What is to be asked. Where there is no connection, the memory is as old as it is, and the suite expects that nothing is read: so it is left out.
    async fn caught_up(&self) -> &dyn Connector {
        if !self.node.status().readable {
            return self.node.far();
        }
        let ended = self.changes.ended.load(Ordering::SeqCst);
        if ended == self.seen.load(Ordering::SeqCst) && !self.changes.some_open.load(Ordering::SeqCst) {
            return &*self.node;
        }
        // A change that is dropped is deferred, and nothing can be read before it is applied. A get that is dropped must not do that.
        match tokio::spawn(self.node.clone().catch_up()).await {
            Ok(true) => {
                self.seen.store(ended, Ordering::SeqCst);
                &*self.node
            }
            _ => self.node.far(),
        }
    }

    fn change<'a, T: Send + Unpin + 'a>(&'a self, answer: Answer<'a, T>, is_over: fn(&T) -> bool) -> Answer<'a, T> {
        Answer::later(async move {
            let mut change = Change(&self.changes, false);
            let answer = answer.await;
            change.1 = is_over(&answer);
            answer
        })
    }
}

fn is_applied(delivery: &Result<Delivery, Error>) -> bool {
    matches!(delivery, Ok(Delivery::Applied))
}

fn is_stored(stored: &Stored) -> bool {
    *stored != Stored::Unavailable
}

impl<N: Bounded> Connector for CaughtUp<N> {
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>> {
        Answer::later(async move { self.caught_up().await.get(key).await })
    }

    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup> {
        Answer::later(async move { self.caught_up().await.lookup(key).await })
    }

    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        self.node.lease(key)
    }

    fn release<'a>(&'a self, key: KeyRef<'a>, token: LeaseToken) -> Answer<'a, ()> {
        self.node.release(key, token)
    }

    fn ticket(&self) -> Answer<'_, Option<Ticket>> {
        self.node.ticket()
    }

    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill> {
        self.change(self.node.fill(object, ticket), |fill| is_stored(&fill.stored))
    }

    fn fill_absent<'a>(&'a self, key: KeyRef<'a>, ticket: Ticket) -> Answer<'a, Fill> {
        self.change(self.node.fill_absent(key, ticket), |fill| is_stored(&fill.stored))
    }

    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored> {
        self.change(self.node.put(object, ticket), is_stored)
    }

    fn set(&self, object: Object) -> Answer<'_, Stored> {
        self.change(self.node.set(object), is_stored)
    }

    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        Answer::later(async move { self.caught_up().await.get_many(keys).await })
    }

    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        Answer::later(async move { self.caught_up().await.lookup_many(keys).await })
    }

    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        self.change(self.node.fill_many(objects, ticket), |fills| fills.iter().all(|fill| is_stored(&fill.stored)))
    }

    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        self.change(self.node.set_many(objects), |stored| stored.iter().all(is_stored))
    }

    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>> {
        self.change(self.node.invalidate(keys, floor), is_applied)
    }

    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>> {
        self.change(self.node.delete(keys), is_applied)
    }

    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>> {
        self.change(self.node.truncate(), is_applied)
    }

    fn prune(&self) -> Answer<'_, Result<Pruned, Error>> {
        self.node.prune()
    }

    fn untouched(&self, keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        self.node.untouched(keys, since)
    }

    fn status(&self) -> Status {
        self.node.status()
    }
}
