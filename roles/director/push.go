package director

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"nutshell/roles/api"
	"nutshell/roles/director/gitserver"
	"nutshell/roles/internal/archive"
	"nutshell/roles/internal/store"
)

// teller writes to somebody who may go away: what is done goes on.
type teller struct {
	mu  sync.Mutex
	out io.Writer
}

func (t *teller) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.out == nil {
		return
	}
	if _, err := fmt.Fprintf(t.out, format+"\n", args...); err != nil {
		t.out = nil
	}
}

func (t *teller) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out = nil
}

// Pushed implements gitserver.Host: it makes code versions of what was pushed
// and tells how they fare. The client may go away meanwhile.
func (g gitHost) Pushed(ctx context.Context, p gitserver.Push, out io.Writer) {
	var refs []string
	for _, c := range p.Changes {
		refs = append(refs, c.Ref)
	}
	g.Audit(ctx, api.AuditEntry{Actor: p.User, From: p.Remote, Action: "git.push", Object: p.Name + " " + api.Shorten(strings.Join(refs, " ")), Result: "ok"})
	to := &teller{out: out}
	defer to.leave()
	done := make(chan struct{})
	g.goWork(func(ctx context.Context) {
		defer close(done)
		if err := g.takePush(ctx, p.Repository, p.User, to); err != nil && ctx.Err() == nil {
			g.c.Log.Error("push not turned into code versions, the next start tries again", "app", p.Repository, "error", err)
			to.say("ERROR: no code version was made: %v", err)
		}
	})
	select {
	case <-done:
	case <-ctx.Done(): // the client hung up
	case <-g.waits.Done():
		to.say("The director stops. What is left to do goes on when it is started again.")
	}
}

// Audit is the guard's.
func (g gitHost) Audit(ctx context.Context, e api.AuditEntry) { guard(g).Audit(ctx, e) }

// takePush makes code versions of the services whose folder differs from the
// last time, and activates them. It asks only how things are, so that it can
// be done again after a crash at any point.
func (d *Director) takePush(ctx context.Context, application int64, user string, to *teller) error {
	if err := d.registerPush(ctx, application, user, to); err != nil {
		return err
	}
	return d.activatePushed(ctx, application, user, to)
}

func (d *Director) registerPush(ctx context.Context, application int64, user string, to *teller) error {
	lock, _ := d.pushing.LoadOrStore(application, &sync.Mutex{}) // one at a time; activations come later
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	sum, err := d.git.Summary(ctx, application)
	if err != nil {
		return err
	}
	repo, rows, err := d.store.Repository(ctx, application)
	if err != nil {
		return err
	}
	switch sum.Commit {
	case "":
		to.say("No code version: they are made of the branch %s (or master), which was not pushed yet.", sum.Branch)
		return nil
	case repo.Head:
		to.say("No code version: they are made of the branch %s, which did not change.", sum.Branch)
		return nil
	}
	services, err := d.codeServices(ctx, application)
	if err != nil {
		return err
	}
	if len(services) == 0 {
		to.say("No code version: the application has no service that keeps code.")
	}
	snap, err := d.git.Open(ctx, application, sum.Commit)
	if err != nil {
		return err
	}
	defer snap.Close()
	known := map[int64]store.Folder{}
	for _, f := range rows {
		known[f.Service] = f
	}
	for _, s := range services {
		if err := d.registerFolder(ctx, snap, s, known[s.ID], user, to); err != nil {
			return err
		}
	}
	return d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		return t.SaveRepository(ctx, application, store.Repository{Head: snap.ID, Pushed: t.Now(), By: user})
	})
}

