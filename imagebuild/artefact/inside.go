package artefact

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"nutshell/imagebuild/disk"
	"nutshell/imagebuild/ova"
	"nutshell/imagebuild/qcow2"
	"nutshell/imagebuild/recipe"
	"nutshell/roles/api"
)

// inside looks into one file of an image.
func (c Checks) inside(ctx context.Context, file string, f File) ([]string, error) {
	c.Progress("inside of "+f.Name, 0)
	var facts []string
	var err error
	switch f.Format {
	case recipe.OVA:
		facts, err = c.insideOVA(ctx, file)
	case recipe.QCOW2:
		facts, err = c.insideQCOW2(ctx, file)
	case recipe.Raw:
		var info os.FileInfo
		if info, err = os.Stat(file); err == nil {
			facts, err = c.disk(ctx, file, info.Size())
		}
	case recipe.SDCard:
		facts, err = checkCard(ctx, file)
	case recipe.LXC, recipe.Unified:
		facts, err = insideTar(ctx, file)
	}
	var cannot *api.Error
	switch {
	case err == nil:
		return facts, nil
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, errNoRoom):
		return nil, &api.Error{Code: api.CodeUnavailable, Op: "check", Object: f.Name, Err: err, Hint: "make room, or check it where there is more"}
	case errors.As(err, &cannot) && cannot.Code != api.CodeInvalid: // of the programs that look into it
		return nil, err
	}
	return nil, refused(file, "its inside is wrong: "+err.Error(), "build it again")
}

func (c Checks) insideOVA(ctx context.Context, file string) ([]string, error) {
	said := ""
	more, err := c.unpacked(ctx, file, func(in *os.File, each func(int64, []byte) error) (int64, error) {
		facts, err := ova.Check(in, each)
		said = fmt.Sprintf("machine %s: %d processors, %d MB, %s, disk of %d GB", facts.Name, facts.CPUs, facts.MemoryMB, strings.Join(facts.Networks, "+"), facts.Capacity>>30)
		return facts.Capacity, err
	})
	return append([]string{said}, more...), err
}

func (c Checks) insideQCOW2(ctx context.Context, file string) ([]string, error) {
	return c.unpacked(ctx, file, func(in *os.File, each func(int64, []byte) error) (int64, error) { return qcow2.Read(in, each) })
}

// unpacked looks at the disk that read finds in a file.
func (c Checks) unpacked(ctx context.Context, file string, read func(in *os.File, each func(at int64, data []byte) error) (capacity int64, err error)) ([]string, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	raw, err := scratch(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	room, err := roomFor(raw)
	if err != nil {
		return nil, err
	}
	capacity, err := read(in, func(at int64, data []byte) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if allZero(data) { // a hole of the disk, that somebody packed
			return nil
		}
		if room -= int64(len(data)); room < 0 {
			return errNoRoom
		}
		_, err := raw.WriteAt(data, at)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := raw.Truncate(capacity); err != nil {
		return nil, err
	}
	return c.disk(ctx, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), raw.Fd()), capacity)
}

var errNoRoom = errors.New("its disk takes more room unpacked than there is beside the file")

// roomFor is how much a file may grow. A little is left to others: a few bytes
// can be packed that unpack to more than any disk has.
func roomFor(f *os.File) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil { // a file descriptor
		return 0, err
	}
	return int64(st.Bavail)*st.Bsize - keptFree, nil //nolint:gosec // no disk has 2^63 bytes
}

const keptFree = 256 << 20

func allZero(b []byte) bool {
	return len(b) > 0 && b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// scratch is a file without a name: it is gone with us, however we end.
func scratch(dir string) (*os.File, error) {
	for _, d := range []string{dir, os.TempDir()} { // images may lie where nobody may write
		fd, err := unix.Open(d, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), "unpacked disk"), nil // a file descriptor
		}
	}
	f, err := os.CreateTemp("", "nutshell-check-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func (c Checks) disk(ctx context.Context, file string, size int64) ([]string, error) {
	tools, err := c.Tools(ctx)
	if err != nil {
		return nil, err
	}
	parts, err := disk.Check(ctx, tools, file, size)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.Name
	}
	return []string{"partitions " + strings.Join(names, ", ") + " are whole", "boot files are whole", "root file system is clean"}, nil
}

// insideTar reads an archive to its end.
func insideTar(ctx context.Context, file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	t := tar.NewReader(z)
	entries, has := 0, map[string]bool{}
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		entries++
		has[strings.TrimPrefix(strings.TrimPrefix(h.Name, "./"), "rootfs/")] = true
	}
	_, end, _ := BaseOf(file)
	for _, must := range map[string][]string{"-meta.tar.zst": {"metadata.yaml", "config"}, "-rootfs.tar.zst": {"usr/bin/nutshell", "etc/hostname"}, ".tar.zst": {"metadata.yaml", "usr/bin/nutshell"}}[end] {
		if !has[must] {
			return nil, fmt.Errorf("%s is missing", must)
		}
	}
	return []string{fmt.Sprintf("%s has %d entries", filepath.Base(file), entries)}, nil
}
