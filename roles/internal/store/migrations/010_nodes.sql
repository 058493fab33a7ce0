-- Machines that lend their containers. Their state follows from the flags.
CREATE TABLE node (
	id          TEXT PRIMARY KEY,
	name        TEXT NOT NULL,
	fingerprint TEXT NOT NULL UNIQUE, -- SHA-256 of its public key
	approved    INTEGER NOT NULL,
	cordoned    INTEGER NOT NULL,
	draining    INTEGER NOT NULL,
	lost        INTEGER NOT NULL,
	reason      TEXT NOT NULL,
	subnet      TEXT NOT NULL, -- of its containers; empty while it waits
	address     TEXT NOT NULL,
	director    TEXT NOT NULL, -- host by which it reaches the director
	facts       TEXT NOT NULL, -- what it said of itself when this row was last written
	joined      INTEGER NOT NULL,
	seen        INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX node_name ON node (name) WHERE approved;
CREATE UNIQUE INDEX node_subnet ON node (subnet) WHERE subnet <> '';

-- The number that a group of instances has on each node.
CREATE TABLE slot (
	"group" TEXT PRIMARY KEY,
	number  INTEGER NOT NULL UNIQUE
) WITHOUT ROWID;

-- The node that an instance runs on, by id; empty: its cloud has none.
ALTER TABLE instance ADD COLUMN machine TEXT NOT NULL DEFAULT '';
CREATE INDEX instance_machine ON instance (machine) WHERE machine <> '';
