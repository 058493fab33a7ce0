package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nutshell/roles/api"
)

// both runs a test over the two ways that roles may speak HTTP.
func both(t *testing.T, h http.HandlerFunc, f func(t *testing.T, c *Client)) {
	for _, name := range []string{"http1", "http2"} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(h)
			s.EnableHTTP2 = name == "http2"
			s.StartTLS()
			defer s.Close()
			f(t, &Client{Base: s.URL, HTTP: s.Client()})
		})
	}
}

// pattern is n bytes that no other offset has, then an error or the end.
type pattern struct {
	at, n int64
	then  error
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.n {
		if p.then != nil {
			return 0, p.then
		}
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i)) >> 3)
	}
	p.at += int64(len(b))
	return len(b), nil
}

type counting struct{ n int64 }

func (c *counting) Write(b []byte) (int, error) { c.n += int64(len(b)); return len(b), nil }

func TestSendArrivesWhole(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		Take(w, r, func(_ context.Context, body io.Reader) (api.ActResult, error) {
			n, err := io.Copy(io.Discard, body)
			return api.ActResult{Text: fmt.Sprint(n)}, err
		})
	}, func(t *testing.T, c *Client) {
		got, err := c.Send(t.Context(), "/", &pattern{n: 40 << 20})
		if err != nil || got.Text != fmt.Sprint(40<<20) {
			t.Fatalf("got %q, %v", got.Text, err)
		}
	})
}

func TestEarlyErrorReachesTheSender(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		Take(w, r, func(_ context.Context, body io.Reader) (api.ActResult, error) {
			line := make([]byte, 10)
			_, _ = io.ReadFull(body, line)
			return api.ActResult{}, &api.Error{Code: api.CodeInvalid, Object: "line 1", Message: "this is no SQL dump"}
		})
	}, func(t *testing.T, c *Client) {
		sent := &pattern{n: 100 << 20}
		_, err := c.Send(t.Context(), "/", sent)
		if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "line 1") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestBrokenBodyIsNoEnd(t *testing.T) {
	received := make(chan error, 2)
	both(t, func(w http.ResponseWriter, r *http.Request) {
		Take(w, r, func(_ context.Context, body io.Reader) (api.ActResult, error) {
			_, err := io.Copy(io.Discard, body)
			received <- err
			return api.ActResult{}, err
		})
	}, func(t *testing.T, c *Client) {
		broke := errors.New("the sender went away")
		_, err := c.Send(t.Context(), "/", &pattern{n: 1 << 20, then: broke})
		if !errors.Is(err, broke) {
			t.Errorf("the sender got %v, want its own error", err)
		}
		select {
		case err := <-received:
			if err == nil {
				t.Error("the receiver took a part for the whole")
			}
		case <-time.After(time.Minute):
			t.Fatal("the receiver waits for ever")
		}
	})
}

func TestSendSeesABreak(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
		panic(http.ErrAbortHandler)
	}, func(t *testing.T, c *Client) {
		_, err := c.Send(t.Context(), "/", &pattern{n: 50 << 20})
		if api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), "broke off after") {
			t.Fatalf("got %v", err)
		}
	})
}

func TestFetchTellsPositionOrError(t *testing.T) {
	broken := &api.Error{Code: api.CodeUnavailable, Message: "the disk is full — “really”", LogTail: []string{"a\nb"}}
	both(t, func(w http.ResponseWriter, r *http.Request) {
		Give(w, r, func(_ context.Context, w io.Writer) (string, error) {
			switch r.URL.Path {
			case "/early":
				return "", broken
			case "/late":
				_, _ = io.Copy(w, &pattern{n: 1 << 20})
				return "", broken
			case "/empty":
				return "0-1-7", nil
			}
			_, err := io.Copy(w, &pattern{n: 20 << 20})
			return "0-1-42", err
		})
	}, func(t *testing.T, c *Client) {
		var got counting
		if position, err := c.Fetch(t.Context(), "/", &got); err != nil || position != "0-1-42" || got.n != 20<<20 {
			t.Errorf("got %d bytes, position %q, %v", got.n, position, err)
		}
		if position, err := c.Fetch(t.Context(), "/empty", &got); err != nil || position != "0-1-7" {
			t.Errorf("empty: got position %q, %v", position, err)
		}
		for _, path := range []string{"/early", "/late"} {
			if _, err := c.Fetch(t.Context(), path, &got); api.CodeOf(err) != api.CodeUnavailable || !strings.Contains(err.Error(), broken.Message) {
				t.Errorf("%s: got %v", path, err)
			}
		}
		full := errors.New("our own disk is full")
		if _, err := c.Fetch(t.Context(), "/", failing{full}); !errors.Is(err, full) {
			t.Errorf("got %v, want the reader's own error", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestFetchSeesABreak(t *testing.T) {
	both(t, func(w http.ResponseWriter, r *http.Request) {
		Give(w, r, func(_ context.Context, w io.Writer) (string, error) {
			_, _ = io.Copy(w, &pattern{n: 1 << 20})
			panic(http.ErrAbortHandler)
		})
	}, func(t *testing.T, c *Client) {
		if _, err := c.Fetch(t.Context(), "/", &counting{}); api.CodeOf(err) != api.CodeUnavailable {
			t.Fatalf("got %v, want unavailable", err)
		}
	})
}

// A chain of two hops, as director, manager and agent are, holds no more than
// its buffers while the end does not read.
func TestBackpressureThroughTwoHops(t *testing.T) {
	release := make(chan struct{})
	end := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Take(w, r, func(_ context.Context, body io.Reader) (api.ActResult, error) {
			<-release
			n, err := io.Copy(io.Discard, body)
			return api.ActResult{Text: fmt.Sprint(n)}, err
		})
	}))
	end.EnableHTTP2 = true
	end.StartTLS()
	defer end.Close()
	middle := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Take(w, r, func(ctx context.Context, body io.Reader) (api.ActResult, error) {
			return (&Client{Base: end.URL, HTTP: end.Client()}).Send(ctx, "/", body)
		})
	}))
	middle.EnableHTTP2 = true
	middle.StartTLS()
	defer middle.Close()
	sent := &metered{r: &pattern{n: 64 << 20}, quiet: time.NewTimer(time.Hour)}
	go func() {
		<-sent.quiet.C // it stands still
		close(release)
	}()
	got, err := (&Client{Base: middle.URL, HTTP: middle.Client()}).Send(t.Context(), "/", sent)
	if err != nil || got.Text != fmt.Sprint(64<<20) {
		t.Fatalf("got %q, %v", got.Text, err)
	}
	if sent.still > 16<<20 {
		t.Errorf("%d MiB were taken while nobody read", sent.still>>20)
	}
}

// metered notes how much was read before the reader stood still for a second.
type metered struct {
	r     io.Reader
	quiet *time.Timer
	n     int64
	still int64
}

func (m *metered) Read(b []byte) (int, error) {
	if !m.quiet.Stop() && m.still == 0 {
		m.still = m.n
	}
	n, err := m.r.Read(b)
	m.n += int64(n)
	if m.still == 0 {
		m.quiet.Reset(time.Second)
	}
	return n, err
}

func TestWhiteSpaceIsNoAnswer(t *testing.T) {
	c := &Client{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = w.Write([]byte("\n"))
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write([]byte(`{"result":{"text":"loaded"}}`))
	}))
	defer s.Close()
	c.Base, c.HTTP = s.URL, s.Client()
	if got, err := c.Send(t.Context(), "/", bytes.NewReader([]byte("x"))); err != nil || got.Text != "loaded" {
		t.Fatalf("got %q, %v", got.Text, err)
	}
}
