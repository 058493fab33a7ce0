package imagebuild

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// oldStore is a store as an image carries it, whose program has got newer
// recipes since. It can make nothing: there are no tools here.
func oldStore(t *testing.T, arch string) *Store {
	t.Helper()
	t.Setenv("PATH", t.TempDir())
	s, err := New(Config{Dir: filepath.Join(t.TempDir(), "images"), Log: slog.New(slog.DiscardHandler), Suite: "trixie", Arch: arch})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// have puts a layer into a store, made on a day of the year 2001.
func have(t *testing.T, s *Store, l Layer, day int) Layer {
	t.Helper()
	if l.Digest == "" {
		l.Digest = strings.Repeat("0", 60) + strconv.Itoa(1000+len(l.Name)*100+day)
	}
	l.Suite, l.Created = "trixie", time.Date(2001, 1, day, 0, 0, 0, 0, time.UTC)
	if l.Arch == "" {
		l.Arch = s.arch
	}
	meta, err := l.meta()
	if err != nil {
		t.Fatal(err)
	}
	l.Dir = s.rootDir(l.Digest)
	if err := errors.Join(os.MkdirAll(filepath.Join(l.Dir, "etc"), 0o755), os.WriteFile(s.path("layers", l.Digest, layerMeta), meta, 0o644)); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOlderLayersStandIn(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2001, 1, n, 0, 0, 0, 0, time.UTC) }
	wanted := func(s *Store, kind string, packages ...string) []string {
		digests, err := s.Digests(kind, packages)
		if err != nil {
			t.Fatal(err)
		}
		return digests
	}
	for _, c := range []struct {
		name  string
		has   func(t *testing.T, s *Store) []Layer // the stack that is to be used; none: an error
		extra []string
		days  int // when the layer on top was made
		lacks []string
	}{
		{name: "nothing-there", has: func(*testing.T, *Store) []Layer { return nil }},
		{name: "all-is-older", days: 2, lacks: []string{"new"}, has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base"}, 1)
			return []Layer{base, have(t, s, Layer{Name: "web", Below: base.Digest, Packages: []string{"nginx"}}, 2)}
		}},
		{name: "base-is-of-today", days: 2, lacks: []string{"new"}, has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base", Digest: wanted(s, "web")[0]}, 1)
			return []Layer{base, have(t, s, Layer{Name: "web", Below: base.Digest, Packages: []string{"nginx"}}, 2)}
		}},
		{name: "the-newest", days: 4, has: func(t *testing.T, s *Store) []Layer {
			base, later := have(t, s, Layer{Name: "base"}, 1), have(t, s, Layer{Name: "base"}, 3)
			have(t, s, Layer{Name: "web", Below: base.Digest, Packages: []string{"nginx"}}, 2)
			return []Layer{later, have(t, s, Layer{Name: "web", Below: later.Digest, Packages: []string{"nginx", "new", "more"}}, 4)}
		}},
		{name: "of-another-kind-with-the-same-packages", days: 2, has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base"}, 1)
			return []Layer{base, have(t, s, Layer{Name: "site", Below: base.Digest, Packages: []string{"new", "nginx"}}, 2)}
		}},
		{name: "nothing-of-other-names", has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base"}, 1)
			have(t, s, Layer{Name: "machine", Below: base.Digest, Packages: []string{"linux", "new", "nginx"}}, 2)
			return nil
		}},
		{name: "nothing-without-its-base", has: func(t *testing.T, s *Store) []Layer {
			have(t, s, Layer{Name: "web", Below: strings.Repeat("9", 64), Packages: []string{"nginx"}}, 2)
			return nil
		}},
		{name: "nothing-on-another-base", has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "machine"}, 1)
			have(t, s, Layer{Name: "web", Below: base.Digest, Packages: []string{"nginx"}}, 2)
			return nil
		}},
		{name: "nothing-for-other-machines", has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base", Arch: "mips"}, 1)
			have(t, s, Layer{Name: "web", Below: base.Digest, Arch: "mips"}, 2)
			return nil
		}},
		{name: "nothing-that-lies-elsewhere-in-the-stack", has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base"}, 1)
			between := have(t, s, Layer{Name: "container", Below: base.Digest}, 2)
			have(t, s, Layer{Name: "web", Below: between.Digest, Packages: []string{"nginx", "new"}}, 3)
			return nil
		}},
		{name: "what-one-service-asked-for", extra: []string{"ffmpeg"}, days: 3, has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base"}, 1)
			web := have(t, s, Layer{Name: "web", Below: base.Digest, Packages: []string{"nginx"}}, 2)
			have(t, s, Layer{Name: "web-extra", Below: web.Digest, Packages: []string{"imagemagick"}}, 4)
			return []Layer{base, web, have(t, s, Layer{Name: "web-extra", Below: web.Digest, Packages: []string{"ffmpeg"}}, 3)}
		}},
		{name: "nothing-less-than-one-service-asked-for", extra: []string{"ffmpeg"}, has: func(t *testing.T, s *Store) []Layer {
			base := have(t, s, Layer{Name: "base"}, 1)
			web := have(t, s, Layer{Name: "web", Below: base.Digest, Packages: []string{"nginx"}}, 2)
			have(t, s, Layer{Name: "web-extra", Below: web.Digest, Packages: []string{"imagemagick"}}, 4)
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, arch := range []string{"sparc", debianArch()} { // handed out, and run here
				s := oldStore(t, arch)
				var want []string
				for _, l := range c.has(t, s) {
					want = append(want, l.Dir)
				}
				for range 2 { // the second time it is not tried to make them
					dirs, older, err := s.LayersOrOlder(t.Context(), "web", []string{"nginx", "new"}, c.extra, nil)
					if want == nil {
						if err == nil || older != nil || !strings.Contains(err.Error(), "apt-get is not installed") && !strings.Contains(err.Error(), "root") {
							t.Fatalf("%s: got %v, %v, %v", arch, dirs, older, err)
						}
						continue
					}
					if err != nil || older == nil || !slices.Equal(dirs, want) {
						t.Fatalf("%s: got %v, %v, %v, want %v", arch, dirs, older, err, want)
					}
					if !older.Created.Equal(day(c.days)) || older.Arch != arch || !slices.Equal(older.Lacks, c.lacks) {
						t.Errorf("%s: it says %+v", arch, older)
					}
				}
			}
		})
	}
}

