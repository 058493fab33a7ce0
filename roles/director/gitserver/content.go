package gitserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
)

// errDamaged is a pack that does not follow git's format.
var errDamaged = errors.New("the pack is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errDamaged, fmt.Sprintf(format, args...))
}

// inMemory is the size from which an object that must be there as a whole, as
// the base of a delta must, lies in a file.
const inMemory = 4 << 20

// content is the whole of one object: in memory, or in a file without a name.
type content struct {
	size, have int64
	bytes      []byte
	file       *os.File
	out        *bufio.Writer
}

// newContent makes room for an object of a size, in a file of dir if it is
// large or asked for.
func newContent(dir string, size int64, inFile bool) (*content, error) {
	c := &content{size: size}
	if !inFile && size <= inMemory {
		c.bytes = make([]byte, 0, size)
		return c, nil
	}
	f, err := os.CreateTemp(dir, "object-*")
	if err != nil {
		return nil, err
	}
	c.file, c.out = f, bufio.NewWriterSize(f, 64<<10)
	return c, os.Remove(f.Name()) // it lives until it is closed, and never longer than we do
}

// Write takes what belongs to the object, and no more than that.
func (c *content) Write(p []byte) (int, error) {
	if c.have += int64(len(p)); c.have > c.size {
		return 0, damaged("an object is longer than it says")
	}
	if c.file != nil {
		return c.out.Write(p)
	}
	c.bytes = append(c.bytes, p...)
	return len(p), nil
}

// done ends writing.
func (c *content) done() error {
	if c.have != c.size {
		return damaged("an object is shorter than it says")
	}
	if c.file != nil {
		return c.out.Flush()
	}
	return nil
}

// ReadAt reads a part of it.
func (c *content) ReadAt(p []byte, at int64) (int, error) {
	if c.file != nil {
		return c.file.ReadAt(p, at)
	}
	if at > int64(len(c.bytes)) {
		return 0, io.EOF
	}
	n := copy(p, c.bytes[at:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (c *content) reader() io.Reader { return io.NewSectionReader(c, 0, c.size) }

// whole is all of it in memory.
func (c *content) whole() ([]byte, error) {
	if c.file == nil {
		return c.bytes, nil
	}
	b := make([]byte, c.size)
	_, err := io.ReadFull(c.reader(), b)
	return b, err
}

func (c *content) close() {
	if c != nil && c.file != nil {
		_ = c.file.Close()
	}
}

// inflater unpacks zlib streams; it is reused because making one is dear.
type inflater struct {
	z   io.ReadCloser
	buf []byte
}

// inflaters holds inflaters that nobody uses.
type inflaters struct{ pool sync.Pool }

// inflate writes the stream that from stands at to w and leaves from behind
// it. It must be as long as it says.
func (p *inflaters) inflate(from *bufio.Reader, w io.Writer, size int64) error {
	f, ok := p.pool.Get().(*inflater)
	if !ok {
		f = &inflater{buf: make([]byte, 32<<10)}
	}
	defer p.pool.Put(f)
	var err error
	if f.z == nil {
		f.z, err = zlib.NewReader(from)
	} else {
		err = f.z.(zlib.Resetter).Reset(from, nil)
	}
	if err != nil {
		f.z = nil
		return notWhole(err)
	}
	n, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(f.z, size+1), f.buf)
	if err == nil && n > size {
		return damaged("an object is longer than it says")
	}
	if err == nil && n < size {
		return damaged("an object is shorter than it says")
	}
	if err == nil { // its checksum stands behind its end
		_, err = f.z.Read(f.buf[:1])
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return notWhole(err)
}

// unpacker gives the unpacked bytes of a delta to whom applies it.
type unpacker struct{ small bytes.Buffer }

// read unpacks a small delta first, and a large one while it is used.
func (u *unpacker) read(p *inflaters, in *bufio.Reader, size int64, use func(io.Reader) error) error {
	if size <= inMemory {
		u.small.Reset()
		if err := p.inflate(in, &u.small, size); err != nil {
			return err
		}
		return use(&u.small)
	}
	packed, write := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = write.CloseWithError(p.inflate(in, write, size)) // whoever reads gets the error
	}()
	err := use(packed)
	_ = packed.Close() // the other side ends, too
	<-ended
	return err
}

type onlyWriter struct{ io.Writer } // no ReadFrom: the buffer is ours

// notWhole tells a stream that breaks off from one that is wrong.
func notWhole(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, zlib.ErrChecksum), errors.Is(err, zlib.ErrHeader), errors.Is(err, zlib.ErrDictionary):
		return damaged("%v", err)
	}
	if bad := flate.CorruptInputError(0); errors.As(err, &bad) {
		return damaged("%v", err)
	}
	return err
}
