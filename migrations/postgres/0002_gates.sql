-- Gates: how they are set, what they did, and their draws. Numbers of states and modes are pinned in the engine.

CREATE TABLE gates (
  concert_id bigint   PRIMARY KEY REFERENCES concerts,
  version    bigint   NOT NULL CHECK (version > 0),
  state      smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
  mode       smallint NOT NULL CHECK (mode BETWEEN 1 AND 2),
  per_second bigint, -- no rate of its own
  max_active bigint, -- no ceiling of its own
  opens_at   bigint,
  changed_at bigint   NOT NULL
);

-- Append-only. Kind 1: somebody set the gate, to what the policy's columns say. Kind 2: people were let in, after
-- `admitted_since` and up to `at`.
CREATE TABLE gate_history (
  concert_id     bigint   NOT NULL REFERENCES gates,
  no             bigint   NOT NULL CHECK (no > 0),
  kind           smallint NOT NULL CHECK (kind BETWEEN 1 AND 2),
  at             bigint   NOT NULL,
  changed_by     bigint   CHECK ((changed_by IS NULL) = (kind = 2)),
  version        bigint   CHECK ((version IS NULL) = (kind = 2)),
  state          smallint CHECK ((state IS NULL) = (kind = 2)),
  mode           smallint CHECK ((mode IS NULL) = (kind = 2)),
  per_second     bigint   CHECK (per_second IS NULL OR kind = 1),
  max_active     bigint   CHECK (max_active IS NULL OR kind = 1),
  opens_at       bigint   CHECK (opens_at IS NULL OR kind = 1),
  admitted_since bigint   CHECK ((admitted_since IS NULL) = (kind = 1)),
  admitted       bigint   CHECK ((admitted IS NULL) = (kind = 1)),
  PRIMARY KEY (concert_id, no),
  UNIQUE (concert_id, version)
);

-- A draw is committed to, then frozen (from `first_turn` to `beacon_due`), then drawn. No column that is set changes.
CREATE TABLE gate_draws (
  concert_id   bigint NOT NULL REFERENCES concerts,
  no           bigint NOT NULL CHECK (no > 0),
  seed         bytea  NOT NULL CHECK (length(seed) = 32),
  salt_key     bytea  NOT NULL CHECK (length(salt_key) = 32),
  committed_at bigint NOT NULL,
  first_turn   bigint CHECK ((first_turn IS NULL) = (root IS NULL)),
  upto_turn    bigint CHECK ((upto_turn IS NULL) = (root IS NULL)),
  root         bytea  CHECK (length(root) = 32),
  published_at bigint CHECK ((published_at IS NULL) = (root IS NULL)),
  beacon_round bigint CHECK (beacon_round IS NULL OR root IS NOT NULL), -- none: the operator is trusted
  beacon_due   bigint CHECK ((beacon_due IS NULL) = (beacon_round IS NULL)),
  drawn_at     bigint CHECK (drawn_at IS NULL OR root IS NOT NULL),
  beacon_value bytea  CHECK (beacon_value IS NULL
                             OR (length(beacon_value) = 32 AND drawn_at IS NOT NULL AND beacon_round IS NOT NULL)),
  entrants     bytea  CHECK ((entrants IS NULL) = (root IS NULL)), -- big-endian u32 turn and u64 user each, by turn
  PRIMARY KEY (concert_id, no)
);
-- A million entrants are 12 MB, and written while the shard's lease is locked: room is cheaper there than the time it
-- takes to press them.
ALTER TABLE gate_draws ALTER COLUMN entrants SET STORAGE EXTERNAL;

