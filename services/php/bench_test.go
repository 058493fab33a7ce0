package php_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"nutshell/services/php"
	"nutshell/services/servicetest"
)

// BenchmarkPages compares pages per second with an nginx and a php-fpm set up
// by hand with the same settings, in one run: go test -bench Pages -benchtime 1x.
// spread has proxy, web and two backends apart, all on this one machine.
func BenchmarkPages(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("install wrk to run this benchmark")
	}
	files := map[string]string{
		"index.php": `<?php echo "hello";`,
		"page.php":  `<?php $a = []; for ($i = 0; $i < 5000; $i++) $a[] = md5((string)($i + $_SERVER["REQUEST_TIME"])); sort($a); echo substr(implode(" ", $a), 0, 8000);`,
		"style.css": "body { color: black }",
	}
	hand := byHand(b, files)
	k := php.Kind()
	k.DefaultCode = files
	w := servicetest.New(b, k)
	ctx := b.Context()
	if err := w.Configure(ctx, `{"children":8}`); err != nil {
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
				var theirs, ours spent
				for range 3 { // in turns, because the machine has other work
					theirs.add(b, wrk, hand.url+name, hand.pids)
					ours.add(b, wrk, base+name, own)
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

var requests = regexp.MustCompile(`([0-9]+) requests in`)

// spent counts pages, and the processor time that the servers took for them:
// the one figure that other work on the machine does not change.
type spent struct{ pages, cpu float64 }

func (s *spent) add(b *testing.B, wrk, url string, pids []int) {
	b.Helper()
	before := cpu(pids)
	out, err := exec.CommandContext(b.Context(), wrk, "-t1", "-c16", "-d2", url).CombinedOutput()
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

// byHand sets up what a careful administrator would.
func byHand(b *testing.B, files map[string]string) setUp {
	b.Helper()
	dir, err := os.MkdirTemp("", "byhand")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for name, text := range files {
		write(name, text)
	}
	user, fpmUser := "", ""
	if os.Geteuid() == 0 {
		user, fpmUser = "user www-data;", "user=www-data\ngroup=www-data\nlisten.owner=www-data\nlisten.group=www-data"
	}
	address := fmt.Sprintf("127.%d.%d.250:18080", 64+os.Getpid()/250%64, 1+os.Getpid()%250)
	write("fpm.conf", fmt.Sprintf(`[global]
error_log=%[1]s/fpm.log
daemonize=no
[www]
%[2]s
listen=%[1]s/fpm.sock
listen.backlog=4096
pm=dynamic
pm.max_children=8
pm.start_servers=4
pm.min_spare_servers=2
pm.max_spare_servers=6
pm.max_requests=1000
access.log=%[1]s/fpm-access.log
`, dir, fpmUser))
	write("nginx.conf", fmt.Sprintf(`daemon off; worker_processes 2; pid %[1]s/nginx.pid; error_log %[1]s/error.log; %[2]s
events { worker_connections 4096; }
http { include /etc/nginx/mime.types; sendfile on; access_log %[1]s/access.log combined;
  client_body_temp_path %[1]s/b; fastcgi_temp_path %[1]s/f; proxy_temp_path %[1]s/p; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[3]s; root %[1]s; index index.php;
    location / { try_files $uri $uri/ /index.php$is_args$args; }
    location ~ \.php$ { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; fastcgi_pass unix:%[1]s/fpm.sock; } } }
`, dir, user, address))
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	var pids []int
	fpm, _ := filepath.Glob("/usr/sbin/php-fpm*")
	for _, argv := range [][]string{{fpm[0], "-F", "-y", dir + "/fpm.conf"}, {"/usr/sbin/nginx", "-c", dir + "/nginx.conf", "-e", dir + "/error.log"}} {
		cmd := exec.CommandContext(context.WithoutCancel(b.Context()), argv[0], argv[1:]...)
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
		b.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt)
			_ = cmd.Wait()
		})
	}
	h := setUp{url: "http://" + address + "/"}
	for range 100 {
		if status, _, err := fetch(b.Context(), client(), "GET", h.url, ""); err == nil && status == 200 {
			h.pids = pids
			return h
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatal("nginx and php-fpm set up by hand do not answer")
	return h
}
