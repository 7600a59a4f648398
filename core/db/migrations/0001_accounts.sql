-- Accounts and what proves them. Keys are random UUIDs: sequences would make
-- one hot range on CockroachDB.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS users (
    id              UUID PRIMARY KEY,
    username        TEXT NOT NULL,
    username_key    TEXT NOT NULL,              -- username, case folded
    email           TEXT,                       -- a guest has none
    email_key       TEXT,                       -- email, case folded
    password_hash   TEXT,                       -- argon2id; a guest has none
    guest           BOOL NOT NULL DEFAULT false,
    profile_picture TEXT NOT NULL DEFAULT '',
    settings        JSONB NOT NULL DEFAULT '{}',
    home_region     TEXT NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT users_username_unique UNIQUE (username_key),
    CONSTRAINT users_email_unique UNIQUE (email_key)
);

-- A login is an authenticated device: one family of refresh tokens.
CREATE TABLE IF NOT EXISTS logins (
    id            UUID PRIMARY KEY,
    user_id       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device_info   JSONB NOT NULL DEFAULT '{}',
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    revoked_at    TIMESTAMPTZ,
    revoke_reason TEXT
);
CREATE INDEX IF NOT EXISTS logins_user ON logins (user_id);
-- Edges ask for what was revoked since they last asked.
CREATE INDEX IF NOT EXISTS logins_revoked ON logins (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS refresh_tokens (
    hash       BYTEA PRIMARY KEY,               -- never the token itself
    login_id   UUID NOT NULL REFERENCES logins (id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ                      -- a second use is theft
);
CREATE INDEX IF NOT EXISTS refresh_tokens_login ON refresh_tokens (login_id);

CREATE TABLE IF NOT EXISTS signing_keys (
    kid         TEXT PRIMARY KEY,
    private_key BYTEA NOT NULL,                 -- sealed
    public_key  BYTEA NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    retire_at   TIMESTAMPTZ NOT NULL
);
