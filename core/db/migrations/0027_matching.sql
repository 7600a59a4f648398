-- Who wants to meet people nearby, who was shown whom, who asked whom to talk, and
-- the talks that came of it.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS matching_profiles (
    user_id    UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- no row: not open
    open       BOOL NOT NULL DEFAULT false,
    interests  TEXT[] NOT NULL,
    radius     INT4 NOT NULL,                   -- metres
    max_age    INT4 NOT NULL,                   -- seconds
    min_rating FLOAT8 NOT NULL DEFAULT 0,
    say        TEXT NOT NULL DEFAULT '',
    round      INT8 NOT NULL DEFAULT 0,         -- of the user's looking around
    bucket     INT8 NOT NULL DEFAULT 0,         -- of time, in which that round was
    CONSTRAINT matching_profiles_radius CHECK (radius > 0),
    CONSTRAINT matching_profiles_age CHECK (max_age > 0)
);

-- In which of the viewer's rounds somebody was shown to them, last and before that.
CREATE TABLE IF NOT EXISTS matching_shown (
    viewer   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    shown    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    round    INT8 NOT NULL,
    before   INT8 NOT NULL DEFAULT 0,           -- 0: never
    shown_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (viewer, shown)
);
CREATE INDEX IF NOT EXISTS matching_shown_shown ON matching_shown (shown);
CREATE INDEX IF NOT EXISTS matching_shown_at ON matching_shown (shown_at);

-- One that was answered stays for a while: it says how many somebody sent of late,
-- and that one that was declined is not to come again at once.
CREATE TABLE IF NOT EXISTS talk_requests (
    id          UUID PRIMARY KEY,
    asker       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    asked       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    say         TEXT NOT NULL DEFAULT '',
    state       TEXT NOT NULL DEFAULT 'open',
    created_at  TIMESTAMPTZ NOT NULL,
    expires_at  TIMESTAMPTZ NOT NULL,
    answered_at TIMESTAMPTZ,                    -- NULL while it is open
    CONSTRAINT talk_requests_others CHECK (asker <> asked),
    CONSTRAINT talk_requests_state CHECK (state IN ('open', 'accepted', 'declined', 'canceled', 'expired'))
);
CREATE UNIQUE INDEX IF NOT EXISTS talk_requests_open ON talk_requests (asker, asked) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS talk_requests_asker ON talk_requests (asker, created_at, id);
CREATE INDEX IF NOT EXISTS talk_requests_asked ON talk_requests (asked, created_at, id);
CREATE INDEX IF NOT EXISTS talk_requests_due ON talk_requests (expires_at) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS talk_requests_answered ON talk_requests (answered_at) WHERE answered_at IS NOT NULL;

-- The room of a talk is nearby:<id>.
CREATE TABLE IF NOT EXISTS talks (
    id         UUID PRIMARY KEY,                -- the request's
    asker      UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    asked      UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    opened_at  TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    ended_at   TIMESTAMPTZ                      -- NULL while it goes on
);
CREATE INDEX IF NOT EXISTS talks_asker ON talks (asker, opened_at, id);
CREATE INDEX IF NOT EXISTS talks_asked ON talks (asked, opened_at, id);
CREATE INDEX IF NOT EXISTS talks_due ON talks (expires_at) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS talks_ended ON talks (ended_at) WHERE ended_at IS NOT NULL;
