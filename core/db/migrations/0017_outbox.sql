-- Events on their way to those who watch (core/outbox). No foreign keys, as with
-- jobs.

-- +goose NO TRANSACTION
-- +goose Up

-- Who wants events, of which keys: kept by the relays.
CREATE TABLE IF NOT EXISTS outbox_sinks (
    name    TEXT NOT NULL,
    scope   TEXT NOT NULL,                         -- what a key has before its colon; empty: all
    seen_at TIMESTAMPTZ NOT NULL DEFAULT now(),    -- some node had it
    PRIMARY KEY (name, scope)
);

-- The last number that was given to an event of the key.
CREATE TABLE IF NOT EXISTS outbox_keys (
    key  TEXT PRIMARY KEY,
    last BIGINT NOT NULL
);

-- An event for a sink, until that took it. Those who append only insert here, so
-- they never collide with a relay.
CREATE TABLE IF NOT EXISTS outbox (
    sink TEXT NOT NULL,
    key  TEXT NOT NULL,
    n    BIGINT NOT NULL,
    id   UUID NOT NULL,                            -- of the event, the same for all sinks
    kind TEXT NOT NULL,
    data JSONB NOT NULL,
    at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, key, n)
);

-- Who sends what waits for a sink under a key, and until when nobody else does.
CREATE TABLE IF NOT EXISTS outbox_claims (
    sink     TEXT NOT NULL,
    key      TEXT NOT NULL,
    token    UUID NOT NULL,                        -- every finish names it
    until    TIMESTAMPTZ NOT NULL,
    failures INT4 NOT NULL DEFAULT 0,              -- in a row
    PRIMARY KEY (sink, key)
);
