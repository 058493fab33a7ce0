package agent

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// TestCodeOutlivesPower: what a loss of power has emptied is fetched again, and
// what was on the disk before is not.
func TestCodeOutlivesPower(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	const page = "<?php echo 42;"
	_ = w.WriteHeader(&tar.Header{Name: "index.php", Mode: 0o644, Size: int64(len(page))})
	_, _ = w.Write([]byte(page))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	v := api.CodeVersion{ID: "code-a", SHA256: hex.EncodeToString(sum[:]), Bytes: int64(b.Len())}
	fetched := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched++
		_, _ = w.Write(b.Bytes())
	}))
	defer s.Close()
	dir := t.TempDir()
	start := func(boot string) *code {
		return &code{dir: dir, uid: -1, gid: -1, boot: boot, stopped: make(chan struct{}), log: slog.New(slog.DiscardHandler)}
	}
	at := filepath.Join(dir, v.ID+"-"+v.SHA256[:8])
	file, note := filepath.Join(at, "index.php"), at+noteEnd
	for _, step := range []struct {
		name, boot string
		settles    bool         // the version comes to the disk
		before     func() error // what happens before this start of the agent
		want       int          // times that it was fetched in all
	}{
		{"first", "one", false, nil, 1},
		{"agent-again", "one", true, nil, 1},
		{"machine-again", "two", false, nil, 1},
		{"agent-again-before-the-disk", "two", false, func() error { return os.WriteFile(note, []byte("two"), 0o600) }, 1},
		{"cut-before-the-disk", "three", false, func() error { return errors.Join(os.WriteFile(note, []byte("two"), 0o600), os.Truncate(file, 0)) }, 2},
		{"cut-with-the-note", "four", false, func() error { return errors.Join(os.Truncate(note, 0), os.Truncate(file, 0)) }, 3},
		{"of-an-older-agent", "five", false, func() error { return os.Remove(note) }, 3},
		{"version-gone", "five", true, func() error { return os.RemoveAll(at) }, 4},
	} {
		if step.before != nil {
			if err := step.before(); err != nil {
				t.Fatal(step.name, err)
			}
		}
		c := start(step.boot)
		if err := c.ensure(context.Background(), rpc.NewClient(s.URL, nil), v); err != nil {
			t.Fatal(step.name, err)
		}
		if step.settles {
			c.settle(at, 0)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != page {
			t.Errorf("%s: the page is %q, %v", step.name, got, err)
		}
		if fetched != step.want {
			t.Errorf("%s: fetched %d times, want %d", step.name, fetched, step.want)
		}
		if got, err := os.ReadFile(note); step.settles && (err != nil || string(got) != settled) {
			t.Errorf("%s: the note is %q, %v", step.name, got, err)
		}
		c.keep([]api.CodeVersion{v})
		if _, err := os.Stat(note); err != nil && step.name != "of-an-older-agent" {
			t.Errorf("%s: %v", step.name, err)
		}
		c.close() // what waits for the disk does not keep an agent from ending
	}
	c := start("five")
	defer c.close()
	c.keep(nil)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left of versions that nobody wants: %v, %v", left, err)
	}
}
