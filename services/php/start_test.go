package php_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/php"
	"nutshell/services/servicetest"
	"nutshell/services/web"
)

// TestNginxRefusesConfiguration: whether something serves already or not, a
// broken configuration ends in nginx's own words and leaves what was.
func TestNginxRefusesConfiguration(t *testing.T) {
	needPrograms(t)
	var m services.Machine
	k := php.Kind()
	agent := k.Agent
	k.Agent = func(mine services.Machine) services.Agent {
		m = mine
		return agent(mine)
	}
	w := servicetest.New(t, k)
	if err := w.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := web.NewNginx(m, "nginx-test", 8099)
	file := filepath.Join(m.Dir("etc"), "nginx-test.conf")
	t.Cleanup(func() { _ = n.Stop(context.WithoutCancel(t.Context())) })
	templates, err := web.Templates()
	if err != nil {
		t.Fatal(err)
	}
	serve := func(mime string) error {
		return n.ServeTemplate(t.Context(), templates, "static.tmpl", web.State{}, func(f web.Frame) any {
			f.Mime = mime
			return web.TierData{Frame: f}
		})
	}
	refused := func(err error) {
		t.Helper()
		e := api.AsError(err)
		if e == nil || e.Op != "check configuration" || !strings.Contains(strings.Join(e.LogTail, "\n"), "/none/mime.types") {
			t.Fatalf("got %v, want nginx's words about /none/mime.types", err)
		}
	}
	refused(serve("/none/mime.types"))
	if _, err := os.Stat(file); err == nil {
		t.Error("the configuration that was refused is still there")
	}
	if slices.ContainsFunc(m.Supervisor().Processes(), func(p api.Process) bool { return p.Name == "nginx-test" }) {
		t.Error("nginx is still tried with it")
	}
	const mime = "/etc/nginx/mime.types"
	if err := serve(mime); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	refused(serve("/none/mime.types"))
	if b, err := os.ReadFile(file); err != nil || string(b) != string(good) {
		t.Errorf("the configuration that runs was replaced: %v", err)
	}
	if err := n.Answers(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPHPDoesNotStart: a PHP-FPM that cannot start says so in its own words,
// and the one before goes on.
func TestPHPDoesNotStart(t *testing.T) {
	needPrograms(t)
	var m services.Machine
	k := php.Kind()
	k.DefaultCode = map[string]string{"index.php": `<?php echo ini_get("memory_limit");`}
	agent := k.Agent
	k.Agent = func(mine services.Machine) services.Agent {
		m = mine
		return agent(mine)
	}
	w := servicetest.New(t, k)
	if err := w.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	// PHP-FPM cannot open a log where a directory stands.
	log := filepath.Join(m.Dir("log"), "fpm-slow.log")
	if err := os.Remove(log); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(log, "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := w.Configure(t.Context(), `{"memory_limit":"64M"}`)
	e := api.AsError(err)
	if e == nil || !strings.Contains(strings.Join(e.LogTail, "\n"), "fpm-slow.log") {
		t.Fatalf("got %v, want PHP-FPM's words about fpm-slow.log", err)
	}
	all, err := urls(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := fetch(t.Context(), client(), http.MethodGet, all[0], ""); err != nil || status != 200 || body != "128M" {
		t.Errorf("got %d %q %v, want the page with the settings before", status, body, err)
	}
	left, err := filepath.Glob(filepath.Join(m.Dir("etc"), "php-fpm-*.conf"))
	if err != nil || len(left) != 1 {
		t.Errorf("got configurations %q, want the running one only", left)
	}
}
