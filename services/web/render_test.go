package web

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

func frame(name string, port int) Frame {
	return Frame{Name: name, Revision: "0123456789ab", User: "www-data", Dir: "/var/lib/nutshell/run", Log: "/var/lib/nutshell/log", Address: "10.200.1.2", Port: port, Workers: 2, Files: 16384, Mime: "/etc/nginx/mime.types"}
}

func TestTemplates(t *testing.T) {
	pages := Pages{Index: "index.php", Dynamic: `\.php(?:/|$)`, Local: "        location @app { return 404; } # the kind's own"}
	loopback := frame("nginx-proxy", 20080)
	loopback.User, loopback.Address, loopback.Loopback = "", "127.9.1.2", true
	tests := []struct {
		golden, template string
		data             any
	}{
		{"proxy-packed.conf", "proxy.tmpl", proxyData{Frame: frame("nginx-proxy", 80), Pages: pages, Root: "/var/lib/nutshell/etc/site", BodyMax: "41943040", ReadTimeout: 130}},
		{"proxy-spread.conf", "proxy.tmpl", proxyData{Frame: loopback, Pages: pages, Root: "/home/x/etc/site", BodyMax: "41943040", ReadTimeout: 130,
			Webs: []string{"127.9.1.3:8080"}, Backends: []string{"127.9.1.4:9000", "127.9.1.5:9000"}}},
		{"static.conf", "static.tmpl", Tier(frame("nginx-web", 8080), []string{"10.200.1.2", "10.200.1.9"},
			[]Root{{Version: "code-abc234", Site: "/var/lib/nutshell/code/code-abc234-11112222", Denied: []string{"data", "inc/my lib"}}, {Version: "code-default", Site: "/var/lib/nutshell/code/code-default-33334444"}})},
	}
	templates, err := Templates()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			got, err := execute(templates, tt.template, tt.data)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.golden)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("differs from %s; run go test -update and read the difference:\n%s", path, d)
			}
		})
	}
}
