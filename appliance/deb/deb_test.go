package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestVersion(t *testing.T) {
	for module, want := range map[string]string{
		"v1.2.3":                             "1.2.3",
		"v1.3.0-rc.1":                        "1.3.0~rc.1",
		"v0.0.0-20261122194035-3c7949c6ccd6": "0.0.0~20261122194035+3c7949c6ccd6",
		"v0.0.0-20261122194035-3c7949c6ccd6+dirty": "0.0.0~20261122194035+3c7949c6ccd6+dirty",
		"(devel)":            "0.0.0~devel",
		"devel-3c7949c6ccd6": "0.0.0~devel+3c7949c6ccd6",
		"unknown":            "0.0.0~unknown",
	} {
		if got := Version(module); got != want {
			t.Errorf("%s: got %s, want %s", module, got, want)
		}
	}
}

func make1(t *testing.T) []byte {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "nutshell")
	if err := os.WriteFile(binary, []byte(strings.Repeat("program", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	o := Options{Binary: binary, Version: "v1.2.3", Arch: "arm64", At: time.Unix(1700000000, 0), Links: []string{"cps-php"}}
	if err := Write(t.Context(), &b, o); err != nil {
		t.Fatal(err)
	}
	if got := Name(o); got != "nutshell_1.2.3_arm64.deb" {
		t.Errorf("name %s", got)
	}
	return b.Bytes()
}

// members reads an ar archive of compressed tars back: name in the tar → mode and content.
func members(t *testing.T, deb []byte) map[string]string {
	t.Helper()
	got := map[string]string{}
	rest, found := bytes.CutPrefix(deb, []byte("!<arch>\n"))
	if !found {
		t.Fatal("no ar archive")
	}
	for len(rest) > 0 {
		name := strings.TrimSpace(string(rest[:16]))
		size := 0
		for _, c := range strings.TrimSpace(string(rest[48:58])) {
			size = size*10 + int(c-'0')
		}
		if string(rest[58:60]) != "`\n" {
			t.Fatalf("%s: no end of its head", name)
		}
		body := rest[60 : 60+size]
		rest = rest[60+size+size%2:]
		part, ok := strings.CutSuffix(name, ".tar.gz")
		if !ok {
			got[name] = string(body)
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		in := tar.NewReader(z)
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			if h.Uid != 0 || h.Gid != 0 || h.ModTime.Unix() > 1700000000 {
				t.Errorf("%s: owner %d:%d, time %s", h.Name, h.Uid, h.Gid, h.ModTime)
			}
			got[part+" "+h.Name] = h.FileInfo().Mode().String() + " " + h.Linkname + string(text)
		}
	}
	return got
}

func TestPackage(t *testing.T) {
	deb := make1(t)
	got := members(t, deb)
	for name, want := range map[string]string{
		"debian-binary":                                       "2.0\n",
		"control ./postinst":                                  "-rwxr-xr-x ",
		"control ./postrm":                                    "-rwxr-xr-x ",
		"control ./prerm":                                     "-rwxr-xr-x ",
		"data ./usr/bin/nutshell":                             "-rwxr-xr-x programprogram",
		"data ./usr/bin/cps-php":                              "Lrwxrwxrwx nutshell",
		"data ./etc/nutshell/nutshell.yaml":                   "-rw-r--r-- ",
		"data ./usr/lib/systemd/system/nutshell.service":      "-rw-r--r-- [Unit]",
		"data ./usr/lib/systemd/system/nutshell-node.service": "-rw-r--r-- [Unit]",
	} {
		if !strings.HasPrefix(got[name], want) {
			t.Errorf("%s: got %.80q, want %q", name, got[name], want)
		}
	}
	for _, line := range []string{"Package: nutshell\n", "Version: 1.2.3\n", "Architecture: arm64\n", "\nDepends: ", "liblxc-common"} {
		if !strings.Contains(got["control ./control"], line) {
			t.Errorf("no %q in %s", line, got["control ./control"])
		}
	}
	if c := got["control ./conffiles"]; !strings.Contains(c, "\n/etc/nutshell/nutshell.yaml\n") || strings.Contains(c, "usr") {
		t.Errorf("conffiles: %s", c)
	}
	if c := got["control ./md5sums"]; !strings.Contains(c, "  usr/bin/nutshell\n") || strings.Contains(c, "  etc/") {
		t.Errorf("md5sums: %s", c)
	}
	if d := cmp.Diff(deb, make1(t)); d != "" {
		t.Error("made twice, two different packages")
	}
}

func TestScriptsAreShell(t *testing.T) {
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		text, err := control.ReadFile("control/" + name)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-n")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", name, err, out)
		}
	}
}

// TestPurgeKeepsWhatPeopleHave runs the script that dpkg runs last, where
// nobody can be asked.
func TestPurgeKeepsWhatPeopleHave(t *testing.T) {
	script, err := control.ReadFile("control/postrm")
	if err != nil {
		t.Fatal(err)
	}
	for file, kept := range map[string]bool{"nutshell.db": true, "clouds/node/volumes/shop": true, "node/node.key": true, "images/layers/x": false} {
		root := t.TempDir()
		data := filepath.Join(root, "var/lib/nutshell")
		if err := os.MkdirAll(filepath.Dir(filepath.Join(data, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		here := strings.NewReplacer("/var/lib/nutshell", data, "/etc/nutshell", filepath.Join(root, "etc"), "/run/", root+"/run/", "/usr/share/debconf/confmodule", filepath.Join(root, "none"), "deb-systemd-helper", "true").Replace(string(script))
		cmd := exec.CommandContext(t.Context(), "sh", "-s", "purge")
		cmd.Stdin = strings.NewReader(here)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if _, err := os.Stat(filepath.Join(data, file)); (err == nil) != kept {
			t.Errorf("%s: kept %v, want %v", file, err == nil, kept)
		}
	}
}

func TestWhatIsMissingIsRefused(t *testing.T) {
	for _, o := range []Options{{}, {Binary: "/no/such", Version: "v1", Arch: "amd64"}, {Binary: "/no/such", Version: "v1", Arch: "amd64", At: time.Unix(1, 0)}} {
		if err := Write(t.Context(), io.Discard, o); err == nil {
			t.Errorf("%+v was packed", o)
		}
	}
}
