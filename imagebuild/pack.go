package imagebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"nutshell/imagebuild/tree"
)

// A layer may lie in the store as one file, in the form in which layers travel:
// in place of its root file system, where this machine only hands it out, or
// beside it. packWindow bounds what a small machine needs to read it.
const packWindow = 8 << 20

func (s *Store) packFile(digest string) string { return s.path("packed", digest+".tar.zst") }

// Packed is a layer as one file.
type Packed struct {
	Layer
	File  string
	Bytes int64 // of the file
}

// Pack makes one file of a finished layer, as small as it gets, and keeps it
// for the next time. The same layer gives the same bytes.
func (s *Store) Pack(ctx context.Context, digest string, progress Progress) (Packed, error) {
	l, err := s.read(digest)
	if err != nil {
		return Packed{}, err
	}
	file := s.packFile(digest)
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = s.builds.do(ctx, "pack "+digest, func(step string, fraction float64) {
			if progress != nil {
				progress(step, fraction)
			}
		}, func(ctx context.Context, progress Progress) error { return s.pack(ctx, l, progress) })
		if err == nil {
			info, err = os.Stat(file)
		}
	}
	if err != nil {
		return Packed{}, fmt.Errorf("pack layer %s: %w", l.Name, err)
	}
	return Packed{Layer: l, File: file, Bytes: info.Size()}, nil
}

func (s *Store) pack(ctx context.Context, l Layer, progress Progress) (err error) {
	unlock, err := lock(ctx, s.path("lock"), func() { progress("waiting for another image build", 0) })
	if err != nil {
		return err
	}
	defer unlock()
	work, err := os.MkdirTemp(s.path("build"), "pack-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	f, err := os.Create(filepath.Join(work, "pack"))
	if err != nil {
		return err
	}
	err = writeLayer(ctx, l, f, func(fraction float64) { progress("packing "+l.Name+" for "+l.Arch, fraction) }, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(packWindow))
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.MkdirAll(s.path("packed"), 0o755); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.packFile(l.Digest))
}

// writeLayer writes a layer in the form in which it travels.
func writeLayer(ctx context.Context, l Layer, w io.Writer, progress func(float64), options ...zstd.EOption) error {
	meta, err := l.meta()
	if err != nil {
		return err
	}
	t, err := tree.New()
	if err != nil {
		return err
	}
	t.Write(layerMeta, meta, 0o644)
	if err := t.Copy(l.Dir, layerRoot); err != nil {
		return err
	}
	z, err := zstd.NewWriter(w, options...)
	if err != nil {
		return err
	}
	if err := t.WriteTar(ctx, z, l.Created, progress); err != nil {
		return errors.Join(err, z.Close())
	}
	return z.Close()
}

// unpacked reports whether the root file system of a layer lies here.
func (s *Store) unpacked(digest string) bool {
	info, err := os.Stat(s.rootDir(digest))
	return err == nil && info.IsDir()
}

// unpack sees to it that the root file system of a finished layer lies here,
// where it came as one file.
func (s *Store) unpack(ctx context.Context, digest string, progress Progress) error {
	if s.unpacked(digest) {
		return nil
	}
	return s.builds.do(ctx, digest, progress, func(ctx context.Context, progress Progress) error {
		progress("unpacking", 0)
		f, err := os.Open(s.packFile(digest))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = s.take(ctx, digest, f)
		return err
	})
}
