package archive

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"regexp"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow bounds the memory that a decompressor is made to take; xz -9 uses
// 64 MiB, zstd --long 128 MiB.
const maxWindow = 128 << 20

// reader is an open archive.
type reader struct {
	file   *os.File
	format Format
	size   int64
	limits Limits
}

// visit gets one entry at a time; body is nil for all but files.
type visit func(e entry, body io.Reader) error

func open(path string, limits Limits) (*reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, limits: limits}
	head := make([]byte, HeadBytes)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	if err == nil {
		r.format, err = Detect(path, head[:n])
	}
	if err == nil {
		r.size, err = f.Seek(0, io.SeekEnd)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

func (r *reader) walk(ctx context.Context, v visit) error {
	if r.format == Zip {
		return r.walkZip(ctx, v)
	}
	packed := &counter{r: r.file}
	in := bufio.NewReaderSize(packed, 64<<10)
	var stream io.Reader
	switch r.format {
	case TarGz:
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		stream = z
	case TarBz2:
		stream = bzip2.NewReader(in)
	case TarXz:
		if err := checkXz(r.file, r.size); err != nil {
			return err
		}
		z, err := xz.NewReader(in)
		if err != nil {
			return err
		}
		stream = z
	case TarZst:
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
		defer z.Close()
		stream = z
	default:
		stream = in
	}
	m := &meter{ctx: ctx, r: stream, packed: packed, limits: r.limits}
	if r.format == Tar {
		m.packed = nil // as many bytes come out as go in
	}
	if err := r.walkTar(m, v); err != nil {
		return err
	}
	// What follows the end mark is read too: the compression's checksum stands
	// at its end, and a file that was cut off must not pass.
	_, err := io.Copy(io.Discard, m)
	return err
}

func (r *reader) walkTar(m *meter, v visit) error {
	t := tar.NewReader(m)
	for first := true; ; first = false {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF) && !first && m.zeros < 512:
			return io.ErrUnexpectedEOF // no end mark: it was cut off between two files
		case errors.Is(err, io.EOF):
			return nil
		case first && r.format != Tar && (errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) && m.ended):
			return refusef(formats, "there is no tar archive in the %s file", strings.TrimPrefix(string(r.format), "tar."))
		case err != nil:
			return err
		}
		e := entry{size: h.Size, runnable: h.Mode&0o111 != 0, modified: h.ModTime}
		switch h.Typeflag {
		case tar.TypeXGlobalHeader: // git archive writes one
			continue
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
			e.kind = kindFile
		case tar.TypeDir:
			e.kind = kindDir
		case tar.TypeSymlink:
			e.kind, e.link = kindSymlink, h.Linkname
		case tar.TypeLink:
			e.kind = kindHardLink
			if e.link, err = cleanName(h.Linkname); err != nil {
				return err
			}
		case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
			return special(h.Name)
		default:
			return refusef("make the archive again", "%s is of a kind that is not known: %q", quote(h.Name), h.Typeflag)
		}
		if e.name, err = cleanName(h.Name); err != nil {
			return err
		}
		if unwanted(e.name) {
			continue
		}
		var body io.Reader
		if e.kind == kindFile {
			body = t
		}
		if err := v(e, body); err != nil {
			return err
		}
	}
}

var drive = regexp.MustCompile(`^[A-Za-z]:/`)

func (r *reader) walkZip(ctx context.Context, v visit) error {
	// The directory of a zip file is read into memory, and its length is only
	// what the file claims; so the reading is bounded instead.
	at := &boundedAt{r: r.file, left: int64(r.limits.Files)*meanName + 1<<20, files: r.limits.Files}
	z, err := zip.NewReader(at, r.size)
	if err != nil {
		return err
	}
	at.left = math.MaxInt64
	total := &meter{ctx: ctx, limits: r.limits}
	for _, f := range z.File {
		// Archives made on Windows by old programs have backslashes.
		name := strings.ReplaceAll(zipName(&f.FileHeader), `\`, "/")
		if drive.MatchString(name) {
			return refusef("make the archive again from inside the application's directory", "the name %s is absolute", quote(f.Name))
		}
		e := entry{runnable: f.Mode()&0o111 != 0 && f.Mode().IsRegular(), modified: f.Modified}
		if e.name, err = cleanName(name); err != nil {
			return err
		}
		if unwanted(e.name) {
			continue
		}
		if f.Flags&1 != 0 {
			return refuse("it is encrypted", "make the archive without a password")
		}
		if f.UncompressedSize64 > math.MaxInt64 {
			return refuse("a size in it cannot be", "make the archive again")
		}
		e.size = int64(f.UncompressedSize64)
		switch mode := f.Mode(); {
		case mode.IsDir() || strings.HasSuffix(name, "/"):
			e.kind = kindDir
		case mode&fs.ModeSymlink != 0:
			e.kind = kindSymlink
		case mode.IsRegular():
			e.kind = kindFile
		default:
			return special(f.Name)
		}
		if err := visitZip(f, e, total, v); err != nil {
			return err
		}
	}
	return nil
}

func visitZip(f *zip.File, e entry, total *meter, v visit) error {
	if e.kind == kindDir {
		return v(e, nil)
	}
	body, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		return refusef("make the archive with ordinary compression (deflate)", "%s is compressed in a way that is not supported", quote(e.name))
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if e.kind == kindSymlink {
		target, err := io.ReadAll(io.LimitReader(body, maxPath+1))
		if err != nil {
			return err
		}
		e.link = string(target)
		return v(e, nil)
	}
	total.r = body
	return v(e, total)
}

// unwanted are the notes that macOS adds to zip files for itself.
func unwanted(name string) bool { return name == "__MACOSX" || strings.HasPrefix(name, "__MACOSX/") }

func special(name string) error {
	return refusef("leave it out", "%s is a device, a pipe or a socket", quote(name))
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// meter ends the reading of a stream that grows beyond all measure, whatever
// the headers in it say, and when nobody waits for it any more.
type meter struct {
	ctx    context.Context
	r      io.Reader
	packed *counter // nil: no ratio
	limits Limits
	n      int64
	zeros  int  // how many of the last bytes were zero, up to a block or more
	ended  bool // the stream came to its proper end
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	m.ended = errors.Is(err, io.EOF)
	run := len(p[:n]) - len(bytes.TrimRight(p[:n], "\x00"))
	if run == n {
		run += m.zeros
	}
	m.zeros = run
	switch {
	// Headers and padding come on top of the files' bytes.
	case m.n-m.limits.Bytes > int64(m.limits.Files)*4096:
		return n, tooLarge("it unpacks to more than %s", human(m.limits.Bytes))
	case m.packed != nil && m.n > ratioFrom && m.n/maxRatio > m.packed.n:
		return n, tooLarge("it unpacks to more than %d times its size, as only a bomb does", maxRatio)
	}
	return n, err
}

// boundedAt stops a reader that reads too much.
type boundedAt struct {
	r     io.ReaderAt
	left  int64
	files int
}

func (b *boundedAt) ReadAt(p []byte, off int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, tooLarge("it has more than %d files", b.files)
	}
	return b.r.ReadAt(p, off)
}

// human shows bytes as people do.
func human(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}
