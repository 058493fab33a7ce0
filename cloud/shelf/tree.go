package shelf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// FormTree is the form of volumes that are directories. Nothing enforces
// their size.
const FormTree = "directory"

const treeDir = "data"

// Data is the directory of a volume of FormTree.
func Data(r Record) string { return filepath.Join(r.Dir, treeDir) }

// Trees is the half of a Keeper that keeps volumes as directories.
type Trees struct {
	mu   sync.Mutex
	used map[string]measured
}

type measured struct {
	bytes int64
	until time.Time // not measured again before
}

// NewTrees makes it.
func NewTrees() *Trees { return &Trees{used: map[string]measured{}} }

// Make makes the directory, open to all users as daemons may run as others.
func (t *Trees) Make(_ context.Context, dir string, _ int64) (string, error) {
	at := filepath.Join(dir, treeDir)
	if err := os.Mkdir(at, 0o755); err != nil {
		return "", err
	}
	return FormTree, os.Chmod(at, 0o755) // whatever the umask says
}

// Grow has nothing to do.
func (t *Trees) Grow(context.Context, Record) error { return nil }

// Used adds up the files' sizes. A tree that takes long to walk is measured
// more rarely.
func (t *Trees) Used(r Record) int64 {
	t.mu.Lock()
	m, ok := t.used[r.Name]
	t.mu.Unlock()
	now := time.Now()
	if ok && now.Before(m.until) {
		return m.bytes
	}
	m.bytes, _ = taken(Data(r)) // files may go while we look
	m.until = now.Add(max(5*time.Second, 50*time.Since(now)))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used[r.Name] = m
	return m.bytes
}

// taken is what a tree takes of the disk.
func taken(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // what cannot be read is not counted
		}
		if st, err := e.Info(); err == nil {
			bytes += st.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return bytes, err
}

// Copy copies the tree. Where the file system can, files share their blocks
// with the copy until one of them is changed.
func (t *Trees) Copy(ctx context.Context, r Record, to string) (int64, error) {
	bytes, err := taken(Data(r))
	if err == nil {
		err = Room(r.Dir, bytes)
	}
	if err != nil {
		return 0, err
	}
	shared, err := copyTree(ctx, Data(r), filepath.Join(to, treeDir))
	if shared {
		bytes = 0 // what it takes shows when the volume changes
	}
	return bytes, err
}

// Restore copies it back, and puts it in place in one step.
func (t *Trees) Restore(ctx context.Context, r Record, from string) error {
	fresh := filepath.Join(r.Dir, newPrefix+treeDir)
	if err := RemoveAll(fresh); err != nil {
		return err
	}
	kept := filepath.Join(from, treeDir)
	bytes, err := taken(kept)
	if err == nil {
		err = Room(r.Dir, bytes)
	}
	if err == nil {
		_, err = copyTree(ctx, kept, fresh)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, Data(r), unix.RENAME_EXCHANGE)
	}
	return errors.Join(err, RemoveAll(fresh))
}

// copyTree copies a tree with owners, modes, times and attributes, and makes
// it durable. Hard links become files of their own. shared: no data was copied.
func copyTree(ctx context.Context, from, to string) (shared bool, err error) {
	shared = true
	var dirs []string // modes and times come last: a directory may be closed to its owner
	err = filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch e.Type() {
		case fs.ModeDir:
			dirs = append(dirs, rel)
			return os.Mkdir(target, 0o700)
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err == nil {
				err = os.Symlink(link, target) //nolint:gosec // nobody else writes to a tree that is being made
			}
			if err != nil {
				return err
			}
			return dress(path, target)
		case 0:
			s, err := copyFile(ctx, path, target)
			shared = shared && s
			if err != nil {
				return err
			}
			return dress(path, target)
		default:
			return nil // a socket or pipe means nothing without its program
		}
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		target := filepath.Join(to, dirs[i])
		if err = syncDir(target); err == nil {
			err = dress(filepath.Join(from, dirs[i]), target)
		}
	}
	return shared, err
}

// dress gives a copy the original's owner, mode, times and attributes.
func dress(from, to string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: from, Err: err}
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := os.Chmod(to, fileMode(st.Mode)); err != nil {
			return err
		}
	}
	if err := attributes(from, to); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW)
}

func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// attributes copies extended attributes, such as access lists.
func attributes(from, to string) error {
	names := make([]byte, 64<<10) // the kernel's own limit
	n, err := unix.Llistxattr(from, names)
	if err != nil {
		return nil //nolint:nilerr // this file system has none
	}
	value := make([]byte, 64<<10)
	for start, i := 0, 0; i < n; i++ {
		if names[i] != 0 {
			continue
		}
		name := string(names[start:i])
		start = i + 1
		size, err := unix.Lgetxattr(from, name, value)
		if err == nil {
			err = unix.Lsetxattr(to, name, value[:size], 0)
		}
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("attribute %s of %s: %w", name, from, err)
		}
	}
	return nil
}

// copyFile makes a durable copy of a file that leaves holes where it has some.
func copyFile(ctx context.Context, from, to string) (shared bool, err error) {
	r, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	shared, err = Clone(ctx, w, r)
	if err == nil {
		err = w.Sync()
	}
	return shared, errors.Join(err, w.Close())
}

// Clone makes w hold what r holds. Where the file system can, they share
// their blocks; else the data is copied, and holes are left out.
func Clone(ctx context.Context, w, r *os.File) (shared bool, err error) {
	err = unix.IoctlFileClone(int(w.Fd()), int(r.Fd()))
	if err == nil {
		return true, nil
	}
	st, err := r.Stat()
	if err != nil {
		return false, err
	}
	if err := w.Truncate(st.Size()); err != nil {
		return false, err
	}
	for at := int64(0); at < st.Size(); {
		start, err := unix.Seek(int(r.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err != nil {
			return false, fmt.Errorf("holes of %s: %w", r.Name(), err)
		}
		end, err := unix.Seek(int(r.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return false, fmt.Errorf("holes of %s: %w", r.Name(), err)
		}
		// In pieces, so that an order that is cancelled ends.
		end = min(end, start+64<<20)
		if _, err := io.Copy(io.NewOffsetWriter(w, start), io.NewSectionReader(r, start, end-start)); err != nil {
			return false, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		at = end
	}
	return false, nil
}
