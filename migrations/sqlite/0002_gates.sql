-- Gates: how they are set, what they did, and their draws. Numbers of states and modes are pinned in the engine.

CREATE TABLE gates (
  concert_id INTEGER PRIMARY KEY REFERENCES concerts,
  version    INTEGER NOT NULL CHECK (version > 0),
  state      INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),
  mode       INTEGER NOT NULL CHECK (mode BETWEEN 1 AND 2),
  per_second INTEGER, -- no rate of its own
  max_active INTEGER, -- no ceiling of its own
  opens_at   INTEGER,
  changed_at INTEGER NOT NULL
) STRICT;

-- Append-only. Kind 1: somebody set the gate, to what the policy's columns say. Kind 2: people were let in, after
-- `admitted_since` and up to `at`.
CREATE TABLE gate_history (
  concert_id     INTEGER NOT NULL REFERENCES gates,
  no             INTEGER NOT NULL CHECK (no > 0),
  kind           INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 2),
  at             INTEGER NOT NULL,
  changed_by     INTEGER CHECK ((changed_by IS NULL) = (kind = 2)),
  version        INTEGER CHECK ((version IS NULL) = (kind = 2)),
  state          INTEGER CHECK ((state IS NULL) = (kind = 2)),
  mode           INTEGER CHECK ((mode IS NULL) = (kind = 2)),
  per_second     INTEGER CHECK (per_second IS NULL OR kind = 1),
  max_active     INTEGER CHECK (max_active IS NULL OR kind = 1),
  opens_at       INTEGER CHECK (opens_at IS NULL OR kind = 1),
  admitted_since INTEGER CHECK ((admitted_since IS NULL) = (kind = 1)),
  admitted       INTEGER CHECK ((admitted IS NULL) = (kind = 1)),
  PRIMARY KEY (concert_id, no),
  UNIQUE (concert_id, version)
) STRICT, WITHOUT ROWID;

-- A draw is committed to, then frozen (from `first_turn` to `beacon_due`), then drawn. No column that is set changes.
CREATE TABLE gate_draws (
  concert_id   INTEGER NOT NULL REFERENCES concerts,
  no           INTEGER NOT NULL CHECK (no > 0),
  seed         BLOB    NOT NULL CHECK (length(seed) = 32),
  salt_key     BLOB    NOT NULL CHECK (length(salt_key) = 32),
  committed_at INTEGER NOT NULL,
  first_turn   INTEGER CHECK ((first_turn IS NULL) = (root IS NULL)),
  upto_turn    INTEGER CHECK ((upto_turn IS NULL) = (root IS NULL)),
  root         BLOB    CHECK (length(root) = 32),
  published_at INTEGER CHECK ((published_at IS NULL) = (root IS NULL)),
  beacon_round INTEGER CHECK (beacon_round IS NULL OR root IS NOT NULL), -- none: the operator is trusted
  beacon_due   INTEGER CHECK ((beacon_due IS NULL) = (beacon_round IS NULL)),
  drawn_at     INTEGER CHECK (drawn_at IS NULL OR root IS NOT NULL),
  beacon_value BLOB    CHECK (beacon_value IS NULL
                              OR (length(beacon_value) = 32 AND drawn_at IS NOT NULL AND beacon_round IS NOT NULL)),
  entrants     BLOB    CHECK ((entrants IS NULL) = (root IS NULL)), -- big-endian u32 turn and u64 user each, by turn
  PRIMARY KEY (concert_id, no)
) STRICT;

PRAGMA user_version = 2;
