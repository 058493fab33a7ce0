package imagebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// A layer travels as a tar, compressed by zstd, of layer.json and rootfs/, as
// it lies here: with its whiteouts, owners and attributes.
const (
	layerMeta = "layer.json"
	layerRoot = "rootfs"
)

var digestName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Find says where the root file system of a finished layer lies. It wraps
// fs.ErrNotExist when the store does not have it.
func (s *Store) Find(digest string) (dir string, err error) {
	if !digestName.MatchString(digest) {
		return "", fmt.Errorf("%.80q is not the digest of a layer", digest)
	}
	l, err := s.read(digest)
	if err == nil && !s.unpacked(digest) {
		err = fmt.Errorf("layer %s is packed: %w", digest[:12], fs.ErrNotExist)
	}
	return l.Dir, err
}

// All lists the digests of the layers that the store has, oldest first. A layer that
// cannot be read is left out.
func (s *Store) All() ([]string, error) {
	list, err := s.List()
	digests := make([]string, 0, len(list))
	for _, l := range list {
		digests = append(digests, l.Digest)
	}
	return digests, err
}

// Export writes a finished layer for another store. An error says that what
// was written is not the whole.
func (s *Store) Export(ctx context.Context, digest string, w io.Writer) error {
	if !digestName.MatchString(digest) {
		return fmt.Errorf("%.80q is not the digest of a layer", digest)
	}
	l, err := s.read(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return &api.Error{Code: api.CodeNotFound, Object: "layer " + digest, Message: "the image store does not have it"}
	}
	if err != nil {
		return err
	}
	f, err := os.Open(s.packFile(digest))
	if errors.Is(err, fs.ErrNotExist) {
		// The fastest level: a node is on the same network, and the other end is slow.
		return writeLayer(ctx, l, w, nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Import takes a layer that another store has exported and returns its
// directory. It is there whole or not at all. The sender is believed: a digest
// is of how a layer is made, not of its bytes.
func (s *Store) Import(ctx context.Context, digest string, r io.Reader) (dir string, err error) {
	if dir, err := s.Find(digest); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	return s.take(ctx, digest, r)
}

func (s *Store) take(ctx context.Context, digest string, r io.Reader) (dir string, err error) {
	unlock, err := lock(ctx, s.path("lock"), func() {}) // whoever opens the store clears what nobody holds
	if err != nil {
		return "", err
	}
	defer unlock()
	if dir, err := s.Find(digest); err == nil {
		return dir, nil
	}
	work, err := os.MkdirTemp(s.path("build"), "import-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(mostWindow))
	if err != nil {
		return "", err
	}
	defer z.Close()
	fresh := filepath.Join(work, "layer")
	if err := os.Mkdir(fresh, 0o755); err != nil {
		return "", err
	}
	if err := unpackLayer(ctx, fresh, z, func() error { return s.admit(fresh, digest) }); err != nil {
		return "", s.notTaken(digest, err)
	}
	if info, err := os.Stat(filepath.Join(fresh, layerRoot)); err != nil || !info.IsDir() {
		return "", fmt.Errorf("layer %s has no file system", digest[:12])
	}
	if err := syncFS(s.dir); err != nil {
		return "", err
	}
	if _, err := s.read(digest); err == nil { // packed until now
		err = os.Rename(filepath.Join(fresh, layerRoot), s.rootDir(digest))
		return s.rootDir(digest), errors.Join(err, syncFS(s.dir))
	}
	if err := os.Rename(fresh, s.path("layers", digest)); err != nil {
		return "", err
	}
	return s.rootDir(digest), syncFS(s.dir)
}

// admit refuses a layer by its description: another one, one for another
// machine, one that there is no room for.
func (s *Store) admit(dir, digest string) error {
	b, err := os.ReadFile(filepath.Join(dir, layerMeta))
	if err != nil {
		return err
	}
	var l Layer
	if err := json.Unmarshal(b, &l); err != nil {
		return err
	}
	if l.Digest != digest {
		return fmt.Errorf("%.64s came in its place", l.Digest)
	}
	if l.Below != "" && !digestName.MatchString(l.Below) {
		return fmt.Errorf("it lies on %.80q, which is no layer", l.Below)
	}
	if l.Arch != s.arch {
		return &api.Error{Code: api.CodeInvalid, Object: "layer " + l.Name, Message: fmt.Sprintf("it is for %s, and this machine is %s", l.Arch, s.arch),
			Hint: "the director must have layers for the architecture of its nodes"}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("ask for free space: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); l.Bytes > free { //nolint:gosec,unconvert // disks are smaller; of 32 bits on small machines
		return fmt.Errorf("%s needs %d MB of disk, of which %d MB are free: %w", l.Name, l.Bytes>>20, free>>20, unix.ENOSPC)
	}
	return nil
}

// notTaken says of which layer an error is, and of a full disk what to do. It
// wraps what the kernel said.
func (s *Store) notTaken(digest string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return &api.Error{Code: api.CodeNoSpace, Op: "take layer", Object: digest[:12], Err: err, Hint: "free some space on the disk of " + s.dir + ", or keep images on another one"}
	}
	return fmt.Errorf("take layer %s: %w", digest[:12], err)
}