// What can be made or is there goes before what is old.
func TestNewLayersGoFirst(t *testing.T) {
	s := oldStore(t, "sparc")
	old := have(t, s, Layer{Name: "base"}, 9)
	ask := func() ([]string, *Older) {
		t.Helper()
		dirs, older, err := s.LayersOrOlder(t.Context(), "helloworld", nil, nil, nil)
		if err != nil || len(dirs) != 1 {
			t.Fatal(dirs, err)
		}
		return dirs, older
	}
	if dirs, older := ask(); older == nil || older.Why == nil || dirs[0] != old.Dir || !strings.Contains(older.String(), "2001-01-09") || !strings.Contains(older.String(), "--arch sparc") {
		t.Errorf("got %v, %v", dirs, older)
	}
	if _, older := ask(); older == nil || older.Why != nil {
		t.Errorf("it was tried again at once: %+v", older)
	}
	wanted, err := s.Digests("helloworld", nil)
	if err != nil {
		t.Fatal(err)
	}
	if digests, older, err := s.Standing("helloworld", nil); err != nil || !older || !slices.Equal(digests, []string{wanted[0], old.Digest}) {
		t.Errorf("standing are %v, %v, %v", digests, older, err)
	}
	fresh := have(t, s, Layer{Name: "base", Digest: wanted[0]}, 3) // made by hand meanwhile, by another process
	if dirs, older := ask(); older != nil || dirs[0] != fresh.Dir {
		t.Errorf("got %v, %v", dirs, older)
	}
	if digests, older, err := s.Standing("helloworld", nil); err != nil || older || !slices.Equal(digests, wanted) {
		t.Errorf("standing are %v, %v, %v", digests, older, err)
	}
	// Those who build want what they asked for.
	s = oldStore(t, "sparc")
	have(t, s, Layer{Name: "base"}, 9)
	if dirs, err := s.Layers(t.Context(), "helloworld", nil, nil); err == nil {
		t.Errorf("a build gave %v", dirs)
	}
	// Who gives up gets nothing.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if dirs, older, err := s.LayersOrOlder(ctx, "helloworld", nil, nil, nil); err == nil {
		t.Errorf("got %v, %v", dirs, older)
	}
}

// An upgrade of a machine without network: what its image carried packed is
// unpacked and used, and what is broken of it is passed over.
func TestOlderPackedLayers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers keep owners, which is for root")
	}
	s := oldStore(t, debianArch())
	first, second := have(t, s, Layer{Name: "base"}, 1), have(t, s, Layer{Name: "base"}, 2)
	if err := os.WriteFile(filepath.Join(first.Dir, "etc/issue"), []byte("carried"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pack(t.Context(), first.Digest, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(first.Dir), os.RemoveAll(second.Dir), os.WriteFile(s.packFile(second.Digest), []byte("no archive"), 0o644)); err != nil {
		t.Fatal(err)
	}
	dirs, older, err := s.LayersOrOlder(t.Context(), "helloworld", nil, nil, nil)
	if err != nil || older == nil || len(dirs) != 1 || dirs[0] != first.Dir {
		t.Fatalf("got %v, %v, %v", dirs, older, err)
	}
	if b, err := os.ReadFile(filepath.Join(dirs[0], "etc/issue")); err != nil || !bytes.Equal(b, []byte("carried")) {
		t.Errorf("it holds %q, %v", b, err)
	}
}
