package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/servicetest"
)

func change(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// nothingLeft looks for what restores and trials make on volumes.
func nothingLeft(t *testing.T, w *servicetest.World) {
	t.Helper()
	for _, i := range holding(w.Instances(), database) {
		for _, what := range []string{"mysql.restored", "mysql.restored.log", "mysql.trial"} {
			found, _ := filepath.Glob(filepath.Join(volumeOf(t, w, i.ID), what))
			if len(found) > 0 {
				t.Errorf("left on %s: %v", i.ID, found)
			}
		}
	}
}

func volumeOf(t *testing.T, w *servicetest.World, id string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Dir(id, "etc"), "mysql", "my.cnf"))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "datadir = "); ok {
			return filepath.Dir(strings.TrimSpace(v))
		}
	}
	t.Fatal("no datadir")
	return ""
}

func TestBackupAndRestore(t *testing.T) {
	w := servicetest.New(t, Kind())
	ctx := within2(t, 5*time.Minute)
	must(t, w.Settle(ctx))
	db := open(t, w)
	change(t, db, "CREATE TABLE t (id INT PRIMARY KEY, what TEXT)")
	for n := range 5 {
		change(t, db, "INSERT INTO t VALUES (?, 'before')", n)
	}
	change(t, db, "CREATE USER late@'%' IDENTIFIED BY 'some password'")
	var base bytes.Buffer
	position, err := w.Send(ctx, services.StreamBackup, nil, &base)
	must(t, err)
	t.Logf("%d bytes at %s", base.Len(), position)

	result, err := w.Receive(ctx, services.StreamVerify, nil, bytes.NewReader(base.Bytes()))
	must(t, err)
	t.Log(result.Text)
	if !strings.Contains(result.Text, "1 tables in 1 databases with 5 rows") {
		t.Errorf("the trial found %s", result.Text)
	}
	nothingLeft(t, w)

	same, err := w.Send(ctx, services.StreamLog, map[string]string{"after": position}, &bytes.Buffer{})
	if err != nil || same != position {
		t.Errorf("nothing changed, but the log goes to %s, %v", same, err)
	}
	var pieces bytes.Buffer
	logPiece := func() {
		t.Helper()
		next, err := w.Send(ctx, services.StreamLog, map[string]string{"after": position}, &pieces)
		must(t, err)
		if next == position {
			t.Fatal("what changed is not in the log")
		}
		position = next
	}
	change(t, db, "INSERT INTO t VALUES (10, 'first piece')")
	change(t, db, "CREATE PROCEDURE p() BEGIN SELECT '\\\\! x;'; END")
	logPiece()
	change(t, db, "INSERT INTO t VALUES (11, 'second piece')")
	time.Sleep(1100 * time.Millisecond) // moments are told apart by whole seconds
	good := time.Now()
	time.Sleep(1100 * time.Millisecond)
	change(t, db, "DROP TABLE t")
	logPiece()

	t.Run("damaged-ones-change-nothing", func(t *testing.T) {
		change(t, db, "CREATE TABLE now (id INT)")
		for name, r := range map[string]io.Reader{
			"nonsense":   strings.NewReader("SELECT 1;"),
			"empty":      strings.NewReader(""),
			"half":       bytes.NewReader(base.Bytes()[:base.Len()/2]),
			"broken-off": io.MultiReader(bytes.NewReader(base.Bytes()[:base.Len()/2]), iotest.ErrReader(errors.New("connection reset"))),
		} {
			if _, err := w.Receive(ctx, services.StreamRestore, nil, r); err == nil {
				t.Errorf("%s: restored", name)
			}
			nothingLeft(t, w)
			_ = count(t, open(t, w), "now")
		}
	})

	t.Run("to-the-backup", func(t *testing.T) {
		began := time.Now()
		_, err := w.Receive(ctx, services.StreamRestore, nil, bytes.NewReader(base.Bytes()))
		must(t, err)
		t.Logf("restored in %v", time.Since(began))
		db := open(t, w)
		if n := count(t, db, "t"); n != 5 {
			t.Errorf("%d rows, want 5", n)
		}
		if n := count(t, db, "mysql.global_priv WHERE User = 'late'"); n != 1 {
			t.Errorf("user late is %d times there", n)
		}
		_, err = w.Receive(ctx, services.StreamRestore, map[string]string{"then": "keep"}, strings.NewReader(""))
		must(t, err)
		nothingLeft(t, w)
		if _, err := w.Send(ctx, services.StreamLog, map[string]string{"after": position}, io.Discard); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("the log goes on from data that was replaced: %v", err)
		}
	})

	t.Run("to-a-moment", func(t *testing.T) {
		_, err := w.Receive(ctx, services.StreamRestore, map[string]string{"then": "replay"}, bytes.NewReader(base.Bytes()))
		must(t, err)
		_, err = w.Receive(ctx, services.StreamReplay, map[string]string{"until": good.UTC().Format(time.RFC3339Nano)}, bytes.NewReader(pieces.Bytes()))
		must(t, err)
		db := open(t, w)
		if n := count(t, db, "t"); n != 7 {
			t.Errorf("%d rows, want 7", n)
		}
		if n := count(t, db, "information_schema.ROUTINES WHERE ROUTINE_NAME = 'p'"); n != 1 {
			t.Errorf("the procedure is %d times there", n)
		}
	})

	t.Run("and-back", func(t *testing.T) {
		change(t, open(t, w), "DROP TABLE t")
		_, err := w.Receive(ctx, services.StreamRestore, nil, bytes.NewReader(base.Bytes()))
		must(t, err)
		_ = count(t, open(t, w), "t")
		_, err = w.Receive(ctx, services.StreamRestore, map[string]string{"then": "back"}, strings.NewReader(""))
		must(t, err)
		var n int
		if err := open(t, w).QueryRowContext(ctx, "SELECT COUNT(*) FROM t").Scan(&n); err == nil {
			t.Error("what was dropped before the restore is there after it was taken back")
		}
		nothingLeft(t, w)
	})

	t.Run("into-another-service", func(t *testing.T) {
		w.Lose(ctx, w.Instances()[0].ID) // both would have the same address
		other := servicetest.New(t, Kind())
		other.Desire(func(d *api.DesiredService) {
			d.Secrets[secretRoot], d.Secrets[secretPassword], d.Secrets[secretSST] = "otherRootSecret123", "it's \"another\" \\ one", "otherSSTSecret123"
		})
		must(t, other.Settle(ctx))
		_, err := other.Receive(ctx, services.StreamRestore, nil, bytes.NewReader(base.Bytes()))
		must(t, err)
		if n := count(t, open(t, other), "t"); n != 5 {
			t.Errorf("%d rows, want 5", n)
		}
	})
}

