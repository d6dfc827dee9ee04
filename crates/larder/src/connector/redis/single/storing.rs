//! Fills, puts and sets.

use crate::connector::redis::scripts;
use crate::connector::redis::single::clearing::unexpected;
use crate::connector::redis::single::delivery::Undelivered;
use crate::connector::redis::single::{Store, milliseconds, verdict};
use crate::connector::redis::wire::link::WhenCrowded;
use crate::connector::redis::wire::rights::Command;
use crate::connector::redis::wire::trouble::{Trouble, What};
use crate::connector::remote::envelope;
use crate::connector::remote::journal::Deferred;
use crate::contract::{Delivery, Fill, KeyBuf, KeyRef, Object, Stored, Ticket};
use crate::telemetry::Ended;
use redis::Cmd;
use std::sync::atomic::Ordering;

/// An object with more keys is not stored: a script handles them all at once, and holds up everybody else meanwhile.
pub(crate) const MAX_KEYS: usize = 1024;

/// Larger objects do not pass through a script: they are written natively and put in place by it.
pub(crate) const STAGE_ABOVE: usize = 4 * 1024;

/// How long a staged object waits, in ms, for the script that puts it in place.
const STAGED_LIFE: u64 = 60_000;

/// After the server said that it is full, no fill is sent for this long, in ms.
const FULL_PAUSE: u64 = 1_000;

/// A server that has refused nothing for this long, in ms, and then stores an object, is full no longer.
const FULL_IS_OVER: u64 = 10_000;

/// What the server has said of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) fill: Fill,
    /// It was stored or refused; of a put, its keys are fenced.
    pub(crate) done: bool,
}

/// What store.lua is told of an object, beside its bytes.
pub(crate) struct Terms {
    pub(crate) header: Vec<u8>,
    /// In ms, as long as it is not touched; 0: none.
    pub(crate) life: u64,
    /// How much of its max age it is kept for beyond its deadline, in ms.
    pub(crate) kept: u64,
}

/// What the clock begins with while nothing was touched since this ticket.
pub(crate) fn as_of(ticket: Ticket) -> [u8; 24] {
    let mut untouched = [0; 24];
    for (place, number) in untouched.chunks_exact_mut(8).zip([ticket.epoch, ticket.sequence, 1]) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    untouched
}

/// A put is a change, which waits for a place. A fill is none: who has loaded the object has it, and need not wait until it is stored.
pub(crate) fn when_crowded(put: bool) -> WhenCrowded {
    if put { WhenCrowded::Wait } else { WhenCrowded::Shed }
}

/// Writes a large object where a script finds it.
pub(crate) fn stage(name: &str, bytes: &[u8]) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(name).arg(bytes).arg("PX").arg(STAGED_LIFE);
    set
}

impl Store {
    /// The bytes of an object, if they may be stored.
    pub(crate) fn encoded(&self, object: &Object) -> Option<Vec<u8>> {
        let keys = 1 + object.secondary.len();
        if keys > MAX_KEYS {
            let details = format_args!("{keys} of them, and {MAX_KEYS} at most");
            self.schema.stats.unfit(&self.schema.cache, "it has too many keys", details);
            return None;
        }
        match envelope::encode(&self.schema, object) {
            Ok(bytes) if bytes.len() as u64 <= self.schema.max_object_size => {
                self.may_store(object, bytes.len()).then_some(bytes)
            }
            Ok(bytes) => {
                let (size, limit) = (bytes.len(), self.schema.max_object_size);
                let details = format_args!("{size} bytes, and {limit} at most");
                self.schema.stats.unfit(&self.schema.cache, "it is too large", details);
                None
            }
            Err(error) => {
                let (cache, entry) = (&*self.schema.cache, self.schema.codec.entry());
                let details = format_args!("{entry}: {error} (see `larder::Entry`, \"What can be stored\")");
                self.schema.stats.unfit(cache, "its bytes would not keep it", details);
                tracing::debug!(cache, entry, %error, detail = error.detail(), "an object cannot be cached");
                None
            }
        }
    }

