-- What people who met gave each other, and what they reported.

-- +goose NO TRANSACTION
-- +goose Up
-- Of the ratings that are revealed, in the transactions that reveal them.
ALTER TABLE users ADD COLUMN IF NOT EXISTS rating_sum BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN IF NOT EXISTS rating_count BIGINT NOT NULL DEFAULT 0;

-- What people took part in, and may rate each other for. Once it is closed its
-- people are forgotten, and it, too, if nobody rated.
CREATE TABLE IF NOT EXISTS encounters (
    id          UUID PRIMARY KEY,
    kind        TEXT NOT NULL,
    opened_at   TIMESTAMPTZ NOT NULL,           -- it was over, and could be rated
    window_ends TIMESTAMPTZ NOT NULL,
    closed_at   TIMESTAMPTZ,                    -- all was revealed; NULL: not yet
    CONSTRAINT encounters_kind CHECK (kind IN ('nearby', 'booking', 'hangout', 'direct'))
);
CREATE INDEX IF NOT EXISTS encounters_open ON encounters (window_ends) WHERE closed_at IS NULL;

CREATE TABLE IF NOT EXISTS encounter_people (
    encounter_id UUID NOT NULL REFERENCES encounters (id) ON DELETE CASCADE,
    user_id      UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (encounter_id, user_id)
);
CREATE INDEX IF NOT EXISTS encounter_people_user ON encounter_people (user_id);

CREATE TABLE IF NOT EXISTS ratings (
    id           UUID PRIMARY KEY,
    encounter_id UUID NOT NULL REFERENCES encounters (id) ON DELETE CASCADE,
    rater        UUID REFERENCES users (id) ON DELETE SET NULL, -- NULL: their account is gone
    ratee        UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    stars        BIGINT NOT NULL,
    text         TEXT NOT NULL DEFAULT '',
    revealed_at  TIMESTAMPTZ,                   -- the day, at midnight; NULL: only the rater knows of it
    CONSTRAINT ratings_once UNIQUE (encounter_id, rater, ratee),
    CONSTRAINT ratings_others CHECK (rater <> ratee),
    CONSTRAINT ratings_stars CHECK (stars BETWEEN 1 AND 5)
);
CREATE INDEX IF NOT EXISTS ratings_ratee ON ratings (ratee, revealed_at, id) WHERE revealed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS ratings_rater ON ratings (rater) WHERE rater IS NOT NULL;

-- What somebody wants whoever runs the deployment to look at: a message (room and
-- number), a room, or a person (neither).
CREATE TABLE IF NOT EXISTS reports (
    id         UUID PRIMARY KEY,
    reporter   UUID REFERENCES users (id) ON DELETE SET NULL, -- NULL: their account is gone
    subject    UUID REFERENCES users (id) ON DELETE CASCADE, -- whom it is about; NULL: a room of many
    room       TEXT NOT NULL DEFAULT '',
    number     BIGINT NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL,
    text       TEXT NOT NULL DEFAULT '',
    evidence   BYTEA,                           -- sealed: what it said when it was reported
    created_at TIMESTAMPTZ NOT NULL,
    closed_at  TIMESTAMPTZ,                     -- NULL: nobody looked at it yet
    outcome    TEXT NOT NULL DEFAULT ''
);
-- One open report of each about the same.
CREATE UNIQUE INDEX IF NOT EXISTS reports_person ON reports (reporter, subject) WHERE closed_at IS NULL AND room = '';
CREATE UNIQUE INDEX IF NOT EXISTS reports_room ON reports (reporter, room, number) WHERE closed_at IS NULL AND room <> '';
CREATE INDEX IF NOT EXISTS reports_reporter ON reports (reporter, created_at) WHERE reporter IS NOT NULL;
CREATE INDEX IF NOT EXISTS reports_subject ON reports (subject) WHERE subject IS NOT NULL;
CREATE INDEX IF NOT EXISTS reports_created ON reports (created_at, id);
