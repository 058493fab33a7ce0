package client

import (
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"nutshell/roles/api"
)

func (c *Client) graphVerbs(kind *api.Kind) []*cli.Command {
	object := c.objectName(kind)
	return []*cli.Command{
		examples(c.graphVerb(kind), "nutshell "+object+" graph shop 1", "nutshell "+object+" graph shop 1 latency errors --since 24h", "nutshell "+object+" graph shop 1 cpu --by instance -o json"),
		c.ofKind(kind, "get-performance", "requests, errors, bytes and time to answer of the last minutes", argApp+" "+argServ, onService(performance)),
	}
}

func (c *Client) graphVerb(kind *api.Kind) *cli.Command {
	return c.ofKind(kind, "graph", "what nodes measured over time; named graphs are drawn large", argApp+" "+argServ+" [graph]...", onService(drawGraphs),
		&cli.StringFlag{Name: "since", Aliases: []string{"s"}, Usage: "a time (2026-01-31T12:00:00Z) or how long ago (90m, 24h, 30d)", Value: "1h"},
		&cli.StringFlag{Name: "until", Usage: "a time or how long ago; now if it is not given"},
		&cli.StringFlag{Name: "by", Usage: "instance: a line for each node"})
}

// graphs asks for the graphs of a service with at most so many points.
func (r *call) graphs(s api.Service, points int) ([]api.Graph, error) {
	q := url.Values{"points": {strconv.Itoa(points)}}
	for _, name := range []string{"since", "until", "by"} {
		if v := r.String(name); v != "" {
			q.Set(name, v)
		}
	}
	var all []api.Graph
	err := r.get(servicePath(s)+"/graphs?"+q.Encode(), &all)
	return all, err
}

func drawGraphs(r *call, _ api.Application, s api.Service) error {
	width := r.width()
	points := max(width-46, 16)
	if len(r.rest) > 0 {
		points = 2 * max(width-12, 16) // a letter holds two of them
	}
	all, err := r.graphs(s, points)
	if err != nil {
		return err
	}
	if all, err = chosen(all, r.rest); err != nil {
		return err
	}
	return r.showText(all, func(w io.Writer) {
		if len(all) == 0 {
			fmt.Fprintln(w, "Nothing was measured in this time.")
			return
		}
		from, to := all[0].Since.Local(), all[0].Until.Local()
		layout := "15:04:05"
		if to.Sub(from).Hours() > 20 {
			layout = "2006-01-02 15:04"
		}
		fmt.Fprintf(w, "%s to %s\n", from.Format(layout), to.Format(layout))
		for _, g := range all {
			if len(r.rest) > 0 {
				plot(w, g, points/2)
			} else {
				sparks(w, g, points)
			}
		}
	})
}

// chosen are the graphs of these names, in their order.
func chosen(all []api.Graph, names []string) ([]api.Graph, error) {
	if len(names) == 0 {
		return all, nil
	}
	var some []api.Graph
	for _, name := range names {
		i := slices.IndexFunc(all, func(g api.Graph) bool { return g.ID == strings.ReplaceAll(name, "-", "_") })
		if i < 0 {
			var ids []string
			for _, g := range all {
				ids = append(ids, g.ID)
			}
			return nil, &api.Error{Code: api.CodeNotFound, Message: "there is no graph " + api.Shorten(name) + " of this service in this time" + didYouMean(name, ids), Hint: "there are: " + orDash(strings.Join(ids, ", "))}
		}
		some = append(some, all[i])
	}
	return some, nil
}

// width is that of the terminal, or of paper.
func (r *call) width() int {
	if f, ok := r.o.Stdout.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 10 {
			return min(w, 400)
		}
	}
	return 80
}

// cells spreads the points of a line over columns; nil is a gap.
func cells(g api.Graph, s api.Series, columns int) []*float64 {
	list := make([]*float64, columns)
	since, until := float64(g.Since.UnixMilli())/1000, float64(g.Until.UnixMilli())/1000
	step := max(float64(g.Step), 1)
	n := int((until-since)/step) + 1 // points of a line without gaps
	for _, p := range s.Points {
		i := int((p[0] - since) / step)
		first, last := i, i
		if n < columns { // few points are drawn wide
			first, last = i*columns/n, (i+1)*columns/n-1
		}
		for k := max(first, 0); k <= last && k < columns; k++ {
			if list[k] == nil || *list[k] < p[1] {
				list[k] = &p[1]
			}
		}
	}
	return list
}

// highest is the top of a graph's scale.
func highest(g api.Graph) float64 {
	top := 0.0
	for _, s := range g.Series {
		for _, p := range s.Points {
			top = max(top, p[1])
		}
	}
	return top
}

