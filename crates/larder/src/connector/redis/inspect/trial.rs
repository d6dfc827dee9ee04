//! [`try_scripts`]: runs each of larder's scripts once on a server, so that an operator learns what does not work there, and what that costs.
//!
//! Everything happens under a scratch name that no cache can have. The clock there is written as larder's scripts would have left it, so that one
//! script that does not run keeps no other from being tried. Each script is given what makes it call every command that it has: an index key that
//! leads nowhere, an object that is due, a follower that leaves.

use super::server::{Server, error};
use super::{CLIENT_NAME, InspectError};
use crate::clock::Clock;
use crate::connector::redis::layout::{self, Layout};
use crate::connector::redis::options::RedisOptions;
use crate::connector::redis::route::Route;
use crate::connector::redis::scripts::{self, Script};
use crate::connector::redis::single::storing::{self, Mode, Outgoing, Terms, as_of};
use crate::connector::redis::single::{clearing, forgetting};
use crate::connector::redis::wire::caller::{Caller, Direct};
use crate::connector::redis::wire::connect;
use crate::connector::redis::wire::dial::Dialer;
use crate::connector::remote::journal::Deferred;
use crate::connector::remote::{Trouble, What};
use crate::contract::{Consistency, Following, KeyBuf, KeyRef, Object, Ticket};
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::Duration;

/// How long a key under the scratch name lives, in ms, if it is not removed before.
const LIFE: u64 = 60_000;

/// The only release that uses the scratch name.
const RELEASE: u64 = 0x00c4_ecc4_ecc4_ecc4;

/// The place of the log in a clock, and that of the table of followers behind it.
const LOG: usize = 512;
const TABLE: usize = LOG + 8 * 16_384;

/// A script as it ran once: see [`try_scripts`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TriedScript {
    /// The script, and on what it was tried where that makes a difference: `store.lua`, `store.lua, an object over 4 KiB`.
    pub script: &'static str,
    /// What does not work on a server that does not run it, as a clause: `objects over 4 KiB are not stored`.
    pub cost: &'static str,
    /// The server's error. `None`: the script ran to its end.
    pub trouble: Option<String>,
}

/// Runs each of larder's scripts on a server, once for each of its uses, and says which do not run there and what that costs.
///
/// The keys are under `prefix:larder+check`, a name that no cache can have. They expire within a minute, and are removed at the end. One of a few bytes
/// does not expire, because it stands for an object without age limits: it is removed at once, if the user may remove keys. In a cluster the
/// options are those of one primary, and `tag` is a hash tag whose slot that primary has: [`ClusterReport::primaries`](super::ClusterReport::primaries)
/// has both. For one server, and for the master that Sentinels name, there is no tag.
///
/// ```no_run
/// use larder::connector::redis::RedisOptions;
/// use larder::connector::redis::inspect::try_scripts;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for tried in try_scripts(&RedisOptions::default(), None).await? {
///     if let Some(trouble) = tried.trouble {
///         println!("{}: {trouble}. Without it: {}", tried.script, tried.cost);
///     }
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// [`InspectError::Server`]: the server cannot be used at all, or it no longer answers. [`InspectError::Option`].
///
/// # Cancellation
///
/// What was written expires within a minute, apart from that one key.
pub async fn try_scripts(options: &RedisOptions, tag: Option<&str>) -> Result<Vec<TriedScript>, InspectError> {
    options.validate()?;
    let options = options.clone().client_name(CLIENT_NAME);
    let clock = Clock::system();
    let reached = match tag {
        None => Route::new(&options).reach(&clock).await,
        Some(tag) => {
            let dialer = Dialer::new(options.place(), options.tls.as_ref(), options.connect_timeout);
            connect::reach(&options, &dialer, &format!("{}:{{{tag}}}", options.prefix), &clock).await
        }
    };
    let server = Server::begin(options.clone(), reached.map_err(|trouble| error(&options, &trouble))?).await?;
    let trial = Trial::new(&server, &options.prefix, tag);
    let tried = trial.all().await;
    trial.clean_up().await;
    tried.map_err(|trouble| server.error(&trouble))
}

