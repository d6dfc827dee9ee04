//! [`Query`]: every statement that is sent for an operation. Each is one transaction, and leaves nothing in the session: so they go through a pooler
//! in transaction mode as well.

use crate::protection::{Protection, without};
use std::borrow::Cow;
use tokio_postgres::types::Type;

/// A fence `f` of one of the keys of the object `o`, which the object's ticket may not see. `larder.forgets` decides.
macro_rules! unseen {
    ($key:literal) => {
        concat!(
            "f.mark = ANY (o.marks) AND f.xid >= pg_snapshot_xmin(o.seen) AND larder.forgets(f.kind, f.mark, f.xid, f.floor, ",
            $key,
            ", o.mark, o.writer, o.seen, o.version)"
        )
    };
}

/// Whether no fence forgets the object. A deleted key counts only if it is the key asked for. `IS FALSE` keeps the planner from making a join of it.
macro_rules! lives {
    ($key:literal) => {
        concat!(
            "(EXISTS (SELECT FROM larder.fences f WHERE ",
            unseen!($key),
            ")) IS FALSE AND (o.gone IS NULL OR ",
            $key,
            " <> ALL (o.gone))"
        )
    };
}

/// What a get serves.
macro_rules! served {
    ($key:literal) => {
        concat!("o.expires > now() AND o.idle > now() AND ", lives!($key))
    };
}

/// Whether a load has found nothing under the key, and nothing has touched the key since.
macro_rules! noted {
    ($key:literal) => {
        concat!(
            "EXISTS (SELECT FROM larder.notes n WHERE n.mark = ",
            $key,
            " AND n.until > now() AND NOT EXISTS (SELECT FROM larder.fences f \
             WHERE f.mark IN (n.mark, n.cache) AND f.xid >= pg_snapshot_xmin(n.seen) AND NOT pg_visible_in_snapshot(f.xid, n.seen)))"
        )
    };
}

/// How much of the object's max age is left, in ms; NULL where it has none.
macro_rules! left {
    () => {
        "CASE WHEN o.expires = 'infinity' THEN NULL ELSE extract(epoch FROM o.expires - now()) * 1000 END::float8 AS left"
    };
}

/// Where the object of the key `$1` is: it is the primary key; `$3` is where this node remembers it to be; or where `larder.keys` leads to.
macro_rules! primary {
    () => {
        "larder.objects o WHERE o.mark = $1 AND o.shape = $2"
    };
}
macro_rules! hinted {
    () => {
        "larder.objects o WHERE o.mark = $3 AND o.shape = $2 AND $1 = ANY (o.marks)"
    };
}
macro_rules! cold {
    () => {
        "larder.keys k JOIN larder.objects o ON o.mark = k.leads_to WHERE k.mark = $1 AND o.shape = $2 AND $1 = ANY (o.marks)"
    };
}

/// A get.
macro_rules! get {
    ($from:expr) => {
        concat!("SELECT o.payload FROM ", $from, " AND ", served!("$1"))
    };
}

/// What is answered of an object.
macro_rules! object {
    () => {
        concat!("o.payload, ", left!())
    };
}

/// The same for a node that takes it into its own memory. How many marks it has; NULL where one of its keys was deleted. And how much of its last-use age is left,
/// in ms; NULL where it has none.
macro_rules! near {
    () => {
        concat!(
            object!(),
            ", CASE WHEN o.gone IS NULL AND NOT EXISTS (SELECT FROM larder.fences f WHERE f.mark = ANY (o.marks) AND f.kind = 'd' \
             AND f.xid >= pg_snapshot_xmin(o.seen) AND f.xid <> o.writer AND NOT pg_visible_in_snapshot(f.xid, o.seen)) \
             THEN cardinality(o.marks) END AS marks, \
             CASE WHEN o.idle < 'infinity' THEN extract(epoch FROM o.idle - now()) * 1000 END::float8 AS unused"
        )
    };
}

/// A lookup: a ticket, and what is there, all of one snapshot. The object may have expired, where it is kept.
macro_rules! lookup {
    ($from:expr, $noted:expr, $object:expr) => {
        concat!(
            "SELECT c.epoch, c.generation, pg_current_snapshot()::text, ",
            $noted,
            ", l.* FROM larder.clock c LEFT JOIN LATERAL (SELECT ",
            $object,
            " FROM ",
            $from,
            " AND o.until > now() AND o.idle > now() AND ",
            lives!("$1"),
            ") l ON true"
        )
    };
}

