-- The bin. What is in it bears the id of its entry; everybody else reads past
-- it. Names are free at once: an application or service in the bin is called
-- ~ID, and its entry knows what it was called.
ALTER TABLE application ADD COLUMN binned TEXT NOT NULL DEFAULT '';
ALTER TABLE service ADD COLUMN binned TEXT NOT NULL DEFAULT '';
ALTER TABLE volume ADD COLUMN binned TEXT NOT NULL DEFAULT '';
DROP INDEX volume_name;
CREATE UNIQUE INDEX volume_name ON volume (application, name) WHERE part = '' AND state <> 'leaving' AND binned = '';
CREATE TABLE bin (
	id               TEXT PRIMARY KEY,
	kind             TEXT NOT NULL, -- application, service, version, volume
	application      INTEGER NOT NULL REFERENCES application (id) ON DELETE CASCADE,
	service          INTEGER NOT NULL, -- 0: of an application
	object           TEXT NOT NULL, -- id of the version or volume
	name             TEXT NOT NULL,
	application_name TEXT NOT NULL,
	service_name     TEXT NOT NULL,
	deleted          INTEGER NOT NULL,
	by               TEXT NOT NULL,
	until            INTEGER NOT NULL,
	bytes            INTEGER NOT NULL,
	holds            TEXT NOT NULL,
	blob             TEXT NOT NULL, -- SHA-256 of a version's code
	data             TEXT NOT NULL  -- rows that were taken out of their tables: host names, the version
) WITHOUT ROWID;
CREATE INDEX bin_until ON bin (until);
CREATE INDEX bin_blob ON bin (blob) WHERE blob <> '';

-- What a service was asked to be, after each change of that.
ALTER TABLE service ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
CREATE TABLE revision (
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	number      INTEGER NOT NULL,
	time        INTEGER NOT NULL,
	by          TEXT NOT NULL,
	why         TEXT NOT NULL,
	settings    TEXT NOT NULL,
	environment TEXT NOT NULL, -- values of secrets are sealed
	script      TEXT NOT NULL,
	parts       TEXT NOT NULL,
	PRIMARY KEY (application, service, number),
	FOREIGN KEY (application, service) REFERENCES service (application, id) ON DELETE CASCADE
) WITHOUT ROWID;

-- Settings of the installation that its administrators changed while it ran.
CREATE TABLE setting (
	key     TEXT PRIMARY KEY,
	value   TEXT NOT NULL,
	by      TEXT NOT NULL,
	changed INTEGER NOT NULL
) WITHOUT ROWID;

-- How long operations take: of is what is told apart beside their kind, and
-- expected the median of those before, in milliseconds, 0 where there are none.
ALTER TABLE operation ADD COLUMN of TEXT NOT NULL DEFAULT '';
ALTER TABLE operation ADD COLUMN expected INTEGER NOT NULL DEFAULT 0;
CREATE INDEX operation_kind ON operation (kind, of, seq) WHERE state = 'done';
CREATE INDEX operation_parent ON operation (parent) WHERE parent <> '';
