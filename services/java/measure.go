package java

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/services/web"
)

// Measure implements web.Measurer: the requests that Tomcat answered, and what
// it tells of itself.
func (p *pager) Measure(ctx context.Context) ([]api.Sample, error) {
	list, err := p.made.Samples()
	var sum seen
	for _, s := range p.tomcats.all() {
		now, err := p.tomcats.look(ctx, s.Name)
		if err != nil {
			continue // Observe says so
		}
		sum.Working += now.Working
		sum.Threads += now.Threads
		sum.Heap += now.Heap
		sum.HeapMax += now.HeapMax
		sum.Sessions += now.Sessions
	}
	state := func(of string) map[string]string { return map[string]string{"state": of} }
	list = append(list,
		api.Sample{Name: "nutshell_java_threads", Labels: state("busy"), Value: float64(sum.Working)},
		api.Sample{Name: "nutshell_java_threads", Labels: state("all"), Value: float64(sum.Threads)},
		api.Sample{Name: "nutshell_java_heap_bytes", Labels: state("used"), Value: float64(sum.Heap)},
		api.Sample{Name: "nutshell_java_heap_bytes", Labels: state("limit"), Value: float64(sum.HeapMax)},
		api.Sample{Name: "nutshell_sessions", Value: float64(sum.Sessions)}) // in memory here
	return list, err
}

// pageRequest reads a line of Tomcat's access log by its end, which is ours:
// status, bytes or -, milliseconds. The request before it is the visitor's.
func pageRequest(line []byte) (web.Request, bool) {
	words := bytes.Fields(line[bytes.LastIndexByte(line, '"')+1:])
	if len(words) < 3 {
		return web.Request{}, false
	}
	status, err1 := strconv.Atoi(string(words[0]))
	sent, err := strconv.ParseInt(string(words[1]), 10, 64)
	if err != nil {
		sent = 0
	}
	took, err2 := strconv.ParseInt(string(words[2]), 10, 64)
	return web.Request{Status: status, Bytes: sent, Took: time.Duration(took) * time.Millisecond}, err1 == nil && err2 == nil
}
