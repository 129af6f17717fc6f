-- The ledger's first schema. Instants are microseconds since the Unix epoch, money is in minor units,
-- numbers of kinds, statuses and transitions are pinned in the engine.

PRAGMA application_id = 0x486f7453; -- "HotS": whose file this is

CREATE TABLE cluster_meta (
  one        INTEGER PRIMARY KEY CHECK (one = 1),
  cluster_id BLOB    NOT NULL CHECK (length(cluster_id) = 16),
  shards     INTEGER NOT NULL CHECK (shards BETWEEN 1 AND 65535),
  created_at INTEGER NOT NULL,
  opened_at  INTEGER NOT NULL -- when a server last took the directory
) STRICT;

CREATE TABLE concerts (
  concert_id INTEGER PRIMARY KEY CHECK (concert_id BETWEEN 1 AND 9007199254740991),
  title      TEXT    NOT NULL UNIQUE,
  shard      INTEGER NOT NULL,
  own_shard  INTEGER NOT NULL CHECK (own_shard IN (0, 1)), -- no other concert may join its shard
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE plans (
  plan_hash  TEXT    PRIMARY KEY CHECK (length(plan_hash) = 64), -- SHA-256 of the canonical JSON
  seat_count INTEGER NOT NULL CHECK (seat_count > 0),
  body       BLOB    NOT NULL -- the canonical JSON, gzip
) STRICT;

CREATE TABLE options (
  option_id  INTEGER PRIMARY KEY CHECK (option_id BETWEEN 1 AND 4294967295),
  concert_id INTEGER NOT NULL REFERENCES concerts,
  starts_at  INTEGER NOT NULL,
  plan_hash  TEXT    NOT NULL REFERENCES plans,
  status     INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2), -- 0: imported, not yet added to the sale
  version    INTEGER NOT NULL CHECK ((version = 0) = (status = 0)),
  UNIQUE (concert_id, starts_at)
) STRICT;

CREATE TABLE policies (
  concert_id            INTEGER PRIMARY KEY REFERENCES concerts,
  reservations_per_user INTEGER NOT NULL,
  gate                  INTEGER NOT NULL CHECK (gate IN (0, 1)),
  version               INTEGER NOT NULL CHECK (version > 0)
) STRICT;

CREATE TABLE reservations (
  reservation_id  BLOB    PRIMARY KEY CHECK (length(reservation_id) = 16),
  shard           INTEGER NOT NULL,
  concert_id      INTEGER NOT NULL,
  option_id       INTEGER NOT NULL REFERENCES options,
  user_id         INTEGER NOT NULL,
  kind            INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 2),
  status          INTEGER NOT NULL CHECK (status BETWEEN 1 AND 6),
  version         INTEGER NOT NULL CHECK (version > 0),
  amount          INTEGER NOT NULL,
  deadline        INTEGER NOT NULL, -- 2^63 - 1: never
  payment_started INTEGER NOT NULL CHECK (payment_started IN (0, 1)),
  created_at      INTEGER NOT NULL,
  changed_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What a restore reads: everything that is not ended.
CREATE INDEX reservations_live ON reservations (shard)
  WHERE status <= 3 OR (status = 4 AND payment_started = 1);

-- The rest of them: a restart reads those that ended inside the horizon.
CREATE INDEX reservations_ended ON reservations (shard, changed_at)
  WHERE status >= 5 OR (status = 4 AND payment_started = 0);

CREATE INDEX reservations_of_user ON reservations (user_id, reservation_id);

CREATE TABLE reservation_seats (
  reservation_id BLOB    NOT NULL REFERENCES reservations,
  seat_no        INTEGER NOT NULL CHECK (seat_no >= 0),
  option_id      INTEGER NOT NULL,
  active         INTEGER NOT NULL CHECK (active IN (0, 1)),
  PRIMARY KEY (reservation_id, seat_no)
) STRICT, WITHOUT ROWID;

-- No seat is ever sold twice, whatever the code above does.
CREATE UNIQUE INDEX reservation_seats_active ON reservation_seats (option_id, seat_no) WHERE active = 1;

-- The ordered log; append-only. Columns that an event does not have are 0; numbers above 2^63 - 1 are
-- stored as their two's complement.
CREATE TABLE reservation_events (
  shard                 INTEGER NOT NULL,
  event_seq             INTEGER NOT NULL CHECK (event_seq > 0),
  epoch                 INTEGER NOT NULL,
  at                    INTEGER NOT NULL,
  transition            INTEGER NOT NULL,
  caller                INTEGER NOT NULL, -- 0: the shard itself
  request_key           BLOB    CHECK (length(request_key) = 16),
  request_content       INTEGER CHECK ((request_key IS NULL) = (request_content IS NULL)),
  concert_id            INTEGER NOT NULL,
  option_id             INTEGER NOT NULL,
  reservation_id        BLOB    NOT NULL CHECK (length(reservation_id) = 16),
  user_id               INTEGER NOT NULL,
  kind                  INTEGER NOT NULL,
  status                INTEGER NOT NULL,
  version               INTEGER NOT NULL,
  seats                 BLOB    NOT NULL, -- big-endian u32 each
  amount                INTEGER NOT NULL,
  deadline              INTEGER NOT NULL,
  created_at            INTEGER NOT NULL,
  payment_started       INTEGER NOT NULL CHECK (payment_started IN (0, 1)),
  reservations_per_user INTEGER NOT NULL,
  gate                  INTEGER NOT NULL CHECK (gate IN (0, 1)),
  prev_hash             BLOB    NOT NULL CHECK (length(prev_hash) = 32),
  hash                  BLOB    NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (shard, event_seq)
) STRICT, WITHOUT ROWID;

-- Where the idempotency horizon begins.
CREATE INDEX reservation_events_at ON reservation_events (shard, at);

CREATE TABLE shard_lease (
  shard      INTEGER PRIMARY KEY,
  epoch      INTEGER NOT NULL CHECK (epoch > 0),
  owner      BLOB    NOT NULL CHECK (length(owner) = 16),
  node       TEXT    NOT NULL,
  public_url TEXT    NOT NULL,
  peer_url   TEXT    NOT NULL,
  expires_at INTEGER NOT NULL,
  state      INTEGER NOT NULL CHECK (state IN (0, 1)), -- 0: released
  UNIQUE (shard, epoch)
) STRICT;

PRAGMA user_version = 1;
