package edge

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// decoded reads a body as its encoding says.
func decoded(t *testing.T, resp *http.Response) io.Reader {
	t.Helper()
	switch resp.Header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return z
	case "zstd":
		z, err := zstd.NewReader(resp.Body, zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(z.Close)
		return z
	}
	return resp.Body
}

func TestCompression(t *testing.T) {
	f := newFront(t, nil)
	text := strings.Repeat("all work and no play ", 5000)
	at, _ := proxyAt(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		for name := range q {
			if name != "status" && name != "short" {
				w.Header().Set(name, q.Get(name))
			}
		}
		body := text
		if q.Get("short") != "" {
			body = "short"
		}
		if q.Get("status") == "206" {
			w.WriteHeader(206)
		}
		if q.Get("Content-Encoding") == "gzip" {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = io.WriteString(z, body)
			_ = z.Close()
			body = b.String()
		}
		_, _ = io.WriteString(w, body)
	}))
	f.shows("shop.apps.test", at)
	for _, c := range []struct {
		query, accept, encoding, vary, etag string
	}{
		{"Content-Type=text/html&Etag=%22abc%22", "gzip, deflate, br, zstd", "zstd", "Accept-Encoding", `W/"abc"`},
		{"Content-Type=text/html&Etag=W/%22abc%22", "gzip, deflate, br", "gzip", "Accept-Encoding", `W/"abc"`},
		{"Content-Type=application/json;charset=utf-8", "gzip;q=0.9, zstd;q=0.5", "gzip", "Accept-Encoding", ""},
		{"Content-Type=text/css&Vary=Cookie", "zstd;q=0, gzip;q=0", "", "Cookie, Accept-Encoding", ""},
		{"Content-Type=text/css&Vary=Accept-Encoding", "*", "gzip", "Accept-Encoding", ""},
		{"Content-Type=text/css&Etag=%22abc%22", "", "", "Accept-Encoding", `"abc"`},
		{"Content-Type=image/png", "gzip", "", "", ""},
		{"Content-Type=text/html&short=1&Content-Length=5", "gzip", "", "", ""},
		{"Content-Type=text/html&Content-Encoding=gzip", "gzip, zstd", "gzip", "", ""},
		{"Content-Type=text/html&Cache-Control=no-transform", "gzip", "", "", ""},
		{"Content-Type=text/html&status=206&Content-Range=bytes+0-9/10", "gzip", "", "", ""},
	} {
		for _, h2 := range []bool{false, true} {
			var header []string
			if c.accept != "" {
				header = []string{"Accept-Encoding", c.accept}
			}
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://shop.apps.test/?"+c.query, nil)
			for i := 0; i+1 < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			resp, err := f.client(h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got := resp.Header
			if got.Get("Content-Encoding") != c.encoding || strings.Join(got.Values("Vary"), ", ") != c.vary || got.Get("Etag") != c.etag {
				t.Errorf("%s for %q: encoding %q, vary %q, etag %q", c.query, c.accept, got.Get("Content-Encoding"), got.Values("Vary"), got.Get("Etag"))
			}
			want := text
			if strings.Contains(c.query, "short") {
				want = "short"
			}
			if b, err := io.ReadAll(decoded(t, resp)); err != nil || string(b) != want {
				t.Errorf("%s for %q: %d bytes, %v", c.query, c.accept, len(b), err)
			}
			_ = resp.Body.Close()
		}
	}
	if a := do(t, f.client(true), "HEAD", "https://shop.apps.test/?Content-Type=text/html", "", "Accept-Encoding", "gzip"); a.StatusCode != 200 || a.body != "" {
		t.Errorf("HEAD: got %s %q", a.Status, a.body)
	}
}
