package manager

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/operation"
	"nutshell/services"
)

const (
	bootTime    = 60 * time.Second // from launch to the agent's first answer, where the cloud does not ask for more
	serveTime   = 30 * time.Second // from configured to serving
	drainTime   = 60 * time.Second
	launchTime  = 20 * time.Minute // the first launch of a kind builds its image
	healTime    = 5 * time.Minute  // what we do without being asked
	buildTries  = 3                // of one operation
	stepsToStop = 2
	stepsToGrow = 5
)

// up makes a started service as it is wanted, as the user's operation or on
// our own when something broke.
func (s *service) up(ctx context.Context, d api.DesiredService, have, lost []api.Instance) {
	run, ctx, cancel := s.begin(ctx, d, stepsToGrow)
	defer cancel()
	state, reason := api.Adapting, "being changed"
	if now := s.current(); now == api.Init || now == api.Stopped || now == api.Prologue || (now == api.Failed && len(have) == 0) {
		state, reason = api.Prologue, "starting"
	}
	if len(lost) > 0 {
		reason = fmt.Sprintf("replacing %s", names(lost))
	}
	s.become(state, reason, nil)
	print, err := s.build(ctx, run, d, have, lost)
	// An agent or daemon that died in the middle is back in a moment.
	for again := 1; again < buildTries && api.CodeOf(err) == api.CodeUnavailable && pause(ctx, firstRetry); again++ {
		s.log.Warn("tried again", "error", err)
		s.crew.look(ctx)
		have, lost = s.crew.sort(s.m.c.Now())
		print, err = s.build(ctx, run, d, have, lost)
	}
	now := s.m.c.Now()
	if err == nil {
		s.converged, s.sick, s.notBefore, s.delay = print, time.Time{}, time.Time{}, firstRetry
	} else {
		s.log.Error("not as wanted", "error", err)
		s.converged, s.notBefore = "", now.Add(s.delay)
		s.delay = min(2*s.delay, longestRetry)
		if state == api.Prologue {
			s.become(api.Failed, err.Error(), nil)
		} else {
			s.become(api.Adapting, err.Error(), nil) // what served goes on serving; the loop tries again
		}
	}
	s.finish(ctx, run, d, err)
}

// pause waits unless ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// build does the work of up and returns the fingerprint of what it made.
func (s *service) build(ctx context.Context, run *operation.Run, d api.DesiredService, have, lost []api.Instance) (string, error) {
	got := s.bind()
	if len(lost) > 0 {
		if err := run.Step(ctx, "take away "+names(lost)+", which stopped answering"); err != nil {
			return "", err
		}
		if err := s.terminate(ctx, lost); err != nil {
			return "", err
		}
	}
	layout, err := s.plan(have, d)
	if err != nil {
		return "", err
	}
	if len(layout.Launch) > 0 {
		if err := run.Step(ctx, fmt.Sprintf("start %d instances", len(layout.Launch))); err != nil {
			return "", err
		}
		fresh, err := s.launch(ctx, run, layout.Launch)
		if err != nil {
			return "", err
		}
		layout.Have = append(layout.Have, fresh...)
		layout.Launch = nil
	}
	if err := run.Step(ctx, "configure"); err != nil {
		return "", err
	}
	if err := s.half.Converge(ctx, layout); err != nil {
		return "", err
	}
	if len(layout.Leave) > 0 {
		// Who sends people here must know those that came before it loses the others.
		if err := s.m.reportNow(ctx); err != nil {
			return "", err
		}
		if err := s.leave(ctx, run, layout); err != nil {
			return "", err
		}
	}
	if err := run.Step(ctx, "check that it serves"); err != nil {
		return "", err
	}
	if err := s.waitServing(ctx); err != nil {
		return "", err
	}
	now, _ := s.crew.sort(s.m.c.Now())
	return fingerprint(d, now, got), nil
}

