package php

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"

	"github.com/google/go-cmp/cmp"

	"nutshell/roles/api"
	"nutshell/services/web"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestTemplates(t *testing.T) {
	templates, err := web.Templates()
	if err != nil {
		t.Fatal(err)
	}
	if templates, err = templates.Funcs(template.FuncMap{"join": strings.Join}).ParseFS(files, "*.tmpl"); err != nil {
		t.Fatal(err)
	}
	pages := pagesData{Store: "/var/lib/nutshell/run/session.sock", Socket: "/var/lib/nutshell/run/fpm.sock", ReadTimeout: 130}
	tests := []struct {
		golden, template string
		data             any
	}{
		{"fpm.conf", "fpm.conf.tmpl", fpmData{Name: "php-fpm-abcdef", Run: "/var/lib/nutshell/run", Log: "/var/lib/nutshell/log", User: "www-data", Group: "www-data", Socket: "/var/lib/nutshell/run/php-fpm-abcdef.sock",
			Status: "/var/lib/nutshell/run/php-fpm-abcdef-status.sock", SessionHandler: "redis", SessionPath: "unix:///var/lib/nutshell/run/session.sock", Env: []string{"MYSQL_IP"}, Made: []string{"-d", "opcache.memory_consumption=85"}, Uploads: "/var/lib/nutshell/tmp/php", Children: 8, Start: 4, MinSpare: 2, MaxSpare: 6, Slow: 5, S: *defaults()}},
		{"pages.conf", "pages", pagesData{Proxy: true, Socket: pages.Socket, ReadTimeout: pages.ReadTimeout}},
		{"backend.conf", "backend", struct {
			web.TierData
			Status string
			Pages  pagesData
		}{web.TierData{Frame: web.Frame{Name: "nginx-backend", Revision: "0123456789ab", User: "www-data", Dir: "/var/lib/nutshell/run", Log: "/var/lib/nutshell/log", Etc: "/var/lib/nutshell/etc", Address: "10.200.1.3", Port: 9000, Workers: 2, Files: 16384, Mime: "/etc/nginx/mime.types"}},
			"/var/lib/nutshell/run/alive.sock", pages}},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			var b bytes.Buffer
			if err := templates.ExecuteTemplate(&b, tt.template, tt.data); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", tt.golden)
			if *update {
				if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Errorf("differs from %s; run go test -update and read the difference:\n%s", path, d)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	tests := []struct{ name, patch, field string }{
		{"fine", `{"memory_limit":"256M","display_errors":true,"disable_functions":["exec","passthru"]}`, ""},
		{"no-functions-disabled", `{"disable_functions":[]}`, ""},
		{"unknown-name", `{"memory":"1M"}`, "memory"},
		{"not-a-size", `{"memory_limit":"lots"}`, "memory_limit"},
		{"size-with-a-line-of-its-own", `{"memory_limit":"64M\nauto_prepend_file=/etc/passwd"}`, "memory_limit"},
		{"too-little-memory", `{"memory_limit":"1M"}`, "memory_limit"},
		{"upload-above-request", `{"upload_max_filesize":"1G"}`, "post_max_size"},
		{"function-with-a-line-of-its-own", `{"disable_functions":["exec\nlisten=0.0.0.0:9000"]}`, "disable_functions"},
		{"function-with-comma", `{"disable_functions":["a,b"]}`, "disable_functions"},
		{"too-long", `{"max_execution_time":100000}`, "max_execution_time"},
		{"timeout-below-execution", `{"request_timeout":5}`, "request_timeout"},
		{"timezone-with-blank", `{"timezone":"UTC; x"}`, "timezone"},
		{"health-path-of-another-host", `{"health_path":"http://example.org/"}`, "health_path"},
		{"negative-processes", `{"children":-1}`, "children"},
		{"extension-with-a-line-of-its-own", `{"extensions":["gd\nextension=x"]}`, "extensions"},
		{"extension-that-is-none", `{"extensions":["fpm"]}`, "extensions"},
		{"extension-as-an-option", `{"extensions":["--reinstall"]}`, "extensions"},
		{"extension-both-ways", `{"extensions":["gd","-gd"]}`, "extensions"},
		{"extension-that-was-not-loaded", `{"extensions":["-imagick"]}`, "extensions"},
		{"extensions", `{"extensions":["imagick","-gd","gmp"]}`, ""},
		{"document-root", `{"document_root":"web/public"}`, ""},
		{"document-root-above", `{"document_root":"../other"}`, "document_root"},
		{"document-root-absolute", `{"document_root":"/etc"}`, "document_root"},
		{"document-root-hidden", `{"document_root":".git"}`, "document_root"},
		{"document-root-for-nginx", `{"document_root":"x;}"}`, "document_root"},
		{"little-space-for-sessions", `{"session_space":"10K"}`, "session_space"},
		{"wrong-type", `{"log_errors":"yes"}`, "log_errors"},
	}
	k := Kind()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := k.MergeSettings(k.DefaultSettings(), json.RawMessage(tt.patch))
			if tt.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e := api.AsError(err)
			if e == nil || e.Code != api.CodeInvalid || len(e.Fields) != 1 || e.Fields[0] != tt.field {
				t.Errorf("got %v, want an invalid error for %s", err, tt.field)
			}
		})
	}
}

func TestChildren(t *testing.T) {
	tests := []struct {
		name   string
		set    int
		memory int64
		want   int
	}{
		{"not-limited", 0, 0, 16}, {"pi", 0, 256 << 20, 4}, {"default-instance", 0, 512 << 20, 8}, {"large", 0, 16 << 30, 64}, {"asked", 3, 16 << 30, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := children(settings{Children: tt.set}, tt.memory); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"index.php", "docs/index.html", "admin/index.php", "style.css", "tool.php"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ name, path, script, info string }{
		{"front", "/", "/index.php", ""}, {"script", "/tool.php", "/tool.php", ""}, {"path-info", "/tool.php/a/b", "/tool.php", "/a/b"}, {"file", "/style.css", "", ""},
		{"static-directory", "/docs", "", ""}, {"directory", "/admin/", "/admin/index.php", ""}, {"route", "/some/where", "/index.php", ""}, {"missing-script", "/none.php", "/index.php", ""}, {"escape", "/../../etc/passwd", "/index.php", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if script, info := resolve(root, tt.path); script != tt.script || info != tt.info {
				t.Errorf("got %q %q, want %q %q", script, info, tt.script, tt.info)
			}
		})
	}
}
