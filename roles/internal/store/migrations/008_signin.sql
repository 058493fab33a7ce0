-- How people prove who they are beside the password, and where they are
-- signed in.
ALTER TABLE session ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN seen INTEGER NOT NULL DEFAULT 0; -- kept to within minutes
ALTER TABLE session ADD COLUMN remote TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN agent TEXT NOT NULL DEFAULT '';
UPDATE session SET id = substr(hash, 1, 12), seen = created;

CREATE TABLE totp (
	user    INTEGER PRIMARY KEY REFERENCES user (id) ON DELETE CASCADE,
	secret  TEXT NOT NULL, -- sealed
	step    INTEGER NOT NULL, -- of the last code that was taken: it works once
	created INTEGER NOT NULL
);

CREATE TABLE recovery_code (
	user INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	hash TEXT NOT NULL,
	PRIMARY KEY (user, hash)
) WITHOUT ROWID;

CREATE TABLE passkey (
	id         TEXT PRIMARY KEY,
	user       INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	credential TEXT NOT NULL UNIQUE, -- its id in the device
	name       TEXT NOT NULL,
	host       TEXT NOT NULL, -- name of Nutshell that it is for
	synced     INTEGER NOT NULL,
	data       TEXT NOT NULL, -- JSON: public key, counter, flags
	created    INTEGER NOT NULL,
	used       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX passkey_user ON passkey (user);
