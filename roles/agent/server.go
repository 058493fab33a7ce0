package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/metrics"
	"nutshell/roles/internal/rpc"
)

// handler is what the manager may ask, with the time limit beside each path.
// Who may ask is settled by TLS before anything gets here.
func (a *Agent) handler() http.Handler {
	m := http.NewServeMux()
	m.Handle("GET /v1/health", rpc.Handle(5*time.Second, func(context.Context, *http.Request, struct{}) (map[string]string, error) {
		return map[string]string{"status": "ok"}, nil
	}))
	m.Handle("GET /v1/status", rpc.Handle(10*time.Second, func(ctx context.Context, _ *http.Request, _ struct{}) (api.AgentStatus, error) {
		return a.status(ctx), nil
	}))
	m.Handle("GET /v1/measured", rpc.Handle(measureTime, func(ctx context.Context, _ *http.Request, _ struct{}) (api.Measured, error) {
		return a.measured(ctx), nil
	}))
	m.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), measureTime)
		defer cancel()
		w.Header().Set("Content-Type", metrics.TextType)
		if err := metrics.Text(w, nil, nil, []metrics.Latest{{Measured: a.measured(ctx)}}); err != nil {
			a.c.Log.Warn("figures not told", "error", err)
		}
	})
	m.Handle("PUT /v1/config", rpc.Handle(applyTime, func(ctx context.Context, _ *http.Request, c api.AgentConfig) (api.AgentStatus, error) {
		if c.Instance.ID != a.c.Identity.Name {
			return api.AgentStatus{}, api.Invalidf("this is instance %s, not %s", a.c.Identity.Name, api.Shorten(c.Instance.ID))
		}
		if err := a.apply(ctx, c); err != nil {
			a.c.Log.Error("configuration not applied", "error", err)
			return api.AgentStatus{}, err
		}
		return a.status(ctx), nil
	}))
	m.Handle("POST /v1/call/{method}", rpc.Handle(applyTime, func(ctx context.Context, r *http.Request, args json.RawMessage) (any, error) {
		a.mu.Lock()
		half := a.half
		a.mu.Unlock()
		if half == nil {
			return nil, api.Conflictf("instance %s has not been told yet what to be", a.c.Identity.Name)
		}
		return half.Call(ctx, r.PathValue("method"), args)
	}))
	m.HandleFunc("POST /v1/streams/{name}", a.receive)
	m.HandleFunc("GET /v1/streams/{name}", a.send)
	m.HandleFunc("GET /v1/terminal", a.terminal)
	m.Handle("GET /v1/files", rpc.Handle(filesTime, a.listFiles))
	m.HandleFunc("GET /v1/files/content", a.giveFile)
	m.HandleFunc("PUT /v1/files/content", a.takeFile)
	m.HandleFunc("GET /v1/logs/{log}", func(w http.ResponseWriter, r *http.Request) {
		path, err := a.super.LogPath(r.PathValue("log"))
		if err != nil {
			rpc.WriteError(w, err)
			return
		}
		rpc.ServeLog(w, r, path)
	})
	a.logHandlers(m)
	return m
}
