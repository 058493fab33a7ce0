package director

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

const (
	backupLook     = 3 * time.Second
	backupsAtOnce  = 2                // of the whole installation: more wait, unless somebody asks for them
	logsAtOnce     = 4                // services whose log is fetched
	logTime        = 10 * time.Minute // for one piece of it
	longestJitter  = 10 * time.Minute
	backupPause    = 2 * time.Minute // after a failure, doubled with each
	brokenKept     = 3               // failures that are shown
	firstBackupAge = 30 * time.Second
	// installTime passes before the first backup of a new service: while a copy
	// ends, a lone node refuses for a moment to make tables, and applications
	// are installed now.
	installTime = 10 * time.Minute
	strayBackup = 5 * time.Second // its operation is stored with its row, and read before it
)

// keepTaking backs services up when it is time to, until ctx ends. What was
// missed while no director ran is made up once.
func (d *Director) keepTaking(ctx context.Context) {
	if !slices.ContainsFunc(d.c.Services.Kinds(), func(k services.Kind) bool { return k.Backups != nil }) {
		return
	}
	tick := time.NewTicker(backupLook)
	defer tick.Stop()
	for {
		if err := d.lookAtBackups(ctx); err != nil && ctx.Err() == nil {
			d.c.Log.Error("backups not looked after", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookAtBackups begins what is due.
func (d *Director) lookAtBackups(ctx context.Context) error {
	if d.isHalted() {
		return nil
	}
	rows, err := d.store.Services(ctx, store.Selection{})
	if err != nil {
		return err
	}
	all, err := d.store.Backups(ctx)
	if err != nil {
		return err
	}
	taking := 0
	for _, b := range all {
		if b.State == api.BackupTaking {
			taking++
		}
	}
	if taking > 0 {
		if err := d.endStrayBackups(ctx, all); err != nil {
			return err
		}
	}
	logs, ctx2 := errgroup.WithContext(ctx)
	logs.SetLimit(logsAtOnce)
	for _, s := range rows {
		p, ok, err := d.policyOf(s)
		if err != nil || !ok || p.Every <= 0 || s.Desired != api.GoalStarted || s.State != api.Running || s.Operation != "" {
			continue
		}
		mine := slices.DeleteFunc(slices.Clone(all), func(b store.Backup) bool { return b.Application != s.Application || b.Service != s.ID })
		if slices.ContainsFunc(mine, func(b store.Backup) bool { return b.State == api.BackupTaking }) {
			continue
		}
		if taking < backupsAtOnce && !d.c.Now().Before(d.dueAt(s, p, mine)) {
			_, err := d.submit(ctx, d.scheduledOrder(s, p))
			if err == nil {
				taking++
			} else if c := api.CodeOf(err); c != api.CodeConflict && c != api.CodeNotFound { // busy or gone: the next look tries again
				d.c.Log.Warn("scheduled backup not begun", "app", s.Application, "service", s.ID, "error", err)
			}
			continue
		}
		if p.Log > 0 && d.logDue(s, p) {
			logs.Go(func() error {
				d.fetchLog(ctx2, s)
				return nil
			})
		}
	}
	return logs.Wait()
}

// endStrayBackups ends the rows of backups that nobody takes any more: their
// application was deleted, say.
func (d *Director) endStrayBackups(ctx context.Context, all []store.Backup) error {
	active, err := d.store.ActiveOperations(ctx)
	if err != nil {
		return err
	}
	for _, b := range all {
		if b.State != api.BackupTaking || d.c.Now().Sub(b.Taken) < strayBackup ||
			slices.ContainsFunc(active, func(o store.Operation) bool {
				return o.ID == b.Operation || bytes.Contains(o.Request, []byte(`"`+b.ID+`"`))
			}) {
			continue
		}
		d.noBackup(ctx, b.ID, errors.New("it was broken off"))
	}
	return nil
}

func (d *Director) scheduledOrder(s store.Service, p api.BackupPolicy) order {
	o := d.backupOrder(s.Application, s.ID, backupRequest{Why: backupScheduled, Verify: p.Verify})
	o.actor = "nutshell"
	return o
}

// dueAt is when the next scheduled backup of a service is due. rows are its
// backups, newest first.
func (d *Director) dueAt(s store.Service, p api.BackupPolicy, rows []store.Backup) time.Time {
	d.backups.mu.Lock()
	ended := d.backups.ended[backupKey(s)]
	d.backups.mu.Unlock()
	return nextBackup(s, p, rows, ended)
}

// nextBackup is pure. ended is the backup after which no log can be had: a new
// one is due at once.
func nextBackup(s store.Service, p api.BackupPolicy, rows []store.Backup, ended string) time.Time {
	jitter := jitterOf(s, p.Every)
	due := s.Since.Add(min(jitter, firstBackupAge)) // the log must begin anew: soon after it serves
	quiet := s.Created.Add(min(installTime, p.Every/10))
	if !slices.ContainsFunc(rows, func(b store.Backup) bool { return b.State == api.BackupReady }) && due.Before(quiet) {
		due = quiet
	}
	wait, failed := backupPause, time.Time{}
rows:
	for _, b := range rows {
		switch {
		case b.State == api.BackupReady && b.ID == ended:
			break rows
		case b.Why != backupScheduled: // they do not put off those that come by themselves
		case b.State == api.BackupReady:
			due = b.Taken.Add(p.Every)
			break rows
		case b.State == api.BackupBroken && failed.IsZero():
			failed = b.Taken
		case b.State == api.BackupBroken:
			wait = min(2*wait, p.Every)
		}
	}
	if !failed.IsZero() && due.Before(failed.Add(min(wait, p.Every))) {
		return failed.Add(min(wait, p.Every))
	}
	return due
}

// jitterOf spreads services that started together.
func jitterOf(s store.Service, every time.Duration) time.Duration {
	most := min(every/10, longestJitter)
	if most <= 0 {
		return 0
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(strconv.FormatInt(s.Application, 10) + "/" + strconv.FormatInt(s.ID, 10)))
	return time.Duration(int64(h.Sum32()) % int64(most))
}

// keepBackups deletes the scheduled backups beyond those that are to be kept.
func (d *Director) keepBackups(ctx context.Context, t *store.Tx, s store.Service) error {
	p, ok, err := d.policyOf(s)
	if err != nil || !ok {
		return err
	}
	rows, err := t.ServiceBackups(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	for _, b := range outdatedBackups(p, rows) {
		if err := d.forgetBackup(ctx, t, b); err != nil {
			return err
		}
	}
	return d.forgetLogs(ctx, t, s.Application, s.ID)
}

// outdatedBackups is pure; rows come newest first. The newest that was tried
// stays, however old it is, and so does what somebody asked for.
func outdatedBackups(p api.BackupPolicy, rows []store.Backup) []store.Backup {
	var old []store.Backup
	kept, broken, tried := 0, 0, false
	for _, b := range rows {
		switch b.State {
		case api.BackupTaking:
		case api.BackupBroken:
			if broken++; broken > brokenKept {
				old = append(old, b)
			}
		case api.BackupReady:
			proven := !b.Verified.IsZero() && !tried
			tried = tried || !b.Verified.IsZero()
			if b.Why != backupScheduled {
				continue
			}
			if kept++; kept > max(p.Keep, 1) && (!proven || !p.Verify) {
				old = append(old, b)
			}
		}
	}
	return old
}

func (d *Director) logDue(s store.Service, p api.BackupPolicy) bool {
	d.backups.mu.Lock()
	defer d.backups.mu.Unlock()
	return d.c.Now().Sub(d.backups.asked[backupKey(s)]) >= p.Log
}

// lastPiece ends the log of the backup before, so that no moment is missing
// between it and the next one.
func (d *Director) lastPiece(ctx context.Context, a store.Application, s store.Service) {
	if p, ok, err := d.policyOf(s); err == nil && ok && p.Log > 0 && p.Every > 0 && a.Desired == api.GoalStarted {
		d.fetchLog(ctx, s)
	}
}

// fetchLog gets what changed in a service since it was asked last. What fails
// is tried again at the next time.
func (d *Director) fetchLog(ctx context.Context, s store.Service) {
	lock, _ := d.backups.logs.LoadOrStore(backupKey(s), &sync.Mutex{})
	mu := lock.(*sync.Mutex) // nothing else is stored there
	mu.Lock()
	defer mu.Unlock()
	began := d.c.Now()
	d.backups.mu.Lock()
	d.backups.asked[backupKey(s)] = began
	ended := d.backups.ended[backupKey(s)]
	d.backups.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, logTime)
	defer cancel()
	base, last, err := d.endOfLog(ctx, s)
	if err != nil || base.ID == "" || base.ID == ended {
		if err != nil {
			d.c.Log.Error("log of a service not fetched", "app", s.Application, "service", s.ID, "error", err)
		}
		return
	}
	switch err := d.appendLog(ctx, s, last, began); {
	case err == nil || ctx.Err() != nil:
	case api.CodeOf(err) == api.CodeNotFound: // the kind does not know that position any more
		d.c.Log.Warn("log of a service cannot go on, a new backup is due", "app", s.Application, "service", s.ID, "error", err)
		d.backups.mu.Lock()
		d.backups.ended[backupKey(s)] = base.ID
		d.backups.mu.Unlock()
	default:
		d.c.Log.Warn("log of a service not fetched, it is tried again", "app", s.Application, "service", s.ID, "error", err)
	}
}

// endOfLog is the newest backup whose log goes on, and the piece that is as
// good as the last: its Position is where the next begins.
func (d *Director) endOfLog(ctx context.Context, s store.Service) (base store.Backup, last store.BackupLog, err error) {
	rows, err := d.store.ServiceBackups(ctx, s.Application, s.ID)
	if err != nil {
		return base, last, err
	}
	i := slices.IndexFunc(rows, func(b store.Backup) bool { return b.State == api.BackupReady && b.Position != "" })
	if i < 0 {
		return base, last, nil
	}
	base = rows[i]
	logs, err := d.store.BackupLogs(ctx, s.Application, s.ID)
	last = store.BackupLog{Until: base.Taken, Position: base.Position}
	if pieces := chain(base, logs); len(pieces) > 0 {
		last = pieces[len(pieces)-1]
	}
	return base, last, err
}

// appendLog fetches one piece and keeps it, if there is anything in it.
func (d *Director) appendLog(ctx context.Context, s store.Service, last store.BackupLog, began time.Time) error {
	a, err := d.store.ApplicationByID(ctx, s.Application)
	if err != nil {
		return err
	}
	id := "log-" + api.NewID(16)
	w, err := d.backups.vault.Create(id)
	if err != nil {
		return err
	}
	defer w.Discard()
	position, err := d.takeFrom(ctx, a, s, services.StreamLog, map[string]string{"after": last.Position}, w)
	if err != nil {
		return err
	}
	if position == last.Position { // in memory only: an idle service is to write nothing
		d.backups.mu.Lock()
		d.backups.seen[backupKey(s)] = began
		d.backups.mu.Unlock()
		return nil
	}
	bytes, err := w.Keep()
	if err != nil {
		return err
	}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		if _, err := t.ServiceByID(ctx, s.Application, s.ID); err != nil {
			return err
		}
		return t.InsertBackupLog(ctx, store.BackupLog{ID: id, Application: s.Application, Service: s.ID, Since: last.Until, Until: began, After: last.Position, Position: position, Bytes: bytes})
	})
	if err != nil {
		d.dropBackupFile(id)
	}
	return err
}
