package manager

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
	"nutshell/services"
)

const (
	restTime     = 30 * time.Second // for the loop to come to rest
	streamedTime = 5 * time.Minute
)

// receive passes what the director sends to the agent that the kind's half
// chooses.
func (m *Manager) receive(w http.ResponseWriter, r *http.Request) {
	s, err := m.service(r.PathValue("id"))
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	name, args := r.PathValue("name"), rpc.Args(r)
	rpc.Take(w, r, func(ctx context.Context, body io.Reader) (api.ActResult, error) {
		var result api.ActResult
		err := s.stream(ctx, name, args, func(ctx context.Context, agent *rpc.Client, path string) (err error) {
			result, err = agent.Send(ctx, path, body)
			return err
		})
		return result, err
	})
}

// send passes to the director what that agent gives.
func (m *Manager) send(w http.ResponseWriter, r *http.Request) {
	s, err := m.service(r.PathValue("id"))
	if err != nil {
		rpc.WriteError(w, err)
		return
	}
	name, args := r.PathValue("name"), rpc.Args(r)
	rpc.Give(w, r, func(ctx context.Context, w io.Writer) (position string, err error) {
		err = s.stream(ctx, name, args, func(ctx context.Context, agent *rpc.Client, path string) (err error) {
			position, err = agent.Fetch(ctx, path, w)
			return err
		})
		return position, err
	})
}

// stream runs pass between the director and the agent chosen. While one runs
// that is to be alone the loop rests; afterwards it configures the service
// anew, whatever came of it.
func (s *service) stream(ctx context.Context, name string, args map[string]string, pass func(ctx context.Context, agent *rpc.Client, path string) error) error {
	half, ok := s.half.(services.Streamer)
	if !ok {
		return api.Invalidf("%s neither takes nor gives streams", s.kind.Name)
	}
	if s.wanted().Service.Desired != api.GoalStarted {
		return &api.Error{Code: api.CodeConflict, Object: "service " + s.wanted().Service.Name, Message: "it is not started", Hint: "start it first"}
	}
	rests := false
	defer func() {
		if rests {
			<-s.loop
			s.poke()
		}
	}()
	var err error
	if name == services.StreamRestore || name == services.StreamReplay { // the half may stop daemons while it chooses
		if rests, err = s.rest(ctx, restTime); err != nil {
			return err
		}
	}
	plan, err := half.Stream(ctx, name, args)
	if err != nil {
		return err
	}
	if !plan.Alone {
		return s.passTo(ctx, plan.Instance, name, args, pass)
	}
	if !rests { // the half is prepared: it must hear of the end, however long that takes
		if rests, err = s.rest(context.WithoutCancel(ctx), healTime); err != nil {
			return err
		}
	}
	end := s.beAlone(ctx, name)
	err = s.passTo(ctx, plan.Instance, name, args, pass)
	end()
	return s.afterwards(ctx, half, name, plan, err)
}

// rest waits until the loop rests.
func (s *service) rest(ctx context.Context, patience time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case s.loop <- struct{}{}:
		return true, nil
	case <-ctx.Done():
		return false, &api.Error{Code: api.CodeConflict, Object: "service " + s.wanted().Service.Name, Message: "it is being changed", Hint: "wait until it serves, then try again"}
	}
}

// passTo connects to the agent anew: on a connection that is shared, a stream
// that nobody reads holds up everything else.
func (s *service) passTo(ctx context.Context, instance, name string, args map[string]string, pass func(ctx context.Context, agent *rpc.Client, path string) error) error {
	i, err := s.crew.get(instance)
	if err != nil {
		return err
	}
	agent := rpc.NewClient("https://"+net.JoinHostPort(i.Address, strconv.Itoa(api.AgentPort)), pki.ClientTLS(s.m.c.Credentials, pki.AgentOf(s.m.c.Identity.Application, i.ID)))
	defer agent.HTTP.CloseIdleConnections()
	s.log.Info("stream begins", "stream", name, "instance", i.ID)
	err = pass(ctx, agent, rpc.StreamPath("/v1/streams/"+url.PathEscape(name), args))
	if err != nil {
		s.log.Warn("stream broken off", "stream", name, "instance", i.ID, "error", err)
		if e := api.AsError(err); e.Op != "" {
			return err // it says what it was about
		}
		return fmt.Errorf("%s on %s: %w", name, i.ID, err)
	}
	s.log.Info("stream ended", "stream", name, "instance", i.ID)
	return nil
}

// beAlone shows that the service is not as it should be, and goes on looking
// at its instances, which nobody shall take for lost.
func (s *service) beAlone(ctx context.Context, name string) (end func()) {
	s.become(api.Adapting, name+" is under way", nil)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s.crew.look(ctx)
			pause(ctx, lookEvery)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// afterwards runs with the loop at rest, also when the director went away.
func (s *service) afterwards(ctx context.Context, half services.Streamer, name string, plan services.StreamPlan, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), streamedTime)
	defer cancel()
	err := half.Streamed(ctx, name, plan, failed)
	s.converged, s.notBefore, s.delay = "", time.Time{}, firstRetry
	if err != nil {
		s.log.Error("service not put in order after a stream", "stream", name, "error", err)
	}
	if failed != nil {
		return failed
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("after %s: %w", name, err)
	}
	return nil
}
