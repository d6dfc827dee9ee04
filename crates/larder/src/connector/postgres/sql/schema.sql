-- What larder keeps in a PostgreSQL database, version 1. Can be run again: it changes nothing that is there already.
--
-- Everything but this text is in the schema `larder`. The tables are UNLOGGED: they cost no WAL, and are empty after a crash and on a
-- promoted standby. An empty cache is right, and `larder.clock` then has another epoch, so that no load from before is stored.
--
-- A *mark* is 64 bits that stand for a key of an index of a cache: see larder.mark. Two keys that share a mark are forgotten together; what is
-- served is decided by the whole key, in the payload.

-- A schema that is there needs no right to make one.
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'larder') THEN
    CREATE SCHEMA larder;
  END IF;
END $$;

-- One row. A ticket is the epoch, the generation and the snapshot of the statement that took it.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.clock (
  one        bool        PRIMARY KEY DEFAULT true CHECK (one),
  epoch      int8        NOT NULL,                -- another one after a crash, a promotion, a restore
  home       text        NOT NULL,                -- where the row was written: a dump brings it along, and must not be believed elsewhere
  generation int4        NOT NULL DEFAULT 1,      -- of the tickets that are taken now
  oldest     int4        NOT NULL DEFAULT 1,      -- fills with tickets of older generations are refused
  swept      int4        NOT NULL DEFAULT 0,      -- oldest - 1 once the fences that no accepted ticket needs are gone
  began      pg_snapshot NOT NULL,                -- taken when the generation began
  previous   pg_snapshot NOT NULL,                -- and when the one before it began: every accepted ticket is newer
  turned     timestamptz NOT NULL DEFAULT now(),
  trimmed    pg_snapshot NOT NULL);               -- changes that it sees may be gone

-- What was touched, by which transaction. Only appended to: nobody who writes here waits for anybody, and nothing has to be looked up.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.fences (
  mark  int8        NOT NULL,
  xid   xid8        NOT NULL DEFAULT pg_current_xact_id(),
  kind  "char"      NOT NULL DEFAULT 'i',         -- i: every object that lists the key is forgotten. d: just the key. t: the whole cache.
                                                  -- v: fills are refused, and lower versions of the object forgotten: of a set that was outdated.
                                                  -- n: the object is forgotten in the memories of nodes only: a fill has replaced it. b: ballast
  floor int8,                                     -- i: the lowest version that may be stored, until then. v: the version of the set
  until timestamptz,                              -- is not swept before
  seen  pg_snapshot)                              -- t: floors that it sees are forgotten
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off);
CREATE INDEX IF NOT EXISTS fences_mark ON larder.fences (mark, xid);
-- For nodes that keep objects of this database in their own memory: they ask what was touched since they last asked.
CREATE INDEX IF NOT EXISTS fences_xid ON larder.fences (xid);

-- The object of a primary key, one row for each shape of its bytes.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.objects (
  mark    int8        NOT NULL,                   -- of the primary key
  shape   int8        NOT NULL,                   -- fingerprint of the bytes: releases side by side have different ones
  writer  xid8        NOT NULL,                   -- the transaction that stored it; its own fences do not forget it
  expires timestamptz NOT NULL,                   -- by max age
  idle    timestamptz NOT NULL,                   -- by last-use age
  until   timestamptz NOT NULL,                   -- may be removed from then on: expires, and what expired objects are kept for
  version int8,
  seen    pg_snapshot NOT NULL,                   -- its ticket
  marks   int8[]      NOT NULL,                   -- the whole cache, the primary key, the secondary keys; and those that it has in other shapes
  gone    int8[],                                 -- those of its keys that were deleted, once the fence is gone that said so
  payload bytea       NOT NULL,
  PRIMARY KEY (mark, shape))
  WITH (fillfactor = 90, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE larder.objects ALTER payload SET STORAGE EXTERNAL;

-- Where a secondary key leads. A hint: the object says which keys it has. Its unique rows put two fills that claim one key in order.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.keys (
  mark       int8 PRIMARY KEY,
  leads_to   int8 NOT NULL,                       -- mark of a primary key
  before     int8,                                -- where it led before the last change
  generation int4 NOT NULL)                       -- in which it was last found right
  WITH (fillfactor = 90);

-- Keys under which a load has found nothing.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.notes (
  mark  int8        PRIMARY KEY,
  cache int8        NOT NULL,
  until timestamptz NOT NULL,
  seen  pg_snapshot NOT NULL)                     -- the ticket of the load
  WITH (fillfactor = 90);

-- Who loads what is missing under a key.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.leases (
  mark  int8        PRIMARY KEY,
  token bytea       NOT NULL,
  until timestamptz NOT NULL)
  WITH (fillfactor = 90);

-- Up to where the feed of another database was applied to a cache here. Emptied with everything else, and never without it.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.places (
  cache int8  PRIMARY KEY,                        -- mark of the whole cache
  place bytea NOT NULL)
  WITH (fillfactor = 50);

-- The feed: what was touched, for caches in other places. Logged, so that a change is told if and only if its transaction commits.
CREATE TABLE IF NOT EXISTS larder.changes (
  xid   xid8 NOT NULL DEFAULT pg_current_xact_id(),
  cache text NOT NULL,
  index text,
  keys  bytea[],                                  -- NULL: everything in the cache
  origin int8)                                    -- the cache of a node that has applied it itself; NULL: somebody else
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off);
CREATE INDEX IF NOT EXISTS changes_xid ON larder.changes (xid);

-- Snapshots of the last minutes: what one of them sees is at least as old as it is.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.moments (
  taken    timestamptz NOT NULL,
  snapshot pg_snapshot NOT NULL,
  alone    bool        NOT NULL DEFAULT false);   -- left by a writer, where no node was running

-- The transactions that were prepared when the first node found no clock, and one row that says that they were looked for. They survive a crash, and
-- their fences do not.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.prepared (
  gid      text        NOT NULL,
  prepared timestamptz NOT NULL,
  PRIMARY KEY (gid, prepared));

