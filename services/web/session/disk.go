package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

var (
	bucketSessions = []byte("sessions") // key → record
	bucketExpiry   = []byte("expiry")   // time of expiry and key → nothing
)

// disk keeps the entries of one store. A write is with the kernel when it
// returns, so that a killed process loses nothing, and on the disk within a
// second; what a machine loses with its power the other stores have.
type disk struct {
	db    *bolt.DB
	limit atomic.Int64
	used  atomic.Int64
}

// openDisk opens or makes the file. One that is broken, which a loss of power
// can do, is put aside: the other stores fill the new one.
func openDisk(path string, log *slog.Logger) (*disk, error) {
	d, err := tryDisk(path)
	if err == nil || !errors.Is(err, errDamaged) {
		return d, err
	}
	log.Error("sessions on this instance's disk are damaged; fetching them from the other instances", "error", err)
	if err := os.Rename(path, path+".damaged"); err != nil {
		return nil, err
	}
	return tryDisk(path)
}

var errDamaged = errors.New("damaged")

func tryDisk(path string) (d *disk, err error) {
	defer func() { // bbolt panics on pages that make no sense
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: %v", path, errDamaged, p)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second, NoSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
	if err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, bolt.ErrTimeout) {
			return nil, fmt.Errorf("open sessions: %w", err)
		}
		return nil, fmt.Errorf("%s: %w: %w", path, errDamaged, err)
	}
	db.MaxBatchDelay = 0
	d = &disk{db: db}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err1 := tx.CreateBucketIfNotExists(bucketExpiry)
		s, err2 := tx.CreateBucketIfNotExists(bucketSessions)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return s.ForEach(func(k, v []byte) error {
			e, err := parseRecord(string(k), v)
			d.used.Add(e.size())
			return err
		})
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w: %w", path, errDamaged, err), db.Close())
	}
	return d, nil
}

func (d *disk) close() error { return errors.Join(d.db.Sync(), d.db.Close()) }

func (d *disk) get(key string) (e entry, err error) {
	err = d.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketSessions).Get([]byte(key))
		if v == nil {
			return nil
		}
		var err error
		e, err = parseRecord(key, append([]byte(nil), v...)) // v ends with the transaction
		return err
	})
	return e, err
}

// update is a transaction; what it did not write is not counted either.
func (d *disk) update(f func(*bolt.Tx) error) error {
	var added int64
	err := d.db.Update(func(tx *bolt.Tx) error {
		before := d.used.Load()
		err := f(tx)
		added = d.used.Load() - before
		return err
	})
	if err != nil {
		d.used.Add(-added)
	}
	return err
}

// put takes the entries that are after what there is.
func (d *disk) put(list ...entry) error {
	if len(list) == 0 {
		return nil
	}
	return d.update(func(tx *bolt.Tx) error {
		for _, e := range list {
			if err := d.putOne(tx, e); err != nil {
				return err
			}
		}
		return d.evict(tx)
	})
}

func (d *disk) putOne(tx *bolt.Tx, e entry) error {
	s := tx.Bucket(bucketSessions)
	if old := s.Get([]byte(e.Key)); old != nil {
		had, err := parseRecord(e.Key, old)
		if err != nil {
			return err
		}
		if !e.after(had) {
			return nil
		}
		if err := d.remove(tx, had); err != nil {
			return err
		}
	}
	d.used.Add(e.size())
	if err := tx.Bucket(bucketExpiry).Put(expiryKey(e), nil); err != nil {
		return err
	}
	return s.Put([]byte(e.Key), appendRecord(make([]byte, 0, recordHead+len(e.Value)), e))
}

// touch keeps a session longer. Less than a second more is not worth a write.
func (d *disk) touch(key string, expires int64) error {
	e, err := d.get(key)
	if err != nil || !e.live(0) || expires < e.Expires+1000 {
		return err
	}
	e.Expires = expires
	return d.put(e)
}

func (d *disk) remove(tx *bolt.Tx, e entry) error {
	d.used.Add(-e.size())
	if err := tx.Bucket(bucketExpiry).Delete(expiryKey(e)); err != nil {
		return err
	}
	return tx.Bucket(bucketSessions).Delete([]byte(e.Key))
}

func expiryKey(e entry) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(e.Expires)), e.Key...) //nolint:gosec // times are positive
}

// evict makes room. What is to expire first was not used for longest.
func (d *disk) evict(tx *bolt.Tx) error {
	limit := d.limit.Load()
	if limit <= 0 || d.used.Load() <= limit {
		return nil
	}
	return d.removeOldest(tx, func(entry) bool { return d.used.Load() > limit })
}

// expire removes what has expired.
func (d *disk) expire(now int64) error {
	return d.update(func(tx *bolt.Tx) error {
		return d.removeOldest(tx, func(e entry) bool { return e.Expires <= now })
	})
}

// due reports whether expire has something to do, without a write.
func (d *disk) due(now int64) bool {
	is := false
	_ = d.db.View(func(tx *bolt.Tx) error {
		k, _ := tx.Bucket(bucketExpiry).Cursor().First()
		is = len(k) >= 8 && int64(binary.BigEndian.Uint64(k)) <= now //nolint:gosec // see expiryKey
		return nil
	})
	return is
}

func (d *disk) removeOldest(tx *bolt.Tx, more func(entry) bool) error {
	s, x := tx.Bucket(bucketSessions), tx.Bucket(bucketExpiry)
	for {
		k, _ := x.Cursor().First()
		if len(k) < 8 {
			return nil
		}
		key := string(k[8:])
		v := s.Get([]byte(key))
		if v == nil {
			if err := x.Delete(k); err != nil {
				return err
			}
			continue
		}
		e, err := parseRecord(key, v)
		if err != nil {
			return err
		}
		if !more(e) {
			return nil
		}
		if err := d.remove(tx, e); err != nil {
			return err
		}
	}
}

// page lists up to n entries behind a key, in order, so that going through
// all of them holds up nobody.
func (d *disk) page(after string, n int) (list []entry, err error) {
	err = d.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketSessions).Cursor()
		k, v := c.Seek([]byte(after))
		if string(k) == after {
			k, v = c.Next()
		}
		for ; k != nil && len(list) < n; k, v = c.Next() {
			e, err := parseRecord(string(k), append([]byte(nil), v...))
			if err != nil {
				return err
			}
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// drop removes an entry that others keep, unless it has changed.
func (d *disk) drop(e entry) error {
	return d.update(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketSessions).Get([]byte(e.Key))
		if v == nil {
			return nil
		}
		now, err := parseRecord(e.Key, v)
		if err != nil || now.after(e) {
			return err
		}
		return d.remove(tx, now)
	})
}

func (d *disk) count() (n int) {
	_ = d.db.View(func(tx *bolt.Tx) error {
		n = tx.Bucket(bucketSessions).Stats().KeyN
		return nil
	})
	return n
}

// generation changes with every write.
func (d *disk) generation() int {
	id := 0
	_ = d.db.View(func(tx *bolt.Tx) error {
		id = tx.ID()
		return nil
	})
	return id
}
