package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/logs"
	"nutshell/roles/internal/rpc"
)

// lookTime bounds a question about logs; looking at files is bounded closer.
const lookTime = logs.AnswerTime + 4*time.Second

// logFiles are this instance's logs.
func (a *Agent) logFiles() []logs.Log {
	var list []logs.Log
	for _, l := range a.super.Logs() {
		if path, err := a.super.LogPath(l.Name); err == nil {
			list = append(list, logs.Log{Instance: a.c.Identity.Name, Name: l.Name, Description: l.Description, Path: path})
		}
	}
	return list
}

// logHandlers answer what the manager asks of lines of logs.
func (a *Agent) logHandlers(m *http.ServeMux) {
	m.Handle("GET /v1/lines/sources", rpc.Handle(lookTime, func(ctx context.Context, _ *http.Request, _ struct{}) (api.LogSources, error) {
		return logs.Sources(ctx, a.logFiles()), nil
	}))
	m.Handle("GET /v1/lines", rpc.Handle(lookTime, func(ctx context.Context, r *http.Request, _ struct{}) (api.LogPage, error) {
		q, err := logs.Parse(r.URL.Query())
		if err != nil {
			return api.LogPage{}, err
		}
		return logs.Page(ctx, a.logFiles(), q)
	}))
	m.Handle("GET /v1/lines/counts", rpc.Handle(lookTime, func(ctx context.Context, r *http.Request, _ struct{}) (api.LogCounts, error) {
		q, err := logs.Parse(r.URL.Query())
		if err != nil {
			return api.LogCounts{}, err
		}
		return logs.Count(ctx, a.logFiles(), q)
	}))
	m.HandleFunc("GET /v1/lines/follow", func(w http.ResponseWriter, r *http.Request) {
		q, err := logs.Parse(r.URL.Query())
		if err != nil {
			rpc.WriteError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		flush, encode := http.NewResponseController(w), json.NewEncoder(w)
		err = logs.Follow(r.Context(), a.logFiles, q, func(n api.LogNews) error {
			if err := encode.Encode(n); err != nil {
				return err
			}
			return flush.Flush()
		})
		if err != nil && r.Context().Err() == nil {
			a.c.Log.Debug("following of logs ended", "error", err)
		}
	})
}