// Three nodes have the restored data, and only that.
func TestRestoreOfThree(t *testing.T) {
	if os.Getenv("NUTSHELL_CHAOS") == "" {
		t.Skip("two minutes long: set NUTSHELL_CHAOS=1")
	}
	w := servicetest.New(t, Kind())
	ctx := within2(t, 5*time.Minute)
	must(t, w.Scale(ctx, map[string]int{database: 3}))
	db := open(t, w)
	change(t, db, "CREATE TABLE t (id INT PRIMARY KEY)")
	for n := range 20 {
		change(t, db, "INSERT INTO t VALUES (?)", n)
	}
	var base bytes.Buffer
	position, err := w.Send(ctx, services.StreamBackup, nil, &base)
	must(t, err)
	change(t, db, "INSERT INTO t VALUES (100)")
	var piece bytes.Buffer
	_, err = w.Send(ctx, services.StreamLog, map[string]string{"after": position}, &piece)
	must(t, err)
	change(t, db, "DELETE FROM t")
	began := time.Now()
	_, err = w.Receive(ctx, services.StreamRestore, map[string]string{"then": "replay"}, &base)
	must(t, err)
	_, err = w.Receive(ctx, services.StreamReplay, map[string]string{}, &piece)
	must(t, err)
	t.Logf("three nodes restored in %v", time.Since(began))
	for _, i := range holding(w.Instances(), database) {
		if n := countAt(ctx, t, w, i); n != 21 {
			t.Errorf("node %s has %d rows, want 21", i.ID, n)
		}
	}
	nothingLeft(t, w)
}

func countAt(ctx context.Context, t *testing.T, w *servicetest.World, i api.Instance) int {
	t.Helper()
	db := connect(filepath.Join(w.Dir(i.ID, "run"), "mysql", "mysql.sock"), "root", w.Service().Secrets[secretRoot])
	defer func() { _ = db.Close() }()
	var n int
	must(t, db.QueryRowContext(ctx, "SELECT COUNT(*) FROM app.t").Scan(&n))
	return n
}

func TestPlace(t *testing.T) {
	p := place{At: time.Now().UTC(), Volume: "v1", Lineage: "L", File: "binlog.000001", Offset: 4, GTID: "0-1-5,1-1-7"}
	got, err := parsePlace(p.String())
	if err != nil || !got.At.Equal(p.At) || got.GTID != p.GTID {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "x", "2026-01-01T00:00:00Z v l ../../etc/passwd 4 0", "2026-01-01T00:00:00Z v l binlog.000001 3 0", "2026-01-01T00:00:00Z v l binlog.000001 x 0"} {
		if _, err := parsePlace(bad); err == nil {
			t.Errorf("%q is taken for a position", bad)
		}
	}
	if got := sortGTID("1-1-7,\n0-1-5"); got != "0-1-5,1-1-7" {
		t.Error(got)
	}
}
