-- Certificates that no entry of the log names yet: nodes fetch the pair first.
-- One of the same id in certificates is what is served until then. held is
-- which control process has heard of all nodes connected to it that they hold
-- the pair of that sum.

-- +goose Up
CREATE TABLE staged (
	id       TEXT PRIMARY KEY,
	zone     TEXT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
	chain    TEXT NOT NULL,
	hosts    TEXT NOT NULL,
	issuer   TEXT NOT NULL,
	signature TEXT NOT NULL,
	expires  BIGINT NOT NULL,
	sealed   BLOB NOT NULL,
	data_key BLOB NOT NULL,
	bundle   TEXT NOT NULL,
	managed  BIGINT NOT NULL,
	created  BIGINT NOT NULL,
	changed  BIGINT NOT NULL
);
CREATE INDEX staged_zone ON staged (zone, created);

CREATE TABLE held (
	cert    TEXT NOT NULL REFERENCES staged (id) ON DELETE CASCADE,
	control TEXT NOT NULL,
	sum     BLOB NOT NULL,
	PRIMARY KEY (cert, control)
);

-- +goose Down
DROP TABLE held;
DROP TABLE staged;
