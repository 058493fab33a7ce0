package php_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/php"
	"nutshell/services/servicetest"
)

// needPrograms skips on a laptop without nginx and PHP; in CI they must be there.
func needPrograms(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("nginx")
	found, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if err == nil && len(found) > 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("nginx-light and php-fpm are needed")
	}
	t.Skip("install nginx-light and php-fpm to run this test")
}

const page = `<?php echo "page of VERSION for ", $_SERVER["REQUEST_METHOD"], " ", $_SERVER["REQUEST_URI"], " by ", basename(__FILE__), "\n";`

func version(v string) map[string]string {
	return map[string]string{
		"index.php":       strings.ReplaceAll(page, "VERSION", v),
		"sub/other.php":   strings.ReplaceAll(page, "VERSION", v),
		"style.css":       "/* " + v + " */",
		"docs/index.html": "docs of " + v,
		".git/config":     "secret",
		"data/.htaccess":  "<IfModule mod_authz_core.c>\nRequire all denied\n</IfModule>\n",
		"data/page.txt":   "secret",
		"lib/x.phtml":     "<?php secret();",
		"slow.php":        `<?php usleep(400000); echo "slow page done";`,
		"info.php":        `<?php header("Content-Type: text/plain"); foreach (["SCRIPT_NAME","PATH_INFO","DOCUMENT_ROOT","SCRIPT_FILENAME","REMOTE_ADDR","HTTP_HOST","SERVER_PORT","QUERY_STRING"] as $k) echo "$k=", $_SERVER[$k] ?? "-", "\n"; echo "version=", $_SERVER["HTTP_X_NUTSHELL_VERSION"] ?? "-", "\nbody=", strlen(file_get_contents("php://input")), "\n";`,
		"write.php":       `<?php file_put_contents("data.txt", "written"); echo file_get_contents("data.txt");`,
		"session.php":     `<?php session_start(); $_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1; echo "visit ", $_SESSION["n"];`,
	}
}

func client() *http.Client {
	return &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func urls(ctx context.Context, w *servicetest.World) ([]string, error) {
	h, err := w.Manager.Observe(ctx)
	if err == nil && len(h.URLs) == 0 {
		err = fmt.Errorf("no URL: %s", h.Problem)
	}
	return h.URLs, err
}

func fetch(ctx context.Context, c *http.Client, method, url, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// probe uses the first proxy's site, which is the instance that always stays.
func probe(c *http.Client) func(context.Context, *servicetest.World) error {
	base := ""
	// nginx closes idle connections when it reloads. Clients send again what
	// was only read; the rest goes over connections of its own.
	once := client()
	once.Transport = &http.Transport{DisableKeepAlives: true}
	return func(ctx context.Context, w *servicetest.World) error {
		if base == "" {
			all, err := urls(ctx, w)
			if err != nil {
				return err
			}
			base = all[0]
		}
		for _, r := range []struct{ method, path, want string }{
			{"GET", "", "GET / by index.php"}, {"POST", "some/route?x=1", "POST /some/route?x=1 by index.php"}, {"GET", "style.css", "/* "},
			{"GET", "sub/other.php", "GET /sub/other.php by other.php"}, {"PUT", "docs", "PUT /docs by index.php"},
		} {
			via, body := c, ""
			if r.method != "GET" {
				via, body = once, "hello"
			}
			status, body, err := fetch(ctx, via, r.method, base+r.path, body)
			if err != nil {
				return err
			}
			if status != 200 || !strings.Contains(body, r.want) {
				return fmt.Errorf("%s /%s: status %d, %.80q, want %q", r.method, r.path, status, body, r.want)
			}
		}
		return nil
	}
}

func TestPHP(t *testing.T) {
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = version("zero")
	servicetest.Run(t, k, servicetest.Options{
		Counts: []map[string]int{
			{"backend": 2}, {"proxy": 2, "web": 1}, {"web": 2, "backend": 3}, {"web": 1, "backend": 1}, {"proxy": 1, "backend": 2}, {"web": 1, "backend": 1}, {"web": 2, "backend": 2},
		},
		Versions: map[string]map[string]string{"code-one111": version("one"), "code-two222": version("two")},
		Probe:    probe(client()),
	})
}

func start(t *testing.T, settings string) (*servicetest.World, string) {
	t.Helper()
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = version("zero")
	w := servicetest.New(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.Configure(ctx, settings); err != nil {
		t.Fatal(err, api.AsError(err).LogTail)
	}
	all, err := urls(ctx, w)
	if err != nil {
		t.Fatal(err)
	}
	return w, all[0]
}

func TestRequests(t *testing.T) {
	w, base := start(t, `{"post_max_size":"1M","upload_max_filesize":"1M"}`)
	c := client()
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"front-page", "GET", "", "", 200, "page of zero for GET / by index.php"},
		{"static-file", "GET", "style.css", "", 200, "/* zero */"},
		{"directory-gets-slash", "GET", "docs", "", 301, ""},
		{"directory-index", "GET", "docs/", "", 200, "docs of zero"},
		{"front-controller", "GET", "a/b?c=d", "", 200, "GET /a/b?c=d by index.php"},
		{"front-controller-put", "PUT", "a/b", "x", 200, "PUT /a/b by index.php"},
		{"directory-without-index", "GET", "sub/", "", 200, "GET /sub/ by index.php"},
		{"missing-script", "GET", "none.php", "", 200, "GET /none.php by index.php"},
		{"path-info", "GET", "info.php/x/y?q=1", "", 200, "PATH_INFO=/x/y\n"},
		{"script-name", "GET", "info.php/x/y?q=1", "", 200, "SCRIPT_NAME=/info.php\n"},
		{"body", "POST", "info.php", strings.Repeat("x", 900<<10), 200, "body=921600\n"},
		{"body-too-large", "POST", "info.php", strings.Repeat("x", 2<<20), 413, ""},
		{"hidden-directory", "GET", ".git/config", "", 404, ""},
		{"denied-directory", "GET", "data/page.txt", "", 404, ""},
		{"hidden-encoded", "GET", "%2egit/config", "", 404, ""},
		{"other-php-names", "GET", "lib/x.phtml", "", 404, ""},
		{"escape", "GET", "sub/..%2f..%2f..%2fetc/passwd", "", 400, ""},
		{"writes", "GET", "write.php", "", 200, "written"},
		{"source-is-not-shown", "GET", "sub/other.php/", "", 200, "by other.php"},
	}
	run := func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				status, body, err := fetch(t.Context(), c, tt.method, base+tt.path, tt.body)
				if err != nil || status != tt.status || !strings.Contains(body, tt.want) || strings.Contains(body, "<?php") {
					t.Errorf("got %d %.200q %v, want %d %q", status, body, err, tt.status, tt.want)
				}
			})
		}
	}
	t.Run("packed", run)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := w.Scale(ctx, map[string]int{"web": 2, "backend": 2}); err != nil {
		t.Fatal(err)
	}
	t.Run("spread", run)
}

