package context

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var told = Context{Directors: []string{"https://203.0.113.1:5555"}, CASHA256: strings.Repeat("ab", 32), Secret: "it's secret", Identity: "nutshell://i/application/1/manager/m"}

func encoded(t *testing.T) []byte {
	t.Helper()
	b, err := Encode(told)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gzipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(b)
	_ = w.Close()
	return z.Bytes()
}

func TestDecodeWhatCloudsMakeOfIt(t *testing.T) {
	b := encoded(t)
	for name, in := range map[string][]byte{
		"plain":             b,
		"gzip":              gzipped(b),
		"base64":            []byte(base64.StdEncoding.EncodeToString(b)),
		"base64-lines":      []byte(base64.StdEncoding.EncodeToString(b)[:40] + "\n" + base64.StdEncoding.EncodeToString(b)[40:] + "\n"),
		"base64-of-gzip":    []byte(base64.StdEncoding.EncodeToString(gzipped(b))),
		"opennebula-base64": []byte("# Context variables\nDISK_ID='1'\nUSER_DATA='" + base64.StdEncoding.EncodeToString(b) + "'\nUSERDATA_ENCODING='base64'\n"),
		"opennebula-plain":  []byte("DISK_ID='1'\nUSER_DATA='" + strings.ReplaceAll(string(b), "'", `'\''`) + "'\nTARGET='hdb'\n"),
		"opennebula-hex":    []byte("TARGET='hdb'\nUSERDATA=\"" + hex.EncodeToString(b) + "\"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(in)
			if err != nil || got.Secret != told.Secret || got.Identity != told.Identity {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	bomb := gzipped(make([]byte, 64<<20))
	for name, in := range map[string][]byte{"empty": nil, "script": []byte("#!/bin/sh\necho hello\n"), "cloud-config": []byte("#cloud-config\nusers: []\n"), "bomb": bomb, "endless": gzipped(gzipped(gzipped(gzipped(gzipped(b)))))} {
		if _, err := Decode(in); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// metadata is a service as clouds have it.
func metadata(t *testing.T, path string, token bool) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, r *http.Request) {
		if !token || r.Header.Get("X-aws-ec2-metadata-token-ttl-seconds") == "" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte("tok"))
	})
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		if token && r.Header.Get("X-aws-ec2-metadata-token") != "tok" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		b, _ := Encode(told)
		_, _ = w.Write(b)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func TestMetadataService(t *testing.T) {
	for _, c := range []struct {
		name, path string
		token      bool
	}{{"ec2", "/latest/user-data", true}, {"ec2-of-before", "/latest/user-data", false}, {"openstack", "/openstack/latest/user_data", false}} {
		t.Run(c.name, func(t *testing.T) {
			f := Finder{Metadata: metadata(t, c.path, c.token), HTTP: http.DefaultClient}
			got, where, err := f.Find(t.Context())
			if err != nil || got.Secret != told.Secret || where != f.Metadata {
				t.Errorf("got %+v at %s, %v", got, where, err)
			}
		})
	}
}

// directories stand for disks of these labels.
func directories(dir string) func() map[string]string {
	return func() map[string]string {
		list := map[string]string{}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			list[strings.ToLower(e.Name())] = filepath.Join(dir, e.Name())
		}
		return list
	}
}

// TestDrives has the disks as directories; how a real one is mounted is tested
// where that is done.
func TestDrives(t *testing.T) {
	for label, file := range map[string]string{"config-2": "openstack/latest/user_data", "cidata": "user-data", "CONTEXT": "context.sh"} {
		t.Run(label, func(t *testing.T) {
			labels := t.TempDir()
			content := encoded(t)
			if label == "CONTEXT" {
				content = []byte("USER_DATA='" + base64.StdEncoding.EncodeToString(content) + "'\n")
			}
			name := filepath.Join(labels, label, file)
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			mounted := 0
			f := Finder{Disks: directories(labels), Mount: func(device string) (string, func(), error) { mounted++; return device, func() { mounted-- }, nil }}
			got, where, err := f.Find(t.Context())
			if err != nil || got.Secret != told.Secret || where != "disk "+strings.ToLower(label) || mounted != 0 {
				t.Errorf("got %+v at %s, %v; %d still mounted", got, where, err, mounted)
			}
		})
	}
}

// TestComesLater is a context that is not there at first, with somebody else's
// user data beside it.
func TestComesLater(t *testing.T) {
	dir := t.TempDir()
	other, late := filepath.Join(dir, "other"), filepath.Join(dir, "late")
	if err := os.WriteFile(other, []byte("#cloud-config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := encoded(t)
	f := Finder{Files: []string{other, late}}
	f.Said = func(where string, err error) {
		if where == late {
			_ = os.WriteFile(late, b, 0o600)
		}
	}
	if got, where, err := f.Find(t.Context()); err != nil || where != late || got.Identity != told.Identity {
		t.Errorf("got %+v at %s, %v", got, where, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, _, err := (Finder{Files: []string{other}}).Find(ctx); err == nil {
		t.Error("it found something where there is nothing")
	}
}

// TestRealDrives mounts disks made by the programs that clouds make them with.
func TestRealDrives(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(filepath.Join(files, "openstack/latest"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"openstack/latest/user_data", "user-data"} {
		if err := os.WriteFile(filepath.Join(files, name), encoded(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		label, program string
		make           func(image string) [][]string
	}{
		{"config-2", "genisoimage", func(image string) [][]string {
			return [][]string{{"genisoimage", "-quiet", "-o", image, "-V", "config-2", "-R", files}}
		}},
		{"cidata", "mcopy", func(image string) [][]string {
			return [][]string{{"mkfs.vfat", "-n", "cidata", "-C", image, "1024"}, {"mcopy", "-i", image, filepath.Join(files, "user-data"), "::user-data"}}
		}},
	} {
		t.Run(c.label, func(t *testing.T) {
			if _, err := exec.LookPath(c.program); err != nil {
				t.Skip("no " + c.program)
			}
			device := filepath.Join(t.TempDir(), "disk")
			for _, args := range c.make(device) {
				if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Skipf("%v: %v: %s", args, err, out)
				}
			}
			mount := func(device string) (string, func(), error) {
				at := t.TempDir()
				if out, err := exec.Command("mount", "-o", "loop,ro", device, at).CombinedOutput(); err != nil {
					t.Skipf("mount: %v: %s", err, out)
				}
				return at, func() { _ = exec.Command("umount", at).Run() }, nil
			}
			got, _, err := Finder{Disks: func() map[string]string { return map[string]string{Label(device): device} }, Mount: mount}.Find(t.Context())
			if err != nil || got.Secret != told.Secret {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
