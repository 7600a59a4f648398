-- Who could read whose position, when, how precisely. What went through a room
-- is two kinds of intervals, who was told of in it and who followed it, and no
-- row for each pair: they are intersected when somebody asks. Single reads are
-- counted by the hour.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS location_told (
    subject   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    room      TEXT NOT NULL,
    precision SMALLINT NOT NULL,
    from_at   TIMESTAMPTZ NOT NULL,
    until_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (subject, room, precision, from_at)
);
CREATE INDEX IF NOT EXISTS location_told_age ON location_told (until_at);

CREATE TABLE IF NOT EXISTS location_followed (
    room     TEXT NOT NULL,
    viewer   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    from_at  TIMESTAMPTZ NOT NULL,
    until_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (room, viewer, from_at)
);
CREATE INDEX IF NOT EXISTS location_followed_room ON location_followed (room, until_at);
CREATE INDEX IF NOT EXISTS location_followed_age ON location_followed (until_at);

CREATE TABLE IF NOT EXISTS location_reads (
    subject   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    reader    UUID NOT NULL,                    -- a user, or a link
    how       TEXT NOT NULL,                    -- group, proximity, nearby, link …
    precision SMALLINT NOT NULL,
    hour      TIMESTAMPTZ NOT NULL,
    first_at  TIMESTAMPTZ NOT NULL,
    last_at   TIMESTAMPTZ NOT NULL,
    reads     INT NOT NULL,
    PRIMARY KEY (subject, reader, how, precision, hour)
);
CREATE INDEX IF NOT EXISTS location_reads_age ON location_reads (last_at);
