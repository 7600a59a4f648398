-- What becomes of messages: answers, mentions, files, edits, reactions, pins.

-- +goose NO TRANSACTION
-- +goose Up
-- How often messages of the room were revised: dense, like last_number.
ALTER TABLE rooms ADD COLUMN IF NOT EXISTS last_change BIGINT NOT NULL DEFAULT 0;

ALTER TABLE messages ADD COLUMN IF NOT EXISTS reply_to BIGINT NOT NULL DEFAULT 0; -- a number; 0: none
ALTER TABLE messages ADD COLUMN IF NOT EXISTS parts BOOL NOT NULL DEFAULT false;  -- it has mentions or attachments
ALTER TABLE messages ADD COLUMN IF NOT EXISTS edited_at TIMESTAMPTZ;              -- of the last edit
ALTER TABLE messages ADD COLUMN IF NOT EXISTS deleted_at TIMESTAMPTZ;             -- for everyone
ALTER TABLE messages ADD COLUMN IF NOT EXISTS pinned_at TIMESTAMPTZ;
-- Which of the room's revisions made it so; 0: it is as it was sent.
ALTER TABLE messages ADD COLUMN IF NOT EXISTS change BIGINT NOT NULL DEFAULT 0;
CREATE INDEX IF NOT EXISTS messages_change ON messages (room, change) WHERE change > 0;
CREATE INDEX IF NOT EXISTS messages_pinned ON messages (room, pinned_at) WHERE pinned_at IS NOT NULL;
-- What it is found by: whole words, of whatever language. A column of them would
-- double the table, and cost the same to write.
CREATE INDEX IF NOT EXISTS messages_words ON messages USING GIN (to_tsvector('simple', body));

CREATE TABLE IF NOT EXISTS message_mentions (
    room    TEXT NOT NULL,
    number  BIGINT NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (room, number, user_id)
);
CREATE INDEX IF NOT EXISTS message_mentions_user ON message_mentions (user_id);

-- Of each file what stands in the message; the file itself is an upload's.
CREATE TABLE IF NOT EXISTS message_attachments (
    room      TEXT NOT NULL,
    number    BIGINT NOT NULL,
    place     INT2 NOT NULL,                    -- in the message, from 0
    id        UUID NOT NULL,
    name      TEXT NOT NULL,
    type      TEXT NOT NULL,                    -- media type, by its content
    size      BIGINT NOT NULL,                  -- bytes
    width     INT4 NOT NULL,                    -- pixels of an image, else 0
    height    INT4 NOT NULL,
    thumbnail BOOL NOT NULL,
    PRIMARY KEY (room, number, place)
);
CREATE INDEX IF NOT EXISTS message_attachments_id ON message_attachments (id);

-- What messages said before they were edited. It goes when the message does.
CREATE TABLE IF NOT EXISTS message_edits (
    room       TEXT NOT NULL,
    number     BIGINT NOT NULL,
    change     BIGINT NOT NULL,                 -- the revision that replaced it
    body       TEXT NOT NULL,
    written_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (room, number, change)
);

CREATE TABLE IF NOT EXISTS message_reactions (
    room       TEXT NOT NULL,
    number     BIGINT NOT NULL,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    emoji      TEXT NOT NULL,
    reacted_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (room, number, user_id, emoji)
);
CREATE INDEX IF NOT EXISTS message_reactions_user ON message_reactions (user_id);

-- Messages that somebody deleted for themself alone.
CREATE TABLE IF NOT EXISTS message_hidden (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    room    TEXT NOT NULL,
    number  BIGINT NOT NULL,
    PRIMARY KEY (user_id, room, number)
);
