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
