package php

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/services/web"
)

// Measure implements web.Measurer: the pages that were made, and what PHP-FPM
// tells of its processes.
func (p *pager) Measure(ctx context.Context) ([]api.Sample, error) {
	list, err := p.made.Samples()
	name, _ := p.fpm.now()
	if name == "" {
		return list, err
	}
	s, err := p.fpm.status(ctx, name)
	if err != nil {
		return list, err
	}
	state := func(of string) map[string]string { return map[string]string{"state": of} }
	return append(list,
		api.Sample{Name: "nutshell_php_processes", Labels: state("active"), Value: float64(s.Active)},
		api.Sample{Name: "nutshell_php_processes", Labels: state("idle"), Value: float64(s.Idle)},
		api.Sample{Name: "nutshell_php_queue", Value: float64(s.Queue)},
		api.Sample{Name: "nutshell_php_slow_total", Value: float64(s.Slow)},
		api.Sample{Name: "nutshell_php_full_total", Value: float64(s.MaxReached)}), nil
}

// pageRequest reads a line of PHP-FPM's access log by its end, which is ours:
// status, milliseconds, memory, CPU. The path before it is the visitor's, as
// it came.
func pageRequest(line []byte) (web.Request, bool) {
	words := bytes.Fields(line[bytes.LastIndexByte(line, '"')+1:])
	if len(words) < 2 {
		return web.Request{}, false
	}
	status, err1 := strconv.Atoi(string(words[0]))
	took, err2 := strconv.ParseFloat(string(bytes.TrimSuffix(words[1], []byte("ms"))), 64)
	return web.Request{Status: status, Took: time.Duration(took * float64(time.Millisecond))}, err1 == nil && err2 == nil
}
