-- What users pay for again and again.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS plans (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    rank       BIGINT NOT NULL,                 -- a higher one is dearer: who changes to it has it at once
    months     BIGINT NOT NULL,                 -- that a period has
    trial_days BIGINT NOT NULL DEFAULT 0,
    features   JSONB NOT NULL,                  -- switches and numbers, by name
    offered    BOOLEAN NOT NULL DEFAULT true,   -- false: those who have it keep it
    CONSTRAINT plans_months CHECK (months BETWEEN 1 AND 120),
    CONSTRAINT plans_trial CHECK (trial_days BETWEEN 0 AND 366)
);

CREATE TABLE IF NOT EXISTS plan_prices (
    plan_id  TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    currency TEXT NOT NULL,                     -- ISO 4217
    amount   BIGINT NOT NULL,                   -- minor units, for a period
    PRIMARY KEY (plan_id, currency),
    CONSTRAINT plan_prices_amount CHECK (amount >= 0)
);

-- A deployment changes these rows as it likes; only free has to be there.
INSERT INTO plans (id, name, rank, months, trial_days, features) VALUES
    ('free', 'Free', 0, 1, 0, '{"upload_bytes": 2147483648, "group_members": 250}'),
    ('plus', 'Plus', 10, 1, 14, '{"upload_bytes": 21474836480, "group_members": 500}'),
    ('pro', 'Pro', 20, 1, 0, '{"upload_bytes": 214748364800, "group_members": 1000}')
    ON CONFLICT (id) DO NOTHING;
INSERT INTO plan_prices (plan_id, currency, amount) VALUES
    ('plus', 'EUR', 399), ('plus', 'USD', 399), ('plus', 'INR', 19900), ('plus', 'JPY', 600),
    ('pro', 'EUR', 999), ('pro', 'USD', 999), ('pro', 'INR', 49900), ('pro', 'JPY', 1500)
    ON CONFLICT (plan_id, currency) DO NOTHING;

-- What a user has: the one that lives, or the last one.
CREATE TABLE IF NOT EXISTS subscriptions (
    user_id         UUID PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    version         BIGINT NOT NULL,
    state           TEXT NOT NULL,
    cancel          BOOLEAN NOT NULL DEFAULT false, -- it ends with the period
    plan_id         TEXT NOT NULL REFERENCES plans (id),
    amount          BIGINT NOT NULL,            -- the price when it was chosen
    currency        TEXT NOT NULL,
    months          BIGINT NOT NULL,
    next_plan_id    TEXT REFERENCES plans (id), -- from the next period on; NULL: the same
    next_amount     BIGINT,
    next_months     BIGINT,
    payment_method  TEXT NOT NULL,              -- the gateway's name for it
    method_saved    BOOLEAN NOT NULL DEFAULT false, -- it has paid, and pays again without its owner
    trialed         BOOLEAN NOT NULL DEFAULT false,
    period          BIGINT NOT NULL DEFAULT 0,  -- the newest that was paid for
    starts_at       TIMESTAMPTZ NOT NULL,
    ends_at         TIMESTAMPTZ NOT NULL,
    anchor_at       TIMESTAMPTZ NOT NULL,       -- ends_at is anchor_months after it
    anchor_months   BIGINT NOT NULL,
    due_at          TIMESTAMPTZ,                -- when it is looked at again; NULL: not by itself
    CONSTRAINT subscriptions_state CHECK (state IN ('incomplete', 'trialing', 'active', 'past_due', 'expired'))
);
CREATE INDEX IF NOT EXISTS subscriptions_due ON subscriptions (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS subscription_charges (
    id            UUID PRIMARY KEY,
    user_id       UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    period        BIGINT NOT NULL,
    plan_id       TEXT NOT NULL REFERENCES plans (id),
    price         BIGINT NOT NULL,
    amount        BIGINT NOT NULL,              -- the price, less what an upgrade takes off it
    currency      TEXT NOT NULL,
    months        BIGINT NOT NULL,
    starts_at     TIMESTAMPTZ NOT NULL,
    ends_at       TIMESTAMPTZ NOT NULL,
    anchor_at     TIMESTAMPTZ NOT NULL,
    anchor_months BIGINT NOT NULL,
    state         TEXT NOT NULL,
    attempts      BIGINT NOT NULL DEFAULT 0,
    trying        UUID,                         -- the payment that is under way
    failed_at     TIMESTAMPTZ,                  -- the first attempt
    next_try_at   TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL,
    paid_at       TIMESTAMPTZ,
    payment_id    UUID,                         -- that paid it; NULL: none, or there was nothing to pay
    refunded      BIGINT NOT NULL DEFAULT 0,    -- minor units of that, so far
    CONSTRAINT subscription_charges_state CHECK (state IN ('open', 'paid', 'void', 'refunded')),
    CONSTRAINT subscription_charges_amount CHECK (amount BETWEEN 0 AND price)
);
-- A period is charged once.
CREATE UNIQUE INDEX IF NOT EXISTS subscription_charges_period ON subscription_charges (user_id, period) WHERE state <> 'void';
CREATE UNIQUE INDEX IF NOT EXISTS subscription_charges_open ON subscription_charges (user_id) WHERE state = 'open';
CREATE INDEX IF NOT EXISTS subscription_charges_user ON subscription_charges (user_id, created_at);