/// A scratch name on a server, and what stands under it.
struct Trial<'a> {
    caller: Direct<'a>,
    layout: Layout,
    /// Where the large object is staged.
    staged: String,
    /// The state of the clock at the beginning. What is stored has this ticket.
    ticket: Ticket,
    /// The same for a cache that nodes keep in their own memory.
    followed: Ticket,
}

/// The result of a use. Trouble that is no [`refusal`] ends the trial.
type Ran = Result<(), Trouble>;

impl<'a> Trial<'a> {
    fn new(server: &'a Server, prefix: &str, tag: Option<&str>) -> Self {
        // No cache can have this name: `+` is not allowed in names.
        let name = format!(
            "larder+check{}:{:08x}",
            tag.map_or_else(String::new, |tag| format!("{{{tag}}}")),
            fastrand::u32(..)
        );
        let mut layout = Layout::without_schema(layout::base(prefix, &name), "host");
        layout.fingerprint = format!("{RELEASE:016x}");
        let following = Following::new(Consistency::Strict, Duration::from_millis(25)).ok();
        let [ticket, followed] =
            [None, following].map(|following| Ticket { epoch: Following::new_epoch(following), sequence: 0 });
        Self { caller: server.caller(), staged: layout.staged(), layout, ticket, followed }
    }

    async fn all(&self) -> Result<Vec<TriedScript>, Trouble> {
        self.write_clock(self.ticket).await?;
        let mut tried = Vec::new();
        macro_rules! tried {
            ($($script:literal, $cost:literal, $ran:expr;)*) => {$(
                let trouble = match $ran.await {
                    Ok(()) => None,
                    Err(trouble) => Some(refusal(trouble)?),
                };
                tried.push(TriedScript { script: $script, cost: $cost, trouble });
            )*};
        }
        tried! {
            "store.lua", "nothing is stored", self.store(1, &[], Mode::Put, Ages::LastUse);
            "store.lua, an object with several keys", "objects with secondary keys or a version are not stored",
                self.store(2, &[b"a"], Mode::Put, Ages::LastUse);
            "store.lua, an object with several keys and a max age", "objects with secondary keys and a max age are not stored a second time",
                self.store_twice();
            "store.lua, an object whose deadline is kept",
                "objects with a max age are not stored where there is a last-use age, refresh_ahead, serve_expired or a tier, too",
                self.store(3, &[], Mode::Put, Ages::Deadline);
            "store.lua, an object over 4 KiB", "objects over 4 KiB are not stored", self.store_large(Ages::LastUse);
            "store.lua, an object over 4 KiB without age limits", "objects over 4 KiB without age limits are not stored", self.store_lasting();
            "store_many.lua", "several objects are not stored at once", self.store_many();
            "get_many.lua", "several objects are not found at once by secondary keys", self.get_many();
            "absent.lua", "it is not remembered that the source has nothing (negative_age)", self.absent();
            "touch.lua", "a get does not put off the end of a last-use age", self.touch();
            "discard.lua", "a lease is not given back, so that other nodes wait until it expires, and what cannot be decoded stays", self.discard();
            "invalidate.lua", "every invalidation is deferred, and its cache is not read meanwhile", self.forget(Deferred::Invalidate { floor: None });
            "invalidate.lua, with a lowest version", "every invalidation that demands a lowest version is deferred, and its cache is not read meanwhile",
                self.forget(Deferred::Invalidate { floor: Some(1) });
            "delete.lua", "every delete of a key is deferred, and its cache is not read meanwhile", self.forget(Deferred::Delete);
            "prune.lua", "index keys that lead nowhere stay until they expire", self.prune();
        }
        self.write_clock(self.followed).await?;
        tried! {
            "store.lua, a load on a tier", "on a tier, what a load has found is not stored", self.store_followed();
            "follow.lua", "no tier is in use: nodes do not read their own memory", self.follow();
            "followers.lua", "a change of a cache on a tier waits for the whole validity", self.followers();
            "leave.lua", "the change after a node has ended waits for the whole validity, on a tier", self.leave();
            "confirm.lua", "in strict mode (wait_replicas) no change counts as applied", self.confirm();
            "rights.lua", "a right that is missing is noticed only when an operation is refused", self.rights();
            // The last two end what the others need.
            "clock.lua", "no cache is read", self.clock();
            "remove.lua", "a cache that has to be cleared cannot be, and is not read", self.remove();
        }
        Ok(tried)
    }

