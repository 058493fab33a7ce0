package api

import (
	"strconv"
	"strings"
	"time"
)

// LogLevel is how grave a line of a log is. Empty: the line does not say.
type LogLevel string

// The levels, the least grave first.
const (
	LogDebug LogLevel = "debug"
	LogInfo  LogLevel = "info"
	LogWarn  LogLevel = "warn"
	LogError LogLevel = "error"
)

// Rank orders levels. A line that says nothing counts as information.
func (l LogLevel) Rank() int {
	switch l {
	case LogDebug:
		return 0
	case LogWarn:
		return 2
	case LogError:
		return 3
	case LogInfo:
	}
	return 1
}

// LogManager stands for an application's manager where an instance is named.
const LogManager = "manager"

// LogSource is one log of an application: of its manager, of an agent or of a
// daemon.
type LogSource struct {
	Service     string     `json:"service,omitempty"` // name; empty: the manager's, about the whole application
	Instance    string     `json:"instance"`          // or manager
	Parts       []string   `json:"parts,omitempty"`   // of the instance
	Log         string     `json:"log"`
	Description string     `json:"description"`
	Bytes       int64      `json:"bytes"`           // with the older file that is kept
	First       *time.Time `json:"first,omitempty"` // of its first line that tells its time
	Last        *time.Time `json:"last,omitempty"`  // when it was written to last
}

// LogSources are the logs of an application that can be read now.
type LogSources struct {
	Sources []LogSource `json:"sources"`
	Silent  []LogSilent `json:"silent"`
}

// LogLine is one line of a log. Its text is safe to show: without control
// characters and colours, cut where it is very long.
type LogLine struct {
	ID       string     `json:"id"`           // its place, which outlives rotation; also a cursor
	At       *time.Time `json:"at,omitempty"` // absent where the log does not tell
	Level    LogLevel   `json:"level,omitempty"`
	Service  string     `json:"service,omitempty"`
	Instance string     `json:"instance"` // or manager
	Log      string     `json:"log"`
	Text     string     `json:"text"`
	Cut      int64      `json:"cut,omitempty"`     // bytes that were left out at its end
	Matches  [][2]int   `json:"matches,omitempty"` // from and to, in UTF-16 units of text, of what was searched for
}

// LogSilent is who did not answer when logs were asked for: its lines are
// missing.
type LogSilent struct {
	Service  string `json:"service,omitempty"`
	Instance string `json:"instance"`      // or manager
	Log      string `json:"log,omitempty"` // empty: none of its logs
	Message  string `json:"message"`
}

// LogPage is a stretch of the lines that match, merged by time, oldest first.
type LogPage struct {
	Lines   []LogLine   `json:"lines"`
	Before  string      `json:"before,omitempty"` // cursor of what is older; empty: nothing is
	After   string      `json:"after"`            // cursor of what is newer, or yet to come
	More    bool        `json:"more"`             // the direction asked for goes on
	Scanned int64       `json:"scanned"`          // bytes that were looked at
	Silent  []LogSilent `json:"silent"`
}

// LogCount is how many lines of a stretch of time match, by level.
type LogCount struct {
	At    time.Time `json:"at"` // beginning of the stretch
	Debug int64     `json:"debug,omitempty"`
	Info  int64     `json:"info,omitempty"`
	Warn  int64     `json:"warn,omitempty"`
	Error int64     `json:"error,omitempty"`
	Other int64     `json:"other,omitempty"` // lines that do not say
}

// Add counts n lines of a level.
func (c *LogCount) Add(l LogLevel, n int64) {
	switch l {
	case LogDebug:
		c.Debug += n
	case LogInfo:
		c.Info += n
	case LogWarn:
		c.Warn += n
	case LogError:
		c.Error += n
	default:
		c.Other += n
	}
}

// LogCounts is how many lines match, over time.
type LogCounts struct {
	Since   time.Time   `json:"since"`
	Until   time.Time   `json:"until"`
	Buckets []LogCount  `json:"buckets"` // of equal length, from since to until
	Total   int64       `json:"total"`
	Whole   bool        `json:"whole"` // all was looked at; else there may be more
	Scanned int64       `json:"scanned"`
	Silent  []LogSilent `json:"silent"`
}

// LogNews is one piece of a stream of lines that are being written: a page of
// the newest comes first. Where nothing is set, it only tells that the stream
// lives.
type LogNews struct {
	Page   *LogPage   `json:"page,omitempty"`
	Line   *LogLine   `json:"line,omitempty"`
	Silent *LogSilent `json:"silent,omitempty"`
}

// LogPlace is where a line stands: the meaning of a line's id.
type LogPlace struct {
	Time     int64  // nanoseconds since 1970 by which it is merged with others
	File     string // which file, by its first line; empty: any place of that time
	Offset   int64  // in the file, in bytes
	Mark     string // of the line's first letters; empty: not known
	Instance string // or manager
	Log      string
}

// Encode makes the id of a place.
func (p LogPlace) Encode() string {
	return strings.Join([]string{strconv.FormatInt(p.Time, 36), p.File, strconv.FormatInt(p.Offset, 36), p.Mark, p.Instance, p.Log}, "~")
}

// ParseLogPlace reads a cursor: a line's id, or a time.
func ParseLogPlace(s string) (LogPlace, error) {
	if at, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return LogPlace{Time: at.UnixNano()}, nil
	}
	f := strings.SplitN(s, "~", 6)
	if len(f) == 6 {
		at, err1 := strconv.ParseInt(f[0], 36, 64)
		offset, err2 := strconv.ParseInt(f[2], 36, 64)
		if err1 == nil && err2 == nil && offset >= 0 {
			return LogPlace{Time: at, File: f[1], Offset: offset, Mark: f[3], Instance: f[4], Log: f[5]}, nil
		}
	}
	return LogPlace{}, &Error{Code: CodeInvalid, Object: "place " + Shorten(s), Message: "it is neither the id of a line nor a time", Hint: "take an id as the lines show it, or a time such as 2026-05-01T12:00:00Z"}
}

// Source names the log of a place; equal times are ordered by it.
func (p LogPlace) Source() string { return p.Instance + "~" + p.Log }
