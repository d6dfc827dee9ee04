//! Fills, puts and sets.

use crate::connector::near::Near;
use crate::connector::redis::layout::Layout;
use crate::connector::redis::scripts;
use crate::connector::redis::single::{SingleServer, Store, milliseconds, outcome_of};
use crate::connector::redis::wire::replies::unexpected;
use crate::connector::redis::wire::rights::Command;
use crate::connector::remote::envelope;
use crate::connector::remote::{LOST, Trouble, Undelivered, WhenCrowded};
use crate::contract::{Fill, KeyRef, Object, Stored, Ticket};
use redis::Cmd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Larger objects, in bytes, do not pass through a script: they are staged by a SET, and the script renames them.
pub(crate) const STAGE_ABOVE: usize = 4 * 1024;

/// How long a staged object waits, in ms, for the script that puts it in place.
const STAGED_LIFE: u64 = 60_000;

/// The server's answer for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) fill: Fill,
    /// The object was stored or refused. If it was a put, its keys are fenced.
    pub(crate) done: bool,
    /// It was a fill that has replaced something which other nodes may have in their own memories.
    pub(crate) replaced: bool,
}

/// What becomes of an object that is overtaken: one of its keys was touched after its ticket was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is not stored. The caller has the object anyway.
    Fill,
    /// Its keys are invalidated.
    Put,
    /// The first attempt of a set: nothing is changed. The set is sent once more, with the ticket that the answer brings.
    Set,
    /// The second attempt of a set: its keys are invalidated.
    SetAgain,
}

impl Mode {
    /// The number of the mode in store.lua.
    fn code(self) -> u8 {
        match self {
            Self::Fill => 0,
            Self::Put | Self::SetAgain => 1,
            Self::Set => 2,
        }
    }

    /// Whether a large object must be staged. The second attempt of a set finds what the first has staged.
    pub(crate) fn stages(self) -> bool {
        self != Self::SetAgain
    }
}

/// An object on its way.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) object: &'a Object,
    pub(crate) bytes: &'a [u8],
    /// The name under which it is staged, if it is large.
    pub(crate) staged: Option<&'a str>,
}

/// What store.lua must know about an object, beside its bytes and its keys.
pub(crate) struct Terms {
    pub(crate) mode: Mode,
    /// The lifetime by max age, with the time that the object is kept beyond it, in ms; 0: no limit.
    pub(crate) max_age: u64,
    /// Whether the deadline is written into the object.
    pub(crate) dated: bool,
    /// The lifetime of the object key until it is touched, in ms; 0: no limit.
    pub(crate) life: u64,
    /// The lifetime of an index key, in ms; 0: no limit.
    pub(crate) index_life: u64,
    /// How much of `max_age` is the time that the object is kept beyond its deadline, in ms.
    pub(crate) kept: u64,
    /// The label of the index keys. Those that are written together have one label, since they have one lifetime. 0: they have no lifetime.
    pub(crate) label: u32,
}

/// The bytes that the clock begins with if nothing was touched since this ticket.
pub(crate) fn as_of(ticket: Ticket) -> [u8; 24] {
    let mut untouched = [0; 24];
    for (place, number) in untouched.chunks_exact_mut(8).zip([ticket.epoch, ticket.sequence, 1]) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    untouched
}

/// A put is a change, and waits for a place. A fill is shed, because its caller has the object already.
pub(crate) fn when_crowded(mode: Mode) -> WhenCrowded {
    if mode == Mode::Fill { WhenCrowded::Shed } else { WhenCrowded::Wait }
}

/// Stages a large object under this name, where a script finds it.
pub(crate) fn stage(name: &str, bytes: &[u8]) -> Cmd {
    let mut set = redis::cmd("SET");
    set.arg(name).arg(bytes).arg("PX").arg(STAGED_LIFE);
    set
}

/// The ticket for the second attempt of a set: the clock in the server's answer to the first one, if it belongs to the same data. Otherwise
/// the set must ask for a ticket, as a lookup does, because the clock may be unsettled, or not list this release.
pub(crate) fn later(seen: Ticket, at: Option<Ticket>) -> Option<Ticket> {
    at.filter(|at| at.epoch == seen.epoch && at.sequence >= seen.sequence)
}

