-- The regions of the database. What is written in capitals is replaced: DATABASE by
-- its name, PRIMARY by its first region, REGION by each other one, REGION FAILURE by
-- what it survives.

ALTER DATABASE "DATABASE" SET PRIMARY REGION "PRIMARY";

-- for each other region
ALTER DATABASE "DATABASE" ADD REGION IF NOT EXISTS "REGION";

ALTER DATABASE "DATABASE" SURVIVE REGION FAILURE;
