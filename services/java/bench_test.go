package java_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/services/java"
	"nutshell/services/servicetest"
)

// BenchmarkPages compares pages per second with an nginx and a Tomcat set up
// by hand with the same settings, in one run: go test -bench Pages -benchtime 1x.
// spread has proxy, web and two backends apart, all on this one machine.
func BenchmarkPages(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("install wrk to run this benchmark")
	}
	needPrograms(b)
	files := map[string]string{
		"index.jsp": `<%@ page session="false" %>hello`,
		"page.jsp": `<%@ page session="false" import="java.util.*" %><% List<String> a = new ArrayList<>(); for (int i = 0; i < 2000; i++) a.add(Integer.toHexString((i * 7919) ^ (int) System.nanoTime())); ` +
			`Collections.sort(a); String s = String.join(" ", a); %><%= s.substring(0, 8000) %>`,
		"visit.jsp": `<% Integer n = (Integer) session.getAttribute("n"); session.setAttribute("n", n == null ? 1 : n + 1); %>visit`,
		"style.css": "body { color: black }",
	}
	hand := byHand(b, files)
	k := java.Kind()
	k.DefaultCode = files
	w := servicetest.New(b, k)
	ctx := b.Context()
	if err := w.Configure(ctx, `{"heap":"256M"}`); err != nil {
		b.Fatal(err)
	}
	all, err := urls(ctx, w)
	if err != nil {
		b.Fatal(err)
	}
	compare := func(b *testing.B, base string) {
		var own []int
		for _, i := range w.Instances() {
			for _, p := range w.Processes(i.ID) {
				own = append(own, p.PID)
			}
		}
		for b.Loop() {
			for name := range files {
				var warm, theirs, ours spent
				cookie := ""
				if name == "visit.jsp" { // one visitor for all connections, so that there is no crowd of sessions
					cookie = "Cookie: JSESSIONID=" + session(b, hand.url+name)
				}
				ourCookie := cookie
				if cookie != "" {
					ourCookie = "Cookie: JSESSIONID=" + session(b, base+name)
				}
				for range 5 { // until both are compiled
					warm.add(b, wrk, hand.url+name, cookie, hand.pids)
					warm.add(b, wrk, base+name, ourCookie, own)
				}
				for range 4 { // in turns, because the machine has other work
					theirs.add(b, wrk, hand.url+name, cookie, hand.pids)
					ours.add(b, wrk, base+name, ourCookie, own)
				}
				b.ReportMetric(ours.pages/theirs.pages, "pages/hand-"+name)
				b.ReportMetric(theirs.cpu/theirs.pages/(ours.cpu/ours.pages), "cpu/hand-"+name)
			}
		}
	}
	b.Run("packed", func(b *testing.B) { compare(b, all[0]) })
	if err := w.Scale(ctx, map[string]int{"web": 2, "backend": 2}); err != nil {
		b.Fatal(err)
	}
	b.Run("spread", func(b *testing.B) { compare(b, all[0]) })
}

// session begins one and returns its id.
func session(b *testing.B, url string) string {
	b.Helper()
	visitor := client()
	jar := &cookies{}
	visitor.Jar = jar
	if status, body, err := fetch(b.Context(), visitor, "GET", url, ""); err != nil || status != 200 || len(jar.all) == 0 {
		b.Fatalf("%s: %d %.100q %v", url, status, body, err)
	}
	return jar.all[0].Value
}

var requests = regexp.MustCompile(`([0-9]+) requests in`)

// spent counts pages, and the processor time that the servers took for them:
// the one figure that other work on the machine does not change.
type spent struct{ pages, cpu float64 }

func (s *spent) add(b *testing.B, wrk, url, header string, pids []int) {
	b.Helper()
	before := cpu(pids)
	args := []string{"-t1", "-c16", "-d3"}
	if header != "" {
		args = append(args, "-H", header)
	}
	out, err := exec.CommandContext(b.Context(), wrk, append(args, url)...).CombinedOutput()
	m := requests.FindSubmatch(out)
	if err != nil || m == nil || regexp.MustCompile("Non-2xx").Match(out) {
		b.Fatalf("wrk %s: %v\n%s", url, err, out)
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64) // digits, by the pattern
	s.pages += n
	s.cpu += cpu(pids) - before
}

