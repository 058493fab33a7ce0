package java_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

const (
	webxml = `<?xml version="1.0" encoding="ISO-8859-1"?><web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">`
	// What Java EE 8 had, as far as this test needs it.
	javaxServlet = `package javax.servlet.http; public abstract class HttpServlet { protected void doGet(HttpServletRequest q, HttpServletResponse p) throws java.io.IOException {} }`
	javaxRequest = `package javax.servlet.http; public interface HttpServletRequest { String getRequestURI(); }`
	javaxAnswer  = `package javax.servlet.http; public interface HttpServletResponse { java.io.PrintWriter getWriter() throws java.io.IOException; }`
	oldServlet   = `package app; import javax.servlet.http.*; public class Old extends HttpServlet {
		@Override protected void doGet(HttpServletRequest q, HttpServletResponse p) throws java.io.IOException { p.getWriter().print("old servlet at " + q.getRequestURI()); } }`
)

// A version that cannot serve is refused with the reason, and nobody sees it.
func TestFailedVersionLeavesTheOldOneServing(t *testing.T) {
	w, base := start(t, `{"health_timeout":25,"health_status":"200-399"}`) // a busy machine needs most of it for a page that does answer
	page := map[string]string{"index.jsp": `<%@ page session="false" %>must not be seen`}
	broken := classes(t, map[string]string{"app/Starter.java": `package app; import jakarta.servlet.*; public class Starter implements ServletContextListener {
		@Override public void contextInitialized(ServletContextEvent e) { throw new IllegalStateException("cannot start", new java.io.IOException("no database at 192.0.2.1")); } }`})
	tests := []struct {
		name    string
		files   map[string]string
		message string
		tail    string
	}{
		{"code-subdir", map[string]string{"shop/index.jsp": "x", "shop/WEB-INF/web.xml": webxml + "</web-app>"}, "directory \"shop\"", ""},
		{"code-warinwar", map[string]string{"shop.war": "PK"}, "holds the WAR", ""},
		{"code-badxml", with(page, map[string]string{"WEB-INF/web.xml": "<web-app><servlet></web-app>"}), "does not start", "web.xml"},
		{"code-missing", with(page, map[string]string{"WEB-INF/web.xml": webxml + "<listener><listener-class>com.example.Gone</listener-class></listener></web-app>"}), "ClassNotFoundException: com.example.Gone", "com.example.Gone"},
		{"code-listener", with(page, broken, map[string]string{"WEB-INF/web.xml": webxml + "<listener><listener-class>app.Starter</listener-class></listener></web-app>"}), "java.io.IOException: no database", "IllegalStateException: cannot start"},
		{"code-fails", map[string]string{"index.jsp": `<% if (true) throw new NullPointerException("nothing here"); %>`}, "status 500: java.lang.NullPointerException: nothing here", "NullPointerException"},
		{"code-syntax", map[string]string{"index.jsp": `<% this is not Java %>`}, "status 500", "Syntax error"},
		{"code-hangs", map[string]string{"index.jsp": `<% Thread.sleep(60000); %>`}, "did not answer within 25s", ""},
		{"code-nothing", map[string]string{"page.txt": "no front page"}, "status 404", ""},
	}
	seen := startUses(t.Context(), base)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id := "code-" + strings.ReplaceAll(strings.TrimPrefix(tt.name, "code-"), "-", "")
			w.Files[id] = tt.files
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			err := w.Activate(ctx, id)
			e := api.AsError(err)
			if e == nil || e.Code != api.CodeInvalid || !strings.Contains(e.Error(), tt.message) {
				t.Fatalf("got %v, want %q", err, tt.message)
			}
			if tail := strings.Join(e.LogTail, "\n"); !strings.Contains(tail, tt.tail) {
				t.Errorf("log lines %q do not hold %q", tail, tt.tail)
			}
		})
	}
	if err := w.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, problem := seen(); problem != "" || n == 0 {
		t.Errorf("after %d pages of the old version: %s", n, problem)
	}
	for _, p := range w.Processes(w.Instances()[0].ID) {
		if strings.HasPrefix(p.Name, "tomcat-") && !strings.HasPrefix(p.Name, "tomcat-code-default-") {
			t.Errorf("%s is left behind", p.Name)
		}
	}
}

