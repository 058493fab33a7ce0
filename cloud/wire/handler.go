package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"nutshell/cloud"
)

// Layers finds the root file system of a layer on this machine, fetched first
// if need be. It is asked for one digest by one caller at a time, and goes on
// when the launch that asked has given up.
type Layers func(ctx context.Context, digest string) (dir string, err error)

// layersTime is how long a layer may take to arrive.
const layersTime = 30 * time.Minute

// Handler serves a driver's orders below Prefix. Whoever can send requests to
// it owns this machine: let only the director. An order takes as long as it
// takes; the server must not cut it short by a write timeout. layers may be
// nil where the driver uses none.
func Handler(d cloud.Driver, layers Layers) http.Handler {
	s := &server{d: d, layers: layers, flights: map[string]*flight{}}
	mux := http.NewServeMux()
	serve := func(order string, do func(ctx context.Context, a ask) (answer, error)) {
		mux.HandleFunc("POST "+Prefix+order, func(w http.ResponseWriter, r *http.Request) {
			var a ask
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&a); err != nil {
				http.Error(w, "not an order: "+err.Error(), http.StatusBadRequest)
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), limits[order])
			defer cancel()
			got, err := do(ctx, a)
			got.Faults = faults(err)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(got) // nobody is left to tell
		})
	}
	serve("launch", s.launch)
	serve("terminate", func(ctx context.Context, a ask) (answer, error) { return answer{}, d.Terminate(ctx, a.IDs) })
	serve("list", func(ctx context.Context, _ ask) (answer, error) {
		list, err := d.List(ctx)
		return answer{Instances: list}, err
	})
	serve("check", func(ctx context.Context, _ ask) (answer, error) { return answer{}, d.Check(ctx) })
	serve("stop", func(ctx context.Context, a ask) (answer, error) {
		if k, ok := d.(cloud.Stopper); ok {
			return answer{}, k.Stop(ctx, a.IDs)
		}
		return answer{}, lacks("stop instances")
	})
	serve("log", s.log)
	s.serveVolumes(serve)
	s.serveSnapshots(serve)
	return mux
}

func lacks(what string) error {
	return fmt.Errorf("%w: the machine's cloud cannot %s", cloud.ErrInvalid, what)
}

type server struct {
	d      cloud.Driver
	layers Layers

	mu      sync.Mutex
	flights map[string]*flight
}

// flight is a layer that is being fetched.
type flight struct {
	done chan struct{}
	dir  string
	err  error
}

// launch starts those whose layers could be had.
func (s *server) launch(ctx context.Context, a ask) (answer, error) {
	var specs []cloud.Spec
	errs := make([]error, len(a.Specs))
	_ = cloud.Each(a.Specs, func(i int, spec cloud.Spec) error {
		errs[i] = s.lay(ctx, &a.Specs[i])
		return nil
	})
	var failed []error
	for i, spec := range a.Specs {
		if errs[i] != nil {
			failed = append(failed, &cloud.LaunchError{Name: spec.Name, Err: errs[i]})
			continue
		}
		specs = append(specs, spec)
	}
	list, err := s.d.Launch(ctx, specs)
	return answer{Instances: list}, errors.Join(append(failed, err)...)
}

// lay puts directories in place of digests.
func (s *server) lay(ctx context.Context, spec *cloud.Spec) error {
	if l, ok := s.d.(cloud.Layered); !ok || !l.UsesLayers() {
		spec.Layers = nil
		return nil
	}
	for i, digest := range spec.Layers {
		if !goodDigest.MatchString(digest) {
			return fmt.Errorf("%w: layer %.80q is not a digest", cloud.ErrInvalid, digest)
		}
		dir, err := s.fetch(ctx, digest)
		if err != nil {
			return fmt.Errorf("layer %s: %w", digest[:12], err)
		}
		spec.Layers[i] = dir
	}
	return nil
}

// fetch lets all who want a layer wait for the same transfer.
func (s *server) fetch(ctx context.Context, digest string) (string, error) {
	if s.layers == nil {
		return "", lacks("fetch layers")
	}
	s.mu.Lock()
	f := s.flights[digest]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		s.flights[digest] = f
		go func() { // it goes on for the next order
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), layersTime)
			defer cancel()
			f.dir, f.err = s.layers(ctx, digest)
			s.mu.Lock()
			delete(s.flights, digest)
			s.mu.Unlock()
			close(f.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-f.done:
		return f.dir, f.err
	case <-ctx.Done():
		return "", fmt.Errorf("it is still being fetched: %w", ctx.Err())
	}
}

// log is the end of what an instance printed.
func (s *server) log(ctx context.Context, a ask) (answer, error) {
	c, ok := s.d.(cloud.Console)
	if !ok {
		return answer{}, lacks("keep what instances print")
	}
	r, err := c.BootLog(ctx, a.Instance)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = r.Close() }()
	if k, ok := r.(io.Seeker); ok {
		_, _ = k.Seek(-maxLog, io.SeekEnd) // fails where the whole is shorter
	}
	text, err := io.ReadAll(io.LimitReader(r, maxLog))
	return answer{Log: text}, err
}
