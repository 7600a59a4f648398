-- Places of groups, and what happened at them. Changes of fences and of the
-- meeting distance add one to the group's version, in their transaction.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS fences (
    id         UUID PRIMARY KEY,
    group_id   UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    shape      JSONB NOT NULL,
    dwell_s    INT NOT NULL DEFAULT 0,
    revision   BIGINT NOT NULL DEFAULT 1,       -- of shape and dwell: visits are counted anew
    created_by UUID REFERENCES users (id) ON DELETE SET NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS fences_group ON fences (group_id, created_at, id);

-- How somebody stands to a fence, or two members to each other (the nil fence):
-- n counts the crossings, and each is stored by whoever finds n where they left it.
CREATE TABLE IF NOT EXISTS fence_states (
    group_id UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    fence_id UUID NOT NULL,
    user_id  UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    other_id UUID NOT NULL,                     -- the nil UUID at a fence
    revision BIGINT NOT NULL,
    n        BIGINT NOT NULL,
    inside   BOOL NOT NULL,
    at       TIMESTAMPTZ NOT NULL,
    crossing UUID NOT NULL,                     -- the last
    PRIMARY KEY (group_id, fence_id, user_id, other_id)
);

CREATE TABLE IF NOT EXISTS fence_crossings (
    id        UUID PRIMARY KEY,
    group_id  UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    kind      TEXT NOT NULL,
    fence_id  UUID NOT NULL,
    name      TEXT NOT NULL DEFAULT '',         -- of the fence then
    user_id   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    other_id  UUID NOT NULL,
    at        TIMESTAMPTZ NOT NULL,
    passed    BOOL NOT NULL DEFAULT false,
    stored_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS fence_crossings_group ON fence_crossings (group_id, stored_at, id);
CREATE INDEX IF NOT EXISTS fence_crossings_age ON fence_crossings (stored_at);

ALTER TABLE groups ADD COLUMN IF NOT EXISTS meet_distance DOUBLE PRECISION NOT NULL DEFAULT 0; -- metres; 0: who meets is not watched
