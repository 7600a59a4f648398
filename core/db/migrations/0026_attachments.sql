-- Files that come with messages, from the moment their upload begins.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS attachments (
    id          UUID PRIMARY KEY,
    user_id     UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    length      BIGINT NOT NULL,                -- bytes that are uploaded
    received    BIGINT NOT NULL DEFAULT 0,      -- of them are there
    size        BIGINT NOT NULL,                -- bytes that are kept: an image's without what is beside its pixels
    type        TEXT NOT NULL DEFAULT '',       -- media type, by its content; empty until it is finished
    width       INT4 NOT NULL DEFAULT 0,        -- pixels of an image, else 0
    height      INT4 NOT NULL DEFAULT 0,
    thumbnail   TEXT NOT NULL DEFAULT '',       -- the key of its object; empty: it has none
    room        TEXT NOT NULL DEFAULT '',       -- empty: it is in no message yet
    created_at  TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    expires_at  TIMESTAMPTZ,                    -- NULL: a message has it
    CONSTRAINT attachments_received CHECK (received BETWEEN 0 AND length)
);
CREATE INDEX IF NOT EXISTS attachments_user ON attachments (user_id);
CREATE INDEX IF NOT EXISTS attachments_expiry ON attachments (expires_at) WHERE expires_at IS NOT NULL;

-- The objects that a file is made of, in the order of what they hold.
CREATE TABLE IF NOT EXISTS attachment_chunks (
    attachment_id UUID NOT NULL REFERENCES attachments (id) ON DELETE CASCADE,
    start         BIGINT NOT NULL,
    size          BIGINT NOT NULL,
    key           TEXT NOT NULL,                -- of objects
    PRIMARY KEY (attachment_id, start)
);
