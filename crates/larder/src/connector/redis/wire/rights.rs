//! Which commands the user may run on the server.
//!
//! A server with access control may not allow larder's user a command that a part of larder needs, and a server may not know one, because it is
//! disabled or renamed there. Then only that part does not work ([`Loss`]). Without GET, EVAL and EVALSHA nothing works: that is a refusal, which `replies.rs` tells apart.
//!
//! larder tries its rights when it makes a connection, with the next heartbeat after an operation was refused, and twice a minute while
//! a right is missing. `rights.lua` asks the server whether each command is allowed, and runs none of them. Operations that need a
//! missing right are not sent, because a script that is refused half-way has done a part of its work. An event tells an operator once
//! when rights are found to be missing, and once when they are there.
//!
//! # What is not known here
//!
//! Rights to keys. If the user may not access some keys of a cache, the server answers each operation on such a key with an error. Gets
//! miss, sets are not stored, and invalidations are deferred, so that the cache is not read. Other caches do not notice.

use super::caller::Direct;
use crate::clock::Clock;
use crate::connector::redis::scripts;
use crate::connector::remote::Trouble;
use crate::telemetry::WarningLimit;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, Value};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// While a right is missing, larder tries again after this time, in ms.
const RETRY: u64 = 30_000;

/// A command that some operations need, and others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    BitField,
    Exists,
    GetRange,
    MGet,
    PExpire,
    Persist,
    Rename,
    Scan,
    Set,
    SetRange,
    Time,
    Unlink,
}

impl Command {
    const ALL: [Self; 12] = [
        Self::BitField,
        Self::Exists,
        Self::GetRange,
        Self::MGet,
        Self::PExpire,
        Self::Persist,
        Self::Rename,
        Self::Scan,
        Self::Set,
        Self::SetRange,
        Self::Time,
        Self::Unlink,
    ];

    fn bit(self) -> u16 {
        1 << self as u16
    }

    fn name(self) -> &'static str {
        match self {
            Self::BitField => "BITFIELD",
            Self::Exists => "EXISTS",
            Self::GetRange => "GETRANGE",
            Self::MGet => "MGET",
            Self::PExpire => "PEXPIRE",
            Self::Persist => "PERSIST",
            Self::Rename => "RENAME",
            Self::Scan => "SCAN",
            Self::Set => "SET",
            Self::SetRange => "SETRANGE",
            Self::Time => "TIME",
            Self::Unlink => "UNLINK",
        }
    }
}

/// The commands that the user may not run, or that the server does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    forbidden: u16,
    unknown: u16,
}

impl Missing {
    /// Whether any of these commands is missing.
    pub(crate) fn any_of(self, commands: &[Command]) -> bool {
        commands.iter().any(|command| (self.forbidden | self.unknown) & command.bit() != 0)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }

    fn packed(self) -> u32 {
        u32::from(self.forbidden) << 16 | u32::from(self.unknown)
    }

    fn unpacked(packed: u32) -> Self {
        let half = |bits: u32| u16::try_from(bits & 0xFFFF).unwrap_or_default();
        Self { forbidden: half(packed >> 16), unknown: half(packed) }
    }

    /// The missing commands, as the server has answered. `None`: the server cannot tell.
    pub(crate) fn told_by(reply: &Value) -> Option<Self> {
        let Value::Array(names) = reply else { return None };
        let mut missing = Self::default();
        for name in names {
            let name = match name {
                Value::BulkString(name) => name.as_slice(),
                Value::SimpleString(name) => name.as_bytes(),
                _ => return None,
            };
            let (set, name) = match name.strip_prefix(b"!") {
                Some(name) => (&mut missing.unknown, name),
                None => (&mut missing.forbidden, name),
            };
            *set |= Command::ALL.into_iter().find(|command| command.name().as_bytes() == name)?.bit();
        }
        Some(missing)
    }

    fn losses(self) -> impl Iterator<Item = &'static str> {
        Loss::ALL.into_iter().filter(move |loss| self.any_of(loss.needs)).map(|loss| loss.text)
    }

    /// The names of the commands in one of the two sets.
    fn names(set: u16) -> impl Iterator<Item = &'static str> {
        Command::ALL.into_iter().filter(move |command| set & command.bit() != 0).map(Command::name)
    }
}

/// What to do: `grant the user +rename +scan`.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forbidden != 0 {
            f.write_str("grant the user")?;
            Self::names(self.forbidden).try_for_each(|name| write!(f, " +{}", name.to_lowercase()))?;
        }
        if self.unknown != 0 {
            let also = if self.forbidden == 0 { "" } else { ", and " };
            write!(f, "{also}let the server know")?;
            Self::names(self.unknown).try_for_each(|name| write!(f, " {name}"))?;
            f.write_str(", which it has disabled or renamed")?;
        }
        Ok(())
    }
}

