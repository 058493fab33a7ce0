package director

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/store"
)

// testPolicy backs test services up on their own at level 9 only.
func testPolicy(settings json.RawMessage) (api.BackupPolicy, error) {
	var s struct{ Level int }
	err := json.Unmarshal(settings, &s)
	if s.Level != 9 {
		return api.BackupPolicy{Keep: 2}, err
	}
	return api.BackupPolicy{Every: 4 * time.Second, Keep: 2, Log: time.Second, Verify: true}, err
}

// vessel is the data of services: a text, and lines that were added to it.
type vessel struct {
	mu     sync.Mutex
	text   string
	added  []string
	serial int
	staged string
	fail   map[string]error         // at the end of streams
	hold   map[string]chan struct{} // before the end of streams
	asked  []string
	alive  bool // services serve
}

func newVesselHouse(t *testing.T) (*house, *vessel) {
	v := &vessel{text: "secret text\n", fail: map[string]error{}, hold: map[string]chan struct{}{}, alive: true}
	h := newHouse(t)
	h.answer = v.answer
	go func() { // managers say all the time that services run
		for t.Context().Err() == nil {
			time.Sleep(50 * time.Millisecond)
			v.mu.Lock()
			alive := v.alive
			v.mu.Unlock()
			h.mu.Lock()
			d := h.d
			h.mu.Unlock()
			for n := int64(1); d != nil && alive && n < 4; n++ {
				d.backups.heard(1, api.Report{Service: n, State: api.Running}, time.Now())
			}
		}
	}()
	return h, v
}

func (v *vessel) end(ctx context.Context, name string, args map[string]string) error {
	v.mu.Lock()
	v.asked = append(v.asked, strings.TrimSpace(name+" "+args["then"]+args["until"]))
	fail, hold := v.fail[name], v.hold[name]
	if args["then"] == "back" || args["then"] == "keep" {
		fail, hold = nil, nil
	}
	v.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fail
}

func (v *vessel) answer(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/services/{id}/streams/{name}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Give(w, r, func(ctx context.Context, w io.Writer) (string, error) {
			args := rpc.Args(r)
			v.mu.Lock()
			text, n := v.text, len(v.added)
			v.serial++
			position := fmt.Sprintf("%d:%d", v.serial, n)
			if r.PathValue("name") == "log" {
				var serial, from int
				_, _ = fmt.Sscanf(args["after"], "%d:%d", &serial, &from)
				if from == n {
					position = args["after"]
				}
				if from > n {
					v.mu.Unlock()
					return "", api.NotFoundf("no such position")
				}
				text = strings.Join(v.added[from:], "")
			} else {
				text += strings.Join(v.added, "")
			}
			v.mu.Unlock()
			_, _ = io.WriteString(w, text)
			return position, v.end(ctx, r.PathValue("name"), args)
		})
	})
	mux.HandleFunc("POST /v1/services/{id}/streams/{name}", func(w http.ResponseWriter, r *http.Request) {
		rpc.Take(w, r, func(ctx context.Context, body io.Reader) (api.ActResult, error) {
			args, name := rpc.Args(r), r.PathValue("name")
			b, err := io.ReadAll(body)
			if err = errors.Join(err, v.end(ctx, name, args)); err != nil {
				return api.ActResult{}, err
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			switch {
			case name == "verify":
				return api.ActResult{Text: fmt.Sprintf("%d bytes are well", len(b))}, nil
			case args["then"] == "keep" || args["then"] == "back":
			case args["then"] == "replay":
				v.staged = string(b)
			case name == "replay":
				v.text, v.added = v.staged+string(b), nil
			default:
				v.text, v.added = string(b), nil
			}
			return api.ActResult{}, nil
		})
	})
}

func (v *vessel) add(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.added = append(v.added, line)
}

func (v *vessel) whole() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.text + strings.Join(v.added, "")
}

func (v *vessel) was(what string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range v.asked {
		if strings.HasPrefix(a, what) {
			return true
		}
	}
	return false
}

func (v *vessel) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

const testService = "/applications/shop/services/test"

func (c client) backups(path string) []api.Backup {
	c.h.t.Helper()
	var list []api.Backup
	c.must("GET", path, nil, &list, 200)
	return list
}

