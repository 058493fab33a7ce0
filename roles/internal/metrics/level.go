package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
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
	tried  time.Time    // to open it
	memory string       // directory for what need not outlive the process
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
// A disk that is full, say, is no reason for that: then it is tried again.
func (l *level) open() {
	l.setAsideBroken()
	db, err := l.try()
	for _, names := range [][]string{{"wal", "wbl", "chunks_head"}, {"."}} {
		if err == nil || passing(err) {
			break
		}
		l.setAside(err, names...)
		db, err = l.try()
	}
	if err != nil && (l.why == nil || l.why.Error() != err.Error()) {
		l.log.Error("no history is kept", "directory", l.dir, "error", err)
	}
	l.db, l.why, l.tried = db, err, time.Now()
}

// passing reports whether an error says nothing of the database itself.
func passing(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM},
		func(e error) bool { return errors.Is(err, e) })
}

func (l *level) try() (*tsdb.DB, error) {
	l.useMemory()
	if err := l.room(); err != nil {
		return nil, err
	}
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

func (l *level) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return nil
	}
	err := l.db.Close()
	l.db, l.why = nil, errors.New("it is closed")
	l.leaveMemory()
	return err
}

// append writes rows. A full disk loses them and nothing else.
func (l *level) append(rows []row, at int64) {
	if len(rows) == 0 {
		return
	}
	l.again()
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

// again opens the database that could not be opened a while ago.
func (l *level) again() {
	l.mu.RLock() // queries are not waited for as long as all is well
	due := l.db == nil && passing(l.why) && time.Since(l.tried) > time.Minute
	l.mu.RUnlock()
	if due {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open()
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
			old = true
		case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
			// two posts in one millisecond
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

// reading keeps the database open for a query.
func (l *level) reading() (db *tsdb.DB, done func(), err error) {
	l.mu.RLock()
	if l.db == nil {
		defer l.mu.RUnlock()
		return nil, nil, &api.Error{Code: api.CodeUnavailable, Op: "read", Object: "history", Message: "no history is kept", Err: fmt.Errorf("%s: %w", l.dir, l.why),
			Hint: "see the director's log"}
	}
	return l.db, l.mu.RUnlock, nil
}