    /// Writes a settled clock. Without SET there is another way, so that the other scripts can be tried.
    async fn write_clock(&self, at: Ticket) -> Ran {
        let mut clock = vec![0; TABLE];
        for (place, byte) in clock.iter_mut().zip(as_of(at)) {
            *place = byte;
        }
        for (place, byte) in clock.iter_mut().skip(48).zip(self.layout.fingerprint.bytes()) {
            *place = byte;
        }
        let name = self.layout.clock();
        if matches!(self.write(name.as_bytes(), &clock).await, Err(Trouble::Error { .. })) {
            let mut write = redis::cmd("SETRANGE");
            refused_is_fine(self.caller.call(write.arg(&name).arg(0).arg(&clock)).await)?;
            let mut expire = redis::cmd("PEXPIRE");
            refused_is_fine(self.caller.call(expire.arg(&name).arg(LIFE)).await)?;
        }
        Ok(())
    }

    /// Removes everything, as far as the user may. The rest expires.
    async fn clean_up(&self) {
        let mut names = [self.layout.clock(), self.spare(), self.staged.clone()].map(String::into_bytes).to_vec();
        for number in 1..=9 {
            let primary = primary(number);
            names.extend([self.layout.object(&primary), self.layout.floor(&primary)]);
        }
        for key in [b"a", b"b", b"c", b"d", b"e"] {
            let key = KeyRef { index: 1, bytes: key };
            names.extend([self.layout.index(key), self.layout.lease(key)]);
        }
        let mut unlink = redis::cmd("UNLINK");
        let _ = self.caller.call(unlink.arg(names)).await;
    }

    async fn write(&self, name: &[u8], value: &[u8]) -> Result<Value, Trouble> {
        let mut set = redis::cmd("SET");
        self.caller.call(set.arg(name).arg(value).arg("PX").arg(LIFE)).await
    }

    /// Runs a script. What it answers does not matter here.
    async fn run(&self, script: &Script, arguments: impl Fn(&mut Cmd) + Send + Sync) -> Ran {
        self.caller.script(script, arguments).await.map(drop)
    }

    async fn send(&self, object: &Object, mode: Mode, ages: Ages, staged: Option<&str>, at: Ticket) -> Ran {
        let outgoing = Outgoing { object, bytes: b"small", staged };
        let terms = ages.terms(mode);
        self.run(&scripts::STORE, |call| storing::tell(call, &self.layout, outgoing, &terms, (at, 0))).await
    }

    /// Stores an object with this number.
    async fn store(&self, number: u8, hosts: &[&[u8]], mode: Mode, ages: Ages) -> Ran {
        self.send(&object(number, hosts), mode, ages, None, self.ticket).await
    }

    /// The second time the index key is there already, and its lifetime may be prolonged. A fill touches nothing, so the ticket is as good as before.
    async fn store_twice(&self) -> Ran {
        self.store(4, &[b"b"], Mode::Fill, Ages::Max).await?;
        self.store(4, &[b"b"], Mode::Fill, Ages::Max).await
    }

    async fn store_large(&self, ages: Ages) -> Ran {
        refused_is_fine(self.write(self.staged.as_bytes(), b"large").await)?;
        self.send(&object(5, &[]), Mode::Fill, ages, Some(&self.staged), self.ticket).await
    }

    /// The only object that does not expire, so it is removed at once.
    async fn store_lasting(&self) -> Ran {
        let ran = self.store_large(Ages::None).await;
        let mut unlink = redis::cmd("UNLINK");
        refused_is_fine(self.caller.call(unlink.arg(self.layout.object(&primary(5)))).await)?;
        ran
    }

    async fn store_followed(&self) -> Ran {
        self.send(&object(1, &[]), Mode::Fill, Ages::LastUse, None, self.followed).await
    }

