-- A zone's history, and kill switches.
--
-- History: what each change did to the zone's own rows, so that any
-- state that is kept can be made again. version is the zone's after it; diff is
-- history.go's.

-- +goose Up
ALTER TABLE outbox ADD COLUMN zone TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN diff BLOB;
CREATE INDEX outbox_zone ON outbox (zone, id) WHERE zone <> '';
-- Of what was before, rows without a number included, nothing is known.
INSERT INTO facts (name, value)
	SELECT 'history_floor', '' || (MAX(seq) + SUM(CASE WHEN seq = 0 THEN 1 ELSE 0 END)) FROM outbox HAVING COUNT(*) > 0;

-- Kill switches that are set; document is zone.Killed.
CREATE TABLE kills (
	name     TEXT PRIMARY KEY,
	document TEXT NOT NULL
);

-- +goose Down
DROP TABLE kills;
DELETE FROM facts WHERE name = 'history_floor';
DROP INDEX outbox_zone;
ALTER TABLE outbox DROP COLUMN diff;
ALTER TABLE outbox DROP COLUMN version;
ALTER TABLE outbox DROP COLUMN account;
ALTER TABLE outbox DROP COLUMN zone;
