package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ill is a machine with what can be mended, and the commands that it was given.
func ill(t *testing.T) (p *Patient, ran *[]string) {
	t.Helper()
	p, ran = healthy(t), &[]string{}
	p.Euid = 0
	put(t, p, map[string]string{"/data/nutshell.db": "x", "/n.yaml": "", "/var/lib/dpkg/status": "", "/sys/module/nf_tables/x": ""})
	for _, name := range []string{"/data/nutshell.db", "/n.yaml"} {
		if err := os.Chmod(p.path(name), 0o664); err != nil { // that is the point
			t.Fatal(err)
		}
	}
	p.SecretFiles = []string{p.path("/n.yaml")}
	p.Program = func(n string) bool { return n != "mkfs.ext4" && n != "mmdebstrap" }
	p.Layers = func() ([]string, string, error) { return []string{"java"}, "", nil }
	p.Firewall = func() error { return errors.New("no") }
	p.Run = func(_ context.Context, argv ...string) error {
		*ran = append(*ran, strings.Join(argv, " "))
		return nil
	}
	return p, ran
}

func TestMending(t *testing.T) {
	p, ran := ill(t)
	found := Examine(t.Context(), p, Director)
	const modprobe, mkfs, bootstrap = "modprobe -a nf_tables", "apt-get install -y --no-install-recommends e2fsprogs", "apt-get install -y --no-install-recommends mmdebstrap"
	want := []string{"chmod go= " + p.path("/n.yaml"), "chmod go= " + p.path("/data/nutshell.db"), modprobe, mkfs, bootstrap}
	if d := cmp.Diff(want, Remedies(found)); d != "" {
		t.Errorf("remedies (-want +got):\n%s", d)
	}
	if len(*ran) > 0 {
		t.Errorf("looking ran %q", *ran)
	}
	for _, m := range Mend(t.Context(), slices.Concat(found, found)) {
		if m.Error != "" || m.Fix != want[0] {
			t.Errorf("got %+v, want %s", m, want[0])
		}
		want = want[1:]
	}
	if d := cmp.Diff([]string{modprobe, mkfs, bootstrap}, *ran); d != "" || len(want) > 0 {
		t.Errorf("not done: %q; ran (-want +got):\n%s", want, d)
	}
	for _, name := range []string{"/data/nutshell.db", "/n.yaml"} {
		if st, err := os.Stat(p.path(name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

func TestDataDirectoryIsOpenedForPassing(t *testing.T) {
	p := healthy(t)
	p.Euid = 0
	if err := os.Chmod(p.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := Mend(t.Context(), Examine(t.Context(), p, Director)); len(got) != 1 || got[0].Error != "" {
		t.Errorf("got %+v", got)
	}
	if st, err := os.Stat(p.DataDir); err != nil || st.Mode().Perm() != 0o701 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// What a mirror or a link does to a remedy is told, and ends no other.
func TestMendingFails(t *testing.T) {
	p, ran := ill(t)
	p.Run = func(_ context.Context, argv ...string) error {
		*ran = append(*ran, argv[1])
		return errors.New("no mirror")
	}
	found := Examine(t.Context(), p, Director)
	target := p.path("/elsewhere")
	put(t, p, map[string]string{"/elsewhere": ""})
	if err := errors.Join(os.Chmod(target, 0o644), os.Remove(p.path("/n.yaml")), os.Symlink(target, p.path("/n.yaml"))); err != nil {
		t.Fatal(err)
	}
	for _, m := range Mend(t.Context(), found) {
		switch {
		case strings.HasSuffix(m.Fix, "/n.yaml"):
			if !strings.Contains(m.Error, "neither") {
				t.Errorf("got %+v", m)
			}
		case strings.HasPrefix(m.Fix, "chmod"):
			if m.Error != "" {
				t.Errorf("got %+v", m)
			}
		case m.Error != "no mirror":
			t.Errorf("got %+v", m)
		}
	}
	if d := cmp.Diff([]string{"-a", "install", "update", "install", "update"}, *ran); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
	if st, err := os.Stat(target); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("what the link leads to was changed: %v, %v", st.Mode(), err)
	}
}

func TestPackagesNeedRoot(t *testing.T) {
	p, ran := ill(t)
	p.Euid = os.Geteuid() + 1
	p.DataDir = ""
	for _, m := range Mend(t.Context(), Examine(t.Context(), p, Director)) {
		if strings.HasPrefix(m.Fix, "apt-get") && !strings.Contains(m.Error, "sudo") {
			t.Errorf("got %+v", m)
		}
	}
	if len(*ran) > 0 {
		t.Errorf("ran %q", *ran)
	}
}

func TestRunCommandTellsWhatItSaid(t *testing.T) {
	if err := RunCommand(t.Context(), "sh", "-c", "echo one; echo two >&2; echo three; echo four; exit 3"); err == nil || !strings.HasSuffix(err.Error(), "exit status 3: two; three; four") {
		t.Errorf("got %v", err)
	}
	if err := RunCommand(t.Context(), "true"); err != nil {
		t.Error(err)
	}
}
