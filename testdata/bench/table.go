package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is one line of the table: our reading, the peer's, and what is to be reached.
type row struct {
	what       string
	ours, peer float64 // peer 0: there is none
	unit       string  // ms, s, MB, %, /s
	note       string  // of the peer
	limit      float64 // of the ratio, or of ours where absolute is set
	atLeast    bool    // limit is the least, not the most
	absolute   bool
	err        error
}

func (r row) ratio() float64 { return r.ours / r.peer }

func (r row) failed() bool {
	v := r.ours
	if !r.absolute {
		v = r.ratio()
	}
	return r.err != nil || r.atLeast && v < r.limit || !r.atLeast && v > r.limit
}

// cells are: what, ours, peer, ratio, goal, verdict.
func (r row) cells() []string {
	if r.err != nil {
		return []string{r.what, "-", "-", "-", "-", "failed: " + strings.ReplaceAll(r.err.Error(), "\n", " ")}
	}
	cells := []string{r.what, number(r.ours) + " " + r.unit, "-", "-", "", "yes"}
	if r.peer != 0 {
		cells[2], cells[3] = number(r.peer)+" "+r.unit, fmt.Sprintf("%.2f", r.ratio())
		if r.note != "" {
			cells[2] += " (" + r.note + ")"
		}
	}
	sign, unit := "≤", " ×"
	if r.atLeast {
		sign = "≥"
	}
	if r.absolute {
		unit = " " + r.unit
	}
	cells[4] = sign + " " + number(r.limit) + unit
	if r.failed() {
		cells[5] = "NO"
	}
	return cells
}

func number(v float64) string {
	switch {
	case v >= 100, v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
	}
}

var head = []string{"what", "nutshell", "peer", "ratio", "goal", "reached"}

func table(rows []row) string {
	lines := [][]string{head}
	for _, r := range rows {
		lines = append(lines, r.cells())
	}
	width := make([]int, len(head))
	for _, l := range lines {
		for i, c := range l {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for _, l := range lines {
		for i, c := range l {
			if i == len(l)-1 {
				b.WriteString(c + "\n")
				continue
			}
			b.WriteString(c + strings.Repeat(" ", width[i]-len([]rune(c))+2))
		}
	}
	return b.String()
}

func markdown(rows []row, machine string) string {
	var b strings.Builder
	b.WriteString("# Latest figures\n\nMade by `make bench ARGS=-write`; how, and what the goals are: [README](README.md). Trust the ratios: both sides ran in turn on one machine.\n\n" + machine + "\n\n")
	b.WriteString("| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + strings.Join(r.cells(), " | ") + " |\n")
	}
	return b.String()
}

// machine says on what this ran, without naming it.
func machine(ctx context.Context) string {
	line := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil {
			return "?"
		}
		return strings.TrimSpace(string(out))
	}
	cpu := "unknown CPU"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	load := "?"
	if b, err := os.ReadFile("/proc/loadavg"); err == nil { // a run on a busy machine says so
		load, _, _ = strings.Cut(string(b), " ")
	}
	return fmt.Sprintf("%s, revision %s, %d cores (%s), Linux %s, %s; load average at the end %s", time.Now().UTC().Format("2 Jan 2006"),
		line("git", "rev-parse", "--short", "HEAD"), runtime.NumCPU(), cpu, line("uname", "-r"), runtime.Version(), load)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}
