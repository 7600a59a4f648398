-- +goose NO TRANSACTION
-- +goose Up
-- Whom a group does not let in, by no code. Who did it stays known while they
-- have an account.
CREATE TABLE IF NOT EXISTS group_bans (
    group_id   UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    banned_by  UUID REFERENCES users (id) ON DELETE SET NULL,
    reason     TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX IF NOT EXISTS group_bans_since ON group_bans (group_id, created_at, user_id);
CREATE INDEX IF NOT EXISTS group_bans_user ON group_bans (user_id);
CREATE INDEX IF NOT EXISTS group_bans_by ON group_bans (banned_by);

-- The directory of public groups: by what each is found, as with user_terms. The
-- whole name comes first; without a search the directory is those.
CREATE TABLE IF NOT EXISTS group_terms (
    term     BYTEA NOT NULL,
    group_id UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    whole    BOOL NOT NULL,
    PRIMARY KEY (term, group_id)
);
CREATE INDEX IF NOT EXISTS group_terms_group ON group_terms (group_id);
CREATE INDEX IF NOT EXISTS group_terms_whole ON group_terms (term, group_id) WHERE whole;
