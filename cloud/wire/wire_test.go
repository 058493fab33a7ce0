package wire_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nutshell/cloud"
	"nutshell/cloud/cloudtest"
	"nutshell/cloud/process"
	"nutshell/cloud/wire"
)

func TestMain(m *testing.M) { os.Exit(cloudtest.TestMain(m)) }

// serve gives a driver a server and returns what asks it.
func serve(t *testing.T, d cloud.Driver, layers wire.Layers) *wire.Client {
	t.Helper()
	s := httptest.NewServer(wire.Handler(d, layers))
	t.Cleanup(s.Close)
	return wire.NewClient(callTo(s.URL))
}

func callTo(url string) wire.Call {
	return func(ctx context.Context, method, path string, in, out any) error {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, method, url+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			b, _ := io.ReadAll(res.Body)
			return fmt.Errorf("%s: %s", res.Status, b)
		}
		return json.NewDecoder(res.Body).Decode(out)
	}
}

func TestProcessDriver(t *testing.T) {
	binary, own := cloudtest.Program(t), strings.ToLower(rand.Text())[:8] // other tests run at the same time
	whole := t                                                            // servers outlive the case that opened them
	open := func(t *testing.T, dir string) cloud.Driver {
		d, err := process.New(cloud.Config{Name: "default", Installation: own, Dir: dir, Binary: binary, Log: cloudtest.Log(t)})
		if err != nil {
			t.Fatal(err)
		}
		return serve(whole, d, nil)
	}
	cloudtest.Run(t, open, cloudtest.Options{Kill: func(t *testing.T, i cloud.Instance) {
		pid, err := cloudtest.Ask(t.Context(), i, "/pid", nil)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(pid)
		if err == nil {
			err = syscall.Kill(n, syscall.SIGKILL)
		}
		if err != nil {
			t.Fatal(err)
		}
	}})
}

// TestErrorsKeepTheirKinds is why statuses are not used for them.
func TestErrorsKeepTheirKinds(t *testing.T) {
	specs := []cloud.Spec{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	t.Run("quota-of-each-instance", func(t *testing.T) {
		list, err := serve(t, &cloudtest.Sim{Quota: 1}, nil).Launch(t.Context(), specs)
		var l *cloud.LaunchError
		if len(list) != 1 || !errors.Is(err, cloud.ErrQuota) || !errors.As(err, &l) || l.Name != "b" || !strings.Contains(err.Error(), "launch c: over quota: 1 instances") {
			t.Errorf("Launch = %v, %v; want one instance, and quota for b and c", list, err)
		}
	})
	for name, kind := range map[string]error{"unavailable": cloud.ErrUnavailable, "in-use": cloud.ErrInUse, "invalid": cloud.ErrInvalid} {
		t.Run(name, func(t *testing.T) {
			broken := fmt.Errorf("disk of %d bytes: %w", 7, kind)
			err := serve(t, &cloudtest.Sim{Broken: broken}, nil).Check(t.Context())
			if !errors.Is(err, kind) || err.Error() != broken.Error() || errors.Is(err, wire.ErrUnreached) {
				t.Errorf("Check = %v, want %v", err, broken)
			}
		})
	}
	t.Run("machine-away", func(t *testing.T) {
		c := wire.NewClient(callTo("http://127.0.0.1:1"))
		if _, err := c.List(t.Context()); !errors.Is(err, wire.ErrUnreached) || !errors.Is(err, cloud.ErrUnavailable) {
			t.Errorf("List = %v, want unreached", err)
		}
		_, err := c.Launch(t.Context(), specs)
		var l *cloud.LaunchError
		if !errors.As(err, &l) || strings.Count(err.Error(), "launch ") != 3 {
			t.Errorf("Launch = %v, want an error for each", err)
		}
	})
	t.Run("no-boot-log-there", func(t *testing.T) {
		if _, err := serve(t, &cloudtest.Sim{}, nil).BootLog(t.Context(), "a"); !errors.Is(err, cloud.ErrInvalid) {
			t.Errorf("BootLog = %v, want invalid", err)
		}
	})
	t.Run("deadline-of-the-caller", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := serve(t, &cloudtest.Sim{Latency: time.Hour}, nil).Launch(ctx, specs); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Launch = %v, want deadline exceeded", err)
		}
	})
}

// layered is a cloud that needs layers and notes them.
type layered struct {
	cloudtest.Sim
	got [][]string
}

func (l *layered) UsesLayers() bool { return true }
func (l *layered) Launch(ctx context.Context, specs []cloud.Spec) ([]cloud.Instance, error) {
	for _, s := range specs {
		l.got = append(l.got, s.Layers)
	}
	return l.Sim.Launch(ctx, specs)
}