/// What does not work on a server where these commands are missing, because the user may not run them, or because they are disabled or renamed.
/// Each is a clause such as `nothing is stored, and no lease is granted`. Empty if larder can do without them.
///
/// ```
/// use larder::connector::redis::inspect::losses;
///
/// assert_eq!(losses(&["RENAME"]), ["objects over 4 KiB are not stored"]);
/// assert!(losses(&["CONFIG", "CLIENT"]).is_empty());
/// ```
#[must_use]
pub fn losses(commands: &[&str]) -> Vec<&'static str> {
    let is =
        |names: &[&str]| commands.iter().any(|command| names.iter().any(|name| name.eq_ignore_ascii_case(command)));
    if is(&["GET", "EVAL", "EVALSHA"]) {
        return vec!["nothing works: every get misses, and every change is deferred"];
    }
    let mut missing = Missing::default();
    let known = Command::ALL.into_iter().filter(|command| is(&[command.name()]));
    known.for_each(|command| missing.forbidden |= command.bit());
    let more = [(&["WAIT"][..], "with wait_replicas nothing works"), (&["SELECT"], "no database but 0 can be used")];
    missing.losses().chain(more.into_iter().filter(|(names, _)| is(names)).map(|(_, text)| text)).collect()
}

/// What does not work when any one of some commands is missing.
struct Loss {
    needs: &'static [Command],
    text: &'static str,
}

impl Loss {
    const ALL: [Self; 8] = [
        Self {
            needs: &[Command::BitField, Command::SetRange, Command::GetRange, Command::Unlink],
            text: "invalidations are deferred, and their caches are not read",
        },
        Self { needs: &[Command::Set], text: "nothing is stored, and no lease is granted" },
        Self {
            needs: &[Command::MGet],
            text: "objects with secondary keys are not stored, and several objects are not read at once",
        },
        Self {
            needs: &[Command::Rename, Command::Exists, Command::Persist, Command::PExpire],
            text: "objects over 4 KiB are not stored",
        },
        Self { needs: &[Command::PExpire, Command::Time], text: "a get does not put off the end of a last-use age" },
        Self { needs: &[Command::PExpire], text: "objects with a max age are not stored" },
        Self {
            needs: &[Command::Time],
            text: "objects with a max age are not stored where there is a last-use age, refresh_ahead or serve_expired, too",
        },
        Self { needs: &[Command::Scan], text: "a cache that has to be cleared cannot be, and is not read" },
    ];
}

/// What larder knows of its user's rights on one server.
pub(crate) struct Rights {
    server: String,
    /// Two keys to try commands on. They belong to no cache.
    names: [String; 2],
    missing: AtomicU32,
    tried_at: AtomicU64,
    doubt: Mutex<Option<Doubt>>,
    /// Limits the warnings about operations that were refused though no command is missing.
    unexplained: WarningLimit,
}

/// An operation that was refused since larder last tried its rights.
struct Doubt {
    cache: String,
    error: String,
}

impl Rights {
    /// No right is known to be missing yet.
    pub(crate) fn new(server: String, spare: &str) -> Self {
        Self {
            server,
            names: names(spare),
            missing: AtomicU32::new(0),
            tried_at: AtomicU64::new(0),
            doubt: Mutex::new(None),
            unexplained: WarningLimit::default(),
        }
    }

    pub(crate) fn missing(&self) -> Missing {
        Missing::unpacked(self.missing.load(Ordering::Relaxed))
    }

    /// The command that asks the server which rights are missing.
    pub(crate) fn question(&self) -> Cmd {
        question(&self.names)
    }

    /// Notes that an operation of this cache was refused. The next heartbeat then asks the server for the rights.
    pub(crate) fn doubt(&self, cache: &str, error: &str) {
        let mut doubt = self.doubt.lock();
        if doubt.is_none() {
            *doubt = Some(Doubt { cache: cache.to_owned(), error: error.to_owned() });
        }
    }

    /// Whether it is time to ask the server.
    pub(crate) fn are_due(&self, now: u64) -> bool {
        let missed = !self.missing().is_none() && now >= self.tried_at.load(Ordering::Relaxed).saturating_add(RETRY);
        let due = missed || self.doubt.lock().is_some();
        if due {
            self.tried_at.store(now, Ordering::Relaxed);
        }
        due
    }

    /// Takes the server's answer; `None`: the server cannot tell. Warns if an operation was refused though no command is missing.
    pub(crate) fn answered(&self, missing: Option<Missing>, clock: &Clock) {
        if let Some(missing) = missing {
            self.learn(missing);
        }
        let doubt = self.doubt.lock().take();
        // A missing command explains the refusal, and `learn` has told of it.
        let unexplained = doubt.filter(|_| missing.is_none_or(Missing::is_none));
        if let Some(Doubt { cache, error }) = unexplained
            && let Some(entries) = self.unexplained.admit(clock, 1)
        {
            let server = &*self.server;
            tracing::warn!(
                %server,
                %cache,
                entries,
                %error,
                "the server refuses operations of this cache: the user lacks a right to keys of the cache"
            );
        }
    }