func (h *house) files() []string {
	found, _ := filepath.Glob(filepath.Join(h.dir, "backups", "*.age"))
	left, _ := filepath.Glob(filepath.Join(h.dir, "backups", "incoming", "*"))
	return append(found, left...)
}

func TestBackups(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	if list := h.admin.backups(testService + "/backups"); len(list) != 0 {
		t.Fatalf("backups before any: %+v", list)
	}
	o := h.admin.done("POST", testService+"/backups", api.CreateBackup{Verify: true})
	list := h.admin.backups(testService + "/backups")
	if len(list) != 1 || list[0].State != api.BackupReady || list[0].Why != backupAsked || list[0].Operation != o.ID || list[0].Verified.IsZero() || list[0].Finding != "12 bytes are well" {
		t.Fatalf("after a backup: %+v", list)
	}
	b := list[0]
	files := h.files()
	if len(files) != 1 {
		t.Fatalf("files %v", files)
	}
	stored, err := os.ReadFile(files[0])
	if err != nil || bytes.Contains(stored, []byte("secret")) || int64(len(stored)) != b.Bytes {
		t.Fatalf("%d bytes stored, %v; the row says %d", len(stored), err, b.Bytes)
	}

	v.add("more\n")
	h.admin.done("POST", testService+"/restore", api.RestoreBackup{Backup: b.ID})
	if got := v.whole(); got != "secret text\n" {
		t.Errorf("restored %q", got)
	}
	if !v.was("restore keep") || v.was("restore back") {
		t.Errorf("asked for %v", v.asked)
	}
	if s := h.admin.service(testService); s.State != api.Running {
		t.Errorf("after a restore: %s", s.State)
	}
	h.admin.done("POST", "/backups/"+b.ID+"/verify", nil)

	other := h.user("eve")
	other.refused("GET", "/backups/"+b.ID, nil, api.CodeNotFound)
	other.refused("DELETE", "/backups/"+b.ID, nil, api.CodeNotFound)
	if list := other.backups("/backups"); len(list) != 0 {
		t.Errorf("eve sees %+v", list)
	}
	at := b.Taken.Add(time.Hour)
	h.admin.refused("POST", testService+"/restore", api.RestoreBackup{Backup: b.ID, At: &at}, api.CodeInvalid)
	h.admin.refused("POST", testService+"/restore", api.RestoreBackup{Backup: "nonsense"}, api.CodeNotFound)
	h.admin.refused("POST", "/applications/shop/restore", api.RestoreBackup{Backup: b.ID}, api.CodeInvalid)
	h.admin.must("DELETE", "/backups/"+b.ID, nil, nil, 204)
	h.eventually("the file goes", func() bool { return len(h.files()) == 0 })
	h.admin.refused("GET", "/backups/"+b.ID, nil, api.CodeNotFound)
}

func TestBackupThatFails(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	v.set(func() { v.fail["backup"] = errors.New("the disk broke") })
	o := h.admin.finish("POST", testService+"/backups", nil)
	list := h.admin.backups("/backups")
	if o.State != api.OperationFailed || len(list) != 1 || list[0].State != api.BackupBroken || !strings.Contains(list[0].Problem, "the disk broke") || len(h.files()) != 0 {
		t.Fatalf("%s, %+v, %v", o.State, list, h.files())
	}
	if s := h.admin.service(testService); s.State != api.Running {
		t.Errorf("the service is %s", s.State)
	}
	h.admin.refused("POST", testService+"/restore", api.RestoreBackup{Backup: list[0].ID}, api.CodeConflict)
	v.set(func() { v.fail["backup"] = nil; v.fail["restore"] = errors.New("no room") })
	h.admin.done("POST", "/operations/"+o.ID+"/retry", nil)
	good := h.admin.backups("/backups")[0]
	v.add("more\n")
	if o := h.admin.finish("POST", testService+"/restore", api.RestoreBackup{Backup: good.ID}); o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "no room") {
		t.Errorf("restore: %s %v", o.State, o.Error)
	}
	if !v.was("restore back") || v.whole() != "secret text\nmore\n" {
		t.Errorf("asked for %v, has %q", v.asked, v.whole())
	}
	// A damaged file is never given out as if it were whole.
	v.set(func() { v.fail["restore"] = nil })
	stored, err := os.ReadFile(h.files()[0])
	if err != nil {
		t.Fatal(err)
	}
	stored[len(stored)-1] ^= 1
	if err := os.WriteFile(h.files()[0], stored, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := h.admin.finish("POST", testService+"/restore", api.RestoreBackup{Backup: good.ID}); o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "damaged") {
		t.Errorf("damaged: %s %v", o.State, o.Error)
	}
	if v.whole() != "secret text\nmore\n" {
		t.Errorf("has %q", v.whole())
	}
}

