//! Leases: who, among all nodes, loads what is missing under a key.

use super::milliseconds;
use super::queries::Query;
use super::server::Store;
use crate::connector::remote::WhenCrowded;
use crate::contract::{KeyRef, Lease, LeaseToken, Lookup};

impl Store {
    /// Asks for the lease, and then looks. The look comes later: whoever had the lease before has stored what it found, and that must be seen.
    pub(crate) async fn lease_and_look(&self, key: KeyRef<'_>) -> (Lease, Lookup) {
        if self.trusted().is_none() {
            return (Lease::Free, self.find_or_ticket(key).await);
        }
        let token = LeaseToken(fastrand::u128(..));
        let (mark, name, life) = (self.local.marks.mark(key), name(token), milliseconds(self.schema.loading.lease));
        let asked = self
            .link
            .operation(WhenCrowded::Shed, |on| async move { on.rows(Query::Lease, &[&mark, &&name[..], &life]).await })
            .await;
        let lease = match asked {
            Ok(rows) if rows.is_empty() => Lease::Taken,
            Ok(_) => Lease::Granted(token),
            Err(trouble) => {
                self.miss(&trouble);
                Lease::Free
            }
        };
        (lease, self.find_or_ticket(key).await)
    }

    pub(crate) async fn give_back(&self, key: KeyRef<'_>, token: LeaseToken) {
        let (mark, name) = (self.local.marks.mark(key), name(token));
        let sent = self
            .link
            .operation(WhenCrowded::Wait, |on| async move { on.rows(Query::Release, &[&mark, &&name[..]]).await })
            .await;
        // Nobody waits for this. A lease that is not given back ends by itself.
        if let Err(trouble) = sent {
            tracing::debug!(cache = %self.schema.cache, error = %trouble, "a lease is not given back");
        }
    }
}

fn name(token: LeaseToken) -> [u8; 16] {
    token.0.to_be_bytes()
}
