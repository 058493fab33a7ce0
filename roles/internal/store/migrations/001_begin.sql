-- Times are microseconds since 1970, UTC. Lists and maps are JSON text.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE user (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	name        TEXT NOT NULL UNIQUE,
	email       TEXT NOT NULL,
	password    TEXT NOT NULL, -- argon2id, never the password
	first_name  TEXT NOT NULL,
	last_name   TEXT NOT NULL,
	affiliation TEXT NOT NULL,
	admin       INTEGER NOT NULL,
	credit      INTEGER NOT NULL,
	created     INTEGER NOT NULL
);
CREATE UNIQUE INDEX user_email ON user (email) WHERE email <> '';

CREATE TABLE session (
	hash    TEXT PRIMARY KEY, -- of the cookie's secret
	user    INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX session_user ON session (user);

CREATE TABLE token (
	id      TEXT PRIMARY KEY,
	user    INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	name    TEXT NOT NULL,
	hash    TEXT NOT NULL UNIQUE,
	scope   TEXT NOT NULL,
	created INTEGER NOT NULL,
	expires INTEGER NOT NULL,
	used    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX token_user ON token (user);

CREATE TABLE application (
	id           INTEGER PRIMARY KEY AUTOINCREMENT,
	owner        INTEGER NOT NULL REFERENCES user (id),
	name         TEXT NOT NULL,
	state        TEXT NOT NULL,
	desired      TEXT NOT NULL,
	cloud        TEXT NOT NULL,
	reason       TEXT NOT NULL,
	created      INTEGER NOT NULL,
	since        INTEGER NOT NULL,
	revision     INTEGER NOT NULL DEFAULT 1, -- grows with every change its manager must see
	last_service INTEGER NOT NULL DEFAULT 0, -- service ids count from 1 and are not used twice
	UNIQUE (owner, name)
);

CREATE TABLE service (
	application INTEGER NOT NULL REFERENCES application (id) ON DELETE CASCADE,
	id          INTEGER NOT NULL,
	name        TEXT NOT NULL,
	kind        TEXT NOT NULL,
	state       TEXT NOT NULL,
	desired     TEXT NOT NULL,
	reason      TEXT NOT NULL,
	cloud       TEXT NOT NULL,
	parts       TEXT NOT NULL,
	settings    TEXT NOT NULL,
	version     TEXT NOT NULL,
	previous    TEXT NOT NULL,
	serving     TEXT NOT NULL,
	urls        TEXT NOT NULL,
	created     INTEGER NOT NULL,
	since       INTEGER NOT NULL,
	script      TEXT NOT NULL,
	remove      TEXT NOT NULL,
	retry       INTEGER NOT NULL,
	deleting    INTEGER NOT NULL,
	PRIMARY KEY (application, id),
	UNIQUE (application, name)
) WITHOUT ROWID;

CREATE TABLE instance (
	id          TEXT PRIMARY KEY,
	application INTEGER NOT NULL REFERENCES application (id),
	service     INTEGER NOT NULL, -- 0: the application's manager
	cloud       TEXT NOT NULL,
	cloud_id    TEXT NOT NULL,
	address     TEXT NOT NULL,
	parts       TEXT NOT NULL,
	state       TEXT NOT NULL,
	reason      TEXT NOT NULL,
	created     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX instance_service ON instance (application, service);

CREATE TABLE secret (
	hash     TEXT PRIMARY KEY,
	identity TEXT NOT NULL, -- what its holder may become
	expires  INTEGER NOT NULL,
	used     INTEGER NOT NULL DEFAULT 0,
	key      TEXT NOT NULL DEFAULT '' -- hash of the public key that it was used for
) WITHOUT ROWID;
CREATE INDEX secret_expires ON secret (expires);

CREATE TABLE operation (
	seq         INTEGER PRIMARY KEY AUTOINCREMENT,
	id          TEXT NOT NULL UNIQUE,
	kind        TEXT NOT NULL,
	title       TEXT NOT NULL,
	actor       TEXT NOT NULL,
	user        INTEGER NOT NULL, -- owner of the application
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	state       TEXT NOT NULL,
	steps       TEXT NOT NULL,
	progress    REAL NOT NULL,
	request     TEXT NOT NULL,
	error       TEXT NOT NULL,
	undone      TEXT NOT NULL,
	cancelling  INTEGER NOT NULL,
	cancellable INTEGER NOT NULL,
	retry_of    TEXT NOT NULL,
	created     INTEGER NOT NULL,
	started     INTEGER NOT NULL,
	ended       INTEGER NOT NULL,
	deadline    INTEGER NOT NULL,
	before      TEXT NOT NULL -- what is put back when it fails
);
CREATE INDEX operation_user ON operation (user, seq);
CREATE INDEX operation_service ON operation (application, service, seq);
-- One operation at a time per service, and per application (service 0).
CREATE UNIQUE INDEX operation_active ON operation (application, service) WHERE state IN ('pending', 'running');

CREATE TABLE idempotency (
	user      INTEGER NOT NULL,
	key       TEXT NOT NULL,
	operation TEXT NOT NULL,
	created   INTEGER NOT NULL,
	PRIMARY KEY (user, key)
) WITHOUT ROWID;

CREATE TABLE change (
	id          INTEGER PRIMARY KEY,
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	time        INTEGER NOT NULL,
	state       TEXT NOT NULL,
	reason      TEXT NOT NULL
);
CREATE INDEX change_service ON change (application, service, id);

CREATE TABLE event (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	time        INTEGER NOT NULL,
	type        TEXT NOT NULL,
	owner       INTEGER NOT NULL, -- the user who may see it
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	object      TEXT NOT NULL,
	data        TEXT NOT NULL
);

CREATE TABLE code_version (
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	id          TEXT NOT NULL,
	seq         INTEGER NOT NULL,
	filename    TEXT NOT NULL,
	description TEXT NOT NULL,
	format      TEXT NOT NULL,
	strip       TEXT NOT NULL,
	bytes       INTEGER NOT NULL,
	sha256      TEXT NOT NULL,
	files       INTEGER NOT NULL,
	by          TEXT NOT NULL,
	created     INTEGER NOT NULL,
	PRIMARY KEY (application, service, id),
	FOREIGN KEY (application, service) REFERENCES service (application, id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX code_version_sha256 ON code_version (sha256);

CREATE TABLE audit (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	time    INTEGER NOT NULL,
	actor   TEXT NOT NULL,
	remote  TEXT NOT NULL,
	action  TEXT NOT NULL,
	object  TEXT NOT NULL,
	result  TEXT NOT NULL
);
