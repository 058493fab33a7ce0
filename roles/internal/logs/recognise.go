package logs

import (
	"bytes"
	"time"

	"nutshell/roles/api"
)

// headLength is how much of a line is looked at for its time and level.
const headLength = 400

// head is what the beginning of a line tells.
type head struct {
	at    int64 // nanoseconds since 1970
	timed bool
	level api.LogLevel
}

// recogniser finds times and levels of lines. It is for one goroutine.
type recogniser struct {
	zone *time.Location // of times that tell none
	now  time.Time      // for times that tell no year

	name  string // of the zone that was looked up last
	named *time.Location
}

// head finds the time and the level of a line, whichever daemon wrote it.
func (r *recogniser) head(line []byte) head {
	b := line[:min(len(line), headLength)]
	if len(b) == 0 {
		return head{}
	}
	switch {
	case b[0] == ' ' || b[0] == '\t': // a line that goes on
		return head{}
	case b[0] == '{':
		return r.ofJSON(b)
	case bytes.HasPrefix(b, []byte("time=")): // slog, logrus, logfmt
		at, _, ok := r.stamp(bytes.TrimPrefix(b[5:], []byte{'"'}))
		return head{at: at, timed: ok, level: fieldLevel(b)}
	case bytes.HasPrefix(b, []byte("# Time: ")): // MariaDB's slow log
		at, _, ok := r.stamp(b[8:])
		return head{at: at, timed: ok, level: api.LogWarn}
	case b[0] == '[' || b[0] == '<':
		return r.ofBracket(b, line)
	}
	if at, n, ok := r.stamp(b); ok {
		return head{at: at, timed: true, level: wordLevel(b[n:])}
	}
	if h, ok := r.ofAccess(b, line); ok {
		return h
	}
	return head{level: wordLevel(b)}
}

// ofBracket is a line that begins with [time], [level], [thread] time.
func (r *recogniser) ofBracket(b, line []byte) head {
	inside := b[1:]
	if at, n, ok := r.stamp(inside); ok {
		return head{at: at, timed: true, level: wordLevel(inside[n:])}
	}
	if h, ok := r.ofAccess(b, line); ok { // [::1]:4242, <134>haproxy
		return h
	}
	end := bytes.IndexAny(b, "]>")
	if end < 0 || end > 120 {
		return head{level: wordLevel(b)}
	}
	level := wordLevel(b)
	if end == 4 && b[0] == '[' && b[1] == ' ' && b[3] == ' ' { // XtreemFS: [ E | …
		level = letterLevel(b[2])
	}
	if at, n, ok := r.stamp(bytes.TrimLeft(b[end+1:], " \t")); ok {
		if level == "" {
			level = wordLevel(bytes.TrimLeft(b[end+1:], " \t")[n:])
		}
		return head{at: at, timed: true, level: level}
	}
	if f := bytes.Split(b[1:end], []byte(" | ")); len(f) == 5 && len(f[0]) >= 1 { // [ E | stage | thread | id | Nov 22 15:04:05 ]
		if at, _, ok := r.stamp(bytes.TrimSpace(f[4])); ok {
			return head{at: at, timed: true, level: letterLevel(bytes.TrimSpace(f[0])[0])}
		}
	}
	return head{level: level}
}

func letterLevel(c byte) api.LogLevel {
	switch c {
	case 'E', 'F', 'C':
		return api.LogError
	case 'W':
		return api.LogWarn
	case 'D', 'T':
		return api.LogDebug
	case 'I', 'N':
		return api.LogInfo
	}
	return ""
}

// ofAccess is a line about a request: its time is further behind, its level is
// made of the status. nginx, Tomcat, PHP-FPM and HAProxy write such.
func (r *recogniser) ofAccess(b, line []byte) (head, bool) {
	for at, from := 0, 0; from < len(b)-20; from = at + 1 {
		i := bytes.IndexByte(b[from:], '/')
		if i < 2 {
			if i < 0 {
				break
			}
			at = from + i
			continue
		}
		at = from + i
		t, n, ok := r.stamp(b[at-2:])
		if !ok {
			continue
		}
		return head{at: t, timed: true, level: statusLevel(line[at-2+n:])}, true
	}
	return head{}, false
}

