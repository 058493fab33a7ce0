package session

import (
	"container/heap"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

// disk keeps the entries of one store: where each is, in memory, and what it
// holds, in a log of files that are only added to. A write is one call of the
// kernel, which has it when that returns: a killed process loses nothing. It
// is on the disk within a second; what a machine loses with its power the
// other stores have. Files are given up in the order in which they were made,
// after what is still needed of them was added again at the end: so what was
// replaced can never come back without what replaced it.
type disk struct {
	path  string // files of the log are this with a number behind it
	limit atomic.Int64
	used  atomic.Int64

	mu       sync.RWMutex
	index    map[string]*slot
	expiry   expiry
	segments []*segment // in order; the last is written
	number   int        // of the last
	dirty    []*segment // written since sync
	retired  []*segment // go when what was moved out of them is on the disk
	closed   bool
}

// slot is where an entry is.
type slot struct {
	entry   // without the value
	segment *segment
	at      int64 // where the value begins
	length  int
	place   int // in expiry
}

func (s *slot) size() int64  { return int64(len(s.Key)+s.length) + 64 }
func (s *slot) bytes() int64 { return logBytes(s.Key, s.length) }

// expiry has the slot that expires first in front.
type expiry []*slot

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (x expiry) Len() int { return len(x) }

// Less is by time.
func (x expiry) Less(i, j int) bool { return x[i].Expires < x[j].Expires }

// Swap keeps places.
func (x expiry) Swap(i, j int) {
	x[i], x[j] = x[j], x[i]
	x[i].place, x[j].place = i, j
}

// Push adds at the end.
func (x *expiry) Push(v any) {
	s := v.(*slot)
	s.place = len(*x)
	*x = append(*x, s)
}

// Pop takes from the end.
func (x *expiry) Pop() any {
	old := *x
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*x = old[:len(old)-1]
	return s
}

// take makes the index point at an entry that is in the log, if it is after
// what there is.
func (d *disk) take(e entry, s *segment, at int64) {
	if had := d.index[e.Key]; had != nil {
		if !e.after(had.entry) {
			return
		}
		d.forget(had)
	}
	n := &slot{entry: e, segment: s, at: at + logHead + int64(len(e.Key)), length: len(e.Value)}
	n.Value = nil
	d.index[e.Key] = n
	heap.Push(&d.expiry, n)
	d.used.Add(n.size())
	s.live += n.bytes()
}

// forget drops an entry from the index. Its record in the log is dead.
func (d *disk) forget(s *slot) {
	delete(d.index, s.Key)
	heap.Remove(&d.expiry, s.place)
	d.used.Add(-s.size())
	s.segment.live -= s.bytes()
}

func (d *disk) get(key string) (entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.read(d.index[key])
}

func (d *disk) read(s *slot) (entry, error) {
	switch {
	case d.closed:
		return entry{}, os.ErrClosed
	case s == nil:
		return entry{}, nil
	}
	e := s.entry
	var err error
	if !e.Deleted {
		e.Value, err = s.segment.value(s.at, s.length)
	}
	return e, err
}

// put takes the entries that are after what there is.
func (d *disk) put(list ...entry) error {
	if len(list) == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return os.ErrClosed
	}
	for len(list) > 0 { // in pieces, so that one large list does not make one large file
		var b []byte
		n := 0
		for ; n < len(list) && len(b) < segmentBytes; n++ {
			b = appendLog(b, kindOf(list[n]), list[n])
		}
		if err := d.add(b, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	d.evict()
	return d.compact()
}

func kindOf(e entry) byte {
	if e.Deleted {
		return isTombstone
	}
	return isSession
}

// add writes records and makes the index point at them.
func (d *disk) add(b []byte, list []entry) error {
	s, err := d.append(b)
	if err != nil {
		return err
	}
	at := s.size - int64(len(b))
	for _, e := range list {
		d.take(e, s, at)
		at += logBytes(e.Key, len(e.Value))
	}
	return nil
}

// touch keeps a session longer. Less than a second more is not worth a write.
func (d *disk) touch(key string, expires int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.index[key]
	if s == nil || !s.live(0) || expires < s.Expires+1000 {
		return nil
	}
	if d.closed {
		return os.ErrClosed
	}
	if _, err := d.append(appendLog(nil, isTouch, entry{Key: key, Version: s.Version, Expires: expires})); err != nil {
		return err
	}
	s.Expires = expires
	heap.Fix(&d.expiry, s.place)
	return d.compact()
}

// evict makes room. What is to expire first was not used for longest.
func (d *disk) evict() {
	limit := d.limit.Load()
	for limit > 0 && d.used.Load() > limit && len(d.expiry) > 0 {
		d.forget(d.expiry[0])
	}
}

// expire removes what has expired.
func (d *disk) expire(now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.expiry) > 0 && d.expiry[0].Expires <= now {
		d.forget(d.expiry[0])
	}
}

// keys are all that there are, in order, so that going through them holds up
// nobody.
func (d *disk) keys() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]string, 0, len(d.index))
	for k := range d.index {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// all reads what there is of some keys.
func (d *disk) all(keys []string) ([]entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []entry
	for _, k := range keys {
		if s := d.index[k]; s != nil {
			e, err := d.read(s)
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// drop removes an entry that others keep, unless it has changed.
func (d *disk) drop(e entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.index[e.Key]; s != nil && !s.after(e) {
		d.forget(s)
	}
}

func (d *disk) count() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.index)
}
