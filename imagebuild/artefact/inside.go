package artefact

import (
	"archive/tar"
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
	if err != nil {
		return nil, refused(file, "its inside is wrong: "+err.Error(), "build it again")
	}
	return facts, nil
}

func (c Checks) insideOVA(ctx context.Context, file string) ([]string, error) {
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
	facts, err := ova.Check(in, func(at int64, data []byte) error {
		_, err := raw.WriteAt(data, at)
		return errors.Join(err, context.Cause(ctx))
	})
	if err != nil {
		return nil, err
	}
	said := fmt.Sprintf("machine %s: %d processors, %d MB, %s, disk of %d GB", facts.Name, facts.CPUs, facts.MemoryMB, strings.Join(facts.Networks, "+"), facts.Capacity>>30)
	more, err := c.unpacked(ctx, raw, facts.Capacity)
	return append([]string{said}, more...), err
}

func (c Checks) insideQCOW2(ctx context.Context, file string) ([]string, error) {
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
	capacity, err := qcow2.Read(in, func(at int64, data []byte) error {
		_, err := raw.WriteAt(data, at)
		return errors.Join(err, context.Cause(ctx))
	})
	if err != nil {
		return nil, err
	}
	return c.unpacked(ctx, raw, capacity)
}

// scratch is a file without a name: it is gone with us, however we end.
func scratch(dir string) (*os.File, error) {
	for _, d := range []string{dir, os.TempDir()} { // images may lie where nobody may write
		fd, err := unix.Open(d, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return os.NewFile(uintptr(fd), "unpacked disk"), nil //nolint:gosec // a file descriptor
		}
	}
	f, err := os.CreateTemp("", "nutshell-check-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func (c Checks) unpacked(ctx context.Context, raw *os.File, capacity int64) ([]string, error) {
	if err := raw.Truncate(capacity); err != nil {
		return nil, err
	}
	return c.disk(ctx, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), raw.Fd()), capacity)
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
	z, err := zstd.NewReader(f)
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
