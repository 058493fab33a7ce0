package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"nutshell/roles/api"
)

const versionColumns = `c.id, c.filename, c.description, c.format, c.strip, c.bytes, c.sha256, c.files, c.by, c.created, c.id = s.version`

func scanVersion(r *sql.Rows) (api.CodeVersion, error) {
	var c api.CodeVersion
	var created int64
	err := r.Scan(&c.ID, &c.Filename, &c.Description, &c.Format, &c.Strip, &c.Bytes, &c.SHA256, &c.Files, &c.By, &created, &c.Current)
	c.Created = timeOf(created)
	return c, err
}

func (v View) versions(ctx context.Context, where string, args ...any) ([]api.CodeVersion, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+versionColumns+` FROM code_version c
		JOIN service s ON s.application = c.application AND s.id = c.service WHERE `+where+` ORDER BY c.seq DESC, c.created DESC`, args...)
	return scanAll(rows, err, scanVersion)
}

// Versions lists the code versions of a service, newest first.
func (v View) Versions(ctx context.Context, application, service int64) ([]api.CodeVersion, error) {
	return v.versions(ctx, `c.application = ? AND c.service = ?`, application, service)
}

// Version finds a code version of a service.
func (v View) Version(ctx context.Context, application, service int64, id string) (api.CodeVersion, error) {
	found, err := v.versions(ctx, `c.application = ? AND c.service = ? AND c.id = ?`, application, service, id)
	return one(found, err, func() error {
		return &api.Error{Code: api.CodeNotFound, Object: "code version " + api.Shorten(id), Message: "the service has no such version", Hint: "list its versions to see which there are"}
	})
}

// HasBlob reports whether a blob is the code of some version of a service
// (application 0: of any service at all, and of what is in the bin).
func (v View) HasBlob(ctx context.Context, application, service int64, sha256 string) (bool, error) {
	var n int
	err := v.q.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM code_version WHERE sha256 = ?1 AND (?2 = 0 OR (application = ?2 AND service = ?3)))
		+ (SELECT count(*) FROM bin WHERE blob = ?1 AND ?2 = 0)`,
		sha256, application, service).Scan(&n)
	return n > 0, storeError(err)
}

// InsertVersion stores a new code version. Of a commit ("git-" and its hash,
// whole or cut) the id is "git-" with 7 digits of the hash, or more where
// another version has those; the same commit with the same content is the
// version that is there already.
func (t *Tx) InsertVersion(ctx context.Context, s Service, c api.CodeVersion) (api.CodeVersion, error) {
	for _, id := range versionIDs(c.ID) {
		c.ID = id
		old, err := t.Version(ctx, s.Application, s.ID, id)
		switch {
		case api.CodeOf(err) == api.CodeNotFound:
			return t.insertVersion(ctx, s, c)
		case err != nil:
			return c, err
		case strings.HasPrefix(id, gitPrefix) && old.SHA256 == c.SHA256 && old.Strip == c.Strip:
			return old, nil
		}
	}
	return c, api.Conflictf("service %s has a code version %s already", s.Name, c.ID)
}

const (
	gitPrefix  = "git-"
	codePrefix = "code-"
	gitDigits  = 7
	idLetters  = 6
	idTries    = 5
)

// versionIDs are the ids that a new version may get, best first.
func versionIDs(id string) []string {
	ids := []string{id}
	switch hash, isGit := strings.CutPrefix(id, gitPrefix); {
	case isGit:
		ids = nil
		for n := min(gitDigits, len(hash)); n <= len(hash); n++ {
			ids = append(ids, gitPrefix+hash[:n])
		}
		for n := 2; n < 2+idTries; n++ { // the whole hash: the folder alone is another one
			ids = append(ids, fmt.Sprintf("%s%s-%d", gitPrefix, hash[:min(gitDigits, len(hash))], n))
		}
	case len(id) == len(codePrefix)+idLetters && strings.HasPrefix(id, codePrefix):
		for range idTries { // somebody was lucky
			ids = append(ids, codePrefix+api.NewID(idLetters))
		}
	}
	return ids
}

func (t *Tx) insertVersion(ctx context.Context, s Service, c api.CodeVersion) (api.CodeVersion, error) {
	c.Created = t.now
	_, err := t.exec(ctx, `INSERT INTO code_version (application, service, id, seq, filename, description, format, strip, bytes, sha256, files, by, created)
		VALUES (?1, ?2, ?3, (SELECT coalesce(max(seq), 0) + 1 FROM code_version WHERE application = ?1 AND service = ?2), ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)`,
		s.Application, s.ID, c.ID, c.Filename, c.Description, c.Format, c.Strip, c.Bytes, c.SHA256, c.Files, c.By, micros(c.Created))
	if err != nil {
		return c, err
	}
	return c, t.versionEvent(ctx, "version", s, c)
}

// DeleteVersion removes a code version.
func (t *Tx) DeleteVersion(ctx context.Context, s Service, c api.CodeVersion) error {
	if _, err := t.exec(ctx, `DELETE FROM code_version WHERE application = ? AND service = ? AND id = ?`, s.Application, s.ID, c.ID); err != nil {
		return err
	}
	return t.versionEvent(ctx, "version.deleted", s, c)
}

func (t *Tx) versionEvent(ctx context.Context, typ string, s Service, c api.CodeVersion) error {
	owner, err := t.owner(ctx, s.Application)
	if err != nil {
		return err
	}
	return t.event(ctx, typ, owner, s.Application, s.ID, c.ID, c)
}
