package director

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// newLogHouse makes a house whose managers have 2500 lines in pages of what is
// asked, and tell what they were asked.
func newLogHouse(t *testing.T) (*house, func() url.Values) {
	h := newHouse(t)
	var asked url.Values
	first := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	line := func(n int) api.LogLine {
		at := first.Add(time.Duration(n) * time.Second)
		return api.LogLine{ID: fmt.Sprintf("%d~f~1~m~a1-s1-x~x.log", n), At: &at, Service: "1", Instance: "a1-s1-x", Log: "x.log", Text: fmt.Sprintf("line %d <b>", n)}
	}
	note := func(r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		asked = r.URL.Query()
	}
	h.answer = func(mux *http.ServeMux) {
		mux.HandleFunc("GET /v1/lines", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			from := 0
			_, _ = fmt.Sscanf(r.URL.Query().Get("after"), "%d~", &from)
			if strings.HasPrefix(r.URL.Query().Get("after"), "19") {
				from = 0
			}
			p := api.LogPage{Silent: []api.LogSilent{{Service: "1", Instance: "a1-s1-y", Message: "does not answer"}}}
			for n := from; n < min(2500, from+1000); n++ {
				p.Lines = append(p.Lines, line(n+1))
			}
			p.More = from+1000 < 2500
			p.After = p.Lines[len(p.Lines)-1].ID
			_ = json.NewEncoder(w).Encode(p)
		})
		mux.HandleFunc("GET /v1/lines/sources", func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(api.LogSources{Sources: []api.LogSource{{Service: "1", Instance: "a1-s1-x", Log: "x.log", First: &first}}, Silent: []api.LogSilent{}})
		})
		mux.HandleFunc("GET /v1/lines/counts", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			_ = json.NewEncoder(w).Encode(api.LogCounts{Total: 7, Buckets: []api.LogCount{}, Silent: []api.LogSilent{}})
		})
		mux.HandleFunc("GET /v1/lines/follow", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			if r.URL.Query().Get("instance") == "gone" {
				rpc.WriteError(w, api.NotFoundf("it is gone"))
				return
			}
			e, l := json.NewEncoder(w), line(1)
			_ = e.Encode(api.LogNews{Page: &api.LogPage{Lines: []api.LogLine{line(0)}, Silent: []api.LogSilent{}}})
			_ = e.Encode(api.LogNews{Line: &l})
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
	}
	return h, func() url.Values {
		h.mu.Lock()
		defer h.mu.Unlock()
		return asked
	}
}

func TestLogLines(t *testing.T) {
	t.Parallel()
	h, asked := newLogHouse(t)
	ann := h.user("ann")
	ann.running("shop")
	const path = "/applications/shop/logs"
	var p api.LogPage
	ann.must("GET", path+"/lines?service=test&search=a%26b&level=warn&limit=3&since=2026-05-01T00:00:00Z", nil, &p, 200)
	if q := asked(); q.Get("service") != "1" || q.Get("search") != "a&b" || q.Get("level") != "warn" || q.Get("limit") != "3" || q.Get("since") == "" {
		t.Errorf("the manager was asked %v", q)
	}
	if p.Lines[0].Service != "test" || p.Silent[0].Service != "test" {
		t.Errorf("services are told by number: %+v", p.Lines[0])
	}
	for _, bad := range []string{"?regex=(", "?search=a&regex=b", "?level=loud", "?since=yesterday", "?at=x", "?limit=9999", "?nonsense=1"} {
		ann.refused("GET", path+"/lines"+bad, nil, api.CodeInvalid)
	}
	ann.refused("GET", path+"/lines?service=other", nil, api.CodeNotFound)
	var c api.LogCounts
	ann.must("GET", path+"/counts?search=x", nil, &c, 200)
	if q := asked(); c.Total != 7 || q.Get("since") != "2026-05-01T12:00:00Z" || q.Get("until") == "" || q.Get("buckets") != "60" {
		t.Errorf("counted from %v", q)
	}

	resp := ann.raw("GET", path+"/download?search=line", nil, nil)
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err != nil || len(lines) != 2500+3 || lines[0] != "2026-05-01T12:00:01.000Z test a1-s1-x x.log line 1 <b>" || !strings.HasPrefix(lines[1000], "# missing: a1-s1-y") || !strings.Contains(resp.Header.Get("Content-Disposition"), "shop.log") {
		t.Errorf("downloaded %d lines (%v), the first %q", len(lines), err, lines[0])
	}
	eve := h.user("eve")
	for _, route := range []string{"", "/lines", "/counts", "/follow", "/download"} {
		eve.refused("GET", path+route, nil, api.CodeNotFound)
	}
	ann.done("POST", "/applications/shop/stop", nil)
	if e := ann.refused("GET", path+"/lines", nil, api.CodeUnavailable); !strings.Contains(e.Hint, "start the application") {
		t.Errorf("of an application that is stopped: %v", e)
	}
}

func TestFollowLogs(t *testing.T) {
	t.Parallel()
	h, _ := newLogHouse(t)
	h.admin.running("shop")
	h.admin.refused("GET", "/applications/shop/logs/follow?instance=gone", nil, api.CodeNotFound)
	resp := h.admin.raw("GET", "/applications/shop/logs/follow", nil, nil)
	defer resp.Body.Close()
	s := bufio.NewScanner(resp.Body)
	for _, want := range []string{`"page":{"lines":[{"id":"0~`, `"line":{"id":"1~`} {
		if !s.Scan() || !strings.Contains(s.Text(), want) || !strings.Contains(s.Text(), `"service":"test"`) {
			t.Fatalf("got %q, want %q", s.Text(), want)
		}
	}
}
