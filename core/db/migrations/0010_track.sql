-- The private track of those who switched it on. Positions are sealed under the
-- deployment's secret; the time is not, for ranges and retention.

-- +goose NO TRANSACTION
-- +goose Up
CREATE TABLE IF NOT EXISTS location_track (
    user_id     UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    captured_at TIMESTAMPTZ NOT NULL,
    sealed      BYTEA NOT NULL,
    PRIMARY KEY (user_id, captured_at)
);