/// Adds the keys and arguments of store.lua to its call. `connection` is the name of the connection that it is sent on.
pub(crate) fn tell(
    call: &mut Cmd,
    layout: &Layout,
    Outgoing { object, bytes, staged }: Outgoing<'_>,
    terms: &Terms,
    (ticket, connection): (Ticket, u64),
) {
    let keys = 2 + object.secondary.len() + usize::from(object.version.is_some()) + usize::from(staged.is_some());
    call.arg(keys).arg(layout.clock());
    name_keys(call, layout, object, staged);
    let payload = if staged.is_some() { &[][..] } else { bytes };
    let header = header(layout, object, terms, connection);
    call.arg(&as_of(ticket)[..]).arg(&header).arg(payload).arg(terms.life).arg(terms.index_life);
    if terms.kept > 0 {
        call.arg(terms.kept);
    }
}

/// The header for store.lua. `connection` is the name of the connection that it is sent on, or 0.
pub(crate) fn header(layout: &Layout, object: &Object, terms: &Terms, connection: u64) -> Vec<u8> {
    let length = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = Vec::with_capacity(43 + 8 * object.secondary.len());
    header.extend_from_slice(&[terms.mode.code(), u8::from(object.version.is_some()), u8::from(terms.dated)]);
    header.extend_from_slice(&length(layout.object_prefix().len()));
    header.extend_from_slice(&length(layout.before_index()));
    header.extend_from_slice(&terms.max_age.to_be_bytes());
    header.extend_from_slice(&object.version.unwrap_or(0).to_be_bytes());
    header.extend_from_slice(&connection.to_be_bytes());
    header.extend_from_slice(&terms.label.to_be_bytes());
    header.extend(object.keys().flat_map(|key| layout.mark(key)));
    header
}

/// The keys that store.lua touches, after the clock.
pub(crate) fn name_keys(call: &mut Cmd, layout: &Layout, object: &Object, staged: Option<&str>) {
    call.arg(layout.object(&object.primary));
    for key in &object.secondary {
        call.arg(layout.index(key.as_ref()));
    }
    if object.version.is_some() {
        call.arg(layout.floor(&object.primary));
    }
    if let Some(staged) = staged {
        call.arg(staged);
    }
}

impl Store {
    /// The bytes of an object, if it may be stored.
    pub(crate) fn encoded(&self, object: &Object) -> Option<Vec<u8>> {
        envelope::storable(&self.schema, object).filter(|bytes| self.may_store(object, bytes.len()))
    }

    /// Whether the user has the rights to store this object. Missing rights were logged when they were found.
    fn may_store(&self, object: &Object, bytes: usize) -> bool {
        let missing = self.link.kind().rights.missing();
        if missing.is_none() {
            return true;
        }
        let ages = !(self.schema.max_age.is_zero() && self.schema.last_use_age.is_zero());
        let lasts = if ages { Command::PExpire } else { Command::Persist };
        let needs: [(bool, &[Command]); 5] = [
            (true, &[Command::Set]),
            (!object.secondary.is_empty() || object.version.is_some(), &[Command::MGet]),
            (!self.schema.max_age.is_zero(), &[Command::PExpire]),
            (self.dates(), &[Command::Time]),
            (bytes > STAGE_ABOVE, &[Command::Exists, Command::Rename, lasts]),
        ];
        !needs.iter().any(|(needed, commands)| *needed && missing.any_of(commands))
    }

    async fn send_object(
        &self,
        mode: Mode,
        Outgoing { object, bytes, staged }: Outgoing<'_>,
        ticket: Ticket,
    ) -> Result<Sent, Trouble> {
        if !self.is_trusted() {
            return Err(Trouble::Unavailable);
        }
        let terms = self.terms(mode, object);
        let outgoing = Outgoing { object, bytes, staged };
        let arguments = |call: &mut Cmd, connection| {
            tell(call, &self.local.layout, outgoing, &terms, (ticket, connection));
        };
        let reply = match staged.filter(|_| mode.stages()) {
            None => self.link.script_on(when_crowded(mode), &scripts::STORE, arguments).await?,
            Some(staged) => {
                let stage = stage(staged, bytes);
                self.link.command_and_script(when_crowded(mode), stage, &scripts::STORE, arguments).await?.1?
            }
        };
        let verdict = outcome_of(reply).ok_or_else(|| unexpected("store.lua"))?;
        Ok(self.learn_stored(object, bytes.len(), verdict))
    }

    pub(crate) fn terms(&self, mode: Mode, object: &Object) -> Terms {
        let kept = milliseconds(self.schema.kept_after());
        // With the time that the object is kept beyond its max age.
        let max_age = match milliseconds(self.schema.lifetime()) {
            0 => 0,
            lifetime => lifetime.saturating_add(kept),
        };
        let last_use = milliseconds(self.schema.last_use_age);
        let life = if max_age > 0 && last_use > 0 { max_age.min(last_use) } else { max_age.max(last_use) };
        let dated = self.dates();
        let index_life = self.index_life();
        let label = if index_life == 0 || object.secondary.is_empty() { 0 } else { fastrand::u32(1..) };
        Terms { mode, max_age, dated, life, index_life, kept, label }
    }

