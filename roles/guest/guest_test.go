package guest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cloudcontext "nutshell/cloud/context"
)

const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPbs5eHq3HkAqPbUVQ5oXRAAYIfmQ2nqv5Dg8bHk0Tt9 me"

// machine is a root directory as images have it, with a disk of a cloud.
func machine(t *testing.T, label string, files map[string]string) (c Config, said *bytes.Buffer) {
	t.Helper()
	said = &bytes.Buffer{}
	root, disk := t.TempDir(), t.TempDir()
	put := func(dir, name, text string) {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	put(root, "etc/hostname", "nutshell\n")
	put(root, "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 nutshell\n")
	for name, text := range files {
		put(disk, name, text)
	}
	c = Config{Root: root, Log: slog.New(slog.NewTextHandler(said, nil)), Grow: func() (int64, error) { said.WriteString("grow;"); return 0, nil },
		Host: func(name string) error { said.WriteString("name " + name + ";"); return nil }, Ready: func() { said.WriteString("ready;") }}
	if label != "" {
		c.Finder = cloudcontext.Finder{Disks: func() map[string]string { return map[string]string{label: disk} }, Mount: func(dir string) (string, func(), error) { return dir, func() {}, nil }}
	}
	return c, said
}

func read(t *testing.T, c Config, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Root, name))
	if err != nil {
		return "none"
	}
	return string(b)
}

func TestDisk(t *testing.T) {
	c, said := machine(t, "context", map[string]string{"context.sh": "SET_HOSTNAME='one.example.org'\nSSH_PUBLIC_KEY='" + key + "'\nETH0_MAC='02:00:00:00:00:07'\nETH0_IP='192.0.2.7'\nETH0_GATEWAY='192.0.2.1'\nETH0_DNS='192.0.2.53'\n"})
	reloads := 0
	c.Reload = func(context.Context) error { reloads++; return nil }
	for range 2 { // the second start changes nothing
		if err := Prepare(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"etc/hostname": "one\n", "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 one nutshell\n", "etc/nutshell/authorized_keys/admin": key + "\n",
			"run/systemd/network/05-cloud-0.network": "# By the cloud.\n[Match]\nMACAddress=02:00:00:00:00:07\n\n[Network]\nLLMNR=no\nAddress=192.0.2.7/24\nGateway=192.0.2.1\nDNS=192.0.2.53\n",
		} {
			if got := read(t, c, name); got != want {
				t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
			}
		}
	}
	if s := said.String(); reloads != 2 || strings.Count(s, "name one;") != 1 || strings.Index(s, "name one;") > strings.Index(s, "ready;") || strings.Index(s, "ready;") > strings.Index(s, "grow;") {
		t.Errorf("it did\n%s", s)
	}
}

func TestOwnNameStays(t *testing.T) {
	c, said := machine(t, "cidata", map[string]string{"meta-data": "local-hostname: cloud-name\n"})
	if err := os.WriteFile(filepath.Join(c.Root, "etc/hostname"), []byte("mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.Root, "etc/nutshell/authorized_keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Root, "etc/nutshell/authorized_keys/admin"), []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(said.String(), "name cloud-name;") || read(t, c, "etc/hostname") != "mine\n" || read(t, c, "etc/nutshell/authorized_keys/admin") != "none" {
		t.Errorf("it did\n%s", said)
	}
}

func TestService(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		switch r.URL.Path {
		case "/openstack/latest/meta_data.json":
			_, _ = w.Write([]byte(`{"hostname": "vm", "public_keys": {"a": "` + key + `"}}`))
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	c, said := machine(t, "", nil)
	c.Finder = cloudcontext.Finder{Metadata: s.URL, HTTP: http.DefaultClient}
	if err := Prepare(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if read(t, c, "etc/nutshell/authorized_keys/admin") != key+"\n" || read(t, c, "etc/hostname") != "vm\n" {
		t.Errorf("it did\n%s", said)
	}
	// Nobody there: it gives up when its time is over, and that is no error.
	c, said = machine(t, "", nil)
	c.Finder = cloudcontext.Finder{Metadata: "http://127.0.0.1:1", HTTP: http.DefaultClient}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Prepare(ctx, c); err != nil || !strings.Contains(said.String(), "no cloud says anything") {
		t.Errorf("got %v\n%s", err, said)
	}
}

func TestInCloud(t *testing.T) {
	for vendor, want := range map[string]bool{"innotek GmbH\n": false, "QEMU\n": false, "Amazon EC2\n": true, "OpenStack Foundation\n": true} {
		root := t.TempDir()
		dir := filepath.Join(root, "sys/class/dmi/id")
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "sys_vendor"), []byte(vendor), 0o600)); err != nil {
			t.Fatal(err)
		}
		if got := InCloud(root); got != want {
			t.Errorf("%q: got %v", vendor, got)
		}
	}
}
