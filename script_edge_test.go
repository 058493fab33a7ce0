package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"nutshell/roles/api"
)

// cmdVisit gets a page through the director's edge until it matches, as a
// browser does that trusts the director's CA: visit shop.apps.test / '^200 hello' .
// What is matched begins with the status. `visit -always N …` asks N times and
// each answer must match.
func cmdVisit(ts *testscript.TestScript, neg bool, args []string) {
	always := 0
	if len(args) == 5 && args[0] == "-always" {
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		always, args = n, args[2:]
	}
	if len(args) != 3 {
		ts.Fatalf("usage: visit [-always N] name path pattern")
	}
	re := regexp.MustCompile(args[2])
	c := sceneOf(ts).browser(ts)
	for range always {
		if got := visit(c, args[0], args[1]); re.MatchString(got) == neg {
			ts.Fatalf("%s%s: got %q, want %q each time", args[0], args[1], got, args[2])
		}
	}
	var last string
	for began := time.Now(); always == 0; time.Sleep(100 * time.Millisecond) {
		if last = visit(c, args[0], args[1]); re.MatchString(last) != neg {
			return
		}
		if time.Since(began) > patient {
			ts.Fatalf("%s%s never matched %q, last: %s", args[0], args[1], args[2], last)
		}
	}
}

// browser finds every name at the edge of this scene.
func (s *scene) browser(ts *testscript.TestScript) *http.Client {
	ts.Check(ts.Exec("nutshell", "edge", "show", "-o", "json"))
	var e api.Edge
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &e))
	if !e.On {
		ts.Fatalf("the edge is off")
	}
	pem, err := get(s.url(ts) + "/api/v1/ca")
	ts.Check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pem))
	return &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			port := e.HTTPS
			if _, asked, _ := net.SplitHostPort(address); asked == "80" {
				port = e.HTTP
			}
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+strconv.Itoa(port))
		}}}
}

func visit(c *http.Client, name, path string) string {
	scheme := "https://"
	if rest, plain := cutHTTP(name); plain {
		scheme, name = "http://", rest
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, scheme+name+path, nil)
	if err != nil {
		return err.Error()
	}
	resp, err := c.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return errors.Join(err, fmt.Errorf("after %d bytes", len(b))).Error()
	}
	return fmt.Sprintf("%d %s %s", resp.StatusCode, b, resp.Header.Get("Location"))
}

func cutHTTP(name string) (string, bool) {
	const plain = "http://"
	if len(name) > len(plain) && name[:len(plain)] == plain {
		return name[len(plain):], true
	}
	return name, false
}
