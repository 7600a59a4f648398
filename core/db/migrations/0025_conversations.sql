-- Who talks with whom outside of groups, how far everybody has got in which room, and
-- what they chose about it. Groups have their own members; what is kept by room here
-- is theirs, too.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS conversations (
    room        TEXT PRIMARY KEY,               -- direct:…, nearby:…, booking:…
    pair        BOOL NOT NULL,                  -- of two people: a block between them closes it
    home_region TEXT NOT NULL,
    version     BIGINT NOT NULL DEFAULT 1,      -- of who may be in it: each change adds one, in its transaction
    created_at  TIMESTAMPTZ NOT NULL,
    ended_at    TIMESTAMPTZ                     -- NULL while it goes on
);

CREATE TABLE IF NOT EXISTS conversation_people (
    room    TEXT NOT NULL REFERENCES conversations (room) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    since   TIMESTAMPTZ NOT NULL,
    left_at TIMESTAMPTZ,                        -- NULL while they are in it
    PRIMARY KEY (room, user_id)
);
CREATE INDEX IF NOT EXISTS conversation_people_user ON conversation_people (user_id, room);

-- How far a device has got; of a user it is the most of their devices. The device ''
-- is no one's: where somebody began, and what their old devices had.
CREATE TABLE IF NOT EXISTS receipts (
    room      TEXT NOT NULL,
    user_id   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    device    TEXT NOT NULL,
    delivered BIGINT NOT NULL,                  -- never less than read
    read      BIGINT NOT NULL,
    at        TIMESTAMPTZ NOT NULL,             -- of the last change
    PRIMARY KEY (room, user_id, device)
);
CREATE INDEX IF NOT EXISTS receipts_user ON receipts (user_id);

CREATE TABLE IF NOT EXISTS conversation_mutes (
    room    TEXT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    until   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (room, user_id)
);
CREATE INDEX IF NOT EXISTS conversation_mutes_user ON conversation_mutes (user_id);

CREATE TABLE IF NOT EXISTS conversation_settings (
    user_id       UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- no row: the defaults
    receipts      TEXT NOT NULL DEFAULT 'everyone',
    messages_from TEXT NOT NULL DEFAULT 'acquaintances',
    CONSTRAINT conversation_settings_receipts CHECK (receipts IN ('everyone', 'nobody')),
    CONSTRAINT conversation_settings_messages_from CHECK (messages_from IN ('acquaintances', 'friends', 'nobody'))
);

-- Who was a member before there were receipts begins as somebody who joins.
INSERT INTO receipts (room, user_id, device, delivered, read, at)
SELECT r.room, gm.user_id, '', r.last_number, r.last_number, now()
FROM group_members gm JOIN rooms r ON r.room = 'group:' || gm.group_id::TEXT WHERE r.last_number > 0
ON CONFLICT DO NOTHING;
