-- Objects (pictures, exports), versions of profiles, and accounts that end.

-- +goose NO TRANSACTION
-- +goose Up
-- What is in the object store. The row is there before the object and goes after
-- it, so that whatever a crash leaves behind is found: by its time.
CREATE TABLE IF NOT EXISTS objects (
    key        TEXT PRIMARY KEY,
    user_id    UUID REFERENCES users (id) ON DELETE SET NULL, -- whose; NULL: they are gone, and it goes, too
    kind       TEXT NOT NULL,                   -- picture or export
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at TIMESTAMPTZ                      -- it is deleted then; NULL: it is in use
);
CREATE INDEX IF NOT EXISTS objects_user ON objects (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS objects_expiry ON objects (expires_at) WHERE expires_at IS NOT NULL;

-- Copies of their data that people asked for.
CREATE TABLE IF NOT EXISTS exports (
    id         UUID PRIMARY KEY,
    user_id    UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ready_at   TIMESTAMPTZ,                     -- NULL: it is being made
    expires_at TIMESTAMPTZ,                     -- NULL: likewise
    size       BIGINT NOT NULL DEFAULT 0        -- bytes
);
CREATE INDEX IF NOT EXISTS exports_user ON exports (user_id, created_at);
CREATE INDEX IF NOT EXISTS exports_expiry ON exports (expires_at) WHERE expires_at IS NOT NULL;

-- Each change of what others see of a profile adds one, in its transaction.
ALTER TABLE users ADD COLUMN IF NOT EXISTS profile_version BIGINT NOT NULL DEFAULT 1;
-- Since when the account is ended: it has neither name nor credentials any more,
-- and its row goes once nothing can be on its way.
ALTER TABLE users ADD COLUMN IF NOT EXISTS deleted_at TIMESTAMPTZ; -- NULL: it is not

-- Who read where somebody is stays known to them, without a name, when the reader's
-- account is deleted: the id there is nobody's then.
ALTER TABLE location_followed DROP CONSTRAINT IF EXISTS location_followed_viewer_fkey;
