package rpc

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"nutshell/roles/api"
)

const (
	defaultTail = 200
	followEvery = 300 * time.Millisecond
	tailBlock   = 64 << 10
)

// ServeLog answers with the end of a log file: ?tail=N lines (default 200, 0
// for all), and what is added later while ?follow=true. A file that does not
// exist yet is an empty log. Rotation by truncation or by a new file is
// noticed.
func ServeLog(w http.ResponseWriter, r *http.Request, path string) {
	lines := defaultTail
	if t := r.URL.Query().Get("tail"); t != "" {
		n, err := strconv.Atoi(t)
		if err != nil || n < 0 {
			WriteError(w, &api.Error{Code: api.CodeInvalid, Message: "tail is not a number of lines: " + api.Shorten(t), Fields: []string{"tail"}})
			return
		}
		lines = n
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	follow := r.URL.Query().Get("follow") == "true"
	flush := http.NewResponseController(w)
	f, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		WriteError(w, err)
		return
	}
	var at int64
	if err == nil {
		defer func() { _ = f.Close() }()
		at, err = tailOffset(f, lines)
		if err != nil {
			WriteError(w, err)
			return
		}
		n, err := io.Copy(w, io.NewSectionReader(f, at, 1<<62))
		if err != nil {
			return // the reader went away
		}
		at += n
	}
	if !follow {
		return
	}
	_ = flush.Flush()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
		n, err := copyNew(w, path, &at)
		if err != nil {
			return
		}
		if n > 0 {
			_ = flush.Flush()
		}
	}
}

// copyNew copies what stands behind at, from the start again when the file
// became shorter.
func copyNew(w io.Writer, path string, at *int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil //nolint:nilerr // rotated away just now; the next look finds the new one
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() < *at {
		*at = 0
	}
	if st.Size() == *at {
		return 0, nil
	}
	n, err := io.Copy(w, io.NewSectionReader(f, *at, st.Size()-*at))
	*at += n
	return n, err
}

// tailOffset finds where the last n lines begin by reading blocks backwards.
func tailOffset(f *os.File, n int) (int64, error) {
	st, err := f.Stat()
	if err != nil || n == 0 {
		return 0, err
	}
	end := st.Size()
	block := make([]byte, tailBlock)
	found := 0
	for at := end; at > 0; {
		size := min(at, tailBlock)
		at -= size
		if _, err := f.ReadAt(block[:size], at); err != nil {
			return 0, err
		}
		for b := block[:size]; ; {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if at+int64(i) != end-1 { // the last line's own end does not count
				found++
				if found == n {
					return at + int64(i) + 1, nil
				}
			}
			b = b[:i]
		}
	}
	return 0, nil
}
