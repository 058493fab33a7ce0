package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/compression"

	"nutshell/roles/api"
)

// patience is how long values are refused as too old before those from the
// future, in whose way they are, are set aside.
const patience = time.Hour

// level is one database.
type level struct {
	dir            string
	block, largest time.Duration // spans of its files
	keep           time.Duration
	bytes          int64
	now            func() time.Time
	log            *slog.Logger

	mu     sync.RWMutex // queries read, opening anew writes
	db     *tsdb.DB     // nil: history is off
	why    error        // then
	refuse time.Time    // since when values are refused as too old, by the clock that only goes forward
	told   bool         // that writing fails
}

// quiet lets only warnings of the database through.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// open opens the database. What keeps it from opening is set aside: first
// single blocks, then what was being written, then everything.
func (l *level) open() {
	l.setAsideBroken()
	db, err := l.try()
	if err != nil {
		l.setAside(err, "wal", "wbl", "chunks_head")
		db, err = l.try()
	}
	if err != nil {
		l.setAside(err, ".")
		db, err = l.try()
	}
	l.db, l.why = db, err
	if err != nil {
		l.log.Error("no history is kept", "directory", l.dir, "error", err)
	}
}

func (l *level) try() (*tsdb.DB, error) {
	o := tsdb.DefaultOptions()
	o.RetentionDuration, o.MaxBytes = l.keep.Milliseconds(), l.bytes
	o.MinBlockDuration, o.MaxBlockDuration = l.block.Milliseconds(), l.largest.Milliseconds()
	o.WALSegmentSize, o.WALCompression = 4<<20, compression.Snappy
	// Sizes for a small machine: the defaults are for millions of series.
	o.StripeSize, o.HeadChunksWriteBufferSize, o.OutOfOrderCapMax = 512, chunks.MinWriteBufferSize, 32
	o.IsolationDisabled = true // a query may see half of a post
	o.NoLockfile = true        // the data directory is locked as a whole
	o.EnableNativeHistograms = true
	o.OutOfOrderTimeWindow = l.jump().Milliseconds()
	return tsdb.Open(l.dir, slog.New(quiet{l.log.Handler()}), nil, o, nil)
}

// jump is how far the clock may be set back with no value lost. A block ends
// at a round time, which may be in the future.
func (l *level) jump() time.Duration { return l.block + time.Hour }

// opened is how a block on the disk looks from outside.
type opened struct {
	until int64
	err   error
}

// blocks opens each block for a moment.
func (l *level) blocks() map[string]opened {
	all := map[string]opened{}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return all // not there yet, or told by opening it
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		b, err := tsdb.OpenBlock(slog.New(quiet{l.log.Handler()}), filepath.Join(l.dir, e.Name()), nil, nil)
		if err != nil {
			all[e.Name()] = opened{err: err}
			continue
		}
		all[e.Name()] = opened{b.MaxTime(), b.Close()}
	}
	return all
}

// setAsideBroken sets aside the blocks that cannot be opened.
func (l *level) setAsideBroken() {
	for name, b := range l.blocks() {
		if b.err != nil {
			l.setAside(b.err, name)
		}
	}
}

// setAside moves parts of the database out of the way. They can be looked at;
// those set aside before are removed, so that a bad disk does not fill itself.
func (l *level) setAside(why error, names ...string) {
	aside := l.dir + "-set-aside-" + l.now().UTC().Format("20060102T150405")
	if old, err := filepath.Glob(l.dir + "-set-aside-*"); err == nil {
		for _, o := range old {
			if o != aside {
				_ = os.RemoveAll(o)
			}
		}
	}
	l.log.Warn("history that cannot be used is set aside", "directory", l.dir, "what", names, "to", aside, "error", why)
	if err := os.MkdirAll(aside, 0o750); err != nil {
		l.log.Error("history not set aside", "error", err)
		return
	}
	for _, n := range names {
		if err := os.Rename(filepath.Join(l.dir, n), filepath.Join(aside, filepath.Base(filepath.Join(l.dir, n)))); err != nil && !errors.Is(err, os.ErrNotExist) {
			l.log.Error("history not set aside", "what", n, "error", err)
		}
	}
}

