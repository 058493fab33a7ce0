package director

import (
	"context"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/metrics"
)

const (
	graphSpan    = time.Hour // where nobody says otherwise
	graphLongest = 400 * 24 * time.Hour
)

// graphs draws what a service's instances measured.
func (d *Director) graphs(ctx context.Context, in *struct {
	ServicePath
	Since  string `query:"since" doc:"RFC 3339, or a span back such as 90m, 24h or 30d"`
	Until  string `query:"until"`
	By     string `query:"by" enum:"instance"`
	Points int    `query:"points" minimum:"0" maximum:"2000"`
}) ([]api.Graph, error) {
	a, s, err := d.service(ctx, in.ServicePath)
	if err != nil {
		return nil, err
	}
	now := d.c.Now()
	until, err := moment("until", in.Until, now, now)
	if err != nil {
		return nil, err
	}
	since, err := moment("since", in.Since, now, until.Add(-graphSpan))
	if err != nil {
		return nil, err
	}
	if until.Sub(since) > graphLongest {
		return nil, &api.Error{Code: api.CodeInvalid, Op: "draw", Object: "graphs", Message: "that is more than a year", Fields: []string{"since"}}
	}
	return d.metrics.Graphs(ctx, metrics.Query{Application: a.ID, Service: s.ID, Since: since, Until: until, Points: in.Points, ByInstance: in.By == "instance"})
}
