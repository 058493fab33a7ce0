-- People who may use an application beside its owner.
CREATE TABLE application_member (
	application INTEGER NOT NULL REFERENCES application (id) ON DELETE CASCADE,
	user        INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
	access      TEXT NOT NULL,
	since       INTEGER NOT NULL,
	by          TEXT NOT NULL,
	offered     TEXT NOT NULL DEFAULT '', -- the owner would hand the application over to this one and be this from then on: nobody, viewer …
	PRIMARY KEY (application, user)
) WITHOUT ROWID;
CREATE INDEX application_member_user ON application_member (user, application);

-- Events of an application are for all who may see it when they read them;
-- personal ones are for one user alone.
ALTER TABLE event ADD COLUMN personal INTEGER NOT NULL DEFAULT 0;