func TestDirectorDiesWhileItBacksUp(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	for _, name := range []string{"backup", "verify", "restore"} {
		hold := make(chan struct{})
		v.set(func() { v.hold[name] = hold; v.asked = nil })
		var o api.Operation
		switch name {
		case "backup":
			h.admin.must("POST", testService+"/backups", nil, &o, 202)
		case "verify":
			h.admin.must("POST", "/backups/"+h.admin.backups("/backups")[0].ID+"/verify", nil, &o, 202)
		case "restore":
			v.add("more\n")
			h.admin.must("POST", testService+"/restore", api.RestoreBackup{Backup: h.admin.backups("/backups")[0].ID}, &o, 202)
		}
		h.eventually(name+" is under way", func() bool { return v.was(name) })
		for _, b := range h.admin.backups("/backups") {
			if name == "backup" && b.State != api.BackupTaking {
				t.Errorf("half a backup is %s", b.State)
			}
		}
		h.stopDirector()
		v.set(func() { delete(v.hold, name) })
		close(hold)
		h.start()
		if got := h.admin.wait(o.ID); got.State != api.OperationDone {
			t.Fatalf("%s after the director's death: %s %v", name, got.State, got.Error)
		}
		if list := h.admin.backups("/backups"); len(list) != 1 || list[0].State != api.BackupReady || len(h.files()) != 1 {
			t.Fatalf("%s: %+v, files %v", name, list, h.files())
		}
	}
	if v.whole() != "secret text\n" {
		t.Errorf("has %q", v.whole())
	}
}

