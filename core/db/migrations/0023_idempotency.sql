-- +goose NO TRANSACTION
-- +goose Up
-- What a write with an Idempotency-Key was answered, in the transaction of the
-- write itself. The row is known by a keyed hash of whose key it is; the answer is
-- sealed and may hold tokens. This takes the place of idempotency_keys.
CREATE TABLE IF NOT EXISTS idempotent_answers (
    id         BYTEA PRIMARY KEY,
    user_id    UUID,
    request    BYTEA NOT NULL,
    answer     BYTEA,
    created_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX IF NOT EXISTS idempotent_answers_age ON idempotent_answers (created_at);
CREATE INDEX IF NOT EXISTS idempotent_answers_user ON idempotent_answers (user_id);
