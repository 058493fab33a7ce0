package web

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"time"

	"nutshell/roles/api"
)

// half is added to times that were cut to whole milliseconds.
const half = time.Millisecond / 2

// NginxRequest reads a line in our nginx' format "timed". Quotes in what
// visitors send are escaped there, so the quotes are where we put them.
func NginxRequest(line []byte) (Request, bool) {
	end := bytes.LastIndexByte(line, '"')
	first := bytes.IndexByte(line, '"')
	if first < 0 || end <= first {
		return Request{}, false
	}
	second := bytes.IndexByte(line[first+1:], '"')
	if second < 0 {
		return Request{}, false
	}
	after := line[first+second+2:]
	var q Request
	status, after := word(after)
	sent, _ := word(after)
	took, _ := word(line[end+1:])
	n, ok := whole(status)
	if !ok {
		return q, false
	}
	q.Status = int(n)
	q.Bytes, _ = whole(sent)
	seconds, fraction, _ := bytes.Cut(took, []byte{'.'})
	s, ok1 := whole(seconds)
	ms, ok2 := whole(fraction)
	q.Took = time.Duration(s)*time.Second + time.Duration(ms)*time.Millisecond + half
	return q, ok1 && ok2 && len(fraction) == 3
}

// word cuts the first word off.
func word(b []byte) (first, rest []byte) {
	b = bytes.TrimLeft(b, " ")
	first, rest, _ = bytes.Cut(b, []byte{' '})
	return first, rest
}

// whole reads digits; strconv would make a string of them first.
func whole(b []byte) (int64, bool) {
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<50 {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, len(b) > 0
}

// accessLogs are those of the two nginx of an instance.
func accessLogs(dir string) map[string]*AccessLog {
	return map[string]*AccessLog{
		Proxy:  NewAccessLog(Proxy, filepath.Join(dir, "nginx-proxy-access.log"), NginxRequest),
		Static: NewAccessLog(Static, filepath.Join(dir, "nginx-web-access.log"), NginxRequest),
	}
}

// Measurer is a Pager that counts what it does.
type Measurer interface {
	Measure(ctx context.Context) ([]api.Sample, error)
}

// Measure implements services.Measurer: what the servers of this instance
// answered, how many connections they have, and what its pages cost.
func (a *Agent) Measure(ctx context.Context) ([]api.Sample, error) {
	parts := a.state().parts
	var list []api.Sample
	var first error
	note := func(more []api.Sample, err error) {
		list = append(list, more...)
		if first == nil {
			first = err
		}
	}
	for _, n := range []struct {
		part  string
		nginx *Nginx
	}{{Proxy, a.proxy}, {Static, a.static}} {
		if !slices.Contains(parts, n.part) {
			continue
		}
		note(a.traffic[n.part].Samples())
		note(Connections(n.part, a.m.Address(), n.nginx.port))
	}
	if m, ok := a.pager.(Measurer); ok && slices.Contains(parts, Backend) {
		note(m.Measure(ctx))
	}
	return list, first
}
