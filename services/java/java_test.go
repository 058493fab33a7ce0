package java_test

import (
	"context"
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
	"nutshell/services/java"
	"nutshell/services/servicetest"
)

// needPrograms skips on a laptop without nginx and Tomcat; in CI they must be there.
func needPrograms(t testing.TB) {
	t.Helper()
	_, nginx := exec.LookPath("nginx")
	_, jvm := exec.LookPath("java")
	found, _ := filepath.Glob("/usr/share/tomcat10/lib/catalina.jar")
	if nginx == nil && jvm == nil && len(found) > 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("nginx-light, tomcat10-common and default-jre-headless are needed")
	}
	t.Skip("install nginx-light, tomcat10-common and default-jre-headless to run this test")
}

func version(v string) map[string]string {
	replace := func(s string) string { return strings.ReplaceAll(s, "VERSION", v) }
	return map[string]string{
		"index.jsp":             replace(`<%@ page session="false" %>page of VERSION for <%= request.getMethod() %> <%= request.getRequestURI() %>`),
		"sub/other.jsp":         replace(`<%@ page session="false" %>other of VERSION for <%= request.getMethod() %> <%= request.getRequestURI() %>`),
		"style.css":             "/* " + v + " */",
		"docs/index.html":       "docs of " + v,
		"WEB-INF/web.xml":       `<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0"><jsp-config><jsp-property-group><url-pattern>*.do</url-pattern></jsp-property-group></jsp-config></web-app>`,
		"WEB-INF/secret.txt":    "secret",
		"META-INF/secret.txt":   "secret",
		".git/config":           "secret",
		"act.do":                replace(`<%@ page session="false" %>do of VERSION`),
		"slow.jsp":              `<%@ page session="false" %><% Thread.sleep(400); %>slow page done`,
		"fail.jsp":              `<%@ page session="false" %><% if (true) throw new IllegalStateException("broken on purpose"); %>`,
		"env.jsp":               `<%@ page session="false" %>env=<%= System.getenv("GREETING") %> secret=<%= System.getProperty("app.mode") %>`,
		"info.jsp":              `<%@ page session="false" %>addr=<%= request.getRemoteAddr() %> host=<%= request.getServerName() %> port=<%= request.getServerPort() %> scheme=<%= request.getScheme() %> q=<%= request.getQueryString() %> version=<%= request.getHeader("X-Nutshell-Version") %>`,
		"upload.jsp":            `<%@ page session="false" %>body=<%= request.getInputStream().readAllBytes().length %>`,
		"visit.jsp":             `<% Integer n = (Integer) session.getAttribute("n"); n = n == null ? 1 : n + 1; session.setAttribute("n", n); session.setAttribute("thread", Thread.currentThread()); %>visit <%= n %>`,
		"logout.jsp":            `<% session.invalidate(); %>bye`,
		"memory.jsp":            `<%@ page session="false" %><% java.util.List<byte[]> all = new java.util.ArrayList<>(); while (true) all.add(new byte[10 << 20]); %>`,
		"hang.jsp":              `<%@ page session="false" %><% Thread.sleep(600000); %>`,
		"write.jsp":             `<%@ page session="false" %><% java.nio.file.Files.writeString(java.nio.file.Path.of(application.getRealPath("/"), "made.txt"), "written"); %>done`,
		"WEB-INF/classes/.keep": "",
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
	once := client() // what changes something goes over connections of its own
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
			{"GET", "", "GET /"}, {"POST", "sub/other.jsp", "POST /sub/other.jsp"}, {"GET", "style.css", "/* "}, {"GET", "act.do", "do of "},
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

func TestJava(t *testing.T) {
	needPrograms(t)
	k := java.Kind()
	k.DefaultCode = version("zero")
	servicetest.Run(t, k, servicetest.Options{
		Counts:   []map[string]int{{"backend": 2}, {"proxy": 2, "web": 2}, {"web": 1, "backend": 1, "proxy": 1}},
		Versions: map[string]map[string]string{"code-one111": version("one"), "code-two222": version("two")},
		Probe:    probe(client()),
	})
}

func start(t *testing.T, settings string) (*servicetest.World, string) {
	t.Helper()
	needPrograms(t)
	k := java.Kind()
	k.DefaultCode = version("zero")
	w := servicetest.New(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for name, value := range map[string]string{"java_options": `["-XX:TieredStopAtLevel=1"]`, "health_timeout": "120"} { // starts sooner; and a busy machine later
		if !strings.Contains(settings, name) {
			settings = strings.TrimSuffix(settings, "}") + `,"` + name + `":` + value + "}"
			settings = strings.Replace(settings, "{,", "{", 1)
		}
	}
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
	w, base := start(t, `{"max_request_size":"1M","java_options":["-Dapp.mode=a \"b\" $c"]}`)
	c := client()
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"front-page", "GET", "", "", 200, "page of zero for GET /"},
		{"static-file", "GET", "style.css", "", 200, "/* zero */"},
		{"directory-gets-slash", "GET", "docs", "", 302, ""},
		{"directory-index", "GET", "docs/", "", 200, "docs of zero"},
		{"index-by-name", "GET", "docs/index.html", "", 200, "docs of zero"},
		{"page", "POST", "sub/other.jsp", "x", 200, "other of zero for POST /sub/other.jsp"},
		{"pattern", "GET", "act.do", "", 200, "do of zero"},
		{"query", "GET", "info.jsp?a=b%20c", "", 200, "q=a=b%20c version=null"},
		{"visitor", "GET", "info.jsp", "", 200, "scheme=http"},
		{"body", "POST", "upload.jsp", strings.Repeat("x", 900<<10), 200, "body=921600"},
		{"body-too-large", "POST", "upload.jsp", strings.Repeat("x", 2<<20), 413, ""},
		{"error-without-trace", "GET", "fail.jsp", "", 500, ""},
		{"option", "GET", "env.jsp", "", 200, `secret=a "b" $c`},
		{"web-inf", "GET", "WEB-INF/secret.txt", "", 404, ""},
		{"web-inf-lower", "GET", "web-inf/secret.txt", "", 404, ""},
		{"web-inf-encoded", "GET", "%57EB-INF/secret.txt", "", 404, ""},
		{"web-inf-dots", "GET", "docs/..;/WEB-INF/secret.txt", "", 404, ""},
		{"web-inf-semicolon", "GET", "WEB-INF;x=y/secret.txt", "", 404, ""},
		{"meta-inf", "GET", "META-INF/secret.txt", "", 404, ""},
		{"hidden", "GET", ".git/config", "", 404, ""},
		{"missing", "GET", "none.jsp", "", 404, ""},
		{"escape", "GET", "docs/..%2f..%2f..%2fetc/passwd", "", 400, ""},
	}
	run := func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				status, body, err := fetch(t.Context(), c, tt.method, base+tt.path, tt.body)
				if err != nil || status != tt.status || !strings.Contains(body, tt.want) || strings.Contains(body, "<%") || strings.Contains(body, "purpose") || body == "secret" {
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
