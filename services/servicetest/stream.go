package servicetest

import (
	"context"
	"errors"
	"fmt"
	"io"

	"nutshell/roles/api"
	"nutshell/services"
)

// Receive streams r to the service, as the director and the manager do it: to
// the instance that the manager half chooses, and where that needed the
// service for itself, the service is settled afterwards.
func (w *World) Receive(ctx context.Context, name string, args map[string]string, r io.Reader) (api.ActResult, error) {
	var result api.ActResult
	err := w.stream(ctx, name, args, func(a services.StreamAgent) error {
		var err error
		result, err = a.Receive(ctx, name, args, r)
		return err
	})
	return result, err
}

// Send streams from the service into wr and returns the stream's position.
func (w *World) Send(ctx context.Context, name string, args map[string]string, wr io.Writer) (string, error) {
	position := ""
	err := w.stream(ctx, name, args, func(a services.StreamAgent) error {
		var err error
		position, err = a.Send(ctx, name, args, wr)
		return err
	})
	return position, err
}

func (w *World) stream(ctx context.Context, name string, args map[string]string, f func(services.StreamAgent) error) error {
	half, ok := w.Manager.(services.Streamer)
	if !ok {
		return fmt.Errorf("the manager half of %s lets nothing stream", w.Kind.Name)
	}
	plan, err := half.Stream(ctx, name, args)
	if err != nil {
		return err
	}
	agent, ok := w.at(plan.Instance).half().(services.StreamAgent)
	if !ok {
		err = fmt.Errorf("instance %q has no agent half that streams", plan.Instance)
	} else {
		err = f(agent)
	}
	if !plan.Alone {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // what has begun to end does end
	defer cancel()
	return errors.Join(err, half.Streamed(ctx, name, plan, err), w.Settle(ctx))
}
