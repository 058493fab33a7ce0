package servicetest

import (
	"context"

	"nutshell/roles/api"
	"nutshell/services"
)

// Measure asks an instance's agent half what it counted; nothing where the
// kind does not count.
func (w *World) Measure(ctx context.Context, id string) ([]api.Sample, error) {
	m, ok := w.at(id).half().(services.Measurer)
	if !ok {
		return nil, nil
	}
	return m.Measure(ctx)
}
