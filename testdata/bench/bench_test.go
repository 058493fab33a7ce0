package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"nutshell/roles/api"
)

func TestRow(t *testing.T) {
	for _, c := range []struct {
		name   string
		row    row
		want   string
		failed bool
	}{
		{"ratio-reached", row{what: "a", ours: 200, peer: 100, unit: "ms", note: "add 1", limit: 3}, "a|200 ms|100 ms (add 1)|2.00|≤ 3 ×|yes", false},
		{"ratio-missed", row{what: "a", ours: 400, peer: 100, unit: "ms", limit: 3}, "a|400 ms|100 ms|4.00|≤ 3 ×|NO", true},
		{"at-least-reached", row{what: "a", ours: 95, peer: 100, unit: "/s", limit: 0.9, atLeast: true}, "a|95 /s|100 /s|0.95|≥ 0.9 ×|yes", false},
		{"at-least-missed", row{what: "a", ours: 80, peer: 100, unit: "/s", limit: 0.9, atLeast: true}, "a|80 /s|100 /s|0.80|≥ 0.9 ×|NO", true},
		{"absolute-reached", row{what: "a", ours: 1.5, unit: "s", limit: 2, absolute: true}, "a|1.5 s|-|-|≤ 2 s|yes", false},
		{"absolute-missed", row{what: "a", ours: 2.5, unit: "s", limit: 2, absolute: true}, "a|2.5 s|-|-|≤ 2 s|NO", true},
		{"nothing-written", row{what: "a", ours: 0, unit: "MB", limit: 1, absolute: true}, "a|0 MB|-|-|≤ 1 MB|yes", false},
		{"error", row{what: "a", err: errors.New("no\nluck")}, "a|-|-|-|-|failed: no luck", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(c.row.cells(), "|"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if c.row.failed() != c.failed {
				t.Errorf("got failed=%v, want %v", c.row.failed(), c.failed)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []float64
		want float64
	}{{"none", nil, 0}, {"odd", []float64{9, 1, 2}, 2}, {"even", []float64{4, 1, 3, 2}, 2.5}} {
		t.Run(c.name, func(t *testing.T) {
			if got := median(c.in); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestParseWrk(t *testing.T) {
	const good = "Running 10s test\n  2 threads and 32 connections\n  71040 requests in 10.00s, 20MB read\nRequests/sec:   7104.00\nTransfer/sec:      2.00MB\n"
	for _, c := range []struct {
		name, in string
		want     float64
		ok       bool
	}{
		{"good", good, 7104, true},
		{"errors-of-the-server", good + "  Non-2xx or 3xx responses: 12\n", 0, false},
		{"errors-of-sockets", "  Socket errors: connect 0, read 0, write 0, timeout 37\n" + good, 0, false},
		{"empty", "", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseWrk(c.in)
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("got %v %v, want %v, ok=%v", got, err, c.want, c.ok)
			}
		})
	}
}

func TestHandPoolKeepsSettings(t *testing.T) {
	got := handPool(`; made by Nutshell
[global]
pid = /var/lib/nutshell/run/fpm.pid
[www]
user = www-data
listen = /var/lib/nutshell/run/fpm.sock
pm.max_children = 14
pm.status_listen = /x
ping.path = /ping
php_admin_value[memory_limit] = 128M
php_admin_value[upload_tmp_dir] = /var/lib/nutshell/tmp/up
php_value[session.save_handler] = redis
php_value[session.save_path] = unix:///var/lib/nutshell/run/session.sock
php_value[redis.session.locking_enabled] = 1
`)
	const want = `[global]
pid = /tmp/fpm.pid
[www]
user = www-data
listen = /run/bench-fpm.sock
pm.max_children = 14
ping.path = /ping
php_admin_value[memory_limit] = 128M
php_admin_value[upload_tmp_dir] = /tmp
php_value[session.save_handler] = files
php_value[session.save_path] = /tmp
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLayersIn(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	data := fstest.MapFS{
		"images/layers/b/layer.json": file(`{"digest":"b","name":"base","created":"2026-01-01"}`),
		"images/layers/o/layer.json": file(`{"digest":"o","below":"x","name":"php","created":"2026-01-02"}`),
		"images/layers/p/layer.json": file(`{"digest":"p","below":"b","name":"php","created":"2026-01-03"}`),
	}
	got, err := layersIn(data, "/d", "php")
	if want := []string{"/d/images/layers/b/rootfs", "/d/images/layers/p/rootfs"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v %v, want the newest php on base: %v", got, err, want)
	}
	if _, err := layersIn(data, "/d", "java"); err == nil {
		t.Error("got no error for an image that is not there")
	}
}

func TestUsageOfThisProcess(t *testing.T) {
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.rss < 1<<20 || u.rss > 4<<30 {
		t.Errorf("got %d bytes resident, want some megabytes", u.rss)
	}
	began, used := time.Now(), time.Duration(0)
	for used < 50*time.Millisecond && time.Since(began) < time.Minute { // the machine may have other work
		for range 1000 { // burn what is to be counted
			_ = sha256.Sum256(make([]byte, 4096))
		}
		later, err := usageOf(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		used = later.cpu - u.cpu
	}
	if most := time.Duration(runtime.NumCPU())*time.Since(began) + time.Second; used < 50*time.Millisecond || used > most {
		t.Errorf("got %v of CPU for %v of work", used, time.Since(began))
	}
}

// TestClient speaks TLS to a server that answers as docs/develop/api.md says.
func TestClient(t *testing.T) {
	polls := 0
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(status int, v any) {
			w.WriteHeader(status)
			if err := json.NewEncoder(w).Encode(v); err != nil {
				t.Error(err)
			}
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			answer(401, api.Error{Code: api.CodeUnauthorized, Message: "sign in first"})
			return
		}
		switch r.Method + " " + r.URL.Path {
		case "POST /api/v1/applications/a/start":
			answer(202, api.Operation{ID: "op1", Kind: "application.start", State: api.OperationPending})
		case "GET /api/v1/operations/op1":
			if polls++; polls < 3 {
				answer(200, api.Operation{ID: "op1", State: api.OperationRunning})
				return
			}
			answer(200, api.Operation{ID: "op1", State: api.OperationDone})
		case "POST /api/v1/applications/b/start":
			answer(202, api.Operation{ID: "op2", Title: "start b", State: api.OperationFailed, Error: &api.Error{Code: api.CodeQuota, Message: "no credit"}})
		case "POST /api/v1/applications/a/services/1/activate":
			answer(200, api.Service{ID: 1, Kind: "php"})
		default:
			answer(404, api.Error{Code: api.CodeNotFound, Message: "no such thing"})
		}
	}))
	defer s.Close()
	sum := sha256.Sum256(s.Certificate().Raw)
	file := filepath.Join(t.TempDir(), "client.yaml")
	if err := os.WriteFile(file, []byte("url: "+s.URL+"\ntoken: secret\nca_sha256: "+strings.ToUpper(hex.EncodeToString(sum[:]))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := readAccess(file)
	if err != nil {
		t.Fatal(err)
	}
	c, ctx := newClient(a), context.Background()
	if err := c.operate(ctx, http.MethodPost, "/applications/a/start", api.Start{}); err != nil || polls != 3 {
		t.Errorf("got %v after %d polls, want done after 3", err, polls)
	}
	if err := c.operate(ctx, http.MethodPost, "/applications/b/start", api.Start{}); api.CodeOf(err) != api.CodeQuota {
		t.Errorf("got %v, want the operation's own error", err)
	}
	if err := c.operate(ctx, http.MethodPost, "/applications/a/services/1/activate", api.Activate{Version: "v"}); err != nil {
		t.Errorf("an answer that is no operation: %v", err)
	}
	if err := c.do(ctx, http.MethodGet, "/nothing", nil, nil); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("got %v, want not_found", err)
	}
	a.CA = strings.Repeat("0", 64)
	if err := newClient(a).do(ctx, http.MethodGet, "/health", nil, nil); err == nil || !strings.Contains(err.Error(), "not our director") {
		t.Errorf("got %v, want a refusal of the certificate", err)
	}
}

func TestLoadAndServe(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<title>bench</title>"))
	}))
	defer s.Close()
	if err := isPage(t.Context(), s.URL+"/"); err != nil {
		t.Error(err)
	}
	bad := httptest.NewServer(http.NotFoundHandler())
	defer bad.Close()
	if err := isPage(t.Context(), bad.URL+"/"); err == nil {
		t.Error("got no error for a 404")
	}
}
