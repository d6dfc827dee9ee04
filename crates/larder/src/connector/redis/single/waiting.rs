//! What a change waits for where nodes keep objects of the cache in their own memory.
//!
//! The epoch in the server's answer says whether there are such nodes, and how long their memories are valid (`contract/following.rs`). A change is
//! *applied* when each of them has acknowledged it in the table of followers (`lua/follow.lua`), or when its memory cannot be valid any more: when a
//! validity, and a little, is over since the change was answered. So the wait needs no server, and cannot fail.
//!
//! All changes that wait at the same time share the readings of the table. A reading counts for a change only if it began after the change was
//! answered: before that, a node may have been missing in the table that has entered it meanwhile, and has read what the change removes.

use crate::connector::near::rounds::in_time;
use crate::connector::redis::scripts;
use crate::connector::redis::single::Store;
use crate::connector::redis::wire::connection::Connection;
use crate::connector::redis::wire::replies::{bytes, unexpected};
use crate::connector::remote::Trouble;
use crate::contract::{Consistency, Following, Ticket};
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How many times the table is read without a pause. A follower that is well has acknowledged by then.
const AT_ONCE: u32 = 4;

/// The longest pause between two readings.
const PAUSE: Duration = Duration::from_millis(5);

/// How many bytes the table has for each follower: its name, the epoch that it follows, up to which sequence it knows all marks, and a counter.
pub(crate) const ENTRY: usize = 32;

/// If the table was first read later than this part of a validity after the change, nobody is removed: that would hold the change up.
const LATE: u32 = 4;

/// An entry of the table, and its place there.
type Entry = (usize, [u8; ENTRY]);

/// The table of followers.
#[derive(Clone)]
pub(crate) struct Table {
    /// When it was asked for.
    began: Instant,
    /// What the clock begins with, and the entries.
    reply: Arc<[u8]>,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |number| u64::from_be_bytes(*number))
}

impl Table {
    const HEAD: usize = 24;

    /// The entries that stand in the way of a change, each with its place. `None`: the table says nothing of this change.
    fn behind(&self, changed: Ticket, own: Option<[u8; 8]>) -> Option<Vec<Entry>> {
        let head = self.reply.get(..Self::HEAD)?;
        if number(head, 0) != changed.epoch || number(head, 16) != 1 {
            return None;
        }
        let behind = |entry: &[u8]| {
            let is_own = own.is_some_and(|own| entry.starts_with(&own));
            let acknowledged = number(entry, 8) == changed.epoch && number(entry, 16) >= changed.sequence;
            !is_own && !acknowledged
        };
        Some(self.entries().into_iter().filter(|(_, entry)| behind(entry)).collect())
    }

    /// The entries of everybody, each with its place.
    fn entries(&self) -> Vec<Entry> {
        let (entries, _) = self.reply.get(Self::HEAD..).unwrap_or_default().as_chunks::<ENTRY>();
        entries.iter().copied().enumerate().filter(|(_, entry)| number(entry, 0) != 0).collect()
    }
}

impl Store {
    /// Waits until no other node's memory has anything older than what was changed at this state of the clock.
    ///
    /// This node's own memory is right as well then, whatever the others do.
    pub(crate) async fn wait_for_followers(&self, changed: Ticket) {
        let answered = Instant::now();
        let others = async {
            let told = Following::of(changed.epoch);
            let Some(following) = told.or_else(|| self.local.following()) else { return };
            let over = following.until_over();
            match following.consistency {
                Consistency::Bounded => {}
                Consistency::Strict if told.is_some() => self.wait_for_acknowledgements(changed, answered, over).await,
                // Or a node that knows of no memory has made the clock anew, and nobody is in the table.
                Consistency::Strict | Consistency::WaitOnly => self.link.wait_until(answered + over).await,
            }
        };
        match self.local.tier.get() {
            None => others.await,
            Some(tier) => drop(tokio::join!(others, tier.rounds.catch_up(&tier.near, self.link.home()))),
        }
    }

