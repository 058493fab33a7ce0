package gitserver

import (
	"bufio"
	"errors"
	"io"
)

// delta reads a delta, which makes an object of another one: it holds both
// sizes, then orders to copy a piece of the base or to insert what follows.
type delta struct {
	in  *bufio.Reader
	buf [64 << 10]byte
}

// size reads a number of the head of a delta.
func (d *delta) number() (int64, error) {
	var n int64
	for shift := 0; ; shift += 7 {
		b, err := d.in.ReadByte()
		if err != nil {
			return 0, short(err)
		}
		if shift > 56 {
			return 0, damaged("a delta's size is too large")
		}
		n |= int64(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
}

// sizes reads the sizes of the base and of the result.
func (d *delta) sizes() (base, result int64, err error) {
	if base, err = d.number(); err != nil {
		return 0, 0, err
	}
	result, err = d.number()
	return base, result, err
}

// apply writes the result. Everything is checked: a delta is hostile input.
func (d *delta) apply(base *content, w io.Writer, result int64) error {
	for result > 0 {
		op, err := d.in.ReadByte()
		if err != nil {
			return short(err)
		}
		var n int64
		switch {
		case op == 0:
			return damaged("a delta holds an order that means nothing")
		case op < 0x80:
			if n = int64(op); n > result {
				return damaged("a delta makes more than it says")
			}
			if err := d.move(w, d.in, n); err != nil {
				return err
			}
		default:
			var at int64
			if at, n, err = d.copyOrder(op); err != nil {
				return err
			}
			if n > result || at+n > base.size {
				return damaged("a delta copies what its base has not")
			}
			if base.file == nil {
				_, err = w.Write(base.bytes[at : at+n])
			} else {
				err = d.move(w, io.NewSectionReader(base, at, n), n)
			}
			if err != nil {
				return err
			}
		}
		result -= n
	}
	if _, err := d.in.ReadByte(); !errors.Is(err, io.EOF) {
		return damaged("a delta goes on behind its end")
	}
	return nil
}

func (d *delta) copyOrder(op byte) (at, n int64, err error) {
	for i := range 7 {
		if op&(1<<i) == 0 {
			continue
		}
		b, err := d.in.ReadByte()
		if err != nil {
			return 0, 0, short(err)
		}
		if i < 4 {
			at |= int64(b) << (8 * i)
		} else {
			n |= int64(b) << (8 * (i - 4))
		}
	}
	if n == 0 {
		n = 0x10000
	}
	return at, n, nil
}

func (d *delta) move(w io.Writer, r io.Reader, n int64) error {
	for n > 0 {
		part := d.buf[:min(n, int64(len(d.buf)))]
		if _, err := io.ReadFull(r, part); err != nil {
			return short(err)
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		n -= int64(len(part))
	}
	return nil
}

func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("a delta breaks off")
	}
	return err
}