    /// Whether the user has the rights that it takes to store an object of so many bytes. Which are missing was told when that was found out.
    fn may_store(&self, object: &Object, bytes: usize) -> bool {
        let missing = self.link.rights.missing();
        if missing.is_none() {
            return true;
        }
        let ages = !(self.schema.max_age.is_zero() && self.schema.last_use_age.is_zero());
        let lasts = if ages { Command::PExpire } else { Command::Persist };
        let needs: [(bool, &[Command]); 4] = [
            (true, &[Command::Set]),
            (!object.secondary.is_empty() || object.version.is_some(), &[Command::MGet]),
            (!self.schema.max_age.is_zero(), &[Command::Time]),
            (bytes > STAGE_ABOVE, &[Command::Exists, Command::Rename, lasts]),
        ];
        !needs.iter().any(|(needed, commands)| *needed && missing.any_of(commands))
    }

    async fn send_object(&self, put: bool, object: &Object, bytes: &[u8], ticket: Ticket) -> Result<Sent, Trouble> {
        if !self.proven() {
            return Err(Trouble::Unavailable);
        }
        let clock = self.layout.clock();
        let staged = (bytes.len() > STAGE_ABOVE).then(|| self.layout.staged());
        let keys = 2 + object.secondary.len() + usize::from(object.version.is_some()) + usize::from(staged.is_some());
        let Terms { header, life, kept } = self.terms(put, object);
        let arguments = |call: &mut Cmd| {
            call.arg(keys).arg(&clock);
            self.name_keys(call, object, staged.as_deref());
            let payload = if staged.is_some() { &[][..] } else { bytes };
            call.arg(&as_of(ticket)[..]).arg(&header).arg(payload).arg(life);
            if kept > 0 {
                call.arg(kept);
            }
        };
        let reply = match &staged {
            None => self.link.script(when_crowded(put), &scripts::STORE, arguments).await?,
            Some(staged) => {
                let stage = stage(staged, bytes);
                self.link.command_and_script(when_crowded(put), stage, &scripts::STORE, arguments).await?.1?
            }
        };
        let verdict = verdict(reply).ok_or_else(|| unexpected("store.lua"))?;
        Ok(self.judge_store(object, bytes.len(), verdict))
    }

    pub(crate) fn terms(&self, put: bool, object: &Object) -> Terms {
        let kept = milliseconds(self.schema.kept_after());
        // With what it is kept for beyond that.
        let max_age = match milliseconds(self.schema.lifetime()) {
            0 => 0,
            lifetime => lifetime.saturating_add(kept),
        };
        let last_use = milliseconds(self.schema.last_use_age);
        let life = if max_age > 0 && last_use > 0 { max_age.min(last_use) } else { max_age.max(last_use) };
        let prefix = self.layout.object_prefix();
        let length = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        let mut header = Vec::with_capacity(31 + 8 * object.secondary.len());
        // Otherwise the server's own lifetime of the object says it all.
        let dated = max_age > 0 && (last_use > 0 || kept > 0 || !self.schema.refresh_ahead().is_zero());
        header.extend_from_slice(&[u8::from(put), u8::from(object.version.is_some()), u8::from(dated)]);
        header.extend_from_slice(&length(prefix.len()));
        header.extend_from_slice(&length(self.layout.before_index()));
        header.extend_from_slice(&max_age.to_be_bytes());
        header.extend_from_slice(&object.version.unwrap_or(0).to_be_bytes());
        header.extend(object.keys().flat_map(|key| self.layout.mark(key)));
        Terms { header, life, kept }
    }

    /// The keys that store.lua touches, after the clock.
    pub(crate) fn name_keys(&self, call: &mut Cmd, object: &Object, staged: Option<&str>) {
        call.arg(self.layout.object(&object.primary));
        for key in &object.secondary {
            call.arg(self.layout.index(key.as_ref()));
        }
        if object.version.is_some() {
            call.arg(self.layout.floor(&object.primary));
        }
        if let Some(staged) = staged {
            call.arg(staged);
        }
    }