func (l *level) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return nil
	}
	err := l.db.Close()
	l.db, l.why = nil, errors.New("it is closed")
	return err
}

// append writes rows. A full disk loses them and nothing else.
func (l *level) append(rows []row, at int64) {
	if len(rows) == 0 {
		return
	}
	l.mu.RLock()
	old, err := l.write(rows, at)
	l.mu.RUnlock()
	if err != nil && !l.told {
		l.log.Warn("history not written", "directory", l.dir, "error", err)
	}
	l.told = err != nil
	switch {
	case !old:
		l.refuse = time.Time{}
	case l.refuse.IsZero():
		l.refuse = time.Now()
		l.log.Warn("the clock was set back: nothing is written until it has caught up", "directory", l.dir, "newest", time.UnixMilli(l.newest()).UTC())
	case time.Since(l.refuse) > patience:
		l.refuse = time.Time{}
		l.forgetFuture(at)
	}
}

// write reports whether the rows are too old to be taken.
func (l *level) write(rows []row, at int64) (old bool, err error) {
	if l.db == nil {
		return false, nil
	}
	a := l.db.Appender(context.Background()) // it does not wait for anything
	for _, r := range rows {
		switch {
		case r.counts != nil || r.sum != nil:
			_, err = a.AppendHistogram(0, r.labels, at, r.counts, r.sum)
		default:
			_, err = a.Append(0, r.labels, at, r.value)
		}
		switch {
		case errors.Is(err, storage.ErrTooOldSample) || errors.Is(err, storage.ErrOutOfBounds) || errors.Is(err, storage.ErrOutOfOrderSample):
			old, err = true, nil
		case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
			err = nil // two posts in one millisecond
		case err != nil:
			return old, errors.Join(err, a.Rollback())
		}
	}
	return old, a.Commit()
}

func (l *level) newest() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.db == nil {
		return 0
	}
	return l.db.Head().MaxTime()
}

// forgetFuture sets aside what was written while the clock was ahead.
func (l *level) forgetFuture(now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return
	}
	if err := l.db.Close(); err != nil {
		l.log.Warn("history not closed", "directory", l.dir, "error", err)
	}
	names := []string{"wal", "wbl", "chunks_head"}
	for name, b := range l.blocks() {
		if b.err != nil || b.until > now+l.jump().Milliseconds() {
			names = append(names, name)
		}
	}
	l.setAside(errors.New("it was written while the clock was ahead"), names...)
	l.db, l.why = l.try()
}

// heal looks through all blocks after one could not be read, and sets aside
// those that are damaged.
func (l *level) heal(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return
	}
	var bad []string
	for _, b := range l.db.Blocks() {
		if err := readThrough(b); err != nil {
			why = err
			bad = append(bad, b.Meta().ULID.String())
		}
	}
	if len(bad) == 0 {
		return
	}
	if err := l.db.Close(); err != nil {
		l.log.Warn("history not closed", "directory", l.dir, "error", err)
	}
	l.setAside(why, bad...)
	l.db, l.why = l.try()
}

// readThrough reads every chunk of a block, whose checksums it so checks.
func readThrough(b *tsdb.Block) error {
	q, err := tsdb.NewBlockChunkQuerier(b, b.MinTime(), b.MaxTime())
	if err != nil {
		return err
	}
	defer func() { _ = q.Close() }()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+"))
	var it chunks.Iterator
	var samples chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		for it.Next() {
			samples = it.At().Chunk.Iterator(samples)
			for samples.Next() != chunkenc.ValNone {
			}
			if err := samples.Err(); err != nil {
				return err
			}
		}
		if err := it.Err(); err != nil {
			return err
		}
	}
	return set.Err()
}

// reading keeps the database open for a query.
func (l *level) reading() (db *tsdb.DB, done func(), err error) {
	l.mu.RLock()
	if l.db == nil {
		defer l.mu.RUnlock()
		return nil, nil, &api.Error{Code: api.CodeUnavailable, Op: "read", Object: "history", Message: "no history is kept", Err: fmt.Errorf("%s: %w", l.dir, l.why),
			Hint: "see the director's log; it is tried again when the director starts"}
	}
	return l.db, l.mu.RUnlock, nil
}