    async fn wait_for_acknowledgements(&self, changed: Ticket, answered: Instant, validity: Duration) {
        let over = answered + validity;
        let own = self.local.tier.get().map(|tier| tier.follower);
        let mut first: Option<(Instant, Vec<Entry>)> = None;
        let (mut after, mut pause) = (answered, Duration::ZERO);
        let mut readings = 0;
        // Where the server is away, every reading fails at once.
        while Instant::now() < over {
            let Ok(read) = in_time(self.link.home(), over, self.table_read_after(after)).await else { break };
            if let Ok(table) = read {
                after = table.began;
                if let Some(behind) = table.behind(changed, own) {
                    if behind.is_empty() {
                        return;
                    }
                    first.get_or_insert_with(|| (Instant::now(), behind));
                }
            }
            readings += 1;
            if readings >= AT_ONCE {
                pause = (pause * 2).clamp(Duration::from_millis(1), PAUSE);
                self.link.wait_until((Instant::now() + pause).min(over)).await;
            }
        }
        self.link.wait_until(over).await;
        // An entry may go only if it has stood there, as it is, for a whole validity.
        if let Some((looked, behind)) = first.filter(|(looked, _)| *looked < answered + validity / LATE) {
            self.link.wait_until(looked + validity).await;
            self.remove_followers(behind).await;
        }
    }

    /// The table, asked for after that time.
    async fn table_read_after(&self, after: Instant) -> Result<Table, Trouble> {
        let mut known = self.local.table.lock().await;
        if let Some(table) = known.as_ref().filter(|table| table.began > after) {
            return Ok(table.clone());
        }
        let connection = self.trusted().ok_or(Trouble::Unavailable)?;
        let began = Instant::now();
        let clock = self.local.layout.clock();
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&clock);
        };
        let read = |on: Arc<Connection>| async move { on.run(&scripts::FOLLOWERS, &arguments).await };
        let reply = bytes(self.link.beat(read).await?).ok_or_else(|| unexpected("followers.lua"))?;
        if self.trusted() != Some(connection) {
            return Err(Trouble::Unavailable);
        }
        let table = Table { began, reply: reply.into() };
        *known = Some(table.clone());
        Ok(table)
    }

    /// Removes all who do not follow for a whole validity from now on.
    pub(crate) async fn remove_the_dead(&self, following: Following) {
        let now = Instant::now();
        let Ok(table) = self.table_read_after(now).await else { return };
        let looked = Instant::now();
        self.link.wait_until(looked + following.until_over()).await;
        self.remove_followers(table.entries()).await;
    }

    /// Removes followers that have not followed for a whole validity: those whose entries are, byte for byte, what they were.
    async fn remove_followers(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let clock = self.local.layout.clock();
        let arguments = |call: &mut Cmd| {
            call.arg(1).arg(&clock);
            for (place, entry) in &entries {
                call.arg(*place).arg(&entry[..]);
            }
        };
        // Whoever waits next removes them otherwise.
        let removed = self.link.beat(|on| async move { on.run(&scripts::LEAVE, &arguments).await }).await;
        if let Ok(Value::Int(followers @ 1..)) = removed {
            tracing::info!(
                cache = %self.schema.cache, followers,
                "nodes that keep the cache in their own memory have not been heard of for a validity: they read it no more, and are not waited for again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(head: [u64; 3], entries: &[[u64; 4]]) -> Table {
        let numbers = head.iter().chain(entries.iter().flatten());
        let reply: Vec<u8> = numbers.flat_map(|number| number.to_be_bytes()).collect();
        Table { began: Instant::now(), reply: reply.into() }
    }

    fn behind(table: &Table, own: u64) -> Option<Vec<usize>> {
        let behind = table.behind(Ticket { epoch: 7, sequence: 40 }, Some(own.to_be_bytes()))?;
        Some(behind.into_iter().map(|(place, _)| place).collect())
    }

    #[tokio::test]
    async fn whoever_has_not_acknowledged_is_behind() {
        let entries = [[1, 7, 39, 9], [2, 7, 40, 9], [0, 0, 0, 0], [3, 6, 99, 9], [4, 7, 1, 9]];
        assert_eq!(behind(&table([7, 41, 1], &entries), 4), Some(vec![0, 3]));
        assert_eq!(behind(&table([7, 41, 1], &[]), 4), Some(vec![]));
    }

    #[tokio::test]
    async fn a_clock_that_is_not_that_of_the_change_says_nothing() {
        assert_eq!(behind(&table([8, 41, 1], &[]), 4), None, "another epoch");
        assert_eq!(behind(&table([7, 41, 2], &[]), 4), None, "it is being cleared");
        let lost = Table { began: Instant::now(), reply: Arc::from([]) };
        assert_eq!(behind(&lost, 4), None);
    }
}
