// Package doctor looks over a machine and says what is wrong with it and what
// to do: small checks in one table, each of which only looks. They change
// nothing but a file that is made to see whether it can be; Mend does, where
// there is nothing to choose. It knows no role: what only others can tell, such
// as a cloud, comes in as a function.
package doctor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Level is how bad a finding is.
type Level string

// Levels, from best to worst.
const (
	OK   Level = "ok"
	Skip Level = "skip" // could not be looked at; Found says why
	Warn Level = "warn" // works, but not all, not safely or not for long
	Fail Level = "fail"
)

// levels orders them.
var levels = []Level{OK, Skip, Warn, Fail}

// Worse reports whether l is worse than o.
func (l Level) Worse(o Level) bool { return slices.Index(levels, l) > slices.Index(levels, o) }

// Subject is what a machine is looked over for.
type Subject string

// Subjects.
const (
	Director Subject = "director" // runs or shall run a director, with its clouds
	Client   Subject = "client"   // has the command line only
	Node     Subject = "node"     // lends its containers to a director
	Instance Subject = "instance" // is an instance: a manager or an agent
)

// Subjects lists all, for those who choose.
func Subjects() []Subject { return []Subject{Director, Client, Node, Instance} }

// Finding is what one check saw.
type Finding struct {
	Check string `json:"check" yaml:"check"`
	Level Level  `json:"level" yaml:"level"`
	Found string `json:"found" yaml:"found"`
	Do    string `json:"do,omitempty" yaml:"do,omitempty"`   // the command or the line that mends it; empty where nothing is to be done
	Fix   string `json:"fix,omitempty" yaml:"fix,omitempty"` // the command that Mend does; empty where somebody has to choose, or look first

	mend func(context.Context) error
}

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Found: fmt.Sprintf(format, args...)}
}

func skip(format string, args ...any) Finding {
	return Finding{Level: Skip, Found: fmt.Sprintf(format, args...)}
}

func warn(do, format string, args ...any) Finding {
	return Finding{Level: Warn, Found: fmt.Sprintf(format, args...), Do: do}
}

func fail(do, format string, args ...any) Finding {
	return Finding{Level: Fail, Found: fmt.Sprintf(format, args...), Do: do}
}

// check is a row of the table.
type check struct {
	name string
	of   []Subject
	look func(ctx context.Context, p *Patient) []Finding
}

// single makes a row's function of a check with one finding.
func single(look func(context.Context, *Patient) Finding) func(context.Context, *Patient) []Finding {
	return func(ctx context.Context, p *Patient) []Finding { return []Finding{look(ctx, p)} }
}

// Bound is how long all checks together may take. What has not answered by
// then is told as such: a file system that hangs must not hang the doctor.
const Bound = 2500 * time.Millisecond

// Examine runs all checks for a subject beside each other and returns their
// findings in the order of the table.
func Examine(ctx context.Context, p *Patient, of Subject) []Finding {
	return examine(ctx, p, of, checks(), Bound)
}

func examine(ctx context.Context, p *Patient, of Subject, table []check, bound time.Duration) []Finding {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	results := make([][]Finding, len(table))
	for i, c := range table {
		if !slices.Contains(c.of, of) {
			continue
		}
		results[i] = []Finding{warn("see why it hangs: a network file system, a name server or a cloud that does not answer", "no answer within %s", bound)}
		wg.Add(1)
		go func() {
			defer wg.Done()
			found := c.look(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if ctx.Err() == nil || len(found) > 0 {
				results[i] = found
			}
		}()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(bound + bound/10): // those that watch ctx have ended by then
	}
	mu.Lock()
	defer mu.Unlock()
	var all []Finding
	for i, found := range results {
		for _, f := range found {
			if f.Check == "" {
				f.Check = table[i].name
			}
			all = append(all, f)
		}
	}
	return all
}

// Worst is the level of the worst finding.
func Worst(all []Finding) Level {
	worst := OK
	for _, f := range all {
		if f.Level.Worse(worst) {
			worst = f.Level
		}
	}
	return worst
}
