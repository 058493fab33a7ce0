package context

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Whoever fills a config drive may be anybody: nothing of this machine is read
// by its links, nothing on it makes a boot wait, and gigabytes are not read.
func TestHostileDrives(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, encoded(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fill func(dir string) error // openstack/latest/user_data and beside
		good bool
	}{
		{"plain", func(dir string) error { return os.WriteFile(filepath.Join(dir, "user_data"), encoded(t), 0o600) }, true},
		{"link-on-the-disk", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "2018"), encoded(t), 0o600); err != nil {
				return err
			}
			return os.Symlink("../latest/2018", filepath.Join(dir, "user_data"))
		}, true},
		{"link-to-this-machine", func(dir string) error { return os.Symlink(secret, filepath.Join(dir, "user_data")) }, false},
		{"dots-to-this-machine", func(dir string) error {
			return os.Symlink("../../../../../../../../../.."+secret, filepath.Join(dir, "user_data"))
		}, false},
		{"link-to-itself", func(dir string) error { return os.Symlink("user_data", filepath.Join(dir, "user_data")) }, false},
		{"pipe", func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "user_data"), 0o600) }, false},
		{"directory", func(dir string) error { return os.Mkdir(filepath.Join(dir, "user_data"), 0o700) }, false},
		{"gigabytes", func(dir string) error {
			name := filepath.Join(dir, "user_data")
			if err := os.WriteFile(name, encoded(t), 0o600); err != nil {
				return err
			}
			return os.Truncate(name, 64<<30)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			latest := filepath.Join(dir, "openstack", "latest")
			if err := os.MkdirAll(latest, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.fill(latest); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var said error
			f := Finder{Disks: func() map[string]string { return map[string]string{"config-2": dir} }, Mount: func(device string) (string, func(), error) { return device, func() {}, nil },
				Said: func(_ string, err error) { said = err; cancel() }} // once round is enough
			done := make(chan bool, 1)
			go func() {
				got, _, err := f.Find(ctx)
				done <- err == nil && got.Secret == told.Secret
			}()
			select {
			case good := <-done:
				if good != c.good {
					t.Errorf("found: %v, and it said %v", good, said)
				}
			case <-time.After(30 * time.Second):
				t.Error("it waits for the disk")
			}
			cancel()
		})
	}
}
