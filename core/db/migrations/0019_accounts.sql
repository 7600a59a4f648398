-- Accounts complete: mail addresses that were confirmed, what was mailed to
-- confirm one or to choose a new password, accounts at Google, and what happened
-- to an account's security.

-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE users ADD COLUMN IF NOT EXISTS email_verified_at TIMESTAMPTZ; -- NULL: nobody showed yet that they read it

-- From where a login was begun: a network, never an address.
ALTER TABLE logins ADD COLUMN IF NOT EXISTS network TEXT NOT NULL DEFAULT '';

-- What a mail carries. It is good once, for the address that it went to.
CREATE TABLE IF NOT EXISTS account_tokens (
    hash       BYTEA PRIMARY KEY,               -- never the token itself
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    TEXT NOT NULL,
    email      TEXT NOT NULL,
    email_key  TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ,                     -- or replaced: kept until it expires, so that mails can be counted
    CONSTRAINT account_tokens_purpose CHECK (purpose IN ('verify', 'change', 'reset'))
);
CREATE INDEX IF NOT EXISTS account_tokens_user ON account_tokens (user_id, purpose);
CREATE INDEX IF NOT EXISTS account_tokens_expiry ON account_tokens (expires_at);

CREATE TABLE IF NOT EXISTS google_identities (
    subject    TEXT PRIMARY KEY,                -- "sub": the address may change
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email      TEXT NOT NULL,                   -- at Google, when it was linked
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT google_identities_user UNIQUE (user_id)
);

-- Sign-ins at Google that are under way.
CREATE TABLE IF NOT EXISTS google_states (
    hash       BYTEA PRIMARY KEY,
    login_id   UUID REFERENCES logins (id) ON DELETE CASCADE, -- who links an account; NULL: somebody signs in
    expires_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS google_states_expiry ON google_states (expires_at);

CREATE TABLE IF NOT EXISTS audit_events (
    id       UUID PRIMARY KEY,
    user_id  UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    at       TIMESTAMPTZ NOT NULL,
    kind     TEXT NOT NULL,
    login_id UUID,                              -- the one that did it, or that it is about; it may be gone
    network  TEXT NOT NULL DEFAULT '',
    data     JSONB NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS audit_events_user ON audit_events (user_id, at DESC, id DESC);
CREATE INDEX IF NOT EXISTS audit_events_at ON audit_events (at);
