-- The ledger's first schema: the tables of SQLite's, column by column. Instants are microseconds since the
-- Unix epoch, money is in minor units, numbers of kinds, statuses and transitions are pinned in the engine.

CREATE TABLE cluster_meta (
  one        smallint PRIMARY KEY CHECK (one = 1),
  cluster_id uuid     NOT NULL,
  shards     integer  NOT NULL CHECK (shards BETWEEN 1 AND 65535),
  created_at bigint   NOT NULL,
  opened_at  bigint   NOT NULL -- when a server last started on it
);

CREATE TABLE concerts (
  concert_id bigint  PRIMARY KEY CHECK (concert_id BETWEEN 1 AND 9007199254740991),
  title      text    NOT NULL UNIQUE,
  shard      integer NOT NULL,
  own_shard  boolean NOT NULL, -- no other concert may join its shard
  created_at bigint  NOT NULL
);

CREATE TABLE plans (
  plan_hash  text    PRIMARY KEY CHECK (length(plan_hash) = 64), -- SHA-256 of the canonical JSON
  seat_count integer NOT NULL CHECK (seat_count > 0),
  body       bytea   NOT NULL -- the canonical JSON, gzip
);
ALTER TABLE plans ALTER COLUMN body SET STORAGE EXTERNAL; -- compressed already

CREATE TABLE options (
  option_id  bigint   PRIMARY KEY CHECK (option_id BETWEEN 1 AND 4294967295),
  concert_id bigint   NOT NULL REFERENCES concerts,
  starts_at  bigint   NOT NULL,
  plan_hash  text     NOT NULL REFERENCES plans,
  status     smallint NOT NULL CHECK (status BETWEEN 0 AND 2), -- 0: imported, not yet added to the sale
  version    bigint   NOT NULL CHECK ((version = 0) = (status = 0)),
  UNIQUE (concert_id, starts_at)
);

CREATE TABLE policies (
  concert_id            bigint  PRIMARY KEY REFERENCES concerts,
  reservations_per_user bigint  NOT NULL,
  gate                  boolean NOT NULL,
  version               bigint  NOT NULL CHECK (version > 0)
);

-- No foreign keys here and below: append_batch joins what they would look up row by row.
CREATE TABLE reservations (
  reservation_id  uuid     PRIMARY KEY,
  shard           integer  NOT NULL,
  concert_id      bigint   NOT NULL,
  option_id       bigint   NOT NULL,
  user_id         bigint   NOT NULL,
  kind            smallint NOT NULL CHECK (kind BETWEEN 1 AND 2),
  status          smallint NOT NULL CHECK (status BETWEEN 1 AND 6),
  version         bigint   NOT NULL CHECK (version > 0),
  amount          bigint   NOT NULL,
  deadline        bigint   NOT NULL, -- 2^63 - 1: never
  payment_started boolean  NOT NULL,
  created_at      bigint   NOT NULL,
  changed_at      bigint   NOT NULL
) WITH (fillfactor = 80);

-- What a restore reads: everything that is not ended.
CREATE INDEX reservations_live ON reservations (shard)
  WHERE status <= 3 OR (status = 4 AND payment_started);

-- The rest of them: a restart reads those that ended inside the horizon.
CREATE INDEX reservations_ended ON reservations (shard, changed_at)
  WHERE status >= 5 OR (status = 4 AND NOT payment_started);

CREATE INDEX reservations_of_user ON reservations (user_id, reservation_id);

CREATE TABLE reservation_seats (
  reservation_id uuid    NOT NULL,
  seat_no        bigint  NOT NULL CHECK (seat_no >= 0),
  option_id      bigint  NOT NULL,
  active         boolean NOT NULL,
  PRIMARY KEY (reservation_id, seat_no)
);

-- No seat is ever sold twice, whatever the code above does.
CREATE UNIQUE INDEX reservation_seats_active ON reservation_seats (option_id, seat_no) WHERE active;