func TestScheduledBackups(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	h.admin.done("PATCH", testService+"/settings", map[string]any{"level": 9})
	ready := func() (list []api.Backup) {
		for _, b := range h.admin.backups(testService + "/backups") {
			if b.State == api.BackupReady {
				list = append(list, b)
			}
		}
		return list
	}
	h.eventually("the first backup", func() bool { return len(ready()) > 0 })
	first := ready()[0]
	if first.Why != backupScheduled {
		t.Errorf("why: %s", first.Why)
	}
	h.eventually("the old ones go", func() bool {
		_, err := h.d.store.Backup(t.Context(), 0, first.ID)
		return api.CodeOf(err) == api.CodeNotFound && len(ready()) == 2
	})
	// Now only the log goes on.
	h.admin.done("PATCH", testService+"/settings", map[string]any{"level": 1})
	h.admin.done("POST", testService+"/backups", nil)
	s, err := h.d.store.ServiceByID(t.Context(), 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	last := h.admin.backups(testService + "/backups")[0]
	files := len(h.files())
	h.d.fetchLog(t.Context(), s)
	if now := h.admin.backups(testService + "/backups")[0]; len(h.files()) != files || !now.Until.After(last.Taken) {
		t.Errorf("nothing changed, but there are %d files instead of %d, until %v", len(h.files()), files, now.Until)
	}
	v.add("one\n")
	h.d.fetchLog(t.Context(), s)
	v.add("two\n")
	h.d.fetchLog(t.Context(), s)
	now := h.admin.backups(testService + "/backups")[0]
	if len(h.files()) != files+2 || now.Until.IsZero() {
		t.Fatalf("%d files instead of %d, until %v", len(h.files()), files+2, now.Until)
	}
	want := v.whole()
	v.add("three\n")
	h.admin.done("POST", testService+"/restore", api.RestoreBackup{Backup: now.ID, At: &now.Until})
	if got := v.whole(); got != want {
		t.Errorf("restored %q, want %q", got, want)
	}
	h.d.fetchLog(t.Context(), s) // the data is another now
	if n := len(h.files()); n != files+2 {
		t.Errorf("the log goes on after a restore: %d files", n)
	}
	h.admin.must("DELETE", "/backups/"+now.ID, nil, nil, 204)
	h.eventually("the log goes with its backup", func() bool { return len(h.files()) == files-1 })
}

func TestDeleteWithALastBackup(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	v.set(func() { v.fail["backup"] = errors.New("the disk broke") })
	if o := h.admin.finish("DELETE", testService+"?backup=true", nil); o.State != api.OperationFailed {
		t.Fatalf("deleted without a backup: %s", o.State)
	}
	if s := h.admin.service(testService); s.Desired != api.GoalStarted {
		t.Fatalf("the service is wanted %s", s.Desired)
	}
	v.set(func() { v.fail["backup"] = nil })
	h.admin.done("DELETE", testService+"?backup=true", nil)
	h.admin.refused("GET", testService, nil, api.CodeNotFound)
	var b api.Backup
	for _, x := range h.admin.backups("/backups") {
		if x.State == api.BackupReady {
			b = x
		}
	}
	if b.Why != backupLast || b.ApplicationName != "shop" || b.ServiceName != "test" {
		t.Fatalf("last backup: %+v", b)
	}
	v.set(func() { v.text = "something else" })
	h.admin.refused("POST", "/applications/shop/restore", api.RestoreBackup{Backup: b.ID, New: "a/b"}, api.CodeInvalid)
	h.admin.done("POST", "/applications/shop/restore", api.RestoreBackup{Backup: b.ID, New: "again"})
	if s := h.admin.service("/applications/shop/services/again"); s.State != api.Running || v.whole() != "secret text\n" {
		t.Errorf("the new service is %s and has %q", s.State, v.whole())
	}
}

func TestDeleteApplicationWithLastBackups(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	v.set(func() { v.fail["backup"] = errors.New("the disk broke") })
	if o := h.admin.finish("DELETE", "/applications/shop?backup=true", nil); o.State != api.OperationFailed {
		t.Fatalf("deleted without a backup: %s", o.State)
	}
	if s := h.admin.service(testService); s.Desired != api.GoalStarted || s.State != api.Running {
		t.Fatalf("after that the service is wanted %s and %s", s.Desired, s.State)
	}
	v.set(func() { v.fail["backup"] = nil })
	h.admin.done("DELETE", "/applications/shop?backup=true", nil)
	h.admin.refused("GET", "/applications/shop", nil, api.CodeNotFound)
	ready := 0
	for _, b := range h.admin.backups("/backups") {
		if b.State == api.BackupReady && b.Why == backupLast && b.ServiceName == "test" {
			ready++
		}
	}
	if ready != 1 {
		t.Errorf("%d last backups are kept, want 1: %+v", ready, h.admin.backups("/backups"))
	}
}

func TestApplicationGoesWhileItIsBackedUp(t *testing.T) {
	h, v := newVesselHouse(t)
	h.admin.running("shop")
	hold := make(chan struct{})
	v.set(func() { v.hold["backup"] = hold })
	var o api.Operation
	h.admin.must("POST", testService+"/backups", nil, &o, 202)
	h.eventually("it is under way", func() bool { return v.was("backup") })
	h.admin.refused("DELETE", "/backups/"+h.admin.backups("/backups")[0].ID, nil, api.CodeConflict)
	h.admin.done("POST", "/applications/shop/stop", nil)
	h.admin.done("DELETE", "/applications/shop", nil)
	h.eventually("the backup is given up", func() bool {
		list := h.admin.backups("/backups")
		return len(list) == 1 && list[0].State == api.BackupBroken && len(h.files()) == 0
	})
	close(hold)
	h.admin.must("DELETE", "/backups/"+h.admin.backups("/backups")[0].ID, nil, nil, 204)
}

func TestNextBackup(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := store.Service{Service: api.Service{Application: 1, ID: 1, Since: now}}
	p := api.BackupPolicy{Every: 24 * time.Hour}
	row := func(why string, state api.BackupState, ago time.Duration) store.Backup {
		return store.Backup{Backup: api.Backup{ID: why + ago.String(), Why: why, State: state, Taken: now.Add(-ago)}}
	}
	for name, c := range map[string]struct {
		rows  []store.Backup
		ended string
		want  time.Time
	}{
		"none-yet":              {nil, "", now.Add(min(jitterOf(s, p.Every), firstBackupAge))},
		"one-day-later":         {[]store.Backup{row(backupScheduled, api.BackupReady, time.Hour)}, "", now.Add(23 * time.Hour)},
		"missed":                {[]store.Backup{row(backupScheduled, api.BackupReady, 72*time.Hour)}, "", now.Add(-48 * time.Hour)},
		"asked-puts-off-none":   {[]store.Backup{row(backupAsked, api.BackupReady, time.Hour), row(backupScheduled, api.BackupReady, 23*time.Hour)}, "", now.Add(time.Hour)},
		"failed":                {[]store.Backup{row(backupScheduled, api.BackupBroken, 0), row(backupScheduled, api.BackupReady, 25*time.Hour)}, "", now.Add(backupPause)},
		"failed-three-times":    {[]store.Backup{row(backupScheduled, api.BackupBroken, 0), row(backupScheduled, api.BackupBroken, time.Minute), row(backupScheduled, api.BackupBroken, time.Minute)}, "", now.Add(4 * backupPause)},
		"log-ended":             {[]store.Backup{row(backupScheduled, api.BackupReady, time.Hour)}, backupScheduled + "1h0m0s", now.Add(min(jitterOf(s, p.Every), firstBackupAge))},
		"log-ended-before-this": {[]store.Backup{row(backupScheduled, api.BackupReady, time.Hour)}, "another", now.Add(23 * time.Hour)},
	} {
		if got := nextBackup(s, p, c.rows, c.ended); !got.Equal(c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
	s.Created = now.Add(-time.Minute)
	if got, want := nextBackup(s, p, nil, ""), s.Created.Add(installTime); !got.Equal(want) {
		t.Errorf("first of a new service: got %v, want %v", got, want)
	}
}

func TestOutdatedBackups(t *testing.T) {
	row := func(id, why string, state api.BackupState, verified bool) store.Backup {
		b := store.Backup{Backup: api.Backup{ID: id, Why: why, State: state}}
		if verified {
			b.Verified = time.Now()
		}
		return b
	}
	rows := []store.Backup{row("taking", backupScheduled, api.BackupTaking, false), row("1", backupScheduled, api.BackupReady, false), row("asked", backupAsked, api.BackupReady, false),
		row("2", backupScheduled, api.BackupReady, false), row("3", backupScheduled, api.BackupReady, false), row("tried", backupScheduled, api.BackupReady, true),
		row("tried-before", backupScheduled, api.BackupReady, true), row("last", backupLast, api.BackupReady, false)}
	for n := range 5 {
		rows = append(rows, row(fmt.Sprintf("broken%d", n), backupScheduled, api.BackupBroken, false))
	}
	for want, p := range map[string]api.BackupPolicy{
		"3 tried-before broken3 broken4":       {Keep: 2, Verify: true},
		"3 tried tried-before broken3 broken4": {Keep: 2},
		"2 3 tried-before broken3 broken4":     {Keep: 0, Verify: true},
		"broken3 broken4":                      {Keep: 10},
	} {
		var got []string
		for _, b := range outdatedBackups(p, rows) {
			got = append(got, b.ID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%+v: got %v, want %s", p, got, want)
		}
	}
}

func TestChain(t *testing.T) {
	b := store.Backup{Backup: api.Backup{State: api.BackupReady, Position: "a"}}
	logs := []store.BackupLog{{ID: "3", After: "c", Position: "d"}, {ID: "1", After: "a", Position: "b"}, {ID: "2", After: "b", Position: "c"}, {ID: "x", After: "y", Position: "z"}, {ID: "round", After: "d", Position: "a"}}
	var got []string
	for _, l := range chain(b, logs) {
		got = append(got, l.ID)
	}
	if strings.Join(got, " ") != "1 2 3 round" {
		t.Errorf("got %v", got)
	}
	if b.Position = ""; chain(b, logs) != nil {
		t.Error("a backup without a position has a log")
	}
}
