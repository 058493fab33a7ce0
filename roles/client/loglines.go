package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"nutshell/roles/api"
)

const (
	followAgain = 2 * time.Second
	seenLines   = 5000 // that a stream which was broken off may tell again
)

func (c *Client) linesVerb() *cli.Command {
	v := c.verb("logs", "lines of all logs of an application: searched, filtered, followed", argApp+" [serv_name]", showLines,
		&cli.StringFlag{Name: "search", Usage: "lines that have this `text`; capitals do not matter"},
		&cli.StringFlag{Name: "regex", Usage: "lines that match this `expression`"},
		&cli.StringFlag{Name: "level", Aliases: []string{"l"}, Usage: "lines at least so grave: debug, info, warn, error"},
		&cli.StringFlag{Name: "since", Aliases: []string{"s"}, Usage: "a time (2026-01-31T12:00:00Z) or how long ago (90m, 24h, 30d)"},
		&cli.StringFlag{Name: "until", Usage: "a time or how long ago"},
		&cli.StringFlag{Name: "instance", Aliases: []string{"i"}, Usage: "of this node only; manager: what the manager wrote"},
		&cli.StringFlag{Name: "log", Usage: "of logs of this `name` only"},
		&cli.IntFlag{Name: "tail", Aliases: []string{"n"}, Usage: "the last lines only, so many", Value: 200},
		&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what is written, until Ctrl-C"},
		&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "all lines that match, from the oldest on"},
		&cli.BoolFlag{Name: "sources", Usage: "the logs that there are, instead of their lines"})
	return examples(v, "nutshell logs shop", "nutshell logs shop php --follow --level warn", "nutshell logs shop --regex 'timeout|refused' --since 2h", "nutshell logs shop php --all -o json > shop.json")
}

// linesQuery is the choice of lines that the flags make.
func (r *call) linesQuery() url.Values {
	q := url.Values{}
	for _, name := range []string{"search", "regex", "level", "since", "until", "instance", "log"} {
		if v := r.String(name); v != "" {
			q.Set(name, v)
		}
	}
	return q
}

func showLines(r *call) error {
	a, err := r.application()
	if err != nil {
		return err
	}
	path, q := applicationPath(a)+"/logs", r.linesQuery()
	if r.arg("serv_name") != "" {
		s, err := pickService(a, r.arg("serv_name"), nil)
		if err != nil {
			return err
		}
		q.Set("service", s.Name)
	}
	switch {
	case r.Bool("sources"):
		return r.logSources(path, q.Get("service"))
	case r.Bool("follow") && r.Bool("all"):
		return usagef("--follow and --all cannot stand together")
	case r.Int("tail") < 0:
		return usagef("--tail is a number of lines")
	case r.Bool("follow"):
		return r.followLines(path, q)
	case r.Bool("all"):
		q.Set("after", "1970-01-01T00:00:01Z")
		return r.linesAhead(path, q)
	}
	return r.lastLines(path, q)
}

func (r *call) logSources(path, service string) error {
	if service != "" {
		path += "?service=" + url.QueryEscape(service)
	}
	var all api.LogSources
	if err := r.get(path, &all); err != nil {
		return err
	}
	t := &table{columns: []string{"service", "node", "log", "size", "written", "description"}, none: "No existing logs.", id: 2}
	for _, l := range all.Sources {
		written := ""
		if l.Last != nil {
			written = l.Last.Local().Format(time.DateTime)
		}
		t.add(orDash(l.Service), l.Instance, l.Log, sizeOf(l.Bytes), orDash(written), l.Description)
	}
	r.tellSilent(all.Silent)
	return r.show(all, t)
}

// lastLines collects pages from the end back until there are enough.
func (r *call) lastLines(path string, q url.Values) error {
	var pages []api.LogPage
	for left := max(r.Int("tail"), 1); left > 0; {
		q.Set("limit", strconv.Itoa(min(left, 5000)))
		var p api.LogPage
		if err := r.get(path+"/lines?"+q.Encode(), &p); err != nil {
			return err
		}
		pages = append(pages, p)
		left -= len(p.Lines)
		if !p.More || p.Before == "" || p.Before == q.Get("before") {
			break
		}
		q.Set("before", p.Before)
	}
	for i := len(pages) - 1; i >= 0; i-- {
		for _, l := range pages[i].Lines {
			if err := r.printLine(l); err != nil {
				return err
			}
		}
	}
	r.tellSilent(pages[0].Silent)
	return nil
}