    /// Whether the deadline by max age is written into an object: if the object may expire on the server at another time, is to be loaded anew before the
    /// deadline, or is kept by nodes in their own memory.
    fn dates(&self) -> bool {
        let schema = &self.schema;
        let another = [schema.last_use_age, schema.kept_after(), schema.refresh_ahead()];
        let near = self.local.near().is_some();
        !schema.max_age.is_zero() && (near || another.iter().any(|age| !age.is_zero()))
    }

    /// How long an index key lives at most, in ms; 0: for ever. Half of it is longer than any object lives, however often it is touched.
    pub(crate) fn index_life(&self) -> u64 {
        match milliseconds(self.schema.max_age) {
            0 => 0,
            max_age => 2 * (max_age + milliseconds(self.schema.kept_after()) + 500),
        }
    }

    /// Takes in what store.lua has answered about an object of this many bytes.
    pub(crate) fn learn_stored(&self, object: &Object, bytes: usize, (verdict, at): (u8, Ticket)) -> Sent {
        let (outcome, displaced) = (verdict & 15, verdict >> 4);
        if displaced > 0 {
            self.schema.stats.displace(&self.schema.cache, &object.primary, u64::from(displaced));
        }
        let at = (at.epoch != 0).then_some(at);
        at.into_iter().for_each(|at| self.saw(at));
        let stored = match outcome {
            1 | 5 => {
                self.schema.stats.stored_bytes.add(bytes as u64);
                self.local.hints.remember_stored(object);
                self.has_room();
                Stored::Accepted
            }
            2 => Stored::Overtaken,
            3 => Stored::Outdated,
            _ => {
                self.lost(LOST);
                Stored::Unavailable
            }
        };
        Sent { fill: Fill { stored, at }, done: matches!(outcome, 1..=3 | 5), replaced: outcome == 5 }
    }

    pub(crate) async fn fill_object(&self, object: Object, ticket: Ticket) -> Fill {
        let Some(bytes) = self.encoded(&object) else { return Fill::undated(Stored::Unfit) };
        if self.is_full() {
            return Fill::undated(Stored::Full);
        }
        let staged = self.place_for(&bytes);
        let outgoing = Outgoing { object: &object, bytes: &bytes, staged: staged.as_deref() };
        // In this order, as in a get.
        let noted = self.local.near().map(Near::note);
        if self.may_read().is_err() {
            return Fill::undated(Stored::Unavailable);
        }
        match self.send_object(Mode::Fill, outgoing, ticket).await {
            Ok(Sent { fill, replaced, .. }) => {
                if let (true, Some(at)) = (replaced, fill.at) {
                    self.wait_for_followers(at).await;
                }
                if let (Some(near), Some(noted), Stored::Accepted) = (self.local.near(), noted, fill.stored) {
                    near.take(object, noted, self.ends(noted.at));
                }
                fill
            }
            Err(trouble) => Fill::undated(self.not_stored(&trouble)),
        }
    }

    /// When an object that is stored now need not be served any more, in ms of this node's clock. The jitter may have shortened
    /// its max age on the server, so the shortest one counts.
    fn ends(&self, now: u64) -> Option<u64> {
        let max_age = self.schema.max_age;
        let share = (1.0 - self.schema.loading.jitter).clamp(0.0, 1.0);
        let shortest = Duration::try_from_secs_f64(max_age.as_secs_f64() * share).unwrap_or(max_age);
        (!max_age.is_zero())
            .then(|| now.saturating_add(milliseconds(shortest.saturating_sub(self.schema.refresh_ahead()))))
    }

