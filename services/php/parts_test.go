package php_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/php"
	"nutshell/services/servicetest"
)

// who is a page that tells which backend made it.
var who = map[string]string{"index.php": `<?php echo $_SERVER["SERVER_ADDR"];`, "style.css": "/* style */", "slow.php": `<?php usleep(700000); echo "slow page done";`,
	"front.php": `<?php foreach (["REMOTE_ADDR","HTTPS","SERVER_PORT","REQUEST_SCHEME","HTTP_X_FORWARDED_FOR","HTTP_X_FORWARDED_PROTO"] as $k) echo "$k=", $_SERVER[$k] ?? "-", "\n";`}

func world(t *testing.T, files map[string]string) *servicetest.World {
	t.Helper()
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = files
	return servicetest.New(t, k)
}

// TestEveryCombination walks through counts of all parts. Through every proxy
// every backend makes pages, and no other.
func TestEveryCombination(t *testing.T) {
	w := world(t, who)
	ctx := t.Context()
	for _, n := range [][3]int{{1, 1, 1}, {2, 1, 1}, {2, 2, 1}, {1, 2, 1}, {1, 2, 2}, {2, 2, 2}, {2, 1, 2}, {1, 1, 2}, {3, 3, 3}, {1, 1, 1}} {
		name := fmt.Sprintf("%d-proxies-%d-webs-%d-backends", n[0], n[1], n[2])
		if err := w.Scale(ctx, map[string]int{"proxy": n[0], "web": n[1], "backend": n[2]}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all, err := urls(ctx, w)
		if err != nil || len(all) != n[0] {
			t.Fatalf("%s: proxies %q, %v", name, all, err)
		}
		var want []string
		for _, i := range w.Instances() {
			if slices.Contains(i.Parts, "backend") {
				want = append(want, i.Address)
			}
		}
		slices.Sort(want)
		if len(want) != n[2] {
			t.Fatalf("%s: backends %q", name, want)
		}
		for _, u := range all {
			got := map[string]bool{}
			for range 6 * n[2] {
				status, body, err := fetch(ctx, client(), "GET", u, "")
				if err != nil || status != 200 {
					t.Fatalf("%s: %s: %d %v", name, u, status, err)
				}
				got[body] = true
			}
			for b := range got {
				if !slices.Contains(want, b) {
					t.Errorf("%s: %s: %q made a page", name, u, b)
				}
			}
			if len(got) != n[2] {
				t.Errorf("%s: %s: pages by %v, want %v", name, u, got, want)
			}
			if status, body, err := fetch(ctx, client(), "GET", u+"style.css", ""); err != nil || status != 200 || body != "/* style */" {
				t.Errorf("%s: %s: file: %d %q %v", name, u, status, body, err)
			}
		}
	}
}

// TestRemovalDrains: what leaves finishes its pages first, and it is the one
// that was chosen.
func TestRemovalDrains(t *testing.T) {
	w := world(t, who)
	ctx := t.Context()
	if err := w.Scale(ctx, map[string]int{"backend": 3}); err != nil {
		t.Fatal(err)
	}
	all, err := urls(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	victim := w.Instances()[1].ID
	pages := make(chan string)
	const n = 9
	for range n {
		go func() {
			status, body, err := fetch(context.WithoutCancel(ctx), client(), "GET", all[0]+"slow.php", "")
			pages <- fmt.Sprint(status, body, err)
		}()
	}
	busy := func() (sum int) {
		for _, i := range w.Instances() {
			s, err := w.Status(ctx, i.ID)
			if err != nil {
				t.Fatal(err)
			}
			sum += strings.Count(string(s.Kind), `"backends:`)
		}
		return sum
	}
	for end := time.Now().Add(time.Minute); busy() < 3 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	w.Desire(func(d *api.DesiredService) { d.Remove = []string{victim} })
	if err := w.Scale(ctx, map[string]int{"backend": 2}); err != nil {
		t.Fatal(err)
	}
	for range n {
		if got := <-pages; got != "200slow page done<nil>" {
			t.Errorf("a slow page while its backend leaves: %s", got)
		}
	}
	if slices.ContainsFunc(w.Instances(), func(i api.Instance) bool { return i.ID == victim }) {
		t.Errorf("%s should have left: %v", victim, w.Instances())
	}
}

// TestFront: only a trusted front may say who the visitor is.
func TestFront(t *testing.T) {
	w := world(t, who)
	ctx := t.Context()
	ask := func(u string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+"front.php", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", "203.0.113.9")
		req.Header.Set("X-Forwarded-Proto", "https")
		resp, err := client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	for _, tt := range []struct {
		name   string
		front  []string
		parts  map[string]int
		wanted string
	}{
		{"stranger-packed", nil, map[string]int{"backend": 1}, "REMOTE_ADDR=127.0.0.1\nHTTPS=-\nSERVER_PORT=20080\nREQUEST_SCHEME=http\nHTTP_X_FORWARDED_FOR=127.0.0.1\nHTTP_X_FORWARDED_PROTO=http"},
		{"front-packed", []string{"127.0.0.1"}, map[string]int{"backend": 1}, "REMOTE_ADDR=203.0.113.9\nHTTPS=on\nSERVER_PORT=443\nREQUEST_SCHEME=https\nHTTP_X_FORWARDED_FOR=203.0.113.9\nHTTP_X_FORWARDED_PROTO=https"},
		{"front-spread", []string{"127.0.0.1"}, map[string]int{"backend": 2}, "REMOTE_ADDR=203.0.113.9\nHTTPS=on\nSERVER_PORT=443\nREQUEST_SCHEME=https\nHTTP_X_FORWARDED_FOR=203.0.113.9\nHTTP_X_FORWARDED_PROTO=https"},
		{"stranger-spread", nil, map[string]int{"backend": 2}, "REMOTE_ADDR=127.0.0.1\nHTTPS=-\nSERVER_PORT=20080\nREQUEST_SCHEME=http\nHTTP_X_FORWARDED_FOR=127.0.0.1\nHTTP_X_FORWARDED_PROTO=http"},
		{"another-front", []string{"198.51.100.1"}, map[string]int{"backend": 1}, "REMOTE_ADDR=127.0.0.1\nHTTPS=-\nSERVER_PORT=20080\nREQUEST_SCHEME=http\nHTTP_X_FORWARDED_FOR=127.0.0.1\nHTTP_X_FORWARDED_PROTO=http"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.Desire(func(d *api.DesiredService) { d.Front = tt.front })
			if err := w.Scale(ctx, tt.parts); err != nil {
				t.Fatal(err)
			}
			all, err := urls(ctx, w)
			if err != nil {
				t.Fatal(err)
			}
			if got := ask(all[0]); got != tt.wanted {
				t.Errorf("got\n%s\nwant\n%s", got, tt.wanted)
			}
		})
	}
}

// TestSnippets: a user's lines work, and those that nginx refuses leave what
// served.
func TestSnippets(t *testing.T) {
	w := world(t, who)
	ctx := t.Context()
	if err := w.Configure(ctx, `{"nginx_server":"location = /old { return 301 /new; }\nrewrite ^/renamed\\.css$ /style.css last;","nginx_location":"add_header X-Mine yes;"}`); err != nil {
		t.Fatal(err)
	}
	all, err := urls(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for path, want := range map[string]int{"": 200, "old": 301, "renamed.css": 200} {
			if status, _, err := fetch(ctx, client(), "GET", all[0]+path, ""); err != nil || status != want {
				t.Errorf("%s: /%s: %d %v, want %d", when, path, status, err, want)
			}
		}
	}
	check("own lines")
	err = w.Configure(ctx, `{"nginx_server":"location = /x { expires sometimes; }"}`)
	e := api.AsError(err)
	if e == nil || e.Code != api.CodeInvalid || !strings.Contains(e.Error(), "expires") || !slices.Contains(e.Fields, "nginx_server") || len(e.LogTail) == 0 {
		t.Errorf("lines that nginx refuses: got %+v", e)
	}
	check("refused lines")
	err = w.Configure(ctx, `{"nginx_server":"location /etc { alias /etc; }"}`)
	servicetest.Code(t, err, api.CodeInvalid)
	check("lines that are not for users")
}

// TestUnhealthyVersions: a version that fails anywhere serves nobody.
func TestUnhealthyVersions(t *testing.T) {
	w := world(t, who)
	ctx := t.Context()
	w.Files["code-hangs"] = map[string]string{"index.php": `<?php sleep(30); echo "new";`}
	w.Files["code-missing"] = map[string]string{"other.php": `<?php echo "new";`, "health.php": `<?php http_response_code(404); echo "new";`}
	if err := w.Configure(ctx, `{"health_timeout":6,"health_status":"200-299"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.Scale(ctx, map[string]int{"proxy": 2, "backend": 3}); err != nil {
		t.Fatal(err)
	}
	odd := w.Instances()[3].Address
	w.Files["code-odd"] = map[string]string{"index.php": `<?php if ($_SERVER["SERVER_ADDR"] == "` + odd + `") { http_response_code(503); } echo "new";`}
	all, err := urls(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	go func() {
		for watching.Err() == nil {
			for _, u := range all {
				if status, body, err := fetch(context.WithoutCancel(ctx), client(), "GET", u, ""); err != nil || status != 200 || body == "new" {
					seen <- fmt.Errorf("%s: %d %q %w", u, status, body, err)
					return
				}
			}
		}
		seen <- nil
	}()
	for _, tt := range []struct{ name, version, patch, want string }{
		{"hangs", "code-hangs", `{}`, "did not answer within 6s"},
		{"one-of-three", "code-odd", `{}`, "503"},
		{"wrong-status", "code-missing", `{"health_path":"/health.php"}`, "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := w.Configure(ctx, tt.patch); err != nil {
				t.Fatal(err)
			}
			err := w.Activate(ctx, tt.version)
			if e := api.AsError(err); e == nil || e.Code != api.CodeInvalid || !strings.Contains(e.Message, tt.want) {
				t.Errorf("got %v, want an invalid error with %q", err, tt.want)
			}
		})
	}
	stop()
	if err := <-seen; err != nil {
		t.Errorf("a visitor met a version that failed: %v", err)
	}
}
