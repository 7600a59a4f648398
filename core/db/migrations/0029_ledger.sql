-- Who owes whom: books of transactions that are never changed. See core/ledger.
--
-- No foreign keys within a book: on PostgreSQL the check of one is a read, which at
-- SERIALIZABLE makes neighbours in an index conflict that have nothing to do with
-- each other. `muster ctl ledger verify` looks for what they would refuse. Rows that
-- are written again and again have room beside them, so that indexes stay as they are.

-- +goose NO TRANSACTION
-- +goose Up
-- group:<uuid> or user:<uuid>, and how far its chain goes.
CREATE TABLE IF NOT EXISTS ledger_books (
    book TEXT PRIMARY KEY,
    seq  BIGINT NOT NULL,                       -- of the newest transaction; 0: none yet
    hash BYTEA NOT NULL                         -- of that
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS ledger_transactions (
    book     TEXT NOT NULL,
    seq      BIGINT NOT NULL,                   -- dense, from 1
    id       UUID NOT NULL,
    kind     TEXT NOT NULL,
    ref      UUID NOT NULL,                     -- of what it is about, as its kind says; zero: nothing else
    reverses UUID,                              -- the transaction that it takes back
    author   UUID,                              -- NULL: nobody, the software
    at       TIMESTAMPTZ NOT NULL,
    hash     BYTEA NOT NULL,                    -- of the one before, and this one with its postings
    PRIMARY KEY (book, seq),
    CONSTRAINT ledger_transactions_id UNIQUE (book, id),
    CONSTRAINT ledger_transactions_seq CHECK (seq > 0)
);
-- A transaction is taken back once at most.
CREATE UNIQUE INDEX IF NOT EXISTS ledger_transactions_reverses ON ledger_transactions (book, reverses) WHERE reverses IS NOT NULL;

-- The debtor owes the creditor so much more. That both are in one row, and the amount
-- is positive, is why no transaction can leave money over: it adds up to zero in each
-- currency by its shape.
CREATE TABLE IF NOT EXISTS ledger_postings (
    book     TEXT NOT NULL,
    seq      BIGINT NOT NULL,
    line     BIGINT NOT NULL,                   -- from 0
    debtor   TEXT NOT NULL,
    creditor TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount   BIGINT NOT NULL,
    PRIMARY KEY (book, seq, line),
    CONSTRAINT ledger_postings_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
    CONSTRAINT ledger_postings_two CHECK (debtor <> creditor)
);
-- What is between two accounts, the newest first.
CREATE INDEX IF NOT EXISTS ledger_postings_pair ON ledger_postings (book, debtor, creditor, currency, seq, line);

-- What it comes to: a owes b so much, if it is positive. Of the two accounts a has the
-- smaller name.
CREATE TABLE IF NOT EXISTS ledger_debts (
    book     TEXT NOT NULL,
    a        TEXT NOT NULL,
    b        TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount   BIGINT NOT NULL,
    PRIMARY KEY (book, a, b, currency),
    CONSTRAINT ledger_debts_amount CHECK (amount BETWEEN -1000000000000000 AND 1000000000000000),
    CONSTRAINT ledger_debts_two CHECK (a <> b)
) WITH (fillfactor = 70);
