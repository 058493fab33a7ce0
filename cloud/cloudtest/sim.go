package cloudtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"nutshell/cloud"
)

// Sim is a cloud in memory with knobs. Its zero value works. Set the knobs
// before use, or with Set.
type Sim struct {
	Quota   int           // most instances that may exist; 0: no limit
	Latency time.Duration // of each Launch and Terminate
	// Gate keeps each Launch and Terminate that begins until it is closed; nil: none.
	Gate <-chan struct{}
	// FailNext is how many instances of the next Launches fail.
	FailNext int
	// Broken makes every order fail with it, as a cloud that is down.
	Broken error
	// Boot is what an instance runs until its context ends; an instance whose
	// Boot returned is not running. Nil: it runs and does nothing.
	Boot func(ctx context.Context, s cloud.Spec, address string)
	// Address gives the n-th instance its address; nil: 127.250.x.y.
	Address func(n int) string
	// Public gives instances with public ports their address outside; nil: none.
	Public func(s cloud.Spec) string
	Disk   int64 // most bytes that all volumes may have together; 0: no limit
	// Media is where volumes appear, each at INSTANCE/NAME; empty: they are
	// known, and hold nothing.
	Media string
	// LiveSnapshots says that a volume need not be detached for one.
	LiveSnapshots bool

	mu      sync.Mutex
	guest   map[string]*guest
	volumes map[string]*simVolume
	made    int
}

type guest struct {
	inst cloud.Instance
	stop context.CancelFunc
	done chan struct{}
}

var (
	_ cloud.Driver  = (*Sim)(nil)
	_ cloud.Stopper = (*Sim)(nil)
)

var errAsked = errors.New("failed because FailNext asked for it")

// Set turns knobs while others use the cloud.
func (s *Sim) Set(turn func(*Sim)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turn(s)
}

// Launch gives at most Quota instances.
func (s *Sim) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	if err := s.delay(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var have []cloud.Instance
	var errs []error
	for _, spec := range specs {
		inst, err := s.launch(spec) //nolint:contextcheck // what boots outlives the launch
		if err != nil {
			errs = append(errs, &cloud.LaunchError{Name: spec.Name, Err: err})
			continue
		}
		have = append(have, inst)
	}
	return have, errors.Join(errs...)
}

func (s *Sim) launch(spec cloud.Spec) (cloud.Instance, error) {
	if err := spec.Check(); err != nil {
		return cloud.Instance{}, err
	}
	g, ok := s.guest[spec.Name]
	switch {
	case ok && g.inst.Group != spec.Group:
		return cloud.Instance{}, fmt.Errorf("%w: it exists in group %q", cloud.ErrInvalid, g.inst.Group)
	case ok && g.running():
		return g.instance(), nil
	case s.FailNext > 0:
		s.FailNext--
		return cloud.Instance{}, errAsked
	case ok:
		g.inst.Tags = maps.Clone(spec.Tags)
	case s.Quota > 0 && len(s.guest) >= s.Quota:
		return cloud.Instance{}, fmt.Errorf("%w: %d instances", cloud.ErrQuota, s.Quota)
	default:
		s.made++
		address := fmt.Sprintf("127.250.%d.%d", 1+s.made/254, 1+s.made%254)
		if s.Address != nil {
			address = s.Address(s.made)
		}
		g = &guest{inst: cloud.Instance{
			ID: spec.Name, Name: spec.Name, Group: spec.Group, Address: address,
			Created: time.Now().UTC().Truncate(time.Second), Tags: maps.Clone(spec.Tags),
		}}
		if s.Public != nil && len(spec.Public) > 0 {
			g.inst.Public = s.Public(spec)
		}
		if s.guest == nil {
			s.guest = map[string]*guest{}
		}
		s.guest[spec.Name] = g
	}
	if err := s.arrange(g.inst, spec.Volumes); err != nil {
		if !ok {
			delete(s.guest, spec.Name)
		}
		return cloud.Instance{}, err
	}
	s.boot(g, spec)
	return g.instance(), nil
}

// boot runs the guest apart from the context of the order, as a cloud does.
func (s *Sim) boot(g *guest, spec cloud.Spec) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	g.stop, g.done = stop, done
	boot := s.Boot
	if boot == nil {
		boot = func(ctx context.Context, _ cloud.Spec, _ string) { <-ctx.Done() }
	}
	go func() {
		defer close(done)
		boot(ctx, spec, g.inst.Address)
	}()
}

// Terminate forgets the instances.
func (s *Sim) Terminate(ctx context.Context, ids []string) error { return s.end(ctx, ids, true) }

// Stop keeps them, not running.
func (s *Sim) Stop(ctx context.Context, ids []string) error { return s.end(ctx, ids, false) }

func (s *Sim) end(ctx context.Context, ids []string, forget bool) error {
	if err := s.delay(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	var leaving []*guest
	for _, id := range ids {
		if g, ok := s.guest[id]; ok {
			leaving = append(leaving, g)
			if forget {
				delete(s.guest, id)
			}
		}
	}
	s.mu.Unlock()
	for _, g := range leaving {
		g.stop()
		<-g.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, g := range leaving {
		if _, again := s.guest[g.inst.Name]; forget && !again {
			errs = append(errs, s.release(g.inst.Name))
		}
	}
	return errors.Join(errs...)
}

// List returns the instances by name.
func (s *Sim) List(ctx context.Context) ([]cloud.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Broken != nil {
		return nil, s.Broken
	}
	list := make([]cloud.Instance, 0, len(s.guest))
	for _, name := range slices.Sorted(maps.Keys(s.guest)) {
		list = append(list, s.guest[name].instance())
	}
	return list, ctx.Err()
}

// Check reports Broken.
func (s *Sim) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Broken
}

// Move gives an instance another address outside. Call it within Set.
func (s *Sim) Move(name, public string) {
	if g := s.guest[name]; g != nil {
		g.inst.Public = public
	}
}

// Kill ends what runs in the instance, as a crash does.
func (s *Sim) Kill(name string) {
	s.mu.Lock()
	g := s.guest[name]
	s.mu.Unlock()
	if g != nil {
		g.stop()
		<-g.done
	}
}

func (s *Sim) delay(ctx context.Context) error {
	s.mu.Lock()
	broken, latency, gate := s.Broken, s.Latency, s.Gate
	s.mu.Unlock()
	if broken != nil {
		return broken
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-time.After(latency):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *guest) running() bool {
	select {
	case <-g.done:
		return false
	default:
		return true
	}
}

func (g *guest) instance() cloud.Instance {
	i := g.inst
	i.Running, i.Tags = g.running(), maps.Clone(g.inst.Tags)
	return i
}
