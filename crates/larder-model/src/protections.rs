//! The protections of the promises, and their assumptions. Each can be removed from the model, to see what goes wrong without it.

use std::fmt;

macro_rules! removable {
    ($($(#[doc = $words:literal])+ $name:ident = $text:literal;)+) => {
        /// A protection of the protocol, or an assumption that it makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Removable { $($(#[doc = $words])+ $name,)+ }

        impl Removable {
            /// All protections and assumptions.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The name on the command line and in the docs.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The protection or assumption in one sentence.
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
    /// A change that could not be delivered is kept as an invalidation, and replayed before the node reads again.
    Journal = "journal";
    /// A stored object is never replaced by a lower version, and an invalidation can demand a lowest version.
    Version = "version";
    /// If the clock was lost, or the cache is cleared, there is a new epoch; a ticket of another epoch is refused.
    Epoch = "epoch";
    /// A node that connects clears the cache if the clock belongs to another history of the server.
    History = "history";
    /// An object is served only under a key that it lists itself.
    Validate = "validate";
    /// Clearing removes every object before it removes the first index key.
    ObjectsFirst = "objects-first";
    /// A removal that belongs to a clearing does nothing once the clock is settled again or has another epoch.
    GuardedRemoval = "guarded-removal";
    /// Each script of a call for several objects tells the next script which keys others have touched since the call's ticket.
    Record = "record";
    /// A note that the source has nothing replaces an index key only when no object is left that lists the key.
    NoteAfterObject = "note-after-object";
    /// The first attempt of a set carries a ticket from before it was sent, and stores nothing if one of its keys was touched since.
    FirstCheck = "first-check";
    /// The second attempt of a set carries the ticket of the first attempt's answer, and stores nothing if one of its keys was touched since.
    SecondCheck = "second-check";
    /// The clock names the last writer by connection, not by node: the server executes commands in the order sent only within a connection.
    Connection = "connection";
    /// A set takes no ticket from a clock that is not settled, and nothing is stored while the clock is not settled.
    SettledOnly = "settled-only";
    /// A clearing that is under way when the data comes back with another history is not gone on with: the next one has a new epoch.
    ClearingOfHistory = "clearing-of-history";

    /// Cluster: an index entry holds all claimants, not only the last.
    Claims = "claims";
    /// Cluster: a store claims its index keys before it stores the object.
    Order = "order";
    /// Cluster: a claim is refused in the index key's slot if the key was fenced after the ticket.
    RefuseInIndexSlot = "refuse-in-index-slot";
    /// Cluster: a store is refused in the object's slot if the object was fenced after the ticket.
    RefuseInObjectSlot = "refuse-in-object-slot";
    /// Cluster: every other object that claims the key is fenced and removed before the object is stored.
    Displace = "displace";
    /// Cluster: a set or update takes another sequence for a displacement, after its claim.
    NewSequence = "new-sequence";
    /// Cluster: a displaced claim is dropped only if it is older than the sequence of its displacement.
    Stamps = "stamps";
    /// Cluster: a truncate removes a second time, after all fills have ended whose epoch was checked before the truncate.
    SecondRemoval = "second-removal";
    /// Cluster: a truncate drops only claims that are older than itself, and only in its second removal.
    KeepClaims = "keep-claims";

    /// Postgres: a read serves an object only if the object's ticket sees every visible fence of its keys.
    ReadCheck = "read-check";
    /// Postgres: a sweep removes only fences that every accepted ticket sees.
    Generations = "generations";
    /// Postgres: a fill whose ticket is older than the oldest generation is refused.
    OldestGeneration = "oldest-generation";
    /// Postgres: a sweep waits until the stores have ended whose tickets may not see the swept fences.
    Drain = "drain";
    /// Postgres: a ticket from before a crash is refused, by its epoch.
    EpochOfTables = "epoch-of-tables";
    /// Postgres: there is no clock until the transactions have ended that were prepared when a crash emptied the tables.
    LostFences = "lost-fences";
    /// Postgres: a store that takes a key over fences the object that had the key.
    DisplacementFence = "displacement-fence";
    /// Postgres: a store locks the row of each of its keys, even if the row leads to its object already.
    KeyLock = "key-lock";
    /// Postgres: two stores that claim one key wait for each other at the key's unique row.
    KeyOrder = "key-order";
    /// Postgres: the row of a key is pruned only once all stores have ended that may have relied on it.
    KeysDrained = "keys-drained";
    /// Postgres: the rows of one object's shapes have the marks of all shapes.
    MarksOfShapes = "marks-of-shapes";

    /// Feed: a poll answers what its snapshot sees and the last one did not see, and not what has a higher number than all before.
    SnapshotDifference = "snapshot-difference";
    /// Feed: a poll is one statement, so that its changes and its position are of one snapshot.
    OneStatement = "one-statement";
    /// Feed: the primary is polled; a standby's snapshot lists no running transactions.
    PrimaryOnly = "primary-only";
    /// Feed: a cache is read only for a while after the last poll that counted.
    Deadline = "deadline";
    /// Feed: the deadline counts from when the poll began, and not from when it ended.
    DeadlineFromBegin = "deadline-from-begin";
    /// Feed: a node whose position is older than what was trimmed clears its caches.
    Gap = "gap";
    /// Feed: changes are removed in the transaction that says so.
    TrimInOne = "trim-in-one";
    /// Feed: what the clock says was trimmed never goes back.
    TrimForward = "trim-forward";
    /// Feed: a position of another epoch is given up.
    FeedEpoch = "feed-epoch";
    /// Feed: a cache is cleared when it joins.
    ClearAtJoin = "clear-at-join";
    /// Feed: a node without a position takes one first, and then clears its caches.
    ClearAfterPosition = "clear-after-position";
    /// Feed, shared: a poll counts only if all that it brought was applied or deferred.
    AppliedCounts = "applied-counts";
    /// Feed, shared: the place is set after all changes up to there were applied.
    PlaceAfterApplied = "place-after-applied";
    /// Feed, shared: the place is not set when a change was deferred.
    DeferralHoldsPlace = "deferral-holds-place";
    /// Feed, shared: nor while the journal holds a change of an earlier poll.
    JournalHoldsPlace = "journal-holds-place";
    /// Feed, shared: a place of another epoch of the database says nothing.
    PlaceEpoch = "place-epoch";
    /// Feed, shared: the poll by which a cache joins is not older than the position that the next poll goes on from.
    JoinAfterPosition = "join-after-position";
    /// Feed, shared: a cache that joins without a place that fits is cleared.
    ClearWithoutPlace = "clear-without-place";
    /// Feed, shared: a cache joins anew, from the place, when its node is connected to another server.
    RejoinElsewhere = "rejoin-elsewhere";

    /// Tier: L1 is read only while it is valid.
    Validity = "validity";
    /// Tier: the validity counts from when the follow was sent, and not from its answer.
    ValidityFromSending = "validity-from-sending";
    /// Tier: a hit looks first whether L1 is valid, and then reads.
    ValidityFirst = "validity-first";
    /// Tier: the marks of a follow are applied before the validity is extended.
    ValidAfterMarks = "valid-after-marks";
    /// Tier: a mark drops the objects of L1 that have its key.
    MarksApplied = "marks-applied";
    /// Tier: L1 takes in nothing that a mark was applied for since it was asked for.
    Ring = "ring";
    /// Tier: marks are compared with all keys of an object, and not with its primary key alone,
    AllKeys = "all-keys";
    /// Tier: and with those that were deleted.
    DeletedKeys = "deleted-keys";
    /// Tier: no mark is applied between the check of a fill and its insertion.
    CheckedInsert = "checked-insert";
    /// Tier: a change is answered only when every follower has acknowledged it, or after the validity.
    ChangeWaits = "change-waits";
    /// Tier: a change waits for the validity from its answer on, and not from its sending.
    WaitFromAnswer = "wait-from-answer";
    /// Tier: a change waits for longer than the validity, by as much as the rates of clocks can differ.
    WaitLonger = "wait-longer";
    /// Tier: a follower acknowledges only what it has applied.
    AckAfterApply = "ack-after-apply";
    /// Tier: a follow writes the follower into the table, in the step that answers the marks.
    RegisterFirst = "register-first";
    /// Tier: a node that closes its L1 first stops reading it and drops its follow's answer, and then leaves the table.
    LeaveOrder = "leave-order";
    /// Tier: a follower's entry is removed only after it has been the same for the validity.
    RemoveAfterValidity = "remove-after-validity";
    /// Tier: the entry counts follows, so that it is another one after each.
    RemoveByCounter = "remove-by-counter";
    /// Tier: a recovery waits for the validity between its new epoch and settling the clock.
    SettleWaits = "settle-waits";
    /// Tier: a truncate that changes how the cache is followed waits, before it settles the clock, for those who have followed it as before.
    TermsWait = "terms-wait";
    /// Tier: a truncate renews nothing unless the clock has the epoch that the truncate has read.
    RenewOfRead = "renew-of-read";
    /// Tier: until a clearing has ended, the clock has an epoch that says how the cache was followed before.
    FollowedAsBefore = "followed-as-before";
    /// Tier: whoever recovers the cache also goes by what it remembers of how the cache was followed.
    Remembered = "remembered";
    /// Tier: who joins another node's clearing waits until it is settled, or for those who followed before.
    JoinedWaits = "joined-waits";
    /// Tier: the table counts only if the clock is settled and still has the epoch in which the change was executed.
    TrustedTable = "trusted-table";
    /// Tier: a truncate leaves the followers in the table.
    TableKept = "table-kept";
    /// Tier: a truncate that finds no clock makes none: the cache is recovered first.
    ProvenClock = "proven-clock";
    /// Tier: a recovery that finds another history takes a new epoch, also if the clock is being cleared already.
    EpochOfHistory = "epoch-of-history";
    /// Tier: a follower that hears of another epoch drops everything before it acknowledges it.
    EpochDrop = "epoch-drop";
    /// Tier: a node drops what its own change has touched before the change is answered,
    OwnDrop = "own-drop";
    /// Tier: and remembers its mark, so that nothing older is taken in after that.
    OwnMark = "own-mark";
    /// Tier over PostgreSQL: the poll that an own change waits for begins after the change.
    LaterPoll = "later-poll";
    /// Tier over PostgreSQL: a get notes its ticket before it looks whether a change is deferred.
    NoteFirst = "note-first";
    /// Tier: a node's own change does not tell the node that it knows all marks before this one.
    OwnNotKnown = "own-not-known";
    /// Tier: a node whose change was executed in another epoch than the one that it follows drops everything,
    OwnEpoch = "own-epoch";
    /// Tier: and also what is on its way into L1.
    OwnEpochFills = "own-epoch-fills";

    /// Assumption: a deferred invalidation promises nothing to other nodes until it is replayed.
    DeferredBindsOneNode = "deferred-binds-one-node";
    /// Assumption: a node that dies with entries in its journal loses them, and what they promised.
    JournalDiesWithNode = "journal-dies-with-node";
    /// Assumption: the server drops no index key whose object stays (`noeviction`), or everybody invalidates by primary key.
    IndexKeysStay = "index-keys-stay";
    /// Assumption: nobody clears the cache while a demanded lowest version must be remembered.
    FloorsStay = "floors-stay";
    /// Assumption: no other writer invalidates a plain set's value before the set has its ticket.
    SetOfCurrent = "set-of-current";
    /// Assumption: the connections of a server whose data is replaced are closed.
    RestartClosesConnections = "restart-closes-connections";
    /// Assumption, Cluster: after a fill's epoch was checked, its commands run within the time of the longest fill, or never.
    LongestFill = "longest-fill";
    /// Assumption, Tier: a node's clock goes on while the node is stopped.
    ClocksRun = "clocks-run";
}

impl Removable {
    /// The protection or assumption with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|removable| removable.name() == name)
    }

    /// Whether this is an assumption. A check without it shows what the docs exclude.
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

/// The set of protections and assumptions that are removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed(u128);

impl Removed {
    /// Removes this one, too.
    #[must_use]
    pub fn and(self, removable: Removable) -> Self {
        Self(self.0 | 1 << removable as u32)
    }

    /// Whether this one is still in force.
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
