package codestore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/api"
	"nutshell/roles/internal/archive"
)

// Uploads come in pieces, over several connections and several lives of the
// director. What has come of one is a file named by its id, and its length is
// where the next piece begins.

var uploadPattern = regexp.MustCompile(`^[a-z0-9]{8,32}$`)

const pieceBytes = 256 << 10 // read at once

// piece is the upload that somebody writes to. The last who begins has it: the
// one before may be a connection that broke without anybody being told.
type piece struct {
	mu     sync.Mutex
	turn   int64
	sum    hash.Hash // of the first hashed bytes
	hashed int64
}

func (s *Store) uploads() string { return filepath.Join(s.dir, "uploads") }

func (s *Store) uploadPath(id string) (string, error) {
	if !uploadPattern.MatchString(id) {
		return "", api.Invalidf("%s is not the id of an upload", api.Shorten(id))
	}
	return filepath.Join(s.uploads(), id), nil
}

func (s *Store) piece(id string) *piece {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pieces[id]
	if p == nil {
		p = &piece{sum: sha256.New()}
		s.pieces[id] = p
	}
	return p
}

// Room refuses an upload that the disk has no room for.
func (s *Store) Room(bytes int64) error {
	free, keep, err := s.space()
	if err != nil || free-keep >= bytes {
		return nil //nolint:nilerr // a disk that does not tell is tried
	}
	return &api.Error{Code: api.CodeNoSpace, Op: "upload code", Message: fmt.Sprintf("the archive has %.1f MiB, and the director's disk has room for %.1f MiB", float64(bytes)/(1<<20), float64(max(0, free-keep))/(1<<20)),
		Hint: "delete code versions that are not needed, or make room on the disk of " + s.dir}
}

// Offset tells how much of an upload has come.
func (s *Store) Offset(id string) (int64, error) {
	path, err := s.uploadPath(id)
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Append adds what r gives to an upload of so many bytes and returns how much
// of it has come then. What came before an error stays. Whoever else is
// writing to it is refused from now on.
func (s *Store) Append(ctx context.Context, id string, offset, size int64, r io.Reader) (int64, error) {
	path, err := s.uploadPath(id)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, s.failed(err)
	}
	defer func() { _ = f.Close() }()
	p := s.piece(id)
	turn, have, err := p.begin(f)
	if err != nil {
		return 0, err
	}
	if offset != have {
		return have, &api.Error{Code: api.CodeConflict, Op: "upload code", Object: "upload " + id, Message: fmt.Sprintf("%d bytes have come, and this piece begins at %d", have, offset),
			Hint: "ask for the upload and go on at its offset", Fields: []string{"offset"}}
	}
	begin := have
	w := &watched{ctx: ctx, store: s, out: writerFunc(func(b []byte) (int, error) {
		if err := p.write(turn, f, b, have, size); err != nil {
			return 0, err
		}
		have += int64(len(b))
		return len(b), nil
	})}
	_, err = io.CopyBuffer(w, onlyReader{r}, make([]byte, pieceBytes))
	if err == nil && begin < archive.HeadBytes && (have >= archive.HeadBytes || have == size) {
		err = checkHead(f) // better now than after two gigabytes
	}
	if e := f.Sync(); err == nil {
		err = e
	}
	var known *api.Error
	switch {
	case err == nil, errors.As(err, &known):
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.As(err, new(*fs.PathError)):
		err = s.failed(err)
	default: // of the connection
		err = &api.Error{Code: api.CodeUnavailable, Op: "upload code", Object: "upload " + id, Message: "the connection broke off", Hint: "ask for the upload and go on at its offset", Err: err}
	}
	return have, err
}

// onlyReader hides that a body could write itself, which would go round the
// buffer.
type onlyReader struct{ io.Reader }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func (p *piece) begin(f *os.File) (turn, have int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	return p.turn, info.Size(), nil
}

