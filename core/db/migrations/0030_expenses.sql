-- What the members of groups spend for each other. Who owes whom is in the ledger;
-- here is what for. Ids of users stay after their accounts, as in the ledger, so
-- they refer to nothing. Accounts are named as there: member:<uuid>, wallet. What is
-- written with each expense doesn't refer to its group either: the check would be a
-- read, see 0029.

-- +goose NO TRANSACTION
-- +goose Up
-- A group's wallets: what was spent in each currency, by expenses that are in force.
CREATE TABLE IF NOT EXISTS expense_wallets (
    group_id UUID NOT NULL,
    currency TEXT NOT NULL,
    spent    BIGINT NOT NULL DEFAULT 0,
    ordinals BIGINT NOT NULL DEFAULT 0,         -- expenses that there ever were
    due_at   TIMESTAMPTZ,                       -- when members are notified of what is new; NULL: nothing is
    PRIMARY KEY (group_id, currency),
    CONSTRAINT expense_wallets_spent CHECK (spent >= 0)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS expense_wallets_due ON expense_wallets (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS expenses (
    id           UUID PRIMARY KEY,
    group_id     UUID NOT NULL,
    version      BIGINT NOT NULL,
    ordinal      BIGINT NOT NULL,               -- among those of its group in the currency it began with
    title        TEXT NOT NULL,
    category     TEXT NOT NULL,
    note         TEXT NOT NULL,
    spent_at     TIMESTAMPTZ NOT NULL,          -- its day (UTC), at the time of day at which it was added: the order of lists
    currency     TEXT NOT NULL,
    amount       BIGINT NOT NULL,
    payers       TEXT[] NOT NULL,               -- accounts
    paid         BIGINT[] NOT NULL,             -- by each of them
    mode         TEXT NOT NULL,
    members      UUID[] NOT NULL,               -- among whom it is split, sorted
    parts        TEXT[] NOT NULL,               -- what the mode says of each
    cuts         BIGINT[] NOT NULL,             -- what each bears
    receipts     UUID[] NOT NULL,               -- attachments
    posted       UUID NOT NULL,                 -- the ledger's transaction that is in force, or that ended it
    recurring_id UUID,                          -- what it was made by; NULL: somebody
    period       DATE,                          -- of that
    created_by   UUID NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    changed_by   UUID NOT NULL,
    changed_at   TIMESTAMPTZ NOT NULL,
    deleted      BOOLEAN NOT NULL DEFAULT false,
    CONSTRAINT expenses_amount CHECK (amount >= 0)
);
CREATE INDEX IF NOT EXISTS expenses_group ON expenses (group_id, spent_at, id);
CREATE UNIQUE INDEX IF NOT EXISTS expenses_period ON expenses (recurring_id, period) WHERE recurring_id IS NOT NULL;

-- What expenses were before they were changed.
CREATE TABLE IF NOT EXISTS expense_versions (
    expense_id UUID NOT NULL REFERENCES expenses (id) ON DELETE CASCADE,
    version    BIGINT NOT NULL,
    title      TEXT NOT NULL,
    category   TEXT NOT NULL,
    note       TEXT NOT NULL,
    spent_at   TIMESTAMPTZ NOT NULL,
    currency   TEXT NOT NULL,
    amount     BIGINT NOT NULL,
    payers     TEXT[] NOT NULL,
    paid       BIGINT[] NOT NULL,
    mode       TEXT NOT NULL,
    members    UUID[] NOT NULL,
    parts      TEXT[] NOT NULL,
    cuts       BIGINT[] NOT NULL,
    receipts   UUID[] NOT NULL,
    posted     UUID NOT NULL,
    changed_by UUID NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (expense_id, version)
);

-- What was paid to settle debts, and debts that were converted into another currency.
CREATE TABLE IF NOT EXISTS settlements (
    id            UUID PRIMARY KEY,
    group_id      UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    kind          TEXT NOT NULL,
    status        TEXT NOT NULL,
    version       BIGINT NOT NULL,
    payer         TEXT NOT NULL,                -- account: who pays, or owes what is converted
    payee         TEXT NOT NULL,
    currency      TEXT NOT NULL,
    amount        BIGINT NOT NULL,
    refunded      BIGINT NOT NULL DEFAULT 0,    -- of it, by the gateway
    into_currency TEXT NOT NULL DEFAULT '',     -- of a conversion
    into_amount   BIGINT NOT NULL DEFAULT 0,
    rate          TEXT NOT NULL DEFAULT '',
    method        TEXT NOT NULL,
    note          TEXT NOT NULL DEFAULT '',
    posted        UUID,                         -- the ledger's transaction; NULL: no money has moved yet
    created_by    UUID NOT NULL,
    created_at    TIMESTAMPTZ NOT NULL,
    changed_at    TIMESTAMPTZ NOT NULL,
    CONSTRAINT settlements_kind CHECK (kind IN ('payment', 'conversion')),
    CONSTRAINT settlements_status CHECK (status IN ('recorded', 'pending', 'settled', 'failed', 'undone')),
    CONSTRAINT settlements_amount CHECK (amount > 0 AND refunded BETWEEN 0 AND amount)
);
CREATE INDEX IF NOT EXISTS settlements_group ON settlements (group_id, created_at, id);

-- Expenses that come again.
CREATE TABLE IF NOT EXISTS recurring_expenses (
    id         UUID PRIMARY KEY,
    group_id   UUID NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    version    BIGINT NOT NULL,
    every      TEXT NOT NULL,
    zone       TEXT NOT NULL,                   -- IANA's name: where its days begin
    starts_on  DATE NOT NULL,
    until_on   DATE,                            -- the last day; NULL: none
    next_on    DATE,                            -- NULL: there is no next one
    next_at    TIMESTAMPTZ,                     -- when that day begins
    problem    TEXT NOT NULL DEFAULT '',        -- why it stopped, such as not_member
    title      TEXT NOT NULL,
    category   TEXT NOT NULL,
    note       TEXT NOT NULL,
    currency   TEXT NOT NULL,
    amount     BIGINT NOT NULL,
    payers     TEXT[] NOT NULL,
    paid       BIGINT[] NOT NULL,
    mode       TEXT NOT NULL,
    members    UUID[] NOT NULL,                 -- empty: all who are in the group then
    parts      TEXT[] NOT NULL,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT recurring_expenses_every CHECK (every IN ('day', 'week', 'month', 'year'))
);
CREATE INDEX IF NOT EXISTS recurring_expenses_group ON recurring_expenses (group_id, created_at, id);
CREATE INDEX IF NOT EXISTS recurring_expenses_due ON recurring_expenses (next_at) WHERE next_at IS NOT NULL;

-- Up to which of the ledger's transactions the members were notified.
CREATE TABLE IF NOT EXISTS expense_notices (
    group_id UUID PRIMARY KEY REFERENCES groups (id) ON DELETE CASCADE,
    told     BIGINT NOT NULL
);
