package director

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/logs"
	"nutshell/roles/internal/store"
)

const (
	linesTime = 20 * time.Second // a manager bounds what it waits for closer
)

// LogFilter chooses lines of logs.
type LogFilter struct {
	ApplicationPath
	Service  string `query:"service" doc:"only what belongs to this service"`
	Instance string `query:"instance" doc:"only of this instance; manager: what the manager wrote"`
	Log      string `query:"log" doc:"only of logs of this name"`
	Search   string `query:"search" doc:"lines that have this text; capitals do not matter"`
	Regex    string `query:"regex" doc:"lines that match, in Go's syntax"`
	Level    string `query:"level" doc:"lines at least so grave: debug, info, warn or error; those that do not say count as info"`
	Since    string `query:"since" doc:"RFC 3339, or a span back such as 90m, 24h or 30d"`
	Until    string `query:"until" doc:"as since"`
}

// values is the filter as managers know it, but for times.
func (f LogFilter) values(service string) url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"service": service, "instance": f.Instance, "log": f.Log, "search": f.Search, "regex": f.Regex, "level": f.Level} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// logsOf is an application whose logs are asked for. Managers know services by
// number, people by name.
type logsOf struct {
	app   store.Application
	query logs.Query
	names map[string]string
}

// logsAsked finds what is asked for and checks the query.
func (d *Director) logsAsked(ctx context.Context, f LogFilter, more func(url.Values)) (logsOf, error) {
	l := logsOf{names: map[string]string{}}
	var err error
	if l.app, err = d.application(ctx, f.App); err != nil {
		return l, err
	}
	service := ""
	if f.Service != "" {
		s, err := d.store.Service(ctx, l.app.ID, f.Service)
		if err != nil {
			return l, err
		}
		service = strconv.FormatInt(s.ID, 10)
	}
	rows, err := d.store.Services(ctx, store.Selection{Application: l.app.ID})
	if err != nil {
		return l, err
	}
	for _, s := range rows {
		l.names[strconv.FormatInt(s.ID, 10)] = s.Name
	}
	v := f.values(service)
	if more != nil {
		more(v)
	}
	for name, text := range map[string]string{"since": f.Since, "until": f.Until} {
		if text == "" {
			continue
		}
		at, err := moment(name, text, d.c.Now(), time.Time{})
		if err != nil {
			e := api.AsError(err)
			e.Op, e.Object = "read", "logs"
			return l, e
		}
		v.Set(name, at.UTC().Format(time.RFC3339Nano))
	}
	l.query, err = logs.Parse(v)
	return l, err
}

func (l logsOf) name(service *string) { *service = l.names[*service] }

func (l logsOf) silent(list []api.LogSilent) []api.LogSilent {
	for i := range list {
		l.name(&list[i].Service)
	}
	return list
}

func (l logsOf) page(p *api.LogPage) {
	for i := range p.Lines {
		l.name(&p.Lines[i].Service)
	}
	p.Silent = l.silent(p.Silent)
}

func (d *Director) askLogs(ctx context.Context, l logsOf, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, linesTime)
	defer cancel()
	return d.call(ctx, l.app, http.MethodGet, path+"?"+l.query.Values().Encode(), nil, out)
}

func (d *Director) logSources(ctx context.Context, in *struct {
	ApplicationPath
	Service string `query:"service" doc:"only those of this service"`
}) (api.LogSources, error) {
	var out api.LogSources
	l, err := d.logsAsked(ctx, LogFilter{ApplicationPath: in.ApplicationPath, Service: in.Service}, nil)
	if err == nil {
		err = d.askLogs(ctx, l, "/v1/lines/sources", &out)
	}
	for i := range out.Sources {
		l.name(&out.Sources[i].Service)
	}
	out.Silent = l.silent(out.Silent)
	return out, err
}

func (d *Director) logLines(ctx context.Context, in *struct {
	LogFilter
	Before string `query:"before" doc:"lines before this place: a line's id, or a time"`
	After  string `query:"after" doc:"lines behind this place"`
	At     string `query:"at" doc:"lines up to this one, which must still be there"`
	Limit  int    `query:"limit" minimum:"1" maximum:"5000" default:"200"`
}) (api.LogPage, error) {
	var out api.LogPage
	l, err := d.logsAsked(ctx, in.LogFilter, func(v url.Values) {
		v.Set("before", in.Before)
		v.Set("after", in.After)
		v.Set("at", in.At)
		v.Set("limit", strconv.Itoa(in.Limit))
	})
	if err == nil {
		err = d.askLogs(ctx, l, "/v1/lines", &out)
	}
	l.page(&out)
	return out, err
}

func (d *Director) logCounts(ctx context.Context, in *struct {
	LogFilter
	Buckets int `query:"buckets" minimum:"1" maximum:"500" default:"60"`
}) (api.LogCounts, error) {
	var out api.LogCounts
	l, err := d.logsAsked(ctx, in.LogFilter, func(v url.Values) { v.Set("buckets", strconv.Itoa(in.Buckets)) })
	if err != nil {
		return out, err
	}
	if l.query.Until.IsZero() {
		l.query.Until = d.c.Now()
	}
	if l.query.Since.IsZero() {
		if l.query.Since, err = d.firstLine(ctx, l); err != nil {
			return out, err
		}
	}
	err = d.askLogs(ctx, l, "/v1/lines/counts", &out)
	out.Silent = l.silent(out.Silent)
	return out, err
}

