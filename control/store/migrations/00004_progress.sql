-- How far each node has come, for control planes that share a database and for
-- one that starts again: control is the process that a node was last connected
-- to, since when it is or is not. And which entries a node could not use.

-- +goose Up
CREATE TABLE progress (
	node      TEXT PRIMARY KEY,
	colo      TEXT NOT NULL,
	control   TEXT NOT NULL,
	via       TEXT NOT NULL,
	applied   BIGINT NOT NULL,
	at        BIGINT NOT NULL,
	connected BIGINT NOT NULL,
	since     BIGINT NOT NULL
);

CREATE TABLE rejections (
	node   TEXT NOT NULL,
	seq    BIGINT NOT NULL,
	reason TEXT NOT NULL,
	at     BIGINT NOT NULL,
	PRIMARY KEY (node, seq)
);

-- +goose Down
DROP TABLE rejections;
DROP TABLE progress;
