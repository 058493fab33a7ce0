package director

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/director/vault"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// Why a backup was taken.
const (
	backupScheduled = "scheduled"
	backupAsked     = "asked"
	backupLast      = "last" // before a deletion
)

// serviceKey names a service.
type serviceKey struct{ application, service int64 }

func backupKey(s store.Service) serviceKey { return serviceKey{s.Application, s.ID} }

// backups are the copies of users' data, and what is known of them only as
// long as this process lives.
type backups struct {
	vault *vault.Vault

	mu       sync.Mutex
	seen     map[serviceKey]time.Time     // nothing had changed since the last piece of log
	asked    map[serviceKey]time.Time     // when log was asked for last
	ended    map[serviceKey]string        // the backup after which no more log can be had
	reported map[serviceKey]reportedState // what managers told last
	logs     sync.Map                     // a lock for each service, while its log is fetched
}

type reportedState struct {
	state  api.State
	reason string
	at     time.Time
}

// openBackups makes the key of backups at the first start. Later another or
// none is not taken for it: no backup could be read.
func (d *Director) openBackups(ctx context.Context) error {
	d.backups = &backups{seen: map[serviceKey]time.Time{}, asked: map[serviceKey]time.Time{}, ended: map[serviceKey]string{}, reported: map[serviceKey]reportedState{}}
	dir, key := filepath.Join(d.c.Dir, "backups"), filepath.Join(d.c.Dir, "ca", "backups.key")
	id, err := d.store.Meta(ctx, "backups_key")
	if err != nil {
		return err
	}
	if id == "" {
		if d.backups.vault, err = vault.Make(dir, key); err != nil {
			return err
		}
		return d.store.Write(ctx, func(t *store.Tx) error { return t.SetMeta(ctx, "backups_key", d.backups.vault.ID()) })
	}
	if d.backups.vault, err = vault.Open(dir, key); err != nil {
		return err
	}
	if d.backups.vault.ID() != id {
		return &api.Error{Code: api.CodeUnavailable, Op: "open", Object: "key of backups " + key, Message: "it is another than the one of this installation",
			Hint: "put back the one that belongs to this data directory"}
	}
	return d.tidyBackups(ctx)
}

