//! [`Rights`]: which rights the user was found to lack, so that an operator is told once, and once more when all are there.
//!
//! An operation that the server refuses says which right is missing. The heartbeat then asks the catalogue, and goes on asking every few seconds
//! while a right is missing.

use super::connection::column;
use super::queries::Query;
use super::server::PostgresServer;
use crate::connector::remote::Link;
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// What larder has to be allowed to do with its tables.
pub(crate) const RIGHTS: &str = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE";

/// While the server refuses operations, larder asks again after this time, in ms.
const RETRY: u64 = 5_000;

/// What larder knows of its user's rights in one database.
#[derive(Default)]
pub(crate) struct Rights(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Refusals that an operator was told of.
    told: BTreeSet<String>,
    /// The rights that are missing, as the catalogue has said.
    missing: String,
    /// When the catalogue was asked last.
    asked: u64,
}

impl Rights {
    /// Notes that the server has refused an operation. Answers whether an operator has to be told.
    pub(crate) fn refused(&self, error: &str) -> bool {
        let mut known = self.0.lock();
        let new = known.told.insert(error.to_owned());
        if new {
            // The next heartbeat asks.
            known.asked = 0;
        }
        new
    }

    /// Whether it is time to ask the catalogue.
    pub(crate) fn are_due(&self, now: u64) -> bool {
        let mut known = self.0.lock();
        let due = !known.told.is_empty() && (known.asked == 0 || now >= known.asked.saturating_add(RETRY));
        if due {
            known.asked = now.max(1);
        }
        due
    }

    /// Takes the answer of the catalogue: the rights that are missing. If none was missing before either, something else refuses the operations,
    /// such as a policy on rows; that was told once.
    pub(crate) fn answered(&self, missing: &[String]) -> Learnt {
        let mut known = self.0.lock();
        let missing = missing.join(", ");
        if known.missing == missing {
            return Learnt::Nothing;
        }
        known.missing.clone_from(&missing);
        if missing.is_empty() {
            known.told.clear();
            return Learnt::Complete;
        }
        Learnt::Missing(missing)
    }
}

impl PostgresServer {
    /// Asks which rights are missing, and tells an operator what is new.
    pub(crate) async fn ask_for_rights(&self, link: &Link<Self>) {
        let asked = link.beat(|on| async move { on.rows(Query::Missing, &[&RIGHTS]).await }).await;
        let missing = asked.and_then(|rows| rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<String>, _>>());
        match missing.map(|missing| self.rights.answered(&missing)) {
            Ok(Learnt::Missing(rights)) => {
                tracing::warn!(server = %self.name, %rights, "rights are missing. Grant them to the user");
            }
            Ok(Learnt::Complete) => tracing::info!(server = %self.name, "the user has all rights that larder needs"),
            // The next heartbeats ask again.
            Ok(Learnt::Nothing) | Err(_) => {}
        }
    }
}

/// What an operator has to be told after the catalogue was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Learnt {
    Nothing,
    Missing(String),
    Complete,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_once_until_it_is_there() {
        let rights = Rights::default();
        assert!(!rights.are_due(7_000), "nothing was refused");
        assert!(rights.refused("table objects") && !rights.refused("table objects") && rights.refused("table fences"));
        assert!(rights.are_due(7_000));
        let missing = ["INSERT on larder.objects".to_owned(), "INSERT on larder.fences".to_owned()];
        let both = "INSERT on larder.objects, INSERT on larder.fences";
        assert_eq!(rights.answered(&missing), Learnt::Missing(both.to_owned()));
        assert_eq!(rights.answered(&missing), Learnt::Nothing);
        assert!(!rights.refused("table objects"));
        assert!(!rights.are_due(7_000 + RETRY - 1) && rights.are_due(7_000 + RETRY));
        assert_eq!(rights.answered(&[]), Learnt::Complete);
        assert!(!rights.are_due(100_000) && rights.refused("table objects"), "it may be taken away again");
    }

    #[test]
    fn what_no_right_explains_is_told_once() {
        let rights = Rights::default();
        assert!(rights.refused("row policy") && rights.are_due(1));
        assert!(rights.answered(&[]) == Learnt::Nothing && !rights.refused("row policy"));
    }
}
