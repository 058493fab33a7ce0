package roles

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// demoTime bounds the deployment of the demo; the first start of a kind builds
// its image.
const demoTime = 25 * time.Minute

// demo deploys a PHP application from an archive through the API, as any user
// would. What stands already is left as it is.
type demo struct {
	api  *rpc.Client
	say  func(format string, args ...any) // repeats itself; the printer does not
	name string                           // of the application
	file string
}

// newDemo signs in with the file that the director writes for this account.
func newDemo(dataDir, file string, say func(string, ...any)) (*demo, error) {
	client, err := localClient(dataDir)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(filepath.Base(file), ".")
	if err := api.CheckName("application", name); err != nil {
		return nil, err
	}
	return &demo{api: client, say: say, name: name, file: file}, nil
}

type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

func (d *demo) path(rest string) string {
	return "/api/v1/applications/" + url.PathEscape(d.name) + rest
}

// deploy returns the URL at which the demo answers.
func (d *demo) deploy(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	for _, step := range []func(context.Context) error{d.ensureApplication, d.ensureService, d.ensureCode} {
		if err := step(ctx); err != nil {
			return "", err
		}
	}
	var s api.Service
	if err := d.api.Do(ctx, http.MethodGet, d.path("/services/php"), nil, &s); err != nil {
		return "", err
	}
	if s.Desired == api.GoalStopped && s.Operation == "" {
		if err := d.operate(ctx, d.path("/services/php/start"), api.Start{}); err != nil {
			return "", err
		}
	}
	return d.answers(ctx)
}

func (d *demo) ensureApplication(ctx context.Context) error {
	var a api.Application
	err := d.api.Do(ctx, http.MethodGet, d.path(""), nil, &a)
	if api.CodeOf(err) == api.CodeNotFound {
		err = d.api.Do(ctx, http.MethodPost, "/api/v1/applications", api.CreateApplication{Name: d.name}, &a)
	}
	if err != nil || a.Desired == api.GoalStarted {
		return err
	}
	return d.operate(ctx, d.path("/start"), api.Start{})
}

func (d *demo) ensureService(ctx context.Context) error {
	err := d.api.Do(ctx, http.MethodGet, d.path("/services/php"), nil, nil)
	if api.CodeOf(err) != api.CodeNotFound {
		return err
	}
	return d.api.Do(ctx, http.MethodPost, d.path("/services"), api.CreateService{Kind: "php", Name: "php"}, nil)
}

func (d *demo) ensureCode(ctx context.Context) error {
	var versions []api.CodeVersion
	if err := d.api.Do(ctx, http.MethodGet, d.path("/services/php/versions"), nil, &versions); err != nil {
		return err
	}
	for _, v := range versions {
		if v.Filename == filepath.Base(d.file) {
			return nil
		}
	}
	f, err := os.Open(d.file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	resp, err := d.api.Stream(ctx, http.MethodPost, d.path("/services/php/versions?description=demo&filename="+url.QueryEscape(filepath.Base(d.file))), f)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if err := d.api.Do(ctx, http.MethodGet, d.path("/services/php/versions"), nil, &versions); err != nil {
		return err
	}
	d.say("uploaded %s as %s", filepath.Base(d.file), versions[0].ID)
	return d.operate(ctx, d.path("/services/php/activate"), api.Activate{Version: versions[0].ID})
}

// operate asks for long work and tells its steps until it is done.
func (d *demo) operate(ctx context.Context, path string, in any) error {
	var answer json.RawMessage
	if err := d.api.Do(ctx, http.MethodPost, path, in, &answer); err != nil {
		return err
	}
	var op api.Operation
	if json.Unmarshal(answer, &op) != nil || op.Title == "" {
		return nil // it was changed at once, and the answer is the thing itself
	}
	for !op.State.Final() {
		if n := len(op.Steps); n > 0 {
			line := op.Steps[n-1].Name
			if detail := op.Steps[n-1].Detail; detail != "" {
				line += ": " + detail
			}
			d.say("%s: %s", op.Title, line)
		}
		if err := d.api.Do(ctx, http.MethodGet, "/api/v1/operations/"+op.ID+"?wait=1s", nil, &op); err != nil {
			return err
		}
	}
	if op.State != api.OperationDone {
		return op.Error
	}
	return nil
}

// answers waits for the first page.
func (d *demo) answers(ctx context.Context) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second}
	for {
		var s api.Service
		if err := d.api.Do(ctx, http.MethodGet, d.path("/services/php"), nil, &s); err != nil {
			return "", err
		}
		if s.State == api.Running {
			for _, u := range s.URLs { // names of the edge may not be known to this machine
				if shows(ctx, client, u) {
					return u, nil
				}
			}
		}
		if s.State == api.Failed {
			return "", &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "the demo", Message: s.Reason, Hint: "nutshell service start " + d.name + " php"}
		}
		select {
		case <-ctx.Done():
			return "", &api.Error{Code: api.CodeDeadline, Op: "start", Object: "the demo", Message: "it does not answer: " + s.Reason}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// shows reports whether a page is there.
func shows(ctx context.Context, client *http.Client, u string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
