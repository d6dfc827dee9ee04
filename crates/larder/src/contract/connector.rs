//! [`Connector`]: what every connector does.

#[cfg(doc)]
use super::LoadOptions;
use super::many;
use super::{
    Answer, Delivery, Error, Fill, Lease, LeaseToken, Lookup, Lookups, Miss, Object, Pruned, Status, Stored, Ticket,
};
use crate::codec::Value;
use crate::key::{KeyBuf, KeyRef};

/// What stores the objects of one cache.
pub trait Connector: Send + Sync + 'static {
    /// A hit that needs no waiting, as in memory; `None` where [`get`](Self::get) has to be asked, be it for a miss. It fits into two
    /// registers: whatever goes through memory on the way of a hit has to wait for the value's count of references.
    fn get_hit(&self, _key: KeyRef<'_>) -> Option<Value> {
        None
    }

    /// Looks an object up. Touches it, where a last-use age is set.
    fn get<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Result<Value, Miss>>;

    /// Looks an object up for somebody who loads it where it is missing: with a ticket for that, and with what may be served all the
    /// same or has to be loaded anew soon, as [`LoadOptions`] say.
    fn lookup<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, Lookup>;

    /// A ticket for a load, or a write, that begins after this returns.
    fn ticket(&self) -> Answer<'_, Option<Ticket>>;

    /// Stores what a load that began after `ticket` was taken has read, unless something has overtaken it.
    fn fill(&self, object: Object, ticket: Ticket) -> Answer<'_, Fill>;

    /// Tells the connector that a load has found nothing under this key. The load began after `ticket` was taken. The connector decides
    /// in one step, in this order:
    ///
    /// 1. Something has touched the key since the ticket was taken, or the cache was truncated: [`Stored::Overtaken`]. Nothing happens.
    /// 2. The key leads to an object that a get may serve, and that does not have to be loaded anew within
    ///    [`LoadOptions::refresh_ahead`]: [`Stored::Overtaken`]. Nothing happens: the object was stored while the load was under way,
    ///    so there is something now.
    /// 3. Otherwise [`Stored::Accepted`]. If the key leads to an object, that object has expired, or was about to be loaded anew: the
    ///    connector ends it under all of its keys, so that nobody is served it any more. And where [`LoadOptions::negative_age`] is
    ///    not zero, the connector leaves a note of this key.
    ///
    /// For [`LoadOptions::negative_age`] each lookup of a noted key is [`Miss::KnownAbsent`], whatever else lies there. The note is
    /// forgotten earlier when something touches the key, when an object that lists the key is stored, or for want of room. A key
    /// that was deleted leads to no object here, even if one lists it. (A connector may end that object: it was stored before the delete,
    /// and so before the load.)
    ///
    /// A connector that cannot leave a note of this key, as it is too long, answers [`Stored::Unfit`]; it has ended the object all the
    /// same. What is here by default does nothing and answers [`Stored::Off`]: it is right only for a connector that never
    /// returns an expired object from [`lookup`](Self::lookup), and no object that is due.
    fn fill_absent<'a>(&'a self, _key: KeyRef<'a>, _ticket: Ticket) -> Answer<'a, Fill> {
        Answer::now(Fill::undated(Stored::Off))
    }

    /// Asks to be the one, among all nodes, who loads what is missing under this key, and then looks it up: so whoever is granted
    /// the lease has seen what the one before him has stored. What is here by default grants everybody his own load.
    fn lease<'a>(&'a self, key: KeyRef<'a>) -> Answer<'a, (Lease, Lookup)> {
        match self.lookup(key) {
            Answer::Now(lookup) => Answer::Now(lookup.map(|lookup| (Lease::Free, lookup))),
            Answer::Later(lookup) => Answer::later(async move { (Lease::Free, lookup.await) }),
        }
    }

    /// Gives a lease back, if it still is this one. A lease that nobody gives back ends by itself, after [`LoadOptions::lease`].
    fn release<'a>(&'a self, _key: KeyRef<'a>, _token: LeaseToken) -> Answer<'a, ()> {
        Answer::now(())
    }

    /// Stores what is known to have been current when `ticket` was taken or written after; the object's keys are
    /// fenced whether it is stored or not. Where the ticket was overtaken, or is missing, its keys are invalidated instead.
    fn put(&self, object: Object, ticket: Option<Ticket>) -> Answer<'_, Stored>;

    /// A put of what is known to be current now, and takes the ticket for it. Dropped while it waits for one, it must invalidate
    /// the object's keys: the source has the new state already. What is here by default waits for [`ticket`](Self::ticket) without
    /// that, which is right where that answers at once.
    fn set(&self, object: Object) -> Answer<'_, Stored> {
        match self.ticket() {
            Answer::Now(ticket) => self.put(object, ticket.flatten()),
            Answer::Later(ticket) => Answer::later(async move { self.put(object, ticket.await).await }),
        }
    }

    /// Looks several objects up, each as [`get`](Self::get) does; the answers are in the order of the keys.
    ///
    /// This and the three that follow do by default one after the other, which is right for any connector. One with a server does
    /// better to ask it once.
    fn get_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Vec<Result<Value, Miss>>> {
        many::unless_empty(keys, many::get_each(self, keys))
    }

    /// Looks several objects up for somebody who loads those that are missing, with one ticket for all of them.
    fn lookup_many<'a>(&'a self, keys: &'a [KeyRef<'a>]) -> Answer<'a, Lookups> {
        many::unless_empty(keys, many::lookup_each(self, keys))
    }

    /// Stores what loads that began after `ticket` was taken have read, each as [`fill`](Self::fill) does, in this order.
    fn fill_many(&self, objects: Vec<Object>, ticket: Ticket) -> Answer<'_, Vec<Fill>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(many::fill_each(self, objects, ticket)) }
    }

    /// Sets several objects, each as [`set`](Self::set) does, in this order. Dropped half-way, it must invalidate the keys of those
    /// whose turn has not come.
    fn set_many(&self, objects: Vec<Object>) -> Answer<'_, Vec<Stored>> {
        if objects.is_empty() { Answer::now(Vec::new()) } else { Answer::later(many::set_each(self, objects)) }
    }

    /// Forgets every object that one of `keys` leads to. With a `floor`, a version lower than it is not stored
    /// for those objects until the fence has passed (for versioned entries).
    fn invalidate(&self, keys: Vec<KeyBuf>, floor: Option<u64>) -> Answer<'_, Result<Delivery, Error>>;

    /// Makes just these keys miss.
    fn delete(&self, keys: Vec<KeyBuf>) -> Answer<'_, Result<Delivery, Error>>;

    /// Forgets everything in this cache.
    fn truncate(&self) -> Answer<'_, Result<Delivery, Error>>;

    /// Cleans up what has expired or dangles.
    fn prune(&self) -> Answer<'_, Result<Pruned, Error>>;

    /// Whether nothing has touched any of `keys` since `since` was taken: no invalidation, delete, truncate or put. `None` where it
    /// cannot be told now. What is here by default asks whether anything at all was touched.
    fn untouched(&self, _keys: Vec<KeyBuf>, since: Ticket) -> Answer<'_, Option<bool>> {
        match self.ticket() {
            Answer::Now(ticket) => Answer::now(ticket.flatten().map(|ticket| ticket == since)),
            Answer::Later(ticket) => Answer::later(async move { ticket.await.map(|ticket| ticket == since) }),
        }
    }

    /// How the connector is doing.
    fn status(&self) -> Status;

    /// Hands what belongs to the connector, rather than to the cache, to the `metrics` recorder that is installed.
    fn publish(&self) {}
}