func (p *piece) write(turn int64, f *os.File, b []byte, have, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.turn != turn {
		return &api.Error{Code: api.CodeConflict, Op: "upload code", Message: "another request goes on with this upload"}
	}
	if int64(len(b)) > size-have {
		return &api.Error{Code: api.CodeInvalid, Op: "upload code", Message: fmt.Sprintf("more came than the %d bytes that were announced", size), Hint: "begin again with the right size", Fields: []string{"bytes"}}
	}
	if _, err := f.WriteAt(b, have); err != nil {
		return err
	}
	if p.hashed == have {
		_, _ = p.sum.Write(b) // a hash never fails
		p.hashed += int64(len(b))
	}
	return nil
}

func checkHead(f *os.File) error {
	head := make([]byte, archive.HeadBytes)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = archive.Detect("", head[:n])
	return err
}

// digest is the SHA-256 of a complete upload: mostly known already, from
// its coming.
func (p *piece) digest(ctx context.Context, path string) (string, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++ // nothing is added any more
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	if _, err := f.Seek(p.hashed, io.SeekStart); err != nil {
		return "", 0, err
	}
	block := make([]byte, pieceBytes)
	for p.hashed < info.Size() {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		n, err := f.Read(block)
		_, _ = p.sum.Write(block[:n])
		p.hashed += int64(n)
		if err != nil {
			return "", 0, err
		}
	}
	return hexSum(p.sum), info.Size(), nil
}

// Complete makes a code version of an upload that is all there. The upload
// stays until Discard: only then nothing is lost when we are killed between
// this and the version's row. sum is what the content should be, or empty.
func (s *Store) Complete(ctx context.Context, id, filename string, strip bool, size int64, sum string) (api.CodeVersion, error) {
	name, err := CleanFilename(filename)
	if err != nil {
		return api.CodeVersion{}, err
	}
	path, err := s.uploadPath(id)
	if err != nil {
		return api.CodeVersion{}, err
	}
	got, have, err := s.piece(id).digest(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		have, err = 0, nil
	}
	switch {
	case err != nil:
		return api.CodeVersion{}, about(name, err)
	case have != size:
		return api.CodeVersion{}, &api.Error{Code: api.CodeConflict, Op: "upload code", Object: "file " + name, Message: fmt.Sprintf("only %d of %d bytes have come", have, size),
			Hint: "ask for the upload and go on at its offset"}
	case sum != "" && sum != got:
		return api.CodeVersion{}, &api.Error{Code: api.CodeInvalid, Op: "upload code", Object: "file " + name, Message: "what came is not what was announced: its SHA-256 is " + got, Hint: "upload it again; was the file changed meanwhile?", Fields: []string{"sha256"}}
	}
	v, err := versionOf(ctx, path, name, strip)
	if err != nil {
		return v, err
	}
	v.Bytes, v.SHA256 = size, got
	if err := s.take(ctx, path, got); err != nil {
		return v, about(name, s.failed(err))
	}
	return v, nil
}

// take gives a file a second name as a blob. Where the disk cannot do that, it
// is copied.
func (s *Store) take(ctx context.Context, path, sum string) error {
	place := s.Path(sum)
	if err := os.Mkdir(filepath.Dir(place), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err := os.Link(path, place)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			_, err = s.Put(ctx, f, 0)
			_ = f.Close()
		}
	}
	if err != nil {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(place, now, now); err != nil { // the sweep spares what somebody wants now
		return err
	}
	return syncDir(filepath.Dir(place))
}

// Discard removes what came of an upload. Gone already is no error.
func (s *Store) Discard(id string) error {
	path, err := s.uploadPath(id)
	if err != nil {
		return err
	}
	p := s.piece(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn++
	s.mu.Lock()
	delete(s.pieces, id)
	s.mu.Unlock()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Unfinished lists the ids of uploads of which something has come.
func (s *Store) Unfinished() ([]string, error) {
	entries, err := os.ReadDir(s.uploads())
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, nil
}
