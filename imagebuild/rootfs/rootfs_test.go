package rootfs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nutshell/imagebuild/recipe"
)

func TestParseTargets(t *testing.T) {
	const in = `Debian|http://mirror.example/debian-security/|bookworm-security
Debian|http://mirror.example/debian/|bookworm-updates
Debian|http://mirror.example/debian/|bookworm
Debian|http://mirror.example/debian/|bookworm
Debian Backports|http://mirror.example/debian/|bookworm-backports
Somebody|http://packages.example|stable
`
	want := []mirror{{"http://mirror.example/debian", ""}, {"http://mirror.example/debian", "-updates"}, {"http://mirror.example/debian-security", "-security"}}
	got := parseTargets(in)
	slices.SortStableFunc(got, func(a, b mirror) int { return strings.Compare(a.suffix, b.suffix) })
	slices.SortStableFunc(want, func(a, b mirror) int { return strings.Compare(a.suffix, b.suffix) })
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if list := parseTargets(in); list[0].suffix != "" {
		t.Errorf("got %v first, want the main archive", list[0])
	}
}

func TestAptStatus(t *testing.T) {
	for _, c := range []struct {
		name, line, step string
		fraction         float64
	}{
		{"fetching", "dlstatus:1:50.0000:Retrieving file 1 of 2", "fetching packages", 0.25},
		{"installing", "pmstatus:nginx-light:50.0000:Unpacking nginx-light (amd64)", "installing packages", 0.685},
		{"with-architecture", "pmstatus:libc6:amd64:100.0000:Installed libc6", "installing packages", 0.97},
		{"too-much", "pmstatus:dpkg:120.5:x", "installing packages", 0.97},
		{"conffile", "pmconffile:/etc/x:50.0:'a' 'b' 1 1", "", 0},
		{"garbage", "hello", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var step string
			var fraction float64
			(&aptStatus{report: func(s string, f float64) { step, fraction = s, f }}).line(c.line)
			if step != c.step || fraction < c.fraction-1e-6 || fraction > c.fraction+1e-6 {
				t.Errorf("got %q %.4f, want %q %.4f", step, fraction, c.step, c.fraction)
			}
		})
	}
}

func TestAptText(t *testing.T) {
	var got []float64
	w := &aptText{report: func(_ string, f float64) { got = append(got, f) }}
	for line := range strings.Lines(`Get:1 http://mirror.example trixie InRelease [140 kB]
I: downloading packages with apt...
0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.
Get:1 http://mirror.example trixie/main amd64 dash amd64 0.5.12-12 [98.5 kB]
Get:2 http://mirror.example trixie/main amd64 tar amd64 1.35+dfsg-3.1 [815 kB]
I: extracting archives...
Unpacking dash (0.5.12-12) ...
Setting up dash (0.5.12-12) ...
Unpacking tar (1.35) ...
Setting up tar (1.35) ...
`) {
		w.line(strings.TrimSpace(line))
	}
	if len(got) != 7 || got[0] != 0.25 || got[6] < 0.969 || !slices.IsSorted(got) {
		t.Errorf("got %v, want seven rising fractions from 0.25 to 0.97", got)
	}
}

// A package may hold any link; tidying up must not follow it out.
func TestFinishStaysInside(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	treasure := filepath.Join(outside, "treasure")
	for _, err := range []error{
		os.WriteFile(treasure, []byte("x"), 0o644),
		os.Symlink(outside, filepath.Join(inside, "tmp")),
		os.MkdirAll(filepath.Join(inside, "etc"), 0o755),
		os.Symlink(treasure, filepath.Join(inside, "etc", "hostname")),
		os.MkdirAll(filepath.Join(inside, "var/log/nginx"), 0o755),
		os.WriteFile(filepath.Join(inside, "var/log/nginx/error.log"), []byte("x"), 0o644),
		os.MkdirAll(filepath.Join(inside, "usr/share/doc/a"), 0o755),
		os.WriteFile(filepath.Join(inside, "usr/share/doc/a/README"), []byte("x"), 0o644),
		os.WriteFile(filepath.Join(inside, "usr/share/doc/a/copyright"), []byte("x"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	j := Job{Dir: inside, Sources: []string{"deb http://mirror.example/debian trixie main"}, Recipe: recipe.Recipe{
		Name: "base", Empty: []string{"/tmp", "/var/log"}, Remove: []string{"/tmp/*"},
		Exclude: []string{"/usr/share/doc/*"}, Include: []string{"/usr/share/doc/*/copyright"},
		Files: map[string]recipe.File{"/etc/hostname": {Text: "nutshell\n"}},
	}}
	if err := j.finish(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(treasure); err != nil || string(b) != "x" {
		t.Fatalf("a file outside the image was touched: %q %v", b, err)
	}
	for name, want := range map[string]bool{"var/log/nginx": true, "var/log/nginx/error.log": false, "usr/share/doc/a/README": false,
		"usr/share/doc/a/copyright": true, "etc/dpkg/dpkg.cfg.d/nutshell": true, "etc/apt/sources.list": true} {
		if _, err := os.Lstat(filepath.Join(inside, name)); (err == nil) != want {
			t.Errorf("%s: got exists=%v, want %v", name, err == nil, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(inside, "etc/hostname")); err != nil || string(b) != "nutshell\n" {
		t.Errorf("got hostname %q %v", b, err)
	}
}
