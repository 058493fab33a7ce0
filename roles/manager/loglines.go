package manager

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/logs"
	"nutshell/roles/internal/rpc"
)

const (
	// agentTime bounds what one agent is waited for when logs are asked for:
	// the others' lines must not wait for it longer.
	agentTime = logs.AnswerTime + 2*time.Second
	linesTime = agentTime + 4*time.Second
)

// writer is an instance whose logs are asked for.
type writer struct {
	service string // id, as the director knows it
	i       api.Instance
}

// writers are the instances whose logs a query wants.
func (m *Manager) writers(q logs.Query) []writer {
	m.mu.Lock()
	all := make([]*service, 0, len(m.services))
	for _, s := range m.services {
		all = append(all, s)
	}
	m.mu.Unlock()
	var list []writer
	for _, s := range all {
		id := strconv.FormatInt(s.id, 10)
		if q.Service != "" && q.Service != id {
			continue
		}
		for _, i := range s.crew.all() {
			if q.Instance == "" || q.Instance == i.ID {
				list = append(list, writer{id, i})
			}
		}
	}
	slices.SortFunc(list, func(a, b writer) int { return strings.Compare(a.i.ID, b.i.ID) })
	return list
}

// ownLogs are the manager's own that a query wants.
func (m *Manager) ownLogs(q logs.Query) []logs.Log {
	var list []logs.Log
	if q.Service == "" {
		list = append(list, logs.Log{Instance: api.LogManager, Name: "manager.log", Description: "the manager itself", Path: filepath.Join(m.c.Dir, "log", "manager.log")})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.services {
		if id := strconv.FormatInt(s.id, 10); q.Service == "" || q.Service == id {
			list = append(list, logs.Log{Service: id, Instance: api.LogManager, Name: filepath.Base(s.logFile()), Description: "what the manager did for the service", Path: s.logFile()})
		}
	}
	return list
}

// asked are the sources of a query, or why there is none.
func (m *Manager) asked(q logs.Query) ([]writer, error) {
	list := m.writers(q)
	id := q.Instance
	if at, err := api.ParseLogPlace(q.At); err == nil && at.File != "" {
		id = at.Instance
	}
	if id != "" && id != api.LogManager && !slices.ContainsFunc(list, func(w writer) bool { return w.i.ID == id }) {
		return nil, &api.Error{Code: api.CodeNotFound, Object: "instance " + api.Shorten(id), Message: "it is gone, and its logs went with it", Hint: "failed operations keep the last lines that they saw"}
	}
	return list, nil
}

// agentQuery is what an agent is asked; it knows no services.
func agentQuery(q logs.Query) string {
	q.Service = ""
	return "?" + q.Values().Encode()
}

// ask asks all agents at once. Who does not answer is told of.
func ask[T any](ctx context.Context, m *Manager, list []writer, path string, took func(w writer, out T)) (silent []api.LogSilent, refused error) {
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, w := range list {
		wait.Go(func() {
			var out T
			err := m.agent(w.i).Do(ctx, http.MethodGet, path, nil, &out)
			mu.Lock()
			defer mu.Unlock()
			switch e := api.AsError(err); {
			case err == nil:
				took(w, out)
			case e.Code == api.CodeNotFound && strings.HasPrefix(e.Object, "line of "): // it is gone
				refused = e
			default:
				silent = append(silent, silentOf(w, e))
			}
		})
	}
	wait.Wait()
	slices.SortFunc(silent, func(a, b api.LogSilent) int { return strings.Compare(a.Instance, b.Instance) })
	return silent, refused
}

func silentOf(w writer, e *api.Error) api.LogSilent {
	message := e.Message
	if message == "" {
		message = "does not answer"
	}
	return api.LogSilent{Service: w.service, Instance: w.i.ID, Message: message}
}

func (m *Manager) logHandlers(mux *http.ServeMux) {
	handle(mux, "GET /v1/lines/sources", m.logSources)
	handle(mux, "GET /v1/lines", m.logLines)
	handle(mux, "GET /v1/lines/counts", m.logCounts)
	mux.HandleFunc("GET /v1/lines/follow", m.followLogs)
}

func handle[T any](mux *http.ServeMux, pattern string, answer func(context.Context, logs.Query) (T, error)) {
	mux.Handle(pattern, rpc.Handle(linesTime, func(ctx context.Context, r *http.Request, _ struct{}) (T, error) {
		q, err := logs.Parse(r.URL.Query())
		if err != nil {
			return *new(T), err
		}
		return answer(ctx, q)
	}))
}

func (m *Manager) logSources(ctx context.Context, q logs.Query) (api.LogSources, error) {
	out := logs.Sources(ctx, m.ownLogs(q))
	silent, err := ask(ctx, m, m.writers(q), "/v1/lines/sources", func(w writer, s api.LogSources) {
		for _, l := range s.Sources {
			l.Service, l.Parts = w.service, w.i.Parts
			out.Sources = append(out.Sources, l)
		}
		out.Silent = append(out.Silent, s.Silent...)
	})
	out.Silent = append(out.Silent, silent...)
	slices.SortStableFunc(out.Sources, func(a, b api.LogSource) int { return strings.Compare(a.Instance+a.Log, b.Instance+b.Log) })
	return out, err
}

func (m *Manager) logLines(ctx context.Context, q logs.Query) (api.LogPage, error) {
	list, err := m.asked(q)
	if err != nil {
		return api.LogPage{}, err
	}
	own, err := logs.Page(ctx, m.ownLogs(q), q)
	if err != nil {
		return own, err
	}
	pages := []api.LogPage{own}
	silent, err := ask(ctx, m, list, "/v1/lines"+agentQuery(q), func(w writer, p api.LogPage) {
		pages = append(pages, ofService(p, w.service))
	})
	if err != nil {
		return api.LogPage{}, err
	}
	out := logs.Merge(pages, q)
	out.Silent = append(out.Silent, silent...)
	return out, nil
}

func ofService(p api.LogPage, service string) api.LogPage {
	for i := range p.Lines {
		p.Lines[i].Service = service
	}
	for i := range p.Silent {
		p.Silent[i].Service = service
	}
	return p
}

func (m *Manager) logCounts(ctx context.Context, q logs.Query) (api.LogCounts, error) {
	list, err := m.asked(q)
	if err != nil {
		return api.LogCounts{}, err
	}
	own, err := logs.Count(ctx, m.ownLogs(q), q)
	if err != nil {
		return own, err
	}
	parts := []api.LogCounts{own}
	silent, err := ask(ctx, m, list, "/v1/lines/counts"+agentQuery(q), func(_ writer, c api.LogCounts) {
		parts = append(parts, c)
	})
	out := logs.MergeCounts(parts, q)
	out.Silent = append(out.Silent, silent...)
	return out, err
}
