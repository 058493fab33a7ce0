package machine

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nutshell/appliance"
	"nutshell/roles/api"
)

// bed is an appliance in a directory, whose programs are written down.
type bed struct {
	*Machine
	ran  []string
	fail string // the program that fails
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{}
	b.Machine = &Machine{Root: t.TempDir(), Health: func(context.Context) error { return nil }, Run: func(_ context.Context, name string, args ...string) error {
		line := strings.Join(append([]string{name}, args...), " ")
		b.ran = append(b.ran, line)
		if b.fail != "" && strings.Contains(line, b.fail) {
			return errors.New(line + " failed")
		}
		return nil
	}}
	n, _ := appliance.Plan(appliance.Director)
	text, err := json.Marshal(appliance.Facts{Profile: appliance.Director, Network: &n})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.write(appliance.FactsPath, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range n.Files(appliance.Director) {
		if err := b.write(f.Path, f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *bed) file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func other() appliance.Network {
	n, _ := appliance.Plan(appliance.Director)
	n.Address, n.First, n.Last = netip.MustParsePrefix("192.168.60.2/24"), netip.MustParseAddr("192.168.60.10"), netip.MustParseAddr("192.168.60.20")
	return n
}

func TestNetworkIsChangedAndConfirmed(t *testing.T) {
	b := newBed(t)
	if err := b.SetNetwork(t.Context(), other(), nil); err != nil {
		t.Fatal(err)
	}
	if i, j := slices.Index(b.ran, "systemctl start "+revertTimer), slices.Index(b.ran, "networkctl reload"); i < 0 || j < i {
		t.Errorf("the way back must be prepared before the change: %q", b.ran)
	}
	if text := b.file(t, "/etc/nutshell/nutshell.d/10-network.yaml"); !strings.Contains(text, "192.168.60.10-192.168.60.20") {
		t.Errorf("the director has\n%s", text)
	}
	if _, pending, _ := b.Pending(); !pending {
		t.Fatal("nothing waits to be confirmed")
	}
	if err := b.SetNetwork(t.Context(), other(), nil); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a second change while one waits: %v", err)
	}
	if err := b.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Revert(t.Context(), true); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("it goes back although it was confirmed: %v", err)
	}
	if !strings.Contains(b.file(t, appliance.FactsPath), "192.168.60.2/24") {
		t.Error("the machine forgot its new address")
	}
}

func TestNetworkGoesBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		running bool
	}{{"by-the-timer", true}, {"at-the-next-boot", false}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			before := b.file(t, "/etc/systemd/network/20-nutshell.network")
			if err := b.SetNetwork(t.Context(), other(), nil); err != nil {
				t.Fatal(err)
			}
			b.ran = nil
			if err := b.Revert(t.Context(), c.running); err != nil {
				t.Fatal(err)
			}
			if got := b.file(t, "/etc/systemd/network/20-nutshell.network"); got != before {
				t.Errorf("got\n%s\nwant\n%s", got, before)
			}
			if c.running != (len(b.ran) > 0) {
				t.Errorf("ran %q", b.ran)
			}
			if _, pending, _ := b.Pending(); pending {
				t.Error("it still waits")
			}
		})
	}
}

func TestNetworkThatCannotBeApplied(t *testing.T) {
	b := newBed(t)
	b.fail = "networkctl reload"
	err := b.SetNetwork(t.Context(), other(), nil)
	if err == nil || !strings.Contains(b.file(t, appliance.FactsPath), "192.168.56.2/24") {
		t.Errorf("got %v and\n%s", err, b.file(t, appliance.FactsPath))
	}
	if err := b.SetNetwork(t.Context(), other(), []appliance.Used{{Prefix: netip.MustParsePrefix("192.168.60.9/24"), By: "eth0"}}); api.CodeOf(err) != api.CodeInvalid && api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a network that is taken: %v", err)
	}
}

func TestNoAppliance(t *testing.T) {
	m := &Machine{Root: t.TempDir()}
	if err := m.SetNetwork(t.Context(), other(), nil); api.CodeOf(err) != api.CodeNotFound || api.AsError(err).Hint == "" {
		t.Errorf("got %v", err)
	}
}

// built compiles a program that is called nutshell, and does nothing but that.
func built(t *testing.T, module, says string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module " + module + "\n\ngo 1.24\n", "main.go": "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"" + says + "\\n\") }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "build", "-o", "program", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "program")
}

