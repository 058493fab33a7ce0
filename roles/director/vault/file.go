package vault

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"filippo.io/age"

	"nutshell/roles/api"
)

// title is the first line inside each file. One that was put in another's
// place does not bear its name.
func title(name string) string { return "nutshell backup 1 " + name + "\n" }

// Writer writes one file. Keep or Discard ends it.
type Writer struct {
	v     *Vault
	name  string
	file  *os.File
	out   io.WriteCloser // encrypts into file
	since int            // bytes since the last look at the disk
}

// Create begins the file of a name, which is not there before Keep.
func (v *Vault) Create(name string) (*Writer, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := v.Room(0); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(v.incoming(), name+"-*")
	if err != nil {
		return nil, v.failed(err)
	}
	w := &Writer{v: v, name: name, file: f}
	if w.out, err = age.Encrypt(f, v.key.Recipient()); err == nil {
		_, err = io.WriteString(w.out, title(name))
	}
	if err != nil {
		w.Discard()
		return nil, v.failed(err)
	}
	return w, nil
}

// Write encrypts as it comes, while the disk has room.
func (w *Writer) Write(p []byte) (int, error) {
	if w.since += len(p); w.since >= checkEvery {
		w.since = 0
		if free, keep, err := w.v.space(); err == nil && free < keep {
			return 0, w.v.failed(syscall.ENOSPC)
		}
	}
	n, err := w.out.Write(p)
	return n, w.v.failed(err)
}

// Keep makes the file appear and returns its size. It is on the disk then.
func (w *Writer) Keep() (bytes int64, err error) {
	defer w.Discard()
	if err = w.out.Close(); err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		bytes, err = w.file.Seek(0, io.SeekEnd)
	}
	if err == nil {
		err = os.Rename(w.file.Name(), w.v.path(w.name))
	}
	if err == nil {
		err = syncDir(w.v.dir)
	}
	return bytes, w.v.failed(err)
}

// Discard leaves nothing of what Keep did not keep.
func (w *Writer) Discard() {
	_ = w.file.Close()
	_ = os.Remove(w.file.Name())
}

// Open reads a file. An error other than io.EOF means that what came before it
// is not what was written, or not all of it.
func (v *Vault) Open(name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	f, err := os.Open(v.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &api.Error{Code: api.CodeNotFound, Op: "read backup", Object: name, Message: "its file is gone from the director's disk", Err: err}
	}
	if err != nil {
		return nil, err
	}
	r := &reader{name: name, file: f}
	plain, err := age.Decrypt(f, v.key)
	if err != nil {
		_ = f.Close()
		return nil, r.damaged(err)
	}
	r.plain = bufio.NewReaderSize(plain, 64<<10)
	line, err := r.plain.ReadString('\n')
	if err == nil && line != title(name) {
		err = errors.New("it is another backup's file")
	}
	if err != nil {
		_ = f.Close()
		return nil, r.damaged(err)
	}
	return r, nil
}

type reader struct {
	name  string
	file  *os.File
	plain *bufio.Reader
}

// Read decrypts and checks what it gives.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.plain.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = r.damaged(err)
	}
	return n, err
}

// Close closes the file.
func (r *reader) Close() error { return r.file.Close() }

func (r *reader) damaged(err error) error {
	return &api.Error{Code: api.CodeInvalid, Op: "read backup", Object: r.name, Message: "its file is damaged", Hint: "use another backup, or put the file back from a copy of the director's disk",
		Err: fmt.Errorf("%s: %w", r.file.Name(), err)}
}