    async fn store_many(&self) -> Ran {
        let (object, terms) = (object(9, &[b"c"]), Ages::LastUse.terms(Mode::Put));
        self.run(&scripts::STORE_MANY, |call| {
            call.arg(4).arg(self.layout.clock());
            storing::name_keys(call, &self.layout, &object, None);
            call.arg(&as_of(self.ticket)[..]).arg(terms.kept).arg(0).arg(terms.index_life);
            call.arg(storing::header(&self.layout, &object, &terms, 0)).arg("small").arg(terms.life);
        })
        .await
    }

    async fn get_many(&self) -> Ran {
        let host = self.leads(b"d", 6).await?;
        self.run(&scripts::GET_MANY, |call| {
            call.arg(1).arg(&host).arg(self.layout.object(&[])).arg(100);
        })
        .await
    }

    /// An object lists the key and is over, so it goes.
    async fn absent(&self) -> Ran {
        self.due(7, 1).await?;
        let (primary, key) = (primary(7), KeyRef { index: 0, bytes: &primary(7) });
        let (absence, listed) = (self.layout.absence(key), self.layout.listed(key));
        self.run(&scripts::ABSENT, |call| {
            call.arg(2).arg(self.layout.clock()).arg(self.layout.object(&primary)).arg(&as_of(self.ticket)[..]);
            call.arg(&absence[..]).arg(LIFE).arg(self.layout.object_prefix()).arg(&listed).arg(0).arg(0);
        })
        .await
    }

    async fn touch(&self) -> Ran {
        // Far in the future, as scripts count: 2^45 ms.
        self.due(8, 1 << 45).await?;
        let object = self.layout.object(&primary(8));
        self.run(&scripts::TOUCH, |call| {
            call.arg(1).arg(&object).arg(LIFE).arg(0);
        })
        .await
    }

    async fn discard(&self) -> Ran {
        let lease = self.layout.lease(KeyRef { index: 1, bytes: b"a" });
        refused_is_fine(self.write(&lease, b"token").await)?;
        self.run(&scripts::DISCARD, |call| {
            call.arg(1).arg(&lease).arg("token");
        })
        .await
    }

    /// By a secondary and by a primary key, of which objects are there if they could be stored.
    async fn forget(&self, what: Deferred) -> Ran {
        self.leads(b"e", 6).await?;
        self.due(6, 0).await?;
        let host = KeyBuf { index: 1, bytes: b"e"[..].into() };
        let id = KeyBuf { index: 0, bytes: primary(6).into() };
        forgetting::forget(&self.caller, &self.layout, &[host, id], what).await.map(drop)
    }

    async fn prune(&self) -> Ran {
        // Nobody has stored this object.
        let host = self.leads(b"d", 10).await?;
        self.run(&scripts::PRUNE, |call| {
            call.arg(2)
                .arg(self.layout.clock())
                .arg(&host)
                .arg(self.layout.object_prefix())
                .arg(self.layout.before_index());
        })
        .await
    }

    async fn follow(&self) -> Ran {
        self.run(&scripts::FOLLOW, |call| {
            call.arg(1).arg(self.layout.clock()).arg(FOLLOWER).arg(-1);
            [self.followed.epoch, 0, 1].iter().for_each(|number| {
                call.arg(&number.to_be_bytes()[..]);
            });
            call.arg(1);
        })
        .await
    }

    async fn followers(&self) -> Ran {
        self.run(&scripts::FOLLOWERS, |call| {
            call.arg(1).arg(self.layout.clock());
        })
        .await
    }

    /// The entry is there if `follow.lua` ran.
    async fn leave(&self) -> Ran {
        self.run(&scripts::LEAVE, |call| {
            call.arg(1).arg(self.layout.clock()).arg(0).arg(FOLLOWER);
        })
        .await
    }

    async fn confirm(&self) -> Ran {
        self.run(&scripts::CONFIRM, |call| {
            call.arg(1).arg(self.spare()).arg(1);
        })
        .await
    }

    async fn rights(&self) -> Ran {
        self.run(&scripts::RIGHTS, |call| {
            call.arg(0).arg(self.spare()).arg(self.layout.place());
        })
        .await
    }

