package director

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"time"

	"nutshell/cloud"
	"nutshell/roles/api"
)

// lay gives a spec the root file systems that its cloud needs: one for this
// machine's architecture, or one for each that the cloud's machines have.
func (d *Director) lay(ctx context.Context, p *place, s *cloud.Spec, kind string, packages, extra []string, tell progress) error {
	if l, ok := p.driver.(cloud.Layered); !ok || !l.UsesLayers() {
		return nil
	}
	if d.c.Layers == nil {
		return &api.Error{Code: api.CodeUnavailable, Message: "this cloud needs images and nobody builds them"}
	}
	architectures := []string{runtime.GOARCH}
	if m, ok := p.driver.(cloud.Mixed); ok {
		var err error
		if architectures, err = m.Architectures(ctx); err != nil {
			return err
		}
	}
	var errs []error
	for _, arch := range slices.DeleteFunc(slices.Clone(architectures), func(a string) bool { return a == runtime.GOARCH }) {
		get := func(ctx context.Context, tell progress) ([]string, error) {
			return d.layersOf(ctx, p, arch, kind, packages, extra, tell)
		}
		if len(architectures) == 1 {
			layers, err := get(ctx, tell)
			if err != nil {
				return err
			}
			s.Foreign = map[string][]string{arch: layers}
			return nil
		}
		layers, err := d.soon(ctx, get)
		if err != nil { // the machines of other kinds may do
			d.c.Log.Warn("no images for machines of another architecture, they get no instances", "arch", arch, "kind", kind, "error", err)
			errs = append(errs, fmt.Errorf("images for %s: %w", arch, err))
			continue
		}
		if s.Foreign == nil {
			s.Foreign = map[string][]string{}
		}
		s.Foreign[arch] = layers
	}
	switch {
	case slices.Contains(architectures, runtime.GOARCH):
	case len(s.Foreign) == 0:
		return errors.Join(errs...)
	default:
		return nil
	}
	var err error
	s.Layers, err = d.layersOf(ctx, p, runtime.GOARCH, kind, packages, extra, tell)
	return err
}

// layersOf keeps what is to be known of layers with the cloud that they are for,
// until there are others.
func (d *Director) layersOf(ctx context.Context, p *place, arch, kind string, packages, extra []string, tell progress) ([]string, error) {
	layers, warning, err := d.c.Layers(ctx, arch, kind, packages, extra, tell)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.warnings == nil {
		p.warnings = map[string]string{}
	}
	if p.warnings[kind+" "+arch] = warning; warning == "" {
		delete(p.warnings, kind+" "+arch)
	}
	return layers, nil
}

// warned is what is to be known of a cloud that works, each thing once.
func (p *place) warned() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Compact(slices.Sorted(maps.Values(p.warnings)))
}

// layersSoon is how long a launch waits for layers of one architecture where
// machines of another could take it.
const layersSoon = 3 * time.Second

var errLayersLate = errors.New("they are being made; machines of it get instances when that is done")

// soon gets layers that are there, and has others made beside: by an emulator
// that takes a quarter of an hour, while other machines are ready.
func (d *Director) soon(ctx context.Context, get func(context.Context, progress) ([]string, error)) ([]string, error) {
	type result struct {
		layers []string
		err    error
	}
	done := make(chan result, 1)
	d.goWork(func(ctx context.Context) { // it goes on for the next launch
		layers, err := get(ctx, func(string, float64) {})
		done <- result{layers, err}
	})
	late := time.NewTimer(layersSoon)
	defer late.Stop()
	select {
	case r := <-done:
		return r.layers, r.err
	case <-late.C:
		return nil, errLayersLate
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
