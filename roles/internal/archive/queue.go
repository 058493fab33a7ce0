package archive

import (
	"bytes"
	"io"
	"sync"
)

// Files up to queueFile are read ahead of their writing, queueFiles of them.
const (
	queueFile  = 256 << 10
	queueFiles = 32
)

// queue lets files be written while the next file is decompressed. Entries are
// written one after another, in the archive's order: each finds what stands
// before it.
type queue struct {
	write  func(entry, io.Reader) error
	jobs   chan job
	spare  chan *bytes.Buffer
	ended  chan struct{}
	waited sync.WaitGroup // for all that was put

	mu  sync.Mutex
	err error // the first; nothing is written after it
}

type job struct {
	e    entry
	body *bytes.Buffer
}

func newQueue(write func(entry, io.Reader) error) *queue {
	q := &queue{write: write, jobs: make(chan job, queueFiles), spare: make(chan *bytes.Buffer, queueFiles), ended: make(chan struct{})}
	go func() {
		defer close(q.ended)
		for j := range q.jobs {
			q.take(j)
			q.waited.Done()
		}
	}()
	return q
}

func (q *queue) take(j job) {
	if q.failed() != nil {
		return
	}
	var body io.Reader
	if j.body != nil {
		body = j.body
	}
	if err := q.write(j.e, body); err != nil {
		q.mu.Lock()
		q.err = err
		q.mu.Unlock()
	}
	if j.body != nil {
		select {
		case q.spare <- j.body:
		default:
		}
	}
}

func (q *queue) failed() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// put writes an entry, sooner or later; what it returns may be the error of an
// earlier one.
func (q *queue) put(e entry, body io.Reader) error {
	if err := q.failed(); err != nil {
		return err
	}
	if body != nil && e.size > queueFile {
		q.waited.Wait()
		if err := q.failed(); err != nil {
			return err
		}
		return q.write(e, body)
	}
	j := job{e: e}
	if body != nil {
		select {
		case j.body = <-q.spare:
			j.body.Reset()
		default:
			j.body = &bytes.Buffer{}
		}
		if _, err := j.body.ReadFrom(io.LimitReader(body, e.size+1)); err != nil {
			return err
		}
	}
	q.waited.Add(1)
	q.jobs <- j
	return nil
}

// close waits for what was put and returns the first error.
func (q *queue) close() error {
	close(q.jobs)
	<-q.ended
	return q.failed()
}