func TestLayersAreFetchedOnce(t *testing.T) {
	low, high, bad := strings.Repeat("a", 64), strings.Repeat("b", 64), strings.Repeat("c", 64)
	var fetched atomic.Int32
	d := &layered{}
	c := serve(t, d, func(ctx context.Context, digest string) (string, error) {
		fetched.Add(1)
		if digest == bad {
			return "", errors.New("no space left")
		}
		select {
		case <-time.After(50 * time.Millisecond): // so that the others come meanwhile
		case <-ctx.Done():
		}
		return filepath.Join("/layers", digest), nil
	})
	var specs []cloud.Spec
	for i := range 8 {
		specs = append(specs, cloud.Spec{Name: "web-" + strconv.Itoa(i), Layers: []string{"/data/layers/" + low + "/rootfs", "/data/layers/" + high + "/rootfs"}})
	}
	specs = append(specs, cloud.Spec{Name: "broken", Layers: []string{"/data/layers/" + bad + "/rootfs"}}, cloud.Spec{Name: "unnamed", Layers: []string{"/data/elsewhere"}})
	list, err := c.Launch(t.Context(), specs)
	if len(list) != 8 || err == nil || !strings.Contains(err.Error(), "launch broken: layer cccccccccccc: no space left") || !strings.Contains(err.Error(), "launch unnamed: ") {
		t.Errorf("Launch = %d instances, %v; want 8, and errors for broken and unnamed", len(list), err)
	}
	if n := fetched.Load(); n != 3 {
		t.Errorf("%d transfers for 3 layers", n)
	}
	for _, dirs := range d.got {
		if len(dirs) != 2 || dirs[0] != "/layers/"+low || dirs[1] != "/layers/"+high {
			t.Errorf("the driver got layers %v", dirs)
		}
	}
	if specs[0].Layers[0] != "/data/layers/"+low+"/rootfs" {
		t.Error("Launch changed its caller's specs")
	}
}

// TestTransferGoesOn: a launch that gave up finds its layer the next time.
func TestTransferGoesOn(t *testing.T) {
	ctx, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	begin, arrived := make(chan struct{}), make(chan error, 1)
	c := serve(t, &layered{}, func(ctx context.Context, _ string) (string, error) {
		giveUp()
		<-begin
		arrived <- ctx.Err()
		return "/layers/x", nil
	})
	spec := cloud.Spec{Name: "web", Layers: []string{"/layers/" + strings.Repeat("a", 64)}}
	if _, err := c.Launch(ctx, []cloud.Spec{spec}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Launch = %v, want canceled", err)
	}
	close(begin)
	if err := <-arrived; err != nil {
		t.Errorf("the transfer ended with its launch: %v", err)
	}
}

func TestHostileRequests(t *testing.T) {
	s := httptest.NewServer(wire.Handler(&layered{}, func(context.Context, string) (string, error) {
		t.Error("a layer was asked for")
		return "", nil
	}))
	t.Cleanup(s.Close)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"not-json", http.MethodPost, "launch", "x", http.StatusBadRequest, "not an order"},
		{"get", http.MethodGet, "launch", "", http.StatusMethodNotAllowed, ""},
		{"unknown-order", http.MethodPost, "format", "{}", http.StatusNotFound, ""},
		{"directory-as-layer", http.MethodPost, "launch", `{"specs":[{"Name":"a","Layers":["/etc"]}]}`, http.StatusOK, `"kinds":["invalid"]`},
		{"layer-that-climbs", http.MethodPost, "launch", `{"specs":[{"Name":"a","Layers":["../../` + strings.Repeat("a", 64) + `"]}]}`, http.StatusOK, `"kinds":["invalid"]`},
		{"too-large", http.MethodPost, "launch", `{"ids":["` + strings.Repeat("a", 17<<20) + `"]}`, http.StatusBadRequest, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+wire.Prefix+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != c.status || !strings.Contains(string(b), c.says) {
				t.Errorf("%s %.40s = %d %.200s; want %d and %q", c.path, c.body, res.StatusCode, b, c.status, c.says)
			}
		})
	}
}

// TestHostileAnswers come from a machine that somebody took over.
func TestHostileAnswers(t *testing.T) {
	answer := func(text string) *wire.Client {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
		t.Cleanup(s.Close)
		return wire.NewClient(callTo(s.URL))
	}
	long := strings.Repeat("x", 1<<20)
	err := answer(`{"faults":[{"text":"` + long + `","kinds":["quota"]}]}`).Check(t.Context())
	if !errors.Is(err, cloud.ErrQuota) || len(err.Error()) > 8<<10 {
		t.Errorf("a long error has %d bytes, %v", len(err.Error()), errors.Is(err, cloud.ErrQuota))
	}
	err = answer(`{"faults":[` + strings.Repeat(`{"instance":"`+strings.Repeat("y", 2000)+`","text":"`+strings.Repeat("x", 2000)+`"},`, 3000) + `{"text":"last"}]}`).Check(t.Context())
	if err == nil || len(err.Error()) > 2<<20 || !strings.Contains(err.Error(), "more") {
		t.Errorf("many errors have %d bytes", len(err.Error()))
	}
	r, err := answer(`{"log":"`+strings.Repeat("QUFB", 1<<20)+`"}`).BootLog(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || len(b) != 256<<10 {
		t.Errorf("a log of %d bytes, %v", len(b), err)
	}
}