-- The fence of the functions below: whether that owner still has the concert's shard, in that epoch. Whoever acquires
-- the shard waits until we have ended, and we find its new epoch when it was first.
CREATE FUNCTION owns_concert_v1(owner_ uuid, shard_ integer, epoch_ bigint, concert_ bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $f$
BEGIN
  PERFORM FROM concerts c JOIN shard_lease l USING (shard)
    WHERE c.concert_id = concert_ AND l.shard = shard_ AND l.epoch = epoch_ AND l.owner = owner_
      FOR KEY SHARE OF l;
  RETURN FOUND;
END $f$;

-- Each answers 'done', 'fenced' or 'conflict', and has written nothing with the latter two. Like append_batch_v1, one
-- call is one implicit transaction and one flush, and what is looked up is looked up by its key. The same call again is
-- done already: who does not know what became of the first one asks the same once more.

CREATE FUNCTION set_gate_v1(
  owner_ uuid, shard_ integer, epoch_ bigint, concert_ bigint, version_ bigint, state_ smallint, mode_ smallint,
  per_second_ bigint, max_active_ bigint, opens_at_ bigint, changed_at_ bigint, changed_by_ bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $f$
BEGIN
  IF NOT owns_concert_v1(owner_, shard_, epoch_, concert_) THEN
    RETURN 'fenced';
  END IF;

  -- Locks the row, the first one that is just being made as well: one at a time counts on in the history.
  INSERT INTO gates AS g (concert_id, version, state, mode, per_second, max_active, opens_at, changed_at)
  SELECT concert_, version_, state_, mode_, per_second_, max_active_, opens_at_, changed_at_
   WHERE version_ = 1 OR (version_ > 1 AND EXISTS (SELECT FROM gates x WHERE x.concert_id = concert_))
  ON CONFLICT (concert_id) DO UPDATE
     SET version = excluded.version, state = excluded.state, mode = excluded.mode, per_second = excluded.per_second,
         max_active = excluded.max_active, opens_at = excluded.opens_at, changed_at = excluded.changed_at
   WHERE g.version + 1 = excluded.version;
  IF FOUND THEN
    INSERT INTO gate_history (concert_id, no, kind, at, changed_by, version, state, mode, per_second, max_active,
                              opens_at)
    SELECT concert_, coalesce(max(h.no), 0) + 1, 1, changed_at_, changed_by_, version_, state_, mode_, per_second_,
           max_active_, opens_at_
      FROM gate_history h WHERE h.concert_id = concert_;
    RETURN 'done';
  END IF;

  PERFORM FROM gates g JOIN gate_history h USING (concert_id, version)
    WHERE g.concert_id = concert_ AND g.version = version_ AND h.at = changed_at_ AND h.changed_by = changed_by_
      AND h.state = state_ AND h.mode = mode_ AND h.per_second IS NOT DISTINCT FROM per_second_
      AND h.max_active IS NOT DISTINCT FROM max_active_ AND h.opens_at IS NOT DISTINCT FROM opens_at_;
  RETURN CASE WHEN FOUND THEN 'done' ELSE 'conflict' END;
END $f$;

CREATE FUNCTION note_admitted_v1(
  owner_ uuid, shard_ integer, epoch_ bigint, concert_ bigint, since_ bigint, until_ bigint, count_ bigint)
RETURNS text LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $f$
BEGIN
  IF NOT owns_concert_v1(owner_, shard_, epoch_, concert_) THEN
    RETURN 'fenced';
  END IF;

  PERFORM FROM gates g WHERE g.concert_id = concert_ FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'conflict'; -- nobody ever set that gate
  END IF;

  PERFORM FROM (SELECT h.at, h.admitted_since, h.admitted FROM gate_history h
                 WHERE h.concert_id = concert_ AND h.kind = 2 ORDER BY h.no DESC LIMIT 1) newest
    WHERE newest.at = until_ AND newest.admitted_since = since_ AND newest.admitted = count_;
  IF NOT FOUND THEN
    INSERT INTO gate_history (concert_id, no, kind, at, admitted_since, admitted)
    SELECT concert_, coalesce(max(h.no), 0) + 1, 2, until_, since_, count_
      FROM gate_history h WHERE h.concert_id = concert_;
  END IF;
  RETURN 'done';
END $f$;

CREATE FUNCTION save_draw_v1(
  owner_ uuid, shard_ integer, epoch_ bigint, concert_ bigint, no_ bigint, seed_ bytea, salt_key_ bytea,
  committed_at_ bigint, first_turn_ bigint, upto_turn_ bigint, root_ bytea, published_at_ bigint,
  beacon_round_ bigint, beacon_due_ bigint, drawn_at_ bigint, beacon_value_ bytea, entrants_ bytea)
RETURNS text LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $f$
BEGIN
  IF NOT owns_concert_v1(owner_, shard_, epoch_, concert_) THEN
    RETURN 'fenced';
  END IF;

  -- A further draw begins when the entrants of the one before are settled: that one may never be drawn, where the
  -- mirror forgot its line, or the gate was closed.
  INSERT INTO gate_draws (concert_id, no, seed, salt_key, committed_at, first_turn, upto_turn, root, published_at,
                          beacon_round, beacon_due, drawn_at, beacon_value, entrants)
  SELECT concert_, no_, seed_, salt_key_, committed_at_, first_turn_, upto_turn_, root_, published_at_,
         beacon_round_, beacon_due_, drawn_at_, beacon_value_, entrants_
   WHERE no_ = 1 OR EXISTS (SELECT FROM gate_draws b
                             WHERE b.concert_id = concert_ AND b.no = no_ - 1 AND b.root IS NOT NULL)
  ON CONFLICT (concert_id, no) DO NOTHING;
  IF FOUND THEN
    RETURN 'done';
  END IF;

  -- Columns that are set stay, by their old value: the entrants are not copied.
  UPDATE gate_draws d
     SET first_turn = coalesce(d.first_turn, first_turn_), upto_turn = coalesce(d.upto_turn, upto_turn_),
         root = coalesce(d.root, root_), published_at = coalesce(d.published_at, published_at_),
         beacon_round = coalesce(d.beacon_round, beacon_round_), beacon_due = coalesce(d.beacon_due, beacon_due_),
         drawn_at = coalesce(d.drawn_at, drawn_at_), beacon_value = coalesce(d.beacon_value, beacon_value_),
         entrants = coalesce(d.entrants, entrants_)
   WHERE d.concert_id = concert_ AND d.no = no_
     AND d.seed = seed_ AND d.salt_key = salt_key_ AND d.committed_at = committed_at_
     AND (d.root IS NULL
          OR (d.root = root_ AND d.first_turn = first_turn_ AND d.upto_turn = upto_turn_
              AND d.published_at = published_at_ AND d.beacon_round IS NOT DISTINCT FROM beacon_round_
              AND d.beacon_due IS NOT DISTINCT FROM beacon_due_ AND d.entrants = entrants_))
     AND (d.drawn_at IS NULL
          OR (d.drawn_at = drawn_at_ AND d.beacon_value IS NOT DISTINCT FROM beacon_value_));
  RETURN CASE WHEN FOUND THEN 'done' ELSE 'conflict' END;
END $f$;

COMMENT ON TABLE cluster_meta IS 'hotseat schema 2';
