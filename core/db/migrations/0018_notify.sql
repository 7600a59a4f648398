-- Notifications: what people are told, by which ways, and what became of it.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS notify_settings (
    user_id     UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    language    TEXT NOT NULL DEFAULT '',       -- BCP 47; empty: the default
    time_zone   TEXT NOT NULL DEFAULT '',       -- of the IANA database; empty: UTC
    quiet_from  SMALLINT NOT NULL DEFAULT 0,    -- minutes after midnight there; equal: no quiet hours
    quiet_until SMALLINT NOT NULL DEFAULT 0,
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- What differs from the defaults of a kind.
CREATE TABLE IF NOT EXISTS notify_preferences (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind    TEXT NOT NULL,
    channel TEXT NOT NULL,
    enabled BOOL NOT NULL,
    PRIMARY KEY (user_id, kind, channel)
);

CREATE TABLE IF NOT EXISTS notifications (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    data       JSONB NOT NULL DEFAULT '{}',     -- ids, no names
    about      UUID REFERENCES users (id) ON DELETE CASCADE, -- the user whom data names, if any
    once_key   TEXT,                            -- two with one key are one
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    shown_at   TIMESTAMPTZ,                     -- since when it is in the user's list; NULL: not yet, or muted there
    read_at    TIMESTAMPTZ,
    CONSTRAINT notifications_once UNIQUE (user_id, once_key)
);
CREATE INDEX IF NOT EXISTS notifications_list ON notifications (user_id, created_at, id) WHERE shown_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS notifications_unread ON notifications (user_id) WHERE shown_at IS NOT NULL AND read_at IS NULL;
CREATE INDEX IF NOT EXISTS notifications_about ON notifications (about) WHERE about IS NOT NULL;
CREATE INDEX IF NOT EXISTS notifications_age ON notifications (created_at);

-- One way to one address of a notification.
CREATE TABLE IF NOT EXISTS notify_deliveries (
    id              UUID PRIMARY KEY,           -- what the other side knows it again by: Message-ID, webhook-id, Topic
    notification_id UUID NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    channel         TEXT NOT NULL,
    address         TEXT NOT NULL,              -- the id of an address within the channel, never the address itself
    state           TEXT NOT NULL,
    attempts        INT NOT NULL DEFAULT 0,
    detail          TEXT NOT NULL DEFAULT '',   -- why it failed or was not sent
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT notify_deliveries_unique UNIQUE (notification_id, channel, address),
    CONSTRAINT notify_deliveries_state CHECK (state IN ('queued', 'failed', 'sent', 'dead', 'muted'))
);

-- Mails to an address that need not be a user's: links that prove it, and the like.
CREATE TABLE IF NOT EXISTS mails (
    id         UUID PRIMARY KEY,
    kind       TEXT NOT NULL,
    sealed     BYTEA,                           -- address, language, data; NULL once it was sent or given up
    state      TEXT NOT NULL,
    attempts   INT NOT NULL DEFAULT 0,
    detail     TEXT NOT NULL DEFAULT '',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT mails_state CHECK (state IN ('queued', 'failed', 'sent', 'dead'))
);
CREATE INDEX IF NOT EXISTS mails_age ON mails (created_at);

-- One notification for many.
CREATE TABLE IF NOT EXISTS notify_bulks (
    id          UUID PRIMARY KEY,
    kind        TEXT NOT NULL,
    data        JSONB NOT NULL DEFAULT '{}',
    audience    TEXT NOT NULL,                  -- the name of a query
    argument    TEXT NOT NULL DEFAULT '',       -- of it, such as a group's id
    position    UUID NOT NULL,                  -- users up to this one have it
    recipients  BIGINT NOT NULL DEFAULT 0,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    finished_at TIMESTAMPTZ
);

-- Browsers that take pushes (RFC 8030); each belongs to a login and ends with it.
CREATE TABLE IF NOT EXISTS push_subscriptions (
    id            UUID PRIMARY KEY,
    user_id       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    login_id      UUID NOT NULL REFERENCES logins (id) ON DELETE CASCADE,
    endpoint_hash BYTEA NOT NULL,               -- SHA-256
    sealed        BYTEA NOT NULL,               -- endpoint and keys: whoever has them can push
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT push_subscriptions_endpoint UNIQUE (endpoint_hash)
);
CREATE INDEX IF NOT EXISTS push_subscriptions_user ON push_subscriptions (user_id, created_at, id);
CREATE INDEX IF NOT EXISTS push_subscriptions_login ON push_subscriptions (login_id);

-- URLs that are told: a user's notifications, or a group's events.
CREATE TABLE IF NOT EXISTS webhooks (
    id            UUID PRIMARY KEY,
    user_id       UUID REFERENCES users (id) ON DELETE CASCADE,
    group_id      UUID REFERENCES groups (id) ON DELETE CASCADE,
    url           TEXT NOT NULL,
    secret        BYTEA NOT NULL,               -- sealed: what is sent is signed with it
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    delivered_at  TIMESTAMPTZ,                  -- the last time that it took something
    failing_since TIMESTAMPTZ,
    disabled_at   TIMESTAMPTZ,                  -- it said that it is gone, or failed for too long
    detail        TEXT NOT NULL DEFAULT '',
    CONSTRAINT webhooks_owner CHECK ((user_id IS NULL) <> (group_id IS NULL))
);
CREATE INDEX IF NOT EXISTS webhooks_user ON webhooks (user_id, created_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS webhooks_group ON webhooks (group_id, created_at, id) WHERE group_id IS NOT NULL;

-- Keys that are made once per deployment.
CREATE TABLE IF NOT EXISTS notify_keys (
    name       TEXT PRIMARY KEY,
    public     BYTEA NOT NULL,
    private    BYTEA NOT NULL,                  -- sealed
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
