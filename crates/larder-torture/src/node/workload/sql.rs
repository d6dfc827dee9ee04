//! Invalidations by plain SQL, as an application sends them that does not know larder: in transactions of every isolation level, with savepoints, and
//! with calls that are rolled back.

use super::Desk;
use super::forgetting::Wish;
use crate::objects::{By, Instance, Key, Kind};
use crate::postgres::{Sql, SqlError};
use crate::protocol::{Call, Outcome, Store, now};
use crate::source::Change;
use larder::Entry as _;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

impl Desk {
    /// Invalidates what a change has touched. If the answer to the commit is lost, nothing is demanded: it may not have been committed.
    pub(super) async fn invalidate_in_sql(&self, change: &Change, rng: &mut fastrand::Rng) {
        let Store::Postgres { dsn, .. } = &self.setup.store else { return };
        let by = if rng.bool() { By::Id } else { By::Serial };
        let states = change.touched.iter().flat_map(|(before, after)| before.iter().chain(after));
        let mut keys: Vec<Key> = states.flat_map(|state| state.keys()).filter(|key| key.by == by).collect();
        keys.sort_unstable();
        keys.dedup();
        let names: Vec<String> = keys.iter().map(|key| format!("'{}'", key.text())).collect();
        let invalidate =
            format!("SELECT larder.invalidate('{}', '{}', {});", Instance::CACHE, by.name(), names.join(", "));
        let level = rng.choice(LEVELS).unwrap_or("SERIALIZABLE");
        let text = match rng.u32(..4) {
            0 => format!("BEGIN ISOLATION LEVEL {level}; SAVEPOINT a; {invalidate} RELEASE a; COMMIT"),
            1 => format!(
                "BEGIN ISOLATION LEVEL {level}; SAVEPOINT a; SELECT larder.truncate('{}'); ROLLBACK TO a; {invalidate} COMMIT",
                Instance::CACHE
            ),
            _ => format!("BEGIN ISOLATION LEVEL {level}; {invalidate} COMMIT"),
        };
        let begun = now();
        if self.send_sql(dsn, &text).await.is_ok() {
            let wish = Wish { call: Call::Sql, kind: Kind::Instance, keys, sequence: change.sequence };
            self.forgot(wish, begun, Outcome::Applied, None);
        }
    }

    /// Sends SQL over a session of this node, a new one if there is none.
    async fn send_sql(&self, dsn: &str, text: &str) -> Result<(), SqlError> {
        let idle = super::lock(&self.sessions).pop();
        let session = match idle.filter(|session| !session.client.is_closed()) {
            Some(session) => session,
            None => Sql::connect(dsn).await?,
        };
        // A session that has failed may be in the middle of a transaction: it is not used again.
        session.run(text).await?;
        super::lock(&self.sessions).push(session);
        Ok(())
    }
}