    /// What store.lua has answered of an object of so many bytes.
    pub(crate) fn judge_store(&self, object: &Object, bytes: usize, (verdict, at): (u8, Ticket)) -> Sent {
        let (outcome, displaced) = (verdict & 15, verdict >> 4);
        if displaced > 0 {
            self.schema.stats.displace(&self.schema.cache, &object.primary, u64::from(displaced));
        }
        let at = (at.epoch != 0).then_some(at);
        at.into_iter().for_each(|at| self.saw(at));
        let stored = match outcome {
            1 => {
                self.schema.stats.stored_bytes.add(bytes as u64);
                self.hints.remember_stored(object);
                if self.full_until.load(Ordering::Relaxed) > 0 {
                    self.has_room();
                }
                Stored::Accepted
            }
            2 => Stored::Overtaken,
            3 => Stored::Outdated,
            _ => {
                self.lost("the server has lost the clock");
                Stored::Unavailable
            }
        };
        Sent { fill: Fill { stored, at }, done: matches!(outcome, 1..=3) }
    }

    pub(crate) async fn fill_object(&self, object: Object, ticket: Ticket) -> Fill {
        let Some(bytes) = self.encoded(&object) else { return Fill::undated(Stored::Unfit) };
        if self.link.clock.coarse() < self.full_until.load(Ordering::Relaxed) {
            return Fill::undated(Stored::Full);
        }
        match self.send_object(false, &object, &bytes, ticket).await {
            Ok(sent) => sent.fill,
            Err(trouble) => Fill::undated(self.not_stored(&trouble)),
        }
    }

    /// Tells the server that a load has found nothing under this key: what absent.lua does about it.
    pub(crate) async fn fill_absence(&self, key: KeyRef<'_>, ticket: Ticket) -> Fill {
        let (clock, absence, listed) = (self.layout.clock(), self.layout.absence(key), self.layout.listed(key));
        let name = if key.index == 0 { self.layout.object(key.bytes) } else { self.layout.index(key) };
        let (kept, ahead) = (self.schema.kept_after(), self.schema.refresh_ahead());
        // What this node takes for expired, or due, is so to the server too, although this node's idea of the server's time may be ahead.
        let now = if kept.is_zero() && ahead.is_zero() { None } else { self.link.server_time().await };
        let (taken, life) = (as_of(ticket), milliseconds(self.schema.loading.negative_age));
        let arguments = |call: &mut Cmd| {
            call.arg(2).arg(&clock).arg(&name).arg(&taken[..]).arg(&absence[..]).arg(life);
            call.arg(self.layout.object_prefix()).arg(&listed).arg(now.unwrap_or(0)).arg(milliseconds(ahead));
        };
        let reply = self.link.script(WhenCrowded::Shed, &scripts::ABSENT, arguments).await;
        let (outcome, at) = match reply.and_then(|reply| verdict(reply).ok_or_else(|| unexpected("absent.lua"))) {
            Ok(answer) => answer,
            Err(trouble) => return Fill::undated(self.not_stored(&trouble)),
        };
        match outcome {
            1 => {
                // So that the next lookup begins where the note is.
                self.hints.forget(key);
                Fill { stored: Stored::Accepted, at: Some(at) }
            }
            2 => Fill { stored: Stored::Overtaken, at: Some(at) },
            _ => {
                self.lost("the server has lost the clock");
                Fill::undated(Stored::Unavailable)
            }
        }
    }

    /// The keys are guarded from the first moment: who goes away while the ticket is asked for has changed the source already.
    pub(crate) async fn set_object(&self, object: Object) -> Stored {
        let undelivered = self.guards(&object);
        match self.ask_for_ticket(WhenCrowded::Wait).await {
            Ok(ticket) => self.put_guarded(object, ticket, undelivered).await,
            // Whoever waits in vain waits once.
            Err(trouble @ Trouble::TimedOut(_)) => {
                undelivered.into_iter().for_each(|guard| guard.deferred(&trouble));
                Stored::Unavailable
            }
            Err(_) => self.put_guarded(object, None, undelivered).await,
        }
    }

    pub(crate) async fn put_object(&self, object: Object, ticket: Option<Ticket>) -> Stored {
        let undelivered = self.guards(&object);
        self.put_guarded(object, ticket, undelivered).await
    }