func TestFailedVersionLeavesTheOldOneServing(t *testing.T) {
	w, base := start(t, `{}`)
	w.Files["code-broken"] = map[string]string{"index.php": `<?php this is not PHP`}
	w.Files["code-throws"] = map[string]string{"index.php": `<?php throw new Exception("no database here");`}
	w.Files["code-static"] = map[string]string{"page.txt": "no index at all"}
	for _, v := range []string{"code-broken", "code-throws"} {
		err := w.Activate(t.Context(), v)
		servicetest.Code(t, err, api.CodeInvalid)
		if e := api.AsError(err); e == nil || len(e.LogTail) == 0 || !strings.Contains(e.Message, "500") {
			t.Errorf("%s: the error does not tell why: %+v", v, e)
		}
		if _, body, err := fetch(t.Context(), client(), "GET", base, ""); err != nil || !strings.Contains(body, "page of zero") {
			t.Errorf("%s: got %q, %v; want the old version", v, body, err)
		}
	}
	if err := w.Activate(t.Context(), "code-static"); err != nil {
		t.Errorf("a version without a page at the health path is allowed: %v", err)
	}
}

// When one of two proxies cannot switch, the other goes back.
func TestProxiesSwitchTogether(t *testing.T) {
	w, _ := start(t, `{}`)
	if err := w.Scale(t.Context(), map[string]int{"proxy": 2}); err != nil {
		t.Fatal(err)
	}
	w.Files["code-next"] = version("next")
	refused := errors.New("no space left")
	w.Refuse = func(c api.AgentConfig) error {
		if c.Instance.ID == "i2" && strings.Contains(string(c.Config), `"serve":"code-next"`) {
			return refused
		}
		return nil
	}
	if err := w.Activate(t.Context(), "code-next"); !errors.Is(err, refused) {
		t.Fatalf("got %v", err)
	}
	all, err := urls(t.Context(), w)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, u := range all {
		if _, body, err := fetch(t.Context(), client(), "GET", u, ""); err != nil || !strings.Contains(body, "page of zero") {
			t.Errorf("%s: got %q, %v; want the old version", u, body, err)
		}
	}
}

