package edge

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// leastBytes is the size below which compressing costs more than it saves.
const leastBytes = 1024

// encoder is a compressor of either kind.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// encoders are made once and used again: they hold a lot of memory.
var encoders = map[string]*sync.Pool{
	"gzip": {New: func() any {
		w, err := gzip.NewWriterLevel(io.Discard, 4)
		if err != nil {
			panic("edge: " + err.Error()) // a level that gzip does not have: a bug here
		}
		return w
	}},
	"zstd": {New: func() any {
		// Browsers take windows up to 8 MiB; a small one bounds our memory.
		w, err := zstd.NewWriter(io.Discard, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(256<<10), zstd.WithLowerEncoderMem(true))
		if err != nil {
			panic("edge: " + err.Error()) // options that zstd does not have: a bug here
		}
		return w
	}},
}

// compress compresses an answer that gains by it and comes uncompressed, if
// its client takes that.
func compress(resp *http.Response) {
	h := resp.Header
	if !worth(resp) {
		return
	}
	vary := strings.ToLower(strings.Join(h.Values("Vary"), ","))
	if vary != "*" && !strings.Contains(vary, "accept-encoding") {
		h.Add("Vary", "Accept-Encoding") // also for those who get it as it is
	}
	how := accepted(resp.Request.Header.Values("Accept-Encoding"))
	if how == "" || resp.Request.Method == http.MethodHead {
		return
	}
	h.Set("Content-Encoding", how)
	h.Del("Content-Length")
	h.Del("Accept-Ranges") // ranges are of what the proxy has, not of this
	h.Del("Content-Md5")
	h.Del("Digest")
	if tag := h.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		h.Set("Etag", "W/"+tag) // the same page in other bytes
	}
	// Of what is a file, nobody waits for the first half; of a page that is
	// made as it is sent, somebody may.
	resp.Body = newCompressed(resp.Body, how, resp.ContentLength < 0)
	resp.ContentLength = -1
}

// worth reports whether an answer could be compressed for some client.
func worth(resp *http.Response) bool {
	h := resp.Header
	switch {
	case resp.StatusCode < 200 || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified || resp.StatusCode == http.StatusPartialContent:
		return false
	case h.Get("Content-Encoding") != "" || h.Get("Content-Range") != "":
		return false
	case resp.ContentLength >= 0 && resp.ContentLength < leastBytes:
		return false
	case strings.Contains(strings.ToLower(h.Get("Cache-Control")), "no-transform"):
		return false
	}
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || t == "text/event-stream" {
		return false
	}
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+xml") || strings.HasSuffix(t, "+json") ||
		slices.Contains([]string{"application/javascript", "application/json", "application/xml", "application/wasm", "application/x-ndjson",
			"application/manifest+json", "application/x-javascript", "font/ttf", "font/otf", "image/bmp", "image/x-icon"}, t)
}

// accepted is the best of our encodings that a client takes, zstd where it
// likes both.
func accepted(values []string) string {
	quality := map[string]float64{}
	for item := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(item, ";")
		q := 1.0
		if _, text, ok := strings.Cut(strings.ReplaceAll(params, " ", ""), "q="); ok {
			if parsed, err := strconv.ParseFloat(text, 64); err == nil {
				q = parsed
			} else {
				q = 0
			}
		}
		quality[strings.ToLower(strings.TrimSpace(name))] = q
	}
	best, most := "", 0.0
	for _, name := range []string{"zstd", "gzip"} {
		q, named := quality[name]
		if !named && name == "gzip" {
			q = quality["*"]
		}
		if q > most {
			best, most = name, q
		}
	}
	return best
}

// compressed is a body that is compressed while it is read.
type compressed struct {
	from   io.ReadCloser
	live   bool // each piece must arrive when it comes
	enc    encoder
	pool   *sync.Pool
	piece  []byte
	ready  bytes.Buffer
	failed error
}

func newCompressed(from io.ReadCloser, how string, live bool) *compressed {
	c := &compressed{from: from, live: live, pool: encoders[how], piece: make([]byte, 16<<10)}
	c.enc = c.pool.Get().(encoder)
	c.enc.Reset(&c.ready)
	return c
}

// Read reads, compresses, and hands out.
func (c *compressed) Read(b []byte) (int, error) {
	for c.ready.Len() == 0 {
		if c.failed != nil {
			return 0, c.failed
		}
		n, err := c.from.Read(c.piece)
		if n > 0 {
			if _, e := c.enc.Write(c.piece[:n]); e != nil {
				return 0, e
			}
		}
		switch {
		case err == io.EOF:
			c.failed = err
			if e := c.enc.Close(); e != nil {
				return 0, e
			}
		case err != nil:
			c.failed = err
		case n > 0 && c.live:
			if e := c.enc.Flush(); e != nil {
				return 0, e
			}
		}
	}
	return c.ready.Read(b)
}

// Close gives the compressor back.
func (c *compressed) Close() error {
	if c.enc != nil {
		c.enc.Reset(nil)
		c.pool.Put(c.enc)
		c.enc = nil
	}
	return c.from.Close()
}
