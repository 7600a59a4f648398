-- Rows that say where they are at home are kept there. HOME is a region as Muster calls
-- it and REGION as the database does, one arm for each; the column's name ends in a sum
-- of them, so that another set of regions makes another column.

ALTER TABLE users ADD COLUMN IF NOT EXISTS kept_in_SUM crdb_internal_region NOT NULL AS (CASE home_region WHEN 'HOME' THEN 'REGION' ELSE 'PRIMARY' END) STORED;
ALTER TABLE users SET LOCALITY REGIONAL BY ROW AS kept_in_SUM;

ALTER TABLE groups ADD COLUMN IF NOT EXISTS kept_in_SUM crdb_internal_region NOT NULL AS (CASE home_region WHEN 'HOME' THEN 'REGION' ELSE 'PRIMARY' END) STORED;
ALTER TABLE groups SET LOCALITY REGIONAL BY ROW AS kept_in_SUM;

ALTER TABLE conversations ADD COLUMN IF NOT EXISTS kept_in_SUM crdb_internal_region NOT NULL AS (CASE home_region WHEN 'HOME' THEN 'REGION' ELSE 'PRIMARY' END) STORED;
ALTER TABLE conversations SET LOCALITY REGIONAL BY ROW AS kept_in_SUM;

ALTER TABLE calls ADD COLUMN IF NOT EXISTS kept_in_SUM crdb_internal_region NOT NULL AS (CASE home_region WHEN 'HOME' THEN 'REGION' ELSE 'PRIMARY' END) STORED;
ALTER TABLE calls SET LOCALITY REGIONAL BY ROW AS kept_in_SUM;
