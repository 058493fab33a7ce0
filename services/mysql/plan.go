package mysql

import (
	"fmt"
	"slices"

	"nutshell/roles/api"
	"nutshell/services"
)

// plan gives each part an instance of its own. The newest leave first. An
// instance keeps its part: data does not move, and a balancer has no volume.
func plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	if want[database] < 1 || want[balancer] < 0 {
		return services.Layout{}, &api.Error{Code: api.CodeInvalid, Op: "plan", Object: "service mysql", Message: fmt.Sprintf("%d database nodes and %d balancers are asked for; there must be one node at least", want[database], want[balancer]),
			Hint: "stop the service if you do not need it now", Fields: []string{database}}
	}
	byPart := map[string][]api.Instance{}
	for _, i := range have {
		part := balancer
		if slices.Contains(i.Parts, database) {
			part = database
		}
		i.Parts = []string{part}
		byPart[part] = append(byPart[part], i)
	}
	var l services.Layout
	for _, part := range []string{database, balancer} {
		stay, leave := services.Keep(byPart[part], want[part], prefer)
		l.Have, l.Leave = append(l.Have, stay...), append(l.Leave, leave...)
		for range want[part] - len(stay) {
			l.Launch = append(l.Launch, []string{part})
		}
	}
	slices.SortStableFunc(l.Have, services.Older)
	slices.SortStableFunc(l.Leave, services.Older)
	return l, nil
}
