-- Who wants to have nothing to do with whom. A block works both ways, so it is
-- looked for from both sides.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS blocks (
    blocker    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    blocked    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (blocker, blocked),
    CONSTRAINT blocks_others CHECK (blocker <> blocked)
);
CREATE INDEX IF NOT EXISTS blocks_blocked ON blocks (blocked);
