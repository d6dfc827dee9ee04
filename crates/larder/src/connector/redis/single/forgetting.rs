//! Sends invalidations and deletes: what `invalidate.lua` and `delete.lua` are told, whoever asks.

use crate::connector::redis::layout::Layout;
use crate::connector::redis::scripts::{self, Script};
use crate::connector::redis::single::clearing::{Caller, unexpected};
use crate::connector::redis::single::{milliseconds, verdict};
use crate::connector::redis::wire::trouble::Trouble;
use crate::connector::remote::journal::Deferred;
use crate::contract::{KeyBuf, Ticket};
use redis::{Cmd, Value as Reply};
use std::time::Duration;

/// How many keys one script call handles.
pub(crate) const BATCH: usize = 128;

/// How long a floor under the version is remembered after an invalidation asked for one.
const FLOOR_LIFE: Duration = Duration::from_secs(60);

/// Sends one batch. Answers where the clock stands after it; `None` where the clock is lost, and nothing was done.
pub(crate) async fn forget(
    caller: &impl Caller,
    layout: &Layout,
    keys: &[KeyBuf],
    what: Deferred,
) -> Result<Option<Ticket>, Trouble> {
    let batch = Batch::alike(keys, what);
    answer(caller.script(batch.script(), |call| batch.tell(layout, call)).await?)
}

/// Up to [`BATCH`] keys that one call of a script handles: all of them are deleted, or all of them are invalidated.
pub(crate) struct Batch<'a> {
    keys: Vec<&'a KeyBuf>,
    what: Forgetting,
}

enum Forgetting {
    Delete,
    /// With the lowest version that may be stored from now on, key by key; empty where no key demands one.
    Invalidate {
        floors: Vec<u64>,
    },
}

impl<'a> Batch<'a> {
    /// The same is done to all of these keys.
    pub(crate) fn alike(keys: &'a [KeyBuf], what: Deferred) -> Self {
        let what = match what {
            Deferred::Delete => Forgetting::Delete,
            Deferred::Invalidate { floor: None } => Forgetting::Invalidate { floors: Vec::new() },
            Deferred::Invalidate { floor: Some(floor) } => Forgetting::Invalidate { floors: vec![floor; keys.len()] },
        };
        Self { keys: keys.iter().collect(), what }
    }

    /// What a journal holds, in as few batches as it takes. Deletes and invalidations may change places: all of them only forget.
    pub(crate) fn of_journal(entries: &'a [(KeyBuf, Deferred)]) -> Vec<Self> {
        let deleted = |(key, what): &'a (KeyBuf, Deferred)| (*what == Deferred::Delete).then_some(key);
        let invalidated = |(key, what): &'a (KeyBuf, Deferred)| match what {
            Deferred::Delete => None,
            Deferred::Invalidate { floor } => Some((key, floor.unwrap_or(NO_FLOOR))),
        };
        let deleted: Vec<_> = entries.iter().filter_map(deleted).collect();
        let invalidated: Vec<_> = entries.iter().filter_map(invalidated).collect();
        let invalidations = invalidated.chunks(BATCH).map(|batch| {
            let (keys, mut floors): (Vec<_>, Vec<_>) = batch.iter().copied().unzip();
            if floors.iter().all(|floor| *floor == NO_FLOOR) {
                floors.clear();
            }
            Self { keys, what: Forgetting::Invalidate { floors } }
        });
        let deletes = deleted.chunks(BATCH).map(|batch| Self { keys: batch.to_vec(), what: Forgetting::Delete });
        invalidations.chain(deletes).collect()
    }

    /// The script that does it.
    pub(crate) fn script(&self) -> &'static Script {
        match self.what {
            Forgetting::Delete => &scripts::DELETE,
            Forgetting::Invalidate { .. } => &scripts::INVALIDATE,
        }
    }

    /// Adds the arguments of the script to its call.
    pub(crate) fn tell(&self, layout: &Layout, call: &mut Cmd) {
        let clock = layout.clock();
        call.arg(1 + self.keys.len()).arg(&clock);
        for key in &self.keys {
            match key.index {
                0 => call.arg(&clock),
                _ => call.arg(layout.index(key.as_ref())),
            };
        }
        let marks: Vec<u8> = self.keys.iter().flat_map(|key| layout.mark(key.as_ref())).collect();
        call.arg(layout.object_prefix()).arg(&marks);
        match &self.what {
            Forgetting::Invalidate { floors } => {
                for key in self.keys.iter().filter(|key| key.index == 0) {
                    call.arg(&*key.bytes);
                }
                if !floors.is_empty() {
                    let floors: Vec<u8> = floors.iter().flat_map(|floor| floor.to_be_bytes()).collect();
                    call.arg(&floors).arg(layout.floor_prefix()).arg(milliseconds(FLOOR_LIFE));
                }
            }
            Forgetting::Delete => {
                for key in &self.keys {
                    call.arg(layout.listed(key.as_ref()));
                }
            }
        }
    }
}

/// The floor of a key that demands none: no version is lower.
const NO_FLOOR: u64 = 0;

/// What the script has answered, as [`forget`] tells it.
pub(crate) fn answer(reply: Reply) -> Result<Option<Ticket>, Trouble> {
    match verdict(reply) {
        Some((1, at)) => Ok(Some(at)),
        Some((4, _)) => Ok(None),
        _ => Err(unexpected("invalidate.lua or delete.lua")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> KeyBuf {
        KeyBuf { index: 0, bytes: number.to_string().into_bytes().into() }
    }

    /// Each deferred set of a versioned entry has a floor of its own, and a delete may stand between any two of them.
    #[test]
    fn whatever_a_journal_holds_goes_in_full_batches() {
        let entries: Vec<_> = (0..3 * BATCH)
            .map(|number| match number % 3 {
                0 => (key(number), Deferred::Delete),
                1 => (key(number), Deferred::Invalidate { floor: None }),
                _ => (key(number), Deferred::Invalidate { floor: Some(number as u64) }),
            })
            .collect();
        let batches = Batch::of_journal(&entries);
        assert_eq!(batches.len(), 3);
        for batch in &batches {
            assert_eq!(batch.keys.len(), BATCH);
            let Forgetting::Invalidate { floors } = &batch.what else { continue };
            for (key, floor) in batch.keys.iter().zip(floors) {
                let (_, what) = entries.iter().find(|(entry, _)| entry == *key).unwrap();
                let expected = if *floor == NO_FLOOR { None } else { Some(*floor) };
                assert_eq!(*what, Deferred::Invalidate { floor: expected });
            }
        }
        let plain = [(key(1), Deferred::Invalidate { floor: None })];
        assert!(matches!(&Batch::of_journal(&plain)[0].what, Forgetting::Invalidate { floors } if floors.is_empty()));
        assert!(Batch::of_journal(&[]).is_empty());
    }
}
