package helloworld_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/helloworld"
	"nutshell/services/servicetest"
)

func TestHelloworld(t *testing.T) {
	servicetest.Run(t, helloworld.Kind(), servicetest.Options{
		Counts: []map[string]int{{"helloworld": 3}, {"helloworld": 1}, {"helloworld": 2}},
		Probe: func(ctx context.Context, w *servicetest.World) error {
			var greeting string
			err := w.Call(ctx, "i1", "get_helloworld", nil, &greeting)       // the oldest stays
			for api.CodeOf(err) == api.CodeUnavailable && ctx.Err() == nil { // its agent was just started
				time.Sleep(time.Millisecond)
				err = w.Call(ctx, "i1", "get_helloworld", nil, &greeting)
			}
			if err == nil && greeting != "hello world" {
				err = fmt.Errorf("got %q", greeting)
			}
			return err
		},
	})
}

func TestGreetingIsASetting(t *testing.T) {
	w := servicetest.New(t, helloworld.Kind())
	if err := w.Configure(t.Context(), `{"greeting":"ahoy"}`); err != nil {
		t.Fatal(err)
	}
	r, err := w.Manager.Act(t.Context(), "get_helloworld", nil)
	if err != nil || r.Text != "Received ahoy from i1" {
		t.Errorf("got %q, %v", r.Text, err)
	}
	_, err = w.Manager.Act(t.Context(), "dance", nil)
	servicetest.Code(t, err, api.CodeInvalid)
}
