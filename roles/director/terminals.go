package director

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/rpc"
	"nutshell/roles/internal/terminal"
)

// terminals counts those that are open, and says how long one may be idle.
type terminals struct {
	perUser, perInstance int
	idle                 time.Duration // without a byte in either direction
	warn                 time.Duration // before that, the client is told

	mu        sync.Mutex
	users     map[int64]int
	instances map[string]int
}

func newTerminals() *terminals {
	return &terminals{perUser: 20, perInstance: 16, idle: 30 * time.Minute, warn: 2 * time.Minute, users: map[int64]int{}, instances: map[string]int{}}
}

// enter counts one more; leave ends it.
func (t *terminals) enter(user int64, instance string) (leave func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	tooMany := func(whose string, n int) error {
		return &api.Error{Code: api.CodeTooMany, Op: "open a terminal of", Object: "instance " + instance, Message: whose + strconv.Itoa(n) + " terminals open, which is as many as may be", Hint: "close one that is not needed"}
	}
	switch {
	case t.users[user] >= t.perUser:
		return nil, tooMany("you have ", t.perUser)
	case t.instances[instance] >= t.perInstance:
		return nil, tooMany("it has ", t.perInstance)
	}
	t.users[user]++
	t.instances[instance]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.users[user]--; t.users[user] == 0 {
			delete(t.users, user)
		}
		if t.instances[instance]--; t.instances[instance] == 0 {
			delete(t.instances, instance)
		}
	}, nil
}

// openTerminal joins whoever asks with a shell in an instance. What can be
// refused is refused before there is a WebSocket.
func (d *Director) openTerminal(ctx context.Context, in *struct {
	InstancePath
	Cols    int      `query:"cols" minimum:"1" maximum:"1000" default:"80" doc:"of the terminal"`
	Rows    int      `query:"rows" minimum:"1" maximum:"1000" default:"24" doc:"of the terminal"`
	Command []string `query:"command,explode" maxItems:"256" doc:"a program and its arguments, one each; without it: the login shell"`
	TTY     string   `query:"tty" enum:"true,false" default:"true" doc:"false: pipes, with stderr apart, for scripts"`
}) (*httpapi.Socket, error) {
	a, path, err := d.instancePath(ctx, in.InstancePath)
	if err != nil {
		return nil, err
	}
	manager, err := d.manager(a)
	if err != nil {
		return nil, err
	}
	q := url.Values{"cols": {strconv.Itoa(in.Cols)}, "rows": {strconv.Itoa(in.Rows)}, "command": in.Command, "tty": {in.TTY}}
	user := httpapi.Who(ctx).User.ID
	return &httpapi.Socket{
		Still: func(ctx context.Context) error {
			a, _, err := d.instancePath(ctx, in.InstancePath)
			if err == nil {
				_, err = d.manager(a)
			}
			return err
		},
		Serve: func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			client, err := terminal.Accept(w, r)
			if err != nil {
				return api.Invalidf("the WebSocket's handshake was not understood")
			}
			leave, err := d.terminals.enter(user, in.ID)
			if err != nil {
				client.Close(api.AsError(err))
				return err
			}
			defer leave()
			dial, cancel := context.WithTimeout(ctx, short)
			defer cancel()
			shell, err := terminal.Dial(dial, manager.Upgrading(), manager.Base+path+"/terminal?"+q.Encode(), nil, rpc.Refusal)
			if err != nil {
				client.Close(api.AsError(err))
				return err
			}
			return d.relay(ctx, client, shell)
		},
	}, nil
}

// relay passes frames until the terminal ends, or nothing was typed or printed
// for long.
func (d *Director) relay(ctx context.Context, client, shell *terminal.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(d.waits, func() {
		cancel(&api.Error{Code: api.CodeUnavailable, Message: "the director is stopping", Hint: "connect again when it runs"})
	})()
	var moved atomic.Int64
	moved.Store(time.Now().UnixNano())
	go d.terminals.watchIdle(ctx, client, &moved, cancel)
	return terminal.Relay(ctx, client, shell, func() { moved.Store(time.Now().UnixNano()) })
}

func (t *terminals) watchIdle(ctx context.Context, client *terminal.Conn, moved *atomic.Int64, cancel context.CancelCauseFunc) {
	warned := false
	for {
		idle := time.Since(time.Unix(0, moved.Load()))
		next := t.idle - t.warn - idle
		switch {
		case idle >= t.idle:
			cancel(&api.Error{Code: api.CodeDeadline, Message: "nothing was typed or printed for " + t.idle.String(), Hint: "connect again"})
			return
		case next > 0 && warned: // somebody is there again
			warned = false
			_ = client.Control(ctx, api.TerminalFrame{Idle: -1})
		case next <= 0 && !warned:
			warned = true
			_ = client.Control(ctx, api.TerminalFrame{Idle: int((t.idle - idle).Seconds()) + 1})
		}
		if warned {
			next = min(t.idle-idle, time.Second) // the warning goes as soon as somebody types
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		}
	}
}

// FilePath names a file of an instance.
type FilePath struct {
	InstancePath
	Path string `query:"path" maxLength:"4096" doc:"absolute, as the instance has it"`
}

func (p FilePath) query() string { return "?" + url.Values{"path": {p.Path}}.Encode() }

func (d *Director) listFiles(ctx context.Context, in *FilePath) (api.Directory, error) {
	a, path, err := d.instancePath(ctx, in.InstancePath)
	if err != nil {
		return api.Directory{}, err
	}
	var out api.Directory
	err = d.call(ctx, a, http.MethodGet, path+"/files"+in.query(), nil, &out)
	return out, err
}

func (d *Director) getFile(ctx context.Context, in *FilePath) (*httpapi.Stream, error) {
	a, path, err := d.instancePath(ctx, in.InstancePath)
	if err != nil {
		return nil, err
	}
	c, err := d.manager(a)
	if err != nil {
		return nil, err
	}
	resp, err := c.Stream(ctx, http.MethodGet, path+"/files/content"+in.query(), nil) //nolint:bodyclose // whoever sends the answer closes it
	if err != nil {
		return nil, err
	}
	return &httpapi.Stream{Type: "application/octet-stream", Filename: baseName(in.Path), Size: max(resp.ContentLength, 0), Whole: true, Read: closing{resp.Body, c}}, nil
}

// putFile hands a file on as it comes; silence is borne for a while only.
func (d *Director) putFile(ctx context.Context, in *FilePath) (api.Entry, error) {
	body := httpapi.IncomingBody(ctx, streamIdle)
	defer body.End()
	var out api.Entry
	a, path, err := d.instancePath(ctx, in.InstancePath)
	if err != nil {
		return out, err
	}
	c, err := d.manager(a)
	if err != nil {
		return out, err
	}
	defer c.HTTP.CloseIdleConnections()
	err = c.Put(ctx, path+"/files/content"+in.query(), body, &out)
	return out, err
}

// baseName is what a file is saved as.
func baseName(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[i+1:]
		}
	}
	return path
}
