-- When a user last took their position back, everywhere: for nodes that were not
-- told of it.

-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE location_sharing ADD COLUMN IF NOT EXISTS withdrawn_at TIMESTAMPTZ; -- NULL: never
