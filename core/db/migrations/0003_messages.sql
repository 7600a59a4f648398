-- Messages. Neither table refers to another: a room is named by text, and not
-- every room is a group.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS rooms (
    room        TEXT PRIMARY KEY,
    last_number BIGINT NOT NULL,                -- of the room's newest message
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS messages (
    room      TEXT NOT NULL,
    number    BIGINT NOT NULL,                  -- dense from 1: the only order of messages
    id        UUID NOT NULL,
    sender    UUID NOT NULL,
    client_id TEXT NOT NULL,                    -- chosen by the client: makes a retry harmless
    body      TEXT NOT NULL,
    sent_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (room, number),
    CONSTRAINT messages_client_id_unique UNIQUE (room, sender, client_id)
);
