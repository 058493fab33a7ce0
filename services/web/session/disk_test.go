package session

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func reopen(t *testing.T, path string) *disk {
	t.Helper()
	d, err := openDisk(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.close() })
	return d
}

// sameAs fails unless a disk has exactly these entries.
func sameAs(t *testing.T, d *disk, want map[string]entry) {
	t.Helper()
	list, err := d.all(d.keys())
	if err != nil {
		t.Fatal(err)
	}
	var used int64
	for _, e := range list {
		w, ok := want[e.Key]
		if !ok || e.Version != w.Version || e.Expires != w.Expires || e.Deleted != w.Deleted || !bytes.Equal(e.Value, w.Value) {
			t.Fatalf("got %.200v, want %.200v", e, w)
		}
		used += e.size()
	}
	if len(list) != len(want) || d.used.Load() != used {
		t.Fatalf("%d entries of %d bytes, want %d of %d", len(list), d.used.Load(), len(want), used)
	}
}

// Whatever was written, replaced, removed, touched and moved: a process that
// is killed finds what it had, and nothing that was replaced comes back.
func TestKilledStoreFindsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	d := reopen(t, path)
	want := map[string]entry{}
	r := rand.New(rand.NewPCG(1, 1))
	far := time.Now().Add(time.Hour).UnixMilli()
	for n := range 30_000 {
		key := fmt.Sprintf("session-%d", r.IntN(2000))
		switch r.IntN(10) {
		case 0:
			if e, ok := want[key]; ok && !e.Deleted {
				e.Expires += 2000
				if err := d.touch(key, e.Expires); err != nil {
					t.Fatal(err)
				}
				want[key] = e
			}
			continue
		case 1:
			e := entry{Key: key, Version: uint64(n + 1), Expires: far + int64(n), Deleted: true}
			if err := d.put(e); err != nil {
				t.Fatal(err)
			}
			want[key] = e
			continue
		case 2: // older than what there is: refused
			if e, ok := want[key]; ok {
				if err := d.put(entry{Key: key, Version: e.Version - 1, Expires: far * 2, Value: []byte("old")}); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		e := entry{Key: key, Version: uint64(n + 1), Expires: far + int64(n), Value: bytes.Repeat([]byte{byte(n)}, r.IntN(3000))}
		if err := d.put(e); err != nil {
			t.Fatal(err)
		}
		want[key] = e
		if n%9000 == 0 {
			if err := d.sync(); err != nil {
				t.Fatal(err)
			}
			d = reopen(t, path) // the former was killed: nothing was closed
			sameAs(t, d, want)
		}
	}
	sameAs(t, d, want)
	if err := d.sync(); err != nil {
		t.Fatal(err)
	}
	sameAs(t, reopen(t, path), want)
	var size int64
	files, _ := filepath.Glob(path + ".*")
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if live := d.used.Load(); size > 2*live+6*segmentBytes {
		t.Errorf("%d bytes of files for %d of sessions", size, live)
	}
}

// A log may end anywhere: what was whole before is there, and it goes on.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	d := reopen(t, path)
	want := map[string]entry{}
	for n := range 4 {
		e := entry{Key: fmt.Sprint("k", n), Version: 1, Expires: 5, Value: bytes.Repeat([]byte("x"), n)}
		if err := d.put(e); err != nil {
			t.Fatal(err)
		}
		want[e.Key] = e
	}
	whole, err := os.ReadFile(d.segments[0].path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) {
		left := filepath.Join(dir, fmt.Sprint("cut", cut))
		if err := os.WriteFile(left+".000000000001", whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		here, at := map[string]entry{}, 0
		for n := range 4 {
			e := want[fmt.Sprint("k", n)]
			if at += int(logBytes(e.Key, len(e.Value))); at <= cut {
				here[e.Key] = e
			}
		}
		c := reopen(t, left)
		sameAs(t, c, here)
		more := entry{Key: "more", Version: 9, Expires: 9, Value: []byte("y")}
		if err := c.put(more); err != nil {
			t.Fatal(err)
		}
		here["more"] = more
		sameAs(t, reopen(t, left), here)
	}
	for at := range whole { // and any byte may be another
		spoilt := slices.Clone(whole)
		spoilt[at] ^= 0x40
		left := filepath.Join(dir, fmt.Sprint("spoilt", at))
		if err := os.WriteFile(left+".000000000001", spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		c := reopen(t, left)
		for _, key := range c.keys() {
			e, err := c.get(key)
			if w := want[key]; err != nil || !bytes.Equal(e.Value, w.Value) || e.Version != w.Version {
				t.Fatalf("byte %d spoilt: got %+v, %v", at, e, err)
			}
		}
	}
}

// What was evicted or dropped may be back after a restart, as it was last and
// never as it was before that.
func TestOldVersionsStayAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	d := reopen(t, path)
	big := bytes.Repeat([]byte("x"), 100<<10)
	for n := range 200 { // 20 MB of turns: files go
		if err := d.put(entry{Key: "turns", Version: uint64(n + 1), Expires: 100 + int64(n), Value: big}); err != nil {
			t.Fatal(err)
		}
	}
	e, err := d.get("turns")
	if err != nil || e.Version != 200 {
		t.Fatalf("version %d, %v", e.Version, err)
	}
	d.drop(e)
	if d.count() != 0 || d.used.Load() != 0 {
		t.Errorf("%d entries of %d bytes after the drop", d.count(), d.used.Load())
	}
	if err := d.sync(); err != nil {
		t.Fatal(err)
	}
	d = reopen(t, path)
	list, err := d.all(d.keys())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Version != 200 {
			t.Errorf("version %d is back", e.Version)
		}
	}
}
