package director

import (
	"context"
	"runtime"
	"slices"

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
	for _, arch := range slices.DeleteFunc(slices.Clone(architectures), func(a string) bool { return a == runtime.GOARCH }) {
		if d.c.ForeignLayers == nil {
			continue
		}
		layers, err := d.c.ForeignLayers(ctx, arch, kind, packages, extra, tell)
		if err != nil && len(architectures) == 1 {
			return err
		}
		if err != nil { // the machines that are of our kind may do
			d.c.Log.Warn("no images for machines of another architecture, they get no instances", "arch", arch, "kind", kind, "error", err)
			continue
		}
		if s.Foreign == nil {
			s.Foreign = map[string][]string{}
		}
		s.Foreign[arch] = layers
	}
	if !slices.Contains(architectures, runtime.GOARCH) {
		return nil
	}
	var err error
	s.Layers, err = d.c.Layers(ctx, kind, packages, extra, tell)
	return err
}
