-- How often a zone was written: who writes it says which state the change was
-- made of, so that no update is lost to another writer's.

-- +goose Up
ALTER TABLE zones ADD COLUMN version BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE zones DROP COLUMN version;
