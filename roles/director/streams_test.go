package director

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/pki"
	"nutshell/roles/internal/rpc"
)

// streaming makes a house whose managers take files to their end, unless the
// first line says otherwise, and give copies.
func newStreamHouse(t *testing.T) *house {
	h := newHouse(t)
	h.answer = func(mux *http.ServeMux) {
		mux.HandleFunc("POST /v1/services/{id}/streams/fill", func(w http.ResponseWriter, r *http.Request) {
			rpc.Take(w, r, func(_ context.Context, body io.Reader) (api.ActResult, error) {
				b := bufio.NewReader(body)
				if line, err := b.ReadString('\n'); err == nil && line == "garbage\n" {
					return api.ActResult{}, &api.Error{Code: api.CodeInvalid, Object: "line 1", Message: "this is no text"}
				}
				n, err := io.Copy(io.Discard, b)
				return api.ActResult{Text: fmt.Sprintf("%d bytes into %s", n, rpc.Args(r)["into"])}, err
			})
		})
		mux.HandleFunc("GET /v1/services/{id}/streams/copy", func(w http.ResponseWriter, r *http.Request) {
			rpc.Give(w, r, func(_ context.Context, w io.Writer) (string, error) {
				h.mu.Lock()
				fail := h.fail["copy"]
				h.mu.Unlock()
				if fail != nil && fail.Error() == "early" {
					return "", api.Conflictf("too early")
				}
				_, _ = io.Copy(w, &letters{n: 300_000})
				return "7", fail
			})
		})
	}
	return h
}

// letters is n times the same letter, and then an error or the end.
type letters struct {
	n    int64
	then error
}

func (l *letters) Read(p []byte) (int, error) {
	if l.n == 0 && l.then != nil {
		return 0, l.then
	}
	if l.n == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), l.n)]
	for i := range p {
		p[i] = 'x'
	}
	l.n -= int64(len(p))
	return len(p), nil
}

// endless waits behind its first bytes until it is closed.
type endless struct {
	first *strings.Reader
	gone  chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if n, _ := e.first.Read(p); n > 0 {
		return n, nil
	}
	<-e.gone
	return 0, errors.New("the user went away")
}

const streamsOf = "/applications/shop/services/test/streams/"

func TestTakeStream(t *testing.T) {
	h := newStreamHouse(t)
	h.admin.running("shop")
	for _, proto := range []string{"http1", "http2"} {
		t.Run(proto, func(t *testing.T) {
			c := h.admin
			if proto == "http1" {
				config := pki.PinnedTLS(h.d.CASHA256())
				config.NextProtos = []string{"http/1.1"}
				c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: config, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
			}
			resp := c.raw("POST", streamsOf+"fill?into=a%26b", io.MultiReader(strings.NewReader("text\n"), &letters{n: 20 << 20}), nil)
			var got api.ActResult
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Text != fmt.Sprintf("%d bytes into a&b", 20<<20) {
				t.Fatalf("got %d, %q, %v", resp.StatusCode, got.Text, err)
			}
			_ = resp.Body.Close()
			resp = c.raw("POST", streamsOf+"fill", io.MultiReader(strings.NewReader("garbage\n"), &letters{n: 100 << 20}), nil)
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != 422 || !strings.Contains(string(text), "this is no text") {
				t.Fatalf("refused at line 1: got %d, %s", resp.StatusCode, text)
			}
		})
	}
	var ops []api.Operation
	h.admin.must("GET", "/operations?application=shop&service=test", nil, &ops, 200)
	failed := 0
	for _, o := range ops {
		if o.Kind == serviceStream && o.State == api.OperationFailed && strings.Contains(o.Error.Error(), "line 1") {
			failed++
		}
	}
	if s := h.admin.service("/applications/shop/services/test"); s.State != api.Running || strings.Contains(s.Reason, "failed") {
		t.Errorf("after streams that failed the service is %s: %s", s.State, s.Reason)
	}
	if failed != 2 {
		t.Errorf("%d refused streams stand in the operations, want 2: %+v", failed, ops)
	}
}

