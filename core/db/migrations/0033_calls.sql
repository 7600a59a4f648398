-- Which calls there are. Who is in one right now the media servers know.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS calls (
    id            UUID PRIMARY KEY,
    room          TEXT NOT NULL,
    group_id      UUID REFERENCES groups (id) ON DELETE CASCADE, -- whose room it is; NULL: no group's
    home_region   TEXT NOT NULL,                -- of the room
    type          TEXT NOT NULL,
    started_by    UUID REFERENCES users (id) ON DELETE SET NULL, -- NULL: their account is gone
    started_at    TIMESTAMPTZ NOT NULL,
    ended_at      TIMESTAMPTZ,                  -- NULL: it goes on
    locked        BOOL NOT NULL DEFAULT false,  -- nobody else joins
    push_to_talk  BOOL NOT NULL DEFAULT false,
    hear_most     BIGINT NOT NULL DEFAULT 0,    -- streams at a time; 0: all
    hear_loudness DOUBLE PRECISION NOT NULL DEFAULT 1, -- weights
    hear_nearness DOUBLE PRECISION NOT NULL DEFAULT 0,
    hear_radius   DOUBLE PRECISION NOT NULL DEFAULT 0, -- metres; 0: no limit
    version       BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT calls_type CHECK (type IN ('audio', 'video'))
);
-- A room has one call at a time.
CREATE UNIQUE INDEX IF NOT EXISTS calls_live ON calls (room) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS calls_group ON calls (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls_started_by ON calls (started_by) WHERE started_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS calls_ended ON calls (ended_at) WHERE ended_at IS NOT NULL;

-- The media servers at which a live call goes on, as they say themselves.
CREATE TABLE IF NOT EXISTS call_servers (
    call_id UUID NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    node    TEXT NOT NULL,
    seen_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (call_id, node)
);

-- Who took part: they have not missed it.
CREATE TABLE IF NOT EXISTS call_people (
    call_id UUID NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (call_id, user_id)
);
CREATE INDEX IF NOT EXISTS call_people_user ON call_people (user_id);
