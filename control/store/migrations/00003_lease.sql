-- Who leads, for control planes that share a database: epoch counts those who
-- did, expires is by the database's clock. And what the database as a whole is
-- said to be, by name.

-- +goose Up
CREATE TABLE leases (
	name    TEXT PRIMARY KEY,
	holder  TEXT NOT NULL,
	epoch   BIGINT NOT NULL,
	expires BIGINT NOT NULL
);

CREATE TABLE facts (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
);

-- +goose Down
DROP TABLE facts;
DROP TABLE leases;
