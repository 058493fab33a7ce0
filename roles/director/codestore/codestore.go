// Package codestore keeps the director's blobs, named by the SHA-256 of their
// content, and makes code versions of uploaded archives. Which version belongs
// to which service is not its business; the store of rows knows that.
package codestore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
)

// An upload must leave room for the rows of the director, which are on the
// same disk: 64 MiB, or a twentieth of a small disk.
const (
	reserve     = 64 << 20
	reservePart = 20
	checkEvery  = 8 << 20 // bytes between two looks at the free space
)

var hashPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Blob is what was put into the store.
type Blob struct {
	SHA256 string
	Bytes  int64
}

// Store is a directory of blobs. It can be used by many at the same time.
type Store struct {
	dir string

	mu     sync.Mutex
	pieces map[string]*piece // uploads that were written to in this life
}

// Open makes the directory if it is missing and removes what uploads left
// that a crash cut off; those that can go on are kept. One process at a time may have a directory open.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, pieces: map[string]*piece{}}
	if err := os.RemoveAll(s.temp()); err != nil {
		return nil, fmt.Errorf("open code store %s: %w", dir, err)
	}
	if err := os.MkdirAll(s.temp(), 0o700); err != nil {
		return nil, fmt.Errorf("open code store %s: %w", dir, err)
	}
	if err := os.MkdirAll(s.uploads(), 0o700); err != nil {
		return nil, fmt.Errorf("open code store %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) temp() string { return filepath.Join(s.dir, "incoming") }

// Put stores everything that r gives, up to limit bytes (0: no limit). It is
// on the disk when Put returns; the same content is stored once.
func (s *Store) Put(ctx context.Context, r io.Reader, limit int64) (Blob, error) {
	in, err := s.receive(ctx, r, limit)
	if err != nil {
		return Blob{}, err
	}
	defer in.discard()
	return in.keep()
}

// Path is where a blob is, whether it exists or not. It is empty for what is
// no SHA-256.
func (s *Store) Path(sha string) string {
	if !hashPattern.MatchString(sha) {
		return ""
	}
	return filepath.Join(s.dir, sha[:2], sha)
}

// Has reports whether a blob is there.
func (s *Store) Has(sha string) bool {
	p := s.Path(sha)
	if p == "" {
		return false
	}
	_, err := os.Stat(p)
	return err == nil
}

// File opens a blob.
func (s *Store) File(sha string) (*os.File, error) {
	p := s.Path(sha)
	if p == "" {
		return nil, api.Invalidf("%s is not a SHA-256", api.Shorten(sha))
	}
	f, err := os.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.NotFoundf("there is no blob %s", sha)
	}
	return f, err
}

// Remove removes a blob. Gone already is no error.
func (s *Store) Remove(sha string) error {
	p := s.Path(sha)
	if p == "" {
		return api.Invalidf("%s is not a SHA-256", api.Shorten(sha))
	}
	if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Sweep removes the blobs that are not used and were last put before the
// given time. The delay keeps a blob whose upload has ended and whose row is
// not written yet.
func (s *Store) Sweep(ctx context.Context, before time.Time, used func(sha string) (bool, error)) (removed []string, err error) {
	paths, err := filepath.Glob(filepath.Join(s.dir, "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		info, err := os.Lstat(p)
		if err != nil || !hashPattern.MatchString(filepath.Base(p)) || !info.ModTime().Before(before) {
			continue
		}
		switch keep, err := used(filepath.Base(p)); {
		case err != nil:
			return removed, err
		case keep:
			continue
		}
		if err := os.Remove(p); err != nil {
			return removed, err
		}
		removed = append(removed, filepath.Base(p))
	}
	return removed, nil
}

// incoming is a blob that is not in the store yet.
type incoming struct {
	store *Store
	file  *os.File
	blob  Blob
}

func (s *Store) receive(ctx context.Context, r io.Reader, limit int64) (*incoming, error) {
	f, err := os.CreateTemp(s.temp(), "upload-*")
	if err != nil {
		return nil, s.failed(err)
	}
	in := &incoming{store: s, file: f}
	sum := sha256.New()
	w := &watched{ctx: ctx, store: s, out: io.MultiWriter(f, sum)}
	if limit > 0 {
		r = io.LimitReader(r, limit+1)
	}
	if in.blob.Bytes, err = io.Copy(w, r); err == nil && limit > 0 && in.blob.Bytes > limit {
		err = &api.Error{Code: api.CodeTooLarge, Op: "store upload", Message: fmt.Sprintf("it is larger than %d bytes", limit),
			Hint: "leave out what is not needed, or raise upload.max_bytes in the director's configuration"}
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		in.discard()
		return nil, s.failed(err)
	}
	in.blob.SHA256 = hexSum(sum)
	return in, nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// keep moves the blob to its place. It replaces one that is there: the
// content is the same, and its time says that somebody wants it now.
func (in *incoming) keep() (Blob, error) {
	place := in.store.Path(in.blob.SHA256)
	if err := os.Mkdir(filepath.Dir(place), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return Blob{}, in.store.failed(err)
	}
	if err := os.Rename(in.file.Name(), place); err != nil {
		return Blob{}, in.store.failed(err)
	}
	return in.blob, syncDir(filepath.Dir(place))
}

// discard removes what keep did not take.
func (in *incoming) discard() {
	_ = in.file.Close()
	_ = os.Remove(in.file.Name())
}

// syncDir makes a rename outlive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// watched writes as long as somebody waits and the disk has room.
type watched struct {
	ctx   context.Context
	store *Store
	out   io.Writer
	since int // bytes since the last look at the disk; the first write looks
	seen  bool
}

func (w *watched) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.since += len(p); !w.seen || w.since >= checkEvery {
		w.since, w.seen = 0, true
		if free, keep, err := w.store.space(); err == nil && free < keep {
			return 0, syscall.ENOSPC
		}
	}
	return w.out.Write(p)
}

// space is what is free for us, and what of it must stay so.
func (s *Store) space() (free, keep int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, 0, err
	}
	size := int64(st.Bsize)                                                              //nolint:unconvert // it is 32 bits wide on some machines
	return int64(st.Bavail) * size, min(reserve, int64(st.Blocks)*size/reservePart), nil //nolint:gosec // no disk has 2^63 bytes
}

// failed makes an error for people of a full disk.
func (s *Store) failed(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	message := "the director's disk is full"
	if free, _, e := s.space(); e == nil {
		message = fmt.Sprintf("the director's disk is full, %.1f MiB are free", float64(free)/(1<<20))
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "store upload", Message: message, Err: err,
		Hint: "delete code versions that are not needed, or make room on the disk of " + s.dir}
}

// CleanFilename returns a file's name without directories. It is shown and sent back at
// a download, and never used as a path.
func CleanFilename(name string) (string, error) {
	name = strings.TrimSpace(name[strings.LastIndexAny(name, `/\`)+1:])
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: "file " + api.Shorten(name), Message: "this cannot be a file name",
			Hint: "use 1 to 255 characters without control characters", Fields: []string{"filename"}}
	}
	return name, nil
}