// startUses asks for the front page until the result is asked for.
func startUses(ctx context.Context, base string) func() (int, string) {
	ctx, cancel := context.WithCancel(ctx)
	n, problem, done := 0, "", make(chan struct{})
	go func() {
		defer close(done)
		for c := client(); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			status, body, err := fetch(ctx, c, http.MethodGet, base, "")
			if ctx.Err() == nil && (err != nil || status != 200 || !strings.Contains(body, "page of zero")) {
				problem = "got " + body
				return
			}
			n++
		}
	}()
	return func() (int, string) {
		cancel()
		<-done
		return n, problem
	}
}

// What an application does to its Tomcat passes.
func TestGoesOnByItself(t *testing.T) {
	w, base := start(t, `{"heap":"64M","request_timeout":2}`)
	c := client()
	expect := func(path string, status int, want string) {
		t.Helper()
		got, body, err := fetch(t.Context(), c, http.MethodGet, base+path, "")
		for end := time.Now().Add(time.Minute); got == 504 && status != 504 && time.Now().Before(end); { // compiling it took this machine more than 2 s
			got, body, err = fetch(t.Context(), c, http.MethodGet, base+path, "")
		}
		if err != nil || got != status || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.200q %v, want %d %q", path, got, body, err, status, want)
		}
	}
	expect("hang.jsp", 504, "")
	expect("", 200, "page of zero")
	expect("write.jsp", 200, "done")
	expect("made.txt", 200, "written")
	before := w.Processes(w.Instances()[0].ID)
	if _, _, err := fetch(t.Context(), c, http.MethodGet, base+"memory.jsp", ""); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for { // until another process serves
		tomcat := func(p api.Process) bool { return strings.HasPrefix(p.Name, "tomcat-") }
		now := w.Processes(w.Instances()[0].ID)
		i, was := slices.IndexFunc(now, tomcat), slices.IndexFunc(before, tomcat)
		if i >= 0 && was >= 0 && now[i].PID != before[was].PID && w.WaitReady(ctx) == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("Tomcat was not started again after its memory was used up")
		}
		time.Sleep(20 * time.Millisecond)
	}
	expect("", 200, "page of zero")
}

func TestJavaEE(t *testing.T) {
	w, base := start(t, `{"javax":"refuse"}`)
	old := classes(t, map[string]string{"javax/servlet/http/HttpServlet.java": javaxServlet, "javax/servlet/http/HttpServletRequest.java": javaxRequest,
		"javax/servlet/http/HttpServletResponse.java": javaxAnswer, "app/Old.java": oldServlet})
	w.Files["code-javaee"] = with(old, map[string]string{
		"index.jsp": `<%@ page session="false" import="javax.servlet.http.HttpServletRequest" %><% HttpServletRequest q = request; %>old page <%= q.getRequestURI() %>`,
		"WEB-INF/web.xml": `<web-app xmlns="http://xmlns.jcp.org/xml/ns/javaee" version="3.1"><servlet><servlet-name>old</servlet-name><servlet-class>app.Old</servlet-class></servlet>` +
			`<servlet-mapping><servlet-name>old</servlet-name><url-pattern>/old/*</url-pattern></servlet-mapping></web-app>`,
	})
	err := w.Activate(t.Context(), "code-javaee")
	if e := api.AsError(err); e == nil || !strings.Contains(e.Error(), "written for Java EE") || !strings.Contains(e.Error(), "set javax to migrate") {
		t.Fatalf("got %v, want a refusal that names Java EE and the setting", err)
	}
	if err := w.Configure(t.Context(), `{"javax":"migrate"}`); err != nil {
		t.Fatal(err)
	}
	if err := w.Activate(t.Context(), "code-javaee"); err != nil {
		t.Fatal(err, api.AsError(err).LogTail)
	}
	for path, want := range map[string]string{"": "old page /", "old/x": "old servlet at /old/x"} {
		if status, body, err := fetch(t.Context(), client(), http.MethodGet, base+path, ""); err != nil || status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: got %d %.200q %v, want %q", path, status, body, err, want)
		}
	}
}