-- The releases of each cache that have connected, for people who look into caches without entry types. No operation of a service reads it.
CREATE UNLOGGED TABLE IF NOT EXISTS larder.caches (
  cache    text        NOT NULL,
  shape    int8        NOT NULL,                  -- as in larder.objects
  followed bool        NOT NULL,                  -- the objects are in the memory of each node, which follows the feed
  mark     int8        NOT NULL,                  -- of the whole cache
  indexes  text[]      NOT NULL,                  -- their names, the primary index first
  seen     timestamptz NOT NULL DEFAULT now(),    -- when a node of the release has connected, to the hour
  PRIMARY KEY (cache, shape, followed));

-- The caches that keep objects in this database, or have done so. Logged, as triggers are: while a cache stands here, no trigger may tell of it to the
-- feed only. If no service keeps it here any more, a person may delete its row, and those in `caches` that are not followed.
CREATE TABLE IF NOT EXISTS larder.kept (
  cache text PRIMARY KEY);
INSERT INTO larder.kept (cache) SELECT DISTINCT c.cache FROM larder.caches c WHERE NOT c.followed ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION larder.version() RETURNS int4 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1';

-- The first eight bytes of the SHA-256 of some bytes.
CREATE OR REPLACE FUNCTION larder.hashed(bytes bytea) RETURNS int8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ('x' || encode(substring(sha256(bytes) FOR 8), 'hex'))::bit(64)::int8 $$;

