-- Whom a user lets know where they are, and how precisely. Positions themselves
-- are never here, but for the centres of one's own zones.
--
-- A precision is 1 + the resolution of an H3 cell (0 to 10), or 12 for exact: the
-- finer, the greater (geo/grant).

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS location_sharing (
    user_id      UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- no row: version 0, nothing shared
    version      BIGINT NOT NULL DEFAULT 1,     -- each change of what follows, of grants, zones, links and blocks adds one, in its transaction
    paused       BOOL NOT NULL DEFAULT false,   -- nobody is told anything
    paused_until TIMESTAMPTZ,                   -- NULL: until it is ended
    track        BOOL NOT NULL DEFAULT false,   -- a private track is kept
    track_days   INT NOT NULL DEFAULT 30,       -- for so long
    track_since  TIMESTAMPTZ                    -- what was captured before was deleted, also what is still on its way
);

CREATE TABLE IF NOT EXISTS location_grants (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    audience   TEXT NOT NULL,
    person_id  UUID REFERENCES users (id) ON DELETE CASCADE,
    group_id   UUID,
    precision  SMALLINT NOT NULL,
    purpose    TEXT NOT NULL DEFAULT '',
    expires_at TIMESTAMPTZ,                     -- NULL: never
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- A grant to a group ends with the membership.
    CONSTRAINT location_grants_member FOREIGN KEY (group_id, user_id) REFERENCES group_members (group_id, user_id) ON DELETE CASCADE,
    CONSTRAINT location_grants_audience CHECK (
        audience = 'person' AND person_id IS NOT NULL AND group_id IS NULL
        OR audience = 'group' AND group_id IS NOT NULL AND person_id IS NULL
        OR audience = 'discoverable' AND person_id IS NULL AND group_id IS NULL)
);
CREATE INDEX IF NOT EXISTS location_grants_user ON location_grants (user_id, created_at, id);
CREATE INDEX IF NOT EXISTS location_grants_person ON location_grants (person_id, user_id) WHERE person_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS location_grants_member ON location_grants (group_id, user_id) WHERE group_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS location_zones (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name       TEXT NOT NULL DEFAULT '',
    lat        DOUBLE PRECISION NOT NULL,
    lng        DOUBLE PRECISION NOT NULL,
    radius     DOUBLE PRECISION NOT NULL,       -- metres
    precision  SMALLINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS location_zones_user ON location_zones (user_id, created_at, id);
