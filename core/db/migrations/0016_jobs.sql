-- Jobs that wait, run or are dead (core/jobs); one that is done has no row. No
-- foreign keys: claims are READ COMMITTED, which on CockroachDB goes with none.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS jobs (
    id           UUID PRIMARY KEY,
    kind         TEXT NOT NULL,
    shard        INT2 NOT NULL,                    -- by chance: those who claim at once look at different ones
    key          TEXT NOT NULL DEFAULT '',         -- unique among those alive of the kind; empty: none
    user_id      UUID,                             -- whom it is about, if anybody
    payload      JSONB NOT NULL,
    trace        TEXT NOT NULL DEFAULT '',         -- the request and trace that enqueued it
    state        TEXT NOT NULL CHECK (state IN ('ready', 'running', 'dead')),
    run_at       TIMESTAMPTZ NOT NULL,             -- not before
    attempts     INT4 NOT NULL DEFAULT 0,          -- begun
    max_attempts INT4 NOT NULL,
    lease        UUID,                             -- of who runs it: every finish names it
    leased_until TIMESTAMPTZ,
    enqueued_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_error   TEXT NOT NULL DEFAULT '',
    note         TEXT NOT NULL DEFAULT ''          -- how far it is
);
CREATE INDEX IF NOT EXISTS jobs_ready ON jobs (kind, shard, run_at) WHERE state = 'ready';
CREATE INDEX IF NOT EXISTS jobs_leases ON jobs (leased_until) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS jobs_dead ON jobs (kind, run_at) WHERE state = 'dead';
CREATE INDEX IF NOT EXISTS jobs_user ON jobs (user_id) WHERE user_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_key ON jobs (kind, key) WHERE key <> '' AND state <> 'dead';

-- What became of each period of a schedule. The newest row of a name says where
-- it goes on, so it is never deleted.
CREATE TABLE IF NOT EXISTS job_periods (
    name        TEXT NOT NULL,
    period      TIMESTAMPTZ NOT NULL,
    outcome     TEXT NOT NULL CHECK (outcome IN ('first', 'due', 'done', 'missed', 'dead')),
    planned_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    finished_at TIMESTAMPTZ,
    PRIMARY KEY (name, period)
);
