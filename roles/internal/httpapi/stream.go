package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
)

// stream copies to the client what comes, as it comes: a log that is followed
// must not wait in a buffer.
func (s *Server) stream(out *Stream) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer out.Read.Close()
		w := humaecho.Unwrap(hc).Response()
		w.Header().Set("Content-Type", out.Type)
		if out.Size > 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(out.Size, 10))
		}
		if out.Whole {
			w.Header().Set("Trailer", ErrorTrailer)
		}
		if out.Filename != "" {
			w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": out.Filename}))
		}
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		_ = control.Flush() // the client must see the headers before the first line of a quiet log
		if out.Size > 0 {
			_, _ = io.Copy(w, out.Read) // the client has gone if this fails
			return
		}
		buf := make([]byte, 32<<10)
		for {
			n, err := out.Read.Read(buf)
			if n > 0 {
				if out.Whole {
					_ = control.SetWriteDeadline(time.Now().Add(writeIdle))
				}
				if _, err := w.Write(buf[:n]); err != nil {
					return
				}
				_ = control.Flush()
			}
			if err != nil {
				if out.Whole && !errors.Is(err, io.EOF) {
					s.breakOff(hc.Context(), w, hc.Header(WantsErrorTrailer) != "", err)
				}
				return
			}
		}
	}}
}

// writeIdle is how long a client may take nothing of an answer that is there,
// or of a stream that somebody must hold open for it.
const writeIdle = 2 * time.Minute

// breakOff ends an answer so that nobody takes it for the whole.
func (s *Server) breakOff(ctx context.Context, w http.ResponseWriter, reads bool, err error) {
	p := toProblem(ctx, err)
	s.c.Log.Warn("answer broken off", "request", p.Request, "error", err)
	if !reads {
		panic(http.ErrAbortHandler)
	}
	text, _ := json.Marshal(p) // always encodes
	w.Header().Set(ErrorTrailer, string(text))
}

// events sends server-sent events until the client goes or the route's time
// is up; the client then comes back with the id of the last one it saw.
func (s *Server) events(out *Events) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		ctx := hc.Context()
		w := humaecho.Unwrap(hc).Response()
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no")
		w.WriteHeader(http.StatusOK)
		control := http.NewResponseController(w)
		b := bufio.NewWriter(w)
		after := out.After
		_, _ = b.WriteString("retry: 1000\nid: " + strconv.FormatInt(after, 10) + "\nevent: hello\ndata: {\"id\":" + strconv.FormatInt(after, 10) + "}\n\n")
		alive := time.NewTicker(s.c.KeepAlive)
		defer alive.Stop()
		for {
			changed := out.Changed() // before reading, so that nothing falls between
			list, err := out.Next(ctx, after)
			if err != nil {
				return
			}
			for _, e := range list {
				data, err := json.Marshal(e)
				if err != nil {
					return
				}
				_, _ = b.WriteString("id: " + strconv.FormatInt(e.ID, 10) + "\nevent: " + e.Type + "\ndata: ")
				_, _ = b.Write(data)
				_, _ = b.WriteString("\n\n")
				after = e.ID
			}
			if b.Flush() != nil || control.Flush() != nil {
				return
			}
			if len(list) > 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-out.Stop:
				return
			case <-changed:
			case <-alive.C:
				_, _ = b.WriteString(": alive\n\n")
			}
		}
	}}
}