/// What is there under several keys, and a ticket.
macro_rules! many {
    ($end:literal, $noted:expr, $object:expr) => {
        concat!(
            "WITH asked AS MATERIALIZED (SELECT q.mark, q.at, CASE WHEN q.is_primary THEN q.mark ELSE \
             (SELECT k.leads_to FROM larder.keys k WHERE k.mark = q.mark) END AS leads_to \
             FROM unnest((SELECT $1), (SELECT $2)) WITH ORDINALITY q(mark, is_primary, at)) \
             SELECT c.epoch, c.generation, CASE WHEN a.at = 1 THEN pg_current_snapshot()::text END, ",
            $noted,
            ", l.* FROM larder.clock c CROSS JOIN asked a LEFT JOIN LATERAL (SELECT ",
            $object,
            " FROM larder.objects o WHERE o.mark = a.leads_to AND o.shape = $3 AND a.mark = ANY (o.marks) AND ",
            $end,
            " > now() AND o.idle > now() AND ",
            lives!("a.mark"),
            ") l ON true ORDER BY a.at"
        )
    };
}

/// What became visible since the snapshot `$1`: changes of the caches `$2`. First the clock. The rows have the same columns.
macro_rules! poll {
    () => {
        concat!(
            "SELECT c.epoch, pg_current_snapshot()::text, c.trimmed::text, c.previous::text, NULL::text, NULL::bytea[], NULL::int8, NULL::text \
             FROM larder.clock c UNION ALL ",
            changes!(),
            "h.xid >= pg_snapshot_xmax($1::pg_snapshot)"
        )
    };
}

/// The changes of these caches that meet the condition that follows.
macro_rules! changes {
    () => {
        "SELECT NULL, NULL, NULL, h.cache, h.index, h.keys, h.origin, h.xid::text FROM larder.changes h WHERE h.cache = ANY ($2) AND "
    };
}

/// The fences that meet the condition that follows. In the place of a cache there is nothing, in that of the origin the mark.
macro_rules! fences {
    () => {
        " UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, f.mark, NULL FROM larder.fences f WHERE f.kind <> 'b' AND "
    };
}

/// Those of transactions that were running when the snapshot `$1` was taken.
macro_rules! late {
    () => {
        concat!(" UNION ALL ", changes!(), "h.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot)))")
    };
}
macro_rules! late_fences {
    () => {
        concat!(fences!(), "f.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot)))")
    };
}

/// Whether something has become visible in this table since the snapshot `$1`.
macro_rules! news {
    ($table:literal) => {
        concat!(
            " OR EXISTS (SELECT FROM ",
            $table,
            " h WHERE h.xid >= pg_snapshot_xmax($1::pg_snapshot)) OR EXISTS (SELECT FROM ",
            $table,
            " h WHERE h.xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::pg_snapshot))))"
        )
    };
}

/// Notifies everybody who listens with the text `$2`, if there are news since the snapshot `$1`, or that is NULL. A row: the snapshot of this statement, and whether
/// it has notified.
macro_rules! stir {
    ($news:expr) => {
        concat!(
            "WITH stirred AS MATERIALIZED (SELECT $1 IS NULL",
            $news,
            " AS so) SELECT pg_current_snapshot()::text, so, CASE WHEN so THEN pg_notify('larder.changes', $2) END FROM stirred"
        )
    };
}

