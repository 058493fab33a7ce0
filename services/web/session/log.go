package session

import (
	"container/heap"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
)

// openDisk opens the log or begins one. What a loss of power has spoilt of it
// is put aside: the other stores send what is missing.
func openDisk(path string, log *slog.Logger) (*disk, error) {
	d := &disk{path: path, index: map[string]*slot{}}
	names, err := filepath.Glob(path + ".[0-9]*[0-9]")
	if err != nil {
		return nil, fmt.Errorf("open sessions: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if _, err := fmt.Sscanf(name[len(path):], ".%d", &d.number); err != nil {
			return nil, fmt.Errorf("open sessions: %s is not of this store", name)
		}
		if err := d.load(name, log); err != nil {
			return nil, errors.Join(fmt.Errorf("open sessions: %w", err), d.close())
		}
	}
	if n := len(d.segments); n > 0 && d.segments[n-1].size < segmentBytes {
		return d, nil
	}
	return d, d.next()
}

func (d *disk) load(name string, log *slog.Logger) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s := &segment{f: f, path: name, size: st.Size()}
	end := int64(0)
	err = s.replay(func(kind byte, e entry, at int64) {
		end = at + logBytes(e.Key, len(e.Value))
		if kind == isTouch {
			if had := d.index[e.Key]; had != nil && had.Version == e.Version && e.Expires > had.Expires {
				had.Expires = e.Expires
				heap.Fix(&d.expiry, had.place)
			}
			return
		}
		d.take(e, s, at)
	})
	if errors.Is(err, errTorn) {
		log.Error("sessions on this instance's disk are damaged; fetching them from the other instances", "error", err, "kept", end)
		if err := aside(name); err != nil {
			log.Warn("the damaged file is not kept", "error", err)
		}
		err = f.Truncate(end)
		s.size = end
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.segments = append(d.segments, s)
	return nil
}

// aside keeps a copy of a damaged file, for who wants to know what happened.
func aside(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name+".damaged", b, 0o600)
}

// next begins another file.
func (d *disk) next() error {
	d.number++
	name := fmt.Sprintf("%s.%012d", d.path, d.number)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	d.segments = append(d.segments, &segment{f: f, path: name})
	return nil
}

func (d *disk) close() error {
	err := d.sync()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, s := range slices.Concat(d.segments, d.retired) {
		err = errors.Join(err, s.f.Close())
	}
	d.segments, d.retired = nil, nil
	return err
}

// sync has the disk hold what the kernel has, and removes files that nobody
// needs then. It holds up nobody.
func (d *disk) sync() error {
	d.mu.Lock()
	dirty, retired := d.dirty, d.retired
	d.dirty, d.retired = nil, nil
	d.mu.Unlock()
	var errs []error
	for _, s := range dirty {
		if err := s.f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // closed: it was retired and went
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.dirty, d.retired = slices.Concat(dirty, d.dirty), slices.Concat(retired, d.retired)
		return errors.Join(errs...)
	}
	for _, s := range retired {
		errs = append(errs, s.f.Close(), os.Remove(s.path))
	}
	return errors.Join(errs...)
}

// compact gives up the oldest files while most of the log is dead.
func (d *disk) compact() error {
	for len(d.segments) > 1 {
		var size, live int64
		for _, s := range d.segments {
			size += s.size
			live += s.live
		}
		if size < 2*live+4*segmentBytes {
			return nil
		}
		if err := d.giveUp(d.segments[0]); err != nil {
			return err
		}
	}
	return nil
}

// giveUp adds what is live of the oldest file at the end.
func (d *disk) giveUp(old *segment) error {
	var moved []*slot
	var b []byte
	flush := func() error {
		if len(b) == 0 {
			return nil
		}
		into, err := d.append(b)
		if err != nil {
			return err
		}
		at := into.size - int64(len(b))
		for _, s := range moved {
			old.live -= s.bytes()
			into.live += s.bytes()
			s.segment, s.at = into, at+logHead+int64(len(s.Key))
			at += s.bytes()
		}
		moved, b = moved[:0], b[:0]
		return nil
	}
	var failed error
	err := old.replay(func(kind byte, e entry, at int64) {
		s := d.index[e.Key]
		if failed != nil || kind == isTouch || s == nil || s.segment != old || s.at != at+logHead+int64(len(e.Key)) {
			return
		}
		e.Expires = s.Expires // as it was touched
		moved, b = append(moved, s), appendLog(b, kind, e)
		if len(b) >= 64<<10 {
			failed = flush()
		}
	})
	if err == nil && failed == nil {
		failed = flush()
	}
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	d.segments = d.segments[1:]
	d.retired = append(d.retired, old)
	return nil
}

// append writes records at the end of the log, in the last file or in another.
func (d *disk) append(b []byte) (*segment, error) {
	s := d.segments[len(d.segments)-1]
	if s.size > 0 && s.size+int64(len(b)) > segmentBytes {
		if err := d.next(); err != nil {
			return nil, err
		}
		s = d.segments[len(d.segments)-1]
	}
	if err := s.add(b); err != nil {
		return nil, err
	}
	if !slices.Contains(d.dirty, s) {
		d.dirty = append(d.dirty, s)
	}
	return s, nil
}
