-- How each node was, the last of each minute of an hour: slot is the minute
-- modulo 60, document what the node said, control the process that heard it.

-- +goose Up
CREATE TABLE health (
	node     TEXT NOT NULL,
	slot     BIGINT NOT NULL,
	at       BIGINT NOT NULL,
	control  TEXT NOT NULL,
	document TEXT NOT NULL,
	PRIMARY KEY (node, slot)
);
CREATE INDEX health_at ON health (at);

-- +goose Down
DROP TABLE health;
