package session

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of what a store takes.
const (
	maxKey   = 1 << 10
	maxValue = 1 << 20
)

// entry is one session, or what is told of one between stores. Of two with
// the same key the one with the higher version is true.
type entry struct {
	Key     string
	Version uint64 // nanoseconds since 1970, never less than what was seen before
	Expires int64  // milliseconds since 1970
	Deleted bool   // a tombstone, so that a store that was away does not bring the session back
	Value   []byte
}

// after reports whether e replaces o, which is what a store has.
func (e entry) after(o entry) bool {
	return e.Version > o.Version || e.Version == o.Version && e.Expires > o.Expires
}

// live reports whether e is a session at a time in milliseconds.
func (e entry) live(now int64) bool { return e.Version > 0 && !e.Deleted && e.Expires > now }

func (e entry) size() int64 { return int64(len(e.Key)+len(e.Value)) + 64 }

// appendRecord writes all of an entry but its key.
func appendRecord(b []byte, e entry) []byte {
	b = binary.BigEndian.AppendUint64(b, e.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Expires)) //nolint:gosec // bits, read back as they are
	if e.Deleted {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	return append(b, e.Value...)
}

const recordHead = 17

func parseRecord(key string, b []byte) (entry, error) {
	if len(b) < recordHead {
		return entry{}, fmt.Errorf("session %s: %d bytes are no record", key, len(b))
	}
	return entry{Key: key, Version: binary.BigEndian.Uint64(b), Expires: int64(binary.BigEndian.Uint64(b[8:])), Deleted: b[16] == 1, //nolint:gosec // see appendRecord
		Value: b[recordHead:]}, nil
}

// encode writes entries as they go from store to store.
func encode(list ...entry) []byte {
	var b []byte
	for _, e := range list {
		b = binary.AppendUvarint(b, uint64(len(e.Key)))
		b = append(b, e.Key...)
		b = binary.AppendUvarint(b, uint64(recordHead+len(e.Value)))
		b = appendRecord(b, e)
	}
	return b
}

var errBroken = errors.New("entries are cut off")

func decode(b []byte) ([]entry, error) {
	var list []entry
	next := func(most int) ([]byte, error) {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(most) || uint64(len(b)-w) < n { //nolint:gosec // most is positive
			return nil, errBroken
		}
		piece := b[w : w+int(n)] //nolint:gosec // at most most
		b = b[w+int(n):]         //nolint:gosec // at most most
		return piece, nil
	}
	for len(b) > 0 {
		key, err := next(maxKey)
		if err != nil {
			return nil, err
		}
		record, err := next(recordHead + maxValue)
		if err != nil {
			return nil, err
		}
		e, err := parseRecord(string(key), record)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}