    /// Tells the server that a load has found nothing under this key. `absent.lua` says what follows.
    pub(crate) async fn fill_absence(&self, key: KeyRef<'_>, ticket: Ticket) -> Fill {
        let (clock, absence, listed) =
            (self.local.layout.clock(), self.local.layout.absence(key), self.local.layout.listed(key));
        let name = if key.index == 0 { self.local.layout.object(key.bytes) } else { self.local.layout.index(key) };
        let (kept, ahead) = (self.schema.kept_after(), self.schema.refresh_ahead());
        // The script gets this node's idea of the server's time, which may be ahead: what is expired or due here must be so there, too.
        let now = if kept.is_zero() && ahead.is_zero() { None } else { self.link.server_time().await };
        let (taken, life) = (as_of(ticket), milliseconds(self.schema.loading.negative_age));
        let arguments = |call: &mut Cmd| {
            call.arg(2).arg(&clock).arg(&name).arg(&taken[..]).arg(&absence[..]).arg(life);
            call.arg(self.local.layout.object_prefix()).arg(&listed).arg(now.unwrap_or(0)).arg(milliseconds(ahead));
        };
        let reply = self.link.script(WhenCrowded::Shed, &scripts::ABSENT, arguments).await;
        let (outcome, at) = match reply.and_then(|reply| outcome_of(reply).ok_or_else(|| unexpected("absent.lua"))) {
            Ok(answer) => answer,
            Err(trouble) => return Fill::undated(self.not_stored(&trouble)),
        };
        match outcome {
            1 => {
                // The next lookup must begin where the note is.
                self.local.hints.forget(key);
                Fill { stored: Stored::Accepted, at: Some(at) }
            }
            2 => Fill { stored: Stored::Overtaken, at: Some(at) },
            _ => {
                self.lost(LOST);
                Fill::undated(Stored::Unavailable)
            }
        }
    }

    /// Sets an object in one round trip, unless another node has touched one of its keys lately.
    ///
    /// 1. The object is sent with the newest ticket that this node has seen. If none of its keys was touched since, it is stored.
    /// 2. Otherwise the server answers *overtaken*, and changes nothing. Its answer brings a ticket, with which the object is put.
    /// 3. If the put is overtaken, too, the same script invalidates the keys.
    ///
    /// The keys are guarded until the last answer: a caller that goes away between the attempts has changed the source already.
    /// `docs/protocol.md` argues why the first attempt needs a ticket, and why it may be an old one.
    pub(crate) async fn set_object(&self, object: Object) -> Stored {
        let undelivered = self.guards(&object);
        self.local.sets.store(true, Ordering::Relaxed);
        let Some(bytes) = self.encoded(&object) else {
            return self.forget_instead(Stored::Unfit, undelivered).await;
        };
        let staged = self.place_for(&bytes);
        let outgoing = Outgoing { object: &object, bytes: &bytes, staged: staged.as_deref() };
        let (mut ticket, mut mode) = (self.seen_ticket(), Mode::Put);
        if let Some(seen) = ticket {
            mode = Mode::SetAgain;
            let connection = self.link.generation();
            match self.send_object(Mode::Set, outgoing, seen).await {
                Ok(Sent { fill: Fill { stored: Stored::Overtaken, at }, .. }) => ticket = later(seen, at),
                sent => return self.settle(connection, undelivered, sent.map(|sent| sent.fill)).await,
            }
        }
        if ticket.is_none() {
            ticket = match self.ask_for_ticket(WhenCrowded::Wait).await {
                Ok(ticket) => ticket,
                // A caller waits for one time-out only: the keys are deferred without being sent.
                Err(trouble @ Trouble::TimedOut(_)) => {
                    undelivered.into_iter().for_each(|guard| guard.deferred(&trouble));
                    return Stored::Unavailable;
                }
                Err(_) => None,
            };
        }
        match ticket {
            Some(ticket) => self.put_guarded(mode, outgoing, ticket, undelivered).await,
            None => self.forget_instead(Stored::Overtaken, undelivered).await,
        }
    }

    /// The name under which an object is staged, if it is large.
    pub(crate) fn place_for(&self, bytes: &[u8]) -> Option<String> {
        (bytes.len() > STAGE_ABOVE).then(|| self.local.layout.staged())
    }

    pub(crate) async fn put_object(&self, object: Object, ticket: Option<Ticket>) -> Stored {
        let undelivered = self.guards(&object);
        match (self.encoded(&object), ticket) {
            (Some(bytes), Some(ticket)) => {
                let staged = self.place_for(&bytes);
                let outgoing = Outgoing { object: &object, bytes: &bytes, staged: staged.as_deref() };
                self.put_guarded(Mode::Put, outgoing, ticket, undelivered).await
            }
            (_, None) => self.forget_instead(Stored::Overtaken, undelivered).await,
            (None, Some(_)) => self.forget_instead(Stored::Unfit, undelivered).await,
        }
    }

    async fn put_guarded(
        &self,
        mode: Mode,
        outgoing: Outgoing<'_>,
        ticket: Ticket,
        undelivered: Vec<Undelivered<'_, SingleServer>>,
    ) -> Stored {
        let connection = self.link.generation();
        let sent = self.send_object(mode, outgoing, ticket).await;
        self.settle(connection, undelivered, sent.map(|sent| sent.fill)).await
    }
}