// plan is the kind's own, save that what is to be removed leaves in any case:
// where the counts stay as they are, others are started in its place first.
func (s *service) plan(have []api.Instance, d api.DesiredService) (services.Layout, error) {
	layout, err := s.half.Plan(have, d.Service.Parts, d.Remove)
	doomed := func(i api.Instance) bool { return slices.Contains(d.Remove, i.ID) }
	if err != nil || !slices.ContainsFunc(layout.Have, doomed) {
		return layout, err
	}
	var stay, leave []api.Instance
	for _, i := range have {
		if doomed(i) {
			leave = append(leave, i)
		} else {
			stay = append(stay, i)
		}
	}
	if layout, err = s.half.Plan(stay, d.Service.Parts, nil); err == nil {
		layout.Leave = append(layout.Leave, leave...)
	}
	return layout, err
}

// leave takes instances away: work and data first, then the instances, and
// tells those that stay, once the others are really gone.
func (s *service) leave(ctx context.Context, run *operation.Run, layout services.Layout) error {
	if err := run.Step(ctx, "drain "+names(layout.Leave)); err != nil {
		return err
	}
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := s.half.Drain(drain, layout.Leave); err != nil {
		return err
	}
	if err := run.Step(ctx, "terminate "+names(layout.Leave)); err != nil {
		return err
	}
	if err := s.terminate(ctx, layout.Leave); err != nil {
		return err
	}
	return s.half.Converge(ctx, services.Layout{Have: layout.Have})
}

// launch asks the director for instances and waits until their agents answer.
// Those that do not are taken away again.
func (s *service) launch(ctx context.Context, run *operation.Run, parts [][]string) ([]api.Instance, error) {
	req := api.LaunchRequest{Service: s.id}
	for _, p := range parts {
		req.Instances = append(req.Instances, api.LaunchEntry{ID: api.NewInstanceID(s.m.c.Identity.Application, s.id), Parts: p})
	}
	long, cancel := context.WithTimeout(ctx, launchTime)
	defer cancel()
	var got api.LaunchResult
	err := s.m.director.Do(long, http.MethodPost, "/api/v1/manager/launch", req, &got)
	if err == nil && got.Error != nil {
		err = got.Error
	}
	s.crew.launched(got.Instances, got.Patience)
	if err != nil {
		return nil, &api.Error{Code: api.CodeOf(err), Op: "start instances of", Object: "service " + s.wanted().Service.Name, Message: fmt.Sprintf("%d of %d came up", len(got.Instances), len(parts)), Err: err}
	}
	run.Detail(ctx, "waiting for their agents", 0.5)
	patience := s.crew.bootTime(got.Instances)
	boot, cancelBoot := context.WithTimeout(ctx, patience)
	defer cancelBoot()
	if silent := s.crew.waitAnswer(boot, got.Instances); len(silent) > 0 {
		if err := s.terminate(ctx, silent); err != nil {
			s.log.Error("instances that never answered are still there", "error", err)
		}
		return nil, &api.Error{Code: api.CodeDeadline, Op: "start", Object: "instances " + names(silent), Message: "their agents did not answer in " + patience.String(), Hint: "see the boot log of the instance and the director's log"}
	}
	return got.Instances, nil
}

func (s *service) terminate(ctx context.Context, leaving []api.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var ids []string
	for _, i := range leaving {
		ids = append(ids, i.ID)
	}
	err := s.m.director.Do(ctx, http.MethodPost, "/api/v1/manager/terminate", map[string][]string{"instances": ids}, nil)
	if err != nil {
		return fmt.Errorf("terminate %s: %w", names(leaving), err)
	}
	s.crew.terminated(leaving)
	return nil
}

