-- +goose NO TRANSACTION
-- +goose Up
-- Questions where somebody is, and what they answered.
CREATE TABLE IF NOT EXISTS location_asks (
    id          UUID PRIMARY KEY,
    asker       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    asked       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    message     TEXT NOT NULL DEFAULT '',
    precision   SMALLINT NOT NULL,              -- wished for
    seconds     BIGINT NOT NULL,                -- wished for
    state       TEXT NOT NULL DEFAULT 'open',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at  TIMESTAMPTZ NOT NULL,
    answered_at TIMESTAMPTZ,
    CONSTRAINT location_asks_state CHECK (state IN ('open', 'accepted', 'declined', 'withdrawn'))
);
CREATE INDEX IF NOT EXISTS location_asks_asker ON location_asks (asker, created_at, id);
CREATE INDEX IF NOT EXISTS location_asks_asked ON location_asks (asked, created_at, id);
CREATE INDEX IF NOT EXISTS location_asks_age ON location_asks (created_at);

-- Who has the token sees where the user is, without an account.
CREATE TABLE IF NOT EXISTS location_links (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash BYTEA NOT NULL,                  -- SHA-256: never the token itself
    precision  SMALLINT NOT NULL,
    purpose    TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT location_links_token_unique UNIQUE (token_hash)
);
CREATE INDEX IF NOT EXISTS location_links_user ON location_links (user_id, created_at, id);
