-- What nodes did, or what befell them, as they tell it: run and id name an event
-- of a node for good, at is by the node's clock, heard by the control plane's.

-- +goose Up
CREATE TABLE audit (
	node   TEXT NOT NULL,
	run    BIGINT NOT NULL,
	id     BIGINT NOT NULL,
	colo   TEXT NOT NULL,
	at     BIGINT NOT NULL,
	heard  BIGINT NOT NULL,
	action TEXT NOT NULL,
	object TEXT NOT NULL,
	seq    BIGINT NOT NULL,
	detail TEXT NOT NULL,
	PRIMARY KEY (node, run, id)
);
CREATE INDEX audit_at ON audit (at, node, run, id);
CREATE INDEX outbox_created ON outbox (created, id);

-- +goose Down
DROP INDEX outbox_created;
DROP TABLE audit;
