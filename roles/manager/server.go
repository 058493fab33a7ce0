package manager

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

const actTime = 2 * time.Minute

// handler is what the director may ask, with the time limit beside each path.
// Who may ask is settled by TLS before anything gets here.
func (m *Manager) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/health", rpc.Handle(5*time.Second, func(context.Context, *http.Request, struct{}) (map[string]string, error) {
		return map[string]string{"status": "ok"}, nil
	}))
	mux.Handle("POST /v1/services/{id}/actions/{action}", rpc.Handle(actTime, func(ctx context.Context, r *http.Request, in api.Act) (api.ActResult, error) {
		s, err := m.service(r.PathValue("id"))
		if err != nil {
			return api.ActResult{}, err
		}
		return s.half.Act(ctx, r.PathValue("action"), in.Args)
	}))
	mux.Handle("GET /v1/services/{id}/busy", rpc.Handle(10*time.Second, func(ctx context.Context, r *http.Request, _ struct{}) (struct{}, error) {
		s, err := m.service(r.PathValue("id"))
		if err != nil {
			return struct{}{}, err
		}
		if b, ok := s.half.(services.Busy); ok {
			return struct{}{}, b.Busy(ctx)
		}
		return struct{}{}, nil
	}))
	mux.Handle("GET /v1/services/{id}/instances/{instance}", rpc.Handle(10*time.Second, func(ctx context.Context, r *http.Request, _ struct{}) (api.AgentStatus, error) {
		s, err := m.service(r.PathValue("id"))
		if err != nil {
			return api.AgentStatus{}, err
		}
		return host{s}.Status(ctx, r.PathValue("instance"))
	}))
	mux.HandleFunc("GET /v1/services/{id}/instances/{instance}/logs/{log}", m.agentLog)
	mux.HandleFunc("GET /v1/services/{id}/instances/{instance}/terminal", m.terminal)
	mux.HandleFunc("GET /v1/services/{id}/instances/{instance}/files", m.files)
	mux.HandleFunc("GET /v1/services/{id}/instances/{instance}/files/content", m.files)
	mux.HandleFunc("PUT /v1/services/{id}/instances/{instance}/files/content", m.files)
	mux.Handle("GET /v1/services/{id}/bindings", rpc.Handle(5*time.Second, m.bindings))
	mux.HandleFunc("POST /v1/services/{id}/streams/{name}", m.receive)
	mux.HandleFunc("GET /v1/services/{id}/streams/{name}", m.send)
	mux.HandleFunc("GET /v1/log", func(w http.ResponseWriter, r *http.Request) {
		path := filepath.Join(m.c.Dir, "log", "manager.log")
		if id := r.URL.Query().Get("service"); id != "" {
			s, err := m.service(id)
			if err != nil {
				rpc.WriteError(w, err)
				return
			}
			path = s.logFile()
		}
		rpc.ServeLog(w, r, path)
	})
	m.logHandlers(mux)
	return mux
}

// agentLog passes an agent's log through, as it comes.
func (m *Manager) agentLog(w http.ResponseWriter, r *http.Request) {
	s, err := m.service(r.PathValue("id"))
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	i, err := s.crew.get(r.PathValue("instance"))
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	resp, err := m.agent(i).Stream(r.Context(), http.MethodGet, "/v1/logs/"+url.PathEscape(r.PathValue("log"))+"?"+r.URL.RawQuery, nil)
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	flush := http.NewResponseController(w)
	block := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(block)
		if n > 0 {
			if _, err := w.Write(block[:n]); err != nil {
				return
			}
			_ = flush.Flush()
		}
		if err != nil { // the end, or the agent went away
			return
		}
	}
}
