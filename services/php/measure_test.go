package php_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/php"
	"nutshell/services/servicetest"
)

func total(list []api.Sample, name string, labels ...string) (sum float64) {
next:
	for _, s := range list {
		if s.Name != name {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			if s.Labels[labels[i]] != labels[i+1] {
				continue next
			}
		}
		sum += s.Value
	}
	return sum
}

// What the proxy and PHP count under load is what wrk says it did.
func TestMeasured(t *testing.T) {
	needPrograms(t)
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		if os.Getenv("CI") == "true" && os.Geteuid() == 0 {
			t.Fatal("wrk is not installed")
		}
		t.Skip("wrk is not installed: apt-get install wrk")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	w := servicetest.New(t, php.Kind())
	w.Files["code-measured"] = map[string]string{"index.php": `<?php if (isset($_GET["bad"])) { http_response_code(500); } else { usleep(20000); echo "page"; }`, "a.txt": "file"}
	if err := w.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Activate(ctx, "code-measured"); err != nil {
		t.Fatal(err)
	}
	i := w.Instances()[0]
	url := fmt.Sprintf("http://%s:%d", i.Address, w.Port(i.ID, 80))
	before, err := w.Measure(ctx, i.ID)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 7 {
		resp, err := http.Get(url + "/?bad=1")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	out, err := exec.CommandContext(ctx, wrk, "-t1", "-c2", "-d4s", "--latency", url+"/").CombinedOutput()
	if err != nil {
		t.Fatalf("wrk: %v\n%s", err, out)
	}
	asked := time.Since(began)
	said := regexp.MustCompile(`(\d+) requests in`).FindSubmatch(out)
	if said == nil {
		t.Fatalf("wrk: %s", out)
	}
	did, _ := strconv.ParseFloat(string(said[1]), 64) // digits, by the pattern
	var after []api.Sample
	grown := func(name string, labels ...string) float64 {
		return total(after, name, labels...) - total(before, name, labels...)
	}
	for { // nginx writes its log after a second at the latest
		if after, err = w.Measure(ctx, i.ID); err != nil {
			t.Fatal(err)
		}
		if grown("nutshell_http_requests_total", "part", "proxy") >= did+7 || ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, part := range []string{"proxy", "backend"} {
		good, bad := grown("nutshell_http_requests_total", "part", part, "class", "2xx"), grown("nutshell_http_requests_total", "part", part, "class", "5xx")
		t.Logf("%s: %v good and %v bad requests; wrk: %v", part, good, bad, did)
		if good < did || good > did+4 || bad != 7 { // wrk does not count what is under way at its end
			t.Errorf("%s counted %v good and %v bad requests, want %v and 7", part, good, bad, did)
		}
		mean := grown("nutshell_http_seconds_sum", "part", part) / grown("nutshell_http_seconds_count", "part", part)
		// Two pages at a time: together they cannot take longer than two who ask
		// all the time, however slow this machine is. Times are whole milliseconds.
		if most := 2*asked.Seconds()/(good+bad) + 0.002; mean < 0.019 || mean > most {
			t.Errorf("%s: a page took %v s, want a little more than 0.02 and at most %v", part, mean, most)
		}
	}
	if n := total(after, "nutshell_php_processes"); n < 1 {
		t.Errorf("%v processes of PHP", n)
	}
	if sent := grown("nutshell_http_bytes_total", "part", "proxy"); sent < 4*did {
		t.Errorf("%v bytes sent", sent)
	}
}
