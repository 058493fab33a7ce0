package edge

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// stallTime is how long a client may send or take nothing in the middle of a
// request or answer.
const stallTime = time.Minute

var errStalled = errors.New("the client stopped sending in the middle of its request")

// recorder remembers what was answered, and does not wait for ever for a
// client that takes nothing.
type recorder struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	bytes   int64
	timer   *time.Timer
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader remembers the status.
func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write passes on what the client takes in time.
func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(stallTime, func() { _ = r.control.SetWriteDeadline(time.Now()) })
	} else {
		r.timer.Reset(stallTime)
	}
	n, err := r.ResponseWriter.Write(b)
	r.timer.Stop()
	r.bytes += int64(n)
	return n, err
}

// patientBody gives a client's body up when nothing comes for too long.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
	timer   *time.Timer
}

// Read waits for the client, but not for ever.
func (p *patientBody) Read(b []byte) (int, error) {
	if p.timer == nil {
		p.timer = time.AfterFunc(stallTime, func() { _ = p.control.SetReadDeadline(time.Now()) })
	} else {
		p.timer.Reset(stallTime)
	}
	n, err := p.ReadCloser.Read(b)
	p.timer.Stop()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errStalled
	}
	return n, err
}