-- What all keys of an index are hashed after: two netstrings.
CREATE OR REPLACE FUNCTION larder.hashed_after(cache text, index text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT convert_to(format('%s:%s,%s:%s,', octet_length(cache), cache, octet_length(index), index), 'UTF8') $$;

-- The mark of a key. The whole cache is the empty key of the empty index.
-- STABLE, although it never changes: convert_to is no more than that, and PostgreSQL puts a function into the query that calls it only if the
-- function promises no more than its body does. Otherwise it parses and plans the body for each call.
CREATE OR REPLACE FUNCTION larder.mark(cache text, index text, key bytea) RETURNS int8 LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT larder.hashed(larder.hashed_after(cache, index) || key) $$;

-- Appends the fences of keys, and the change for the feed. Of more than 10,000 keys it says the whole cache: those who follow are sooner done with that.
CREATE OR REPLACE FUNCTION larder.touch(cache text, index text, keys bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  begun bytea;
BEGIN
  IF cardinality(keys) > 10000 THEN
    PERFORM larder.truncate(cache);
  ELSIF cardinality(keys) > 0 THEN
    begun := larder.hashed_after(cache, index);
    INSERT INTO larder.fences (mark) SELECT larder.hashed(begun || k) FROM unnest(keys) k;
    INSERT INTO larder.changes (cache, index, keys) VALUES (cache, index, keys);
    IF random() < 0.001 THEN
      PERFORM larder.try_to_housekeep();
    END IF;
  END IF;
END $$;

-- Appends the change only. For triggers of caches that keep no objects in this database: see larder.expect_elsewhere.
CREATE OR REPLACE FUNCTION larder.tell(cache text, index text, keys bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF cardinality(keys) > 10000 THEN
    PERFORM larder.truncate(cache);
  ELSIF cardinality(keys) > 0 THEN
    INSERT INTO larder.changes (cache, index, keys) VALUES (cache, index, keys);
    IF random() < 0.001 THEN
      PERFORM larder.try_to_housekeep();
    END IF;
  END IF;
END $$;

-- One part of a key that has several: a netstring. STABLE as larder.mark is.
CREATE OR REPLACE FUNCTION larder.part(bytes bytea) RETURNS bytea LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
  SELECT convert_to(octet_length(bytes) || ':', 'UTF8') || bytes || '\x2c'::bytea $$;

-- For any client, in any transaction: forgets every object that one of the keys leads to, when the transaction commits, and not at all when it does
-- not. Waits for nobody, and nobody waits for it. A key that is NULL leads to nothing.
--
-- One key is what most calls have. All that it needs stands here: another function to call costs as much as one of the rows.
CREATE OR REPLACE FUNCTION larder.invalidate(cache text, index text, VARIADIC keys text[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  -- NULL also where the only element has another place than the first.
  bytes bytea := convert_to(keys[1], 'UTF8');
BEGIN
  IF bytes IS NOT NULL AND cardinality(keys) = 1 THEN
    INSERT INTO larder.fences (mark) VALUES (larder.mark(cache, index, bytes));
    INSERT INTO larder.changes (cache, index, keys) VALUES (cache, index, ARRAY[bytes]);
    IF random() < 0.001 THEN
      PERFORM larder.try_to_housekeep();
    END IF;
    RETURN;
  END IF;
  PERFORM larder.touch(cache, index, ARRAY(SELECT convert_to(k, 'UTF8') FROM unnest(keys) k WHERE k IS NOT NULL));
END $$;

-- The same for keys that are bytes, as those of several parts are.
CREATE OR REPLACE FUNCTION larder.invalidate_bytes(cache text, index text, VARIADIC keys bytea[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM larder.touch(cache, index, ARRAY(SELECT k FROM unnest(keys) k WHERE k IS NOT NULL));
END $$;

-- Forgets everything in one cache, when the transaction commits.
CREATE OR REPLACE FUNCTION larder.truncate(cache text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO larder.fences (mark, kind, until, seen)
    VALUES (larder.mark(cache, '', ''), 't', now() + interval '1 minute', pg_current_snapshot());
  INSERT INTO larder.changes (cache) VALUES (cache);
  IF random() < 0.001 THEN
    PERFORM larder.try_to_housekeep();
  END IF;
END $$;

-- What no other place has: which cluster, database and table this is.
CREATE OR REPLACE FUNCTION larder.home() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
    (SELECT oid FROM pg_database WHERE datname = current_database()), 'larder.clock'::regclass::oid) $$;

-- Makes the clock where it is missing, or came from another place together with everything else here. Answers NULL as long as a transaction has
-- not ended that was prepared before that: its fences may be lost, and a load of what it changes would never be forgotten.
CREATE OR REPLACE FUNCTION larder.register(OUT epoch int8, OUT generation int4, OUT snapshot text) LANGUAGE plpgsql AS $$
DECLARE
  here text := larder.home();
BEGIN
  IF NOT EXISTS (SELECT FROM larder.clock c WHERE c.home = here) THEN
    PERFORM pg_advisory_xact_lock('larder.clock'::regclass::oid::int4, 0);
    IF NOT EXISTS (SELECT FROM larder.clock c WHERE c.home = here) THEN
      IF EXISTS (SELECT FROM larder.clock) THEN
        TRUNCATE larder.clock, larder.fences, larder.objects, larder.keys, larder.notes, larder.leases, larder.places,
          larder.changes, larder.moments, larder.prepared, larder.caches;
      END IF;
      IF NOT EXISTS (SELECT FROM larder.prepared) THEN
        INSERT INTO larder.prepared (gid, prepared)
          SELECT '', now() UNION ALL SELECT x.gid, x.prepared FROM pg_prepared_xacts x WHERE x.database = current_database();
      END IF;
      IF EXISTS (SELECT FROM larder.prepared p JOIN pg_prepared_xacts x USING (gid, prepared) WHERE x.database = current_database()) THEN
        RETURN;
      END IF;
      INSERT INTO larder.clock (epoch, home, began, previous, trimmed)
        SELECT floor(random() * 4503599627370495)::int8 + 1, here, s, s, s FROM pg_current_snapshot() s;
      -- No plan that is made while there is next to nothing here can hurt later.
      INSERT INTO larder.fences (mark, kind) SELECT ((random() - 0.5) * 1.8e19)::int8, 'b' FROM generate_series(1, 10000);
    END IF;
  END IF;
  SELECT c.epoch, c.generation, pg_current_snapshot()::text INTO epoch, generation, snapshot FROM larder.clock c;
END $$;

-- Whether a cache keeps objects in this database, or has done so.
CREATE OR REPLACE FUNCTION larder.is_kept(p_cache text) RETURNS bool
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN EXISTS (SELECT FROM larder.kept k WHERE k.cache = p_cache) OR EXISTS (SELECT FROM larder.caches c WHERE c.cache = p_cache AND NOT c.followed);
END $$;

-- Whether a trigger tells changes of a cache to the feed only. The catalogue is asked what is there, and no table what should be: a dump may
-- bring the triggers along and nothing else.
CREATE OR REPLACE FUNCTION larder.is_told_by_feed_only(p_cache text) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE NOT t.tgisinternal AND n.nspname = 'larder' AND position('larder.tell(' IN p.prosrc) > 0
      AND substring(t.tgargs FOR nullif(position('\x00'::bytea IN t.tgargs), 0) - 1) = convert_to(p_cache, 'UTF8'));
END $$;

-- Two callers put each other in order by one lock, which `larder feed apply` holds while it changes triggers. Each of them first takes the lock, and
-- then looks for what the other one leaves behind. So whoever comes second finds it, and raises an error.
--
-- The first: objects of a cache are kept in this database from now on. An error: a trigger tells of the cache to the feed only, so nothing would forget
-- these objects. The lock is taken once in the life of a cache. After that, its row keeps such triggers from being made.
CREATE OR REPLACE FUNCTION larder.keep_here(p_cache text) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM larder.kept k WHERE k.cache = p_cache) THEN
    PERFORM larder.need_new_snapshots('larder.keep_here');
    PERFORM pg_advisory_xact_lock_shared(1818325618);
    INSERT INTO larder.kept (cache) VALUES (p_cache) ON CONFLICT DO NOTHING;
  END IF;
  IF larder.is_told_by_feed_only(p_cache) THEN
    RAISE EXCEPTION 'triggers tell changes of the cache % to the feed only, and it is to keep objects in this database: run `larder feed apply` with the configuration that says so', p_cache
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END $$;

-- The second: from the end of this transaction on, triggers tell of a cache to the feed only. An error: objects of it are kept in this database.
CREATE OR REPLACE FUNCTION larder.expect_elsewhere(p_cache text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM larder.need_new_snapshots('larder.expect_elsewhere');
  PERFORM pg_advisory_xact_lock(1818325618);
  IF larder.is_kept(p_cache) THEN
    RAISE EXCEPTION 'a service has kept objects of the cache % in this database since this was looked up: run `larder feed apply` once more', p_cache
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END $$;

-- Answers as larder.register does, and notes a release of a cache. Of the releases of a cache, the sixteen that have connected last stay.
CREATE OR REPLACE FUNCTION larder.register_cache(p_cache text, p_shape int8, p_followed bool, p_indexes text[],
  OUT epoch int8, OUT generation int4, OUT snapshot text) LANGUAGE plpgsql AS $$
BEGIN
  -- First: the snapshot becomes a ticket, and a snapshot does not say that its own transaction is still running.
  SELECT r.epoch, r.generation, r.snapshot INTO epoch, generation, snapshot FROM larder.register() r;
  IF epoch IS NULL THEN
    RETURN;
  END IF;
  IF NOT p_followed THEN
    PERFORM larder.keep_here(p_cache);
  END IF;
  BEGIN
    IF EXISTS (SELECT FROM larder.caches c WHERE c.cache = p_cache AND c.shape = p_shape AND c.followed = p_followed AND c.indexes = p_indexes
        AND c.seen > now() - interval '1 hour') THEN
      RETURN;
    END IF;
    INSERT INTO larder.caches AS c (cache, shape, followed, mark, indexes)
      VALUES (p_cache, p_shape, p_followed, larder.mark(p_cache, '', ''), p_indexes)
      ON CONFLICT (cache, shape, followed) DO UPDATE SET indexes = excluded.indexes, seen = excluded.seen
        WHERE c.seen < excluded.seen - interval '1 hour' OR c.indexes <> excluded.indexes;
    DELETE FROM larder.caches c WHERE c.ctid = ANY (ARRAY(
      SELECT o.ctid FROM larder.caches o WHERE o.cache = p_cache ORDER BY o.seen DESC OFFSET 16 FOR UPDATE SKIP LOCKED));
  EXCEPTION WHEN insufficient_privilege THEN
    -- Services work without these rows.
    NULL;
  END;
END $$;

-- Raises an error unless each statement of this transaction has a snapshot of its own. Who takes a lock and looks then must see what others have
-- committed until they gave the lock back.
CREATE OR REPLACE FUNCTION larder.need_new_snapshots(caller text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION '% needs the isolation level read committed, and this transaction has %', caller, current_setting('transaction_isolation')
      USING HINT = 'set default_transaction_isolation of the role that larder uses to read committed';
  END IF;
END $$;

-- Whether a fence forgets an object, for a reader that asks by the key `asked`; NULL: by whatever key. A deleted key counts only for that key. Called
-- for the few fences that the index finds: with a function, a reader has next to nothing to prepare for them.
CREATE OR REPLACE FUNCTION larder.forgets(kind "char", fence int8, xid xid8, floor int8,
  asked int8, object int8, writer xid8, seen pg_snapshot, version int8) RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF kind IN ('i', 't') OR kind = 'd' AND fence = asked OR kind = 'v' AND fence = object AND floor > version THEN
    RETURN xid <> writer AND NOT pg_visible_in_snapshot(xid, seen); -- protection: readcheck
  END IF;
  RETURN false;
END $$;

-- Whether a version may not be stored: a higher one was demanded, or is there.
CREATE OR REPLACE FUNCTION larder.is_outdated(cache int8, object int8, p_version int8) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM larder.fences f WHERE f.mark = object AND f.floor > p_version AND f.until > now()
      AND NOT EXISTS (SELECT FROM larder.fences t WHERE t.mark = cache AND t.kind = 't' AND pg_visible_in_snapshot(f.xid, t.seen)))
    OR EXISTS (SELECT FROM larder.objects o WHERE o.mark = object AND o.version > p_version AND o.until > now() AND o.idle > now()
      AND NOT EXISTS (SELECT FROM larder.fences f WHERE f.mark = ANY (o.marks) AND f.xid >= pg_snapshot_xmin(o.seen) AND f.kind <> 'v'
        AND larder.forgets(f.kind, f.mark, f.xid, f.floor, NULL, o.mark, o.writer, o.seen, o.version)));
END $$;

-- Whether other bytes are served under a primary key, which a store is about to replace.
CREATE OR REPLACE FUNCTION larder.would_replace(p_object int8, p_shape int8, p_payload bytea) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM larder.objects o WHERE o.mark = p_object AND o.shape = p_shape AND o.payload <> p_payload
    AND o.expires > now() AND o.idle > now() AND NOT EXISTS (SELECT FROM larder.fences f WHERE f.mark = ANY (o.marks) AND f.xid >= pg_snapshot_xmin(o.seen)
      AND larder.forgets(f.kind, f.mark, f.xid, f.floor, NULL, o.mark, o.writer, o.seen, o.version)));
END $$;

-- Stores an object, unless its ticket was overtaken or a higher version is there.
--
-- p_mode: f a fill. n a fill of a cache that nodes keep in their own memory: they must hear of an object that it replaces. p a put, which fences the object's
-- keys whatever becomes of it. s a set that is sent once more, as a put, if it is overtaken: it fences nothing then
-- p_marks: the whole cache, the primary key, the secondary keys in the order of their marks. Ages in ms; NULL: none.
-- Answers: the outcome (y stored, r stored by a fill that has replaced something, o overtaken, v a higher version, l there is no clock); the epoch, the generation and the snapshot in which that was
-- decided; and how many objects lost a key.
--
-- What is rarely needed is a statement of its own, behind an IF: a statement that finds nothing costs as much as one that does. One text array is
-- answered, since a row of several columns costs more than some of these statements.
CREATE OR REPLACE FUNCTION larder.store(p_mode "char", p_shape int8, p_marks int8[], p_version int8, p_payload bytea,
  p_age int8, p_idle int8, p_kept int8, p_epoch int8, p_generation int4, p_ticket pg_snapshot)
  RETURNS text[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  primary_mark int8 := p_marks[2];
  outcome "char" := 'o';
  c record;
  others int8[];
  key record;
  taken int8[];
  holders int8[];
  displaced int4 := 0;
  ends timestamptz := coalesce(now() + p_age * interval '1 ms', 'infinity');
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    PERFORM larder.need_new_snapshots('larder.store');
  END IF;
  -- Until this transaction has ended, no fence is swept that it may have overlooked. Where that is being waited for already, it is too late. Then:
  -- one store of an object at a time. So a store sees what the others have stored, and the rows of the object's shapes know each other.
  IF pg_try_advisory_xact_lock_shared('larder.clock'::regclass::oid::int4, p_generation) THEN
    IF pg_advisory_xact_lock(primary_mark) IS NOT NULL THEN
      outcome := 'y';
    END IF;
  END IF;
  SELECT k.epoch, k.oldest, k.generation, pg_current_snapshot()::text AS snapshot,
      EXISTS (SELECT FROM larder.fences f WHERE f.mark = ANY (p_marks) AND f.xid >= pg_snapshot_xmin(p_ticket)
        AND NOT pg_visible_in_snapshot(f.xid, p_ticket)) AS overtaken,
      EXISTS (SELECT FROM larder.objects o WHERE o.mark = primary_mark AND o.shape <> p_shape) AS shaped,
      EXISTS (SELECT FROM larder.notes n WHERE n.mark = ANY (p_marks)) AS noted
    INTO c FROM larder.clock k;
  IF NOT FOUND THEN
    RETURN ARRAY['l'];
  END IF;
  IF c.overtaken
    OR c.epoch <> p_epoch                          -- protection: epoch
    OR p_generation < c.oldest                     -- protection: generations
  THEN
    outcome := 'o';
  ELSIF outcome = 'y' AND p_version IS NOT NULL AND larder.is_outdated(p_marks[1], primary_mark, p_version) THEN
    outcome := 'v';
  END IF;
  IF p_mode = 'p' OR p_mode = 's' AND outcome <> 'o' THEN
    IF outcome = 'v' THEN
      -- Forgets nothing that is newer than this version, and keeps older loads out all the same.
      INSERT INTO larder.fences (mark, kind, floor)
        SELECT m, 'v', CASE WHEN m = primary_mark THEN p_version END FROM unnest(p_marks[2:]) m;
    ELSE
      INSERT INTO larder.fences (mark) SELECT unnest(p_marks[2:]);
    END IF;
  END IF;
  IF outcome <> 'y' THEN
    RETURN ARRAY[outcome::text, c.epoch::text, c.generation::text, c.snapshot];
  END IF;

  IF c.shaped THEN
    -- A release may know keys of the object that another one does not. Whoever forgets it through such a key forgets it in all shapes.
    SELECT array_agg(DISTINCT m) INTO others FROM larder.objects o, unnest(o.marks) m
      WHERE o.mark = primary_mark AND o.shape <> p_shape AND m <> ALL (p_marks);
    UPDATE larder.objects o SET marks = o.marks || ARRAY(SELECT m FROM unnest(p_marks) m WHERE m <> ALL (o.marks))
      WHERE o.mark = primary_mark AND o.shape <> p_shape AND NOT p_marks <@ o.marks;
    IF FOUND AND p_mode = 'n' THEN
      outcome := 'r';
    END IF;
  END IF;
  IF p_mode = 'n' THEN
    IF outcome = 'r' OR larder.would_replace(primary_mark, p_shape, p_payload) THEN
      INSERT INTO larder.fences (mark, kind) VALUES (primary_mark, 'n');
      outcome := 'r';
    END IF;
  END IF;
  INSERT INTO larder.objects AS o (mark, shape, writer, expires, idle, until, version, seen, marks, payload)
    VALUES (primary_mark, p_shape, pg_current_xact_id(), ends, coalesce(now() + p_idle * interval '1 ms', 'infinity'),
      ends + coalesce(p_kept, 0) * interval '1 ms', p_version, p_ticket, p_marks || others, p_payload)
    ON CONFLICT (mark, shape) DO UPDATE SET writer = excluded.writer, expires = excluded.expires, idle = excluded.idle, until = excluded.until,
      version = excluded.version, seen = excluded.seen, marks = excluded.marks, gone = NULL, payload = excluded.payload;

  IF cardinality(p_marks) > 2 THEN
    -- Locks the row of each key until this transaction has ended, also where the row is right already and is not changed. A store of another object
    -- that takes the key waits, and then sees what is stored here. In the order of marks, so that two stores do not wait for each other.
    FOR key IN
      INSERT INTO larder.keys AS k (mark, leads_to, generation) SELECT unnest(p_marks[3:]), primary_mark, p_generation
        ON CONFLICT (mark) DO UPDATE SET before = k.leads_to, leads_to = excluded.leads_to, generation = greatest(k.generation, excluded.generation)
          WHERE k.leads_to <> excluded.leads_to OR k.generation < excluded.generation
        RETURNING k.mark, k.before
    LOOP
      IF key.before <> primary_mark THEN
        taken := taken || key.mark;
        holders := holders || key.before;
      END IF;
    END LOOP;
    IF taken IS NOT NULL THEN
      -- In a new snapshot: what the holder of a key has stored is there by now.
      INSERT INTO larder.fences (mark) SELECT DISTINCT o.mark
        FROM unnest(taken, holders) t(mark, holder) JOIN larder.objects o ON o.mark = t.holder WHERE t.mark = ANY (o.marks);
      GET DIAGNOSTICS displaced = ROW_COUNT;
    END IF;
  END IF;
  IF c.noted THEN
    -- There is something now. A note that is being written at this moment is not found; an object that may be served counts more than a note.
    DELETE FROM larder.notes n WHERE n.mark IN (
      SELECT held.mark FROM larder.notes held WHERE held.mark = ANY (p_marks[2:]) ORDER BY held.mark FOR UPDATE SKIP LOCKED);
  END IF;
  RETURN ARRAY[outcome::text, c.epoch::text, c.generation::text, c.snapshot, displaced::text];
END $$;

-- A load has found nothing under a key: ends the object that has the key, if that has expired or is due, and leaves a note.
--
-- p_ahead: how long before its end an object is due. p_age: for how long the note counts; NULL: none is left. Both in ms
-- outcome: y done, o overtaken, or an object has the key and is not due, l there is no clock
CREATE OR REPLACE FUNCTION larder.absent(p_cache int8, p_mark int8, p_primary bool, p_ahead int8, p_age int8,
  p_epoch int8, p_generation int4, p_ticket pg_snapshot, OUT outcome "char", OUT at text) LANGUAGE plpgsql AS $$
DECLARE
  object int8;
  due timestamptz := now() + p_ahead * interval '1 ms';
  c record;
BEGIN
  PERFORM larder.need_new_snapshots('larder.absent');
  IF NOT pg_try_advisory_xact_lock_shared('larder.clock'::regclass::oid::int4, p_generation) THEN
    outcome := 'o';
    RETURN;
  END IF;
  SELECT k.epoch, k.oldest, pg_current_snapshot()::text AS snapshot,
      EXISTS (SELECT FROM larder.fences f WHERE f.mark IN (p_cache, p_mark) AND f.xid >= pg_snapshot_xmin(p_ticket)
        AND NOT pg_visible_in_snapshot(f.xid, p_ticket)) AS overtaken
    INTO c FROM larder.clock k;
  IF NOT FOUND THEN
    outcome := 'l';
    RETURN;
  END IF;
  at := c.snapshot;
  outcome := 'o';
  IF c.overtaken
    OR c.epoch <> p_epoch                          -- protection: epoch
    OR p_generation < c.oldest                     -- protection: generations
  THEN
    RETURN;
  END IF;
  object := CASE WHEN p_primary THEN p_mark ELSE (SELECT k.leads_to FROM larder.keys k WHERE k.mark = p_mark) END;
  IF EXISTS (SELECT FROM larder.objects o WHERE o.mark = object AND p_mark = ANY (o.marks) AND o.expires > due AND o.idle > now()
      AND (o.gone IS NULL OR p_mark <> ALL (o.gone))
      AND NOT EXISTS (SELECT FROM larder.fences f WHERE f.mark = ANY (o.marks) AND f.xid >= pg_snapshot_xmin(o.seen)
        AND larder.forgets(f.kind, f.mark, f.xid, f.floor, p_mark, o.mark, o.writer, o.seen, o.version))) THEN
    RETURN;
  END IF;
  DELETE FROM larder.objects o WHERE o.mark = object AND p_mark = ANY (o.marks) AND o.expires <= due;
  IF p_age IS NOT NULL THEN
    INSERT INTO larder.notes AS n (mark, cache, until, seen) VALUES (p_mark, p_cache, now() + p_age * interval '1 ms', p_ticket)
      ON CONFLICT (mark) DO UPDATE SET cache = excluded.cache, until = excluded.until, seen = excluded.seen;
  END IF;
  outcome := 'y';
END $$;

-- Locks the row of the clock until this transaction has ended, unless it is locked or missing. Who changes the row asks this first, so that a node
-- does not wait for the transaction of an application that keeps house (larder.housekeep_alone).
CREATE OR REPLACE FUNCTION larder.has_clock_row() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM larder.clock FOR NO KEY UPDATE SKIP LOCKED;
  RETURN FOUND;
END $$;

-- Begins a generation, if the fences of the last turn are swept: from its commit on, tickets older than the one before are refused.
CREATE OR REPLACE FUNCTION larder.turn() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  IF NOT larder.has_clock_row() THEN
    RETURN false;
  END IF;
  UPDATE larder.clock SET oldest = generation, generation = generation + 1, previous = began, began = pg_current_snapshot(), turned = now()
    WHERE swept = oldest - 1;
  RETURN FOUND;
END $$;

-- Turns once the generation is a minute old and has ten thousand fences: a quiet cache accepts loads of any length.
CREATE OR REPLACE FUNCTION larder.turn_if_due() RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM larder.clock WHERE swept = oldest - 1 AND turned < now() - interval '1 minute')
    AND (SELECT count(*) FROM (SELECT FROM larder.fences WHERE kind <> 'b' LIMIT 10000) f) = 10000 THEN
    RETURN larder.turn();
  END IF;
  RETURN false;
END $$;

-- Removes up to p_limit fences that no ticket needs any more, and before that whatever they forget. Only one at a time does; waits for nobody.
-- done: nothing is left to sweep, or it has to wait for fills
CREATE OR REPLACE FUNCTION larder.sweep(p_limit int4, OUT fences int4, OUT objects int4, OUT done bool) LANGUAGE plpgsql AS $$
DECLARE
  c record;
  at tid[];
  dead int8[];
  xids xid8[];
  kinds "char"[];
  floors int8[];
  whole int4;
BEGIN
  PERFORM larder.need_new_snapshots('larder.sweep');
  fences := 0;
  objects := 0;
  done := true;
  SELECT k.oldest, k.swept, k.previous INTO c FROM larder.clock k;
  -- Alone, and all fills have ended whose tickets are older than `oldest`; those that come later see that they are.
  IF NOT FOUND OR c.swept = c.oldest - 1
    OR NOT pg_try_advisory_xact_lock('larder.clock'::regclass::oid::int4, c.oldest - 1) -- protection: drain
  THEN
    RETURN;
  END IF;
  -- Visible in `previous`: before every ticket that is accepted.
  SELECT array_agg(f.ctid), array_agg(f.mark), array_agg(f.xid), array_agg(f.kind), array_agg(f.floor) INTO at, dead, xids, kinds, floors FROM (
    SELECT f.ctid, f.mark, f.xid, f.kind, f.floor FROM larder.fences f WHERE f.kind <> 'b' AND (f.until IS NULL OR f.until <= now())
      AND f.xid < pg_snapshot_xmax(c.previous) AND pg_visible_in_snapshot(f.xid, c.previous) -- protection: generations
      LIMIT p_limit FOR UPDATE SKIP LOCKED) f;
  IF at IS NULL THEN
    IF larder.has_clock_row() THEN
      UPDATE larder.clock SET swept = c.oldest - 1;
    END IF;
    RETURN;
  END IF;
  done := false;

  WITH hit AS MATERIALIZED (
    SELECT d.mark AS object, d.mark, d.xid FROM unnest(dead, xids, kinds) d(mark, xid, kind) WHERE d.kind = 'i'
    UNION ALL
    SELECT k.leads_to, d.mark, d.xid FROM unnest(dead, xids, kinds) d(mark, xid, kind) JOIN larder.keys k ON k.mark = d.mark WHERE d.kind = 'i')
  DELETE FROM larder.objects o USING hit h
    WHERE o.mark = h.object AND h.mark = ANY (o.marks) AND h.xid <> o.writer AND NOT pg_visible_in_snapshot(h.xid, o.seen);
  GET DIAGNOSTICS objects = ROW_COUNT;
  DELETE FROM larder.objects o USING unnest(dead, xids, kinds, floors) d(mark, xid, kind, floor)
    WHERE d.kind = 'v' AND o.mark = d.mark AND o.version < d.floor AND NOT pg_visible_in_snapshot(d.xid, o.seen);

  WITH hit AS MATERIALIZED (
    SELECT coalesce(k.leads_to, d.mark) AS object, d.mark, d.xid
      FROM unnest(dead, xids, kinds) d(mark, xid, kind) LEFT JOIN larder.keys k ON k.mark = d.mark WHERE d.kind = 'd'),
  lost AS MATERIALIZED (
    SELECT o.mark, o.shape, array_agg(DISTINCT h.mark) AS gone FROM larder.objects o JOIN hit h ON o.mark = h.object
      WHERE h.mark = ANY (o.marks) AND h.xid <> o.writer AND NOT pg_visible_in_snapshot(h.xid, o.seen) GROUP BY o.mark, o.shape)
  UPDATE larder.objects o SET gone = coalesce(o.gone, '{}') || l.gone FROM lost l WHERE o.mark = l.mark AND o.shape = l.shape;

  -- A whole cache. As long as objects may be left, so is its fence. Each object counts once, however many fences forget it. It is found again by its key, and
  -- not by its place: who touches it meanwhile gives it another place.
  IF 't' = ANY (kinds) THEN
    WITH forgotten AS MATERIALIZED (
      SELECT o.mark, o.shape FROM larder.objects o WHERE EXISTS (SELECT FROM unnest(dead, xids, kinds) d(mark, xid, kind)
        WHERE d.kind = 't' AND o.marks[1] = d.mark AND d.xid <> o.writer AND NOT pg_visible_in_snapshot(d.xid, o.seen)) LIMIT p_limit),
    removed AS (
      DELETE FROM larder.objects o USING forgotten g WHERE o.mark = g.mark AND o.shape = g.shape
        AND EXISTS (SELECT FROM unnest(dead, xids, kinds) d(mark, xid, kind)
          WHERE d.kind = 't' AND o.marks[1] = d.mark AND d.xid <> o.writer AND NOT pg_visible_in_snapshot(d.xid, o.seen))
      RETURNING 1)
    SELECT (SELECT count(*) FROM forgotten), objects + (SELECT count(*) FROM removed) INTO whole, objects;
    IF whole < p_limit THEN
      whole := 0;
    END IF;
  ELSE
    whole := 0;
  END IF;

  DELETE FROM larder.notes n USING unnest(dead, xids) d(mark, xid)
    WHERE (n.mark = d.mark OR n.cache = d.mark) AND NOT pg_visible_in_snapshot(d.xid, n.seen);
  DELETE FROM larder.fences f USING unnest(at, kinds) d(at, kind) WHERE f.ctid = d.at AND (d.kind <> 't' OR whole = 0);
  GET DIAGNOSTICS fences = ROW_COUNT;
END $$;

-- Removes what has ended in some pages of the objects, and the rows of `keys`, `notes` and `leases` that nobody needs, in the same share of theirs.
-- p_page: the first page. next: the page to go on with; NULL: that was all. longest: how many pages there are
CREATE OR REPLACE FUNCTION larder.prune(p_page int8, p_pages int4, OUT next int8, OUT objects int4, OUT keys int4, OUT longest int8) LANGUAGE plpgsql AS $$
DECLARE
  first tid := format('(%s,0)', p_page)::tid;
  past tid := format('(%s,0)', p_page + p_pages)::tid;
BEGIN
  DELETE FROM larder.objects o WHERE o.ctid = ANY (ARRAY(
    SELECT o.ctid FROM larder.objects o WHERE o.ctid >= first AND o.ctid < past AND (o.until <= now() OR o.idle <= now()) FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS objects = ROW_COUNT;
  -- Up to the generation whose fills have all ended: a fill of a later one confirms the row by an update, which is seen here.
  DELETE FROM larder.keys k WHERE k.ctid = ANY (ARRAY(
    SELECT k.ctid FROM larder.keys k, larder.clock c WHERE k.ctid >= first AND k.ctid < past AND k.generation <= c.swept
      AND NOT EXISTS (SELECT FROM larder.objects o WHERE o.mark = k.leads_to AND k.mark = ANY (o.marks)) FOR UPDATE OF k SKIP LOCKED));
  GET DIAGNOSTICS keys = ROW_COUNT;
  DELETE FROM larder.notes n WHERE n.ctid = ANY (ARRAY(
    SELECT n.ctid FROM larder.notes n WHERE n.ctid >= first AND n.ctid < past AND n.until <= now() FOR UPDATE SKIP LOCKED));
  DELETE FROM larder.leases l WHERE l.ctid = ANY (ARRAY(
    SELECT l.ctid FROM larder.leases l WHERE l.ctid >= first AND l.ctid < past AND l.until <= now() FOR UPDATE SKIP LOCKED));
  SELECT max(pg_relation_size(r) / current_setting('block_size')::int8) INTO longest
    FROM unnest(ARRAY['larder.objects', 'larder.keys', 'larder.notes', 'larder.leases']::regclass[]) r;
  IF p_page + p_pages < longest THEN
    next := p_page + p_pages;
  END IF;
END $$;

-- The snapshot of this statement as another session would have it: this transaction is running. pg_current_snapshot leaves its own transaction out.
CREATE OR REPLACE FUNCTION larder.snapshot_of_others() RETURNS pg_snapshot LANGUAGE plpgsql AS $$
DECLARE
  s pg_snapshot := pg_current_snapshot();
  me xid8 := pg_current_xact_id_if_assigned();
BEGIN
  IF me IS NULL OR me >= pg_snapshot_xmax(s) THEN
    RETURN s;
  END IF;
  RETURN format('%s:%s:%s', pg_snapshot_xmin(s), pg_snapshot_xmax(s),
    (SELECT string_agg(x::text, ',' ORDER BY x) FROM (SELECT pg_snapshot_xip(s) UNION SELECT me) r(x)))::pg_snapshot;
END $$;

-- Removes up to p_limit changes that are older than p_age, and leaves a moment each minute. A reader of the feed that was away for longer finds out by
-- `trimmed`. Only one at a time does; waits for nobody. Answers whether more are left.
CREATE OR REPLACE FUNCTION larder.trim_older(p_age interval, p_limit int4, p_alone bool) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
  old pg_snapshot;
  removed int4;
BEGIN
  IF NOT pg_try_advisory_xact_lock('larder.changes'::regclass::oid::int4, 0) THEN
    RETURN false;
  END IF;
  -- By the time of day, and not of the transaction: that may have begun long before its snapshot.
  INSERT INTO larder.moments (taken, snapshot, alone) SELECT clock_timestamp(), larder.snapshot_of_others(), p_alone
    WHERE NOT EXISTS (SELECT FROM larder.moments m WHERE m.taken > clock_timestamp() - interval '1 minute' AND m.alone <= p_alone);
  SELECT m.snapshot INTO old FROM larder.moments m WHERE m.taken <= clock_timestamp() - p_age ORDER BY m.taken DESC LIMIT 1;
  IF old IS NULL OR NOT larder.has_clock_row() THEN
    RETURN false;
  END IF;
  -- In one transaction with the removal: whoever misses a row sees this. It never goes back, or a reader might miss what is gone already.
  UPDATE larder.clock SET trimmed = old WHERE pg_snapshot_xmax(old) > pg_snapshot_xmax(trimmed) OR old::text = trimmed::text;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  DELETE FROM larder.changes h WHERE h.ctid = ANY (ARRAY(
    SELECT h.ctid FROM larder.changes h WHERE h.xid < pg_snapshot_xmax(old) AND pg_visible_in_snapshot(h.xid, old) LIMIT p_limit FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS removed = ROW_COUNT;
  DELETE FROM larder.moments m WHERE m.ctid = ANY (ARRAY(
    SELECT m.ctid FROM larder.moments m WHERE m.taken < clock_timestamp() - 1.5 * p_age FOR UPDATE SKIP LOCKED));
  RETURN removed = p_limit;
END $$;

-- The same of a node: changes are kept for ten minutes.
CREATE OR REPLACE FUNCTION larder.trim(p_limit int4) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
  RETURN larder.trim_older(interval '10 minutes', p_limit, false);
END $$;

-- Removes changes and fences in the transaction of an application, as nodes do with their heartbeats. Otherwise both would grow without end where triggers
-- write and no node runs. It may remove something only if no node has left a moment for twice the time that changes are kept. Answers whether it
-- might. It must not fail or hold up the application, nor a node that comes up meanwhile, however long the application's transaction stays open:
--
--  1. It waits for nobody. It only tries locks, and skips rows that are locked.
--  2. Nobody waits for it. It locks rows of `changes`, `fences` and `moments`, and the row of `clock`. Who else locks these (trim, turn, sweep, another
--     housekeeper) skips them, too. As long as the transaction is open, the nodes remove no fences and no changes, and do everything else. Rows of `objects`,
--     `keys` and `notes` are only read, because a store would wait for them.
--  3. A change goes in the same transaction that raises `trimmed` above it, as with trim. Without a clock nobody follows the feed. A node that
--     comes then makes the clock later than `now_visible` was taken, and so begins with a snapshot that sees every change that goes.
--  4. A fence goes only if every accepted ticket sees it, as with sweep. Fills with older tickets have ended: the lock was free. Later ones are refused: by
--     the lock until this transaction ends, and by `oldest` after that. So all objects that such a fence forgets are there to be found. Sweep
--     removes them. This function lets the fence stay instead. If several fences forget one object, the newest one stays.
--  5. The turn may be of this very transaction. Its `previous` was `began` in the clock before. Every ticket that is accepted after the turn was taken
--     when that clock was committed, so it sees what `previous` sees.
--     It turns only once: after that, the turn is as new as the transaction.
--  6. The fence of a truncate goes if a truncate by another transaction has a snapshot that sees it. A ticket that sees the later one was taken after it,
--     and sees both.
--  7. What this transaction has written itself stays, for it is running in the snapshots that count here (larder.snapshot_of_others). A moment that saw
--     it would be wrong if it stays open for long: trim would then take its changes for old. A rollback, also to a savepoint, undoes everything.
CREATE OR REPLACE FUNCTION larder.housekeep_alone() RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
  most CONSTANT int4 := 10000;
  now_visible pg_snapshot := larder.snapshot_of_others();
  c record;
  pages int8;
  first tid := '(0,0)';
  looked int4;
  removed int4;
BEGIN
  -- A lock that is looked behind needs a newer snapshot.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RETURN false;
  END IF;
  -- Where another cluster's copy is being emptied (larder.register).
  LOCK TABLE larder.clock, larder.moments IN ROW EXCLUSIVE MODE NOWAIT;
  LOCK TABLE larder.objects, larder.keys, larder.notes IN ACCESS SHARE MODE NOWAIT;
  IF EXISTS (SELECT FROM larder.moments m WHERE NOT m.alone AND m.taken > clock_timestamp() - interval '20 minutes') THEN
    RETURN false;
  END IF;

  IF NOT EXISTS (SELECT FROM larder.clock) THEN
    DELETE FROM larder.changes h WHERE h.ctid = ANY (ARRAY(SELECT h.ctid FROM larder.changes h
      WHERE h.xid < pg_snapshot_xmax(now_visible) AND pg_visible_in_snapshot(h.xid, now_visible) LIMIT most FOR UPDATE SKIP LOCKED));
    DELETE FROM larder.fences f WHERE f.ctid = ANY (ARRAY(SELECT f.ctid FROM larder.fences f
      WHERE f.kind <> 'b' AND f.xid < pg_snapshot_xmax(now_visible) AND pg_visible_in_snapshot(f.xid, now_visible) LIMIT most FOR UPDATE SKIP LOCKED));
    RETURN true;
  END IF;

  IF NOT larder.has_clock_row() THEN
    RETURN false;
  END IF;
  PERFORM larder.trim_older(interval '20 minutes', most, true);
  PERFORM larder.turn_if_due();
  SELECT k.oldest, k.swept, k.previous INTO c FROM larder.clock k;
  IF c.swept = c.oldest - 1 OR NOT pg_try_advisory_xact_lock('larder.clock'::regclass::oid::int4, c.oldest - 1) THEN
    RETURN true;
  END IF;
  -- Fences that stay must not hide those behind them, so a long table is read from anywhere.
  pages := pg_relation_size('larder.fences') / current_setting('block_size')::int8;
  IF pages > 512 THEN
    first := format('(%s,0)', floor(random() * (pages - 256)))::tid;
  END IF;
  WITH old AS MATERIALIZED (
    SELECT f.ctid AS at, f.mark, f.xid, f.kind, f.seen FROM larder.fences f
      WHERE f.ctid >= first AND f.kind IN ('i', 't') AND f.floor IS NULL AND f.xid < pg_snapshot_xmax(c.previous)
        AND pg_visible_in_snapshot(f.xid, c.previous) LIMIT most FOR UPDATE SKIP LOCKED),
  hit AS MATERIALIZED (
    SELECT d.mark AS object, d.at, d.mark, d.xid FROM old d WHERE d.kind = 'i'
    UNION ALL
    SELECT k.leads_to, d.at, d.mark, d.xid FROM old d JOIN larder.keys k ON k.mark = d.mark WHERE d.kind = 'i'),
  forgets AS MATERIALIZED (
    SELECT h.at, row_number() OVER (PARTITION BY o.ctid ORDER BY h.xid DESC) AS place FROM hit h JOIN larder.objects o ON o.mark = h.object
      WHERE h.mark = ANY (o.marks) AND h.xid <> o.writer AND NOT pg_visible_in_snapshot(h.xid, o.seen)
    UNION ALL
    SELECT d.at, 1 FROM old d JOIN larder.notes n ON n.mark = d.mark
      WHERE d.kind = 'i' AND n.until > now() AND NOT pg_visible_in_snapshot(d.xid, n.seen)),
  gone AS (
    DELETE FROM larder.fences f USING old d WHERE f.ctid = d.at AND CASE d.kind
      WHEN 'i' THEN NOT EXISTS (SELECT FROM forgets g WHERE g.at = d.at AND g.place = 1)
      ELSE EXISTS (SELECT FROM larder.fences l WHERE l.mark = d.mark AND l.kind = 't' AND l.xid <> d.xid AND pg_visible_in_snapshot(d.xid, l.seen)) END
    RETURNING 1)
  SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM gone) INTO looked, removed;
  IF looked < most OR removed = 0 THEN
    -- What is left is visible in the next `previous`, too.
    UPDATE larder.clock SET swept = c.oldest - 1;
  END IF;
  RETURN true;
END $$;

-- Keeps house if no node does. Whatever goes wrong, the write of the application goes on.
CREATE OR REPLACE FUNCTION larder.try_to_housekeep() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM larder.housekeep_alone();
EXCEPTION WHEN OTHERS THEN
  NULL;
END $$;