func TestTakeStreamIsRefusedBeforeItBegins(t *testing.T) {
	h := newStreamHouse(t)
	h.admin.must("POST", "/applications", api.CreateApplication{Name: "shop"}, nil, 201)
	h.admin.must("POST", "/applications/shop/services", api.CreateService{Kind: "test"}, nil, 201)
	h.admin.refused("POST", streamsOf+"fill", nil, api.CodeConflict) // not started
	for path, code := range map[string]api.Code{"hello": api.CodeNotFound, "nothing": api.CodeNotFound, "copy": api.CodeConflict, "fill?from=x": api.CodeInvalid, "fill?into=a&into=b": api.CodeInvalid} {
		h.admin.refused("POST", streamsOf+path, nil, code)
	}
	h.user("eve").refused("POST", streamsOf+"fill", nil, api.CodeNotFound)
}

// A stream that waits for its sender conflicts with other changes, can be
// cancelled, and does not outlive its sender or its director.
func TestTakeStreamUnderWay(t *testing.T) {
	h := newStreamHouse(t)
	h.admin.running("shop")
	begin := func() (op string, gone chan struct{}, answer chan string) {
		gone, answer = make(chan struct{}), make(chan string, 1)
		c := h.admin
		go func() {
			req, _ := http.NewRequest("POST", h.url+"/api/v1"+streamsOf+"fill", &endless{strings.NewReader("text\nsome"), gone})
			req.Header.Set("Authorization", c.auth)
			resp, err := c.http.Do(req)
			if err != nil {
				answer <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			answer <- string(b)
		}()
		h.eventually("operation of the stream", func() bool {
			var ops []api.Operation
			h.admin.must("GET", "/operations?application=shop&state=active", nil, &ops, 200)
			for _, o := range ops {
				if o.Kind == serviceStream && o.Progress >= 0 && len(o.Steps) > 0 {
					op = o.ID
				}
			}
			return op != ""
		})
		return op, gone, answer
	}
	op, gone, answer := begin()
	if e := h.admin.refused("POST", "/applications/shop/services/test/scale", map[string]any{"add": map[string]int{"web": 1}}, api.CodeConflict); e.Related != op {
		t.Errorf("in the way is %q, want %q", e.Related, op)
	}
	h.admin.must("POST", "/operations/"+op+"/cancel", nil, nil, 200)
	if o := h.admin.wait(op); o.State != api.OperationCancelled {
		t.Errorf("cancelled: the operation is %s", o.State)
	}
	if got := within(t, answer); !strings.Contains(got, "cancelled") {
		t.Errorf("cancelled: the sender got %s", got)
	}
	close(gone)

	op, gone, answer = begin()
	close(gone)
	within(t, answer)
	if o := h.admin.wait(op); o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "broke off") {
		t.Errorf("sender gone: the operation is %s: %v", o.State, o.Error)
	}

	op, gone, answer = begin()
	h.stopDirector()
	close(gone)
	within(t, answer)
	h.start()
	if o := h.admin.wait(op); o.State != api.OperationFailed || !strings.Contains(o.Error.Error(), "broken off") {
		t.Errorf("director gone: the operation is %s: %v", o.State, o.Error)
	}
}

func within(t *testing.T, answer chan string) string {
	t.Helper()
	select {
	case s := <-answer:
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("no answer in 30 s")
		return ""
	}
}

func TestGiveStream(t *testing.T) {
	h := newStreamHouse(t)
	h.admin.running("shop")
	get := func(header http.Header) (*http.Response, int, error) {
		resp := h.admin.raw("GET", streamsOf+"copy", nil, header)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, len(b), err
	}
	if resp, n, err := get(nil); err != nil || n != 300_000 || !strings.Contains(resp.Header.Get("Content-Disposition"), "copy.txt") {
		t.Fatalf("got %d bytes, %v, %v", n, err, resp.Header)
	}
	set := func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.fail["copy"] = err
	}
	set(errors.New("early"))
	h.admin.refused("GET", streamsOf+"copy", nil, api.CodeConflict)
	set(&api.Error{Code: api.CodeUnavailable, Message: "the table is gone"})
	if _, n, err := get(nil); err == nil {
		t.Errorf("%d bytes of a copy that broke off look whole", n)
	}
	resp, _, err := get(http.Header{httpapi.WantsErrorTrailer: {"yes"}})
	if err != nil || !strings.Contains(resp.Trailer.Get(httpapi.ErrorTrailer), "the table is gone") {
		t.Errorf("got %v, trailer %v", err, resp.Trailer)
	}
}
