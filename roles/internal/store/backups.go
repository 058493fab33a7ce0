package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"nutshell/roles/api"
)

// Backup is a backup, whose bytes are a file of its id. Until is not stored:
// the pieces of log tell it.
type Backup struct {
	api.Backup
	Owner    int64
	Settings json.RawMessage // of the service, for a new one like it
}

// BackupLog is a piece of what changed after a backup, whose bytes are a file
// of its id; none if Bytes is 0: nothing changed.
type BackupLog struct {
	ID          string
	Application int64
	Service     int64
	Since       time.Time
	Until       time.Time
	After       string // the position where it begins
	Position    string // and where the next one does
	Bytes       int64
}

const backupColumns = `id, owner, application, service, application_name, service_name, kind, settings, why, state, problem, bytes, taken, verified, finding, position, operation`

func scanBackup(r *sql.Rows) (Backup, error) {
	var b Backup
	var settings string
	var taken, verified int64
	err := r.Scan(&b.ID, &b.Owner, &b.Application, &b.Service, &b.ApplicationName, &b.ServiceName, &b.Kind, &settings, &b.Why, &b.State, &b.Problem,
		&b.Bytes, &taken, &verified, &b.Finding, &b.Position, &b.Operation)
	b.Settings, b.Taken, b.Verified = json.RawMessage(settings), timeOf(taken), timeOf(verified)
	return b, err
}

func (v View) backups(ctx context.Context, where string, args ...any) ([]Backup, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+backupColumns+` FROM backup WHERE `+where+` ORDER BY taken DESC, id`, args...)
	return scanAll(rows, err, scanBackup)
}

// Backups lists all backups of the installation, newest first.
func (v View) Backups(ctx context.Context) ([]Backup, error) { return v.backups(ctx, `1`) }

// SeenBackups lists the backups of all services that a user has or had, and of
// those of applications that the user is a member of.
func (v View) SeenBackups(ctx context.Context, user int64) ([]Backup, error) {
	return v.backups(ctx, `owner = ?1 OR `+visible, user)
}

// ServiceBackups lists the backups of a service, newest first.
func (v View) ServiceBackups(ctx context.Context, application, service int64) ([]Backup, error) {
	return v.backups(ctx, `application = ? AND service = ?`, application, service)
}

// Backup finds a backup that a user may see (0: anybody's).
func (v View) Backup(ctx context.Context, user int64, id string) (Backup, error) {
	found, err := v.backups(ctx, `id = ?2 AND (?1 = 0 OR owner = ?1 OR `+visible+`)`, user, id)
	return one(found, err, func() error { return api.NotFoundf("there is no backup %s", api.Shorten(id)) })
}

// InsertBackup stores a backup before its first byte is there.
func (t *Tx) InsertBackup(ctx context.Context, b Backup) error {
	if len(b.Settings) == 0 {
		b.Settings = json.RawMessage("{}")
	}
	_, err := t.exec(ctx, `INSERT INTO backup (`+backupColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		b.ID, b.Owner, b.Application, b.Service, b.ApplicationName, b.ServiceName, b.Kind, string(b.Settings), b.Why, b.State, b.Problem,
		b.Bytes, micros(b.Taken), micros(b.Verified), b.Finding, b.Position, b.Operation)
	if err != nil {
		return err
	}
	return t.backupEvent(ctx, "backup", b)
}

// SaveBackup stores how a backup is; gone already is not_found.
func (t *Tx) SaveBackup(ctx context.Context, b Backup) error {
	n, err := t.exec(ctx, `UPDATE backup SET state = ?, problem = ?, bytes = ?, taken = ?, verified = ?, finding = ?, position = ?, operation = ? WHERE id = ?`,
		b.State, b.Problem, b.Bytes, micros(b.Taken), micros(b.Verified), b.Finding, b.Position, b.Operation, b.ID)
	if err != nil {
		return err
	}
	if n == 0 {
		return api.NotFoundf("there is no backup %s", api.Shorten(b.ID))
	}
	return t.backupEvent(ctx, "backup", b)
}

// DeleteBackup forgets a backup. Its file is removed by whoever asked.
func (t *Tx) DeleteBackup(ctx context.Context, b Backup) error {
	n, err := t.exec(ctx, `DELETE FROM backup WHERE id = ?`, b.ID)
	if err != nil || n == 0 {
		return err
	}
	return t.backupEvent(ctx, "backup.deleted", b)
}

func (t *Tx) backupEvent(ctx context.Context, typ string, b Backup) error {
	return t.event(ctx, typ, b.Owner, b.Application, b.Service, b.ID, b.Backup)
}

const backupLogColumns = `id, application, service, since, until, after, position, bytes`

func scanBackupLog(r *sql.Rows) (BackupLog, error) {
	var l BackupLog
	var since, until int64
	err := r.Scan(&l.ID, &l.Application, &l.Service, &since, &until, &l.After, &l.Position, &l.Bytes)
	l.Since, l.Until = timeOf(since), timeOf(until)
	return l, err
}

func (v View) backupLogs(ctx context.Context, where string, args ...any) ([]BackupLog, error) {
	rows, err := v.q.QueryContext(ctx, `SELECT `+backupLogColumns+` FROM backup_log WHERE `+where+` ORDER BY until, since, id`, args...)
	return scanAll(rows, err, scanBackupLog)
}

// AllBackupLogs lists the pieces of log of the whole installation.
func (v View) AllBackupLogs(ctx context.Context) ([]BackupLog, error) { return v.backupLogs(ctx, `1`) }

// BackupLogs lists the pieces of log of a service in the order of their time.
func (v View) BackupLogs(ctx context.Context, application, service int64) ([]BackupLog, error) {
	return v.backupLogs(ctx, `application = ? AND service = ?`, application, service)
}

// InsertBackupLog stores a piece of log, whose file is there.
func (t *Tx) InsertBackupLog(ctx context.Context, l BackupLog) error {
	_, err := t.exec(ctx, `INSERT INTO backup_log (`+backupLogColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		l.ID, l.Application, l.Service, micros(l.Since), micros(l.Until), l.After, l.Position, l.Bytes)
	return err
}

// ExtendBackupLog says that nothing changed after a piece of log until now.
func (t *Tx) ExtendBackupLog(ctx context.Context, id string, until time.Time) error {
	_, err := t.exec(ctx, `UPDATE backup_log SET until = ? WHERE id = ?`, micros(until), id)
	return err
}

// DeleteBackupLog forgets a piece of log. Its file is removed by whoever asked.
func (t *Tx) DeleteBackupLog(ctx context.Context, id string) error {
	_, err := t.exec(ctx, `DELETE FROM backup_log WHERE id = ?`, id)
	return err
}