// firstLine is the time of the oldest line of what is asked for.
func (d *Director) firstLine(ctx context.Context, l logsOf) (time.Time, error) {
	var all api.LogSources
	if err := d.askLogs(ctx, l, "/v1/lines/sources", &all); err != nil {
		return time.Time{}, err
	}
	first := l.query.Until.Add(-time.Hour)
	found := false
	for _, s := range all.Sources {
		if !l.query.Wants(s.Instance, s.Log) {
			continue
		}
		at := s.First
		if at == nil {
			at = s.Last // its lines tell no time
		}
		if at != nil && (!found || at.Before(first)) && at.Before(l.query.Until) {
			first, found = *at, true
		}
	}
	return first, nil
}

func (d *Director) followLogs(ctx context.Context, in *struct {
	LogFilter
	After string `query:"after" doc:"go on behind this line instead of with the newest"`
	Limit int    `query:"limit" minimum:"1" maximum:"5000" default:"200" doc:"of lines in the first page"`
}) (*httpapi.Stream, error) {
	l, err := d.logsAsked(ctx, in.LogFilter, func(v url.Values) {
		v.Set("after", in.After)
		v.Set("limit", strconv.Itoa(in.Limit))
	})
	if err != nil {
		return nil, err
	}
	c, err := d.manager(l.app)
	if err != nil {
		return nil, err
	}
	resp, err := c.Stream(ctx, http.MethodGet, "/v1/lines/follow?"+l.query.Values().Encode(), nil) //nolint:bodyclose // the goroutine below closes it
	if err != nil {
		return nil, err
	}
	from := closing{resp.Body, c}
	out, into := io.Pipe()
	go func() {
		defer func() { _ = from.Close() }()
		_ = into.CloseWithError(l.passNews(from, into))
	}()
	return &httpapi.Stream{Type: "application/x-ndjson", Read: out}, nil
}

// passNews gives services their names.
func (l logsOf) passNews(from io.Reader, into io.Writer) error {
	d, w := json.NewDecoder(from), bufio.NewWriter(into)
	encode := json.NewEncoder(w)
	encode.SetEscapeHTML(false)
	for {
		var n api.LogNews
		if err := d.Decode(&n); err != nil {
			return io.EOF // whoever follows comes back
		}
		switch {
		case n.Page != nil:
			l.page(n.Page)
		case n.Line != nil:
			l.name(&n.Line.Service)
		case n.Silent != nil:
			l.name(&n.Silent.Service)
		}
		if err := encode.Encode(n); err != nil {
			return err
		}
		if rest, ok := d.Buffered().(interface{ Len() int }); ok && rest.Len() > 1 {
			continue // more is there already
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func (d *Director) downloadLogs(ctx context.Context, in *struct {
	LogFilter
}) (*httpapi.Stream, error) {
	l, err := d.logsAsked(ctx, in.LogFilter, func(v url.Values) {
		v.Set("after", "1970-01-01T00:00:01Z")
		v.Set("limit", "1000")
		v.Set("whole", "true")
	})
	if err != nil {
		return nil, err
	}
	var first api.LogPage
	if err := d.askLogs(ctx, l, "/v1/lines", &first); err != nil { // while the answer can still be an error
		return nil, err
	}
	out, into := io.Pipe()
	go func() { _ = into.CloseWithError(d.writeLines(ctx, l, first, into)) }()
	name := l.app.Name
	if in.Service != "" {
		name += "-" + in.Service
	}
	return &httpapi.Stream{Type: "text/plain; charset=utf-8", Filename: name + ".log", Whole: true, Read: out}, nil
}

// writeLines writes page after page. Where several logs are mixed, each line
// says whose it is.
func (d *Director) writeLines(ctx context.Context, l logsOf, p api.LogPage, into io.Writer) error {
	w := bufio.NewWriterSize(into, 64<<10)
	single := l.query.Instance != "" && l.query.Log != ""
	for {
		l.page(&p)
		for _, line := range p.Lines {
			if !single {
				at := "-"
				if line.At != nil {
					at = line.At.Format("2006-01-02T15:04:05.000Z07:00")
				}
				for _, s := range []string{at, line.Service, line.Instance, line.Log} {
					if s != "" {
						_, _ = w.WriteString(s + " ")
					}
				}
			}
			_, _ = w.WriteString(line.Text + "\n")
		}
		for _, s := range p.Silent {
			_, _ = w.WriteString("# missing: " + s.Instance + " " + s.Log + ": " + s.Message + "\n")
		}
		if !p.More || p.After == l.query.After {
			return w.Flush()
		}
		l.query.After, p = p.After, api.LogPage{}
		if err := d.askLogs(ctx, l, "/v1/lines", &p); err != nil {
			_ = w.Flush()
			return err
		}
	}
}
