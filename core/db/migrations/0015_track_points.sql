-- How many points a private track has, which is bounded. Whoever adds or deletes
-- some counts them in its transaction.

-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE location_sharing ADD COLUMN IF NOT EXISTS track_points BIGINT NOT NULL DEFAULT 0;
UPDATE location_sharing SET track_points = (SELECT count(*) FROM location_track t WHERE t.user_id = location_sharing.user_id) WHERE track;
