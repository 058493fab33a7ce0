package director

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"nutshell/roles/api"
	"nutshell/roles/internal/store"
	"nutshell/services"
)

// Bounds of a weight. Nothing is no weight: an instance that should get no
// requests is one to remove.
const (
	minWeight = 1
	maxWeight = 1000
)

func (d *Director) setWeights(ctx context.Context, in *struct {
	ServicePath
	Body api.Weights
}) (api.Operation, error) {
	return d.onService(ctx, in.ServicePath, func(a, s int64) order { return d.weightsOrder(a, s, in.Body) })
}

// weightsOrder sets the weights that are named; others stay.
func (d *Director) weightsOrder(application, service int64, b api.Weights) order {
	return order{kind: serviceWeights, title: "change the weights of", application: application, service: service, request: b,
		change: func(ctx context.Context, t *store.Tx, a *store.Application, s *store.Service) (bool, error) {
			if a.Desired != api.GoalStarted || s.Desired != api.GoalStarted {
				return false, &api.Error{Code: api.CodeConflict, Op: "change weights", Object: "service " + a.Name + "/" + s.Name, Message: "it is not started, so it has no instances", Hint: "start it first"}
			}
			rows, err := t.ServiceInstances(ctx, a.ID, s.ID)
			if err != nil {
				return false, err
			}
			changed, err := weigh(rows, b)
			if err != nil {
				return false, err
			}
			for _, i := range changed {
				if err := t.WeighInstance(ctx, i); err != nil {
					return false, err
				}
			}
			done, err := d.adapt(ctx, t, a, s, "weights change")
			return done || len(changed) == 0 && s.State == api.Running, err
		}}
}

// weigh checks new weights and returns the instances that change by them. It
// is pure.
func weigh(rows []store.Instance, b api.Weights) ([]store.Instance, error) {
	refuse := func(object, message, field string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "change weights", Object: object, Message: message, Fields: []string{field}}
	}
	if len(b.Weights) == 0 {
		return nil, refuse("", "no instance is named", "weights")
	}
	var changed []store.Instance
	for id, parts := range b.Weights {
		i := slices.IndexFunc(rows, func(r store.Instance) bool { return r.ID == id && r.State != api.InstanceLeaving })
		if i < 0 {
			return nil, refuse("instance "+api.Shorten(id), "the service has no such instance", "weights."+api.Shorten(id))
		}
		row := rows[i]
		row.Weights = maps.Clone(row.Weights)
		if row.Weights == nil {
			row.Weights = map[string]int{}
		}
		for part, n := range parts {
			switch {
			case !slices.Contains(row.Parts, part):
				return nil, refuse("instance "+id, "it does not hold the part "+api.Shorten(part), "weights."+id+"."+api.Shorten(part))
			case n < minWeight || n > maxWeight:
				return nil, refuse("instance "+id, fmt.Sprintf("the weight %d of its part %s is not %d to %d", n, part, minWeight, maxWeight), "weights."+id+"."+part)
			}
			row.Weights[part] = n
		}
		if !maps.Equal(row.Weights, rows[i].Weights) {
			changed = append(changed, row)
		}
	}
	slices.SortFunc(changed, func(a, b store.Instance) int { return services.Older(a.Instance, b.Instance) })
	return changed, nil
}

// weightsOf is what is put back when a change of weights fails.
func weightsOf(rows []store.Instance) map[string]map[string]int {
	out := map[string]map[string]int{}
	for _, r := range rows {
		out[r.ID] = r.Weights
	}
	return out
}

// restoreWeights puts them back on the instances that are still there.
func restoreWeights(ctx context.Context, t *store.Tx, s store.Service, before map[string]map[string]int) error {
	rows, err := t.ServiceInstances(ctx, s.Application, s.ID)
	if err != nil {
		return err
	}
	for _, r := range rows {
		w, there := before[r.ID]
		if !there {
			continue
		}
		r.Weights = w
		if err := t.WeighInstance(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
