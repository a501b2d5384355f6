-- Projects, volumes without one, and the answers that are kept for an Idempotency-Key.
CREATE TABLE projects (
    id           TEXT PRIMARY KEY,
    owner        TEXT NOT NULL,
    name         TEXT NOT NULL,
    stack        TEXT NOT NULL,
    run_command  TEXT,
    dependencies TEXT NOT NULL,
    env          TEXT NOT NULL,
    metadata     TEXT NOT NULL,
    network      TEXT NOT NULL,
    memory       INTEGER NOT NULL,
    cpu          INTEGER NOT NULL,
    processes    INTEGER NOT NULL,
    disk         INTEGER NOT NULL,
    idle_timeout INTEGER NOT NULL,
    always_on    INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    -- what the lifecycle keeps; it does not count as a change of the project
    wanted       INTEGER NOT NULL,
    run_wanted   INTEGER NOT NULL,
    sandbox      TEXT NOT NULL,
    boot_id      TEXT NOT NULL,
    reason       TEXT,
    installed    TEXT
) STRICT, WITHOUT ROWID;

-- Volumes that are to be deleted unless their project is made: noted before a volume is made, and with the deletion of a
-- project, so that a server that dies in between leaves none behind.
CREATE TABLE unsettled_volumes (
    project TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotent_answers (
    key        TEXT PRIMARY KEY,
    request    TEXT NOT NULL,  -- hash of what was asked, so that a key cannot be used for something else
    status     INTEGER NOT NULL,
    location   TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotent_answers_by_age ON idempotent_answers (created_at);
