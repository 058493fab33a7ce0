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
	return Frame{Name: name, Revision: "0123456789ab", User: "www-data", Dir: "/var/lib/nutshell/run", Log: "/var/lib/nutshell/log", Etc: "/var/lib/nutshell/etc", Address: "10.200.1.2", Port: port, Workers: 2, Files: 16384, Mime: "/etc/nginx/mime.types"}
}

func TestTemplates(t *testing.T) {
	pages := Pages{Index: "index.php", Socket: "/run/fpm.sock", Local: "        location @app { return 404; } # the kind's own"}
	loopback := frame("nginx-proxy", 20080)
	loopback.User, loopback.Address = "", "127.9.1.2"
	tests := []struct {
		golden, template string
		data             any
	}{
		{"proxy.conf", "proxy.tmpl", proxyData{Frame: frame("nginx-proxy", 80), Pages: pages, BodyMax: "41943040", ReadTimeout: 130}},
		{"proxy-more.conf", "proxy.tmpl", proxyData{Frame: loopback, Pages: Pages{Dynamic: `\.jsp$`, Sticky: "JSESSIONID"}, BodyMax: "41943040", ReadTimeout: 130,
			Front: []string{"127.0.0.1"}, Snippets: Snippets{Server: "rewrite ^/a$ /b;", Location: "expires 1h;"}}},
		{"static.conf", "static.tmpl", TierData{frame("nginx-web", 8080)}},
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