// Bad pages hurt nobody but themselves.
func TestBadPages(t *testing.T) {
	w, base := start(t, `{"max_execution_time":1,"request_timeout":2,"memory_limit":"16M","children":4,"disable_functions":["gethostname"]}`)
	w.Files["code-bad"] = map[string]string{
		"index.php": `<?php echo "fine";`, "loop.php": `<?php while (true);`, "sleep.php": `<?php sleep(60);`, "eat.php": `<?php $a = []; while (true) $a[] = str_repeat("x", 1 << 20);`,
		"crash.php": `<?php posix_kill(posix_getpid(), 11); sleep(1);`, "off.php": `<?php echo function_exists("gethostname") ? "on" : "off", function_exists("gethostbyname") ? "on" : "off";`,
	}
	if err := w.Activate(t.Context(), "code-bad"); err != nil {
		t.Fatal(err, api.AsError(err).LogTail)
	}
	bad := make(chan string)
	paths := []string{"loop.php", "eat.php", "crash.php", "sleep.php"}
	for _, p := range paths {
		go func() {
			status, _, err := fetch(t.Context(), client(), "GET", base+p, "")
			bad <- fmt.Sprintf("%s %d %v", p, status, err)
		}()
	}
	for left := len(paths); left > 0; {
		select {
		case r := <-bad:
			t.Log(r)
			left--
			if strings.Contains(r, " 200 ") {
				t.Errorf("a bad page was answered with success: %s", r)
			}
		default:
			status, body, err := fetch(t.Context(), client(), "GET", base, "")
			if err != nil || status != 200 || body != "fine" {
				t.Fatalf("a good page beside bad ones: %d %q %v", status, body, err)
			}
		}
	}
	if _, body, _ := fetch(t.Context(), client(), "GET", base+"off.php", ""); body != "offon" {
		t.Errorf("disabled functions: got %q", body)
	}
}

// New settings start while a slow page of the old ones still runs, and
// sessions outlive both settings and code.
func TestSettingsChangeCutsNothing(t *testing.T) {
	w, base := start(t, `{}`)
	jar := &cookies{}
	c := client()
	c.Jar = jar
	if _, body, _ := fetch(t.Context(), c, "GET", base+"session.php", ""); body != "visit 1" {
		t.Fatalf("got %q", body)
	}
	slow := make(chan string)
	go func() {
		_, body, err := fetch(t.Context(), client(), "GET", base+"slow.php", "")
		slow <- fmt.Sprint(body, err)
	}()
	time.Sleep(100 * time.Millisecond) // the slow page takes four times that
	began := time.Now()
	if err := w.Configure(t.Context(), `{"memory_limit":"64M"}`); err != nil {
		t.Fatal(err)
	}
	t.Logf("settings changed in %v", time.Since(began))
	if got := <-slow; got != "slow page done<nil>" {
		t.Errorf("slow page: %s", got)
	}
	w.Files["code-next"] = version("next")
	if err := w.Activate(t.Context(), "code-next"); err != nil {
		t.Fatal(err)
	}
	if _, body, _ := fetch(t.Context(), c, "GET", base+"session.php", ""); body != "visit 2" {
		t.Errorf("session lost: got %q", body)
	}
	for range 1200 { // the former php-fpm goes when it is idle
		if n := strings.Count(fmt.Sprint(w.Processes("i1")), "php-fpm-"); n == 1 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("the former php-fpm is still there: %v", w.Processes("i1"))
}

// Settings that come back before the PHP-FPM that had them is gone take effect
// like any: who waits for it must not wait for one that ends.
func TestSettingsComeBack(t *testing.T) {
	w, base := start(t, `{}`)
	w.Files["code-limit"] = map[string]string{"index.php": `<?php echo ini_get("memory_limit");`}
	if err := w.Activate(t.Context(), "code-limit"); err != nil {
		t.Fatal(err)
	}
	for n := range 24 {
		want := []string{"64M", "96M"}[n%2]
		// The former one ends after three looks; each round comes at another moment of that.
		time.Sleep(time.Duration(n) * 10 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		err := w.Configure(ctx, `{"memory_limit":"`+want+`"}`)
		cancel()
		if err != nil {
			t.Fatalf("change %d: %v", n, err)
		}
		if _, body, err := fetch(t.Context(), client(), "GET", base, ""); err != nil || body != want {
			t.Fatalf("change %d: got %q %v, want %s", n, body, err, want)
		}
	}
}