// cpu sums the clock ticks of masters, their workers, and workers that ended.
func cpu(pids []int) float64 {
	sum := 0.0
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		for _, column := range f[11:15] { // utime, stime and those of children that were waited for
			n, _ := strconv.ParseFloat(column, 64)
			sum += n
		}
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		for _, c := range strings.Fields(string(children)) {
			n, _ := strconv.Atoi(c)
			sum += cpu([]int{n})
		}
	}
	return sum
}

type setUp struct {
	url  string
	pids []int
}

// byHand sets up what a careful administrator would: Debian's Tomcat as it
// comes, with an nginx in front that serves static files.
func byHand(b *testing.B, files map[string]string) setUp {
	b.Helper()
	dir, err := os.MkdirTemp("", "byhand")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for name, text := range files {
		write("webapps/ROOT/"+name, text)
	}
	for _, d := range []string{"logs", "temp", "work"} {
		write(d+"/.keep", "")
	}
	user, account := "", &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		user = "user www-data;"
	}
	address := fmt.Sprintf("127.%d.%d.250", 64+os.Getpid()/250%64, 1+os.Getpid()%250)
	webxml, err := os.ReadFile("/etc/tomcat10/web.xml")
	if err != nil {
		b.Skip("install tomcat10 to run this benchmark")
	}
	write("conf/web.xml", string(webxml))
	write("conf/server.xml", fmt.Sprintf(`<Server port="-1"><Service name="Catalina"><Connector address="%s" port="18081" protocol="HTTP/1.1" connectionTimeout="20000" keepAliveTimeout="120000" maxKeepAliveRequests="-1"/>
<Engine name="Catalina" defaultHost="localhost"><Host name="localhost" appBase="webapps" autoDeploy="false"><Valve className="org.apache.catalina.valves.AccessLogValve" directory="logs" pattern="%%h %%l %%u %%t &quot;%%r&quot; %%s %%b"/></Host></Engine></Service></Server>`, address))
	write("nginx.conf", fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/nginx.pid; error_log %[1]s/error.log; %[2]s
events { worker_connections 4096; }
http { include /etc/nginx/mime.types; sendfile on; access_log %[1]s/access.log combined;
  client_body_temp_path %[1]s/b; fastcgi_temp_path %[1]s/f; proxy_temp_path %[1]s/p; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream tomcat { server %[3]s:18081; keepalive 64; }
  server { listen %[3]s:18080; root %[1]s/webapps/ROOT;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    location / { proxy_pass http://tomcat; }
    location ~* \.(?:css|js|png|jpg|gif|ico)$ { expires 1h; } } }
`, dir, user, address))
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	var pids []int
	for _, argv := range [][]string{
		{"java", "-Xmx256m", "-XX:+UseSerialGC", "-Djava.awt.headless=true", "-Dcatalina.home=/usr/share/tomcat10", "-Dcatalina.base=" + dir, "-Djava.io.tmpdir=" + dir + "/temp",
			"-cp", "/usr/share/tomcat10/bin/bootstrap.jar:/usr/share/tomcat10/bin/tomcat-juli.jar", "org.apache.catalina.startup.Bootstrap", "start"},
		{"/usr/sbin/nginx", "-c", dir + "/nginx.conf", "-e", dir + "/error.log"},
	} {
		cmd := exec.CommandContext(context.WithoutCancel(b.Context()), argv[0], argv[1:]...)
		cmd.SysProcAttr = account
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
		b.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		})
	}
	h := setUp{url: "http://" + address + ":18080/", pids: pids}
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if status, _, err := fetch(b.Context(), client(), "GET", h.url, ""); err == nil && status == 200 {
			return h
		}
	}
	b.Fatal("nginx and Tomcat set up by hand do not answer")
	return h
}
