package director

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/metrics"
)

// MetricsConfig bounds the history of what instances measured.
type MetricsConfig struct {
	Retention time.Duration
	MaxBytes  int64
}

func (d *Director) openMetrics() error {
	var err error
	d.metrics, err = metrics.Open(metrics.Config{Dir: filepath.Join(d.c.Dir, "metrics"), Retention: d.c.Metrics.Retention, MaxBytes: d.c.Metrics.MaxBytes, Now: d.c.Now, Log: d.c.Log})
	return err
}

// answered counts a request.
func (d *Director) answered(route string, status int, took time.Duration) {
	d.own.Request(route, status, took.Seconds())
}

// measured takes what a manager's instances measured. It believes it of
// instances of the manager's own application only, and only that they are of
// the service they were made for.
func (d *Director) measured(ctx context.Context, in *struct{ Body []api.Measured }) (httpapi.None, error) {
	id := httpapi.Who(ctx).Identity
	rows, err := d.store.ApplicationInstances(ctx, id.Application)
	if err != nil {
		return httpapi.None{}, err
	}
	service := map[string]int64{}
	for _, r := range rows {
		service[r.ID] = r.Service
	}
	ours := slices.DeleteFunc(in.Body, func(m api.Measured) bool {
		of, ok := service[m.Instance]
		return !ok || of != m.Service
	})
	d.metrics.Add(id.Application, ours) //nolint:contextcheck // figures are kept even if the one who brought them is gone
	return httpapi.None{}, nil
}

// metricsText is everything in one place, for a Prometheus that watches this
// installation.
func (d *Director) metricsText(ctx context.Context, _ *struct{}) (*httpapi.Stream, error) {
	own, err := d.figures(ctx)
	if err != nil {
		return nil, err
	}
	latest := d.metrics.Latest()
	names := map[int64]api.Application{}
	for i, l := range latest {
		a, ok := names[l.Application]
		if !ok {
			row, err := d.store.ApplicationByID(ctx, l.Application)
			if err != nil {
				continue // deleted a moment ago
			}
			a = row.Application
			names[l.Application] = a
		}
		latest[i].ApplicationName = a.Name
		if s, err := d.store.ServiceByID(ctx, l.Application, l.Measured.Service); err == nil {
			latest[i].ServiceName = s.Name
		}
	}
	var b bytes.Buffer
	if err := metrics.Text(&b, d.own, own, latest); err != nil {
		return nil, err
	}
	return &httpapi.Stream{Type: metrics.TextType, Size: int64(b.Len()), Read: io.NopCloser(&b)}, nil
}

const edgeEvery = 15 * time.Second

// measureEdge keeps what the edge counts, as if it were one more part of each
// service.
func (d *Director) measureEdge(ctx context.Context) {
	if d.front.edge == nil {
		return
	}
	tick := time.NewTicker(edgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for application, list := range edgeMeasured(d.front.figures()) {
				d.metrics.Add(application, list) //nolint:contextcheck // figures are kept even if the one who brought them is gone
			}
		}
	}
}

// edgeMeasured sorts the edge's figures by application, in the words of
// services' own.
func edgeMeasured(figures []api.Sample) map[int64][]api.Measured {
	names := map[string]string{"nutshell_edge_requests_total": "nutshell_http_requests_total", "nutshell_edge_sent_bytes_total": "nutshell_http_bytes_total",
		"nutshell_edge_request_seconds_bucket": "nutshell_http_seconds_bucket", "nutshell_edge_request_seconds_sum": "nutshell_http_seconds_sum", "nutshell_edge_request_seconds_count": "nutshell_http_seconds_count"}
	all := map[int64][]api.Measured{}
	for _, s := range figures {
		application, err1 := strconv.ParseInt(s.Labels["application"], 10, 64)
		service, err2 := strconv.ParseInt(s.Labels["service"], 10, 64)
		name, known := names[s.Name]
		if err1 != nil || err2 != nil || application == 0 || !known {
			continue
		}
		list := all[application]
		i := slices.IndexFunc(list, func(m api.Measured) bool { return m.Service == service })
		if i < 0 {
			i = len(list)
			list = append(list, api.Measured{Instance: fmt.Sprintf("edge-%d-%d", application, service), Service: service, Parts: []string{"edge"}})
		}
		of := map[string]string{"part": "edge"}
		if v, ok := s.Labels["code"]; ok {
			of["class"] = v
		}
		if v, ok := s.Labels["le"]; ok {
			of["le"] = v
		}
		list[i].Samples = append(list[i].Samples, api.Sample{Name: name, Labels: of, Value: s.Value})
		all[application] = list
	}
	return all
}

// figures are the director's own beside those of its process.
func (d *Director) figures(ctx context.Context) ([]api.Sample, error) {
	counts, err := d.store.OperationCounts(ctx)
	if err != nil {
		return nil, err
	}
	var list []api.Sample
	for _, s := range []api.OperationState{api.OperationPending, api.OperationRunning, api.OperationDone, api.OperationFailed, api.OperationCancelled} {
		list = append(list, api.Sample{Name: "nutshell_operations", Labels: map[string]string{"state": string(s)}, Value: float64(counts[s])})
	}
	for _, s := range d.front.figures() {
		if s.Labels["application"] == "" { // the others are told as a part of their service
			list = append(list, s)
		}
	}
	return list, nil
}
