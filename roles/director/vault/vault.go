// Package vault keeps copies of users' data as encrypted files on the
// director's disk. A file appears complete or not at all, and a reader is told
// when a single byte of it is another than was written. What the copies are of,
// and how long they stay, is not its business.
package vault

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// A copy must leave room for the rows of the director, which are on the same
// disk: 64 MiB, or a twentieth of a small disk.
const (
	reserve     = 64 << 20
	reservePart = 20
	checkEvery  = 8 << 20 // bytes between two looks at the free space
)

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// Vault is a directory of encrypted files and the key to them. It can be used
// by many at the same time.
type Vault struct {
	dir string
	key *age.X25519Identity
}

// Make opens the vault in dir with the key file at path, and makes both where
// they are missing. The key appears complete or not at all.
func Make(dir, path string) (*Vault, error) {
	v, err := Open(dir, path)
	if !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make key of backups: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return nil, fmt.Errorf("make key of backups: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(key.String() + "\n")
	err = errors.Join(err, f.Chmod(0o400), f.Sync(), f.Close())
	if err == nil {
		err = errors.Join(os.Rename(f.Name(), path), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, fmt.Errorf("make key of backups: %w", err)
	}
	return Open(dir, path)
}

// Open opens the vault in dir with the key file at path, and removes what was
// cut off while it was written. It wraps fs.ErrNotExist when there is no key.
func Open(dir, path string) (*Vault, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "open", Object: "key of backups " + path, Hint: "put it back: without it no backup can be read", Err: err}
	}
	key, err := age.ParseX25519Identity(strings.TrimSpace(string(b)))
	if err != nil { // its own words could tell of the key
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "open", Object: "key of backups " + path, Message: "it is damaged", Hint: "put it back: without it no backup can be read"}
	}
	v := &Vault{dir: dir, key: key}
	if err := os.RemoveAll(v.incoming()); err != nil {
		return nil, fmt.Errorf("open backups in %s: %w", dir, err)
	}
	if err := os.MkdirAll(v.incoming(), 0o700); err != nil {
		return nil, fmt.Errorf("open backups in %s: %w", dir, err)
	}
	return v, nil
}

// ID tells the key from others and gives nothing of it away.
func (v *Vault) ID() string {
	sum := sha256.Sum256([]byte("nutshell key of backups " + v.key.Recipient().String()))
	return hex.EncodeToString(sum[:8])
}

func (v *Vault) incoming() string { return filepath.Join(v.dir, "incoming") }

func (v *Vault) path(name string) string { return filepath.Join(v.dir, name+".age") }

func checkName(name string) error {
	if !namePattern.MatchString(name) {
		return api.Invalidf("%s cannot name a file of backups", api.Shorten(name))
	}
	return nil
}

// Names lists the complete files.
func (v *Vault) Names() ([]string, error) {
	entries, err := os.ReadDir(v.dir)
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".age"); ok && e.Type().IsRegular() {
			names = append(names, name)
		}
	}
	return names, err
}

// Remove removes a file. Gone already is no error.
func (v *Vault) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := os.Remove(v.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Room refuses bytes that would not fit beside what must stay free.
func (v *Vault) Room(bytes int64) error {
	free, keep, err := v.space()
	if err != nil || free-keep >= bytes {
		return err
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "store backup", Message: fmt.Sprintf("about %s are needed, %s are free on the director's disk", size(bytes), size(max(free-keep, 0))),
		Hint: "delete backups that are not needed, or make room on the disk of " + v.dir}
}

// space is what is free for us, and what of it must stay so.
func (v *Vault) space() (free, keep int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(v.dir, &st); err != nil {
		return 0, 0, err
	}
	block := int64(st.Bsize)                                                               //nolint:unconvert // it is 32 bits wide on some machines
	return int64(st.Bavail) * block, min(reserve, int64(st.Blocks)*block/reservePart), nil //nolint:gosec // no disk has 2^63 bytes
}

// failed makes an error for people of a full disk.
func (v *Vault) failed(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	message := "the director's disk is full"
	if free, _, e := v.space(); e == nil {
		message += ", " + size(free) + " are free"
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "store backup", Message: message, Err: err,
		Hint: "delete backups that are not needed, or make room on the disk of " + v.dir}
}

func size(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// syncDir makes a rename outlive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
