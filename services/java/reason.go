package java

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
)

const reasonLines = 12

func (t *tomcats) logFile() string { return filepath.Join(t.m.Dir("log"), tomcatLog) }

func (t *tomcats) logEnd() int64 { return fileEnd(t.logFile()) }

// logSince is what Tomcat has said since.
func (t *tomcats) logSince(offset int64) string { return fileSince(t.logFile(), offset) }

func fileEnd(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// fileSince reads what a log has got since; it may have been rotated.
func fileSince(path string, offset int64) string {
	const most = 1 << 20
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	if offset > info.Size() {
		offset = 0
	}
	if _, err := f.Seek(max(offset, info.Size()-most), io.SeekStart); err != nil {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return ""
	}
	return string(b)
}

// failed ends a Tomcat that does not come up, and says why in the words of
// the application. One that served before is left for its supervisor.
func (t *tomcats) failed(ctx context.Context, s server, before int64, seen error) error {
	if ctx.Err() != nil { // whoever asked has gone: it goes on starting, and is found by the next to ask
		return fmt.Errorf("start version %s: %w", s.Version, seen)
	}
	text := t.logSince(before)
	serves := false
	t.mu.Lock()
	for _, c := range t.current {
		serves = serves || c.Name == s.Name
	}
	t.mu.Unlock()
	if !serves {
		if err := t.end(context.WithoutCancel(ctx), s.Name); err != nil {
			t.m.Log().Warn("a Tomcat that did not start is not ended", "process", s.Name, "error", err)
		}
	}
	cause, lines := rootCause(text)
	e := &api.Error{Code: api.CodeInvalid, Op: "start", Object: "version " + s.Version, Message: "the application does not start", LogTail: lines, Hint: "see the log " + tomcatLog + "; mend the application and upload it again"}
	switch {
	case strings.Contains(text, "OutOfMemoryError"):
		e.Message, e.Hint = "the application does not start: it needs more memory", "raise the setting heap, or use larger instances"
	case cause != "":
		e.Message = "the application does not start: " + brief(cause)
	case strings.Contains(seen.Error(), "not ready in time"), errors.Is(seen, context.DeadlineExceeded):
		e.Message, e.Hint = "the application has not started in time", "see the log "+tomcatLog+", or raise start_timeout"
	default:
		e.Err = seen
	}
	return e
}

var (
	causeLine = regexp.MustCompile(`^\s*(?:Caused by: )?((?:[A-Za-z_][A-Za-z0-9_$]*\.)+[A-Za-z_][A-Za-z0-9_$]*(?:Exception|Error|Failure|Throwable)(?:: .*)?)$`)
	stamped   = regexp.MustCompile(`^[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4} `)
	severe    = regexp.MustCompile(`^\S+ \S+ SEVERE `)
	frame     = regexp.MustCompile(`^\s+(?:at |\.\.\. \d+ more)`)
)

// brief bounds a message of the application without losing what it says.
func brief(s string) string {
	const most = 200
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s), "?")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// rootCause finds what a stack trace goes back to, and the lines that tell of
// it: those of the trace without most of its frames.
func rootCause(text string) (cause string, lines []string) {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	frames, found := 0, false
	for _, l := range all {
		m := causeLine.FindStringSubmatch(l)
		if m == nil {
			if i := strings.Index(l, "Error: "); strings.HasPrefix(l, "Error: ") && i == 0 { // the virtual machine itself
				m = []string{l, l}
			}
		}
		switch {
		case m != nil:
			if strings.HasPrefix(strings.TrimSpace(l), "Caused by: ") || !found {
				cause = m[1]
			}
			found, frames = true, 0
			lines = append(lines, l)
		case severe.MatchString(l):
			lines, frames = append(lines, l), 0
		case found && frame.MatchString(l):
			if frames++; frames <= 2 {
				lines = append(lines, l)
			}
		case stamped.MatchString(l):
			frames = reasonLines // what follows belongs to something else
		case found && frames < reasonLines && strings.TrimSpace(l) != "": // a message of several lines
			frames++
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 {
		lines = slices.DeleteFunc(all, func(l string) bool { return strings.TrimSpace(l) == "" })
	}
	return cause, lines[max(len(lines)-reasonLines, 0):]
}
