package sdcard

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Pack writes a card's file packed, as Raspberry Pi Imager takes it: by the
// ending of out, .zst, .xz (smaller, and minutes slower)
// or .gz. The same card gives the same bytes.
func Pack(ctx context.Context, card, out string, progress func(fraction float64)) (err error) {
	in, err := os.Open(card)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(out)
		}
	}()
	var z io.WriteCloser
	switch ending := filepath.Ext(out); ending {
	case ".zst":
		z, err = zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	case ".xz":
		z, err = xz.NewWriter(f)
	case ".gz":
		z = gzip.NewWriter(f)
	default:
		err = fmt.Errorf("pack card as %s: the name must end in .zst, .xz or .gz", filepath.Base(out))
	}
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, &watched{reader{ctx, in}, info.Size(), 0, progress}); err != nil {
		return errors.Join(err, z.Close())
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Sync()
}

// watched tells how much of it was read.
type watched struct {
	r           io.Reader
	total, done int64
	progress    func(float64)
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	w.done += int64(n)
	if w.progress != nil {
		w.progress(float64(w.done) / float64(max(w.total, 1)))
	}
	return n, err
}

// open opens a card or its file, packed or not, by what it begins with.
func open(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	magic := make([]byte, 6)
	if _, err := io.ReadFull(f, magic); err != nil {
		return nil, errors.Join(short(err), f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var r io.Reader = f
	switch {
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var z *zstd.Decoder
		if z, err = zstd.NewReader(f, zstd.WithDecoderMaxWindow(128<<20)); err == nil {
			return unpacked{z, func() error { z.Close(); return f.Close() }}, nil
		}
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		r, err = xz.NewReader(f)
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		r, err = gzip.NewReader(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return unpacked{r, f.Close}, nil
}

type unpacked struct {
	io.Reader
	close func() error
}

func (u unpacked) Close() error { return u.close() }
