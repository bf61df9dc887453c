-- One SQL subset for SQLite and PostgreSQL: TEXT, BIGINT and BLOB only, which
-- postgres.go puts into its words, times as microseconds since 1970, truth as 0
-- and 1.

-- +goose Up
CREATE TABLE accounts (
	id      TEXT PRIMARY KEY,
	name    TEXT NOT NULL,
	created BIGINT NOT NULL
);

CREATE TABLE tokens (
	id      TEXT PRIMARY KEY,
	account TEXT NOT NULL REFERENCES accounts (id),
	name    TEXT NOT NULL,
	hash    BLOB NOT NULL UNIQUE,
	status  TEXT NOT NULL,
	created BIGINT NOT NULL
);

CREATE TABLE zones (
	id           TEXT PRIMARY KEY,
	account      TEXT NOT NULL REFERENCES accounts (id),
	name         TEXT NOT NULL UNIQUE,
	status       TEXT NOT NULL,
	paused       BIGINT NOT NULL,
	name_servers TEXT NOT NULL,
	created      BIGINT NOT NULL,
	changed      BIGINT NOT NULL
);

CREATE TABLE records (
	id       TEXT PRIMARY KEY,
	zone     TEXT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
	position BIGINT NOT NULL,
	name     TEXT NOT NULL,
	type     TEXT NOT NULL,
	content  TEXT NOT NULL,
	ttl      BIGINT NOT NULL,
	proxied  BIGINT NOT NULL,
	priority BIGINT,
	data     TEXT,
	comment  TEXT NOT NULL,
	tags     TEXT NOT NULL,
	created  BIGINT NOT NULL,
	changed  BIGINT NOT NULL
);
CREATE INDEX records_zone ON records (zone, position);

-- value is the JSON text as it was sent; expires is when the setting falls
-- back to its default by itself (development_mode), 0 for never.
CREATE TABLE settings (
	zone    TEXT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
	name    TEXT NOT NULL,
	value   TEXT NOT NULL,
	changed BIGINT NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (zone, name)
);
CREATE INDEX settings_expires ON settings (expires);

-- body is the text as it was sent.
CREATE TABLE rulesets (
	zone    TEXT NOT NULL REFERENCES zones (id) ON DELETE CASCADE,
	phase   TEXT NOT NULL,
	id      TEXT NOT NULL,
	version BIGINT NOT NULL,
	body    TEXT NOT NULL,
	changed BIGINT NOT NULL,
	PRIMARY KEY (zone, phase)
);

-- sealed is the private key under its data key, data_key that data key under
-- the master key: no column holds either in the clear.
CREATE TABLE certificates (
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
CREATE INDEX certificates_zone ON certificates (zone, created);

CREATE TABLE join_tokens (
	hash    BLOB PRIMARY KEY,
	expires BIGINT NOT NULL
);

CREATE TABLE nodes (
	id       TEXT PRIMARY KEY,
	document TEXT NOT NULL
);

-- What a change's own transaction leaves for the leader, and the audit trail:
-- who did what to which object, before and after. seq is 0 until numbered.
CREATE TABLE outbox (
	id      BIGINT PRIMARY KEY, -- counted
	seq     BIGINT NOT NULL,
	actor   TEXT NOT NULL,
	action  TEXT NOT NULL,
	object  TEXT NOT NULL,
	before  TEXT NOT NULL,
	after   TEXT NOT NULL,
	changes BLOB NOT NULL,
	created BIGINT NOT NULL
);
CREATE INDEX outbox_seq ON outbox (seq, id);

-- The numbered, chained log, and the state that it adds up to.
CREATE TABLE log (
	seq     BIGINT PRIMARY KEY,
	time    BIGINT NOT NULL,
	payload BLOB NOT NULL,
	hash    BLOB NOT NULL
);

CREATE TABLE kv (
	key   TEXT PRIMARY KEY,
	value BLOB NOT NULL,
	seq   BIGINT NOT NULL
);

-- +goose Down
DROP TABLE kv;
DROP TABLE log;
DROP TABLE outbox;
DROP TABLE nodes;
DROP TABLE join_tokens;
DROP TABLE certificates;
DROP TABLE rulesets;
DROP TABLE settings;
DROP TABLE records;
DROP TABLE zones;
DROP TABLE tokens;
DROP TABLE accounts;
