package metrics

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

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
		if b.err != nil && !passing(b.err) {
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
