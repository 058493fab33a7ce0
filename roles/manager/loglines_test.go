package manager

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/logs"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// Lines of several agents and of the manager are merged; an agent that does
// not answer is told of and spoils nothing.
func TestLogsOfAllAgents(t *testing.T) {
	w := newWorld(t)
	dir, n := t.TempDir(), 0
	w.streams = func(mux *http.ServeMux) {
		n++
		id, path := fmt.Sprintf("a7-s1-%d", n), filepath.Join(dir, fmt.Sprint(n))
		broken := n == 3
		var text strings.Builder
		for i := range 50 {
			fmt.Fprintf(&text, "time=2026-05-01T12:00:%02d.%03dZ level=INFO msg=\"line %d of %d\"\n", i, n, i, n)
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Error(err)
		}
		files := func() []logs.Log { return []logs.Log{{Instance: id, Name: "x.log", Path: path}} }
		mux.Handle("GET /v1/lines", rpc.Handle(time.Minute, func(ctx context.Context, r *http.Request, _ struct{}) (api.LogPage, error) {
			q, err := logs.Parse(r.URL.Query())
			if err != nil || broken {
				return api.LogPage{}, &api.Error{Code: api.CodeUnavailable, Message: "out of order"}
			}
			return logs.Page(ctx, files(), q)
		}))
		mux.HandleFunc("GET /v1/lines/follow", func(rw http.ResponseWriter, r *http.Request) {
			if broken {
				rpc.WriteError(rw, &api.Error{Code: api.CodeUnavailable, Message: "out of order"})
				return
			}
			q, _ := logs.Parse(r.URL.Query())
			_ = logs.Follow(r.Context(), files, q, func(n api.LogNews) error {
				defer func() { _ = http.NewResponseController(rw).Flush() }()
				return json.NewEncoder(rw).Encode(n)
			})
		})
	}
	w.startManager()
	w.change(func(d *api.DesiredService) {
		d.Service.Desired, d.Service.Parts = api.GoalStarted, map[string]int{"node": 3}
	})
	w.until("three agents serve", func() bool { return len(w.agents) == 3 && w.reports[1].State == api.Running })
	c := rpc.NewClient("https://"+w.manager+":"+fmt.Sprint(api.ManagerPort), pki.ClientTLS(w.credentials(api.Identity{Installation: "test1", Role: api.RoleDirector}), pki.ManagerOf(7)))
	var p api.LogPage
	get := func(query string) error {
		p = api.LogPage{}
		return c.Do(t.Context(), http.MethodGet, "/v1/lines?"+query, nil, &p)
	}
	if err := get("search=line&limit=10"); err != nil {
		t.Fatal(err)
	}
	if len(p.Lines) != 10 || !p.More || p.Lines[9].Service != "1" || len(p.Silent) != 1 || !strings.Contains(p.Silent[0].Message, "out of order") {
		t.Errorf("got %+v", p)
	}
	for i, l := range p.Lines {
		if want := fmt.Sprintf("line %d of %d", 45+i/2, 1+i%2); !strings.Contains(l.Text, want) {
			t.Errorf("line %d is %q, want %q", i, l.Text, want)
		}
	}
	if err := get("service=1&instance=manager"); err != nil || len(p.Lines) == 0 || p.Lines[0].Log != "service-1.log" || p.Lines[0].Instance != api.LogManager {
		t.Errorf("the manager's own: %+v, %v", p.Lines, err)
	}
	for query, want := range map[string]api.Code{"instance=a7-s1-99": api.CodeNotFound, "regex=(": api.CodeInvalid, "at=1~aaa~0~~a7-s1-99~x.log": api.CodeNotFound, "at=1~aaa~0~~manager~manager.log": api.CodeNotFound} {
		if err := get(query); api.CodeOf(err) != want && query != "at=1~aaa~0~~manager~manager.log" {
			t.Errorf("%s: got %v, want %s", query, err, want)
		}
	}

	resp, err := c.Stream(t.Context(), http.MethodGet, "/v1/lines/follow?search=line&limit=6", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	news := bufio.NewScanner(resp.Body)
	news.Buffer(nil, 1<<20)
	next := func() (n api.LogNews) {
		if !news.Scan() {
			t.Fatal("the stream ended", news.Err())
		}
		if err := json.Unmarshal(news.Bytes(), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if first := next(); first.Page == nil || len(first.Page.Lines) != 6 || !strings.Contains(first.Page.Lines[5].Text, "line 49 of 2") {
		t.Fatalf("first came %+v", first)
	}
	if n := next(); n.Silent == nil || n.Silent.Instance == "" {
		t.Errorf("then came %+v, want who does not answer", n)
	}
	f, err := os.OpenFile(filepath.Join(dir, "2"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("time=2026-05-01T12:01:00Z level=ERROR msg=\"line that is new\"\n")
	_ = f.Close()
	for n := next(); ; n = next() {
		if n.Line != nil {
			if !strings.Contains(n.Line.Text, "line that is new") || n.Line.Service != "1" || n.Line.Level != api.LogError {
				t.Errorf("followed %+v", n.Line)
			}
			break
		}
	}
}
