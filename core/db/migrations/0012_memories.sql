-- Which cells were told for the places of a user, so that nodes tell the same ones
-- after a restart. Sealed by who tells them (geo/grant, Snapper.Memory).

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS location_memories (
    user_id UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    version BIGINT NOT NULL, -- each change adds one, and is made only by who knew the one before
    sealed  BYTEA NOT NULL   -- at most 4 KB
);