    /// What is left of a put that is not answered: its keys are invalidated, and of what its primary key leads to no lower version is
    /// stored for a while. (Another key may lead to another object, whose versions are not to be compared with this one's.)
    pub(crate) fn guards(&self, object: &Object) -> Vec<Undelivered<'_>> {
        let mut keys: Vec<KeyBuf> = object.keys().map(KeyRef::to_buf).collect();
        let versioned = if object.version.is_some() { keys.drain(..1).collect() } else { Vec::new() };
        let mut guards = self.batches(&versioned, Deferred::Invalidate { floor: object.version });
        guards.extend(self.batches(&keys, Deferred::Invalidate { floor: None }));
        guards
    }

    async fn put_guarded(&self, object: Object, ticket: Option<Ticket>, undelivered: Vec<Undelivered<'_>>) -> Stored {
        let connection = self.link.generation();
        let stored = match (self.encoded(&object), ticket) {
            (None, _) => Stored::Unfit,
            (_, None) => Stored::Unavailable,
            (Some(bytes), Some(ticket)) => match self.send_object(true, &object, &bytes, ticket).await {
                Ok(sent) => sent.fill.stored,
                Err(trouble @ Trouble::TimedOut(_)) => {
                    undelivered.into_iter().for_each(|guard| guard.deferred(&trouble));
                    return self.not_stored(&trouble);
                }
                Err(trouble) => self.not_stored(&trouble),
            },
        };
        match stored {
            Stored::Accepted | Stored::Overtaken | Stored::Outdated => {
                if self.delivered(connection, undelivered).await {
                    stored
                } else {
                    Stored::Unavailable
                }
            }
            // Not stored: the earlier state must go all the same.
            _ => match self.send_all(undelivered).await {
                Delivery::Applied if ticket.is_none() => Stored::Overtaken,
                Delivery::Applied => stored,
                Delivery::Deferred => Stored::Unavailable,
            },
        }
    }

    pub(crate) fn not_stored(&self, trouble: &Trouble) -> Stored {
        if trouble.what() == Some(What::Full) {
            let now = self.link.clock.now();
            if self.full.lock().count(now, 1) {
                let cache = &*self.schema.cache;
                tracing::warn!(%cache, error = %trouble, "the server takes no more data, and nothing is stored until it does");
            }
            self.full_until.store(now + FULL_PAUSE, Ordering::Relaxed);
            return Stored::Full;
        }
        self.miss(trouble);
        if trouble.what() == Some(What::Forbidden) { Stored::Unfit } else { Stored::Unavailable }
    }

    /// The server has stored an object. It may have room for one now and then while it is full, so it is not taken to be full no longer until it has
    /// refused nothing for a while.
    fn has_room(&self) {
        let ended = self.full.lock().end_after(self.link.clock.now(), FULL_IS_OVER);
        if let Some(Ended { entries: refused, lasted_ms }) = ended {
            self.full_until.store(0, Ordering::Relaxed);
            tracing::info!(cache = %self.schema.cache, refused, lasted_ms, "the server takes data again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Breaker, BreakerConfig};
    use crate::clock::Clock;
    use crate::connector::redis::wire::link::Link;
    use crate::connector::redis::wire::rights::Rights;
    use crate::connector::remote::journal::Limits;
    use crate::contract::Schema;
    use crate::entry::color::Color;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::runtime::Handle;

    /// A server whose memory is full gave a warning for each set.
    #[tokio::test]
    async fn a_full_server_is_one_episode_however_often_it_has_room_for_one_more() {
        let (clock, hand) = Clock::manual();
        let breaker = Breaker::new("test", BreakerConfig::default(), clock.clone()).unwrap();
        let rights = Rights::new("here".to_owned(), "larder");
        let link = Arc::new(Link::new(breaker, clock, Duration::from_secs(1), false, Handle::current(), rights));
        let store = Store::new(link, Schema::of::<Color>(), "larder", 1, Limits { keys: 1, bytes: 1 });
        let full = Trouble::Error { what: What::Full, text: "OOM".to_owned() };
        for refused in 1..=40 {
            assert_eq!(store.not_stored(&full), Stored::Full);
            hand.advance(Duration::from_millis(300));
            store.has_room();
            assert_eq!(store.full.lock().counted(), Some(refused), "it goes on");
        }
        hand.advance(Duration::from_millis(FULL_IS_OVER));
        store.has_room();
        assert_eq!(store.full.lock().counted(), None);
        assert_eq!(store.full_until.load(Ordering::Relaxed), 0);
    }
}
