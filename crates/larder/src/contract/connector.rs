//! [`Connector`]: what every connector does.

#[cfg(doc)]
use super::LoadOptions;
use super::many;
use super::{
    Answer, Delivery, Error, Fill, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Place, Pruned, Status, Stored,
    Ticket, Transactions,
};
use crate::codec::Value;
use crate::key::{KeyBuf, KeyRef};

/// Stores the objects of one cache.
pub trait Connector: Send + Sync + 'static {
    /// Returns a hit that needs no waiting, as in memory. `None`: ask [`get`](Self::get), which may still find the object. The result fits
    /// into two registers. A larger one would go through memory, and the hit would wait for the update of the value's reference count.
    fn get_hit(&self, _key: KeyRef<'_>) -> Option<Value> {
        None
    }

    /// Looks an object up. If a last-use age is set, this counts as a use.
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>>;

    /// Looks an object up for a caller that loads it if it is missing. On a miss there is a ticket for the load, and perhaps an expired
    /// object that may be served; a hit says whether the object is to be loaded anew soon. [`LoadOptions`] control both.
    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup>;

    /// A ticket for a load, or a write, that begins after this returns.
    fn ticket(&self) -> Answer<'_, Option<Ticket>>;

    /// Stores the object that a load has read, unless something has overtaken it. The load began after `ticket` was taken.
    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill>;

    /// Tells the connector that a load has found nothing under this key. The load began after `ticket` was taken. The connector decides in
    /// one step, in this order:
    ///
    /// 1. Something has touched the key since the ticket was taken, or the cache was truncated: [`Stored::Overtaken`], and nothing happens.
    /// 2. The key leads to an object that a get may serve, and that does not have to be loaded anew within [`LoadOptions::refresh_ahead`]:
    ///    [`Stored::Overtaken`], and nothing happens. The object was stored while the load was under way.
    /// 3. Otherwise [`Stored::Accepted`]. If the key leads to an object, that object has expired, or was about to be loaded anew. The
    ///    connector ends it under all of its keys, so that no get is served it any more. If [`LoadOptions::negative_age`] is not zero, the
    ///    connector also notes that there is nothing under this key.
    ///
    /// For [`LoadOptions::negative_age`] each lookup of a noted key is [`Miss::KnownAbsent`], whatever else is stored. The note is
    /// forgotten earlier when something touches the key, when an object that lists the key is stored, or for lack of room. A key that was
    /// deleted leads to no object here, even if an object lists it. (A connector may end that object: the object was stored before the
    /// delete, and so before the load.)
    ///
    /// A connector that cannot note this key, because it is too long, answers [`Stored::Unfit`]; it has ended the object even so. The
    /// default implementation does nothing and answers [`Stored::Off`]. It is right only for a connector whose [`lookup`](Self::lookup)
    /// never returns an expired object, nor an object that is due.
    fn fill_absent<'a>(&'a self, _key: KeyRef<'a>, _ticket: Ticket) -> Answer<'a, Fill> {
        Answer::now(Fill::undated(Stored::Off))
    }

    /// Asks for the lease to load what is missing under this key, and then looks the key up. In this order the node that is granted the
    /// lease sees what the holder before it has stored. The default implementation lets every node load for itself.
    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        match self.lookup(key) {
            Answer::Now(lookup) => Answer::Now(lookup.map(|lookup| (Lease::Free, lookup))),
            Answer::Later(lookup) => Answer::later(async move { (Lease::Free, lookup.await) }),
        }
    }

    /// Gives a lease back, if the lease of the key is still this one. A lease that is not given back ends by itself, after
    /// [`LoadOptions::lease`].
    fn release<'a>(&'a self, _key: KeyRef<'a>, _token: LeaseToken) -> Answer<'a, ()> {
        Answer::now(())
    }

    /// Stores an object that was current when `ticket` was taken, or was written after that. The object's keys are fenced whether it is
    /// stored or not. If the ticket was overtaken, or is missing, the keys are invalidated instead.
    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored>;

    /// Puts an object that is known to be current now, and takes the ticket for that itself. If the future is dropped while it waits for a
    /// ticket, the connector must invalidate the object's keys, because the source has the new state already. The default implementation
    /// waits for [`ticket`](Self::ticket) without doing that. It is right if `ticket` answers at once.
    fn set(&self, object: Object) -> Answer<'_, Stored> {
        match self.ticket() {
            Answer::Now(ticket) => self.put(object, ticket.flatten()),
            Answer::Later(ticket) => Answer::later(async move { self.put(object, ticket.await).await }),
        }
    }

    /// Looks several objects up, each as [`get`](Self::get) does. The answers are in the order of the keys.
    ///
    /// The default implementations of this function and the next three handle one key or object after the other. They are right for any
    /// connector, but a connector with a server should ask the server once.
    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        many::unless_empty(keys, many::get_each(self, keys))
    }

    /// Looks several objects up for a caller that loads those that are missing, with one ticket for all loads.
    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        many::unless_empty(keys, many::lookup_each(self, keys))
    }

    /// Stores what loads that began after `ticket` was taken have read, each object as [`fill`](Self::fill) does, in this order.
    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(many::fill_each(self, objects, ticket)) }
    }

    /// Sets several objects, each as [`set`](Self::set) does, in this order. If the future is dropped half-way, the connector must
    /// invalidate the keys of the objects whose turn has not come.
    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(many::set_each(self, objects)) }
    }

    /// Forgets every object that one of `keys` leads to. With a `floor`, a version of those objects that is lower than `floor` is not
    /// stored for a minute (for versioned entries).
    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>>;

    /// Makes only these keys miss.
    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>>;

    /// Forgets everything in this cache.
    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>>;

    /// Cleans up expired objects and keys that lead nowhere.
    fn prune(&self) -> Answer<'_, Result<Pruned, Error>>;

    /// Whether no invalidation, delete, truncate or put has touched any of `keys` since `since` was taken. `None`: the connector cannot
    /// tell now. The default implementation asks whether anything at all was touched.
    fn untouched(&self, _keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        match self.ticket() {
            Answer::Now(ticket) => Answer::now(ticket.flatten().map(|ticket| ticket == since)),
            Answer::Later(ticket) => Answer::later(async move { ticket.await.map(|ticket| ticket == since) }),
        }
    }

    /// Identifies the connection to a server that is in use; the number only grows. 0: there is no connection, or no server behind the
    /// connector. It must change whenever what was applied before need not be applied to what is read from now on, as where a failover leads
    /// to another server.
    fn connection(&self) -> u64 {
        0
    }

    /// The [`Place`] of this cache. `None`: the server cannot be asked now, or the cache is not to be read now. The default implementation
    /// keeps none: each node then applies every change of a feed, and each node that begins to follow one clears the cache.
    fn place(&self) -> Answer<'_, Option<Place>> {
        Answer::now(Some(Place::default()))
    }

    /// Keeps a place, provided that `connection` is the [connection](Self::connection) in use. The place must stand and fall with what the
    /// server keeps for the cache: a copy of the data that has the place has everything that was written before it. A truncate may leave it.
    /// A place that is not kept, for whatever reason, only makes others apply changes again.
    fn set_place(&self, _place: Vec<u8>, _connection: u64) -> Answer<'_, ()> {
        Answer::now(())
    }

    /// What the transactions of a PostgreSQL database mean to the objects of this connector. The default implementation answers that they mean
    /// nothing.
    fn transactions(&self) -> Transactions<'_> {
        Transactions::Unheard
    }

    /// Gives up what other nodes would wait for, since this process is about to end. The connector works on, without what it has in this node's memory only.
    /// [`Caches::shutdown`](crate::Caches::shutdown) calls this. By default there is nothing to give up.
    fn leave(&self) -> Answer<'_, ()> {
        Answer::now(())
    }

    /// How the connector is doing.
    fn status(&self) -> Status;

    /// Publishes what belongs to the connector, rather than to the cache, to the `metrics` recorder that is installed.
    fn publish(&self) {}
}
