package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// diskBed is an appliance on a disk of its own. What its file system has not
// written to the disk is lost when the power goes.
type diskBed struct {
	*bed
	disk string // the file that is the disk
}

func newDisk(t *testing.T) *diskBed {
	t.Helper()
	d := &diskBed{disk: filepath.Join(t.TempDir(), "disk")}
	if err := os.WriteFile(d.disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.disk, 16<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", d.disk).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	d.on(t)
	for name, text := range map[string]string{binaryPath: "old binary", newBinary: "new binary", databasePath: "old data", databasePath + "-wal": "old log"} {
		if err := d.write(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// on gives power to the machine: its disk is mounted.
func (d *diskBed) on(t *testing.T) {
	t.Helper()
	d.bed = newBed(t)
	if out, err := exec.Command("mount", "-o", "loop,commit=300", d.disk, d.Root).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	root := d.Root
	t.Cleanup(func() { _ = exec.Command("umount", root).Run() })
}

// off is what the disk holds now, as another machine's: copied beneath the
// file system that uses it.
func (d *diskBed) off(t *testing.T) *diskBed {
	t.Helper()
	cut := &diskBed{disk: filepath.Join(t.TempDir(), "cut")}
	if out, err := exec.Command("cp", "--sparse=always", d.disk, cut.disk).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return cut
}

func (d *diskBed) has(t *testing.T) string {
	t.Helper()
	parts := []string{d.file(t, binaryPath)}
	for _, part := range database[:2] {
		b, err := os.ReadFile(d.path(databasePath + part))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		parts = append(parts, string(b))
	}
	return strings.Join(parts, ", ")
}

// TestUpgradeAndPowerCutsOnADisk cuts the power behind each step of an upgrade
// and of its way back, on a file system that forgets what nobody asked it to
// write. The next start has one binary with the database that belongs to it.
func TestUpgradeAndPowerCutsOnADisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a disk is mounted")
	}
	if err := exec.Command("losetup", "-f").Run(); err != nil {
		t.Skip("this machine has no loop devices")
	}
	const old, upgraded = "old binary, old data, old log", "new binary, new data, new log"
	// What the new director does before it answers.
	migrates := func(d *diskBed) error {
		return errors.Join(d.write(databasePath, []byte("new data"), 0o600), d.write(databasePath+"-wal", []byte("new log"), 0o600))
	}
	type moment struct {
		name string
		disk *diskBed
		want string
	}
	var cuts []moment
	d := newDisk(t)
	record := func(what, want string) func(string) error {
		return func(step string) error {
			cuts = append(cuts, moment{what + ": " + step, d.off(t), want})
			return nil
		}
	}
	d.done = record("upgrade", old)
	if err := d.swap(); err != nil {
		t.Fatal(err)
	}
	if err := migrates(d); err != nil {
		t.Fatal(err)
	}
	cuts = append(cuts, moment{"upgrade: the new one migrates", d.off(t), old})
	if err := d.forgetFile(pendingPath); err != nil {
		t.Fatal(err)
	}
	cuts = append(cuts, moment{"upgrade: it answers", d.off(t), upgraded})
	// The same again from here, and back.
	d = newDisk(t)
	if err := errors.Join(d.swap(), migrates(d)); err != nil {
		t.Fatal(err)
	}
	d.done = record("back", old)
	if err := d.UndoUpgrade(); err != nil {
		t.Fatal(err)
	}
	if len(cuts) < 14 {
		t.Errorf("only %d moments were tried", len(cuts))
	}
	for _, c := range cuts {
		t.Run(strings.NewReplacer(" ", "-", ":", "", "'", "").Replace(c.name), func(t *testing.T) {
			c.disk.on(t)
			// As nutshell-upgrade-boot.service does, on its condition.
			if _, err := os.Stat(c.disk.path(pendingPath)); err == nil {
				if err := c.disk.UndoUpgrade(); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.disk.has(t); got != c.want {
				t.Errorf("it starts with %s, not with %s", got, c.want)
			}
			for _, left := range []string{databasePath + ".new", pendingPath} {
				if _, err := os.Stat(c.disk.path(left)); err == nil {
					t.Errorf("%s was left", left)
				}
			}
		})
	}
}

// TestUpgradeBesideABrokenOne: what was saved for its way back stays.
func TestUpgradeBesideABrokenOne(t *testing.T) {
	b := newBed(t)
	if err := b.write(pendingPath, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Upgrade(t.Context(), "/bin/sh"); api.CodeOf(err) != api.CodeConflict || api.AsError(err).Hint == "" {
		t.Errorf("got %v", err)
	}
	if len(b.ran) > 0 {
		t.Errorf("ran %q", b.ran)
	}
}

// TestUpgradeThatCannotBeWritten: a disk without room leaves the old one
// running, and nothing of the new one.
func TestUpgradeThatCannotBeWritten(t *testing.T) {
	for _, fails := range []string{"save the database", "mark the upgrade", "change the binary"} {
		t.Run(strings.ReplaceAll(fails, " ", "-"), func(t *testing.T) {
			newer := built(t, "nutshell", "nutshell 2")
			b := newBed(t)
			for name, text := range map[string]string{binaryPath: "old binary", databasePath: "old data"} {
				if err := b.write(name, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			b.done = func(step string) error {
				if step == fails {
					return fmt.Errorf("no space left")
				}
				return nil
			}
			err := b.Upgrade(t.Context(), newer)
			if err == nil || !strings.Contains(err.Error(), fails+": no space left") {
				t.Errorf("got %v", err)
			}
			if b.file(t, binaryPath) != "old binary" || b.file(t, databasePath) != "old data" {
				t.Errorf("it has %q with %q", b.file(t, binaryPath), b.file(t, databasePath))
			}
			if b.ran[len(b.ran)-1] != "systemctl start "+service {
				t.Errorf("the director does not run again: %q", b.ran)
			}
			for _, left := range []string{newBinary, savedPath} {
				if _, err := os.Stat(b.path(left)); err == nil {
					t.Errorf("%s was left", left)
				}
			}
		})
	}
}

// TestUpgradeWhoseProcessIsKilled: the unit that waits for its end finds the
// lock free, and ends it.
func TestUpgradeWhoseProcessIsKilled(t *testing.T) {
	for name, tt := range map[string]struct {
		at      string // killed behind this step; "": before the first
		answers bool
		binary  string
		data    string
		code    api.Code
	}{
		"before-anything":             {"", true, "old binary", "old data", ""},
		"saved":                       {"save the database", true, "old binary", "old data", ""},
		"marked":                      {"mark the upgrade", true, "old binary", "old data", ""},
		"changed-and-answers":         {"write the change", true, "new binary", "new data", ""},
		"changed-and-does-not-answer": {"write the change", false, "old binary", "old data", api.CodeUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			for name, text := range map[string]string{binaryPath: "old binary", newBinary: "new binary", databasePath: "old data"} {
				if err := b.write(name, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(b.path(savedPath), 0o700); err != nil {
				t.Fatal(err)
			}
			killed := errors.New("killed")
			b.done = func(step string) error {
				if step == tt.at {
					return killed
				}
				return nil
			}
			if tt.at != "" {
				if err := b.swap(); !errors.Is(err, killed) {
					t.Fatal(err)
				}
			}
			b.done = nil
			if b.file(t, binaryPath) == "new binary" {
				if err := b.write(databasePath, []byte("new data"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if !tt.answers {
				run := b.Run
				b.Run = func(ctx context.Context, name string, args ...string) error {
					if err := run(ctx, name, args...); err != nil || !slices.Contains(args, "start") || b.file(t, binaryPath) == "old binary" {
						return err
					}
					return errors.New("it did not start")
				}
			}
			if err := b.SettleUpgrade(t.Context()); api.CodeOf(err) != tt.code {
				t.Errorf("got %v", err)
			}
			if b.file(t, binaryPath) != tt.binary || b.file(t, databasePath) != tt.data {
				t.Errorf("it has %q with %q", b.file(t, binaryPath), b.file(t, databasePath))
			}
			if b.ran[len(b.ran)-1] != "systemctl start "+service {
				t.Errorf("the director does not run: %q", b.ran)
			}
			for _, left := range []string{newBinary, savedPath} {
				if _, err := os.Stat(b.path(left)); err == nil {
					t.Errorf("%s was left", left)
				}
			}
		})
	}
}

// TestTwoUpgradesAtOnce: the second is refused, and who settles waits for the
// end of the first.
func TestTwoUpgradesAtOnce(t *testing.T) {
	b := newBed(t)
	lock, err := b.lockUpgrade(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Upgrade(t.Context(), "/bin/sh"); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), "goes on") {
		t.Errorf("got %v", err)
	}
	settled := make(chan error, 1)
	go func() { settled <- b.SettleUpgrade(t.Context()) }()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; err != nil || len(b.ran) > 0 {
		t.Errorf("got %v, ran %q", err, b.ran)
	}
}