func (s *service) waitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serveTime)
	defer cancel()
	for {
		health, err := s.half.Observe(ctx)
		if err == nil && health.Ready {
			s.collect()
			s.become(api.Running, serves(health), &health)
			return nil
		}
		problem := health.Problem
		if err != nil {
			problem = err.Error()
		}
		select {
		case <-ctx.Done():
			return &api.Error{Code: api.CodeDeadline, Op: "check", Object: "service " + s.wanted().Service.Name, Message: "it does not serve: " + problem}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// down stops a service. What the user owns is the director's and stays.
func (s *service) down(ctx context.Context, d api.DesiredService) {
	s.converged = ""
	s.offer(nil)
	all := s.crew.all()
	if len(all) == 0 && d.Operation == nil {
		if now := s.current(); now != api.Init && now != api.Failed && now != api.Stopped {
			s.become(api.Stopped, "stopped", &services.Health{})
		}
		return
	}
	run, ctx, cancel := s.begin(ctx, d, stepsToStop)
	defer cancel()
	failed := s.current() == api.Failed && d.Operation == nil // cleaning up after a start that failed keeps its reason
	if len(all) > 0 && !failed {
		s.become(api.Epilogue, "stopping", nil)
	}
	err := s.takeDown(ctx, run, all)
	if err == nil && !failed {
		s.become(api.Stopped, "stopped", &services.Health{})
	}
	if err != nil {
		s.log.Error("not stopped", "error", err)
	}
	s.finish(ctx, run, d, err)
}

func (s *service) takeDown(ctx context.Context, run *operation.Run, all []api.Instance) error {
	if len(all) == 0 {
		return nil
	}
	if err := run.Step(ctx, "drain "+names(all)); err != nil {
		return err
	}
	answering, _ := s.crew.sort(s.m.c.Now())
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := s.half.Drain(drain, answering); err != nil {
		s.log.Warn("not drained", "error", err)
	}
	if err := run.Step(ctx, "terminate "+names(all)); err != nil {
		return err
	}
	return s.terminate(ctx, all)
}

// begin opens the operation that the user waits for, or one that is only
// logged when we act on our own.
func (s *service) begin(ctx context.Context, d api.DesiredService, steps int) (*operation.Run, context.Context, context.CancelFunc) {
	save := func(_ context.Context, r api.OperationReport) (bool, error) {
		if n := len(r.Steps); n > 0 {
			s.log.Info("step", "name", r.Steps[n-1].Name, "state", string(r.State))
		}
		return false, nil
	}
	deadline := s.m.c.Now().Add(healTime + s.crew.bootTime(d.Instances) - bootTime)
	if d.Operation != nil {
		id := d.Operation.ID
		deadline = d.Operation.Deadline
		save = func(ctx context.Context, r api.OperationReport) (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, reportTime)
			defer cancel()
			var reply api.OperationReply
			err := s.m.director.Do(ctx, http.MethodPost, "/api/v1/manager/operations/"+id, r, &reply)
			if err != nil {
				s.log.Warn("progress not told", "operation", id, "error", err)
			}
			return reply.Cancelling, err
		}
	}
	run := operation.New(steps, save, s.m.c.Now)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	s.step = func(name string) { _ = run.Step(ctx, name) } // the loop asks again between its own steps
	return run, ctx, cancel
}

// finish reports the state before the end of the operation, so that whoever
// waits for the operation then reads the right state. The end is told until
// the director takes it or wants something else.
func (s *service) finish(ctx context.Context, run *operation.Run, d api.DesiredService, err error) {
	s.step = func(string) {}
	ctx = context.WithoutCancel(ctx)
	if e := s.m.reportNow(ctx); e != nil {
		s.log.Warn("state not told", "error", e)
	}
	if e := run.End(ctx, err); e != nil {
		s.log.Warn("end of the operation not told; it runs again", "error", e)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.desired.Operation; now != nil && d.Operation != nil && now.ID == d.Operation.ID { // another may have begun meanwhile
		s.desired.Operation = nil // the director's next word may take a moment
	}
}

func names(instances []api.Instance) string {
	var ids []string
	for _, i := range instances {
		ids = append(ids, i.ID)
	}
	return strings.Join(ids, ", ")
}