// statusLevel finds the status behind the quoted request, or behind HAProxy's
// times, which have four slashes.
func statusLevel(b []byte) api.LogLevel {
	b = b[:min(len(b), 1<<14)]
	b = bytes.TrimLeft(b, "] ")
	if len(b) > 0 && b[0] == '"' {
		end := bytes.Index(b[1:], []byte(`" `))
		if end < 0 {
			return ""
		}
		return statusOf(b[end+3:])
	}
	fields := bytes.Fields(b[:min(len(b), headLength)])
	for i, f := range fields {
		if i+1 < len(fields) && bytes.Count(f, []byte{'/'}) == 4 {
			return statusOf(fields[i+1])
		}
		if i > 3 {
			break
		}
	}
	return api.LogInfo
}

func statusOf(b []byte) api.LogLevel {
	if len(b) < 3 || b[1] < '0' || b[1] > '9' {
		return ""
	}
	switch b[0] {
	case '5':
		return api.LogError
	case '4':
		return api.LogWarn
	case '1', '2', '3':
		return api.LogInfo
	}
	return ""
}

// ofJSON reads the few fields that matter without decoding all of the line.
func (r *recogniser) ofJSON(b []byte) head {
	var h head
	for _, key := range []string{`"time":"`, `"ts":"`, `"@timestamp":"`, `"timestamp":"`} {
		if i := bytes.Index(b, []byte(key)); i >= 0 {
			if h.at, _, h.timed = r.stamp(b[i+len(key):]); h.timed {
				break
			}
		}
	}
	for _, key := range []string{`"level":"`, `"severity":"`, `"lvl":"`, `"level_name":"`} {
		if i := bytes.Index(b, []byte(key)); i >= 0 {
			h.level, _ = levelOf(word(b[i+len(key):]))
			break
		}
	}
	return h
}

// fieldLevel is level=WARN of a line of fields.
func fieldLevel(b []byte) api.LogLevel {
	i := bytes.Index(b, []byte(" level="))
	if i < 0 {
		return ""
	}
	l, _ := levelOf(word(bytes.TrimPrefix(b[i+7:], []byte{'"'})))
	return l
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// word is the letters at the beginning of b.
func word(b []byte) []byte {
	for i, c := range b {
		if !letter(c) {
			return b[:i]
		}
	}
	return b
}

// levelBehind is how far behind the time a level can stand: loggers have
// names.
const levelBehind = 120

// wordLevel finds the first word that stands for a level: in capitals, in
// brackets, or with a colon behind it. Prose that mentions errors is none.
func wordLevel(b []byte) api.LogLevel {
	b = b[:min(len(b), levelBehind)]
	for i := 0; i < len(b); {
		if !letter(b[i]) {
			i++
			continue
		}
		w := word(b[i:])
		end := i + len(w)
		if len(w) >= 3 && len(w) <= 13 && (i == 0 || !joins(b[i-1])) && (end == len(b) || !joins(b[end])) {
			l, known := levelOf(w)
			opened := i > 0 && (b[i-1] == '[' || b[i-1] == ':' || b[i-1] == '.')
			closed := end < len(b) && b[end] == ']'
			colon := end < len(b) && b[end] == ':'
			capitals := w[0] < 'a' && w[1] < 'a'
			if known && (capitals || opened && closed || colon) {
				return l
			}
		}
		i = end
	}
	switch {
	case bytes.HasPrefix(b, []byte("PHP Fatal")), bytes.HasPrefix(b, []byte("PHP Parse")), bytes.Contains(b, []byte("Fatal error:")),
		bytes.HasPrefix(b, []byte("Traceback (most recent")), bytes.HasPrefix(b, []byte("Exception in thread")), bytes.Contains(b, []byte("Uncaught ")):
		return api.LogError
	}
	return ""
}

// joins reports whether c makes one word of what stands on its sides.
func joins(c byte) bool { return c == '_' || c == '-' || c == '=' || c == '/' || c >= '0' && c <= '9' }

// levelOf knows the words that daemons use.
func levelOf(w []byte) (api.LogLevel, bool) {
	var lower [13]byte
	if len(w) == 0 || len(w) > len(lower) {
		return "", false
	}
	for i, c := range w {
		lower[i] = c | 0x20
	}
	switch string(lower[:len(w)]) {
	case "error", "err", "fatal", "severe", "crit", "critical", "emerg", "emergency", "alert", "panic", "exception":
		return api.LogError, true
	case "warn", "warning", "deprecated":
		return api.LogWarn, true
	case "info", "notice", "note", "config", "system", "information":
		return api.LogInfo, true
	case "debug", "trace", "fine", "finer", "finest", "verbose":
		return api.LogDebug, true
	}
	return "", false
}