    /// Notes which commands are missing, and tells an operator if that has changed.
    pub(crate) fn learn(&self, missing: Missing) {
        if self.missing.swap(missing.packed(), Ordering::Relaxed) == missing.packed() {
            return;
        }
        let server = &*self.server;
        if missing.is_none() {
            tracing::info!(%server, "the user may run all commands that larder needs");
        } else {
            let losses = missing.losses().collect::<Vec<_>>().join("; ");
            tracing::warn!(%server, "rights are missing: {losses}. To mend it, {missing}");
        }
    }
}

/// Asks for the rights on a new connection. An error means that the connection is of no use, for example because the user may not even
/// run GET.
pub(crate) async fn try_out(caller: &Direct<'_>, spare: &str) -> Result<Option<Missing>, Trouble> {
    let names = names(spare);
    let mut both = Pipeline::with_capacity(2);
    both.cmd("GET").arg(&names[0]);
    both.add_command(question(&names));
    let replies = caller.pipeline(&both).await?;
    for reply in &replies {
        if let Value::ServerError(error) = reply {
            let trouble = Trouble::from(RedisError::from(error.clone()));
            if !trouble.is_of_its_command() {
                return Err(trouble);
            }
        }
    }
    Ok(replies.get(1).and_then(Missing::told_by))
}

fn names(spare: &str) -> [String; 2] {
    ["r", "s"].map(|end| format!("{spare}::{end}"))
}

fn question(names: &[String; 2]) -> Cmd {
    let mut question = scripts::RIGHTS.by_code();
    question.arg(0).arg(&names[0]).arg(&names[1]);
    question
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(names: &[&str]) -> Option<Missing> {
        let names = names.iter().map(|name| Value::BulkString(name.as_bytes().to_vec()));
        Missing::told_by(&Value::Array(names.collect()))
    }

    #[test]
    fn what_is_missing_is_named_with_what_it_costs() {
        let missing = said(&["RENAME", "SCAN"]).unwrap();
        assert_eq!(missing.to_string(), "grant the user +rename +scan");
        assert!(missing.any_of(&[Command::Set, Command::Rename]) && !missing.any_of(&[Command::Set]));
        let losses: Vec<_> = missing.losses().collect();
        assert_eq!(losses.len(), 2, "{losses:?}");
        assert!(said(&[]).unwrap().is_none());
    }

    #[test]
    fn what_is_disabled_is_missing_as_well() {
        let missing = said(&["SET", "!SCAN"]).unwrap();
        assert!(missing.any_of(&[Command::Scan]) && missing.any_of(&[Command::Set]) && !missing.is_none());
        let to_do = "grant the user +set, and let the server know SCAN, which it has disabled or renamed";
        assert_eq!(missing.to_string(), to_do);
        assert_eq!(Missing::unpacked(missing.packed()), missing);
        assert_eq!(losses(&["set", "SCAN"]), missing.losses().collect::<Vec<_>>());
        assert_eq!(losses(&["PING"]), Vec::<&str>::new());
    }

    #[test]
    fn a_server_that_cannot_tell_has_told_nothing() {
        assert_eq!(said(&["?"]), None);
        assert_eq!(Missing::told_by(&Value::Int(1)), None);
        assert_eq!(Missing::told_by(&Value::Nil), None);
    }

    /// A user that lacks any one of the commands loses something, and the script asks for each command.
    #[test]
    fn every_command_is_asked_for_and_costs_something() {
        let code = scripts::RIGHTS.by_code();
        let code = String::from_utf8_lossy(&code.get_packed_command()).into_owned();
        for command in Command::ALL {
            assert!(code.contains(&format!("try('{}'", command.name())), "{command:?}");
            let missing = said(&[command.name()]).unwrap();
            assert!(missing.any_of(&[command]) && missing.losses().count() > 0, "{command:?}");
        }
    }

    #[test]
    fn rights_are_tried_again_when_they_are_doubted_and_once_in_a_while_while_one_is_missing() {
        let rights = Rights::new("here".to_owned(), "larder");
        assert!(!rights.are_due(5_000), "nothing is missing");
        rights.doubt("instance", "NOPERM");
        assert!(rights.are_due(5_000));
        rights.answered(said(&["SCAN"]), &Clock::system());
        assert!(rights.missing().any_of(&[Command::Scan]));
        assert!(!rights.are_due(34_999) && rights.are_due(35_000));
        rights.answered(said(&[]), &Clock::system());
        assert!(rights.missing().is_none() && !rights.are_due(100_000));
    }
}