-- The ordered log; append-only. Columns that an event does not have are 0; numbers above 2^63 - 1 are
-- stored as their two's complement.
CREATE TABLE reservation_events (
  shard                 integer  NOT NULL,
  event_seq             bigint   NOT NULL CHECK (event_seq > 0),
  epoch                 bigint   NOT NULL,
  at                    bigint   NOT NULL,
  transition            smallint NOT NULL,
  caller                bigint   NOT NULL, -- 0: the shard itself
  request_key           uuid,
  request_content       bigint   CHECK ((request_key IS NULL) = (request_content IS NULL)),
  concert_id            bigint   NOT NULL,
  option_id             bigint   NOT NULL,
  reservation_id        uuid     NOT NULL,
  user_id               bigint   NOT NULL,
  kind                  smallint NOT NULL,
  status                smallint NOT NULL,
  version               bigint   NOT NULL,
  seats                 bytea    NOT NULL, -- big-endian u32 each
  amount                bigint   NOT NULL,
  deadline              bigint   NOT NULL,
  created_at            bigint   NOT NULL,
  payment_started       boolean  NOT NULL,
  reservations_per_user bigint   NOT NULL,
  gate                  boolean  NOT NULL,
  prev_hash             bytea    NOT NULL CHECK (length(prev_hash) = 32),
  hash                  bytea    NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (shard, event_seq)
);

-- Where the idempotency horizon begins.
CREATE INDEX reservation_events_at ON reservation_events (shard, at);

CREATE TABLE shard_lease (
  shard      integer  PRIMARY KEY,
  epoch      bigint   NOT NULL CHECK (epoch > 0),
  owner      uuid     NOT NULL,
  node       text     NOT NULL,
  public_url text     NOT NULL,
  peer_url   text     NOT NULL,
  expires_at bigint   NOT NULL,
  state      smallint NOT NULL CHECK (state IN (0, 1)), -- 0: released
  UNIQUE (shard, epoch)
) WITH (fillfactor = 20); -- renewed again and again, in place

-- The ledger's clock: not the beginning of a transaction, which may be long ago, but now.
CREATE FUNCTION ledger_now_v1() RETURNS bigint LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- The write: fence → events → state of the fresh events → every count checked, or nothing at all.
--
-- One call is one implicit transaction and one flush. Each statement inside has a fresh snapshot, which a single
-- statement of data-modifying CTEs has not. Takes sealed events by shard and number, and the epochs that the
-- writer believes in; answers per shard with 'applied', 'duplicate' (all of it was there before) or 'fenced'.
-- HS001: the state differs from what an event begins with. HS002: another event stands in that place. No
-- condition names a time.
--
-- Plans are made once per session and kept, often while the tables are empty, when reading all of a table looks
-- cheapest: what is looked up is always looked up by its key.
CREATE FUNCTION append_batch_v1(
  owner_ uuid, p_shard integer[], p_epoch bigint[],
  e_shard integer[], e_seq bigint[], e_epoch bigint[], e_at bigint[], e_transition smallint[], e_caller bigint[],
  e_request_key uuid[], e_request_content bigint[], e_concert bigint[], e_option bigint[], e_reservation uuid[],
  e_user bigint[], e_kind smallint[], e_status smallint[], e_version bigint[], e_seats bytea[], e_amount bigint[],
  e_deadline bigint[], e_created_at bigint[], e_payment_started boolean[], e_reservations_per_user bigint[],
  e_gate boolean[], e_prev_hash bytea[], e_hash bytea[])
RETURNS TABLE (o_shard integer, o_answer text) LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $f$
DECLARE
  live    integer[];            -- shards that are still ours
  fresh   reservation_events[]; -- events that were not there before
  applied integer[];            -- their shards
  born    bigint;
  moved   bigint;
  options_changed bigint;
  policies_set    bigint;
  freed   bigint;               -- seats to free
  found_  bigint;
  bad     text;
  gap     boolean;
