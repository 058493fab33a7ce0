package lxc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nutshell/cloud"
	"nutshell/cloud/shelf"
)

// Copy keeps the image as it is. Where the disk's file system can share
// blocks, it does so at one moment, while programs write: what is kept is what
// a loss of power would leave. Elsewhere the volume has to be at rest.
func (k *keeper) Copy(ctx context.Context, r shelf.Record, to string) (int64, error) {
	_, p, err := k.processesOf(ctx, r)
	if err != nil {
		return 0, err
	}
	if r.Form != formImage {
		if p.Init.Alive() {
			return 0, fmt.Errorf("%w: instance %s runs: stop it, or detach the volume", cloud.ErrInUse, r.Holder)
		}
		return k.trees.Copy(ctx, r, to)
	}
	from, err := lockImage(ctx, image(r))
	if err != nil {
		return 0, err
	}
	defer func() { _ = from.Close() }()
	kept, err := os.OpenFile(filepath.Join(to, imageFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { _ = kept.Close() }()
	if p.Init.Alive() {
		if err := k.flush(p, r); err != nil {
			return 0, err
		}
	}
	if err := unix.IoctlFileClone(int(kept.Fd()), int(from.Fd())); err == nil {
		return 0, kept.Sync()
	}
	if p.Init.Alive() {
		return 0, fmt.Errorf("%w: %s runs, and the file system of %s cannot keep one moment: stop the instance, or detach the volume",
			cloud.ErrInUse, r.Holder, k.d.c.Dir)
	}
	if err := awaitIdle(ctx, image(r), flushTime); err != nil {
		return 0, err
	}
	return copyImage(ctx, kept, from)
}

// flush writes down what programs have written so far.
func (k *keeper) flush(p processes, r shelf.Record) error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/root%s", p.Monitor.PID, k.d.mediaAt(r.Mount)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // not mounted there, or ended
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}

func copyImage(ctx context.Context, to, from *os.File) (int64, error) {
	bytes, err := dataBytes(from)
	if err == nil {
		err = shelf.Room(filepath.Dir(to.Name()), bytes)
	}
	if err != nil {
		return 0, err
	}
	if _, err := shelf.Clone(ctx, to, from); err != nil {
		return 0, err
	}
	return bytes, to.Sync()
}

// Restore copies the image back, and puts it in place in one step. One that
// is smaller than the volume is now grows.
func (k *keeper) Restore(ctx context.Context, r shelf.Record, from string) error {
	if r.Form != formImage {
		return k.trees.Restore(ctx, r, from)
	}
	kept, err := os.Open(filepath.Join(from, imageFile))
	if err != nil {
		return err
	}
	defer func() { _ = kept.Close() }()
	// For a moment there are both, each with its space set aside.
	if err := shelf.Room(r.Dir, r.Bytes); err != nil {
		return err
	}
	fresh := filepath.Join(r.Dir, newPrefix+imageFile)
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err = unix.IoctlFileClone(int(f.Fd()), int(kept.Fd())); err != nil {
		_, err = copyImage(ctx, f, kept)
	}
	if err == nil {
		err = setAside(f, r.Bytes)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(fresh, image(r))
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return growImage(ctx, image(r), r.Bytes)
}
