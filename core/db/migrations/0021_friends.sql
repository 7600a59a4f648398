-- Who is friends with whom, who asked for it, and who may be found by name.

-- +goose NO TRANSACTION
-- +goose Up
-- Of two people there are at most two requests, one each way. One that was
-- answered stays for a while: it says how many somebody sent of late, and that
-- one that was declined is not to come again at once.
CREATE TABLE IF NOT EXISTS friend_requests (
    requester   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    requested   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    state       TEXT NOT NULL DEFAULT 'open',
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    answered_at TIMESTAMPTZ,                    -- NULL while it is open
    PRIMARY KEY (requester, requested),
    CONSTRAINT friend_requests_others CHECK (requester <> requested),
    CONSTRAINT friend_requests_state CHECK (state IN ('open', 'accepted', 'declined', 'canceled'))
);
CREATE INDEX IF NOT EXISTS friend_requests_requester ON friend_requests (requester, created_at, requested);
CREATE INDEX IF NOT EXISTS friend_requests_requested ON friend_requests (requested, created_at, requester);
CREATE INDEX IF NOT EXISTS friend_requests_answered ON friend_requests (answered_at) WHERE answered_at IS NOT NULL;

-- A friendship is two rows, so that each one's list is one range.
CREATE TABLE IF NOT EXISTS friends (
    user_id   UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    friend_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    since     TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, friend_id),
    CONSTRAINT friends_others CHECK (user_id <> friend_id)
);
CREATE INDEX IF NOT EXISTS friends_since ON friends (user_id, since, friend_id);
CREATE INDEX IF NOT EXISTS friends_friend ON friends (friend_id);

CREATE TABLE IF NOT EXISTS friend_settings (
    user_id      UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, -- no row: the defaults
    discoverable BOOL NOT NULL DEFAULT false,   -- found by name
    requests     TEXT NOT NULL DEFAULT 'everyone',
    CONSTRAINT friend_settings_requests CHECK (requests IN ('everyone', 'groups', 'nobody'))
);

-- By what those who want it are found: their name, and the rest of it from each
-- later word on. Bytes, because they sort the same everywhere: a beginning is
-- one range of the key.
CREATE TABLE IF NOT EXISTS user_terms (
    term    BYTEA NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (term, user_id)
);
CREATE INDEX IF NOT EXISTS user_terms_user ON user_terms (user_id);