BEGIN
  -- Whoever acquires the shard waits until we have ended, and we find its new epoch when it was first.
  SELECT coalesce(array_agg(x.shard), '{}') INTO live FROM (
    SELECT l.shard FROM shard_lease l JOIN unnest(p_shard, p_epoch) f (shard, epoch) USING (shard, epoch)
     WHERE l.owner = owner_ ORDER BY l.shard FOR KEY SHARE OF l) x;

  -- Events first: a retry finds its own, and waits for a first attempt that is still open.
  WITH inserted AS (
    INSERT INTO reservation_events
    SELECT * FROM unnest(e_shard, e_seq, e_epoch, e_at, e_transition, e_caller, e_request_key, e_request_content,
      e_concert, e_option, e_reservation, e_user, e_kind, e_status, e_version, e_seats, e_amount, e_deadline,
      e_created_at, e_payment_started, e_reservations_per_user, e_gate, e_prev_hash, e_hash) e (shard)
     WHERE e.shard = ANY (live)
    ON CONFLICT (shard, event_seq) DO NOTHING
    RETURNING *)
  SELECT coalesce(array_agg(i::reservation_events), '{}'), coalesce(array_agg(DISTINCT i.shard), '{}')
    INTO fresh, applied FROM inserted i;

  IF cardinality(fresh) < cardinality(e_shard) THEN
    SELECT e.shard || '/' || e.seq INTO bad
      FROM unnest(e_shard, e_seq, e_hash) e (shard, seq, hash)
      LEFT JOIN reservation_events x ON x.shard = e.shard AND x.event_seq = e.seq
     WHERE e.shard = ANY (live) AND x.hash IS DISTINCT FROM e.hash LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'event %', bad USING ERRCODE = 'HS002';
    END IF;
  END IF;

  IF cardinality(fresh) > 0 THEN
    -- Each goes on where the chain ended: without a gap, and behind that very event.
    SELECT e.shard || '/' || e.event_seq, p.hash IS NULL AND e.event_seq > 1 INTO bad, gap
      FROM unnest(fresh) e
      LEFT JOIN reservation_events p ON p.shard = e.shard AND p.event_seq = e.event_seq - 1
     WHERE e.prev_hash IS DISTINCT FROM CASE WHEN e.event_seq = 1 THEN decode(repeat('00', 32), 'hex') ELSE p.hash END
     ORDER BY 2 DESC LIMIT 1;
    IF gap THEN
      RAISE EXCEPTION 'event % does not follow', bad USING ERRCODE = 'HS001';
    ELSIF bad IS NOT NULL THEN
      RAISE EXCEPTION 'event % follows another chain', bad USING ERRCODE = 'HS002';
    END IF;

    SELECT count(*) FILTER (WHERE e.transition IN (1, 7)),
           count(*) FILTER (WHERE e.transition IN (2, 3, 4, 5, 6, 8)),
           count(*) FILTER (WHERE e.transition IN (9, 10, 11)),
           count(*) FILTER (WHERE e.transition = 12),
           coalesce(sum(length(e.seats) / 4) FILTER (WHERE e.transition IN (4, 6, 8)), 0)
      INTO born, moved, options_changed, policies_set, freed FROM unnest(fresh) e;
    IF born + moved + options_changed + policies_set <> cardinality(fresh) THEN
      RAISE EXCEPTION 'an event is of an unknown kind' USING ERRCODE = 'HS001';
    END IF;

    IF born > 0 THEN
      INSERT INTO reservations (reservation_id, shard, concert_id, option_id, user_id, kind, status, version, amount,
        deadline, payment_started, created_at, changed_at)
      SELECT e.reservation_id, e.shard, e.concert_id, e.option_id, e.user_id, e.kind, e.status, e.version, e.amount,
        e.deadline, e.payment_started, e.created_at, e.at
        FROM unnest(fresh) e JOIN options o ON o.option_id = e.option_id WHERE e.transition IN (1, 7);
      GET DIAGNOSTICS found_ = ROW_COUNT;
      IF found_ <> born THEN
        RAISE EXCEPTION 'state differs: % of % options of new reservations', found_, born USING ERRCODE = 'HS001';
      END IF;
    END IF;

    IF moved > 0 THEN
      UPDATE reservations r SET status = e.status, version = e.version, deadline = e.deadline,
             payment_started = e.payment_started, changed_at = e.at
        FROM unnest(fresh) e
       WHERE r.reservation_id = e.reservation_id AND r.version = e.version - 1
         AND r.status = ANY (CASE e.transition
               WHEN 2 THEN '{1}' WHEN 3 THEN '{1,2}' WHEN 4 THEN '{1,2,3}' WHEN 5 THEN '{4}' WHEN 6 THEN '{1,2}'
               WHEN 8 THEN '{3}' ELSE '{}' END::smallint[])
         AND r.shard = e.shard AND r.option_id = e.option_id AND r.user_id = e.user_id AND r.kind = e.kind;
      GET DIAGNOSTICS found_ = ROW_COUNT;
      IF found_ <> moved THEN
        RAISE EXCEPTION 'state differs: % of % reservations in the state before', found_, moved
          USING ERRCODE = 'HS001';
      END IF;
    END IF;

    IF freed > 0 THEN
      UPDATE reservation_seats s SET active = false FROM unnest(fresh) e
       WHERE e.transition IN (4, 6, 8) AND s.reservation_id = e.reservation_id AND s.active;
      GET DIAGNOSTICS found_ = ROW_COUNT;
      IF found_ <> freed THEN
        RAISE EXCEPTION 'state differs: % of % seats to free', found_, freed USING ERRCODE = 'HS001';
      END IF;
    END IF;

    IF born > 0 THEN
      INSERT INTO reservation_seats (reservation_id, seat_no, option_id, active)
      SELECT e.reservation_id,
             -- Shifts bind no closer than | does.
             (get_byte(e.seats, n)::bigint << 24) | (get_byte(e.seats, n + 1) << 16) | (get_byte(e.seats, n + 2) << 8)
               | get_byte(e.seats, n + 3),
             e.option_id, true
        FROM unnest(fresh) e CROSS JOIN LATERAL generate_series(0, length(e.seats) - 4, 4) n
       WHERE e.transition IN (1, 7);
    END IF;

    IF options_changed > 0 THEN
      UPDATE options o SET status = e.status, version = e.version
        FROM unnest(fresh) e JOIN concerts c ON c.concert_id = e.concert_id AND c.shard = e.shard
       WHERE e.transition IN (9, 10, 11) AND o.option_id = e.option_id AND o.concert_id = e.concert_id
         AND o.version = e.version - 1;
      GET DIAGNOSTICS found_ = ROW_COUNT;
      IF found_ <> options_changed THEN
        RAISE EXCEPTION 'state differs: % of % options in the version before', found_, options_changed
          USING ERRCODE = 'HS001';
      END IF;
    END IF;

    IF policies_set > 0 THEN
      INSERT INTO policies (concert_id, reservations_per_user, gate, version)
      SELECT e.concert_id, e.reservations_per_user, e.gate, 1
        FROM unnest(fresh) e JOIN concerts c ON c.concert_id = e.concert_id AND c.shard = e.shard
       WHERE e.transition = 12 AND e.version = 1;
      GET DIAGNOSTICS found_ = ROW_COUNT;
      policies_set = policies_set - found_;
      UPDATE policies p SET reservations_per_user = e.reservations_per_user, gate = e.gate, version = e.version
        FROM unnest(fresh) e JOIN concerts c ON c.concert_id = e.concert_id AND c.shard = e.shard
       WHERE e.transition = 12 AND e.version > 1 AND p.concert_id = e.concert_id AND p.version = e.version - 1;
      GET DIAGNOSTICS found_ = ROW_COUNT;
      IF found_ <> policies_set THEN
        RAISE EXCEPTION 'state differs: % of % policies in the version before', found_, policies_set
          USING ERRCODE = 'HS001';
      END IF;
    END IF;
  END IF;

  RETURN QUERY
    SELECT p.shard, CASE WHEN NOT p.shard = ANY (live) THEN 'fenced'
                         WHEN p.shard = ANY (applied) THEN 'applied'
                         ELSE 'duplicate' END
      FROM unnest(p_shard) p (shard);
END $f$;

-- Whose tables these are, and of which version.
COMMENT ON TABLE cluster_meta IS 'hotseat schema 1';