func (r *call) linesAhead(path string, q url.Values) error {
	q.Set("limit", "5000")
	for {
		var p api.LogPage
		if err := r.get(path+"/lines?"+q.Encode(), &p); err != nil {
			return err
		}
		for _, l := range p.Lines {
			if err := r.printLine(l); err != nil {
				return err
			}
		}
		if !p.More || p.After == q.Get("after") {
			r.tellSilent(p.Silent)
			return nil
		}
		q.Set("after", p.After)
	}
}

// followLines goes on behind the last line when the stream breaks off.
func (r *call) followLines(path string, q url.Values) error {
	seen := seenBefore{at: map[string]bool{}}
	q.Set("limit", strconv.Itoa(min(max(r.Int("tail"), 1), 5000)))
	for {
		resp, err := r.open(http.MethodGet, path+"/follow?"+q.Encode(), nil)
		if err != nil && (q.Get("after") == "" || api.CodeOf(err) != api.CodeUnavailable) {
			return err
		}
		if err == nil {
			err = r.printNews(resp.Body, &seen, q)
			_ = resp.Body.Close()
			if err != nil {
				return err
			}
		}
		select {
		case <-r.ctx().Done():
			return nil
		case <-time.After(followAgain):
		}
	}
}

// printNews prints what comes until it ends; only printing can fail.
func (r *call) printNews(from io.Reader, seen *seenBefore, q url.Values) error {
	for d := json.NewDecoder(from); ; {
		var n api.LogNews
		if d.Decode(&n) != nil {
			return nil //nolint:nilerr // the stream broke off; it is asked for again
		}
		var lines []api.LogLine
		switch {
		case n.Page != nil:
			lines = n.Page.Lines
			r.tellSilent(n.Page.Silent)
		case n.Line != nil:
			lines = []api.LogLine{*n.Line}
		case n.Silent != nil:
			r.tellSilent([]api.LogSilent{*n.Silent})
		}
		for _, l := range lines {
			q.Set("after", l.ID)
			if seen.add(l.ID) {
				continue
			}
			if err := r.printLine(l); err != nil {
				return err
			}
		}
	}
}

// seenBefore remembers the last lines, by their place without the time.
type seenBefore struct {
	at    map[string]bool
	order []string
}

func (s *seenBefore) add(id string) (seen bool) {
	_, place, _ := strings.Cut(id, "~")
	if s.at[place] {
		return true
	}
	s.at[place] = true
	s.order = append(s.order, place)
	if len(s.order) > seenLines {
		delete(s.at, s.order[0])
		s.order = s.order[1:]
	}
	return false
}

// printLine prints one line, for programs as one JSON object.
func (r *call) printLine(l api.LogLine) error {
	if r.g.output == "json" {
		e := json.NewEncoder(r.o.Stdout)
		e.SetEscapeHTML(false)
		return e.Encode(l)
	}
	at := strings.Repeat(" ", len(time.DateTime))
	if l.At != nil {
		at = l.At.Local().Format(time.DateTime)
	}
	who := l.Instance
	if who == api.LogManager && l.Service != "" {
		who = l.Service + " " + who
	}
	text := l.Text
	if l.Cut > 0 {
		text += fmt.Sprintf(" … %s more", sizeOf(l.Cut))
	}
	if r.g.quiet {
		_, err := fmt.Fprintln(r.safeOut(), text)
		return err
	}
	_, err := fmt.Fprintf(r.safeOut(), "%s %-5s %s %s | %s\n", at, l.Level, who, l.Log, text)
	return err
}

// tellSilent says on stderr whose lines are missing.
func (r *call) tellSilent(list []api.LogSilent) {
	for _, s := range list {
		fmt.Fprintf(r.o.Stderr, "%s%s: %s; its lines are missing\n", printable(s.Instance), printable(strings.TrimRight(" "+s.Log, " ")), printable(s.Message))
	}
}
