-- Host names under which the director's edge shows services.
CREATE TABLE site (
	name        TEXT PRIMARY KEY, -- lower case; one service has it
	application INTEGER NOT NULL,
	service     INTEGER NOT NULL,
	automatic   INTEGER NOT NULL, -- made of names and the edge's domain
	certificate TEXT NOT NULL, -- own, file, acme
	chain       TEXT NOT NULL,
	key         TEXT NOT NULL, -- sealed
	url         TEXT NOT NULL, -- where people reach it; empty while the edge is off
	told        TEXT NOT NULL, -- the problem that an event has told of
	created     INTEGER NOT NULL,
	FOREIGN KEY (application, service) REFERENCES service (application, id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX site_service ON site (application, service);
