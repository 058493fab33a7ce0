package manager

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/terminal"
)

// agentAlone is a client of an agent with connections of its own: on one that
// is shared, what nobody reads holds up everything else.
func (m *Manager) agentAlone(r *http.Request) (*rpc.Client, error) {
	s, err := m.service(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	i, err := s.crew.get(r.PathValue("instance"))
	if err != nil {
		return nil, err
	}
	return rpc.NewClient("https://"+net.JoinHostPort(i.Address, strconv.Itoa(api.AgentPort)), pki.ClientTLS(m.c.Credentials, pki.AgentOf(m.c.Identity.Application, i.ID))), nil
}

// terminal passes a terminal between the director and an agent.
func (m *Manager) terminal(w http.ResponseWriter, r *http.Request) {
	agent, err := m.agentAlone(r)
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	shell, err := terminal.Dial(r.Context(), agent.Upgrading(), agent.Base+"/v1/terminal?"+r.URL.RawQuery, nil, rpc.Refusal)
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	client, err := terminal.Accept(w, r)
	if err != nil {
		shell.Close(nil)
		return
	}
	if err := terminal.Relay(context.WithoutCancel(r.Context()), client, shell, nil); err != nil {
		m.c.Log.Info("terminal broken off", "instance", r.PathValue("instance"), "error", err)
	}
}

// files passes what is asked of an agent's files, and what it answers.
func (m *Manager) files(w http.ResponseWriter, r *http.Request) {
	agent, err := m.agentAlone(r)
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	defer agent.HTTP.CloseIdleConnections()
	path := "/v1/files"
	if strings.HasSuffix(r.URL.Path, "/content") {
		path += "/content"
	}
	var body io.Reader
	if r.Method == http.MethodPut {
		body = r.Body
	}
	resp, err := agent.Stream(r.Context(), r.Method, path+"?"+r.URL.RawQuery, body)
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if resp.ContentLength > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	if _, err := io.Copy(w, resp.Body); err != nil && !errors.Is(err, context.Canceled) {
		m.c.Log.Warn("file broken off", "instance", r.PathValue("instance"), "error", err)
		panic(http.ErrAbortHandler) // what came must not look like the whole
	}
}