// registerFolder makes a version of one service's folder if it has changed.
// What is wrong with the folder is told; an error is only what is our fault.
func (d *Director) registerFolder(ctx context.Context, snap *gitserver.Snapshot, s store.Service, known store.Folder, user string, to *teller) error {
	who := fmt.Sprintf("%s (service %d)", s.Name, s.ID)
	name, tree, err := folderOf(snap, s)
	switch {
	case err != nil:
		to.say("%s: no version: %v", who, err)
		return nil
	case tree == "":
		to.say("%s: no version: the repository has no folder %d or %s", who, s.ID, s.Name)
		return nil
	case tree == known.Tree && known.Version == "":
		to.say("%s: no version: %s is as it was when it was refused", who, name)
		return nil
	case tree == known.Tree:
		to.say("%s: %s is unchanged, as in %s", who, name, known.Version)
		return nil
	}
	v, notes, err := d.folderVersion(ctx, snap, s, name, tree, user)
	folder := store.Folder{Service: s.ID, Tree: tree}
	var refused *api.Error
	switch {
	case errors.As(err, &refused) && refused.Code != api.CodeNoSpace && refused.Code != api.CodeInternal:
		to.say("%s: no version: %s", who, withoutObject(refused))
		return d.write(ctx, func(ctx context.Context, t *store.Tx) error { return t.SaveFolder(ctx, s.Application, folder) })
	case err != nil:
		return err
	}
	to.say("%s: version %s of %s, %d files: %s", who, v.ID, name, v.Files, v.Description)
	for _, n := range notes {
		to.say("  WARNING: %s", n)
	}
	if len(notes) > 0 {
		to.say("  It is not activated, because what is missing may be needed. To activate it all the same: nutshell service enable-code %d %d %s", s.Application, s.ID, v.ID)
	} else if !s.AutoDeploy {
		to.say("  To activate it: nutshell service enable-code %d %d %s", s.Application, s.ID, v.ID)
	}
	return nil
}

func withoutObject(e *api.Error) string {
	short := *e
	short.Op, short.Object = "", ""
	return short.Error()
}

// folderVersion stores a folder as a code version. Nothing but an error is
// left behind if it is refused.
func (d *Director) folderVersion(ctx context.Context, snap *gitserver.Snapshot, s store.Service, name, tree, user string) (api.CodeVersion, []string, error) {
	d.blobs.RLock() // until the row is there, nothing says that the blob is needed
	defer d.blobs.RUnlock()
	read, write := io.Pipe()
	var notes []string
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var err error
		notes, err = snap.Archive(name, tree, write)
		_ = write.CloseWithError(err) // whoever reads gets the error
	}()
	blob, err := d.code.Put(ctx, read, d.tune().upload)
	_ = read.Close() // the other side ends, too
	<-ended
	if err != nil {
		return api.CodeVersion{}, nil, err
	}
	info, err := archive.Inspect(ctx, d.code.Path(blob.SHA256), archive.Limits{})
	if err != nil {
		d.dropBlob(blob.SHA256)
		if e := (*api.Error)(nil); errors.As(err, &e) {
			mended := *e
			mended.Hint = "change that in the repository and push again"
			err = &mended
		}
		return api.CodeVersion{}, nil, err
	}
	subject := []rune(snap.Subject)
	v := api.CodeVersion{ID: "git-" + snap.ID, Filename: snap.ID[:7] + ".tar.gz", Description: string(subject[:min(len(subject), maxDescription)]), Format: string(info.Format),
		Bytes: blob.Bytes, SHA256: blob.SHA256, Files: info.Files, By: user}
	err = d.write(ctx, func(ctx context.Context, t *store.Tx) error {
		row, err := t.ServiceByID(ctx, s.Application, s.ID)
		if err != nil {
			return err
		}
		if v, err = d.addVersion(ctx, t, row, v); err != nil {
			return err
		}
		return t.SaveFolder(ctx, s.Application, store.Folder{Service: s.ID, Tree: tree, Version: v.ID, Pending: row.AutoDeploy && len(notes) == 0})
	})
	if err != nil {
		d.dropBlob(blob.SHA256)
	}
	return v, notes, err
}

// recoverPushes does what a director that was killed has not done for what
// was pushed to it, and removes what deleted applications left.
func (d *Director) recoverPushes(ctx context.Context) error {
	ids, err := d.git.Stored()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := d.store.ApplicationByID(ctx, id); api.CodeOf(err) == api.CodeNotFound {
			binned, err := d.store.IsBinned(ctx, id)
			if err != nil {
				return err
			}
			if !binned {
				d.dropRepository(id)
			}
			continue
		} else if err != nil {
			return err
		}
		repo, folders, err := d.store.Repository(ctx, id)
		if err != nil {
			return err
		}
		pending := false
		for _, f := range folders {
			pending = pending || f.Pending
		}
		tip, err := d.git.Tip(id)
		if err != nil {
			d.c.Log.Error("repository not read", "app", id, "error", err)
			continue
		}
		if !pending && (tip == "" || tip == repo.Head) {
			continue
		}
		d.c.Log.Info("push that was cut off goes on", "app", id, "commit", tip)
		d.goWork(func(ctx context.Context) {
			by := repo.By
			if by == "" {
				by = "git"
			}
			if err := d.takePush(ctx, id, by, &teller{}); err != nil && ctx.Err() == nil {
				d.c.Log.Error("push not turned into code versions", "app", id, "error", err)
			}
		})
	}
	return nil
}
