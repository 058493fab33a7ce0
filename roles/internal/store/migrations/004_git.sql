-- Public keys for git over SSH.
CREATE TABLE ssh_key (
	id          TEXT PRIMARY KEY,
	user        INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	name        TEXT NOT NULL,
	type        TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	public      TEXT NOT NULL, -- as in authorized_keys
	created     INTEGER NOT NULL,
	used        INTEGER NOT NULL,
	UNIQUE (user, fingerprint)
) WITHOUT ROWID;
CREATE INDEX ssh_key_fingerprint ON ssh_key (fingerprint);

-- What was made of the last push to a repository's default branch.
CREATE TABLE repository (
	application INTEGER PRIMARY KEY REFERENCES application (id) ON DELETE CASCADE,
	head        TEXT NOT NULL, -- the commit that was looked at last
	pushed      INTEGER NOT NULL,
	by          TEXT NOT NULL
);

-- The folder of each service in it.
CREATE TABLE folder (
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	tree        TEXT NOT NULL,    -- as it was when a version was made of it, or refused
	version     TEXT NOT NULL,    -- empty where it was refused
	pending     INTEGER NOT NULL, -- it is still to be activated
	PRIMARY KEY (application, service),
	FOREIGN KEY (application, service) REFERENCES service (application, id) ON DELETE CASCADE
) WITHOUT ROWID;
