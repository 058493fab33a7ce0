package rpc

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

func TestErrorCrossesTheWire(t *testing.T) {
	want := &api.Error{Code: api.CodeConflict, Op: "scale", Object: "service shop/php", Message: "busy", Hint: "wait", Related: "op1"}
	s := httptest.NewServer(Handle(time.Minute, func(context.Context, *http.Request, struct{}) (int, error) { return 0, want }))
	defer s.Close()
	err := (&Client{Base: s.URL, HTTP: s.Client()}).Do(t.Context(), "POST", "/", nil, nil)
	if got := api.AsError(err); got.Code != want.Code || got.Related != "op1" || got.Error() != want.Error() {
		t.Fatalf("got %#v, want %#v", got, want)
	}
}

func TestUnknownFieldsAreRefused(t *testing.T) {
	s := httptest.NewServer(Handle(time.Minute, func(_ context.Context, _ *http.Request, in struct{ A int }) (int, error) { return in.A, nil }))
	defer s.Close()
	c := &Client{Base: s.URL, HTTP: s.Client()}
	if err := c.Do(t.Context(), "POST", "/", map[string]int{"B": 1}, nil); api.CodeOf(err) != api.CodeInvalid {
		t.Fatalf("got %v, want invalid", err)
	}
	var out int
	if err := c.Do(t.Context(), "POST", "/", map[string]int{"A": 7}, &out); err != nil || out != 7 {
		t.Fatalf("got %d, %v", out, err)
	}
}

func TestUnreachablePeerIsUnavailable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	if err := NewClient(s.URL, nil).Do(t.Context(), "GET", "/", nil, nil); api.CodeOf(err) != api.CodeUnavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
}

func TestServeLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	var b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ServeLog(w, r, path) }))
	defer s.Close()
	for query, want := range map[string]int{"": 200, "?tail=1": 1, "?tail=0": 20000, "?tail=19999": 19999, "?tail=50000": 20000} {
		resp, err := http.Get(s.URL + query)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if n := strings.Count(string(got), "\n"); n != want || !strings.HasSuffix(string(got), "line 19999\n") {
			t.Errorf("%q: got %d lines, want %d", query, n, want)
		}
	}
}

func TestServeLogFollowsAcrossTruncation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first line of the log\n")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ServeLog(w, r, path) }))
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := (&Client{Base: s.URL, HTTP: s.Client()}).Stream(ctx, "GET", "/?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	read := func(want string) {
		got := make([]byte, len(want))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	read("first line of the log\n")
	write("new\n")
	read("new\n")
}

func TestAnswersAreBounded(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`["`))
		for text := []byte(strings.Repeat("x", 64<<10)); ; { // without an end
			if _, err := w.Write(text); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	c := NewClient(s.URL, nil)
	c.Most = 1 << 20
	var out []string
	if err := c.Do(t.Context(), "GET", "/", nil, &out); err == nil || !strings.Contains(err.Error(), "more than 1 MiB") {
		t.Errorf("got %v", err)
	}
}
