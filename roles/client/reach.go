package client

import (
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/rpc"
)

// Reached is what a director answers to the command line's own connection.
type Reached struct {
	URL, From string // From: where the URL is written down
	Version   api.Version
	Time      time.Time // its clock; zero: it did not tell
	Clouds    []api.Cloud
	SignedIn  bool
}

// Reach finds the director as every command does and asks it for its version,
// its clock and, with a token at hand, for its clouds. URL is empty where no
// director is known.
func Reach(ctx context.Context, o Options) (Reached, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	c := New(o)
	conn, err := c.connection()
	if err != nil {
		return Reached{}, err
	}
	a := Reached{URL: conn.URL, From: conn.from}
	wire := rpc.NewClient(conn.URL, reaching(conn))
	wire.HTTP.Transport = &signed{next: &dated{next: wire.HTTP.Transport, at: &a.Time}, c: c, conn: connection{URL: conn.URL}}
	if err := wire.Do(ctx, http.MethodGet, "/api/v1/version", nil, &a.Version); err != nil {
		return a, err
	}
	if conn.Token == "" {
		return a, nil
	}
	own := rpc.NewClient(conn.URL, reaching(conn))
	own.HTTP.Transport = &signed{next: own.HTTP.Transport, c: c, conn: conn}
	if err := own.Do(ctx, http.MethodGet, "/api/v1/clouds", nil, &a.Clouds); err == nil {
		a.SignedIn = true
	}
	return a, nil
}

func reaching(c connection) *tls.Config { return trust(c.CA) }

// dated reads the clock of who answers.
type dated struct {
	next http.RoundTripper
	at   *time.Time
}

// RoundTrip sends one request.
func (d *dated) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.next.RoundTrip(req)
	if err == nil {
		*d.at, _ = http.ParseTime(resp.Header.Get("Date"))
	}
	return resp, err
}

// Known is the file, or the place, that says which director every command
// asks; empty where none is known.
func Known(o Options) (from string, err error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	conn, err := New(o).connection()
	return conn.from, err
}
