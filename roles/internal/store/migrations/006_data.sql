ALTER TABLE service ADD COLUMN bind TEXT NOT NULL DEFAULT '["*"]'; -- names of siblings whose offers it gets
ALTER TABLE operation ADD COLUMN parent TEXT NOT NULL DEFAULT '';
ALTER TABLE operation ADD COLUMN beside INTEGER NOT NULL DEFAULT 0; -- others may begin while it runs: it changes nothing of the service
DROP INDEX operation_active;
CREATE UNIQUE INDEX operation_active ON operation (application, service, beside) WHERE state IN ('pending', 'running');

ALTER TABLE service ADD COLUMN served INTEGER NOT NULL DEFAULT 0; -- it was RUNNING once, so what its volumes hold is somebody's
UPDATE service SET served = 1 WHERE state NOT IN ('INIT', 'PROLOGUE');

-- Volumes outlive instances; rows outlive their service until the cloud has deleted them.
CREATE TABLE volume (
	id          TEXT PRIMARY KEY,
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	owner       INTEGER NOT NULL,
	name        TEXT NOT NULL,
	part        TEXT NOT NULL, -- whose holders get it; empty: a user's
	cloud       TEXT NOT NULL,
	cloud_id    TEXT NOT NULL,
	bytes       INTEGER NOT NULL,
	used        INTEGER NOT NULL,
	instance    TEXT NOT NULL, -- that has it, or had it last
	held        TEXT NOT NULL, -- parts of that instance
	state       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	snapshots   TEXT NOT NULL,
	created     INTEGER NOT NULL,
	since       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX volume_service ON volume (application, service);
CREATE INDEX volume_instance ON volume (instance);
CREATE UNIQUE INDEX volume_name ON volume (application, name) WHERE part = '' AND state <> 'leaving';

-- Secrets of services, sealed.
CREATE TABLE service_secret (
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	name        TEXT NOT NULL,
	value       TEXT NOT NULL,
	shown       INTEGER NOT NULL,
	changed     INTEGER NOT NULL,
	PRIMARY KEY (application, service, name),
	FOREIGN KEY (application, service) REFERENCES service (application, id) ON DELETE CASCADE
) WITHOUT ROWID;

-- Backups outlive their services. Their bytes are encrypted files.
CREATE TABLE backup (
	id               TEXT PRIMARY KEY,
	owner            INTEGER NOT NULL,
	application      INTEGER NOT NULL,
	service          INTEGER NOT NULL,
	application_name TEXT NOT NULL,
	service_name     TEXT NOT NULL,
	kind             TEXT NOT NULL,
	settings         TEXT NOT NULL, -- of the service, for a new one like it
	why              TEXT NOT NULL,
	state            TEXT NOT NULL,
	problem          TEXT NOT NULL,
	bytes            INTEGER NOT NULL,
	taken            INTEGER NOT NULL,
	verified         INTEGER NOT NULL,
	finding          TEXT NOT NULL,
	position         TEXT NOT NULL,
	operation        TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX backup_service ON backup (application, service, taken);
CREATE INDEX backup_owner ON backup (owner, taken);

-- Changes between backups, piece by piece, in the order of until.
CREATE TABLE backup_log (
	id          TEXT PRIMARY KEY,
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	since       INTEGER NOT NULL,
	until       INTEGER NOT NULL,
	after       TEXT NOT NULL, -- the position where it begins
	position    TEXT NOT NULL, -- and where the next one does
	bytes       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX backup_log_service ON backup_log (application, service, until);

-- Credits: only ever added to. user.credit is the last balance.
CREATE TABLE ledger (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	user        INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	time        INTEGER NOT NULL,
	amount      INTEGER NOT NULL,
	balance     INTEGER NOT NULL,
	kind        TEXT NOT NULL,
	reason      TEXT NOT NULL,
	actor       TEXT NOT NULL,
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	instance    TEXT NOT NULL
);
CREATE INDEX ledger_user ON ledger (user, id);
INSERT INTO ledger (user, time, amount, balance, kind, reason, actor, application, service, instance)
	SELECT id, unixepoch() * 1000000, credit, credit, 'grant', 'balance brought forward', 'nutshell', 0, 0, '' FROM user;

-- What each instance has cost so far. began and paused are read from a clock
-- that only goes while the machine does (meta credit_clock).
CREATE TABLE charge (
	instance    TEXT PRIMARY KEY,
	user        INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	began       INTEGER NOT NULL, -- 0: a credit is held for it, it has not started yet
	paused      INTEGER NOT NULL, -- 0: it runs
	hours       INTEGER NOT NULL  -- that are paid, counted from began
) WITHOUT ROWID;
CREATE INDEX charge_user ON charge (user);

-- Credits held for instances that were asked for and have no row yet.
CREATE TABLE hold (
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL, -- 0: the manager, -1: of an operation that makes the application
	user        INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	credits     INTEGER NOT NULL,
	PRIMARY KEY (application, service)
) WITHOUT ROWID;
ALTER TABLE user ADD COLUMN quota TEXT NOT NULL DEFAULT '{}';
