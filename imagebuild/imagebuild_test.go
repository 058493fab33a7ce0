package imagebuild

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nutshell/imagebuild/recipe"
	"nutshell/imagebuild/rootfs"
	"nutshell/roles/api"
)

// testStore opens a store of the test's own that can build. To save time it
// begins with the base layer of the directory that NUTSHELL_TEST_IMAGES names,
// which is kept from run to run and shared with other packages' tests.
func testStore(t *testing.T) *Store {
	t.Helper()
	if err := rootfs.Tools(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("images must be built in CI: %v", err)
		}
		t.Skipf("images cannot be built here: %v", err)
	}
	log, dir := slog.New(slog.NewTextHandler(t.Output(), nil)), t.TempDir()
	if shared := os.Getenv("NUTSHELL_TEST_IMAGES"); shared != "" {
		s, err := Open(shared, log)
		if err != nil {
			t.Fatal(err)
		}
		base, err := s.Layers(t.Context(), "base", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Nobody must build meanwhile: apt moves files in its caches.
		unlock, err := lock(t.Context(), s.path("lock"), func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		layer := filepath.Dir(base[0])
		copyTree(t, layer, filepath.Join(dir, "layers", filepath.Base(layer)))
		for _, d := range []string{"suite", "debs", "lists"} {
			copyTree(t, filepath.Join(shared, d), filepath.Join(dir, d))
		}
	}
	s, err := Open(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copyTree makes hard links where it can.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if exec.CommandContext(t.Context(), "cp", "-al", from, to).Run() == nil {
		return
	}
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v: %s", from, err, out)
	}
}

// steps records progress and fails the test when it goes backwards.
type steps struct {
	mu   sync.Mutex
	t    *testing.T
	last float64
	seen []string
}

func (s *steps) report(step string, fraction float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fraction < s.last-1e-9 || fraction > 1 {
		s.t.Errorf("progress went from %.3f to %.3f at %q", s.last, fraction, step)
	}
	s.last = fraction
	if len(s.seen) == 0 || s.seen[len(s.seen)-1] != step {
		s.seen = append(s.seen, step)
	}
}

func TestLayersAreBuiltOnce(t *testing.T) {
	s := testStore(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()

	// Two callers at once, and a third process with the store open.
	other, err := Open(s.dir, s.log)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	results := make([][]string, 3)
	for i, store := range []*Store{s, s, other} {
		wg.Go(func() {
			progress := &steps{t: t}
			dirs, err := store.Layers(ctx, "web", []string{"nginx-light"}, progress.report)
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
			if progress.last != 1 {
				t.Errorf("caller %d: progress ended at %.3f (%v), want 1", i, progress.last, progress.seen)
			}
			results[i] = dirs
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("base and nginx-light for three callers: %v", time.Since(began).Round(time.Millisecond))
	if !slices.Equal(results[0], results[1]) || !slices.Equal(results[0], results[2]) || len(results[0]) != 2 {
		t.Fatalf("got %v, want the same two directories three times", results)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		t.Logf("%s %s: %.1f MB, %d packages", l.Name, l.Suite, float64(l.Bytes)/1e6, len(l.Installed))
	}
	checkImage(t, results[0])
	digests, err := s.Digests("web", []string{"nginx-light"})
	if err != nil || len(digests) != 2 || s.rootDir(digests[1]) != results[0][1] {
		t.Errorf("got digests %v %v, want those of %v", digests, err, results[0])
	}

	began = time.Now()
	if _, err := s.Layers(ctx, "web", []string{"nginx-light"}, nil); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Minute { // building them takes minutes
		t.Errorf("layers that exist took %v, want at once", took)
	}
	// What one service asks for beside comes in a further layer.
	more, err := s.LayersWith(ctx, "web", []string{"nginx-light"}, []string{"tree"}, nil)
	if err != nil || len(more) != 3 || !slices.Equal(more[:2], results[0]) {
		t.Fatalf("got %v, %v; want one on top of %v", more, err, results[0])
	}
	if _, err := os.Stat(filepath.Join(more[2], "usr/bin/tree")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(more[2], "usr/sbin/nginx")); err == nil {
		t.Error("the further layer holds again what is below it")
	}
	// A recipe of files alone brings no package, and needs no lists of them.
	chain, err := chainOf("web", []string{"nginx-light"})
	if err != nil {
		t.Fatal(err)
	}
	lists := filepath.Join(s.dir, "lists")
	if err := os.Rename(lists, lists+".away"); err != nil {
		t.Fatal(err)
	}
	filed, err := s.Chain(ctx, recipe.Upon(chain, recipe.Recipe{Name: "filed", Files: map[string]recipe.File{"/srv/site/index.html": {Text: "here"}}}), nil)
	if err = errors.Join(err, os.RemoveAll(lists), os.Rename(lists+".away", lists)); err != nil || len(filed) != 3 || len(filed[2].Installed) != 0 {
		t.Fatalf("got %+v, %v", filed, err)
	}
	if b, err := os.ReadFile(filepath.Join(filed[2].Dir, "srv/site/index.html")); err != nil || string(b) != "here" {
		t.Errorf("got %q, %v", b, err)
	}
	if left, _ := os.ReadDir(s.path("build")); len(left) != 0 {
		t.Errorf("left behind in build: %v", left)
	}
}

// checkImage looks at the layers as an instance would.
func checkImage(t *testing.T, dirs []string) {
	t.Helper()
	base, kind := dirs[0], dirs[1]
	for _, dir := range dirs {
		for d := dir; d != filepath.Dir(filepath.Dir(filepath.Dir(dir))); d = filepath.Dir(d) {
			info, err := os.Stat(d)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o755 {
				t.Errorf("%s has mode %v, want 0755: users of a container must get through", d, info.Mode().Perm())
			}
		}
	}
	for path, want := range map[string]bool{
		base + "/usr/bin/nutshell": true, base + "/etc/nutshell": true, base + "/usr/sbin/policy-rc.d": true,
		base + "/etc/ssl/certs/ca-certificates.crt": true, base + "/usr/share/doc/bash/copyright": true, base + "/usr/share/man/man1/bash.1.gz": false,
		base + "/usr/sbin/nginx": false, kind + "/usr/sbin/nginx": true, kind + "/var/log/nginx": true,
		kind + "/bin/bash": false, kind + "/usr/bin/bash": false, // a difference, not a copy
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: got exists=%v, want %v", path, err == nil, want)
		}
	}
	for _, pattern := range []string{"/var/cache/apt/archives/*.deb", "/var/lib/apt/lists/*Packages*", "/etc/ssh/ssh_host_*", "/var/log/*.log", "/dev/*"} {
		for _, dir := range dirs {
			if found, _ := filepath.Glob(dir + pattern); len(found) > 0 {
				t.Errorf("image holds %v", found)
			}
		}
	}
	// The real question: do the layers together make a system that runs?
	work := t.TempDir()
	script := `mount -t overlay overlay -o "lowerdir=$1:$2,upperdir=$3/u,workdir=$3/w" "$3/r" && chroot "$3/r" sh -ec '
		dpkg --audit; nginx -v; test -s /etc/apt/sources.list; test ! -s /etc/machine-id; test "$(apt-config shell R APT::Install-Recommends)" = "R='"'false'"'"'`
	for _, d := range []string{"u", "w", "r"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", script, "check", kind, base, work).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "nginx version") || strings.Contains(string(out), "not fully installed") {
		t.Errorf("the image does not work: %v\n%s", err, out)
	}
}

func TestUnknownPackageIsNamed(t *testing.T) {
	s := testStore(t)
	_, err := s.Layers(t.Context(), "typo", []string{"nginx-lihgt"}, nil)
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "Unable to locate package nginx-lihgt") {
		t.Errorf("got error %v, want apt's own words and code invalid", err)
	}
	if left, _ := os.ReadDir(s.path("build")); len(left) != 0 {
		t.Errorf("left behind in build: %v", left)
	}
}

func TestGivingUpEndsTheBuild(t *testing.T) {
	s := testStore(t)
	if _, err := s.Layers(t.Context(), "base", nil, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Give up in the middle of the work, not before it.
	_, err := s.Layers(ctx, "tiny", []string{"tree"}, func(step string, fraction float64) {
		if fraction > 0.5 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want canceled", err)
	}
	if left, _ := os.ReadDir(s.path("build")); len(left) != 0 {
		t.Errorf("left behind in build: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), s.dir) {
		t.Errorf("mounts left behind below %s", s.dir)
	}
}

// TestKilledBuildLeavesNothing kills a process in the middle of a build: the
// programs it had started die with it, and the next Open clears the rest.
func TestKilledBuildLeavesNothing(t *testing.T) {
	if dir := os.Getenv("NUTSHELL_TEST_BUILD_IN"); dir != "" { // we are the process to be killed
		s, err := Open(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Layers(t.Context(), "killed", []string{"tree"}, func(step string, fraction float64) {
			if fraction > 0.55 {
				os.WriteFile(filepath.Join(dir, "reached"), nil, 0o644)
				time.Sleep(time.Minute) // hold the build here until we are killed
			}
		})
		t.Fatalf("not killed in time: %v", err)
	}
	s := testStore(t)
	if _, err := s.Layers(t.Context(), "base", nil, nil); err != nil {
		t.Fatal(err)
	}
	reached := s.path("reached")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledBuildLeavesNothing$")
	cmd.Env = append(os.Environ(), "NUTSHELL_TEST_BUILD_IN="+s.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the build is under way", func() bool { _, err := os.Stat(reached); return err == nil })
	if err := errors.Join(cmd.Process.Kill(), os.Remove(reached)); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed, which is what we want
	until(t, "its programs are gone", func() bool {
		found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range found {
			if b, _ := os.ReadFile(f); strings.Contains(string(b), s.path("build")) {
				return false
			}
		}
		return true
	})
	if left, _ := os.ReadDir(s.path("build")); len(left) != 1 {
		t.Errorf("got %d unfinished builds, want the one that was killed", len(left))
	}
	if _, err := Open(s.dir, s.log); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(s.path("build")); len(left) != 0 {
		t.Errorf("left behind in build: %v", left)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestOpenClearsUnfinishedBuilds(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := Open(dir, log)
	if err != nil {
		t.Fatal(err)
	}
	left := s.path("build", "php-123")
	if err := os.MkdirAll(filepath.Join(left, "layer", "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	unlock, ok, err := tryLock(s.path("lock"))
	if err != nil || !ok {
		t.Fatalf("lock: %v %v", ok, err)
	}
	if _, err := Open(dir, log); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err != nil {
		t.Errorf("a build under way was removed: %v", err)
	}
	unlock()
	if _, err := Open(dir, log); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want the unfinished build gone", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct{ name, dir, suite, want string }{
		{"relative", "images", "", "not an absolute directory"},
		{"colon", "/tmp/a:b", "", "cannot take"},
		{"comma", "/tmp/a,b", "", "cannot take"},
		{"bad-suite", "/tmp/a", "../trixie", "not the code name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(Config{Dir: c.dir, Suite: c.suite, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestRemoveKeepsWhatIsBelow(t *testing.T) {
	s, err := Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	add := func(digest, below, pkg string, age time.Duration) {
		t.Helper()
		dir := s.path("build", digest, "rootfs")
		status := filepath.Join(dir, "var/lib/dpkg/status")
		if err := os.MkdirAll(filepath.Dir(status), 0o755); err != nil {
			t.Fatal(err)
		}
		text := "Package: " + pkg + "\nStatus: install ok installed\nVersion: 1:2\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
		if err := os.WriteFile(status, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		l := Layer{Digest: strings.Repeat(digest, 12), Name: digest, Suite: "trixie", Arch: "amd64", Created: time.Now().Add(-age)}
		if below != "" {
			l.Below = strings.Repeat(below, 12)
		}
		if err := s.keep(&l, dir); err != nil {
			t.Fatal(err)
		}
		if len(l.Installed) != 1 || l.Installed[pkg] != "1:2" {
			t.Errorf("got packages %v, want %s alone", l.Installed, pkg)
		}
		if err := os.MkdirAll(s.path("debs", "trixie"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("debs", "trixie", pkg+"_1%3a2_amd64.deb"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	add("b", "", "bash", 3*time.Hour)
	add("p", "b", "php", 2*time.Hour)
	add("o", "", "old", time.Hour)
	gone, err := s.Remove(func(l Layer) bool { return l.Name != "p" })
	if err != nil {
		t.Fatal(err)
	}
	if len(gone) != 1 || gone[0].Name != "o" {
		t.Errorf("removed %v, want o: b carries p", gone)
	}
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || list[0].Name != "b" || list[1].Name != "p" {
		t.Errorf("got %v, want b and p", list)
	}
	debs, _ := filepath.Glob(s.path("debs", "trixie", "*"))
	if len(debs) != 2 {
		t.Errorf("cached packages: got %v, want bash and php", debs)
	}
}

func TestSpace(t *testing.T) {
	r := recipe.Recipe{Name: "php", SpaceMB: 1000}
	if err := spaceFor(r, "/x", 1000<<20); err != nil {
		t.Errorf("just enough: %v", err)
	}
	err := spaceFor(r, "/x", 999<<20)
	if api.CodeOf(err) != api.CodeNoSpace || !strings.Contains(err.Error(), "needs 1000 MB of free disk, /x has 999 MB") {
		t.Errorf("got %v, want no_space with both numbers", err)
	}
}
