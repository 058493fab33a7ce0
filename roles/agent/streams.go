package agent

import (
	"context"
	"io"
	"net/http"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

// receive hands the kind's half a stream that the manager sends.
func (a *Agent) receive(w http.ResponseWriter, r *http.Request) {
	half, err := a.streamHalf()
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	name := r.PathValue("name")
	rpc.Take(w, r, func(ctx context.Context, body io.Reader) (api.ActResult, error) {
		result, err := half.Receive(ctx, name, rpc.Args(r), body)
		a.noteStream("stream taken", name, err)
		return result, err
	})
}

// send answers with a stream of the kind's half.
func (a *Agent) send(w http.ResponseWriter, r *http.Request) {
	half, err := a.streamHalf()
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	name := r.PathValue("name")
	rpc.Give(w, r, func(ctx context.Context, w io.Writer) (string, error) {
		position, err := half.Send(ctx, name, rpc.Args(r), w)
		a.noteStream("given", name, err)
		return position, err
	})
}

func (a *Agent) noteStream(what, name string, err error) {
	if err != nil {
		a.c.Log.Warn("stream broken off", "stream", name, "error", err)
		return
	}
	a.c.Log.Info("stream passed", "stream", name, "way", what)
}

func (a *Agent) streamHalf() (services.StreamAgent, error) {
	a.mu.Lock()
	half, kind, told := a.half, a.kind, a.current != nil
	a.mu.Unlock()
	if half == nil || !told {
		return nil, api.Conflictf("instance %s does not serve yet", a.c.Identity.Name)
	}
	s, ok := half.(services.StreamAgent)
	if !ok {
		return nil, api.Invalidf("%s neither takes nor gives streams", kind)
	}
	return s, nil
}
