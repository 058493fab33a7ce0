package client

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

func (c *Client) operationVerbs() []*cli.Command {
	return []*cli.Command{
		c.verb("list", "operations, newest first", "", listOperations,
			&cli.BoolFlag{Name: "active", Usage: "only those under way"},
			&cli.StringFlag{Name: "application", Aliases: []string{"a"}, Usage: "of this application"},
			&cli.StringFlag{Name: "service", Aliases: []string{"s"}, Usage: "of this service of the application"},
			&cli.StringFlag{Name: "state", Usage: "pending, running, done, failed or cancelled"},
			&cli.StringFlag{Name: "kind", Usage: "of this kind, such as service.start, or service for all that begin so"},
			&cli.StringFlag{Name: "actor", Usage: "asked for by this user"},
			&cli.StringFlag{Name: "parent", Usage: "parts of this operation"},
			&cli.IntFlag{Name: "limit", Aliases: []string{"n"}, Value: 50, Usage: "at most so many"}),
		c.verb("show", "steps, times and outcome", "<operation_id>", onOperation(func(r *call, op api.Operation) error {
			return r.showText(op, func(w io.Writer) { writeOperation(w, op) })
		})),
		c.verb("wait", "wait until an operation is finished", "<operation_id>", onOperation(func(r *call, op api.Operation) error {
			r.g.noWait = false
			return r.finish(&op, op.Title+"... ")
		})),
		c.verb("cancel", "stop an operation before its next step and undo it", "<operation_id>", onOperation(cancelOperation)),
		c.verb("report", "save an operation with what helps to find out what went wrong", "<operation_id> [filename]", onOperation(func(r *call, op api.Operation) error {
			return r.saveFile("/operations/"+escape(op.ID)+"/report", r.arg("filename"), "operation-"+op.ID+".json")
		})),
		c.verb("retry", "do again what failed", "<operation_id>", onOperation(func(r *call, op api.Operation) error {
			var again api.Operation
			if err := r.send(http.MethodPost, "/operations/"+escape(op.ID)+"/retry", nil, &again); err != nil {
				return err
			}
			return r.finish(&again, again.Title+"... ")
		})),
	}
}

func onOperation(do func(*call, api.Operation) error) func(*call) error {
	return func(r *call) error {
		var op api.Operation
		if err := r.get("/operations/"+escape(r.arg("operation_id")), &op); err != nil {
			return err
		}
		return do(r, op)
	}
}

func listOperations(r *call) error {
	q := url.Values{"limit": {strconv.Itoa(r.Int("limit"))}}
	for _, name := range []string{"state", "kind", "actor", "parent"} {
		if v := r.String(name); v != "" {
			q.Set(name, v)
		}
	}
	if r.Bool("active") {
		q.Set("state", "active")
	}
	if name := r.String("application"); name != "" {
		a, err := r.findApplication(name)
		if err != nil {
			return err
		}
		q.Set("application", strconv.FormatInt(a.ID, 10))
		if name := r.String("service"); name != "" {
			s, err := pickService(a, name, nil)
			if err != nil {
				return err
			}
			q.Set("service", strconv.FormatInt(s.ID, 10))
		}
	} else if r.String("service") != "" {
		return usagef("--service needs --application: services are counted in each application")
	}
	var all []api.Operation
	if err := r.get("/operations?"+q.Encode(), &all); err != nil {
		return err
	}
	t := &table{columns: []string{"operation", "aid", "sid", "state", "progress", "asked", "title"}, none: "No existing operations."}
	for _, op := range all {
		service := "-"
		if op.Service != 0 {
			service = strconv.FormatInt(op.Service, 10)
		}
		t.add(op.ID, strconv.FormatInt(op.Application, 10), service, string(op.State), fmt.Sprintf("%.0f%%", op.Progress*100), op.Created.Local().Format(time.DateTime), op.Title)
	}
	return r.show(all, t)
}

func cancelOperation(r *call, op api.Operation) error {
	if err := r.send(http.MethodPost, "/operations/"+escape(op.ID)+"/cancel", nil, &op); err != nil {
		return err
	}
	if r.g.noWait || r.g.output != "table" || op.State == api.OperationDone {
		return r.made(op, op.ID, "Operation %s: %s, cancelling", op.ID, op.State)
	}
	last, err := r.await(op, "Cancelling operation "+op.ID+"... ", false)
	switch {
	case err != nil:
		return err
	case last.State == api.OperationCancelled:
		r.say("Operation %s was cancelled.", op.ID)
		if last.Undone != "" {
			r.say("undone: %s", last.Undone)
		}
		return nil
	case last.State == api.OperationFailed:
		return &failedOperation{last}
	}
	return &api.Error{Code: api.CodeConflict, Op: "cancel", Object: "operation " + op.ID, Message: "it was done before it could be cancelled"}
}

func writeOperation(w io.Writer, op api.Operation) {
	pairs(w, "operation", op.ID, "title", op.Title, "kind", op.Kind, "state", string(op.State), "progress", fmt.Sprintf("%.0f%%", op.Progress*100),
		"by", op.Actor, "asked", op.Created.Local().Format(time.DateTime))
	if op.Started != nil && op.Ended != nil {
		pairs(w, "took", op.Ended.Sub(*op.Started).Round(time.Millisecond).String())
	}
	if op.ExpectedMS > 0 {
		pairs(w, "usually", (time.Duration(op.ExpectedMS) * time.Millisecond).String())
	}
	pairs(w, "part of", op.Parent, "retry of", op.RetryOf, "undone", op.Undone)
	if op.Error != nil {
		pairs(w, "error", op.Error.Error(), "log", strings.Join(op.Error.LogTail, "\n     "))
	}
	if len(op.Steps) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := &table{columns: []string{"state", "took", "step", "detail"}}
	for _, s := range op.Steps {
		took := "-"
		if s.Started != nil && s.Ended != nil {
			took = s.Ended.Sub(*s.Started).Round(time.Millisecond).String()
		}
		t.add(string(s.State), took, s.Name, s.Detail)
	}
	t.write(w)
}
