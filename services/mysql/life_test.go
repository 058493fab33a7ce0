package mysql

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"nutshell/roles/api"
	"nutshell/services/servicetest"
)

// TestChanges is the life of one node whose settings, secrets, databases and
// users change.
func TestChanges(t *testing.T) {
	w := world(t)
	ctx := within2(t, patience)
	must(t, w.Settle(ctx))
	m := w.Manager.(*manager)
	pid := func() int {
		for _, p := range w.Processes("i1") {
			if p.Name == daemon {
				return p.PID
			}
		}
		return 0
	}
	variable := func(name string) string {
		var value string
		must(t, open(t, w).QueryRowContext(ctx, "SELECT @@global."+name).Scan(&value))
		return value
	}
	first := pid()
	for _, password := range []string{`He"y'\ pä ss; DROP -- x`, strings.Repeat("ü", 200), "`$(reboot)`%s"} {
		must(t, w.SetSecret(ctx, secretPassword, password))
		must(t, open(t, w).PingContext(ctx))
	}
	must(t, w.Configure(ctx, `{"max_connections": 33, "sync_wait": 7, "database": "größe"}`))
	if got := variable("max_connections") + variable("wsrep_sync_wait"); got != "337" || pid() != first {
		t.Errorf("max_connections and sync_wait %s, want 337; started again: %v", got, pid() != first)
	}
	err := w.Configure(ctx, `{"variables": ["sort_buffer_size=abc"]}`)
	if api.CodeOf(err) != api.CodeInvalid || pid() != first {
		t.Errorf("a bad variable: %v; started again: %v", err, pid() != first)
	}
	must(t, w.Configure(ctx, `{"variables": ["wait_timeout=77"]}`))
	if variable("wait_timeout") != "77" || pid() == first {
		t.Error("a variable is not what it was set to")
	}
	tryDatabases(ctx, t, w, m)
	tryTLS(ctx, t, w, m)
}

// patience is for machines that do much beside.
const patience = 2 * time.Minute

func tryDatabases(ctx context.Context, t *testing.T, w *servicetest.World, m *manager) {
	act := func(action string, args map[string]string) (api.ActResult, error) { return m.Act(ctx, action, args) }
	for _, c := range []struct {
		action string
		args   map[string]string
		code   api.Code
	}{
		{"create_database", map[string]string{"name": "my-db`_x"}, ""},
		{"create_database", map[string]string{"name": "my-db`_x"}, api.CodeConflict},
		{"create_database", map[string]string{"name": "mysql"}, api.CodeInvalid},
		{"create_user", map[string]string{"name": "o'brien", "database": "my-db`_x", "password": `it's "secret"`}, ""},
		{"create_user", map[string]string{"name": "o'brien"}, api.CodeConflict},
		{"create_user", map[string]string{"name": "root"}, api.CodeInvalid},
		{"create_user", map[string]string{"name": "x", "database": "none"}, api.CodeNotFound},
		{"create_user", map[string]string{"name": "x", "password": "short"}, api.CodeInvalid},
		{"delete_user", map[string]string{"name": "nobody"}, api.CodeNotFound},
		{"delete_database", map[string]string{"name": "my-db`_x"}, api.CodeInvalid},
		{"delete_database", map[string]string{"name": "größe", "confirm": "größe"}, api.CodeConflict},
		{"force_bootstrap", map[string]string{"confirm": "yes"}, api.CodeConflict},
	} {
		if _, err := act(c.action, c.args); api.CodeOf(err) != c.code {
			t.Errorf("%s %v: %v, want code %q", c.action, c.args, err, c.code)
		}
	}
	user := open(t, w, func(c *driver.Config) { c.User, c.Passwd, c.DBName = "o'brien", `it's "secret"`, "my-db`_x" })
	if _, err := user.ExecContext(ctx, "CREATE TABLE t (id INT PRIMARY KEY)"); err != nil {
		t.Errorf("a user in its own database: %v", err)
	}
	if _, err := user.ExecContext(ctx, "CREATE DATABASE `my-db``ax`"); err == nil {
		t.Error("a user has rights on a database whose name is like its own")
	}
	var file sql.NullString
	err := open(t, w).QueryRowContext(ctx, "SELECT LOAD_FILE('/etc/passwd')").Scan(&file)
	if err == nil && file.Valid {
		t.Error("mysqldb reads files of the node")
	}
	if _, err := open(t, w).ExecContext(ctx, "SHUTDOWN"); err == nil {
		t.Error("mysqldb stops the server")
	}
	r, err := act("list_databases", nil)
	if err != nil || !strings.Contains(r.Text, "my-db`_x  1") || strings.Contains(r.Text, "information_schema") {
		t.Errorf("databases: %v\n%s", err, r.Text)
	}
	if r, err = act("list_users", nil); err != nil || !strings.Contains(r.Text, "o'brien") || strings.Contains(r.Text, "root") {
		t.Errorf("users: %v\n%s", err, r.Text)
	}
	if r, err = act("status", nil); err != nil || !strings.Contains(r.Text, "writer") || !strings.Contains(string(r.Result), `"role":"writer"`) {
		t.Errorf("status: %v\n%s", err, r.Text)
	}
}

func tryTLS(ctx context.Context, t *testing.T, w *servicetest.World, m *manager) {
	must(t, w.Configure(ctx, `{"tls": "required"}`))
	if err := open(t, w).PingContext(ctx); err == nil {
		t.Error("a client without TLS is let in")
	}
	r, err := m.Act(ctx, "get_ca", nil)
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(r.Text)) {
		t.Fatalf("not a certificate: %s", r.Text)
	}
	must(t, driver.RegisterTLSConfig(t.Name(), &tls.Config{RootCAs: roots, ServerName: m.Offers()["host"]}))
	if err := open(t, w, func(c *driver.Config) { c.TLSConfig = t.Name() }).PingContext(ctx); err != nil {
		t.Errorf("a client that checks the certificate: %v", err)
	}
	must(t, w.Configure(ctx, `{"tls": "offered"}`))
}

// TestLife is the suite that every kind passes. Copies to other nodes take
// longer than it waits; TestCluster tries them.
func TestLife(t *testing.T) {
	var known atomic.Value // a new manager offers nothing until it has looked
	servicetest.Run(t, Kind(), servicetest.Options{Counts: []map[string]int{{database: 1, balancer: 1}},
		Probe: func(ctx context.Context, w *servicetest.World) error {
			o := w.Manager.(*manager).Offers()
			if o["host"] == "" {
				o = known.Load().(map[string]string) //nolint:forcetypeassert // as stored
			}
			known.Store(o)
			db, err := sql.Open("mysql", fmt.Sprintf("%s:%s@tcp(%s:%s)/?timeout=1m&readTimeout=1m", o["user"], o["password"], o["host"], o["port"]))
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			defer time.Sleep(20 * time.Millisecond) // people are not faster
			return db.PingContext(ctx)
		}})
}
