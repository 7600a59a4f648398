-- Money that comes by a gateway.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS payments (
    id          UUID PRIMARY KEY,
    user_id     UUID NOT NULL,                  -- who pays
    to_user     UUID,                           -- who gets it; NULL: the platform
    kind        TEXT NOT NULL,                  -- what for
    ref         UUID NOT NULL,                  -- which one
    amount      BIGINT NOT NULL,                -- minor units
    currency    TEXT NOT NULL,
    method      TEXT NOT NULL,                  -- the gateway's id of it
    off_session BOOLEAN NOT NULL,
    save        BOOLEAN NOT NULL,
    gateway     TEXT NOT NULL,
    gateway_id  TEXT,                           -- of the intent; NULL: there is none yet
    customer_id TEXT NOT NULL DEFAULT '',       -- of the payer, at the gateway
    phase       TEXT NOT NULL DEFAULT '',       -- of the intent
    status      TEXT NOT NULL,
    reason      TEXT NOT NULL DEFAULT '',       -- why it failed, in the gateway's word
    stop        BOOLEAN NOT NULL DEFAULT false, -- it is to be canceled
    refunded    BIGINT NOT NULL DEFAULT 0,
    version     BIGINT NOT NULL,                -- of this row
    tries       INT4 NOT NULL DEFAULT 0,        -- calls that failed in a row
    next_at     TIMESTAMPTZ,                    -- when it is looked at again; NULL: never
    created_at  TIMESTAMPTZ NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL,
    CONSTRAINT payments_intent UNIQUE (gateway, gateway_id),
    CONSTRAINT payments_amount CHECK (amount > 0),
    CONSTRAINT payments_refunded CHECK (refunded BETWEEN 0 AND amount),
    CONSTRAINT payments_others CHECK (user_id <> to_user)
);
-- Of what is to be paid one payment is under way at a time.
CREATE UNIQUE INDEX IF NOT EXISTS payments_under_way ON payments (kind, ref) WHERE status IN ('created', 'requires_action', 'processing');
CREATE INDEX IF NOT EXISTS payments_due ON payments (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS payments_user ON payments (user_id, created_at, id);
CREATE INDEX IF NOT EXISTS payments_to ON payments (to_user, created_at, id) WHERE to_user IS NOT NULL;

-- What a payment was, one row for each change that people are told.
CREATE TABLE IF NOT EXISTS payment_history (
    payment_id UUID NOT NULL REFERENCES payments (id) ON DELETE CASCADE,
    version    BIGINT NOT NULL,
    status     TEXT NOT NULL,
    refunded   BIGINT NOT NULL,
    reason     TEXT NOT NULL,
    source     TEXT NOT NULL,                   -- who said so: payer, platform, gateway, webhook
    at         TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (payment_id, version)
);

CREATE TABLE IF NOT EXISTS payment_refunds (
    id         UUID PRIMARY KEY,
    payment_id UUID NOT NULL REFERENCES payments (id) ON DELETE CASCADE,
    amount     BIGINT NOT NULL,
    gateway_id TEXT,                            -- NULL: the gateway hasn't answered yet
    status     TEXT NOT NULL,
    reason     TEXT NOT NULL DEFAULT '',
    by_user    UUID,                            -- NULL: an operator, at the gateway
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT payment_refunds_amount CHECK (amount > 0)
);
CREATE INDEX IF NOT EXISTS payment_refunds_payment ON payment_refunds (payment_id);

-- Webhooks that were heard, so that a repetition is known.
CREATE TABLE IF NOT EXISTS payment_events (
    gateway     TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    kind        TEXT NOT NULL,
    payment_id  UUID NOT NULL REFERENCES payments (id) ON DELETE CASCADE,
    received_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (gateway, event_id)
);
CREATE INDEX IF NOT EXISTS payment_events_payment ON payment_events (payment_id);
CREATE INDEX IF NOT EXISTS payment_events_received ON payment_events (received_at);

-- People who let the gateway remember how they pay. Who has deleted their account is
-- nobody here (NULL) until the gateway has forgotten them, too.
CREATE TABLE IF NOT EXISTS payment_customers (
    gateway     TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    user_id     UUID,
    PRIMARY KEY (gateway, customer_id),
    CONSTRAINT payment_customers_user UNIQUE (user_id, gateway)
);
