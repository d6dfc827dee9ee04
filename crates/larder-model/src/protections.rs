//! What protects the promises, and what they assume. Each can be taken away, to see what goes wrong without it.

use std::fmt;

macro_rules! removable {
    ($($(#[doc = $words:literal])+ $name:ident = $text:literal;)+) => {
        /// A protection of the protocol, or an assumption that it makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Removable { $($(#[doc = $words])+ $name,)+ }

        impl Removable {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As the command line and the docs call it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it is, in a sentence.
            #[must_use]
            pub fn words(self) -> &'static str {
                match self { $(Self::$name => concat!($($words,)+),)+ }
            }
        }
    };
}

removable! {
    /// A fill or put is refused if one of its own keys was touched after its ticket was taken.
    Fence = "fence";
    /// The ticket is taken before the load begins, and by `update` before the write.
    Ticket = "ticket";
    /// What could not be delivered is kept, and replayed before the node reads again.
    Journal = "journal";
    /// A stored object is never replaced by a lower version, and an invalidation can demand a lowest one.
    Version = "version";
    /// A clock that was lost, and a cache that is cleared, get a new epoch; a ticket of another epoch is refused.
    Epoch = "epoch";
    /// A node that connects clears the cache if the clock belongs to another history of the server.
    History = "history";
    /// An object is served only under a key that it lists itself.
    Validate = "validate";
    /// Clearing removes every object before it removes the first index key.
    ObjectsFirst = "objects-first";
    /// What clears removes nothing any more once the clock is settled again or has another epoch.
    GuardedRemoval = "guarded-removal";
    /// Each script of a call of several tells the next which keys others have touched since the call's ticket.
    Record = "record";
    /// A note that the source has nothing takes the place of an index key only when no object is left that lists the key.
    NoteAfterObject = "note-after-object";
    /// The first attempt of a set carries a ticket from before it was sent, and stores nothing if one of its keys was touched since.
    FirstCheck = "first-check";
    /// The second attempt of a set carries the ticket of the first one's answer, and stores nothing if one of its keys was touched since.
    SecondCheck = "second-check";
    /// What has written last is named by connection, not by node: only on one connection are commands executed in their order.
    Connection = "connection";
    /// A set takes no ticket from a clock that is not settled, and nothing is stored while it is not.
    SettledOnly = "settled-only";

    /// Cluster: an index entry holds every claimant, not the last one alone.
    Claims = "claims";
    /// Cluster: a store claims its index keys before it stores the object.
    Order = "order";
    /// Cluster: a claim is refused in the index key's slot if the key was fenced after the ticket.
    RefuseInIndexSlot = "refuse-in-index-slot";
    /// Cluster: a store is refused in the object's slot if the object was fenced after the ticket.
    RefuseInObjectSlot = "refuse-in-object-slot";
    /// Cluster: whoever else claims the key is fenced and removed before the object is stored.
    Displace = "displace";
    /// Cluster: a set or update takes another sequence for a displacement, after its claim.
    NewSequence = "new-sequence";
    /// Cluster: a displaced claim is dropped only if it is older than the sequence of its displacement.
    Stamps = "stamps";
    /// Cluster: a truncate removes again after every fill has ended that could have passed the check of its epoch before.
    SecondRemoval = "second-removal";
    /// Cluster: a truncate drops only claims that are older than itself, and only in its second removal.
    KeepClaims = "keep-claims";

    /// Assumption: who has deferred an invalidation promises nothing to other nodes until it is replayed.
    DeferredBindsOneNode = "deferred-binds-one-node";
    /// Assumption: a node that dies with entries in its journal loses them, and with them what they promised.
    JournalDiesWithNode = "journal-dies-with-node";
    /// Assumption: the server drops no index key whose object stays (`noeviction`), or everybody invalidates by primary key.
    IndexKeysStay = "index-keys-stay";
    /// Assumption: nobody clears the cache while a lowest version that was demanded has to be remembered.
    FloorsStay = "floors-stay";
    /// Assumption: a plain set's value was not invalidated by another writer before the set had its ticket.
    SetOfCurrent = "set-of-current";
    /// Assumption: the connections of a server whose data is replaced are closed.
    RestartClosesConnections = "restart-closes-connections";
    /// Assumption, Cluster: a fill's commands run within the longest fill after its epoch was checked, or not at all.
    LongestFill = "longest-fill";
}

impl Removable {
    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|removable| removable.name() == name)
    }

    /// Whether it is an assumption: lifting it shows what the docs exclude.
    #[must_use]
    pub fn is_assumption(self) -> bool {
        self >= Self::DeferredBindsOneNode
    }
}

impl fmt::Display for Removable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What has been taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed(u64);

impl Removed {
    /// And this one.
    #[must_use]
    pub fn and(self, removable: Removable) -> Self {
        Self(self.0 | 1 << removable as u32)
    }

    /// Whether this is in force.
    #[must_use]
    pub fn keeps(self, removable: Removable) -> bool {
        self.0 & 1 << removable as u32 == 0
    }
}

impl FromIterator<Removable> for Removed {
    fn from_iter<I: IntoIterator<Item = Removable>>(removed: I) -> Self {
        removed.into_iter().fold(Self::default(), Self::and)
    }
}
