package gitserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// A repository with so many packs gets one in their place. Each push brings one.
const (
	tidyPacks = 40
	tidyTime  = 30 * time.Minute
)

// tidy puts packs together beside everything else, where there are many.
func (s *Server) tidy(ctx context.Context, id int64) {
	st := s.state(id)
	names, err := filepath.Glob(filepath.Join(s.path(id), "objects/pack/*.idx"))
	if err != nil || len(names) < tidyPacks || st.tidying.Swap(true) {
		return
	}
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		defer st.tidying.Store(false)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
		defer cancel()
		if err := s.repack(ctx, id); err != nil {
			s.c.Log.Warn("packs of a repository not put together", "app", id, "error", err)
		}
	}()
}

// Wait returns when nothing goes on beside sessions any more.
func (s *Server) Wait() { s.work.Wait() }

// repack makes one pack of all that references show and removes the others.
// When a reference changes meanwhile, everything is left as it was.
func (s *Server) repack(ctx context.Context, id int64) error {
	r, err := s.repository(id, false)
	if err != nil {
		return err
	}
	r.lock.Lock()
	before, err := r.refs()
	if err != nil {
		r.lock.Unlock()
		return err
	}
	o, err := r.lockedObjects(ctx)
	r.lock.Unlock()
	if err != nil {
		return err
	}
	defer o.close()
	w := newWalk(o)
	if err := w.lacks(before.tips(), nil, nil); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(r.dir, "incoming"), "tidy-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	const noLimit = 1 << 62
	x := &indexer{dir: dir, all: -noLimit, limits: Limits{Push: noLimit, File: noLimit}, inflate: &inflaters{}}
	defer x.close()
	read, write := io.Pipe()
	var g errgroup.Group
	g.Go(func() error {
		out := bufio.NewWriterSize(write, 64<<10)
		_, err := o.writePack(out, w.list)
		return write.CloseWithError(errors.Join(err, out.Flush()))
	})
	err = x.takeIn(ctx, bufio.NewReaderSize(read, 64<<10))
	_ = read.CloseWithError(err) // the other side ends, too
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	now, err := r.refs()
	if err != nil {
		return err
	}
	if r.gone || !maps.Equal(before, now) {
		return nil // the next push tries again
	}
	if err := x.keep(r.dir); err != nil {
		return err
	}
	r.tidied.Add(1)
	fresh := filepath.Join(r.dir, "objects/pack", "pack-"+x.sum.String())
	for _, p := range o.packs {
		if p.name == fresh {
			continue
		}
		if err := errors.Join(os.Remove(p.name+".idx"), os.Remove(p.name+".pack")); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(fresh))
}
