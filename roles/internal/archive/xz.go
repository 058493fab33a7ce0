package archive

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// checkXz walks through the frames of an xz file without unpacking them. The
// xz library takes as much memory as a block's header asks for, up to 4 GiB
// and in any block, so each is looked at before the library is let in.
// The numbers are those of the xz file format 1.2.1, sections 2 to 4, and of
// LZMA2's chunk headers.
func checkXz(f io.ReaderAt, size int64) error {
	s := &xzScan{in: bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 64<<10)}
	for s.err == nil {
		if _, err := s.in.Peek(1); errors.Is(err, io.EOF) {
			return nil
		}
		if s.peek() == 0 { // stream padding
			s.skip(4)
			continue
		}
		s.stream()
	}
	return s.err
}

var errXz = errors.New("the xz frames are not in order")

type xzScan struct {
	in  *bufio.Reader
	at  int64
	err error
	buf [1024]byte
}

func (s *xzScan) read(n int) []byte {
	b := s.buf[:n]
	clear(b)
	if s.err == nil {
		_, s.err = io.ReadFull(s.in, b)
		s.at += int64(n)
	}
	return b
}

func (s *xzScan) peek() byte {
	b, err := s.in.Peek(1)
	if err != nil {
		s.err = io.ErrUnexpectedEOF
		return 0
	}
	return b[0]
}

func (s *xzScan) skip(n int64) {
	if s.err == nil {
		_, s.err = s.in.Discard(int(n))
		s.at += n
	}
}

func (s *xzScan) fail() {
	if s.err == nil {
		s.err = errXz
	}
}

func (s *xzScan) stream() {
	h := s.read(12)
	check, ok := map[byte]int64{0: 0, 1: 4, 4: 8, 10: 32}[h[7]]
	if string(h[:6]) != "\xfd7zXZ\x00" || h[6] != 0 || !ok {
		s.fail()
		return
	}
	start := s.at
	for s.err == nil && s.peek() != 0 {
		s.block()
		s.align(start)
		s.skip(check)
	}
	start = s.at // the index
	s.skip(1)
	for n := 2 * s.number(); n > 0 && s.err == nil; n-- {
		s.number()
	}
	s.align(start)
	s.skip(4 + 12) // its checksum, the stream's footer
}

func (s *xzScan) block() {
	length := (int(s.peek()) + 1) * 4
	h := s.read(length)
	flags, rest := h[1], h[2:length-4]
	for _, bit := range []byte{0x40, 0x80} { // packed and unpacked size, if there
		if flags&bit != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				s.fail()
				return
			}
			rest = rest[n:]
		}
	}
	// LZMA2 alone, as everybody makes it; others (for machine code) the library cannot read either.
	if flags&0x3f != 0 || len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 || rest[2] > 40 {
		s.fail()
		return
	}
	if bits := uint64(rest[2]); (2|bits&1)<<(bits/2+11) > maxWindow {
		if s.err == nil {
			s.err = tooLarge("it wants more than %s of memory to be unpacked", human(maxWindow))
		}
		return
	}
	for s.err == nil {
		switch c := s.read(1)[0]; {
		case c == 0:
			return
		case c == 1 || c == 2: // stored
			s.skip(int64(binary.BigEndian.Uint16(s.read(2))) + 1)
		case c >= 0x80:
			packed := int64(binary.BigEndian.Uint16(s.read(4)[2:])) + 1
			if c >= 0xc0 {
				packed++ // properties
			}
			s.skip(packed)
		default:
			s.fail()
		}
	}
}

func (s *xzScan) align(start int64) { s.skip((4 - (s.at-start)%4) % 4) }

func (s *xzScan) number() uint64 {
	var n uint64
	for shift := 0; shift < 63 && s.err == nil; shift += 7 {
		b := s.read(1)[0]
		n |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			return n
		}
	}
	s.fail()
	return 0
}
