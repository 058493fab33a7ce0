package edge

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkFront compares the edge with an nginx that does the same by hand:
// TLS in front of one nginx that has a small page and a large one. Both sides
// run in turn, several times, because the machine has other work:
// go test -run none -bench Front -benchtime 1x ./roles/director/edge
func BenchmarkFront(b *testing.B) {
	wrk, nginx := tool(b, "wrk"), tool(b, "nginx")
	dir := b.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	save := func(name, text string) {
		b.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	f := newFront(b, nil)
	cert, err := f.ca.Site([]string{"shop.apps.test"})
	if err != nil {
		b.Fatal(err)
	}
	chain := ""
	for _, der := range cert.Certificate[:2] {
		chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	save("chain.pem", chain)
	save("key.pem", keyText(b, cert.PrivateKey))
	behind, front := fmt.Sprintf("127.77.10.1:%d", freePort(b)), fmt.Sprintf("127.77.10.2:%d", freePort(b))
	save("nginx.conf", fmt.Sprintf(`daemon off; worker_processes 2; worker_rlimit_nofile 8192; pid %[1]s/pid; error_log %[1]s/error.log; user root;
events { worker_connections 4096; }
http { access_log %[1]s/access.log; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type text/plain;
  client_body_temp_path %[1]s/b; fastcgi_temp_path %[1]s/f; proxy_temp_path %[1]s/p; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; root %[1]s/site; access_log off; }
  upstream behind { server %[2]s; keepalive 64; }
  server { listen %[3]s ssl http2; ssl_certificate %[1]s/chain.pem; ssl_certificate_key %[1]s/key.pem;
    location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; } } }
`, dir, behind, front))
	if err := os.Mkdir(filepath.Join(dir, "site"), 0o755); err != nil {
		b.Fatal(err)
	}
	save("site/small.txt", "hello\n")
	save("site/large.bin", strings.Repeat("0123456789abcdef", 16<<10))
	cmd := exec.Command(nginx, "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log"))
	if os.Geteuid() != 0 {
		b.Skip("runs as root, as nginx's configuration says")
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	eventually(b, "nginx answers", func() bool {
		c, err := net.Dial("tcp", front)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	f.shows("shop.apps.test", behind)
	for _, page := range []string{"small.txt", "large.bin"} {
		b.Run(page, func(b *testing.B) {
			var direct, ours, theirs float64
			for b.Loop() {
				for range 5 {
					direct += load(b, wrk, "http://"+behind+"/"+page)
					ours += load(b, wrk, "https://"+f.https+"/"+page)
					theirs += load(b, wrk, "https://"+front+"/"+page)
				}
			}
			b.ReportMetric(ours/theirs, "edge/nginx")
			b.ReportMetric(ours/direct, "edge/direct")
			b.ReportMetric(theirs/direct, "nginx/direct")
			b.ReportMetric(0, "ns/op")
		})
	}
}

var rate = regexp.MustCompile(`Requests/sec: +([0-9.]+)`)

func load(b *testing.B, wrk, url string) float64 {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), wrk, "-t1", "-c16", "-d", strconv.Itoa(int(time.Second.Seconds())), "-H", "Host: shop.apps.test", url).CombinedOutput()
	m := rate.FindSubmatch(out)
	if err != nil || m == nil || regexp.MustCompile("Non-2xx|Socket errors").Match(out) {
		b.Fatalf("wrk %s: %v\n%s", url, err, out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func keyText(b *testing.B, key crypto.PrivateKey) string {
	b.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