macro_rules! queries {
    ($($(#[$doc:meta])* $name:ident($($type:ident),*) = $text:expr;)*) => {
        /// A statement.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Query {
            $($(#[$doc])* $name,)*
        }

        impl Query {
            pub(crate) const COUNT: usize = [$(Self::$name),*].len();

            pub(crate) fn text(self) -> Cow<'static, str> {
                let text = match self {
                    $(Self::$name => $text,)*
                };
                let text = without(text.into(), late!(), "", Protection::SnapshotDifference);
                without(text, late_fences!(), "", Protection::SnapshotDifference)
            }

            /// Of its parameters.
            pub(crate) fn types(self) -> &'static [Type] {
                match self {
                    $(Self::$name => {
                        static TYPES: &[Type] = &[$(Type::$type),*];
                        TYPES
                    })*
                }
            }
        }
    };
}

queries! {
    /// Key, shape.
    GetPrimary(INT8, INT8) = get!(primary!());
    /// Key, shape, where it leads.
    GetHinted(INT8, INT8, INT8) = get!(hinted!());
    /// Key, shape.
    GetCold(INT8, INT8) = get!(cold!());
    /// Key, shape. Whether notes count is not a parameter: with one, PostgreSQL would make a plan anew for each lookup.
    LookupPrimary(INT8, INT8) = lookup!(primary!(), "false", object!());
    /// Key, shape, where it leads.
    LookupHinted(INT8, INT8, INT8) = lookup!(hinted!(), "false", object!());
    /// Key, shape.
    LookupCold(INT8, INT8) = lookup!(cold!(), "false", object!());
    /// The same three, where notes count.
    LookupPrimaryOrNote(INT8, INT8) = lookup!(primary!(), noted!("$1"), object!());
    LookupHintedOrNote(INT8, INT8, INT8) = lookup!(hinted!(), noted!("$1"), object!());
    LookupColdOrNote(INT8, INT8) = lookup!(cold!(), noted!("$1"), object!());
    /// The same six for a node that keeps objects in its own memory.
    NearPrimary(INT8, INT8) = lookup!(primary!(), "false", near!());
    NearHinted(INT8, INT8, INT8) = lookup!(hinted!(), "false", near!());
    NearCold(INT8, INT8) = lookup!(cold!(), "false", near!());
    NearPrimaryOrNote(INT8, INT8) = lookup!(primary!(), noted!("$1"), near!());
    NearHintedOrNote(INT8, INT8, INT8) = lookup!(hinted!(), noted!("$1"), near!());
    NearColdOrNote(INT8, INT8) = lookup!(cold!(), noted!("$1"), near!());
    /// Keys, for each whether it is primary, shape. A row for each key, in their order, all of one snapshot. This node's hints are not asked: a wrong
    /// one would cost a second statement. As with one key, what counts is no parameter; and as it stands in a query of its own, the planner cannot know how
    /// many keys there are, and takes no plan for just so many to be cheaper.
    GetMany(INT8_ARRAY, BOOL_ARRAY, INT8) = many!("o.expires", "false", object!());
    /// The same, where expired objects count that are kept, and where notes do as well.
    LookupMany(INT8_ARRAY, BOOL_ARRAY, INT8) = many!("o.until", "false", object!());
    LookupManyOrNote(INT8_ARRAY, BOOL_ARRAY, INT8) = many!("o.until", noted!("a.mark"), object!());
    /// The last two for a node that keeps objects in its own memory.
    NearMany(INT8_ARRAY, BOOL_ARRAY, INT8) = many!("o.until", "false", near!());
    NearManyOrNote(INT8_ARRAY, BOOL_ARRAY, INT8) = many!("o.until", noted!("a.mark"), near!());
    Ticket() = "SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    Register() = "SELECT epoch, generation, snapshot FROM larder.register()";
    /// Cache, shape, whether its objects are kept elsewhere, the names of its indexes.
    RegisterCache(TEXT, INT8, BOOL, TEXT_ARRAY) = "SELECT epoch, generation, snapshot FROM larder.register_cache($1, $2, $3, $4)";
    /// Primary key, shape, last-use age in ms.
    Touch(INT8, INT8, INT8) = "UPDATE larder.objects SET idle = now() + $3 * interval '1 ms' \
        WHERE mark = $1 AND shape = $2 AND idle > now() AND expires > now()";
    /// Primary keys, shape, last-use age in ms. A row that somebody else writes at this moment is not waited for: most likely it is touched there.
    TouchMany(INT8_ARRAY, INT8, INT8) = "UPDATE larder.objects o SET idle = now() + $3 * interval '1 ms' FROM (\
        SELECT t.mark, t.shape FROM larder.objects t WHERE t.mark = ANY ($1) AND t.shape = $2 AND t.idle > now() AND t.expires > now() \
        FOR UPDATE SKIP LOCKED) t WHERE o.mark = t.mark AND o.shape = t.shape";
    /// As `larder.store` has them.
    Store(CHAR, INT8, INT8_ARRAY, INT8, BYTEA, INT8, INT8, INT8, INT8, INT4, TEXT) =
        "SELECT larder.store($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::pg_snapshot)";
    /// As `larder.absent` has them.
    Absent(INT8, INT8, BOOL, INT8, INT8, INT8, INT4, TEXT) =
        "SELECT outcome, at FROM larder.absent($1, $2, $3, $4, $5, $6, $7, $8::pg_snapshot)";
    /// Key, the kind of fence.
    ForgetOne(INT8, CHAR) = "WITH fenced AS (INSERT INTO larder.fences (mark, kind) VALUES ($1, $2)) \
        SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    /// Keys, the kind of fence.
    Forget(INT8_ARRAY, CHAR) = "WITH fenced AS (INSERT INTO larder.fences (mark, kind) SELECT m, $2 FROM unnest($1) m) \
        SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    /// Keys; for each its floor or NULL; for each whether it is primary. A floor is one of an object: through a secondary key, of the object there.
    ForgetBelow(INT8_ARRAY, INT8_ARRAY, BOOL_ARRAY) = "WITH asked AS MATERIALIZED (\
        SELECT * FROM unnest($1, $2, $3) q(mark, floor, is_primary)), \
        fenced AS (INSERT INTO larder.fences (mark, floor, until) \
        SELECT q.mark, CASE WHEN q.is_primary THEN q.floor END, CASE WHEN q.is_primary AND q.floor IS NOT NULL THEN now() + interval '1 minute' END FROM asked q \
        UNION ALL SELECT o.mark, q.floor, now() + interval '1 minute' FROM asked q JOIN larder.keys k ON k.mark = q.mark \
        JOIN larder.objects o ON o.mark = k.leads_to AND q.mark = ANY (o.marks) WHERE NOT q.is_primary AND q.floor IS NOT NULL) \
        SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    /// The cache.
    Truncate(INT8) = "WITH fenced AS (INSERT INTO larder.fences (mark, kind, until, seen) \
        VALUES ($1, 't', now() + interval '1 minute', pg_current_snapshot())) \
        SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    /// Key, token, life in ms.
    Lease(INT8, BYTEA, INT8) = "INSERT INTO larder.leases AS l (mark, token, until) VALUES ($1, $2, now() + $3 * interval '1 ms') \
        ON CONFLICT (mark) DO UPDATE SET token = excluded.token, until = excluded.until WHERE l.until <= now() RETURNING true";
    /// Key, token.
    Release(INT8, BYTEA) = "DELETE FROM larder.leases WHERE mark = $1 AND token = $2";
    /// Key, shape, where it leads, the bytes that could not be read.
    Discard(INT8, INT8, INT8, BYTEA) = "DELETE FROM larder.objects o WHERE o.shape = $2 AND o.payload = $4 \
        AND o.mark IN ($1, $3, (SELECT k.leads_to FROM larder.keys k WHERE k.mark = $1))";
    /// Keys and the cache, epoch, generation, snapshot: whether nothing has touched them since.
    Untouched(INT8_ARRAY, INT8, INT4, TEXT) = "SELECT c.epoch = $2 AND c.oldest <= $3 AND NOT EXISTS (SELECT FROM larder.fences f \
        WHERE f.mark = ANY ($1) AND f.xid >= pg_snapshot_xmin($4::pg_snapshot) AND NOT pg_visible_in_snapshot(f.xid, $4::pg_snapshot)) \
        FROM larder.clock c";
    Turn() = "SELECT larder.turn_if_due()";
    /// How many fences.
    Sweep(INT4) = "SELECT fences, objects, done FROM larder.sweep($1)";
    /// First page, how many.
    Prune(INT8, INT4) = "SELECT next, objects, keys, longest FROM larder.prune($1, $2)";
    /// Keys, the kind of fence; cache, and for each key its index and its bytes; origin: forgets, and tells the feed.
    Tell(INT8_ARRAY, CHAR, TEXT, TEXT_ARRAY, BYTEA_ARRAY, INT8) = "WITH fenced AS (\
        INSERT INTO larder.fences (mark, kind) SELECT m, $2 FROM unnest($1) m), \
        told AS (INSERT INTO larder.changes (cache, index, keys, origin) \
        SELECT $3, q.index, array_agg(q.key), $6 FROM unnest($4, $5) q(index, key) GROUP BY q.index) \
        SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    /// Cache, its name, origin.
    TellAll(INT8, TEXT, INT8) = "WITH fenced AS (INSERT INTO larder.fences (mark, kind, until, seen) \
        VALUES ($1, 't', now() + interval '1 minute', pg_current_snapshot())), \
        told AS (INSERT INTO larder.changes (cache, origin) VALUES ($2, $3)) \
        SELECT c.epoch, c.generation, pg_current_snapshot()::text FROM larder.clock c";
    /// The cache.
    Place(INT8) = "SELECT place FROM larder.places WHERE cache = $1";
    /// The cache, the place.
    SetPlace(INT8, BYTEA) = "INSERT INTO larder.places AS p (cache, place) VALUES ($1, $2) \
        ON CONFLICT (cache) DO UPDATE SET place = excluded.place WHERE p.place <> excluded.place";
    /// The snapshot of the poll before, the names of caches.
    Poll(TEXT, TEXT_ARRAY) = concat!(poll!(), late!());
    /// The same, with every fence that has become visible since.
    PollFences(TEXT, TEXT_ARRAY) = concat!(poll!(), late!(), fences!(), "f.xid >= pg_snapshot_xmax($1::pg_snapshot)", late_fences!());
    /// A snapshot, or NULL; a text. Looks for changes as `Poll` does, of every cache.
    Stir(TEXT, TEXT) = stir!(news!("larder.changes"));
    /// The same, as `PollFences` does.
    StirFences(TEXT, TEXT) = stir!(concat!(news!("larder.changes"), news!("larder.fences")));
    /// Token, life in ms. A row where the token has the lease now that makes a node the waker of the feed. No cache has the empty name. The lease is
    /// looked at first, since whoever is refused would lock its row otherwise. One that would last too long was made before the clock was put back.
    Wake(BYTEA, INT8) = "INSERT INTO larder.leases AS l (mark, token, until) SELECT larder.mark('', 'waker', ''), $1, now() + $2 * interval '1 ms' \
        WHERE NOT EXISTS (SELECT FROM larder.leases o WHERE o.mark = larder.mark('', 'waker', '') AND o.token <> $1 \
        AND o.until > now() AND o.until <= now() + $2 * interval '2 ms') \
        ON CONFLICT (mark) DO UPDATE SET token = excluded.token, until = excluded.until \
        WHERE l.token = excluded.token OR l.until <= now() OR l.until > now() + $2 * interval '2 ms' RETURNING true";
    /// A text. Notifies everybody who listens.
    Notify(TEXT) = "SELECT pg_notify('larder.changes', $1)";
    /// How many changes.
    Trim(INT4) = "SELECT larder.trim($1)";
    Standby() = "SELECT pg_is_in_recovery()";
    /// The rights that larder needs to its tables. One row for each that is missing. The catalogue is asked, because names cannot be looked up without
    /// the right to use the schema.
    Missing(TEXT) = "SELECT r || ' on larder.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, \
        unnest(string_to_array($1, ', ')) r WHERE n.nspname = 'larder' AND c.relkind = 'r' AND c.relname NOT LIKE 'larder-bench-%' AND c.relname <> 'kept' \
        AND NOT has_table_privilege(c.oid, r) \
        UNION ALL SELECT 'EXECUTE on larder.' || p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
        WHERE n.nspname = 'larder' AND NOT has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1";
    /// Key. For an operator: whether something leads from the key to another one; whether a load has found nothing under it; and the objects that it
    /// leads to, in every shape, or one row without an object. Beside each whether a get serves it, whether its ages are over, how long it lasts in ms,
    /// when its max age is over in ms since 1970, which kinds of fences forget it, and which of its keys were deleted.
    Inspect(INT8) = concat!(
        "SELECT coalesce(k.leads_to <> $1, false), ",
        noted!("$1"),
        ", o.shape, o.mark, o.payload, $1 = ANY (o.marks) AND ",
        served!("$1"),
        ", o.expires <= now(), o.idle <= now(), \
         (extract(epoch FROM nullif(least(o.expires, o.idle), 'infinity') - now()) * 1000)::float8, \
         (extract(epoch FROM nullif(o.expires, 'infinity')) * 1000)::float8, \
         ARRAY(SELECT DISTINCT f.kind::text FROM larder.fences f WHERE ",
        unseen!("NULL"),
        "), coalesce(o.gone, '{}') || ARRAY(SELECT f.mark FROM larder.fences f WHERE ",
        unseen!("f.mark"),
        " AND f.kind = 'd') FROM (SELECT) one LEFT JOIN larder.keys k ON k.mark = $1 \
         LEFT JOIN larder.objects o ON o.mark IN ($1, k.leads_to) ORDER BY o.shape"
    );
    /// Keys. For an operator: how many of them lead to an object that is neither over nor forgotten.
    Leading(INT8_ARRAY) = concat!(
        "SELECT count(*) FROM unnest($1) q(mark) WHERE EXISTS (SELECT FROM larder.objects o \
         WHERE o.mark IN (q.mark, (SELECT k.leads_to FROM larder.keys k WHERE k.mark = q.mark)) AND q.mark = ANY (o.marks) \
         AND o.expires > now() AND o.idle > now() AND NOT EXISTS (SELECT FROM larder.fences f WHERE ",
        unseen!("NULL"),
        "))"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that is not found would stay in the statement when its protection is off.
    #[test]
    fn what_a_protection_takes_out_of_a_statement_is_there() {
        assert!(Query::Poll.text().ends_with(late!()));
    }
}
