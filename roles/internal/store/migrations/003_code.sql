ALTER TABLE service ADD COLUMN auto_deploy INTEGER NOT NULL DEFAULT 1;
ALTER TABLE service ADD COLUMN keep_versions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE service ADD COLUMN environment TEXT NOT NULL DEFAULT '[]'; -- values of secrets are sealed
ALTER TABLE instance ADD COLUMN weights TEXT NOT NULL DEFAULT '{}'; -- by part

-- Uploads under way; their bytes are files of the code store.
CREATE TABLE upload (
	id          TEXT PRIMARY KEY,
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	user        INTEGER NOT NULL,
	filename    TEXT NOT NULL,
	description TEXT NOT NULL,
	strip       INTEGER NOT NULL,
	bytes       INTEGER NOT NULL,
	sha256      TEXT NOT NULL,
	expires     INTEGER NOT NULL,
	FOREIGN KEY (application, service) REFERENCES service (application, id) ON DELETE CASCADE
) WITHOUT ROWID;
