//! Leases: which one of all nodes loads what is missing under a key.

use crate::connector::redis::scripts;
use crate::connector::redis::single::{Store, milliseconds};
use crate::connector::redis::wire::rights::Command;
use crate::connector::remote::Trouble;
use crate::connector::remote::WhenCrowded;
use crate::contract::{KeyRef, Lease, LeaseToken, Lookup};
use redis::{Cmd, Pipeline, RedisError, Value as Reply};

impl Store {
    /// Asks for the lease, and then looks up the key, in one round trip. If this node has no hint and finds an index key, a second one reads
    /// the object.
    pub(crate) async fn lease_and_look(&self, key: KeyRef<'_>) -> (Lease, Lookup) {
        // A user without the right to write a lease loads without one.
        let may_take = !self.link.kind().rights.missing().any_of(&[Command::Set]);
        let Some(connection) = self.trusted().filter(|_| may_take) else {
            return (Lease::Free, self.find_or_ticket(key).await);
        };
        let token = fastrand::u128(..);
        let newest = self.newest();
        let hint = if key.index == 0 { None } else { self.local.hints.get(key) };
        let known = if key.index == 0 { Some(key.bytes) } else { hint.as_deref().map(|hint| &*hint.primary) };
        let read = known.map_or_else(|| self.local.layout.index(key), |primary| self.local.layout.object(primary));
        let mut all = Pipeline::with_capacity(3);
        let life = milliseconds(self.schema.loading.lease);
        all.cmd("SET").arg(self.local.layout.lease(key)).arg(name(LeaseToken(token))).arg("NX").arg("PX").arg(life);
        all.cmd("GET").arg(&read);
        all.add_command(self.read_clock());
        let replies = match self.link.pipeline(&all).await {
            Ok(replies) => replies,
            Err(trouble) => return (Lease::Free, Lookup::miss(self.miss(&trouble), None)),
        };
        let mut replies = replies.into_iter();
        let lease = match replies.next() {
            Some(Reply::Okay) => Lease::Granted(LeaseToken(token)),
            Some(Reply::Nil) => Lease::Taken,
            // The server takes no writes now, or none from this user: the caller loads without a lease.
            Some(Reply::ServerError(error)) => {
                self.miss(&Trouble::from(RedisError::from(error)));
                Lease::Free
            }
            _ => Lease::Free,
        };
        let found = replies.next().unwrap_or(Reply::Nil);
        let clock = replies.next().unwrap_or(Reply::Nil);
        let found = if known.is_some() {
            let found = found.extract_error().map_err(|error| error.into());
            self.believe(connection, read, found, key).await.map(|(read, _)| read)
        } else {
            self.find_hinted(key, found, None).await
        };
        // The hint may be wrong: then the lookup is not complete without the index key.
        if known.is_some() && key.index != 0 && found.is_err() {
            self.local.hints.forget(key);
            return (lease, self.find_or_ticket(key).await);
        }
        (lease, self.look(found, async || self.ticket_from(clock, newest).await).await)
    }

    pub(crate) async fn give_back(&self, key: KeyRef<'_>, token: LeaseToken) {
        let lease = self.local.layout.lease(key);
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&lease).arg(name(token));
        };
        // It may wait for a place: no caller waits for it, and a lease that is not given back holds up the other nodes.
        if let Err(trouble) = self.link.script(WhenCrowded::Wait, &scripts::DISCARD, arguments).await {
            tracing::debug!(cache = %self.schema.cache, error = %trouble, "a lease is not given back; it expires by itself");
        }
    }
}

/// A token as it stands on the server.
fn name(token: LeaseToken) -> String {
    format!("{:032x}", token.0)
}
