-- Fleets: whose they are, and who sees their subjects. Subjects have no rows; a
-- fleet's choices are those of all of them.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS fleets (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    precision  SMALLINT NOT NULL DEFAULT 0,     -- what everybody sees, as in location_grants; 0: nothing
    expires_at TIMESTAMPTZ,                     -- until when; NULL: until that is ended
    version    BIGINT NOT NULL DEFAULT 1,       -- each change adds one, in its transaction
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    deleted_at TIMESTAMPTZ                      -- it is kept a while, for edges that ask what was ended
);
CREATE INDEX IF NOT EXISTS fleets_user ON fleets (user_id, created_at, id);
CREATE INDEX IF NOT EXISTS fleets_deleted ON fleets (deleted_at) WHERE deleted_at IS NOT NULL;

-- What proves a gateway.
CREATE TABLE IF NOT EXISTS fleet_keys (
    id          UUID PRIMARY KEY,
    fleet_id    UUID NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
    name        TEXT NOT NULL DEFAULT '',
    secret_hash BYTEA NOT NULL,                 -- SHA-256: never the secret itself
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    revoked_at  TIMESTAMPTZ,
    CONSTRAINT fleet_keys_secret_unique UNIQUE (secret_hash)
);
CREATE INDEX IF NOT EXISTS fleet_keys_fleet ON fleet_keys (fleet_id, created_at, id);
-- Edges ask for what was revoked since they last asked.
CREATE INDEX IF NOT EXISTS fleet_keys_revoked ON fleet_keys (revoked_at) WHERE revoked_at IS NOT NULL;
