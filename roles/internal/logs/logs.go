// Package logs reads log files where they are written: stretches of lines
// around a place or a time, searched, filtered by level, counted and followed,
// and merged by time with those of others. It recognises the times and levels
// of the daemons that Nutshell runs, keeps places of lines over rotation, and
// bounds what one question may cost. It writes nothing.
package logs

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"nutshell/roles/api"
)

const (
	// DefaultLines and MostLines bound a page.
	DefaultLines = 200
	MostLines    = 5000
	// MostBuckets bounds a count.
	MostBuckets = 500
	// AnswerTime and AnswerBytes bound what one instance does for one page or
	// count. What it did not get to is asked for with the page's cursor.
	AnswerTime  = 6 * time.Second
	AnswerBytes = 1 << 30

	mostPattern = 1000
)

// Log is a file that can be read. The older file, that rotation leaves, is
// beside it with ".1" behind its name.
type Log struct {
	Service, Instance string // as they are shown
	Name, Description string
	Path              string
}

// Query chooses lines. Empty fields choose all.
type Query struct {
	Instance, Log string // exact
	Service       string
	Search        string       // text; its capitals do not matter
	Regex         string       // of Go, where they do
	Level         api.LogLevel // at least
	Since, Until  time.Time
	Before, After string // cursors; neither: the newest
	At            string // id of a line: those up to it
	Limit         int
	Buckets       int  // of a count
	Whole         bool // lines are hardly ever cut
}

// Values is the query as it travels.
func (q Query) Values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"service": q.Service, "instance": q.Instance, "log": q.Log, "search": q.Search, "regex": q.Regex, "level": string(q.Level),
		"since": stampText(q.Since), "until": stampText(q.Until), "before": q.Before, "after": q.After, "at": q.At} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Buckets > 0 {
		v.Set("buckets", strconv.Itoa(q.Buckets))
	}
	if q.Whole {
		v.Set("whole", "true")
	}
	return v
}

func stampText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Parse reads a query of Values.
func Parse(v url.Values) (Query, error) {
	q := Query{Service: v.Get("service"), Instance: v.Get("instance"), Log: v.Get("log"), Search: v.Get("search"), Regex: v.Get("regex"), Level: api.LogLevel(v.Get("level")),
		Before: v.Get("before"), After: v.Get("after"), At: v.Get("at"), Whole: v.Get("whole") == "true"}
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := v.Get(name); text != "" {
			t, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return q, wrong(name, "it is no time such as 2026-05-01T12:00:00Z")
			}
			*to = t
		}
	}
	for name, to := range map[string]*int{"limit": &q.Limit, "buckets": &q.Buckets} {
		if text := v.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return q, wrong(name, "it is no number")
			}
			*to = n
		}
	}
	return q, q.Check()
}

func wrong(field, message string) error {
	return &api.Error{Code: api.CodeInvalid, Object: field, Message: message, Fields: []string{field}}
}

// Check says what is wrong with a query.
func (q Query) Check() error {
	switch q.Level {
	case "", api.LogDebug, api.LogInfo, api.LogWarn, api.LogError:
	default:
		return wrong("level", "there is no level "+api.Shorten(string(q.Level))+": it is one of debug, info, warn and error")
	}
	given := 0
	for _, cursor := range []string{q.Before, q.After, q.At} {
		if cursor == "" {
			continue
		}
		given++
		if _, err := api.ParseLogPlace(cursor); err != nil {
			return err
		}
	}
	switch {
	case given > 1:
		return wrong("before", "before, after and at exclude each other")
	case q.Search != "" && q.Regex != "":
		return wrong("regex", "search and regex exclude each other")
	case len(q.Search) > mostPattern || len(q.Regex) > mostPattern:
		return wrong("search", "it is longer than "+strconv.Itoa(mostPattern)+" bytes")
	case q.Limit < 0 || q.Limit > MostLines:
		return wrong("limit", "it is from 1 to "+strconv.Itoa(MostLines))
	case q.Buckets < 0 || q.Buckets > MostBuckets:
		return wrong("buckets", "it is from 1 to "+strconv.Itoa(MostBuckets))
	case !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since):
		return wrong("until", "it is before since")
	}
	_, err := q.matcher()
	return err
}

func (q Query) limit() int {
	if q.Limit == 0 {
		return DefaultLines
	}
	return q.Limit
}

// forward reports whether the page goes from older to newer.
func (q Query) forward() bool { return q.After != "" }

// Wants reports whether lines of a log are asked for. Which service is meant
// is settled by whoever asks.
func (q Query) Wants(instance, log string) bool {
	return (q.Instance == "" || q.Instance == instance) && (q.Log == "" || q.Log == log)
}

// budget is what a question may still cost.
type budget struct {
	ctx     context.Context
	until   time.Time
	bytes   int64
	scanned int64
}

func (b *budget) spend(n int) { b.scanned += int64(n) }

// spent reports whether it is time to answer. Something is always done first,
// so that going on from the cursor gets somewhere.
func (b *budget) spent() bool {
	return b.scanned > 0 && (b.scanned >= b.bytes || b.ctx.Err() != nil || time.Now().After(b.until))
}
