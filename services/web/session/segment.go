package session

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// segmentBytes is where one file of the log ends and the next begins.
const segmentBytes = 4 << 20

// segment is one file of the log. Records are added at its end and never
// changed.
type segment struct {
	f    *os.File
	path string
	size int64
	live int64 // bytes of records that are the newest of their session
}

// A record is its checksum, the lengths of key and value, what it is, and
// then key and value. The checksum is over all that follows it.
const (
	logHead = 4 + 2 + 4 + 8 + 8 + 1

	isSession   = 0
	isTombstone = 1
	isTouch     = 2 // of the session of that version: it lasts longer
)

func appendLog(b []byte, kind byte, e entry) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(e.Key)))   //nolint:gosec // at most maxKey
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Value))) //nolint:gosec // at most maxValue
	b = binary.BigEndian.AppendUint64(b, e.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Expires)) //nolint:gosec // bits, read back as they are
	b = append(b, kind)
	b = append(append(b, e.Key...), e.Value...)
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b[at+4:], castagnoli()))
	return b
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// logBytes is how long a record is.
func logBytes(key string, value int) int64 { return logHead + int64(len(key)) + int64(value) }

// errTorn ends a segment whose last record was not written to its end, or
// whose bytes are not what was written.
var errTorn = errors.New("the log ends in the middle")

// replay reads a segment's records in order.
func (s *segment) replay(each func(kind byte, e entry, at int64)) error {
	r := bufio.NewReaderSize(io.NewSectionReader(s.f, 0, s.size), 256<<10)
	for at := int64(0); at < s.size; {
		head := make([]byte, logHead)
		if _, err := io.ReadFull(r, head); err != nil {
			return fmt.Errorf("%s at %d: %w", s.path, at, errTorn)
		}
		keys, values := int(binary.BigEndian.Uint16(head[4:])), int(binary.BigEndian.Uint32(head[6:]))
		if keys > maxKey || values > maxValue || at+int64(logHead+keys+values) > s.size {
			return fmt.Errorf("%s at %d: %w", s.path, at, errTorn)
		}
		body := make([]byte, keys+values)
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("%s at %d: %w", s.path, at, err)
		}
		sum := crc32.Update(crc32.Checksum(head[4:], castagnoli()), castagnoli(), body)
		if sum != binary.BigEndian.Uint32(head) {
			return fmt.Errorf("%s at %d: %w", s.path, at, errTorn)
		}
		kind := head[26]
		each(kind, entry{Key: string(body[:keys]), Value: body[keys:], Version: binary.BigEndian.Uint64(head[10:]), Expires: int64(binary.BigEndian.Uint64(head[18:])), Deleted: kind == isTombstone}, at) //nolint:gosec // as it was written
		at += int64(logHead + keys + values)
	}
	return nil
}

// add writes records at the end. What was written of them before an error is
// taken back, so that the log stays readable.
func (s *segment) add(b []byte) error {
	if _, err := s.f.WriteAt(b, s.size); err != nil {
		return errors.Join(err, s.f.Truncate(s.size))
	}
	s.size += int64(len(b))
	return nil
}

// value reads what a record holds; at is where the value begins.
func (s *segment) value(at int64, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := s.f.ReadAt(b, at)
	return b, err
}
