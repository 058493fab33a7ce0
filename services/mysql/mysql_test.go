package mysql

import (
	"context"
	"database/sql"
	"io"
	"log"
	"net"
	"strconv"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"nutshell/services/servicetest"
)

// open connects as a user does, to what the service offers.
func open(t *testing.T, w *servicetest.World, change ...func(*driver.Config)) *sql.DB {
	t.Helper()
	o := w.Manager.(*manager).Offers()
	c := driver.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd, c.DBName = "tcp", net.JoinHostPort(o["host"], o["port"]), o["user"], o["password"], o["database"]
	c.Logger = log.New(io.Discard, "", 0)
	c.InterpolateParams, c.Timeout, c.ReadTimeout, c.WriteTimeout = true, 5*time.Second, 20*time.Second, 20*time.Second
	for _, f := range change {
		f(c)
	}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func within2(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func count(t *testing.T, db *sql.DB, table string) int {
	t.Helper()
	var n int
	must(t, db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}

func TestOneNode(t *testing.T) {
	w := world(t)
	ctx := within2(t, 3*time.Minute)
	must(t, w.Settle(ctx))
	db := open(t, w)
	_, err := db.ExecContext(ctx, "CREATE TABLE t (id INT PRIMARY KEY, what TEXT)")
	must(t, err)
	for i := range 10 {
		_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (?, ?)", i, "row "+strconv.Itoa(i))
		must(t, err)
	}
	if n := count(t, db, "t"); n != 10 {
		t.Fatalf("%d rows, want 10", n)
	}
	began := time.Now()
	w.Lose(ctx, w.Instances()[0].ID) // its volume is handed on
	must(t, w.Settle(ctx))
	t.Logf("replaced in %v", time.Since(began))
	if n := count(t, open(t, w), "t"); n != 10 {
		t.Fatalf("%d rows after the node was replaced, want 10", n)
	}
}

func TestPlan(t *testing.T) { servicetest.Plan(t, Kind()) }

func TestDescription(t *testing.T) { servicetest.Description(t, Kind()) }