// sparks draws a line of text for each line of a graph, all on one scale.
func sparks(w io.Writer, g api.Graph, columns int) {
	top := highest(g)
	fmt.Fprintf(w, "\n%s (%s), up to %s\n", g.Title, g.ID, amount(top, g.Unit))
	for _, s := range g.Series {
		var line strings.Builder
		for _, v := range cells(g, s, columns) {
			switch {
			case v == nil:
				line.WriteByte(' ')
			case top == 0:
				line.WriteRune('▁')
			default:
				line.WriteRune([]rune("▁▂▃▄▅▆▇█")[min(int(*v/top*8), 7)])
			}
		}
		name := []rune(printable(s.Name))
		if len(name) > 20 {
			name = append(name[:19], '…')
		}
		end, when := s.Points[len(s.Points)-1], "now"
		if float64(g.Until.Unix())-end[0] > float64(2*g.Step) {
			when = "last"
		}
		fmt.Fprintf(w, "  %-20s %s %s %s\n", string(name), line.String(), when, amount(end[1], g.Unit))
	}
}

const plotRows = 8

// plot draws each line of a graph for itself, in dots of Braille, with a scale.
func plot(w io.Writer, g api.Graph, columns int) {
	top := highest(g)
	for _, s := range g.Series {
		fmt.Fprintf(w, "\n%s %s\n", g.Title, printable(s.Name))
		dots := make([][]rune, plotRows)
		for i := range dots {
			dots[i] = slices.Repeat([]rune{0x2800}, columns)
		}
		for x, v := range cells(g, s, 2*columns) {
			if v == nil {
				continue
			}
			y := 0
			if top > 0 {
				y = min(int(*v/top*(4*plotRows-1)+0.5), 4*plotRows-1)
			}
			for filled := range y + 1 {
				row, dot := plotRows-1-filled/4, 3-filled%4
				dots[row][x/2] |= [2][4]rune{{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}[x%2][dot]
			}
		}
		for i, row := range dots {
			label := ""
			switch i {
			case 0:
				label = amount(top, g.Unit)
			case plotRows / 2:
				label = amount(top/2, g.Unit)
			case plotRows - 1:
				label = "0"
			}
			fmt.Fprintf(w, "%s%s ┤%s\n", strings.Repeat(" ", max(9-utf8.RuneCountInString(label), 0)), label, string(row))
		}
	}
}

// amount writes a value with its unit, for people.
func amount(v float64, unit string) string {
	number := func(v float64) string {
		switch {
		case v >= 100 || v == math.Trunc(v):
			return strconv.FormatFloat(v, 'f', 0, 64)
		case v >= 10:
			return strconv.FormatFloat(v, 'f', 1, 64)
		}
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	if rest, ok := strings.CutPrefix(unit, "B"); ok {
		for _, u := range []string{" ", " Ki", " Mi", " Gi"} {
			if v < 1024 {
				return number(v) + u + "B" + rest
			}
			v /= 1024
		}
		return number(v) + " TiB" + rest
	}
	switch {
	case unit == "s" && v < 1:
		return number(v*1000) + " ms"
	case unit == "%":
		return number(v) + " %"
	case unit == "s":
		return number(v) + " s"
	}
	return number(v) + unit
}

// measured is what ConPaaS called the performance of a service.
type measured struct {
	RequestRate  float64 `json:"request_rate"`  // a second
	ErrorRate    float64 `json:"error_rate"`    // a second, statuses 4xx and 5xx
	Throughput   float64 `json:"throughput"`    // bytes a second
	ResponseTime float64 `json:"response_time"` // milliseconds, 95 of 100 requests were quicker
}

func performance(r *call, _ api.Application, s api.Service) error {
	var all []api.Graph
	if err := r.get(servicePath(s)+"/graphs?since=2m", &all); err != nil {
		return err
	}
	// last adds up the last points of those lines of a graph that count.
	last := func(id string, counts func(name string) bool) (sum float64) {
		for _, g := range all {
			for _, l := range g.Series {
				if g.ID == id && counts(l.Name) && len(l.Points) > 0 {
					sum += l.Points[len(l.Points)-1][1]
				}
			}
		}
		return sum
	}
	every := func(string) bool { return true }
	m := measured{RequestRate: last("status", every), ErrorRate: last("errors", every), Throughput: last("traffic", every),
		ResponseTime: 1000 * last("latency", func(name string) bool { return name == "p95" })}
	return r.showText(m, func(w io.Writer) {
		pairs(w, "request_rate", amount(m.RequestRate, "/s"), "error_rate", amount(m.ErrorRate, "/s"), "throughput", amount(m.Throughput, "B/s"), "response_time", amount(m.ResponseTime/1000, "s")+" (p95)")
	})
}
