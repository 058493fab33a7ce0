package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"nutshell/imagebuild"
	"nutshell/imagebuild/rootfs"
	"nutshell/services/php"
)

// TestMain lets the test binary be the process in the bare container.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == serveArg {
		os.Exit(serveHTTPS())
	}
	os.Exit(m.Run())
}

// TestPeers runs what Nutshell is compared with: a bare container, and nginx
// with php-fpm by hand, under load for a moment.
func TestPeers(t *testing.T) {
	err := rootfs.Tools()
	for _, program := range []string{"lxc-start", "ip", "wrk"} {
		if err == nil {
			_, err = exec.LookPath(program)
		}
	}
	store := os.Getenv("NUTSHELL_TEST_IMAGES")
	if os.Getenv("CI") == "true" && (err != nil || store == "") {
		t.Fatalf("the bench must be able to run in CI: %v; NUTSHELL_TEST_IMAGES=%q", err, store)
	}
	if err != nil || store == "" {
		t.Skipf("needs root, lxc, wrk and NUTSHELL_TEST_IMAGES (%v)", err)
	}
	b := &bench{dir: t.TempDir(), director: &director{dir: t.TempDir()}}
	if err := os.Symlink(store, b.director.dir+"/images"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s, err := imagebuild.Open(store, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Layers(ctx, "php", php.Kind().Packages, nil); err != nil {
		t.Fatal(err)
	}
	took, err := b.bareContainer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("bare container, clone to HTTPS: %v", took.Round(time.Millisecond))

	const pool = "[global]\nerror_log = /x/e\ndaemonize = no\n[www]\nuser = x\ngroup = x\nlisten.owner = x\nlisten = /x/y.sock\npm = dynamic\n" +
		"pm.max_children = 8\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 3\n"
	address, stop, err := b.handMade(ctx, pool, func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "index.php"), []byte(page), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	rate, err := load(ctx, address+"index.php", time.Second)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("by hand: %.0f pages/s", rate)
	if left, _ := os.ReadDir(b.dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if out, _ := exec.CommandContext(ctx, "ip", "link", "show", peerBridge).Output(); len(out) != 0 {
		t.Errorf("the bridge is still there: %s", out)
	}
}