func TestUpgradeAndBack(t *testing.T) {
	newer := built(t, "nutshell", "nutshell 2")
	b := newBed(t)
	for name, text := range map[string]string{binaryPath: "old binary", databasePath: "old data", databasePath + "-wal": "old log"} {
		if err := b.write(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(newer)
	if err != nil {
		t.Fatal(err)
	}
	// The new one migrates the database and does not come up.
	b.fail = "systemctl start " + service
	original := b.Run
	b.Run = func(ctx context.Context, name string, args ...string) error {
		if slices.Contains(args, "start") && b.file(t, binaryPath) != "old binary" {
			_ = b.write(databasePath, []byte("new data"), 0o600)
			_ = os.Remove(b.path(databasePath + "-wal"))
			return original(ctx, name, args...)
		}
		b.fail = ""
		defer func() { b.fail = "systemctl start " + service }()
		return original(ctx, name, args...)
	}
	if err := b.Upgrade(t.Context(), newer); err == nil || b.file(t, binaryPath) != "old binary" || b.file(t, databasePath) != "old data" || b.file(t, databasePath+"-wal") != "old log" {
		t.Errorf("got %v, binary %.10q, data %q", err, b.file(t, binaryPath), b.file(t, databasePath))
	}
	b.Run, b.fail = original, ""
	if err := b.Upgrade(t.Context(), newer); err != nil || b.file(t, binaryPath) != string(want) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(b.path(newBinary)); err == nil {
		t.Error("its copy was left behind")
	}
	if err := b.Upgrade(t.Context(), newer); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("the same again: %v", err)
	}
}

func TestWhatIsNoNutshell(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, []byte("\x7fELF\x02\x01\x01"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := CheckBinary(t.Context(), cut); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("half of a program: %v", err)
	}
	for name, file := range map[string]string{"text": text, "cut": cut, "missing": filepath.Join(dir, "missing"), "of-others": "/bin/sh", "another-program-of-go": built(t, "walnut", "walnut 1")} {
		t.Run(name, func(t *testing.T) {
			if _, err := CheckBinary(t.Context(), file); api.CodeOf(err) != api.CodeInvalid || api.AsError(err).Hint == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestUpgradeThatAPowerCutEnds: whatever was done when the power went, the
// next start has a whole binary with the database that belongs to it.
func TestUpgradeThatAPowerCutEnds(t *testing.T) {
	fresh := func(t *testing.T) *bed {
		t.Helper()
		b := newBed(t)
		for name, text := range map[string]string{binaryPath: "old binary", newBinary: "new binary", databasePath: "old data"} {
			if err := b.write(name, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	whole := func(t *testing.T, b *bed) {
		t.Helper()
		if b.file(t, binaryPath) != "old binary" || b.file(t, databasePath) != "old data" {
			t.Errorf("it has %q with %q", b.file(t, binaryPath), b.file(t, databasePath))
		}
		for _, left := range []string{newBinary, savedPath, databasePath + "-wal", databasePath + ".new"} {
			if _, err := os.Stat(b.path(left)); err == nil {
				t.Errorf("%s was left", left)
			}
		}
	}
	t.Run("before-the-new-one-answers", func(t *testing.T) {
		b := fresh(t)
		if err := b.swap(); err != nil {
			t.Fatal(err)
		}
		if b.file(t, binaryPath) != "new binary" {
			t.Fatal("nothing was changed")
		}
		for name, text := range map[string]string{databasePath: "new data", databasePath + "-wal": "new log"} {
			if err := b.write(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.UndoUpgrade(); err != nil {
			t.Fatal(err)
		}
		whole(t, b)
		if err := b.UndoUpgrade(); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("undone twice: %v", err)
		}
	})
	t.Run("while-it-goes-back", func(t *testing.T) {
		b := fresh(t)
		if err := b.swap(); err != nil {
			t.Fatal(err)
		}
		// Half of UndoUpgrade: the binary is back, the database is half copied.
		for name, text := range map[string]string{binaryPath: "old binary", databasePath: "new data", databasePath + ".new": "old"} {
			if err := b.write(name, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.UndoUpgrade(); err != nil {
			t.Fatal(err)
		}
		whole(t, b)
	})
	t.Run("between-mark-and-change", func(t *testing.T) {
		b := fresh(t)
		if err := b.swap(); err != nil {
			t.Fatal(err)
		}
		if err := b.write(binaryPath, []byte("old binary"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := b.UndoUpgrade(); err != nil {
			t.Fatal(err)
		}
		whole(t, b)
	})
}