    /// Another release registers, and the clearing of the cache begins and ends.
    async fn clock(&self) -> Ran {
        let mut layout = Layout::without_schema(self.layout.base().to_owned(), "host");
        layout.fingerprint = format!("{:016x}", RELEASE + 1);
        clearing::register(&self.caller, &layout).await?;
        let epoch = self.followed.epoch;
        clearing::clock(&self.caller, &layout, "renew", epoch, epoch, 0).await?;
        clearing::clock(&self.caller, &layout, "settle", epoch, 1, epoch).await?;
        // So that remove.lua has something to do.
        clearing::clock(&self.caller, &layout, "renew", epoch, epoch, 1).await.map(drop)
    }

    async fn remove(&self) -> Ran {
        let host = self.leads(b"d", 6).await?;
        self.run(&scripts::REMOVE, |call| {
            call.arg(2).arg(self.layout.clock()).arg(&host).arg(self.followed.epoch);
        })
        .await
    }

    /// A key that is neither the clock nor anything that it tells of.
    fn spare(&self) -> String {
        format!("{}:w", self.layout.base())
    }

    /// Writes the index key of a host, which leads to the object of this number. Returns its name.
    async fn leads(&self, host: &[u8], number: u8) -> Result<Vec<u8>, Trouble> {
        let (name, primary) = (self.layout.index(KeyRef { index: 1, bytes: host }), primary(number));
        let mark = self.layout.mark(KeyRef { index: 0, bytes: &primary });
        refused_is_fine(self.write(&name, &[&[0; 4][..], &mark, &primary].concat()).await)?;
        Ok(name)
    }

    /// Writes an object without a payload, whose only key is the primary one, and whose max age ends then.
    async fn due(&self, number: u8, deadline: u64) -> Ran {
        let primary = primary(number);
        let mut object = b"L1\x01\x00".to_vec();
        object.extend([RELEASE, 0, deadline, 0].iter().flat_map(|word| word.to_be_bytes()));
        let listed = [&[0][..], &(primary.len() as u32).to_be_bytes(), &primary].concat();
        object.extend((listed.len() as u32).to_be_bytes());
        // One key, which was not deleted.
        object.extend([0, 1, 0]);
        object.extend(listed);
        refused_is_fine(self.write(&self.layout.object(&primary), &object).await)
    }
}

/// What a follower calls itself.
const FOLLOWER: &[u8; 8] = b"larder+c";

/// Which age limits a stored object has.
#[derive(Clone, Copy)]
enum Ages {
    None,
    LastUse,
    Max,
    /// Max age, and the deadline is written into the object.
    Deadline,
}

impl Ages {
    fn terms(self, mode: Mode) -> Terms {
        let (max_age, dated, life) = match self {
            Self::None => (0, false, 0),
            Self::LastUse => (0, false, LIFE),
            Self::Max => (LIFE, false, LIFE),
            Self::Deadline => (LIFE, true, LIFE),
        };
        Terms { mode, max_age, dated, life, index_life: 2 * LIFE, kept: 0, label: 1 }
    }
}

fn primary(number: u8) -> [u8; 1] {
    [number]
}

/// An object with a version if it has hosts.
fn object(number: u8, hosts: &[&[u8]]) -> Object {
    let hosts: Vec<_> = hosts.iter().map(|host| KeyBuf { index: 1, bytes: (*host).into() }).collect();
    let version = (!hosts.is_empty()).then_some(1);
    Object::new(primary(number), hosts, version, Arc::new(()))
}

/// Why the server does not do this one thing.
///
/// # Errors
///
/// The trouble, if the server serves nobody, or not here, or does not answer.
fn refusal(trouble: Trouble) -> Result<String, Trouble> {
    let of_this = trouble.is_of_its_command() || trouble.what() == Some(What::Refused);
    if !of_this {
        return Err(trouble);
    }
    // After that come the script's hash and the line.
    let text = trouble.to_string();
    Ok(text.split_once(" script: ").map_or(text.as_str(), |(reason, _)| reason).to_owned())
}

/// What a script needs may be refused to the user: then the script is tried without it.
fn refused_is_fine(reply: Result<Value, Trouble>) -> Ran {
    reply.map(drop).or_else(|trouble| refusal(trouble).map(drop))
}
