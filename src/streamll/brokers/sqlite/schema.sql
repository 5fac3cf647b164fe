CREATE TABLE IF NOT EXISTS streamll_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    run_id TEXT,
    first_seq INTEGER,
    last_seq INTEGER,
    written_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS streamll_by_target ON streamll_entries (target, id);
CREATE INDEX IF NOT EXISTS streamll_beginnings ON streamll_entries (target, id) WHERE first_seq = 0;
CREATE INDEX IF NOT EXISTS streamll_outside ON streamll_entries (target, id) WHERE run_id IS NULL;
DROP INDEX IF EXISTS streamll_by_run;  -- of earlier versions

-- How far a group has read, and which member holds which entry since when.
CREATE TABLE IF NOT EXISTS streamll_groups (
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (target, name)
);
CREATE TABLE IF NOT EXISTS streamll_claims (
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    entry INTEGER NOT NULL,
    member TEXT NOT NULL,
    since REAL NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (target, name, entry)
);

-- Which entries are a run's, up to the entry in streamll_placed: see run_index.py.
CREATE TABLE IF NOT EXISTS streamll_places (
    run_id TEXT NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (run_id, entry)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS streamll_placed (upto INTEGER NOT NULL);
INSERT INTO streamll_placed SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM streamll_placed);