// tidyBackups makes files and rows fit each other after a crash between them.
func (d *Director) tidyBackups(ctx context.Context) error {
	names, err := d.backups.vault.Names()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, n := range names {
		there[n] = true
	}
	rows, err := d.store.Backups(ctx)
	if err != nil {
		return err
	}
	logs, err := d.store.AllBackupLogs(ctx)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, l := range logs {
		wanted[l.ID] = true
	}
	for _, b := range rows {
		wanted[b.ID] = true
		if b.State != api.BackupReady || there[b.ID] {
			continue
		}
		d.c.Log.Error("file of a backup is gone", "backup", b.ID)
		b.State, b.Problem = api.BackupBroken, "its file is gone from the director's disk"
		if err := d.store.Write(ctx, func(t *store.Tx) error { return t.SaveBackup(ctx, b) }); err != nil {
			return err
		}
	}
	for _, n := range names {
		if !wanted[n] {
			if err := d.backups.vault.Remove(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// heard notes what a manager told of a service: while an operation is under
// way, the row does not say it.
func (b *backups) heard(application int64, r api.Report, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reported[serviceKey{application, r.Service}] = reportedState{r.State, r.Reason, now}
}

func (b *backups) told(k serviceKey) reportedState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reported[k]
}

// policyOf reads when a service is backed up; ok is false for kinds that
// cannot be.
func (d *Director) policyOf(s store.Service) (p api.BackupPolicy, ok bool, err error) {
	kind, err := d.c.Services.Get(s.Kind)
	if err != nil || kind.Backups == nil {
		return p, false, err
	}
	p, err = kind.Backups(s.Settings)
	return p, true, err
}

func (d *Director) backedUp(a store.Application, s store.Service, op string) (services.Kind, error) {
	kind, err := d.c.Services.Get(s.Kind)
	if err == nil && kind.Backups == nil {
		err = &api.Error{Code: api.CodeInvalid, Op: op, Object: "service " + a.Name + "/" + s.Name, Message: s.Kind + " services cannot be backed up"}
	}
	return kind, err
}

// chain is the log that goes on from a backup, piece by piece.
func chain(b store.Backup, logs []store.BackupLog) []store.BackupLog {
	var list []store.BackupLog
	if b.State != api.BackupReady || b.Position == "" {
		return nil
	}
	used := map[string]bool{}
	for at := b.Position; ; {
		found := false
		for _, l := range logs {
			if l.After == at && l.Application == b.Application && l.Service == b.Service && !used[l.ID] {
				used[l.ID], found, at = true, true, l.Position
				list = append(list, l)
				break
			}
		}
		if !found {
			return list
		}
	}
}

// withUntil says up to when any moment can be restored. rows come newest
// first and are of one service.
func (d *Director) withUntil(rows []store.Backup, logs []store.BackupLog) []api.Backup {
	list := make([]api.Backup, len(rows))
	newest := true
	for i, b := range rows {
		if pieces := chain(b, logs); len(pieces) > 0 {
			b.Until = pieces[len(pieces)-1].Until
		}
		if b.State == api.BackupReady && b.Position != "" && newest {
			newest = false
			d.backups.mu.Lock()
			if seen := d.backups.seen[serviceKey{b.Application, b.Service}]; seen.After(b.Until) && seen.After(b.Taken) && d.backups.ended[serviceKey{b.Application, b.Service}] != b.ID {
				b.Until = seen.UTC()
			}
			d.backups.mu.Unlock()
		}
		list[i] = b.Backup
	}
	return list
}

func (d *Director) listBackups(ctx context.Context, in *ServicePath) ([]api.Backup, error) {
	a, s, err := d.service(ctx, *in)
	if err != nil {
		return nil, err
	}
	return d.backupsOf(ctx, a.ID, s.ID)
}

func (d *Director) backupsOf(ctx context.Context, application, service int64) ([]api.Backup, error) {
	rows, err := d.store.ServiceBackups(ctx, application, service)
	if err != nil {
		return nil, err
	}
	logs, err := d.store.BackupLogs(ctx, application, service)
	return d.withUntil(rows, logs), err
}

// allBackups lists those of services that are gone, too.
func (d *Director) allBackups(ctx context.Context, in *struct {
	All bool `query:"all" doc:"of all users; administrators only"`
}) ([]api.Backup, error) {
	p := httpapi.Who(ctx)
	rows, err := d.store.SeenBackups(ctx, p.User.ID)
	if in.All && p.User.Admin {
		rows, err = d.store.Backups(ctx)
	}
	if err != nil {
		return nil, err
	}
	logs, err := d.store.AllBackupLogs(ctx)
	if err != nil {
		return nil, err
	}
	groups := map[serviceKey][]store.Backup{}
	for _, r := range rows {
		k := serviceKey{r.Application, r.Service}
		groups[k] = append(groups[k], r)
	}
	until := map[string]time.Time{}
	for _, g := range groups {
		for _, b := range d.withUntil(g, logs) {
			until[b.ID] = b.Until
		}
	}
	list := make([]api.Backup, len(rows))
	for i, r := range rows {
		list[i] = r.Backup
		list[i].Until = until[r.ID]
	}
	return list, nil
}

// BackupPath names a backup in a path.
type BackupPath struct {
	ID string `path:"id"`
}

// backup finds a backup that the asker may see, and do this with, with its
// Until.
func (d *Director) backup(ctx context.Context, id string) (store.Backup, error) {
	b, err := d.store.Backup(ctx, seer(ctx), id)
	if err == nil {
		err = d.entitled(ctx, thing{"backup " + b.ID, b.Application, b.Owner}, needed(ctx))
	}
	if err != nil {
		return b, err
	}
	list, err := d.backupsOf(ctx, b.Application, b.Service)
	for _, x := range list {
		if x.ID == b.ID {
			b.Until = x.Until
		}
	}
	return b, err
}

func (d *Director) getBackup(ctx context.Context, in *BackupPath) (api.Backup, error) {
	b, err := d.backup(ctx, in.ID)
	return b.Backup, err
}

func (d *Director) deleteBackup(ctx context.Context, in *BackupPath) (httpapi.None, error) {
	b, err := d.backup(ctx, in.ID)
	if err != nil {
		return httpapi.None{}, err
	}
	return httpapi.None{}, d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if b, err = t.Backup(ctx, 0, b.ID); err != nil {
			return err
		}
		if b.State == api.BackupTaking {
			return &api.Error{Code: api.CodeConflict, Op: "delete", Object: "backup " + b.ID, Message: "it is being taken", Hint: "cancel that first", Related: b.Operation}
		}
		if active, err := t.Active(ctx, b.Application, b.Service); err != nil || active != nil {
			if err == nil { // it may be this backup that is restored
				err = store.Busy("delete backup "+b.ID, *active)
			}
			return err
		}
		if err := d.forgetBackup(ctx, t, b); err != nil {
			return err
		}
		return d.forgetLogs(ctx, t, b.Application, b.Service)
	})
}

// forgetBackup deletes a row, and its file once that is stored.
func (d *Director) forgetBackup(ctx context.Context, t *store.Tx, b store.Backup) error {
	t.After(func() { d.dropBackupFile(b.ID) })
	return t.DeleteBackup(ctx, b)
}

func (d *Director) dropBackupFile(id string) {
	if err := d.backups.vault.Remove(id); err != nil {
		d.c.Log.Warn("file of a backup not removed, the next start tries again", "backup", id, "error", err)
	}
}

// forgetLogs deletes the pieces of log that no backup leads to any more.
func (d *Director) forgetLogs(ctx context.Context, t *store.Tx, application, service int64) error {
	rows, err := t.ServiceBackups(ctx, application, service)
	if err != nil {
		return err
	}
	logs, err := t.BackupLogs(ctx, application, service)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, b := range rows {
		for _, l := range chain(b, logs) {
			needed[l.ID] = true
		}
	}
	for _, l := range logs {
		if needed[l.ID] {
			continue
		}
		if err := t.DeleteBackupLog(ctx, l.ID); err != nil {
			return err
		}
		t.After(func() { d.dropBackupFile(l.ID) })
	}
	return nil
}

func (d *Director) createBackup(ctx context.Context, in *struct {
	ServicePath
	Body *api.CreateBackup
}) (api.Operation, error) {
	var b api.CreateBackup
	if in.Body != nil {
		b = *in.Body
	}
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return api.Operation{}, err
	}
	if _, err := d.backedUp(a, s, "back up"); err != nil {
		return api.Operation{}, err
	}
	return d.submit(ctx, d.backupOrder(a.ID, s.ID, backupRequest{Why: backupAsked, Verify: b.Verify}))
}

func (d *Director) verifyBackup(ctx context.Context, in *BackupPath) (api.Operation, error) {
	b, err := d.backup(ctx, in.ID)
	if err != nil {
		return api.Operation{}, err
	}
	return d.submit(ctx, d.verifyOrder(b.Application, b.Service, b.ID))
}
