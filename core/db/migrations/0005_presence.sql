-- How users are seen, and when they were. A table of its own: last_seen changes
-- often, and transactions that read the user's row must not meet its writers.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS presence (
    user_id            UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- no row: the defaults
    invisible          BOOL NOT NULL DEFAULT false,
    last_seen_audience TEXT NOT NULL DEFAULT 'groups',
    last_seen          TIMESTAMPTZ,             -- NULL: never, or not since it is kept
    CONSTRAINT presence_audience CHECK (last_seen_audience IN ('everyone', 'groups', 'nobody'))
);
