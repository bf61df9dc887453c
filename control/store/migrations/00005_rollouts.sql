-- Changes that go by rings, also those that are over: pending is 1 while one is
-- on its way, zone is empty for one of the operator's, document is JSON.

-- +goose Up
CREATE TABLE rollouts (
	n        BIGINT PRIMARY KEY,
	zone     TEXT NOT NULL,
	account  TEXT NOT NULL,
	pending  BIGINT NOT NULL,
	version  BIGINT NOT NULL,
	document TEXT NOT NULL
);

CREATE INDEX rollouts_pending ON rollouts (pending, zone);

-- +goose Down
DROP TABLE rollouts;
